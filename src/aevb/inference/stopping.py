"""When to stop: by a bound that no longer rises, parameters that no longer move, or the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import PyTree

from aevb.errors import integer, number

_FROM_ZERO_UP = "a number from 0 up, or None"

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


def judged_at(history: Mapping[str, Sequence[Any]], epoch: int) -> tuple[str | None, Any]:
    """Return the column that judges an epoch, of those that hold a number there, and the number.

    Examples
    --------
    >>> judged_at({"elbo": [-3.0, -2.0], "validation_elbo": [-4.0, math.nan]}, 2)
    ('elbo', -2.0)
    """
    names = (*(f"validation_{name}" for name in BOUNDS), *BOUNDS, "kl_parameters")
    row = {name: history[name][epoch - 1] for name in names if name in history}
    row = {name: value for name, value in row.items() if not math.isnan(value)}
    return judged_column(row), judged_value(row)


class Seen(NamedTuple):
    """What the rules see of an epoch.

    Attributes
    ----------
    epoch : int
        Its number, from 1.
    bound : float or None
        The plain bound that is judged, as `judged_value` says.
    state : TrainState
        The state after the epoch.
    held_out : bool
        Whether the bound is that of held-out rows, always with the same draws.
    moved : float
        How far the parameters have moved in this epoch, relative to their size.
    """

    epoch: int
    bound: Any
    state: PyTree
    held_out: bool = False
    moved: float = math.inf


class EarlyStopping:
    """The rule by which training stops: `patience` epochs have brought no more than `tol` nats.

    The bound of training rows is that of other draws after every epoch, and so it is smoothed: an
    exponential average over about `patience` epochs.

    Parameters
    ----------
    patience : int or None
        Number of epochs; None: 10, or no early stop by the bound if `tol` is None as well.
    tol : float or None
        Nats by which the bound has to rise; None: 0.
    tol_params : float or None
        Stop after an epoch that has moved the parameters by less, relative to their size: the
        paper's "until convergence of the parameters". None: do not.
    """

    def __init__(self, patience: int | None, tol: float | None, tol_params: float | None = None):
        self.on = patience is not None or tol is not None
        self.by = "patience" if tol is None else "tol"
        self.patience = 10 if patience is None else integer(patience, "patience", minimum=1)
        tol = 0.0 if tol is None else tol
        self.tol = number(tol, "tol", _FROM_ZERO_UP, lambda tol: 0 <= tol < math.inf)
        self.tol_params = None
        if tol_params is not None:
            self.tol_params = number(
                tol_params, "tol_params", _FROM_ZERO_UP, lambda tol: 0 <= tol < math.inf
            )

    @property
    def measures_moves(self) -> bool:
        """Whether it has to be told how far the parameters have moved."""
        return self.tol_params is not None

    def after(self, watch: Watch, seen: Seen) -> Watch:
        """Take in an epoch, of those that count."""
        if self.measures_moves:
            watch = watch._replace(moved=seen.moved)
        if not self.on:
            return watch
        epoch, bound, state, held_out, _ = seen
        if not held_out:
            before = bound if watch.smoothed is None else watch.smoothed
            bound = before + 2 / (self.patience + 1) * (bound - before)
            watch = watch._replace(smoothed=bound)
        if watch.best_state is None or bound > watch.best:  # there is one to return in any case
            best = bound if bound > watch.best else watch.best
            watch = watch._replace(best=best, best_state=state, best_epoch=epoch)
        if bound > watch.reference + self.tol:
            return watch._replace(reference=bound, waited=0)
        return watch._replace(waited=watch.waited + 1)

    def reason(self, watch: Watch) -> str | None:
        """Return why it is time to stop; None: it is not."""
        if self.on and watch.waited >= self.patience:
            return self.by
        if self.tol_params is not None and watch.moved <= self.tol_params:
            return "tol_params"
        return None


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

    def __init__(self, ends: Sequence[int], tol_params: float | None = None):
        super().__init__(1, None, tol_params)
        self.by = "converged"
        self.ends = ends

    def after(self, watch: Watch, seen: Seen) -> Watch:
        """Take in an epoch's bound, and at the end of a round the state after it."""
        watch = watch._replace(moved=seen.moved)
        epoch, bound, state, *_ = seen
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
    smoothed : float or None
        The exponential average of the bound of training rows.
    moved : float
        How far the last epoch has moved the parameters, relative to their size.
    """

    best: float = -math.inf
    best_state: PyTree = None
    best_epoch: int = 0
    reference: float = -math.inf
    waited: int = 0
    recent: tuple[float, ...] = ()
    smoothed: float | None = None
    moved: float = math.inf


class TimeLimit:
    """Stops training after the first epoch that ends beyond a time limit; a callback.

    Parameters
    ----------
    seconds : float or None
        Counted from now. None: no limit.
    """

    def __init__(self, seconds: float | None):
        if seconds is not None:
            expected = "a positive number of seconds, or None"
            seconds = number(seconds, "time_limit", expected, lambda time: 0 < time < math.inf)
        self.ends = math.inf if seconds is None else time.monotonic() + seconds

    @property
    def due(self) -> bool:
        """Whether it is time to stop."""
        return time.monotonic() >= self.ends

    def __call__(self, epoch: Any) -> str | None:
        """Return the reason to stop, if it is time to."""
        return "time_limit" if self.due else None
