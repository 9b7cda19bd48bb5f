"""What is known of the data: learned once, saved with the model, and true of every later case."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aevb.errors import some
from aevb.models.kinds import (
    KINDS,
    Block,
    Kind,
    Likelihood,
    Measured,
    make_kind,
)
from aevb.models.kinds.base import Names
from aevb.models.kinds.case import Case, CaseBlock
from aevb.models.kinds.summary import Summary, chunks_of, summarise_all, summarise_observed
from aevb.models.linear import Working

_ONE = "data"  # the name of the block, where cases have a single one


@dataclass(frozen=True, eq=False)
class Schema:
    """Kind, shape, type, names and scaling of the data that a model is fitted to.

    Attributes
    ----------
    kind : Kind
        The kind of the values, with the likelihood that they have.
    shape : tuple of int
        Shape of one case.
    names : tuple of str, or None
        Names of the columns.
    measured : Measured
        What the model needs to know of the training data.
    why : str
        Why the likelihood was chosen; empty if the user named it.
    holes : bool
        Whether values may be missing, since some were in the training data.
    dependent : tuple of int
        Columns that are linear functions of those before them, to their last digit.

    Examples
    --------
    >>> import numpy as np
    >>> schema = Schema.fit(np.array([[0.5, 2.0], [1.5, 2.0], [2.5, 2.0]]))
    >>> schema.likelihood, schema.remarks
    (Gaussian(scale='learned'), ['column [1] does not vary'])
    """

    kind: Kind
    shape: tuple[int, ...]
    names: tuple[str, ...] | None
    measured: Measured
    why: str = ""
    dependent: tuple[int, ...] = ()
    holes: bool = False

    @classmethod
    def fit(
        cls,
        rows: np.ndarray,
        likelihood: str | Likelihood = "auto",
        names: Any = None,
    ) -> Schema:
        """Learn the schema of some rows, in one pass over them.

        Parameters
        ----------
        rows : ndarray of shape (n, ...)
            Numbers in the type that training uses, finite or (not observed) NaN.
        likelihood : str or Likelihood
            The family p(x|z); ``"auto"``: see `aevb.models.kinds.choose_likelihood`.
        names : sequence of str, optional
            Names of the columns.

        Raises
        ------
        ValueError, TypeError
            For an unknown likelihood, or values outside its support.
        """
        names = None if names is None else tuple(map(str, names))
        holes = _has_holes(rows)
        if holes and np.isnan(rows).all():
            raise ValueError("Expected values for `X`; got none: every cell is missing (NaN).")
        summary = _summarise(rows, holes)
        kind, why = make_kind(likelihood, summary, rows.dtype)
        kind.check(_filled(kind, rows)[0] if holes else rows, names)
        for remark in kind.remarks(summary, names):
            warnings.warn(remark, stacklevel=2)
        if holes:
            _warn_of_nothing(rows, names)
        measured = _measure(kind, rows, summary, holes, names)
        dependent = () if holes else kind.dependent(rows, measured.resolution)
        return cls(kind, rows.shape[1:], names, measured, why, dependent, holes)

    def measured_on(self, rows: np.ndarray) -> Schema:
        """Return this schema with the scaling of some of the rows: those to train on."""
        holes = _has_holes(rows)
        summary = _summarise(rows, holes)
        return replace(self, measured=_measure(self.kind, rows, summary, holes, self.names))

    @functools.cached_property
    def block(self) -> Block | CaseBlock:
        """What the model is built from."""
        block = Block(self.kind, self.shape, self.measured)
        return CaseBlock({_ONE: block}, holes=True) if self.holes else block

    def working(self) -> Working | None:
        """Return the linear approximation of the likelihood, from which training starts."""
        return self.likelihood.working(self.measured)

    @property
    def n_rows(self) -> int:
        """Number of training cases, or of the values of the column that has the most."""
        return int(np.max(self.measured.n_rows))

    @property
    def known(self) -> np.ndarray:
        """Whether each entry had a value in the training data, shape (size,)."""
        size = math.prod(self.shape)
        return np.broadcast_to(np.reshape(self.measured.n_rows, -1) > 0, size)

    @property
    def dtype(self) -> np.dtype:
        """Type of the training data."""
        return np.dtype(self.kind.dtype)

    @property
    def white(self) -> float:
        """The value that stands for "one" in binary data."""
        return self.kind.constants(self.measured).white

    @property
    def likelihood(self) -> Likelihood:
        """The family p(x|z)."""
        return self.kind.likelihood

    def encode(self, rows: np.ndarray) -> np.ndarray | Case:
        """Return cases as the model takes them, after a check of their values.

        Of data without holes that is the plain array that they are.

        Raises
        ------
        ValueError
            For a value outside the likelihood's support, by column and row.
        """
        if not self.holes:
            self.kind.check(rows, self.names)
            return rows
        filled, observed = _filled(self.kind, rows)
        self.kind.check(filled, self.names)
        return Case({_ONE: filled}, {_ONE: observed})

    def decode(self, cases: ArrayLike | Case) -> np.ndarray:
        """Return what the model gives in the shape of the data."""
        values = cases.blocks[_ONE] if isinstance(cases, Case) else cases
        return np.reshape(values, (-1, *self.shape))

    @property
    def remarks(self) -> list[str]:
        """What is odd about the data, a phrase each."""
        n, size = self.n_rows, math.prod(self.shape)
        remarks = []
        if n < size:
            remarks.append(f"fewer cases ({n}) than values in each ({size})")
        if self.holes:
            remarks.append("some values are missing")
        for columns, one, several in (
            (np.flatnonzero(self.measured.constant), "does not vary", "do not vary"),
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

    def describe(self) -> str:
        """Say in a line what the data are, what was chosen for them, and what is odd about them."""
        said = f"{self.n_rows} cases of shape {self.shape}: {self.likelihood}"
        if self.why:
            said += f" ({self.why})"
        return "; ".join([said, *self.remarks])

    @classmethod
    def from_json(
        cls, described: dict[str, Any], likelihood: Likelihood, measured: Measured
    ) -> Schema:
        """Undo `to_json`, with what is saved elsewhere."""
        settings = {name: _hashable(value) for name, value in described["settings"].items()}
        kind = KINDS[described["kind"]](likelihood, described["dtype"], **settings)
        names = described["names"]
        return cls(
            kind,
            tuple(described["shape"]),
            None if names is None else tuple(names),
            measured,
            described["why"],
            tuple(described["dependent"]),
            described["holes"],
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a file's header says of the data; `measured` is saved as arrays."""
        return {
            "kind": self.kind.name,
            "settings": self.kind.settings,
            "dtype": self.kind.dtype,
            "shape": self.shape,
            "names": self.names,
            "why": self.why,
            "dependent": self.dependent,
            "holes": self.holes,
        }


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _has_holes(rows: np.ndarray) -> bool:
    return rows.dtype.kind == "f" and bool(np.isnan(rows).any())


def _summarise(rows: np.ndarray, holes: bool, kind: Kind | None = None) -> Summary:
    """Summarise rows, or what a kind's view makes of them."""
    view = (lambda chunk: chunk) if kind is None else kind.view
    if holes:
        return summarise_observed(rows, view)
    return summarise_all(map(view, chunks_of(rows)))


def _measure(kind: Kind, rows: np.ndarray, summary: Summary, holes: bool, names: Names) -> Measured:
    """Take from some rows what the model needs of them."""
    has_view = type(kind).view is not Kind.view
    seen = _summarise(rows, holes, kind) if has_view else summary
    return kind.measure(summary, seen, names)


def _filled(kind: Kind, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with a value of the kind in each hole, and which values are there."""
    observed = ~np.isnan(rows)
    return np.where(observed, rows, np.asarray(kind.filler, rows.dtype)), observed


def _warn_of_nothing(rows: np.ndarray, names: Names) -> None:
    """Warn of columns, and of rows, without a single value."""
    observed = ~np.isnan(rows.reshape(len(rows), -1))
    for axis, what, meaning in (
        (0, "columns", "nothing is learned of them"),
        (1, "rows", "they say nothing"),
    ):
        empty = np.flatnonzero(~observed.any(axis=axis))
        if len(empty):
            known = empty if names is None or axis else [names[int(j)] for j in empty]
            warnings.warn(f"No value in {what} {some(known)} of `X`: {meaning}.", stacklevel=3)
