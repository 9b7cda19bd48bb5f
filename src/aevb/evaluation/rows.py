"""Functions of single rows over many rows: in blocks of one shape, with noise of each row's own.

A float32 matrix product rounds differently at another batch shape, and noise that depends on a
row's position makes its score depend on its neighbours. Blocks of one fixed row count, and keys
made from the row's content, give a row the same number wherever it stands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import PRNGKeyArray as Key
from jaxtyping import PyTree

from aevb.compiling import jit
from aevb.models.kinds.rows import dense, n_cases

_UNDER_WAY = 8  # blocks whose results may be on the device at one time


def map_rows(function: Callable, model: PyTree, X: PyTree, block: int, *extra: PyTree) -> PyTree:
    """Apply ``function(model, x, *extra)`` to every row x of `X`.

    Parameters
    ----------
    function : callable
        Of one row; returns a PyTree of arrays. Compiled once per function, block and row shape.
    model : PyTree
        Passed on.
    X : PyTree of np.ndarray
        Rows along the leading axis. An array may be a sparse one of SciPy (CSR): a block is dense.
    block : int
        Rows per compiled call; the last block is padded with its own first row.
    *extra
        Passed on to every row.

    Returns
    -------
    PyTree of np.ndarray
        The results, stacked along a leading axis of n rows.
    """
    n = n_cases(X)
    # JAX computes some blocks side by side while others are prepared. All calls are made here, in
    # the thread of the caller: whatever it has set (64 bits, a device, a precision) holds for all.
    parts: list[PyTree] = []
    for i, start in enumerate(range(0, n, block)):
        parts.append(_block(function, model, _rows(X, start, block), extra))
        if i >= _UNDER_WAY:
            parts[i - _UNDER_WAY] = jax.device_get(parts[i - _UNDER_WAY])
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *jax.device_get(parts))


def row_key(key: Key, x: PyTree) -> Key:
    """Derive a row's own random key from its content.

    A hash of the values as float32 bits, in integer arithmetic: exact, so that it depends on
    neither the batch nor the machine.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> a = row_key(jax.random.key(0), jnp.array([1.0, 2.0]))
    >>> b = row_key(jax.random.key(0), jnp.array([2.0, 1.0]))
    >>> bool(a == b)
    False
    """
    for leaf in jax.tree.leaves(x):
        bits = lax.bitcast_convert_type(jnp.ravel(leaf).astype(jnp.float32), jnp.uint32)
        position = _mix(jnp.arange(bits.size, dtype=jnp.uint32) + jnp.uint32(0x9E3779B9))
        key = jax.random.fold_in(key, jnp.sum(_mix(bits ^ position), dtype=jnp.uint32))
    return key


@functools.partial(jit, most=32)  # a model's predictions are compiled one by one
def _block(function: Callable, model: PyTree, rows: PyTree, extra: tuple) -> PyTree:
    return jax.vmap(lambda x: function(model, x, *extra))(rows)


def _rows(X: PyTree, start: int, block: int) -> PyTree:
    def cut(array: np.ndarray) -> np.ndarray:
        part = dense(array[start : start + block])
        if len(part) == block:
            return part
        return np.concatenate([part, np.repeat(part[:1], block - len(part), axis=0)])

    return jax.tree.map(cut, X)


def _mix(h: Array) -> Array:
    # The finaliser of MurmurHash3: every bit of the input moves every bit of the output.
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
