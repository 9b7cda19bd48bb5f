"""Exposures of counts, as users give them: numbers, or the cases' own totals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from aevb.data.cells import with_nan
from aevb.errors import some
from aevb.schema import Schema


@dataclass(frozen=True)
class Exposure:
    """How much of each case was looked at: time, people at risk, reads of a cell.

    Attributes
    ----------
    by_total : bool
        Whether it is the total of the case's counts.
    typical : float
        The geometric mean of the training cases, which is the unit of the model.
    """

    by_total: bool
    typical: float

    def __post_init__(self) -> None:
        is_positive = isinstance(self.typical, float) and 0 < self.typical < math.inf
        if not is_positive or not isinstance(self.by_total, bool):
            raise ValueError(f"Expected a positive, finite `typical` exposure; got {self!r:.80}.")

    @classmethod
    def learn(
        cls, exposure: Any, schema: Schema, rows: Any
    ) -> tuple[Exposure, Float[np.ndarray, " n"]]:
        """Learn the exposure of training cases; return it as multiples of the typical one.

        Parameters
        ----------
        exposure : "total" or array-like of shape (n,)
            As the user gives it.
        schema : Schema
            Tells which columns are counts.
        rows : ndarray or sparse array of shape (n, ...)
            The cases.

        Raises
        ------
        ValueError, TypeError
            For data without counts, and numbers that are not positive.
        """
        if not schema.counts:
            raise ValueError(
                "Expected counts in `X` when `exposure` is given, with the likelihood 'poisson' or "
                f"'negative-binomial' for instance; got {schema.likelihood_in_short}."
            )
        by_total = isinstance(exposure, str)
        each = _totals(exposure, schema, rows) if by_total else _numbers(exposure, rows.shape[0])
        learned = cls(by_total, float(np.exp(np.mean(np.log(each)))))
        return learned, learned._relative(each)

    def read(self, exposure: Any, schema: Schema, rows: Any) -> Float[np.ndarray, " n"]:
        """Read that of later cases; None: their totals, if the fit took those."""
        if exposure is None and not self.by_total:
            raise ValueError(
                "Expected `exposure`, as in the fit of this model; got None. A single number is "
                "that of all cases."
            )
        if exposure is None or isinstance(exposure, str):
            return self._relative(_totals("total" if exposure is None else exposure, schema, rows))
        return self._relative(_numbers(exposure, rows.shape[0]))

    def of_new(self, exposure: Any, n: int) -> Float[np.ndarray, " n"]:
        """Return that of n new cases; None: the typical one."""
        if isinstance(exposure, str):
            raise ValueError(
                f"Expected numbers for the `exposure` of new cases; got {exposure!r}. They have no "
                "counts yet."
            )
        return self._relative(_numbers(self.typical if exposure is None else exposure, n))

    def _relative(self, each: np.ndarray) -> Float[np.ndarray, " n"]:
        relative = each / self.typical
        bad = np.flatnonzero((relative < 1e-30) | (relative > 1e30))
        if len(bad):
            raise ValueError(
                f"Expected numbers near those of the fit, {self.typical:.3g} in the mean, for "
                f"`exposure`; got {each[bad[0]]:g} in row {bad[0]}."
            )
        return relative.astype(np.float32)


def read_exposure(
    known: Exposure | None, exposure: Any, schema: Schema, rows: Any
) -> Float[np.ndarray, " n"] | None:
    """Read the exposure of cases, of a model that may know of none."""
    if known is not None:
        return known.read(exposure, schema, rows)
    _check_none(exposure)
    return None


def exposure_of_new(
    known: Exposure | None, exposure: Any, n: int
) -> Float[np.ndarray, " n"] | None:
    """Return the exposure of cases to make, of a model that may know of none."""
    if known is not None:
        return known.of_new(exposure, n)
    _check_none(exposure)
    return None


def _check_none(exposure: Any) -> None:
    if exposure is not None:
        raise ValueError(
            "Expected no `exposure`, as the model was fitted without one; got "
            f"{type(exposure).__name__}."
        )


def _numbers(exposure: Any, n: int) -> np.ndarray:
    each = np.asarray(with_nan(exposure), np.float64)
    if each.ndim == 0:
        each = np.full(n, float(each))
    if each.shape != (n,):
        raise ValueError(
            f"Expected one number for each of the {n} cases for `exposure`; got an array of shape "
            f"{each.shape}."
        )
    bad = np.flatnonzero(~(np.isfinite(each) & (each > 0)))
    if len(bad):
        raise ValueError(
            "Expected finite numbers above zero for `exposure`; got "
            f"{each[bad[0]]:g} in row {bad[0]}."
        )
    return each


def _totals(exposure: str, schema: Schema, rows: Any) -> np.ndarray:
    if exposure != "total":
        raise ValueError(f"Expected 'total' or numbers for `exposure`; got {exposure!r}.")
    each = schema.total(rows)
    if np.isnan(each).any():
        raise ValueError(
            "Expected counts in all cells with exposure='total'; some are missing in rows "
            f"{some(np.flatnonzero(np.isnan(each)))}. Give numbers for `exposure`."
        )
    if not each.all():
        raise ValueError(
            "Expected at least one count above zero in each case with exposure='total'; rows "
            f"{some(np.flatnonzero(each == 0))} have none. Leave these cases out."
        )
    return each
