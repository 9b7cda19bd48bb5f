"""Early stopping, by a bound that no longer rises."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any

from aevb.errors import integer, number

# The bounds that objectives report; the tighter one first.
BOUNDS = ("iw_bound", "elbo")


def judged_column(history: Container[str]) -> str | None:
    """Return the column by which early stopping judges: that of held-out rows first.

    Examples
    --------
    >>> judged_column({"epoch": [1], "elbo": [-2.0], "validation_elbo": [-3.0]})
    'validation_elbo'
    """
    columns = (*(f"validation_{name}" for name in BOUNDS), *BOUNDS)
    return next((name for name in columns if name in history), None)


def judged_value(metrics: dict[str, Any]) -> Any:
    """Return what early stopping goes by, of an epoch's metrics; None if they hold no bound.

    Of the training rows, less the divergence that full variational Bayes reports beside the bound.
    """
    column = judged_column(metrics)
    if column is None:
        return None
    own = 0.0 if column.startswith("validation_") else metrics.get("kl_parameters", 0.0)
    return metrics[column] - own


class EarlyStopping:
    """Keeps the best state, and says when `patience` epochs have brought less than `tol`."""

    def __init__(self, patience: int | None, tol: float | None):
        self.on = patience is not None or tol is not None
        self.patience = 10 if patience is None else integer(patience, "patience", minimum=1)
        if tol is None:
            tol = 0.0
        self.tol = number(
            tol, "tol", "a number from 0 up, or None", lambda tol: 0 <= tol < math.inf
        )
        self.best, self.reference, self.waited = -math.inf, -math.inf, 0
        self.best_state: Any = None

    def update(self, bound: Any, state: Any) -> bool:
        """Take in an epoch's bound and state; say whether to stop."""
        if not self.on:
            return False
        if self.best_state is None:
            self.best_state = state  # there is one to return, whatever its bound
        if bound > self.best:
            self.best, self.best_state = bound, state
        if bound > self.reference + self.tol:
            self.reference, self.waited = bound, 0
        else:
            self.waited += 1
        return self.waited >= self.patience
