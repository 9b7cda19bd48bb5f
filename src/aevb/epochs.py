"""How many epochs a `VAE` makes where the user does not say."""

from __future__ import annotations

import math

import jax
import numpy as np
from jaxtyping import PyTree

from aevb import predict
from aevb.inference.run import Epoch, Plan, Run
from aevb.inference.stopping import EarlyStopping, Watch
from aevb.models.base import LatentVariableModel
from aevb.models.kinds.rows import n_cases, take

_DRAWS = 256  # of importance sampling
_CLEAR = "held-out cases less likely"  # the reason to stop
_STEPS_ON = 500  # steps from one look to the next at whether enough has been seen


def most_epochs(n_rows: int, batch_size: int) -> int:
    """Return the most passes over the data that ``VAE(epochs="auto")`` makes.

    As many as fit into 10,000 steps, but at least 10 and at most 500.

    Examples
    --------
    >>> most_epochs(60_000, 100), most_epochs(1_797, 100), most_epochs(150, 100)
    (16, 500, 500)
    """
    return min(max(10_000 // math.ceil(n_rows / batch_size), 10), 500)


def is_searched(n_rows: int) -> bool:
    """Whether a tenth of so many cases is held out first.

    Fewer than 20 are too few to hold some out. Of more than 5000, 10,000 steps see a case seldom.
    """
    return 20 <= n_rows <= 5000


class Search:
    """Watches a run that leaves a tenth of the cases out, and says how all of them are fitted.

    Training on nine tenths has gone on for too long if the log-likelihood of the others has fallen
    by a standard error from what it was at the epoch of their best bound. The bound itself may
    fall because the encoder, not the model, does badly on new cases. Then all cases are fitted
    anew, for as many epochs as were best. Otherwise the run goes on with all of them, for a fifth
    more epochs.

    Parameters
    ----------
    plan : Plan
        Its `epochs` are the most to make.
    data : tuple
        Encoded cases, and their context or None; arrays of shape (n, ...).
    random : RandomState
        Draws who is held out.
    weight : ndarray of shape (n,), optional
        Weights of the cases; None: all the same.

    Attributes
    ----------
    rest, out : ndarray
        Numbers of the cases to train on, and of those held out.
    plan : Plan
        How to train on the rest.
    """

    def __init__(
        self,
        plan: Plan,
        data: tuple[PyTree, PyTree],
        random: np.random.RandomState,
        weight: np.ndarray | None = None,
    ):
        n = n_cases(data)
        order = random.permutation(n).astype(np.int32)
        self.out, self.rest = np.split(order, [math.ceil(n / 10)])
        self.plan = plan._replace(stopping=EarlyStopping(plan.epochs, None))
        self._stopping = plan.stopping
        self._held_out = take(data, self.out)
        self._weight = np.ones(len(self.out)) if weight is None else weight[self.out]
        self._every = math.ceil(_STEPS_ON / math.ceil(len(self.rest) / plan.batch_size))

    def __call__(self, epoch: Epoch) -> str | None:
        """Return the reason to stop, once it is clear that training has gone on for too long."""
        watch = epoch.run.watch
        due = watch.waited >= max(self._every, watch.best_epoch)
        clear = due and watch.waited % self._every == 0 and self._has_fallen(epoch.run)
        return _CLEAR if clear else None

    def then(self, run: Run, *, diverged: bool = False) -> tuple[Run | None, Plan]:
        """Return the run to go on from with all cases, None for a new one, and how to train.

        Parameters
        ----------
        run : Run
            The run on the rest, at its end.
        diverged : bool
            Whether that was the last epoch whose numbers were finite.
        """
        plan = self.plan._replace(stopping=self._stopping)
        clear = run.stopped == _CLEAR
        stopped = run.epoch < plan.epochs and not (clear or diverged)
        if stopped:  # by the user's callback
            return run._replace(watch=Watch()), plan._replace(epochs=run.epoch)
        if clear or self._has_fallen(run):
            return None, plan._replace(epochs=run.watch.best_epoch)
        if diverged:  # if not of the held-out cases alone, the new run will say so
            return None, plan
        run = run.stopped_for("")._replace(watch=Watch())
        last = plan.epochs + math.ceil(plan.epochs / 5)
        return run, plan._replace(epochs=last, first_round=plan.epochs)

    def _has_fallen(self, run: Run) -> bool:
        best = run.watch.best_state
        return best is not None and _is_better(
            best.estimate, run.state.estimate, self._held_out, self._weight, run.state.key
        )


def _is_better(
    one: LatentVariableModel,
    other: LatentVariableModel,
    data: tuple[PyTree, PyTree],
    weight: np.ndarray,
    key: jax.Array,
) -> bool:
    """Whether a model's log-likelihood of some cases is higher by a standard error.

    Cases count by their weights; the error is that of a weighted mean.
    """
    x, c = data
    both = [
        predict.log_likelihood(model, x, key, context=c, n_draws=_DRAWS) for model in (one, other)
    ]
    gain, n = both[0] - both[1], len(weight)
    share = weight / weight.sum()
    mean = share @ gain
    error = math.sqrt(share**2 @ (gain - mean) ** 2 * n / (n - 1))
    return bool(mean > error)
