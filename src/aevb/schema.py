"""What is known of the data: learned once, saved with the model, and true of every later case."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, PyTree
from numpy.typing import ArrayLike

from aevb.columns import Columns, Group
from aevb.errors import some
from aevb.models.exposed import per_exposure
from aevb.models.kinds import KINDS, Block, Count, Kind, Likelihood, Measured, make_kind
from aevb.models.kinds.base import Names
from aevb.models.kinds.case import Case, CaseBlock
from aevb.models.kinds.rows import CHUNK, chunks_of, dense, is_sparse, is_stored, n_cases, pieces
from aevb.models.kinds.summary import Summary, merge, summarise_all, summarise_observed, viewed
from aevb.models.linear import Working

_ONE = "data"  # the name of the block, where all values are of one kind
_MANY = 16_384  # rows of a source in which columns that depend on others are looked for


@dataclass(frozen=True, eq=False)
class Part:
    """Columns of one kind, side by side.

    Attributes
    ----------
    kind : Kind
        Their kind, with the likelihood that they have.
    shape : tuple of int
        Shape of their block of one case.
    columns : tuple of int, or None
        Where they are among all columns; None: they are all of them.
    measured : Measured
        What the model needs to know of the training data.
    """

    kind: Kind
    shape: tuple[int, ...]
    columns: tuple[int, ...] | None
    measured: Measured

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Take these columns out of rows."""
        return _take(rows, self.columns)

    def names(self, names: Names) -> Names:
        """Take the names of these columns out of those of all."""
        return _names(names, self.columns)


@dataclass(frozen=True, eq=False)
class Schema:
    """Kinds, shape, names and scaling of the data that a model is fitted to.

    Attributes
    ----------
    parts : dict of Part
        The blocks of a case by name: of an array one, of a table one for each likelihood.
    shape : tuple of int
        Shape of one case.
    names : tuple of str, or None
        Names of the columns.
    why : str
        Why the likelihood of an array was chosen; empty if the user named it.
    columns : Columns or None
        Of a table: what was chosen for each column, and the way back to the table's own form.
    dependent : tuple of int
        Columns that are linear functions of those before them, to their last digit.
    holes : bool
        Whether values may be missing.

    Examples
    --------
    >>> import numpy as np
    >>> schema = Schema.fit(np.array([[0.5, 2.0], [1.5, 2.0], [2.5, 2.0]]))
    >>> schema.likelihood, schema.remarks
    (Gaussian(scale='learned'), ['column [1] does not vary'])
    """

    parts: dict[str, Part]
    shape: tuple[int, ...]
    names: tuple[str, ...] | None
    why: str = ""
    columns: Columns | None = None
    dependent: tuple[int, ...] = ()
    holes: bool = False

    @classmethod
    def fit(
        cls,
        rows: Any,
        likelihood: str | Likelihood = "auto",
        names: Any = None,
        columns: Columns | None = None,
    ) -> Schema:
        """Learn the schema of some rows.

        Parameters
        ----------
        rows : ndarray, sparse array or Lazy, of shape (n, ...)
            Numbers in the type that training uses, finite or (not observed) NaN. Those that are not
            in memory are read once, or twice if values or their scaling need another look.
        likelihood : str or Likelihood
            The family p(x|z); ``"auto"``: see `aevb.models.kinds.choose_likelihood`. The columns of
            a table have their own.
        names : sequence of str, optional
            Names of the columns.
        columns : Columns, optional
            What was chosen for each column of a table.

        Raises
        ------
        ValueError, TypeError
            For an unknown likelihood, or values outside its support.
        """
        names = None if names is None else tuple(map(str, names))
        groups = {_ONE: Group((), likelihood, rows.dtype, ())}
        where: dict[str, Where] = {_ONE: None}
        if columns is not None:
            names, groups = columns.names, columns.groups()
            groups = {name: groups[name] for name in sorted(groups)}  # as JAX sorts dictionaries
            every = range(len(names))
            where = {
                name: None if len(group.columns) == len(every) else group.columns
                for name, group in groups.items()
            }
        look = _look(rows, where)
        _check_observed(look, where, names)
        known, why = {}, ""
        for name, group in groups.items():
            told = group.likelihood, look.summaries[name], group.dtype, group.n_levels
            kind, why = make_kind(*told, sparse=is_sparse(rows))
            known[name] = kind, where[name]
        # What was chosen by rule suits the values that it was chosen by.
        told_any = likelihood != "auto" if columns is None else columns.are_told
        measured = _measure(rows, known, look.summaries, names, check=told_any)
        parts = {}
        for name, (kind, at) in known.items():
            for remark in kind.remarks(look.summaries[name], _names(names, at)):
                warnings.warn(remark, stacklevel=2)
            shape = rows.shape[1:] if at is None else (len(at),)
            parts[name] = Part(kind, shape, at, measured[name])
        holes = look.has_holes or (columns is not None and columns.unseen == "missing")
        why = why if columns is None else ""
        schema = cls(parts, rows.shape[1:], names, why, columns, (), holes)
        return schema if holes else replace(schema, dependent=schema._find_dependent(rows))

    def measured_on(self, rows: Any, exposure: Float[np.ndarray, " n"] | None = None) -> Schema:
        """Return this schema with the scaling of some of the rows: those to train on.

        Parameters
        ----------
        rows : ndarray of shape (n, ...)
            Numbers.
        exposure : ndarray of shape (n,), optional
            Exposure of each row: the scaling is that of counts per exposure.
        """
        known = {name: (part.kind, part.columns) for name, part in self.parts.items()}
        where = {name: part.columns for name, part in self.parts.items()}
        units = dict.fromkeys(self.counts, exposure)
        look = _look(rows, where, units)
        measured = _measure(rows, known, look.summaries, self.names, units)
        parts = {name: replace(part, measured=measured[name]) for name, part in self.parts.items()}
        return replace(self, parts=parts)

    @property
    def counts(self) -> tuple[str, ...]:
        """The parts that are counts."""
        return tuple(name for name, part in self.parts.items() if isinstance(part.kind, Count))

    def total(self, rows: np.ndarray) -> Float[np.ndarray, " n"]:
        """Return the sum of the counts of each row; NaN where some are missing."""
        total = np.zeros(rows.shape[0])
        for name in self.counts:
            values = self.parts[name].values(rows)
            axes = tuple(range(1, values.ndim))
            total += np.asarray(values.sum(axis=axes[0] if len(axes) == 1 else axes))
        return total

    def _find_dependent(self, rows: Any) -> tuple[int, ...]:
        found: list[int] = []
        if is_sparse(rows):  # whose columns hardly determine each other
            return ()
        if is_stored(rows):
            _, rows = rows.some(_MANY)
        for part in self.parts.values():
            within = part.kind.dependent(part.values(rows), part.measured.resolution)
            found += within if part.columns is None else [part.columns[j] for j in within]
        return tuple(sorted(found))

    @property
    def is_plain(self) -> bool:
        """Whether cases are the plain array that the rows are."""
        return self._is_one and not self.holes

    @property
    def _is_one(self) -> bool:
        return len(self.parts) == 1 and self.part.columns is None

    @property
    def part(self) -> Part:
        """The only part.

        Raises
        ------
        TypeError
            When there are several.
        """
        if len(self.parts) > 1:
            raise TypeError(
                "Expected data of one likelihood; got a table whose columns have several: "
                f"{some(self.parts)}."
            )
        return next(iter(self.parts.values()))

    @functools.cached_property
    def block(self) -> Block | CaseBlock:
        """What the model is built from."""
        blocks = {
            name: Block(part.kind, part.shape, part.measured) for name, part in self.parts.items()
        }
        return blocks[next(iter(blocks))] if self.is_plain else CaseBlock(blocks, self.holes)

    def working(self) -> Working | None:
        """Return the linear approximation of the likelihood, from which training starts."""
        each = [part.kind.likelihood.working(part.measured) for part in self.parts.values()]
        known = [working for working in each if working is not None]
        return Working.concatenate(known) if len(known) == len(each) else None

    @property
    def n_rows(self) -> int:
        """Number of training cases, or of the values of the column that has the most."""
        return max(int(np.max(part.measured.n_rows)) for part in self.parts.values())

    @property
    def kind(self) -> Kind:
        """The kind of the values, where there is only one."""
        return self.part.kind

    @property
    def measured(self) -> Measured:
        """What was measured, where all values are of one kind."""
        return self.part.measured

    @property
    def white(self) -> float:
        """The value that stands for "one" in binary data."""
        return self.kind.constants(self.measured).white

    @property
    def likelihood(self) -> Likelihood | Columns:
        """The family p(x|z); of a table, that of each column."""
        return self.kind.likelihood if self.columns is None else self.columns

    def encode(self, rows: np.ndarray) -> PyTree[np.ndarray]:
        """Return cases as the model takes them, after a check of their values.

        Of an array without holes that is the array.

        Raises
        ------
        ValueError
            For a value outside the likelihood's support, by column and row.
        """
        blocks, observed = {}, {}
        for name, part in self.parts.items():
            values = part.values(rows)
            if self.holes:
                values, observed[name] = _filled(part.kind, values)
            _check(part.kind, values, part.names(self.names))
            blocks[name] = values.astype(part.kind.dtype, copy=False) if self.columns else values
        if self.is_plain:
            return next(iter(blocks.values()))
        return Case(blocks, observed if self.holes else None)

    def encode_some(self, rows: np.ndarray) -> tuple[PyTree[np.ndarray], PyTree[np.ndarray] | None]:
        """Return cases of which some values may be missing, for a model that may know of none.

        Returns
        -------
        cases : PyTree of ndarray
            As `encode` gives them, with any values in the place of what is missing.
        observed : PyTree of ndarray, or None
            Which values are there; None: the cases say it.
        """
        if self.holes:
            return self.encode(rows), None
        case = replace(self, holes=True).encode(rows)
        if self.is_plain:
            name = next(iter(self.parts))
            return case.blocks[name], case.observed[name]
        return case._replace(observed=None), case.observed

    def row_of(self, given: Mapping[Any, Any]) -> np.ndarray:
        """Return one row of which only some values are there, by column.

        Raises
        ------
        ValueError, TypeError
            For unknown columns, or values of another kind.
        """
        if not isinstance(given, Mapping) or not given:
            raise TypeError(
                "Expected a dictionary of columns and their values for `given`; got "
                f"{type(given).__name__}."
            )
        if self.columns is not None:
            return self.columns.row_of(given)
        row = np.full(math.prod(self.shape), np.nan, np.float32)
        for j, value in given.items():
            if not isinstance(j, int | np.integer) or not 0 <= j < len(row):
                raise ValueError(
                    f"Expected numbers of columns from 0 to {len(row) - 1} in `given`; got {j!r}."
                )
            row[j] = value
        return row.reshape(1, *self.shape)

    def decode(self, cases: ArrayLike | Case, index: Any = None) -> Any:
        """Return what the model gives in the form of the data: an array, or the table's own.

        Parameters
        ----------
        cases : array-like or Case
            Values, rows leading.
        index : pandas.Index, optional
            Index of the rows, for pandas.
        """
        return self.written(self.values(cases), index)

    def written(self, values: np.ndarray, index: Any = None) -> Any:
        """Return rows of numbers in the form of the data."""
        return values if self.columns is None else self.columns.write(values, index)

    def fill(self, X: Any, cases: Case) -> Any:
        """Return X with what the model gives in the place of what is missing.

        Parameters
        ----------
        X : array-like or table
            As the user has it.
        cases : Case
            Complete rows.
        """
        values = self.values(cases)
        if self.columns is not None:
            return self.columns.fill(X, values)
        known = self.part.measured.n_rows > np.zeros(math.prod(self.shape), int)
        values = np.where(known.reshape(self.shape), values, np.nan).reshape(X.shape)
        return np.where(np.isnan(X), values, X)

    def values(self, cases: ArrayLike | Case) -> np.ndarray:
        """Return what the model gives as rows of numbers."""
        blocks = cases.blocks if isinstance(cases, Case) else {next(iter(self.parts)): cases}
        if self._is_one:
            return np.reshape(next(iter(blocks.values())), (-1, *self.shape))
        rows = np.zeros((n_cases(blocks), *self.shape), np.float32)
        for name, part in self.parts.items():
            rows[:, part.columns] = blocks[name]
        return rows

    def typical(self) -> np.ndarray:
        """Return a row from the middle of the training data."""
        blocks = {
            name: np.broadcast_to(part.kind.typical(part.measured), (1, math.prod(part.shape)))
            for name, part in self.parts.items()
        }
        return self.values(Case(blocks))[0]

    @property
    def remarks(self) -> list[str]:
        """What is odd about the data, a phrase each."""
        n, size = self.n_rows, math.prod(self.shape)
        remarks = []
        if n < size:
            remarks.append(f"fewer cases ({n}) than values in each ({size})")
        if self.holes:
            remarks.append("some values are missing")
        constant = [
            int(j) if part.columns is None else part.columns[int(j)]
            for part in self.parts.values()
            for j in np.flatnonzero(part.measured.constant)
        ]
        if self.columns is not None:
            constant = sorted([*constant, *self.columns.left_out])
        for columns, one, several in (
            (constant, "does not vary", "do not vary"),
            (
                self.dependent,
                "is a linear function of columns before it",
                "are linear functions of columns before them",
            ),
        ):
            if len(columns):
                known = columns if self.names is None else [self.names[j] for j in columns]
                noun, said = ("column", one) if len(columns) == 1 else ("columns", several)
                remarks.append(f"{noun} {some(known)} {said}")
        return remarks

    @property
    def likelihood_in_short(self) -> str:
        """The likelihood in a few words."""
        return str(self.likelihood) if self.columns is None else self.columns.in_short()

    def describe(self) -> str:
        """Say in a line what the data are, what was chosen for them, and what is odd about them."""
        said = f"{self.n_rows} cases of shape {self.shape}: {self.likelihood_in_short}"
        if self.why:
            said += f" ({self.why})"
        return "; ".join([said, *self.remarks])

    @classmethod
    def from_json(
        cls,
        described: dict[str, Any],
        likelihoods: Sequence[Likelihood],
        measured: Sequence[Measured],
    ) -> Schema:
        """Undo `to_json`, with what is saved elsewhere: one of each for each part.

        Raises
        ------
        ValueError, TypeError, KeyError
            For what `to_json` does not write.
        """
        _check_described(described)
        parts = {}
        for each, likelihood, numbers in zip(
            described["parts"], likelihoods, measured, strict=True
        ):
            settings = {name: _hashable(value) for name, value in each["settings"].items()}
            kind = KINDS[each["kind"]](likelihood, each["dtype"], **settings)
            where = _hashable(each["columns"])
            shape = tuple(each["shape"])
            if len(settings.get("n_levels", ())) not in (0, math.prod(shape)):
                raise ValueError(f"Expected {math.prod(shape)} numbers of levels.")
            parts[each["name"]] = Part(kind, shape, where, numbers)
        names, columns = described["names"], described["columns"]
        if columns is not None:
            chosen = {
                j: part.kind.likelihood
                for part in parts.values()
                for j in part.columns or range(len(names))
            }
            columns = Columns.from_json(columns, chosen)
        return cls(
            parts,
            tuple(described["shape"]),
            None if names is None else tuple(names),
            described["why"],
            columns,
            tuple(described["dependent"]),
            described["holes"],
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a file's header says of the data; `measured` is saved as arrays."""
        return {
            "parts": [
                {
                    "name": name,
                    "kind": part.kind.name,
                    "settings": part.kind.settings,
                    "dtype": part.kind.dtype,
                    "shape": part.shape,
                    "columns": part.columns,
                }
                for name, part in self.parts.items()
            ],
            "shape": self.shape,
            "names": self.names,
            "why": self.why,
            "columns": None if self.columns is None else self.columns.to_json(),
            "dependent": self.dependent,
            "holes": self.holes,
        }


def _check_described(described: dict[str, Any]) -> None:
    """Raise ValueError where what `Schema.to_json` wrote contradicts itself."""
    whole = _whole(described["shape"])
    size, taken = math.prod(whole), set[int]()
    for part in described["parts"]:
        columns, shape = part["columns"], _whole(part["shape"])
        own = {*_whole(columns or [])}
        fits = shape == (whole if columns is None else [len(own)]) and not own & taken
        if not fits or max(own, default=-1) >= size or (columns is None and taken):
            raise ValueError(
                f"Expected columns of {size} in a part of shape {shape}; got {columns!s:.80}."
            )
        taken |= own
    if max(_whole(described["dependent"]), default=-1) >= size:
        raise ValueError(f"Expected columns of {size} for `dependent`.")
    names, columns = described["names"], described["columns"]
    if names is not None and not (len(names) == size and all(isinstance(n, str) for n in names)):
        raise ValueError(f"Expected a name for each of {size} columns; got {names!s:.80}.")
    called = None if columns is None else [each["type"]["name"] for each in columns["choices"]]
    if called not in (None, names):
        raise ValueError(
            f"Expected the names {names!s:.80} of a table's columns; got {called!s:.80}."
        )
    if not isinstance(described["why"], str) or not isinstance(described["holes"], bool):
        raise TypeError("Expected a text for `why`, and a truth value for `holes`.")


def _whole(values: Any) -> list[int]:
    """Return a list of whole numbers from 0 up, or raise TypeError."""
    if not isinstance(values, list) or not all(type(each) is int and each >= 0 for each in values):
        raise TypeError(f"Expected a list of whole numbers; got {values!s:.80}.")
    return values


Where = tuple[int, ...] | None  # columns among all; None: they are all of them
Units = Mapping[
    str, Float[np.ndarray, " n"] | None
]  # exposure of each row, of parts that are counts
_NO_UNITS: Units = {}


class _Look(NamedTuple):
    """What one pass over all rows has shown: summaries by part, and which rows are empty."""

    summaries: dict[str, Summary]
    has_holes: bool
    empty_rows: list[int]


def _look(rows: Any, parts: Mapping[str, Where], exposure: Units = _NO_UNITS) -> _Look:
    """Summarise the columns of each part in one pass."""
    found: dict[str, Summary] = {}
    has_holes, empty = False, []
    for first_row, piece in pieces(rows):
        holes = _has_holes(piece)
        has_holes = has_holes or holes
        if holes:
            nothing = np.isnan(piece).reshape(len(piece), -1).all(axis=1)
            empty += (first_row + np.flatnonzero(nothing)).tolist()
        for name, where in parts.items():
            own = _take(piece, where), holes, None, exposure.get(name), first_row
            _add(found, name, _summarise(*own))
    return _Look(found, has_holes, empty)


def _measure(
    rows: Any,
    parts: Mapping[str, tuple[Kind, Where]],
    summaries: Mapping[str, Summary],
    names: Names,
    exposure: Units = _NO_UNITS,
    *,
    check: bool = False,
) -> dict[str, Measured]:
    """Take from some rows what the model needs of each part, after a check of the values."""
    seen: dict[str, Summary] = {}
    views = {name: each for name, each in parts.items() if type(each[0]).view is not Kind.view}
    for first_row, piece in pieces(rows) if check or views else ():
        holes = _has_holes(piece)
        if check:
            for kind, where in parts.values():
                values = _take(piece, where)
                values = _filled(kind, values)[0] if holes else values
                _check(kind, values, _names(names, where), first_row)
        for name, (kind, where) in views.items():
            own = _take(piece, where), holes, kind, exposure.get(name), first_row
            _add(seen, name, _summarise(*own))
    return {
        name: kind.measure(summaries[name], seen.get(name, summaries[name]), _names(names, where))
        for name, (kind, where) in parts.items()
    }


def _add(found: dict[str, Summary], name: str, summary: Summary) -> None:
    found[name] = merge(found[name], summary) if name in found else summary


def _check(kind: Kind, values: np.ndarray, names: Names, first_row: int = 0) -> None:
    """Raise ValueError for a value outside the support; see `Kind.check`."""
    if not is_sparse(values):
        kind.check(values, names, first_row)
        return
    for i, chunk in enumerate(chunks_of(values)):
        kind.check(dense(chunk), names, i * CHUNK)


def _take(rows: np.ndarray, columns: tuple[int, ...] | None) -> np.ndarray:
    return rows if columns is None else rows[:, columns]


def _names(names: Names, columns: tuple[int, ...] | None) -> Names:
    return names if names is None or columns is None else [names[j] for j in columns]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _has_holes(rows: np.ndarray) -> bool:
    return not is_sparse(rows) and rows.dtype.kind == "f" and bool(np.isnan(rows).any())


def _summarise(
    rows: np.ndarray,
    holes: bool,
    kind: Kind | None = None,
    exposure: np.ndarray | None = None,
    first_row: int = 0,
) -> Summary:
    """Summarise rows, per exposure if they have one, or what a kind's view makes of them."""
    if holes:
        rows = rows if exposure is None else per_exposure(rows, exposure, ())
        return summarise_observed(rows, (lambda chunk: chunk) if kind is None else kind.view)
    chunks = chunks_of(rows)
    if exposure is not None:
        chunks = _per_exposure(chunks, exposure)
    if kind is not None:
        chunks = (viewed(chunk, kind.view) for chunk in chunks)
    return summarise_all(chunks, first_row)


def _per_exposure(chunks: Iterator[Any], exposure: np.ndarray) -> Iterator[Any]:
    start = 0
    for chunk in chunks:
        end = start + chunk.shape[0]
        yield per_exposure(chunk, exposure[start:end], ())
        start = end


def _filled(kind: Kind, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with a value of the kind in each hole, and which values are there."""
    observed = ~np.isnan(rows)
    return np.where(observed, rows, np.asarray(kind.filler, rows.dtype)), observed


def _check_observed(look: _Look, parts: Mapping[str, Where], names: Names) -> None:
    """Warn of columns, and of rows, without a single value; raise ValueError if there is none."""
    if not look.has_holes:
        return
    empty: list[int] = []
    for name, where in parts.items():
        n = look.summaries[name].n
        size = len(look.summaries[name].mean)
        none = np.flatnonzero(np.broadcast_to(n, size) == 0)
        empty += (none if where is None else np.asarray(where)[none]).tolist()
    if all(not np.any(each.n) for each in look.summaries.values()):
        raise ValueError("Expected values for `X`; got none: every cell is missing (NaN).")
    columns = [j if names is None else names[j] for j in sorted(empty)]
    for what, found, meaning in (
        ("columns", columns, "nothing is learned of them"),
        ("rows", look.empty_rows, "they say nothing"),
    ):
        if found:
            warnings.warn(f"No value in {what} {some(found)} of `X`: {meaning}.", stacklevel=3)
