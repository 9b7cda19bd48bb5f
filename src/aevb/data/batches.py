"""Sources of fixed-shape chunks for the compiled loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Chunk(NamedTuple):
    """Rows to run over in one compiled call; arrays only, of fixed shapes.

    Attributes
    ----------
    x, c : PyTree
        Buffers on the device; c may be None.
    rows : Array
        int32, a multiple of the batch size long: the order in which the buffers' rows are
        visited. What stands behind the first `n` of them is padding.
    n : Array
        int32, number of rows visited.
    n_total : Array
        int32, the paper's N: number of rows of the whole data set.
    """

    x: Any
    c: Any
    rows: Any
    n: Any
    n_total: Any


def bucket(n: int) -> int:
    """Round a row count up to one of eight steps per power of two.

    Buffers of that many rows let data sets of nearly the same size (cross-validation folds) share
    one compiled loop, at the price of at most an eighth of unused rows.

    Examples
    --------
    >>> bucket(1437), bucket(1440), bucket(60000)
    (1536, 1536, 61440)
    """
    unit = 1 << max((n - 1).bit_length() - 4, 0)
    return -(-n // unit) * unit


class InMemory:
    """Rows of a PyTree of arrays, put on the device once, in one chunk.

    Parameters
    ----------
    x : PyTree of np.ndarray
        Data; every array has the same number of rows.
    c : PyTree of np.ndarray, optional
        Context, row by row.
    batch_size : int
        Rows per batch; never more than a bucket of the data.
    """

    def __init__(self, x: Any, c: Any = None, *, batch_size: int):
        n_rows = _row_count(x, c)
        self.x, self.c = jax.tree.map(_on_device, (x, c))
        self.rows = np.arange(n_rows, dtype=np.int32)
        self.batch_size = min(int(batch_size), bucket(n_rows))

    def __len__(self) -> int:
        return len(self.rows)

    def example(self) -> tuple[Any, Any]:
        """Return the shapes and types of one datapoint and its context."""

        def row(array: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)

        return jax.tree.map(row, (self.x, self.c))

    def ordered(self) -> Iterator[Chunk]:
        """Yield the rows in their own order."""
        yield self._chunk(self.rows)

    def shuffled(self, seed: list[int], epoch: int) -> Iterator[Chunk]:
        """Yield the rows in the order that a seed and an epoch's number determine."""
        yield self._chunk(np.random.default_rng([*seed, epoch]).permutation(self.rows))

    def _chunk(self, rows: np.ndarray) -> Chunk:
        n = len(rows)
        padded = np.zeros(-(-bucket(n) // self.batch_size) * self.batch_size, np.int32)
        padded[:n] = rows
        return Chunk(self.x, self.c, padded, np.int32(n), np.int32(n))


def _row_count(x: Any, c: Any) -> int:
    shapes, more = ([np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (x, c))
    if () in shapes or len({shape[0] for shape in shapes}) != 1:
        raise ValueError(
            "Expected arrays with one row per datapoint, the same number of rows in all, for "
            f"`data`; got {', '.join(map(str, shapes)) or 'no arrays'}."
        )
    n_rows = shapes[0][0]
    if n_rows == 0:
        raise ValueError("Expected at least one row for `data`; got none.")
    if any(shape[:1] != (n_rows,) for shape in more):
        raise ValueError(
            f"Expected as many rows as in `data`, {n_rows}, for `context`; got arrays of shapes "
            f"{', '.join(map(str, more))}."
        )
    return n_rows


def _on_device(array: Any) -> jax.Array:
    array = np.asarray(array)
    n = len(array)
    if bucket(n) == n:
        return jnp.asarray(array)
    buffer = np.zeros((bucket(n), *array.shape[1:]), array.dtype)
    buffer[:n] = array
    return jnp.asarray(buffer)
