"""What is known of the data: learned once, saved with the model, and true of every later case."""

from __future__ import annotations

import functools
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
from aevb.models.kinds.summary import Summary, chunks_of, summarise_all


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
            Finite numbers, in the type that training uses.
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
        summary = summarise_all(chunks_of(rows))
        kind, why = make_kind(likelihood, summary, rows.dtype)
        kind.check(rows, names)
        for remark in kind.remarks(summary, names):
            warnings.warn(remark, stacklevel=2)
        measured = _measure(kind, rows, summary, names)
        dependent = kind.dependent(rows, measured.resolution)
        return cls(kind, rows.shape[1:], names, measured, why, dependent)

    def measured_on(self, rows: np.ndarray) -> Schema:
        """Return this schema with the scaling of some of the rows: those to train on."""
        summary = summarise_all(chunks_of(rows))
        return replace(self, measured=_measure(self.kind, rows, summary, self.names))

    @functools.cached_property
    def block(self) -> Block:
        """What the model is built from."""
        return Block(self.kind, self.shape, self.measured)

    @property
    def dtype(self) -> np.dtype:
        """Type of the training data."""
        return np.dtype(self.kind.dtype)

    @property
    def white(self) -> float:
        """The value that stands for "one" in binary data."""
        return self.block.constants.white

    @property
    def likelihood(self) -> Likelihood:
        """The family p(x|z)."""
        return self.kind.likelihood

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Return cases as the model takes them, after a check of their values.

        An array without holes stays the plain array that it is.

        Raises
        ------
        ValueError
            For a value outside the likelihood's support, by column and row.
        """
        self.kind.check(rows, self.names)
        return rows

    def decode(self, cases: ArrayLike) -> np.ndarray:
        """Return what the model gives in the shape of the data."""
        return np.reshape(cases, (-1, *self.shape))

    @property
    def remarks(self) -> list[str]:
        """What is odd about the data, a phrase each."""
        n, size = self.measured.n_rows, self.block.size
        remarks = []
        if n < size:
            remarks.append(f"fewer cases ({n}) than values in each ({size})")
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
        said = f"{self.measured.n_rows} cases of shape {self.shape}: {self.likelihood}"
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
        }


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _measure(kind: Kind, rows: np.ndarray, summary: Summary, names: Names) -> Measured:
    """Take from some rows what the model needs of them."""
    has_view = type(kind).view is not Kind.view
    seen = summarise_all(map(kind.view, chunks_of(rows))) if has_view else summary
    return kind.measure(summary, seen, names)
