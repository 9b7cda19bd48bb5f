"""The columns of a table: the likelihood that each has and why, and the way there and back."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from aevb.data import tables
from aevb.data.arrays import narrow
from aevb.data.tables import (
    BOOLEAN,
    CATEGORY,
    DATE,
    DURATION,
    INTEGER,
    ORDERED,
    Column,
    ColumnType,
)
from aevb.errors import choose, nearest, some
from aevb.models.kinds import (
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    NegativeBinomial,
    Ordinal,
    choose_likelihood,
    make_likelihood,
)
from aevb.models.kinds.summary import Summary, merge, summarise_observed

_LARGEST_COUNT = 1_000_000  # of what is taken for a count: beyond, it is a number, or a name
_TOLD = "as told"
_LEVELS = ("categories", "ordered")  # kinds whose values are the numbers of levels
_INTENSITIES = ("binary", "intensity")  # kinds of 8-bit pictures
_COARSE = 1e-3  # of its spread: a column that float32 rounds to more than that is shifted before


class Choice(NamedTuple):
    """What was chosen for a column.

    Attributes
    ----------
    type : ColumnType
        What it is.
    likelihood : Likelihood or None
        Its family p(x|z); None: the column is left out, since it does not vary.
    why : str
        Why.
    origin : float
        What is subtracted from it, so that float32 can hold it: a first date, for one.
    value : float
        Of a column that is left out: its only value, or NaN.
    levels : tuple of float, or None
        Of numbers that are taken for categories: their values.
    whole : bool
        Whether they are dates without a time of day.
    """

    type: ColumnType
    likelihood: Likelihood | None
    why: str
    origin: float = 0.0
    value: float = math.nan
    levels: tuple[float, ...] | None = None
    whole: bool = False

    @property
    def n_levels(self) -> int:
        """Number of the categories of a column; 0 if it has none."""
        if self.likelihood is None or self.likelihood.kind not in _LEVELS:
            return 0
        return len(self.levels or self.type.categories or ())


class Seen(NamedTuple):
    """What the cells of a column have shown, or some of them.

    Attributes
    ----------
    type : ColumnType
        What it is.
    n : int
        Number of cells.
    summary : Summary
        Of the values that are there; of categories, of their codes.
    levels : tuple of float
        Of numbers that the user takes for levels: those that occur.
    """

    type: ColumnType
    n: int
    summary: Summary
    levels: tuple[float, ...]

    @classmethod
    def of(cls, column: Column, chosen: Likelihood | None) -> Seen:
        """Look at a column, for which the user may have chosen a likelihood."""
        values = column.values
        summary = summarise_observed(values[:, None], lambda values: values)
        levels = ()
        if chosen and chosen.kind in _LEVELS and column.type.kind not in (CATEGORY, ORDERED):
            levels = tuple(np.unique(values[~np.isnan(values)]).tolist())
        return cls(column.type, len(values), summary, levels)

    def merge(self, other: Seen) -> Seen:
        """Return what the cells of both have shown, `self` before `other`.

        Raises
        ------
        ValueError
            For ordered categories that are not the same.
        """
        one, two = self.type.categories, other.type.categories
        if self.type.kind == ORDERED and one != two:
            raise ValueError(
                f"Expected the same ordered categories all over column {self.type.name!r} of `X`; "
                f"got {some(one or ())} and {some(two or ())}."
            )
        summary = merge(self.summary, other.summary)
        levels = tuple(sorted({*self.levels, *other.levels}))
        if self.type.kind != CATEGORY:
            return Seen(self.type, self.n + other.n, summary, levels)
        categories = tuple(sorted({*(one or ()), *(two or ())}))
        ends = np.zeros(1), np.array([max(len(categories) - 1.0, 0.0)])
        summary = summary._replace(low=ends[0], high=ends[1], mean=ends[0])
        return Seen(self.type._replace(categories=categories), self.n + other.n, summary, levels)


class Group(NamedTuple):
    """Columns that become one block: of the same likelihood, and about as many levels."""

    columns: tuple[int, ...]
    likelihood: str | Likelihood
    dtype: DTypeLike
    n_levels: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Columns(Mapping[str, Likelihood | None]):
    """The likelihood of each column of a table, by name; prints as a table that says why.

    Attributes
    ----------
    choices : tuple of Choice
        What was chosen for each column, in the table's order.
    library : str
        "pandas", "polars" or "pyarrow".
    unseen : {"error", "missing"}
        What a category is that did not occur in the training data.
    is_picture : bool
        Whether the columns are the pixels of 8-bit pictures.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"size": [1.5, 2.0, 1.8], "city": ["Ulm", "Bonn", "Ulm"]})
    >>> columns, rows = Columns.learn(table)
    >>> print(columns)
    column  type      likelihood   why
    size    number    gaussian     numbers
    city    category  categorical  2 categories
    """

    choices: tuple[Choice, ...]
    library: str
    unseen: str = "error"
    is_picture: bool = False

    @classmethod
    def learn(
        cls, X: Any, likelihood: Any = "auto", unseen: str = "error"
    ) -> tuple[Columns, np.ndarray]:
        """Choose a likelihood for each column of a table, and read it.

        A column of truth values, or of zeros and ones, is Bernoulli; texts and categories are
        categorical, ordered categories ordinal. Whole numbers from 0 to a million (integers, or
        floats with empty cells) are negative binomial if their variance is at least their mean. All
        else is Gaussian: other numbers, dates and durations, which count in days. A column that
        does not vary is left out. If all columns are of the type uint8 they are a picture, and have
        the likelihood of an array.

        Parameters
        ----------
        X : table
            Of pandas, Polars or PyArrow.
        likelihood : str, Likelihood or mapping
            For all columns, or by name; ``"auto"``: as above.
        unseen : {"error", "missing"}
            What a category is, later, that did not occur.

        Returns
        -------
        columns : Columns
            What was chosen.
        rows : ndarray of shape (n, d)
            The table, float32; NaN where there is no value.

        Raises
        ------
        ValueError, TypeError
            For columns that cannot be read, or likelihoods that are not for them.
        """
        columns, library = tables.read_columns(X), tables.library_of(X)
        return cls.choose(columns, len(X), len(X.columns), library, likelihood, unseen)

    @classmethod
    def choose(
        cls,
        read: Iterable[Column],
        n: int,
        size: int,
        library: str,
        likelihood: Any = "auto",
        unseen: str = "error",
    ) -> tuple[Columns, np.ndarray]:
        """Do as `learn`, with n cells each of columns that have been read already."""
        told = _Told(likelihood)
        seen: list[Seen] = []
        choices: list[Choice] = []
        rows = np.empty((n, size), np.float32)
        for j, column in enumerate(read):
            chosen = told(column.type.name)
            seen.append(Seen.of(column, chosen))
            choices.append(_choose(seen[-1], chosen))
            rows[:, j] = _narrowed(choices[-1], column.values)
        columns = cls._of(choices, seen, told, library, unseen)
        if columns.is_picture:
            constant = [j for j, choice in enumerate(choices) if choice.likelihood is None]
            rows[:, constant] = [choices[j].value for j in constant]
        return columns, rows

    @classmethod
    def learn_by_pieces(
        cls, pieces: Iterable[Any], library: str, likelihood: Any = "auto", unseen: str = "error"
    ) -> Columns:
        """Choose a likelihood for each column of a table that comes some rows at a time.

        Parameters
        ----------
        pieces : iterable of tables
            Its rows, in tables with the same columns.
        library : str
            Whose tables are to be given back.
        likelihood, unseen
            As in `learn`.
        """
        told = _Told(likelihood)

        start = 0

        def look(piece: Any) -> list[Seen]:
            nonlocal start
            try:
                columns = [*tables.read_columns(piece)]
            except (ValueError, TypeError) as error:
                where = f"From row {start} on, which is counted as row 0: "
                raise type(error)(where * (start > 0) + str(error)) from error
            start += len(piece)
            return [Seen.of(column, told(column.type.name)) for column in columns]

        def both(one: list[Seen], other: list[Seen]) -> list[Seen]:
            return [a.merge(b) for a, b in zip(one, other, strict=True)]

        seen = functools.reduce(both, map(look, pieces))
        choices = [_choose(each, told(each.type.name)) for each in seen]
        return cls._of(choices, seen, told, library, unseen)

    @classmethod
    def _of(
        cls, choices: list[Choice], seen: Sequence[Seen], told: _Told, library: str, unseen: str
    ) -> Columns:
        """Put choices together, or choose for pixels where all columns are some."""
        _check_names(told.named, [choice.type.name for choice in choices], "likelihood")
        summaries = [each.summary for each in seen]
        pixels = None if told.named else _of_pixels(choices, summaries, told.for_all)
        if pixels is not None:
            choices = pixels
        if all(choice.likelihood is None for choice in choices):
            raise ValueError(
                "Expected at least one column that varies for `X`; got a table of "
                f"{len(choices)} columns with one value each, or none."
            )
        columns = cls(tuple(choices), library, unseen, pixels is not None)
        columns._warn()
        return columns

    # A mapping from names to likelihoods.

    def __getitem__(self, name: str) -> Likelihood | None:
        by_name = {choice.type.name: choice.likelihood for choice in self.choices}
        return by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.choices)

    def __str__(self) -> str:
        lines = [("column", "type", "likelihood", "why")]
        for choice in self.choices:
            chosen = "(left out)" if choice.likelihood is None else spelled(choice.likelihood)
            lines.append((choice.type.name, choice.type.kind, chosen, choice.why))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    __repr__ = __str__

    def in_short(self) -> str:
        """Say how many columns have which likelihood."""
        named = sorted(spelled(c.likelihood) for c in self.choices if c.likelihood is not None)
        if len({*named}) == 1:
            return named[0]
        return ", ".join(f"{len(list(group))} {name}" for name, group in itertools.groupby(named))

    @property
    def are_chosen(self) -> bool:
        """Whether a likelihood was chosen by rule."""
        return any(choice.why != _TOLD for choice in self.choices)

    @property
    def are_told(self) -> bool:
        """Whether the user has chosen a likelihood."""
        return any(choice.why.startswith(_TOLD) for choice in self.choices)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(choice.type.name for choice in self.choices)

    @property
    def left_out(self) -> tuple[int, ...]:
        """Positions of the columns that do not vary."""
        return tuple(j for j, choice in enumerate(self.choices) if choice.likelihood is None)

    def groups(self) -> dict[str, Group]:
        """Return the columns that become one block each, by the block's name.

        Those with levels are put together by the next power of two, so that the indicators of all
        columns of a block are one array without much padding.
        """
        found: dict[tuple, list[int]] = {}
        for j, choice in enumerate(self.choices):
            if choice.likelihood is not None:
                width = (choice.n_levels - 1).bit_length() if choice.n_levels else 0
                found.setdefault((choice.likelihood, width), []).append(j)
        groups: dict[str, Group] = {}
        for (likelihood, width), columns in found.items():
            name = f"{likelihood.name}-{2**width}" if width else likelihood.name
            number = sum(each == name or each.startswith(f"{name} ") for each in groups)
            n_levels = tuple(self.choices[j].n_levels for j in columns) if width else ()
            dtype = "uint8" if self.is_picture else "float32"
            group = Group(tuple(columns), likelihood, dtype, n_levels)
            groups[f"{name} {number + 1}" if number else name] = group
        return groups

    # There and back.

    def read(self, X: Any) -> np.ndarray:
        """Read a later table, or an array of numbers in the same order.

        Parameters
        ----------
        X : table, or array-like of shape (n, d)
            Later cases; an array only if no column has categories.

        Returns
        -------
        ndarray of shape (n, d)
            float32; NaN where there is no value.

        Raises
        ------
        ValueError, TypeError
            For missing columns, other types, or unknown categories.
        """
        if tables.is_table(X):
            types = [choice.type for choice in self.choices]
            columns = (each.values for each in tables.read_columns(X, types, unseen=self.unseen))
        else:
            texts = [c.type.name for c in self.choices if c.type.kind in (CATEGORY, ORDERED)]
            if texts:
                raise TypeError(
                    "Expected a table for `X`, as in the fit, where "
                    f"{some(texts)} are categories; got {type(X).__name__}."
                )
            columns = (column for column in np.asarray(X, np.float64).T)
        return self.rows_of(columns, len(X))

    def rows_of(self, values: Iterable[np.ndarray], n: int) -> np.ndarray:
        """Return rows as `read` does, of n cells each of columns that have been read already."""
        rows = np.empty((n, len(self.choices)), np.float32)
        for j, (choice, column) in enumerate(zip(self.choices, values, strict=True)):
            rows[:, j] = _narrowed(choice, column, self.unseen)
        return rows

    def row_of(self, given: Mapping[Any, Any]) -> np.ndarray:
        """Return one row as `read` does, of which only some values are there, by name."""
        _check_names(given, self.names, "given")
        row = np.full((1, len(self.choices)), np.nan, np.float32)
        for j, choice in enumerate(self.choices):
            if choice.likelihood is None:
                row[:, j] = 0
            elif choice.type.name in given:
                column = tables.column_of(choice.type.name, given[choice.type.name], choice.type)
                if len(column.values) != 1:
                    raise ValueError(
                        f"Expected a single value for column {choice.type.name!r} in `given`; got "
                        f"{len(column.values)}."
                    )
                row[:, j] = _narrowed(choice, column.values)
        return row

    def numbers(self, values: np.ndarray, index: Any = None) -> Any:
        """Return a table of the same columns that holds a number in each cell."""
        types = [ColumnType(name, tables.NUMBER, "Float64") for name in self.names]
        return tables.write_columns(types, values.T, self.library, index)

    def write(self, values: np.ndarray, index: Any = None) -> Any:
        """Return rows of numbers in the table's own form.

        Parameters
        ----------
        values : ndarray of shape (n, d)
            Numbers as `read` gives them.
        index : pandas.Index, optional
            Index of the rows, for pandas.
        """
        types = [choice.type for choice in self.choices]
        return tables.write_columns(types, self._widened(values), self.library, index)

    def fill(self, X: Any, values: np.ndarray) -> Any:
        """Return a table with numbers in the place of its empty cells, in its own form."""
        if not tables.is_table(X):
            X = np.asarray(X, np.float64)
            return np.where(np.isnan(X), np.stack([*self._widened(values)], axis=1), X)
        types = [choice.type for choice in self.choices]
        return tables.fill_columns(X, types, self._widened(values))

    def _widened(self, values: np.ndarray) -> Iterator[np.ndarray]:
        for choice, column in zip(self.choices, values.T, strict=True):
            if choice.likelihood is None:
                yield np.full(len(column), choice.value)
            elif choice.levels is not None:
                yield np.asarray(choice.levels)[column.astype(int)]
            else:
                found = column.astype(np.float64) + choice.origin
                yield np.rint(found) if choice.whole else found

    def _warn(self) -> None:
        left_out = [self.choices[j] for j in self.left_out]
        empty = [choice.type.name for choice in left_out if math.isnan(choice.value)]
        constant = [choice.type.name for choice in left_out if not math.isnan(choice.value)]
        for names, what in ((empty, "no value"), (constant, "a single value")):
            if len(names) == 1:
                said = f"Column {names[0]!r} of `X` has {what}: it is left out of the model."
            else:
                said = f"Columns {some(names)} of `X` have {what} each: they are left out."
            if names:
                warnings.warn(said, stacklevel=5)

    def to_json(self) -> dict[str, Any]:
        """Return what a file's header says of the columns, but for their likelihoods."""
        return {
            "choices": [
                {**choice._asdict(), "type": choice.type.to_json(), "likelihood": None}
                for choice in self.choices
            ],
            "library": self.library,
            "unseen": self.unseen,
            "is_picture": self.is_picture,
        }

    @classmethod
    def from_json(cls, described: dict[str, Any], likelihoods: Mapping[int, Likelihood]) -> Columns:
        """Undo `to_json`, with the likelihoods of the columns by position.

        Raises
        ------
        ValueError, TypeError, KeyError
            For what `to_json` does not write.
        """

        def tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
            return {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}

        choices = []
        for j, each in enumerate(described["choices"]):
            fields = tuples(each)
            fields["type"] = ColumnType.from_json(fields["type"])
            choices.append(Choice(**{**fields, "likelihood": likelihoods.get(j)}))
            tables.check_type(choices[-1].type, described["library"])
            _check_choice(choices[-1])
        check_unseen(described["unseen"])
        libraries = ("pandas", "polars", "pyarrow", "dict")
        choose(described["library"], dict.fromkeys(libraries), "library")
        return cls(
            tuple(choices), described["library"], described["unseen"], described["is_picture"]
        )


def _check_choice(choice: Choice) -> None:
    """Raise TypeError or ValueError for fields that `_choose` does not give."""
    numbers = (choice.origin, choice.value, *(choice.levels or ()))
    if not all(isinstance(each, int | float) for each in numbers) or not (
        choice.levels is None or isinstance(choice.levels, tuple)
    ):
        raise TypeError(f"Expected numbers of column {choice.type.name!r}; got {numbers!s:.80}.")
    if choice.origin and (choice.likelihood is None or choice.likelihood.kind != "real"):
        raise ValueError(f"Expected no origin of column {choice.type.name!r}; got {choice.origin}.")


def is_by_column(likelihood: Any) -> bool:
    """Whether likelihoods are given by the names of columns."""
    return isinstance(likelihood, Mapping)


def check_likelihood(likelihood: Any) -> None:
    """Raise ValueError or TypeError for anything but a likelihood, or likelihoods by column."""
    for each in likelihood.values() if is_by_column(likelihood) else (likelihood,):
        make_likelihood(each)


def spelled(likelihood: Likelihood) -> str:
    """Return a likelihood's name, with its options if they are not the usual ones."""
    try:
        usual = type(likelihood)() == likelihood
    except TypeError:
        usual = False
    return likelihood.name if usual else repr(likelihood)


def _check_names(named: Mapping[Any, Any], names: Sequence[str], what: str) -> None:
    unknown = [name for name in named if name not in names]
    if unknown:
        hint = nearest(str(unknown[0]), names)
        raise ValueError(
            f"Expected names of columns of `X` in `{what}`; got {unknown[0]!r}, which is not "
            f"one of {some(names)}.{hint}"
        )


class _Told:
    """What the user says of columns: a likelihood for all of them, or for some by name."""

    def __init__(self, likelihood: Any):
        by_column = is_by_column(likelihood)
        given = likelihood.items() if by_column else ()
        self.named = {str(name): make_likelihood(each) for name, each in given}
        self.for_all = None if by_column else make_likelihood(likelihood)

    def __call__(self, name: str) -> Likelihood | None:
        return self.named.get(name, self.for_all)


def _choose(seen: Seen, chosen: Likelihood | None) -> Choice:
    """Choose for one column, or check what the user chose."""
    column, summary = seen.type, seen.summary
    if summary.constant[0]:
        if not np.any(summary.n):
            return Choice(column, None, "no value")
        return Choice(column, None, "a single value", value=float(summary.mean[0]))
    if chosen is None:
        likelihood, why = _by_rule(column, summary, seen.n)
    else:
        likelihood, why = chosen, _TOLD
        _check_suits(column, likelihood)
    origin, levels = 0.0, None
    if likelihood.kind == "real":
        low, high = float(summary.low[0]), float(summary.high[0])
        step = float(np.finfo(np.float32).eps) * max(abs(low), abs(high))
        coarse = step > _COARSE * (high - low)
        if coarse or column.kind == DATE:
            origin = math.floor(low)
    elif likelihood.kind in _LEVELS and column.kind not in (CATEGORY, ORDERED):
        levels = seen.levels
        why = f"{why}: {len(levels)} values"
    whole = column.kind == DATE and bool(summary.decimals[0] <= 0)
    return Choice(column, likelihood, why, origin, levels=levels, whole=whole)


def _by_rule(column: ColumnType, summary: Summary, n_rows: int) -> tuple[Likelihood, str]:
    n = int(np.max(summary.n))
    low, high, mean = (float(each[0]) for each in (summary.low, summary.high, summary.mean))
    if column.kind in (CATEGORY, ORDERED):
        n_levels = len(column.categories or ())
        if column.kind == ORDERED:
            return Ordinal(), f"{n_levels} ordered categories"
        said = f"{n_levels} categories"
        return Categorical(), said + (f" in {n} rows" if n_levels > n / 2 > 10 else "")
    if column.kind == BOOLEAN:
        return Bernoulli(), "truth values"
    if low == 0 and high == 1 and summary.n_zero + summary.n_one == n:
        return Bernoulli(), "zeros and ones"
    if column.kind in (DATE, DURATION):
        return Gaussian(), f"{column.kind}s, in days"
    is_whole = column.kind == INTEGER or (n < n_rows and summary.decimals[0] <= 0)
    if not is_whole:
        return Gaussian(), "numbers"
    if low < 0:
        return Gaussian(), "whole numbers, some below 0"
    if high > _LARGEST_COUNT:
        return Gaussian(), f"whole numbers, some above {_LARGEST_COUNT:,}"
    variance = float(summary.spread[0]) ** 2
    relation = f"variance {variance:.3g}, mean {mean:.3g}"
    if variance >= mean:
        return NegativeBinomial(), f"whole numbers from 0 up: {relation}"
    return Gaussian(), f"whole numbers that vary less than counts: {relation}"


def _check_suits(column: ColumnType, likelihood: Likelihood) -> None:
    """Raise TypeError if a column is of the wrong type for a likelihood."""
    suits = {
        CATEGORY: ("categories",),
        ORDERED: _LEVELS,
        DATE: ("real",),
    }.get(column.kind)
    if suits is None or likelihood.kind in suits:
        return
    remedy = {
        CATEGORY: "Use 'categorical'; for 'ordinal' give the categories an order, in pandas by "
        "pandas.Categorical(..., ordered=True)",
        ORDERED: "Use 'ordinal' or 'categorical'",
        DATE: "Use 'gaussian', 'student-t' or 'laplace', or turn the dates into durations",
    }[column.kind]
    raise TypeError(
        f"Expected a likelihood for a column of the type {column.kind} for column "
        f"{column.name!r}; got {likelihood.name!r}. {remedy}."
    )


def _narrowed(choice: Choice, values: np.ndarray, unseen: str = "error") -> np.ndarray:
    """Return a column as training takes it: float32 from its origin, or numbers of levels."""
    if choice.likelihood is None:
        return np.zeros(len(values), np.float32)
    if choice.levels is not None:
        levels = np.asarray(choice.levels)
        codes = np.searchsorted(levels, values).clip(0, len(levels) - 1)
        here = ~np.isnan(values)
        new = here & (levels[codes] != values)
        if new.any() and unseen == "error":
            row = int(np.flatnonzero(new)[0])
            raise ValueError(
                f"Expected one of the values of the fit for column {choice.type.name!r} of `X`, "
                f"which is {choice.likelihood.name}; got {values[row]:g} in row {row}. Replace it, "
                "or leave the cell empty: it then counts as not observed."
            )
        return np.where(here & ~new, codes, np.nan).astype(np.float32)
    shifted = values - choice.origin if choice.origin else values
    return narrow(shifted[:, None], [choice.type.name])[:, 0]


def _of_pixels(
    choices: Sequence[Choice], summaries: Sequence[Summary], chosen: Likelihood | None
) -> list[Choice] | None:
    """Choose for columns that are the pixels of 8-bit pictures; None if they are not."""
    low, high = (
        np.concatenate([getattr(each, end) for each in summaries]) for end in ("low", "high")
    )
    if {choice.type.dtype for choice in choices} != {"UInt8"} or high.max() <= 1:
        return None
    why = _TOLD
    if chosen is None:
        numbers = ("n_zero", "n_one", "n_white")
        counts = {name: sum(getattr(each, name) for each in summaries) for name in numbers}
        n = np.concatenate([each.n for each in summaries])
        mean = np.concatenate([each.mean for each in summaries])
        whole = summaries[0]._replace(n=n, mean=mean, low=low, high=high, **counts)
        chosen, why = choose_likelihood(whole, np.uint8)
    elif chosen.kind not in _INTENSITIES:
        return None
    return [Choice(choice.type, chosen, why) for choice in choices]


def check_unseen(unseen: Any) -> str:
    """Check what a category is to be that did not occur in the training data."""
    choose(unseen, {"error": None, "missing": None}, "unseen")
    return unseen
