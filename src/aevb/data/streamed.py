"""Rows beyond memory, as training takes them: a chunk is read while the one before is computed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, PyTree

from aevb.data.lazy import Lazy
from aevb.data.placement import OneDevice, Placement
from aevb.data.source import Chunk, Source

BYTES = 2**26  # of one chunk; there are about three in memory

_Item = TypeVar("_Item")


class Streamed(Source):
    """Rows of a source that are read in chunks of units in random order.

    A chunk holds the rows of units from all over the source, mixed; the last one fewer. The order
    is a function of the seed alone, so that training goes on from any chunk.

    Parameters
    ----------
    x : Lazy
        Data.
    c : PyTree of np.ndarray, optional
        Context, for each row of the source.
    batch_size : int
        Rows per step: a chunk ends where a batch does.
    weight : np.ndarray, optional
        Weights of the rows of the source, which are divided by their mean; None: all the same.
    placement : Placement
        Where the rows go.
    n_bytes : int
        Size of a chunk.

    Examples
    --------
    >>> from aevb.data.stored import Records
    >>> rows = Lazy(Records([np.full(2, i) for i in range(5)]), np.float32)
    >>> source = Streamed(rows, batch_size=2, n_bytes=16)
    >>> [chunk.x[chunk.rows, 0].tolist() for chunk in source.chunks(None)]
    [[0.0, 1.0], [2.0, 3.0], [4.0]]
    """

    def __init__(
        self,
        x: Lazy,
        c: PyTree = None,
        *,
        batch_size: int,
        weight: Float[np.ndarray, " n"] | None = None,
        placement: Placement = OneDevice(),  # noqa: B008
        n_bytes: int = BYTES,
    ):
        self.placement = placement
        self._x, self._c = x, c
        self.weight = weight
        if weight is not None:
            self.weight = (weight / weight[x.numbers].mean(dtype=np.float64)).astype(np.float32)
        leaves = jax.tree.leaves(x.example)
        row_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        n_batches = max(n_bytes // (row_bytes * batch_size), 1)
        self._size = min(n_batches, -(-self.n_rows // batch_size)) * batch_size

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._x.shape[0]

    def example(self) -> tuple[PyTree[jax.ShapeDtypeStruct], PyTree[jax.ShapeDtypeStruct]]:
        """Return the shapes and types of one datapoint and of its context."""
        context = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), self._c)
        return self._x.example, context

    def chunks(self, order: tuple[int, ...] | None, start: int = 0) -> Iterator[Chunk]:
        """Yield all rows once; see `Source.chunks`."""
        units = np.arange(len(self._x.lengths))
        if order is not None:
            units = np.random.default_rng(order).permutation(units)
        before = np.concatenate([[0], np.cumsum(self._x.lengths[units])])
        first = int(np.searchsorted(before, start, side="right")) - 1  # whose rows are not all done
        rows = self._rows(units[first:], start - int(before[first]))
        # Only reading is left to another thread: what JAX does depends on settings of this one.
        for position, buffers, n in _ahead(self._filled(rows, start)):
            visited = np.arange(n, dtype=np.int32)
            if order is not None:
                visited = np.random.default_rng((*order, position)).permutation(visited)
            x, c, weight = self.placement.put(buffers)
            del buffers
            yield Chunk(x, c, visited, weight)
            del x, c, weight

    def _rows(self, units: np.ndarray, done: int) -> Iterator[tuple[PyTree, int]]:
        """Yield the rows of some units but for the first few, with what is told of them."""
        for unit in units:
            for numbers, x in self._x.unit(int(unit)):
                left = max(len(numbers) - done, 0)
                done -= len(numbers) - left
                if left:
                    told = jax.tree.map(lambda a, at=numbers: a[at], (self._c, self.weight))
                    yield jax.tree.map(lambda a, n=left: a[len(a) - n :], (x, *told)), left

    def _filled(
        self, rows: Iterator[tuple[PyTree, int]], position: int
    ) -> Iterator[tuple[int, PyTree, int]]:
        """Yield buffers of one size, with the position of their first row and their number."""
        buffers, n = None, 0
        for some, length in rows:
            at = 0
            while at < length:
                if buffers is None:
                    buffers = jax.tree.map(self._buffer, some)
                taken = min(length - at, self._size - n)
                _copy(buffers, n, some, at, taken)
                at, n = at + taken, n + taken
                if n == self._size:
                    full, buffers = buffers, None
                    yield position, full, n
                    position, n = position + n, 0
                    del full
        if n:
            yield position, buffers, n

    def _buffer(self, rows: np.ndarray) -> np.ndarray:
        return np.empty((self._size, *rows.shape[1:]), rows.dtype)


def _copy(buffers: PyTree, to: int, rows: PyTree, at: int, n: int) -> None:
    for buffer, some in zip(jax.tree.leaves(buffers), jax.tree.leaves(rows), strict=True):
        buffer[to : to + n] = some[at : at + n]


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield items of which the next one is made in another thread meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="aevb-reading") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
            del item
