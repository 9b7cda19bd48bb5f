"""Rows of cases: how many there are, some of them, and chunks that fit into a processor's cache.

Cases are arrays, or PyTrees of arrays, rows leading. An array may be a sparse one of SciPy, by
rows (CSR): a few of its rows at a time become dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import jax
from jaxtyping import PyTree

CHUNK = 1024  # rows
_VALUES = 2**16  # of a chunk of narrow rows


def n_cases(cases: PyTree) -> int:
    """Return the number of rows of cases: an array, or a PyTree of arrays."""
    return int(jax.tree.leaves(cases)[0].shape[0])


def take(cases: PyTree, rows: Any) -> PyTree:
    """Return some rows of cases; those of a sparse array are sparse.

    Examples
    --------
    >>> import numpy as np
    >>> take({"a": np.arange(3)}, [2, 0])["a"].tolist()
    [2, 0]
    """
    return jax.tree.map(lambda array: array[rows], cases)


def is_sparse(array: Any) -> bool:
    """Whether an array is a sparse one of SciPy."""
    return hasattr(array, "toarray")


def is_stored(array: Any) -> bool:
    """Whether rows lie elsewhere than in memory, as those of `aevb.data.lazy.Lazy`."""
    return hasattr(array, "is_stored")


def pieces(rows: Any) -> Iterator[tuple[int, Any]]:
    """Yield all rows, those that are stored some at a time, with the number of the first."""
    if is_stored(rows):
        yield from rows.pieces()
    else:
        yield 0, rows


def some_of(cases: PyTree, most: int) -> PyTree:
    """Return up to so many rows, evenly spaced.

    Examples
    --------
    >>> import numpy as np
    >>> some_of(np.arange(10), 4).tolist()
    [0, 3, 6, 9]
    """
    return take(cases, slice(None, None, -(-n_cases(cases) // most)))


def dense(cases: PyTree) -> PyTree:
    """Return cases without sparse arrays.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> dense(csr_array([[0, 2]])).tolist()
    [[0, 2]]
    """
    return jax.tree.map(lambda array: array.toarray() if is_sparse(array) else array, cases)


def chunks_of(rows: Any) -> Iterator[Any]:
    """Yield the rows of an array, some at a time: `CHUNK`, or more of a dense array if narrow."""
    size = CHUNK if is_sparse(rows) else max(CHUNK, _VALUES // math.prod(rows.shape[1:]))
    for start in range(0, rows.shape[0], size):
        yield rows[start : start + size]
