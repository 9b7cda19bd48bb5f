"""Rows beyond memory, as training takes them: a chunk is read while the one before is computed."""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
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
_ALIGNED = 64  # bytes
_NICE = 10  # of the thread that reads ahead; it is 19 at most

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
        self._weight = weight
        if weight is not None:
            self._weight = (weight / weight[x.numbers].mean(dtype=np.float64)).astype(np.float32)
        leaves = jax.tree.leaves(x.example)
        row_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
        n_batches = max(n_bytes // (row_bytes * batch_size), 1)
        self._size = min(n_batches, -(-self.n_rows // batch_size)) * batch_size

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._x.shape[0]

    @property
    def weight(self) -> Float[np.ndarray, " n"] | None:
        """Weights of the rows of the source; None: all the same."""
        return self._weight

    def example(self) -> tuple[PyTree[jax.ShapeDtypeStruct], PyTree[jax.ShapeDtypeStruct]]:
        """Return the shapes and types of one datapoint and of its context."""
        context = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), self._c)
        return self._x.example, context

    def chunks(self, order: tuple[int, ...] | None, start: int = 0) -> Iterator[Chunk]:
        """Yield all rows once; see `Source.chunks`."""
        units = np.arange(len(self._x.lengths))
        if order is not None:
            units = np.random.default_rng(order).permutation(units)
        # Only reading is left to another thread: what JAX does depends on settings of this one.
        for position, n, buffers in _ahead(self._filled(units, start)):
            visited = self._place(np.arange(n), n).astype(np.int32)
            if order is not None:
                visited = np.random.default_rng((*order, position)).permutation(visited)
            x, c, weight = self.placement.put(buffers, given=True)
            del buffers
            yield Chunk(x, c, visited, weight)
            del x, c, weight

    def _filled(self, units: np.ndarray, start: int) -> Iterator[tuple[int, int, PyTree]]:
        """Yield position, number and buffers of the rows of each chunk; all have one size.

        Each shard has a run of the chunk's rows. Those of other processes are not read.
        """
        rows = _Rows(self._x, units)
        for position in range(start, self.n_rows, self._size):
            n = min(self._size, self.n_rows - position)
            buffers = None if n == self._size else self._buffers(self._padding)
            per_shard = -(-n // self.placement.n_shards)
            for shard in self.placement.own_shards:
                begin, end = (min(k * per_shard, n) for k in (shard, shard + 1))
                for numbers, x in rows.between(position + begin, position + end):
                    told = jax.tree.map(lambda a, at=numbers: a[at], (self._c, self._weight))
                    buffers = self._buffers((x, *told)) if buffers is None else buffers
                    places = self._place(np.arange(begin, begin + len(numbers)), n)
                    _copy(buffers, places, (x, *told))
                    begin += len(numbers)
            yield position, n, buffers
            del buffers

    def _place(self, rows: np.ndarray, n: int) -> np.ndarray:
        """Return where some of the n rows of a chunk are: of each shard they take turns."""
        n_shards = self.placement.n_shards
        if n_shards == 1:
            return rows
        shard, place = np.divmod(rows, -(-n // n_shards))
        return place * n_shards + shard

    @functools.cached_property
    def _padding(self) -> PyTree:
        """A row for what is not visited, of which all that is computed is finite."""
        numbers, x = next(_Rows(self._x, np.arange(len(self._x.lengths))).between(0, 1))
        return (x, *jax.tree.map(lambda a: a[numbers], (self._c, self._weight)))

    def _buffers(self, rows: PyTree) -> PyTree:
        """Return buffers for rows of these types, which hold the first one if it is alone."""

        def buffer(some: np.ndarray) -> np.ndarray:
            empty = _aligned((self._size, *some.shape[1:]), some.dtype)
            if len(some) == 1:
                empty[:] = some
            return empty

        return jax.tree.map(buffer, rows)


class _Rows:
    """The rows of some units one after another, of which ranges are asked for in their order."""

    def __init__(self, x: Lazy, units: np.ndarray):
        self._x, self._units = x, units
        self._ends = np.cumsum(x.lengths[units])
        self._next = 0  # unit to open
        self._batches: Iterator[tuple[np.ndarray, PyTree]] = iter(())
        self._at = 0  # position of the first row that is left of them
        self._left: tuple[np.ndarray, PyTree] | None = None

    def between(self, begin: int, end: int) -> Iterator[tuple[np.ndarray, PyTree]]:
        """Yield numbers and values of the rows from one position to another, in batches."""
        while begin < end:
            numbers, x = self._batch(begin)
            skipped, taken = begin - self._at, min(len(numbers), end - self._at)
            yield jax.tree.map(lambda a, of=slice(skipped, taken): a[of], (numbers, x))
            begin = self._at + taken

    def _batch(self, position: int) -> tuple[np.ndarray, PyTree]:
        """Return the batch that has a position."""
        unit = int(np.searchsorted(self._ends, position, side="right"))
        if unit >= self._next:
            self._batches, self._left = self._x.unit(int(self._units[unit])), None
            self._at = int(self._ends[unit - 1]) if unit else 0
            self._next = unit + 1
        while self._left is None or position >= self._at + len(self._left[0]):
            if self._left is not None:
                self._at += len(self._left[0])
            self._left = next(self._batches)
        return self._left


def _copy(buffers: PyTree, places: np.ndarray, rows: PyTree) -> None:
    """Put rows into buffers, at places that are evenly spaced."""
    step = int(places[1] - places[0]) if len(places) > 1 else 1
    where = slice(int(places[0]), int(places[-1]) + 1, step)
    for buffer, some in zip(jax.tree.leaves(buffers), jax.tree.leaves(rows), strict=True):
        buffer[where] = some


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array that begins where JAX wants one on processors to begin, to take it as is."""
    n_bytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(n_bytes + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def _give_way() -> None:
    """Let this thread use what the computation leaves of the processor, which then never waits."""
    if sys.platform == "linux":  # where threads have priorities of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield items of which the next one is made in another thread meanwhile."""
    with ThreadPoolExecutor(1, "aevb-reading", initializer=_give_way) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
            del item
