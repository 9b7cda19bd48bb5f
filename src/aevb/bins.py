"""From log p(x) to bits per dimension: the values of each case, and the bins of densities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from aevb.errors import some
from aevb.models.kinds import Bernoulli
from aevb.models.kinds.rows import is_sparse
from aevb.schema import Part, Schema

# A number, one for each value of a case, or one for each column of real numbers by its name.
BinWidth = Any


def bins_of(
    schema: Schema, rows: Any, densities: set[str] | bool, bin_width: BinWidth
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return how many values each case has, and the logarithm of the volume of its bin.

    Parameters
    ----------
    schema : Schema
        What is known of the data.
    rows : ndarray or sparse array of shape (n, ...)
        Cases; NaN where a value is missing.
    densities : set of str, or bool
        Which parts have densities rather than probabilities, as `aevb.evaluation.bits` says.
    bin_width : float, array-like of the shape of a case, or dict
        Widths of the bins of those.

    Raises
    ------
    ValueError, TypeError
        For gray levels under a Bernoulli likelihood, which have neither; for widths that are
        missing or that nothing needs.
    """
    if isinstance(densities, bool):
        densities = set(schema.parts) if densities else set()
    wide = {name: part for name, part in schema.parts.items() if name in densities}
    for part in schema.parts.values():
        if isinstance(part.kind.likelihood, Bernoulli):
            wide = {name: each for name, each in wide.items() if each is not part}
            _refuse_gray(part, rows)
    needed = np.zeros(math.prod(schema.shape), bool)
    for part in wide.values():
        columns = slice(None) if part.columns is None else list(part.columns)
        needed[columns] = ~part.measured.constant  # one that did not vary is an event
    widths = np.where(needed, _widths(schema, needed, bin_width), 1.0)
    n = rows.shape[0]
    if is_sparse(rows) or not schema.holes:
        return np.full(n, needed.size, float), np.full(n, np.log(widths).sum())
    observed = ~np.isnan(np.reshape(rows, (n, -1)))
    return observed.sum(axis=1).astype(float), observed @ np.log(widths)


def _refuse_gray(part: Part, rows: Any) -> None:
    one = part.kind.constants(part.measured).white
    values = np.asarray(rows.data if is_sparse(rows) else part.values(rows))
    gray = ~(np.isnan(values) | np.isin(values, (0, one)))
    if gray.any():
        raise ValueError(
            f"Expected values 0 and {one:g} for bits per dimension with likelihood 'bernoulli'; "
            f"got {values[gray][0]:g}. Gray levels have neither a probability nor a density under "
            "it: binarise the data, or fit the likelihood 'discretised-logistic' to 8-bit levels."
        )


def _widths(schema: Schema, needed: np.ndarray, bin_width: BinWidth) -> Float[np.ndarray, " size"]:
    """Return the width of the bin of each value that needs one; of the others any number."""
    if not needed.any():
        if bin_width is None:
            return np.ones(needed.size)
        raise ValueError(
            "Expected no `bin_width` for a likelihood that gives probabilities; got "
            f"{bin_width!r}. Leave it out."
        )
    if bin_width is None:
        raise ValueError(
            "Expected a number for `bin_width`, as the likelihood gives densities, which have no "
            "bits; got None. Give the width of a bin in the data's own units: 1 for whole numbers, "
            "0.1 for numbers with one decimal."
        )
    if isinstance(bin_width, Mapping):
        widths = _named(schema, needed, bin_width)
    else:
        widths = np.asarray(bin_width, np.float64)
        if widths.shape not in ((), schema.shape):
            raise ValueError(
                f"Expected a number, or an array of the shape {schema.shape} of a case, for "
                f"`bin_width`; got an array of shape {widths.shape}."
            )
        widths = np.broadcast_to(widths, schema.shape).ravel()
    bad = needed & ~(np.isfinite(widths) & (widths > 0))
    if bad.any():
        raise ValueError(
            f"Expected finite numbers above zero for `bin_width`; got {widths[bad][0]:g}."
        )
    return widths


def _named(
    schema: Schema, needed: np.ndarray, bin_width: Mapping[Any, Any]
) -> Float[np.ndarray, " size"]:
    names = schema.names or tuple(map(str, range(needed.size)))
    wanted = {name for name, each in zip(names, needed, strict=True) if each}
    given = {str(name): width for name, width in bin_width.items()}
    if given.keys() != wanted:
        raise ValueError(
            f"Expected widths of the columns {some(sorted(wanted))} in `bin_width`, which have "
            f"densities; got those of {some(sorted(given))}."
        )
    return np.array([float(given.get(name, 1.0)) for name in names])
