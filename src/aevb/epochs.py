"""How many epochs a `VAE` makes where the user does not say."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import numpy as np

from aevb import predict
from aevb.algorithm import check_fit
from aevb.data.source import InMemory
from aevb.errors import DivergenceError
from aevb.inference.run import Epoch, Plan, Run, advance
from aevb.inference.stopping import EarlyStopping
from aevb.models.autoencoder import AutoEncoder
from aevb.progress import ProgressBar

_FEWEST, _MOST = (
    20,
    5000,
)  # cases of which a tenth is held out; beyond, 10,000 steps see a case seldom
_DRAWS = 256  # of importance sampling
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


def best_epochs(
    begin: Callable[[np.ndarray, InMemory], Run],
    cases: np.ndarray,
    source: InMemory,
    plan: Plan,
    random: np.random.RandomState,
    verbose: bool | str,
) -> int:
    """Return the number of epochs, up to the plan's, that serves a tenth of the cases held out.

    It is the plan's, unless the log-likelihood of the held-out cases has fallen by then from what
    it was at the epoch of their best bound. The bound itself may fall because the encoder, not the
    model, does badly on new cases. Too few cases or very many are not searched.

    Parameters
    ----------
    begin : callable
        (cases, source) -> the run before its first step.
    cases : array of shape (n, ...)
        Encoded cases, and `source` over them.
    source : InMemory
        Their source.
    plan : Plan
        Its `epochs` are the most to make.
    random : RandomState
        Draws who is held out.
    verbose : bool or "auto"
        Whether to show a progress bar.
    """
    if not _FEWEST <= len(cases) <= _MOST:
        return plan.epochs
    order = random.permutation(len(cases)).astype(np.int32)
    out, rest = np.split(order, [math.ceil(len(cases) / 10)])
    training, held_out = source.part(rest), source.part(out)
    run = begin(cases[rest], training)
    plan = plan._replace(stopping=EarlyStopping(plan.epochs, None))
    check_fit(run.state.model, training, plan, run.state.key, held_out)
    every = math.ceil(_STEPS_ON / math.ceil(len(rest) / plan.batch_size))

    def has_fallen(run: Run) -> bool:
        best = run.watch.best_state
        return best is not None and _is_better(
            best.model, run.state.model, cases[out], run.state.key
        )

    def far_enough(epoch: Epoch) -> bool:
        watch = epoch.run.watch
        due = watch.waited >= max(every, watch.best_epoch) and watch.waited % every == 0
        return due and has_fallen(epoch.run)

    with ProgressBar(plan.epochs, verbose, "Looking for the number of epochs") as bar:
        try:
            run = advance(run, training, plan, validation=held_out, callbacks=(bar, far_enough))
        except DivergenceError as error:
            run = error.result.run
    return run.watch.best_epoch if has_fallen(run) else plan.epochs


def _is_better(one: AutoEncoder, other: AutoEncoder, cases: np.ndarray, key: jax.Array) -> bool:
    """Whether a model's log-likelihood of some cases is higher by a standard error."""
    both = [predict.log_likelihood(model, cases, key, n_draws=_DRAWS) for model in (one, other)]
    gain = both[0] - both[1]
    return bool(gain.mean() > gain.std(ddof=1) / math.sqrt(len(gain)))
