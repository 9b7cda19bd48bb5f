"""Stored rows as numbers, which are made when they are read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import numpy as np
from jaxtyping import Int, PyTree

from aevb.data.stored import Stored

_FEWEST = 8  # units from which a sample is taken


class Lazy:
    """Cases of a source: each unit becomes numbers when it is read.

    Stands where an array of all rows would stand, for what takes its rows piece by piece.

    Parameters
    ----------
    stored : Stored
        The source.
    read : callable
        From what the source yields to arrays, rows leading.

    Attributes
    ----------
    shape : tuple of int
        Number of rows, and shape of one; of a PyTree that of its first array.
    dtype : np.dtype
        Type of that array.

    Examples
    --------
    >>> from aevb.data.stored import Records
    >>> rows = Lazy(Records([np.zeros(2), np.ones(2)]), lambda rows: 10 * rows)
    >>> rows.shape, [(start, piece.tolist()) for start, piece in rows.pieces()]
    ((2, 2), [(0, [[0.0, 0.0], [10.0, 10.0]])])
    """

    is_stored = True  # how rows know it

    def __init__(self, stored: Stored, read: Callable[[Any], PyTree]):
        self.stored = stored
        self._read = read
        self._part: tuple[int, float, bool] | None = None
        self._count()

    def _count(self) -> None:
        self.starts = np.concatenate([[0], np.cumsum(self.stored.lengths)])
        units = range(len(self.stored.lengths))
        self.lengths = self.stored.lengths
        if self._part is not None:
            self.lengths = np.array([len(self._kept(unit)) for unit in units])
        filled = np.flatnonzero(self.lengths)
        if not len(filled):
            self.example, self.shape = None, (0,)
            return
        _, rows = next(self.unit(int(filled[0])))
        self.example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), rows)
        first = jax.tree.leaves(self.example)[0]
        self.shape, self.dtype = (int(self.lengths.sum()), *first.shape), first.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def map(self, function: Callable[[PyTree], PyTree]) -> Self:
        """Return these rows with a function applied to each piece."""
        other, read = copy.copy(self), self._read
        other._read = lambda raw: function(read(raw))
        other._count()
        return other

    def part(self, seed: int, share: float, *, held: bool) -> Self:
        """Return a share of the rows, drawn at random, or all others.

        Parameters
        ----------
        seed : int
            Of the draw.
        share : float
            Of the rows to hold out.
        held : bool
            Whether these are returned.
        """
        other = copy.copy(self)
        other._part = seed, share, held
        other._count()
        return other

    def unit(self, unit: int) -> Iterator[tuple[Int[np.ndarray, " n"], PyTree]]:
        """Yield the rows of a unit, with their numbers in the source, one batch after another."""
        start = int(self.starts[unit])
        kept = None if self._part is None else self._kept(unit)
        for raw in self.stored.read(unit):
            numbers, rows = self._made(start, raw)
            if kept is not None:
                here = kept[(kept >= start) & (kept < start + len(numbers))] - start
                numbers, rows = numbers[here], jax.tree.map(lambda a, h=here: a[h], rows)
            start += len(raw)
            if len(numbers):
                yield numbers, rows

    def pieces(self) -> Iterator[tuple[int, PyTree]]:
        """Yield all rows in their order, with the number of the first in the source."""
        if self._part is not None:
            for unit in range(len(self.lengths)):
                yield from ((int(numbers[0]), rows) for numbers, rows in self.unit(unit))
            return
        start = 0
        for raw in self.stored.pieces():
            yield start, self._made(start, raw)[1]
            start += len(raw)

    @property
    def numbers(self) -> Int[np.ndarray, " n"]:
        """Numbers of the rows in the source."""
        if self._part is None:
            return np.arange(self.stored.n_rows)
        return np.concatenate([self._kept(unit) for unit in range(len(self.lengths))])

    def some(self, n: int) -> tuple[Int[np.ndarray, " n"], PyTree]:
        """Return up to n rows from places all over the source, and their numbers there."""
        filled = np.flatnonzero(self.lengths)
        n = min(n, self.shape[0])
        enough = -(-4 * n // int(self.lengths[filled].max()))
        n_places = min(len(filled), max(_FEWEST, enough))
        places = filled[np.linspace(0, len(filled) - 1, n_places).astype(int)]
        if self.lengths[places].sum() < n:  # units of very different lengths
            places = filled
        every = max(int(self.lengths[places].sum()) // n, 1)
        found = [
            (numbers[::every], jax.tree.map(lambda a: a[::every].copy(), rows))
            for place in places
            for numbers, rows in self.unit(int(place))
        ]
        numbers, rows = jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
        chosen = np.linspace(0, len(numbers) - 1, n).astype(int)
        return numbers[chosen], jax.tree.map(lambda a: a[chosen], rows)

    def _made(self, start: int, raw: Any) -> tuple[Int[np.ndarray, " n"], PyTree]:
        numbers = np.arange(start, start + len(raw))
        try:
            return numbers, self._read(raw)
        except (ValueError, TypeError) as error:
            where = f"In {self.stored.name}, of which row {start} is counted as row 0: "
            raise type(error)(where * (start > 0) + str(error)) from error

    def _kept(self, unit: int) -> Int[np.ndarray, " n"]:
        """Return the numbers of the rows of a unit that belong to this part."""
        assert self._part is not None
        seed, share, held = self._part
        n = int(self.stored.lengths[unit])
        drawn = np.random.default_rng((seed, unit)).random(n) < share
        return int(self.starts[unit]) + np.flatnonzero(drawn == held)

    @property
    def identity(self) -> tuple:
        """What tells these rows from others."""
        return (*self.stored.identity, self._part)
