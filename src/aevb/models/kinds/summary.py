"""What is learned of the columns of an array in one pass, chunk by chunk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from aevb.models.kinds.rows import chunks_of, dense, is_sparse

_FEW = 16  # rows, of which a single one may hold less than nine tenths of the squares
# A value this many times further from all others than these are from each other stands alone.
LONE = 1e4
_ALL = 300  # decimal places: as many as the type has
_FEWEST = -300
_FIRST = 32  # rows that show at once that most columns of measurements have all their digits


class Summary(NamedTuple):
    """Moments and extremes of each column of some rows; `merge` adds those of other rows.

    All arrays have shape (d,) for d columns.

    Attributes
    ----------
    n : int or ndarray of int
        Number of rows; that of each column, where values are missing.
    mean, squares : ndarray
        Mean, and sum of the squared distances from it; float64.
    low, high : ndarray
        Least and greatest value.
    low_row, high_row : ndarray of int
        Rows where these are first, for columns where they may stand alone.
    next_low, next_high : ndarray
        Least and greatest value of the other rows, where `low` or `high` may stand alone; else
        `low` or `high` again.
    n_zero, n_one, n_white : int
        Number of values that are 0, 1 and 255.
    decimals : ndarray of int
        The least number of decimal places with which all values are written: -2 for hundreds, 300
        where they have all digits of their type.
    """

    n: int | np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    low_row: np.ndarray
    high_row: np.ndarray
    next_low: np.ndarray
    next_high: np.ndarray
    n_zero: int
    n_one: int
    n_white: int
    decimals: np.ndarray

    @property
    def resolution(self) -> np.ndarray:
        """One unit of the last digit of each column, or what the type can tell apart there."""
        size = np.maximum(abs(self.low), abs(self.high)).astype(np.float32)
        return np.maximum(10.0**-self.decimals, np.spacing(size).astype(np.float64))

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each column."""
        return np.sqrt(self.squares / np.maximum(self.n, 1))

    @property
    def constant(self) -> np.ndarray:
        """Whether each column has a single value."""
        return self.low == self.high

    def lone_values(self) -> list[tuple[int, int, float]]:
        """Return column, row and value where one value dwarfs the differences of all others."""
        found = []
        for extreme, row, following, other in (
            (self.low, self.low_row, self.next_low, self.high),
            (self.high, self.high_row, self.next_high, self.low),
        ):
            gap, rest = abs(extreme - following), abs(following - other)
            alone = (rest > 0) & (gap > LONE * rest)
            found += [(int(j), int(row[j]), float(extreme[j])) for j in np.flatnonzero(alone)]
        return sorted(found)


def summarise(X: Any, first_row: int = 0) -> Summary:
    """Summarise one chunk of rows, shape (n, ...).

    Parameters
    ----------
    X : ndarray of shape (n, ...), or sparse array of shape (n, d)
        Numbers without holes.
    first_row : int
        Number of its first row in all data.
    """
    if is_sparse(X):
        return _summarise_sparse(X)
    X = X.reshape(len(X), -1)
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    rows = X.astype(np.float64)
    mean = np.clip(rows.mean(axis=0), low, high)  # exactly the value of a constant column
    deviations = rows - mean
    squares = np.einsum("ij,ij->j", deviations, deviations)
    ends = []
    for extreme, first, at in ((low, np.argmin, 1), (high, np.argmax, -2)):
        row, following = np.zeros(len(extreme), int), extreme.copy()
        for j in _may_stand_alone(X, extreme, mean, squares):
            row[j] = first(rows[:, j])
            following[j] = np.partition(rows[:, j], at)[at] if len(X) > 1 else at * np.inf
        ends.append((row + first_row, following))
    (low_row, next_low), (high_row, next_high) = ends
    counts = (int(np.count_nonzero(value == X)) for value in (0, 1, 255))
    extremes = low, high, low_row, high_row, next_low, next_high
    return Summary._make((len(X), mean, squares, *extremes, *counts, _decimals(X, low, high)))


def _summarise_sparse(X: Any) -> Summary:
    """Summarise a sparse chunk without its zeros, as if no value stood alone.

    All columns have the decimals of the one that has the most.
    """
    n, d = X.shape
    by_column = X.tocsc()
    counts = np.diff(by_column.indptr)
    some = counts > 0
    values = by_column.data.astype(np.float64)

    def over_columns(function: np.ufunc, values: np.ndarray) -> np.ndarray:
        result = np.zeros(d)
        if len(values):
            result[some] = function.reduceat(values, by_column.indptr[:-1][some])
        return result

    low, high = over_columns(np.minimum, values), over_columns(np.maximum, values)
    low = np.where(counts < n, np.minimum(low, 0), low)
    high = np.where(counts < n, np.maximum(high, 0), high)
    mean = np.clip(over_columns(np.add, values) / n, low, high)
    squares = over_columns(np.add, (values - np.repeat(mean, counts)) ** 2)
    squares += (n - counts) * mean**2
    n_zero = n * d - int(np.count_nonzero(values))
    n_one, n_white = (int(np.count_nonzero(values == value)) for value in (1, 255))
    ends = low.min(initial=0, keepdims=True), high.max(initial=0, keepdims=True)
    most = _decimals(by_column.data[:, None], *ends) if len(values) else np.zeros(1, int)
    row = np.zeros(d, int)
    extremes = low, high, row, row, low, high
    return Summary(n, mean, squares, *extremes, n_zero, n_one, n_white, np.repeat(most, d))


def viewed(chunk: Any, view: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return what a kind's view makes of some rows: sparse where they are and 0 stays 0."""
    if not is_sparse(chunk):
        return view(chunk)
    if view(np.zeros((1, 1))).any():
        return view(dense(chunk))
    chunk = chunk.copy()
    chunk.data = view(chunk.data[:, None])[:, 0]
    return chunk


def _decimals(X: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the least number of decimal places that write every value of a column, up to rounding.

    Values of d decimals are among those of d + 1: the rows of two chunks need the larger number.
    """
    if X.dtype.kind in "bu":
        return np.zeros(len(low), int)
    with np.errstate(divide="ignore"):
        leading = np.ceil(-np.log10(np.maximum(abs(low), abs(high))))  # of one digit, about
    decimals = np.where(np.isfinite(leading), leading, _FEWEST).astype(int)
    precision = np.finfo(X.dtype if X.dtype.kind == "f" else np.float64)
    last = np.minimum(decimals + precision.precision + 1, _ALL)
    for rows in (X[:_FIRST], X):
        more = np.flatnonzero(decimals < last)
        while len(more):
            values = rows[:, more] * 10.0 ** decimals[more]
            rounding = (precision.eps + 4e-16) * abs(values)
            more = more[(abs(values - np.rint(values)) > rounding).any(axis=0)]
            decimals[more] += 1
            more = more[decimals[more] < last[more]]
    return np.where(decimals < last, decimals, _ALL)


def _may_stand_alone(
    X: np.ndarray, extreme: np.ndarray, mean: np.ndarray, squares: np.ndarray
) -> np.ndarray:
    """Return the columns whose extreme value may dwarf the differences of the others."""
    if X.dtype.kind in "bu" or X.dtype.itemsize == 1:  # there is no room for that
        return np.zeros(0, int)
    if len(X) < _FEW:
        return np.arange(len(extreme))
    return np.flatnonzero((extreme - mean) ** 2 > 0.9 * squares)


def merge(one: Summary, other: Summary) -> Summary:
    """Return the summary of the rows of both, `one` before `other`."""
    if not (np.ndim(one.n) or np.ndim(other.n)):
        return _merged(one, other)
    both = _merged(_nowhere(one), _nowhere(other))
    still_empty = both.n == 0
    columns = {
        name: np.where(still_empty, value, getattr(both, name))
        for name, value in one._replace(n=0)._asdict().items()
        if np.ndim(value)
    }
    return both._replace(**columns)


def _merged(one: Summary, other: Summary) -> Summary:
    n = one.n + other.n
    step, some = other.mean - one.mean, np.maximum(n, 1)
    lower, higher = other.low < one.low, other.high > one.high
    low, high = np.where(lower, other.low, one.low), np.where(higher, other.high, one.high)
    return Summary(
        n,
        np.clip(one.mean + step * (other.n / some), low, high),
        one.squares + other.squares + step**2 * (one.n * other.n / some),
        low,
        high,
        np.where(lower, other.low_row, one.low_row),
        np.where(higher, other.high_row, one.high_row),
        np.where(lower, np.minimum(other.next_low, one.low), np.minimum(one.next_low, other.low)),
        np.where(
            higher, np.maximum(other.next_high, one.high), np.maximum(one.next_high, other.high)
        ),
        one.n_zero + other.n_zero,
        one.n_one + other.n_one,
        one.n_white + other.n_white,
        np.maximum(one.decimals, other.decimals),
    )


def _nowhere(summary: Summary) -> Summary:
    """Return a summary in which columns without values have no extremes, so that others' count."""
    empty = np.broadcast_to(summary.n, summary.mean.shape) == 0
    if not empty.any():
        return summary
    low, high = np.where(empty, np.inf, summary.low), np.where(empty, -np.inf, summary.high)
    return summary._replace(
        low=low,
        high=high,
        next_low=np.where(empty, np.inf, summary.next_low),
        next_high=np.where(empty, -np.inf, summary.next_high),
        decimals=np.where(empty, _FEWEST, summary.decimals),
    )


def summarise_all(chunks: Iterable[Any], first_row: int = 0) -> Summary:
    """Summarise rows that come in chunks, in one pass; the first is known by its number."""

    def summaries(first_row: int = first_row) -> Iterator[Summary]:
        for chunk in chunks:
            yield summarise(chunk, first_row)
            first_row += chunk.shape[0]

    return functools.reduce(merge, summaries())


def summarise_observed(X: np.ndarray, view: Callable[[np.ndarray], np.ndarray]) -> Summary:
    """Summarise what `view` makes of the values of each column that are not NaN.

    A column without a value has the mean 0, and does not vary.
    """
    columns = []
    for column in X.reshape(len(X), -1).T:
        some = column[~np.isnan(column)][:, None]
        if len(some):
            columns.append(summarise_all(map(view, chunks_of(some))))
        else:
            columns.append(summarise(view(np.zeros((1, 1), X.dtype)))._replace(n=0))
    width = len(columns[0].mean)
    stacked: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in columns])
        for name in Summary._fields
        if np.ndim(getattr(columns[0], name))
    }
    first = columns[0]._replace(n=np.repeat([each.n for each in columns], width), **stacked)
    return first._replace(
        n_zero=sum(each.n_zero for each in columns if each.n),
        n_one=sum(each.n_one for each in columns if each.n),
        n_white=sum(each.n_white for each in columns if each.n),
    )
