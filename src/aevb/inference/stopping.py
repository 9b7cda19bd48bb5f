"""Early stopping, by a bound that no longer rises."""

from __future__ import annotations

import math
from typing import Any

from aevb.errors import integer, number


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
        self.best_state: Any

    def update(self, elbo: Any, state: Any) -> bool:
        """Take in an epoch's ELBO and state; say whether to stop."""
        if not self.on:
            return False
        if elbo > self.best:
            self.best, self.best_state = elbo, state
        if elbo > self.reference + self.tol:
            self.reference, self.waited = elbo, 0
        else:
            self.waited += 1
        return self.waited >= self.patience
