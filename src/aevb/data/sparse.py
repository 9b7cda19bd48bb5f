"""Sparse arrays of SciPy, and AnnData: checked at the border, and dense a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree
from scipy import sparse

from aevb.data.cells import holes
from aevb.data.placement import OneDevice, Placement
from aevb.data.source import Chunk, Numbered, bucket

# Of one chunk, dense. Memory of more than 32 MB goes back to the system when it is freed.
_BYTES = 36_000_000


def is_annotated(X: Any) -> bool:
    """Whether X is an AnnData: an array ``X.X`` with tables of its rows and columns."""
    return all(hasattr(X, name) for name in ("X", "obs_names", "var_names"))


def array_of(X: Any) -> Any:
    """Return the array of an AnnData, read into memory if it is in a file.

    Raises
    ------
    ValueError
        When there is none.
    """
    array = X.X
    if array is None:
        raise ValueError(
            "Expected an AnnData with an array in `X.X`; got None there. Fit one of its layers: "
            "X.layers['counts'], for instance."
        )
    if isinstance(array, np.ndarray) or sparse.issparse(array):
        return array
    return array.to_memory() if hasattr(array, "to_memory") else array[:]


def names_of_columns(X: Any) -> Any:
    """Return the names of an AnnData's columns as those of a table without rows, of pandas."""
    return X.var.iloc[:, :0].T


def sparse_rows(X: Any, columns: Sequence[str] | np.ndarray | None = None) -> sparse.csr_array:
    """Return a sparse array of finite numbers in single precision, by rows.

    Parameters
    ----------
    X : sparse array of shape (n, d)
        Of the form CSR.
    columns : sequence of str, optional
        Names of the columns, for messages.

    Raises
    ------
    ValueError
        For infinity, NaN, or numbers beyond float32.
    """
    X = sparse.csr_array(X)  # of the same memory
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    with np.errstate(over="ignore"):
        narrow = X.data.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(narrow))
    if len(bad):
        rows = np.searchsorted(X.indptr, bad, side="right") - 1
        at = [int(j) if columns is None else str(columns[j]) for j in X.indices[bad]]
        finite = np.isfinite(X.data[bad])
        if finite.all():
            raise ValueError(
                "Expected numbers within the range of float32 (3.4e38) for `X`; got "
                f"{X.data[bad[0]]} in row {rows[0]}, column {at[0]!r}. Rescale the data."
            )
        kinds = {"NaN" if np.isnan(v) else "infinity (inf)" for v in X.data[bad[~finite]]}
        raise ValueError(
            holes(" and ".join(sorted(kinds)), len(bad), np.unique(rows), sorted(set(at)))
        )
    return sparse.csr_array((narrow, X.indices, X.indptr), shape=X.shape)


class Sparse(Numbered):
    """Rows of a sparse array, which are dense in chunks of a few megabytes only.

    The batches are those of `InMemory`. An automatic learning rate falls from chunk to chunk, not
    from epoch to epoch; at a fixed one, training gives the same numbers.

    Parameters
    ----------
    x : csr_array of shape (n, d)
        Data.
    c : PyTree of np.ndarray, optional
        Context, row by row.
    batch_size : int
        Rows per step: a chunk ends where a batch does.
    weight : np.ndarray, optional
        Weights of the rows, which are divided by their mean; None: all the same.
    placement : Placement
        Where the rows go.

    Examples
    --------
    >>> rows = Sparse(sparse.csr_array([[0, 1], [2, 0]], dtype="float32"), batch_size=2)
    >>> next(rows.chunks(None)).x.tolist()
    [[0.0, 1.0], [2.0, 0.0]]
    """

    def __init__(
        self,
        x: sparse.csr_array,
        c: PyTree = None,
        *,
        batch_size: int,
        weight: Float[np.ndarray, " n"] | None = None,
        placement: Placement = OneDevice(),  # noqa: B008
    ):
        self.placement = placement
        self._x, self._c = x, c
        n, d = x.shape
        n_batches = max(_BYTES // (batch_size * d * x.dtype.itemsize), 1)
        self._size = min(n_batches * batch_size, bucket(n))
        super().__init__(n, weight)

    @property
    def has_chunks(self) -> bool:
        """Unless there are few rows."""
        return self.n_rows > self._size

    def example(self) -> tuple[jax.ShapeDtypeStruct, PyTree[jax.ShapeDtypeStruct]]:
        """Return the shapes and types of one datapoint and of its context."""

        def row(array: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)

        return jax.tree.map(row, (self._x, self._c))

    def _chunks_of(self, rows: Int[np.ndarray, " n"]) -> Iterator[Chunk]:
        for start in range(0, len(rows), self._size):
            yield self._chunk(rows[start : start + self._size])

    def _chunk(self, rows: Int[np.ndarray, " n"]) -> Chunk:
        x, c, weight = (self._buffers(part, rows) for part in (self._x, self._c, self._scaled))
        return Chunk(x, c, np.arange(len(rows), dtype=np.int32), weight)

    def _buffers(self, arrays: PyTree, rows: Int[np.ndarray, " n"]) -> PyTree:
        """Put some rows of arrays on the devices, dense, with padding behind them."""

        def padded(array: Any) -> np.ndarray:
            buffer = np.empty((self._size, *array.shape[1:]), array.dtype)
            some = array[rows]
            buffer[: len(rows)] = some.toarray() if sparse.issparse(some) else some
            buffer[len(rows) :] = buffer[0]  # of which all that is computed is finite
            return buffer

        return self.placement.put(jax.tree.map(padded, arrays))
