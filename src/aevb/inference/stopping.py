"""When to stop: by a bound that no longer rises."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import PyTree

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


def judged_value(metrics: Mapping[str, Any]) -> Any:
    """Return what early stopping goes by, of an epoch's metrics; None if they hold no bound.

    Of the training rows, less the divergence that full variational Bayes reports beside the bound.
    """
    column = judged_column(metrics)
    if column is None:
        return None
    own = 0.0 if column.startswith("validation_") else metrics.get("kl_parameters", 0.0)
    return metrics[column] - own


class EarlyStopping:
    """The rule by which training stops: `patience` epochs have brought no more than `tol` nats.

    Parameters
    ----------
    patience : int or None
        Number of epochs; None: 10, or no early stop if `tol` is None as well.
    tol : float or None
        Nats by which the bound has to rise; None: 0.
    """

    def __init__(self, patience: int | None, tol: float | None):
        self.on = patience is not None or tol is not None
        self.patience = 10 if patience is None else integer(patience, "patience", minimum=1)
        expected = "a number from 0 up, or None"
        tol = 0.0 if tol is None else tol
        self.tol = number(tol, "tol", expected, lambda tol: 0 <= tol < math.inf)

    def after(self, watch: Watch, bound: Any, state: PyTree, epoch: int) -> Watch:
        """Take in an epoch's bound and the state after it."""
        if not self.on:
            return watch
        if watch.best_state is None or bound > watch.best:  # there is one to return in any case
            best = bound if bound > watch.best else watch.best
            watch = watch._replace(best=best, best_state=state, best_epoch=epoch)
        if bound > watch.reference + self.tol:
            return watch._replace(reference=bound, waited=0)
        return watch._replace(waited=watch.waited + 1)

    def stops(self, watch: Watch) -> bool:
        """Say whether it is time to stop."""
        return self.on and watch.waited >= self.patience


class Converged(EarlyStopping):
    """The rule of rounds: the last round has brought less than counts.

    A round is judged by the mean bound of its last quarter, where the learning rate is small. It
    has to rise by a thousandth of a nat, and by a ten-thousandth of itself. The first three rounds
    are not judged: what moves slowly at first would look like an end.

    Parameters
    ----------
    ends : sequence of int
        The epochs at which rounds end.
    """

    def __init__(self, ends: Sequence[int]):
        super().__init__(1, None)
        self.ends = ends

    def after(self, watch: Watch, bound: Any, state: PyTree, epoch: int) -> Watch:
        """Take in an epoch's bound, and at the end of a round the state after it."""
        number = next(i for i, end in enumerate(self.ends) if end >= epoch)
        end = self.ends[number]
        begin = self.ends[number - 1] if number else 0
        if epoch > end - max((end - begin) // 4, 1):
            watch = watch._replace(recent=(*watch.recent, float(bound)))
        if epoch < end:
            return watch
        level = sum(watch.recent) / len(watch.recent)
        rises = level > watch.reference + max(1e-3, 1e-4 * abs(level))
        waited = 0 if rises or number < 3 else 1
        watch = watch._replace(reference=level, waited=waited, recent=())
        if watch.best_state is None or level > watch.best:
            watch = watch._replace(best=level, best_state=state, best_epoch=epoch)
        return watch


class Watch(NamedTuple):
    """What has been seen so far, by the rule in use.

    Attributes
    ----------
    best : float
        The highest bound.
    best_state : TrainState or None
        The state that had it.
    best_epoch : int
        The number of its epoch.
    reference : float
        The bound that the next ones have to exceed.
    waited : int
        Epochs, or rounds, since the reference was exceeded.
    recent : tuple of float
        Bounds of the epochs of which the next mean is taken.
    """

    best: float = -math.inf
    best_state: PyTree = None
    best_epoch: int = 0
    reference: float = -math.inf
    waited: int = 0
    recent: tuple[float, ...] = ()
