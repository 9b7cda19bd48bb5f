"""Rows of numbers in a file's function: how they become cases of the model, and how cases return.

`Schema.encode` and `Columns.read` do this outside of a program, and refuse what does not fit. Here
it is part of the program, which can only mark a row whose results must not be believed.
"""

from __future__ import annotations

import functools
import itertools
import math
import numbers
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, PyTree

from aevb.columns import Choice
from aevb.models.kinds.case import Case
from aevb.schema import Part, Schema


class Column(NamedTuple):
    """A column of a table, as those who fill it in have to know it.

    Attributes
    ----------
    name : str
        Its name.
    categories : tuple of str
        What the codes 0, 1, ... stand for; empty: its values are numbers.
    origin : float
        What the rows have subtracted from it.
    levels : tuple of float
        The only values that it may have, if these are numbers.
    """

    name: str
    categories: tuple[str, ...] = ()
    origin: float = 0.0
    levels: tuple[float, ...] = ()

    def described(self) -> dict[str, Any]:
        """Return what is to be known of it, for JSON."""
        return {name: value for name, value in self._asdict().items() if value}


class Port(NamedTuple):
    """An input or an output of a function of a batch.

    Attributes
    ----------
    name : str
        Its name.
    shape : tuple of int
        Of one row; the batch has one more axis in front.
    dtype : str
        Its type, by NumPy's name.
    columns : tuple of Column
        What the entries of a row are, if they are columns of a table.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of numbers of the data that a schema describes, one at a time.

    Of a table they hold the columns that the model has: those that do not vary are left out.
    """

    schema: Schema

    def port(self, name: str) -> Port:
        """Return the input, or the output, that takes these rows."""
        if self.columns:
            return Port(name, (len(self.columns),), columns=self.columns)
        is_bytes = self.schema.is_plain and self.schema.part.kind.dtype == "uint8"
        return Port(name, self.schema.shape, "uint8" if is_bytes else "float32")

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a table that are not left out; of an array there are none."""
        return tuple(_column(choice) for choice in self._choices)

    @property
    def _choices(self) -> list[Choice]:
        columns = self.schema.columns
        known = () if columns is None else columns.choices
        return [choice for choice in known if choice.likelihood is not None]

    def case(self, row: Array) -> tuple[PyTree[Array], Bool[Array, ""]]:
        """Return the case of a row, and whether the model has an answer for it.

        It has none where a value is missing, unless it was fitted to data with holes. A value that
        is not one of a column's levels is missing.
        """
        codes = self._codes(row)
        blocks, observed = {}, {}
        for name, part in self.schema.parts.items():
            values = self._of(part, codes)
            if jnp.issubdtype(values.dtype, jnp.floating):
                seen = ~jnp.isnan(values)
                values = jnp.where(seen, values, part.kind.filler)
            else:
                seen = jnp.ones(values.shape, bool)
            blocks[name] = values.astype(part.kind.dtype) if self.columns else values
            observed[name] = seen
        if self.schema.holes:
            return Case(blocks, observed), jnp.asarray(True)
        known = functools.reduce(operator.and_, map(jnp.all, observed.values()))
        return next(iter(blocks.values())) if self.schema.is_plain else Case(blocks), known

    def total(self, row: Array) -> Float[Array, ""]:
        """Return the sum of the counts of a row; NaN where some are missing."""
        codes = self._codes(row)
        parts = [self.schema.parts[name] for name in self.schema.counts]
        return sum((jnp.sum(self._of(part, codes)) for part in parts), jnp.zeros(()))

    def row(self, case: PyTree[Array]) -> Array:
        """Return the row of a case that the model has made."""
        parts = self.schema.parts
        blocks = case.blocks if isinstance(case, Case) else dict.fromkeys(parts, case)
        flat = [jnp.ravel(blocks[name]).astype(jnp.float32) for name in parts]
        if not self.columns:
            return jnp.reshape(flat[0], self.schema.shape)
        places = [place for part in parts.values() for place in self._places(part)]
        codes = _picked(jnp.concatenate(flat), np.argsort(places).tolist())
        return self._values(codes)

    def typical(self) -> Array:
        """Return a row from the middle of the training data."""
        blocks = {}
        for name, part in self.schema.parts.items():
            value = part.kind.typical(part.measured)
            size = math.prod(part.shape)
            blocks[name] = jnp.broadcast_to(jnp.asarray(value, jnp.float32), (size,))
        return self.row(Case(blocks))

    def _of(self, part: Part, codes: Array) -> Array:
        return _picked(codes, self._places(part)) if self.columns else codes

    def _places(self, part: Part) -> list[int]:
        """Return where the columns of a part stand in a row."""
        left_out = () if self.schema.columns is None else self.schema.columns.left_out
        kept = [j for j in range(self.schema.shape[0]) if j not in left_out]
        return [kept.index(j) for j in (kept if part.columns is None else part.columns)]

    def _codes(self, row: Array) -> Array:
        """Return numbers and codes as `Columns.read` does; NaN for what is not a level."""
        if not any(column.categories or column.levels for column in self.columns):
            return row
        return jnp.concatenate([_code(row[j : j + 1], c) for j, c in enumerate(self.columns)])

    def _values(self, codes: Array) -> Array:
        """Undo `_codes`; dates without a time of day are whole."""
        whole = np.array([choice.whole for choice in self._choices])
        if whole.any():
            codes = jnp.where(whole, jnp.round(codes), codes)
        if not any(column.levels for column in self.columns):
            return codes
        return jnp.concatenate([_value(codes[j : j + 1], c) for j, c in enumerate(self.columns)])


def _column(choice: Choice) -> Column:
    name = choice.type.name
    if not choice.n_levels:
        return Column(name, origin=choice.origin)
    found: Sequence[Any] = choice.levels or choice.type.categories or ()
    if not all(isinstance(each, numbers.Real) for each in found):
        return Column(name, tuple(map(str, found)))
    levels = tuple(float(np.float32(each)) for each in found)
    if len({*levels}) < len(levels):
        raise ValueError(
            f"Expected values that single precision can tell apart for the levels of column "
            f"{name!r}; got some that it cannot. Fit the model to texts in their place."
        )
    return Column(name, levels=levels)


def _code(value: Float[Array, " 1"], column: Column) -> Float[Array, " 1"]:
    if column.levels:
        hits = value == jnp.asarray(column.levels, jnp.float32)
        places = jnp.arange(len(column.levels), dtype=jnp.float32)
        code = jnp.sum(jnp.where(hits, places, 0.0), keepdims=True)
        return jnp.where(jnp.any(hits), code, jnp.nan)
    if column.categories:
        known = (value >= 0) & (value < len(column.categories)) & (value == jnp.floor(value))
        return jnp.where(known, value, jnp.nan)
    return value


def _value(code: Float[Array, " 1"], column: Column) -> Float[Array, " 1"]:
    if not column.levels:
        return code
    hits = code == jnp.arange(len(column.levels), dtype=jnp.float32)
    levels = jnp.asarray(column.levels, jnp.float32)
    return jnp.sum(jnp.where(hits, levels, 0.0), keepdims=True)


def _picked(vector: Array, places: Sequence[int]) -> Array:
    """Return some entries of a vector by slices, which any format has."""
    runs = itertools.groupby(enumerate(places), lambda pair: pair[1] - pair[0])
    ends = [[place for _, place in run] for _, run in runs]
    pieces = [lax.slice_in_dim(vector, run[0], run[-1] + 1) for run in ends]
    return pieces[0] if len(pieces) == 1 else jnp.concatenate(pieces)


def name_of(port: Port, column: Column) -> str:
    """Return the name under which a column is an input, or an output, of its own.

    Examples
    --------
    >>> name_of(Port("x", (2,)), Column("age")), name_of(Port("expected", (2,)), Column("age"))
    ('age', 'expected.age')
    """
    return column.name if port.name in ("x", column.name) else f"{port.name}.{column.name}"
