"""What a model is conditioned on, class labels or covariates, as its networks read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from aevb.columns import Columns
from aevb.data import tables
from aevb.data.arrays import narrow
from aevb.errors import some
from aevb.evaluation.rows import map_rows
from aevb.schema import Schema

_LABELS = "condition"  # the name of the column that labels are
_BLOCK = 2048  # rows at a time


@dataclass(frozen=True, eq=False)
class Condition:
    """Columns beside the data, which encoder and decoder read.

    Attributes
    ----------
    schema : Schema
        What was learned of them.
    is_labels : bool
        Whether they are one column of labels, without a name.

    Examples
    --------
    >>> condition, context = Condition.learn(["cat", "dog", "cat"], 3)
    >>> condition.size, context.shape
    (2, (3, 2))
    """

    schema: Schema
    is_labels: bool = False

    @classmethod
    def learn(cls, C: Any, n: int) -> tuple[Condition, Float[np.ndarray, "n k"]]:
        """Learn the columns of a condition, and read them.

        Parameters
        ----------
        C : array-like of shape (n,) or (n, k), table, or dict of columns
            Labels or covariates. Whole numbers in one dimension are labels.
        n : int
            Number of cases.

        Returns
        -------
        condition : Condition
            What was learned.
        context : ndarray of shape (n, k)
            What the networks read, float32.

        Raises
        ------
        ValueError, TypeError
            For another number of rows, missing values, or what is neither labels nor covariates.
        """
        with _told_as_condition():
            is_labels = _is_labels(C)
            if is_labels or isinstance(C, Mapping):
                columns, rows = _learn_named({_LABELS: C} if is_labels else C, is_labels)
            elif tables.is_table(C):
                columns, rows = Columns.learn(C)
            else:
                columns, rows = None, _as_numbers(C)
            _check_rows(rows, n)
            schema = Schema.fit(rows, columns=columns)
        condition = cls(schema, is_labels)
        return condition, condition._context(rows)

    def read(self, C: Any, n: int | None = None) -> Float[np.ndarray, "n k"]:
        """Read the condition of later cases.

        Parameters
        ----------
        C : array-like, table, dict, or single label
            As in the fit. A single one, or one row, is that of all cases.
        n : int, optional
            Number of cases; None: as many as there are conditions.
        """
        rows = self.rows(C, n)
        with _told_as_condition():
            return self._context(rows)

    def rows(self, C: Any, n: int | None = None) -> Float[np.ndarray, "n columns"]:
        """Return the columns of a condition as numbers, checked; arguments as in `read`."""
        if C is None:
            raise ValueError(
                "Expected `condition`, as in the fit of this model; got None. A single value is "
                "that of all cases."
            )
        with _told_as_condition():
            rows = self._rows(C)
            if len(rows) == 1 and n is not None:
                rows = np.repeat(rows, n, axis=0)
            _check_rows(rows, n)
            return rows

    def _rows(self, C: Any) -> np.ndarray:
        columns = self.schema.columns
        if self.is_labels:
            C = {_LABELS: np.atleast_1d(np.asarray(C, object if isinstance(C, str) else None))}
        if columns is None:
            rows = _as_numbers(C)
            if rows.shape[1:] != self.schema.shape:
                raise ValueError(
                    f"Expected {self.schema.shape[0]} columns, as in the fit; got {rows.shape[1]}."
                )
            return rows
        if isinstance(C, Mapping):
            lacking = [name for name in columns.names if name not in C]
            if lacking:
                raise ValueError(f"Expected the columns of the fit; missing are {some(lacking)}.")
            each = [
                tables.column_of(choice.type.name, C[choice.type.name], choice.type)
                for choice in columns.choices
            ]
            return columns.rows_of((column.values for column in each), len(each[0].values))
        return columns.read(C)

    def _context(self, rows: np.ndarray) -> Float[np.ndarray, "n k"]:
        return map_rows(_read, self.inputs, self.schema.encode(rows), _BLOCK)

    def to_json(self) -> dict[str, Any]:
        """Return what a file's header says of the condition."""
        return {
            "schema": self.schema.to_json(),
            "likelihoods": [part.kind.likelihood for part in self.schema.parts.values()],
            "is_labels": self.is_labels,
        }

    @property
    def inputs(self) -> Callable[..., Array]:
        """The map from an encoded condition to the networks' input."""
        return self.schema.block.constants.inputs

    @property
    def size(self) -> int:
        """How many numbers the networks read of it."""
        return int(np.prod(self.schema.block.input_shape))


@contextmanager
def _told_as_condition() -> Iterator[None]:
    """Say of errors that they are about the condition."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"In `condition`: {error}") from error


def read_condition(condition: Condition | None, C: Any, n: int | None) -> np.ndarray | None:
    """Read the condition of n cases, of a model that may have none.

    Raises
    ------
    ValueError
        For a condition where there is none, or none where there is one.
    """
    if condition is not None:
        return condition.read(C, n)
    if C is not None:
        raise ValueError(
            "Expected `condition` left at None, as the model was fitted without one; got "
            f"{type(C).__name__}."
        )
    return None


def _read(inputs: Callable[..., Array], case: PyTree) -> Float[Array, " k"]:
    return inputs(case).ravel()


def _is_labels(C: Any) -> bool:
    return not isinstance(C, Mapping) and not tables.is_table(C) and np.ndim(C) == 1


def _learn_named(C: Mapping[str, Any], is_labels: bool) -> tuple[Columns, np.ndarray]:
    """Learn columns that are given by name; whole numbers without one are labels."""
    each = [tables.column_of(str(name), values) for name, values in C.items()]
    lengths = {len(column.values) for column in each}
    if len(lengths) != 1:
        raise ValueError(f"Expected columns of one length; got {some(sorted(lengths))}.")
    labels = is_labels and each[0].type.kind == tables.INTEGER
    told = {_LABELS: "categorical"} if labels else "auto"
    return Columns.choose(each, lengths.pop(), len(each), "dict", told)


def _as_numbers(C: Any) -> np.ndarray:
    rows = np.asarray(C)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf":
        raise TypeError(
            "Expected labels of shape (n,), numbers of shape (n, k), or a table; got "
            f"{type(C).__name__} of shape {rows.shape}, of type {rows.dtype}."
        )
    return narrow(rows).astype(np.float32)


def _check_rows(rows: np.ndarray, n: int | None) -> None:
    if n is not None and len(rows) != n:
        raise ValueError(f"Expected a row for each of the {n} cases; got {len(rows)}.")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Expected values in all cells; got none, or infinity, in rows {some(bad)}. Fill them, "
            "or make them a category of their own."
        )
