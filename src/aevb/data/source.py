"""Where training takes its rows from, chunk by chunk."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, Self

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PyTree
from numpy.typing import ArrayLike

from aevb.data.placement import OneDevice, Placement


class Chunk(NamedTuple):
    """Rows that are on the devices at one time.

    Attributes
    ----------
    x, c : PyTree
        Buffers of data and context, rows leading; c may be None.
    rows : np.ndarray
        The rows of the buffers, as given to `Placement.put`, in the order in which they are
        visited. Other rows are padding: a row once more, as something is computed of them.
    weight : Array, optional
        Weight of each row of the buffers, on average 1; None: 1.
    """

    x: PyTree
    c: PyTree
    rows: Int[np.ndarray, " n"]
    weight: Array | None = None


class Source(ABC):
    """Rows of data and context. In memory they are one chunk, in files they are many."""

    placement: Placement

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Number of rows, the paper's N."""

    @property
    def has_chunks(self) -> bool:
        """Whether the rows may come in several chunks."""
        return True

    @property
    def weight(self) -> Float[np.ndarray, " n"] | None:
        """Weights of the rows; None: all the same."""
        return None

    @abstractmethod
    def example(self) -> tuple[PyTree[jax.ShapeDtypeStruct], PyTree[jax.ShapeDtypeStruct]]:
        """Return the shapes and types of one datapoint and of its context."""

    @abstractmethod
    def chunks(self, order: tuple[int, ...] | None, start: int = 0) -> Iterator[Chunk]:
        """Yield all rows once.

        Parameters
        ----------
        order : tuple of int or None
            Seed of the order in which the rows come; None: their own. The same seed gives the
            same chunks.
        start : int
            Number of rows to leave out at the beginning: those that have been visited already.
            Whole chunks in that order.
        """


class Numbered(Source):
    """Rows that can be had in any order, by their numbers.

    Parameters
    ----------
    n : int
        Number of rows.
    weight : np.ndarray, optional
        Their weights; None: all the same.
    """

    def __init__(self, n: int, weight: Float[np.ndarray, " n"] | None = None):
        self._rows = np.arange(n, dtype=np.int32)
        self._weight = weight
        self._normalise()

    def _normalise(self) -> None:
        """Make the mean of the weights 1."""
        self._scaled = None
        if self._weight is not None:
            mean = self._weight[self._rows].mean(dtype=np.float64)
            self._scaled = (self._weight / mean).astype(np.float32)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self._rows)

    @property
    def weight(self) -> Float[np.ndarray, " n"] | None:
        """Weights of the rows; None: all the same."""
        return None if self._weight is None else self._weight[self._rows]

    def part(self, rows: Int[np.ndarray, " n"]) -> Self:
        """Return a source of some of the rows, by their positions, in the same buffers.

        Another choice of rows compiles nothing anew.
        """
        some = copy.copy(self)
        some._rows = self._rows[rows]
        some._normalise()
        return some

    def chunks(self, order: tuple[int, ...] | None, start: int = 0) -> Iterator[Chunk]:
        """Yield all rows once; see `Source.chunks`."""
        rows = self._rows
        if order is not None:
            rows = np.random.default_rng(order).permutation(rows)
        if start < self.n_rows:
            yield from self._chunks_of(rows[start:])

    @abstractmethod
    def _chunks_of(self, rows: Int[np.ndarray, " n"]) -> Iterator[Chunk]:
        """Yield the rows of these numbers, in their order."""


class InMemory(Numbered):
    """Rows of a PyTree of arrays, put on the device once, in one chunk.

    Parameters
    ----------
    x : PyTree of np.ndarray
        Data; every array has the same number of rows.
    c : PyTree of np.ndarray, optional
        Context, row by row.
    weight : np.ndarray, optional
        Weights of the rows, which are divided by their mean; None: all the same.
    placement : Placement
        Where the rows go.
    """

    def __init__(
        self,
        x: PyTree,
        c: PyTree = None,
        *,
        weight: Float[np.ndarray, " n"] | None = None,
        placement: Placement = OneDevice(),  # noqa: B008
    ):
        self.placement = placement
        n = _row_count(x, c)
        # One after the other: there is never more than one padded array beside those on the device.
        self._x, self._c = jax.tree.map(lambda array: placement.put(_padded(array)), (x, c))
        super().__init__(n, weight)

    def _normalise(self) -> None:
        super()._normalise()
        self._on_device = None
        if self._scaled is not None:
            self._on_device = self.placement.put(_padded(self._scaled))

    def example(self) -> tuple[PyTree[jax.ShapeDtypeStruct], PyTree[jax.ShapeDtypeStruct]]:
        """Return the shapes and types of one datapoint and of its context."""

        def row(array: Array) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)

        return jax.tree.map(row, (self._x, self._c))

    @property
    def has_chunks(self) -> bool:
        """Not in memory."""
        return False

    def _chunks_of(self, rows: Int[np.ndarray, " n"]) -> Iterator[Chunk]:
        yield Chunk(self._x, self._c, rows, self._on_device)


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


def _padded(array: ArrayLike) -> np.ndarray:
    array = np.asarray(array)
    n = len(array)
    if bucket(n) == n:
        return array
    buffer = np.empty((bucket(n), *array.shape[1:]), array.dtype)
    buffer[:n], buffer[n:] = array, array[0]  # of which all that is computed is finite
    return buffer


def _row_count(x: PyTree, c: PyTree) -> int:
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
