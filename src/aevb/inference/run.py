"""The driver of Algorithm 1: a run is one value, and `advance` takes it on by some epochs.

All that changes in training is in the `Run`. The order of the rows is a function of the key and
the number of the epoch, the noise of the key and the number of the step, the automatic learning
rate of the share of the training that is done. So a run that goes on from a stored `Run` ends at
the same model, bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.compiling import jit
from aevb.data.source import Chunk, Source, bucket
from aevb.errors import FitWarning, TrainingDiverged
from aevb.inference.clipping import Clipping
from aevb.inference.objective import Objective
from aevb.inference.optimizers import (
    LearningRate,
    Optimizer,
    make_optimizer,
    set_learning_rate,
    with_smaller_steps,
)
from aevb.inference.stopping import BOUNDS, EarlyStopping, Seen, Watch, judged_at, judged_value
from aevb.inference.training import (
    TrainState,
    Visit,
    evaluate_chunk,
    initialise,
    mean_metrics,
    run_chunk,
    run_chunk_in_place,
)
from aevb.models.base import LatentVariableModel, trainable

Row = dict[str, Any]  # what an epoch adds to the history, by column
History = dict[str, list[Any]]

MOST_RECOVERIES = 3  # in one run, from numbers that are not finite
SMALLER = 0.1  # times as large are the steps after each


class Run(NamedTuple):
    """All that changes in training, as one value.

    Attributes
    ----------
    state : TrainState
        Model, state of the optimizer and of the objective, key, number of steps.
    epoch : int
        Number of epochs completed.
    position : int
        Rows of the next epoch that have been visited already.
    totals : tuple of dict
        Metrics of these rows, summed over each chunk.
    history : dict of list
        One entry per epoch, by column.
    watch : Watch
        What early stopping has seen.
    recoveries : int
        How often training has gone back, to go on in smaller steps.
    recovered_at : int
        The epoch to which it went back last; -1: none.
    """

    state: TrainState
    epoch: int = 0
    position: int = 0
    totals: tuple = ()
    history: History = {}  # noqa: RUF012
    watch: Watch = Watch()
    recoveries: int = 0
    recovered_at: int = -1

    @property
    def stopped(self) -> str:
        """Why training stopped after the last epoch; empty if it goes on."""
        return self.history["stopped"][-1] if self.history.get("stopped") else ""

    def stopped_for(self, reason: str) -> Run:
        """Return the same with the reason for which training stops here; empty: it goes on."""
        if reason == self.stopped:
            return self
        reasons = [*self.history["stopped"][:-1], reason]
        return self._replace(history={**self.history, "stopped": reasons})


class Plan(NamedTuple):
    """What stays the same in training.

    Attributes
    ----------
    objective : Objective
        What to maximise.
    optimizer, learning_rate
        As in `train`.
    batch_size : int
        Rows per step, the paper's M.
    epochs : int
        The epoch to train up to, counted from the beginning of the run.
    stopping : EarlyStopping
        When to stop before.
    falls : bool
        Whether the automatic learning rate falls over these epochs.
    clipping : Clipping
        How large a gradient may be.
    first_round : int, optional
        Where the first of several rounds ends. Each later one doubles the epochs made so far, and
        the automatic learning rate falls along each. None: one round of all epochs.
    """

    objective: Objective
    optimizer: Optimizer
    learning_rate: LearningRate
    batch_size: int
    epochs: int
    stopping: EarlyStopping
    falls: bool = True
    clipping: Clipping = Clipping()
    first_round: int | None = None

    def done(self, epoch: float) -> float:
        """Return the share of its round that is done after so many epochs."""
        if not self.falls:
            return 0.0
        begin, end = 0, self.epochs
        for later in round_ends(self.first_round or self.epochs, self.epochs):
            if epoch < later:
                end = later
                break
            begin = later
        return (epoch - begin) / (end - begin)


class Epoch(NamedTuple):
    """What a callback sees after each epoch; it returns True, or a reason, to stop the training.

    Attributes
    ----------
    number, n_epochs : int
        Number of this epoch, from 1, and of the last one planned.
    metrics : dict
        This epoch's row of the history.
    run : Run
        The run after this epoch.
    """

    number: int
    n_epochs: int
    metrics: Row
    run: Run

    @property
    def history(self) -> History:
        """All rows so far, by column."""
        return self.run.history

    @property
    def state(self) -> TrainState:
        """Model, optimizer's state and key after this epoch."""
        return self.run.state

    @property
    def model(self) -> LatentVariableModel:
        """The model after this epoch, as it would predict."""
        return self.run.state.estimate


class TrainResult(NamedTuple):
    """What `train` returns.

    Attributes
    ----------
    model : LatentVariableModel
        The trained model.
    history : dict of list
        One entry per epoch, by column: ``epoch``; ``elbo``, ``kl``, ``reconstruction`` (nats per
        datapoint, at KL weight 1, averaged over the epoch while the parameters move), and
        ``iw_bound`` of importance-weighted estimators, ``kl_parameters`` of full variational
        Bayes, or whatever another objective reports; the bounds of held-out datapoints after the
        epoch, ``validation_elbo`` and ``validation_iw_bound``; ``seconds``,
        ``datapoints_per_second``; ``stopped``, which is empty but for the last epoch, where it is
        the reason: "epochs" (all that were asked for), "patience", "tol", "tol_params",
        "time_limit", "converged", "interrupted", "callback" or what a callback has returned;
        ``recoveries``, if there were any.
        ``pandas.DataFrame(history)`` reads it.
    state : TrainState
        Model, optimizer's state and key; of the best epoch, if training may stop early.
    run : Run
        The run at its end, to be continued by ``train(..., resume=run)``.
    """

    model: LatentVariableModel
    history: History
    state: TrainState
    run: Run


Callback = Callable[[Epoch], bool | str | None]


def begin(
    model: LatentVariableModel,
    source: Source,
    objective: Objective,
    optimizer: Optimizer,
    learning_rate: LearningRate,
    key: Key,
) -> Run:
    """Return the run before its first step."""
    objective_state = None
    if objective.has_state:
        own_key = jax.random.fold_in(key, 2**31 + 2)  # no step has that number
        first = next(source.chunks(None))
        objective_state = _state_of(objective, model, first, own_key)
    transformation, _ = make_optimizer(optimizer, learning_rate)
    return Run(_initialise(model, transformation, key, trainable(model), objective_state))


@jit
def _state_of(objective: Objective, model: LatentVariableModel, first: Chunk, key: Key) -> PyTree:
    return objective.init(model, first, key)


_initialise = jit(initialise)  # eagerly, it would compile dozens of small programs


def advance(
    run: Run,
    source: Source,
    plan: Plan,
    *,
    validation: Source | None = None,
    callbacks: Sequence[Callback] = (),
    keep: Callable[[Run], None] | None = None,
    restart: Callable[[], Run] | None = None,
) -> Run:
    """Train on from a run, up to the last epoch that is planned or until a stop is due.

    Where a number is not finite, training goes back to the epoch before, and on from there in
    smaller steps. If that fails at once, or if the bound has fallen below that of the first epoch,
    it goes back to the best epoch that early stopping knows, or to the beginning.

    Parameters
    ----------
    run, source, plan
        Where to go on from, the rows, and how.
    validation : Source, optional
        Held-out rows.
    callbacks : sequence of callables
        Called with an `Epoch` after each epoch.
    keep : callable, optional
        Called with the run after each epoch, when it is known whether training stops there, and
        after each chunk within one: the state of such a run is lost with the next chunk.
    restart : callable, optional
        Returns the run at its beginning. None: nobody knows it.

    Raises
    ------
    TrainingDiverged
        When the bound, a parameter, or the bound of held-out rows is not finite after an epoch,
        although the steps have become smaller three times. Its `result` is the best run before
        such an epoch.
    """
    order = [int(word) for word in np.asarray(jax.random.key_data(run.state.key)).flat]
    marks = trainable(run.state.model)
    visit_rows = _visitor(run, source, plan, keep)
    left: Run | None = None  # the best of the runs that were left for the beginning
    while run.epoch < plan.epochs:
        began = time.perf_counter()
        last_good, number = run.stopped_for(""), run.epoch + 1
        run, finite = visit_rows(last_good, (*order, run.epoch))
        seconds = time.perf_counter() - began
        held_out: dict[str, float] = {}
        if finite and validation is not None:
            held_out = _held_out_bounds(run.state, validation, plan)
        if not (finite and all(map(math.isfinite, held_out.values()))):
            left = last_good if left is None else _better(last_good, left)
            run = _recovered(last_good, run, held_out, plan, restart, left)
            visit_rows = _visitor(run, source, plan, keep)
            continue
        means = mean_metrics(run.totals, source.n_rows)
        row: Row = {"epoch": number, **{k: _plain(v) for k, v in means.items()}, **held_out}
        row |= {"seconds": seconds, "datapoints_per_second": source.n_rows / seconds, "stopped": ""}
        if run.recoveries:
            row["recoveries"] = run.recoveries
        watch = _watched(run, last_good, row, plan, marks)
        run = run._replace(
            epoch=number, position=0, totals=(), history=_appended(run.history, row), watch=watch
        )
        epoch = Epoch(number, plan.epochs, row, run)
        wanted: list[Any] = [callback(epoch) for callback in callbacks]
        reason: str | bool | None = plan.stopping.reason(watch)
        if reason is None:
            last = number == plan.epochs
            reason = "epochs" if last else next(filter(None, wanted), None)
        if not isinstance(reason, str | None):
            reason = "callback"
        reason = source.placement.agree(reason)
        if reason is not None:
            run = run.stopped_for(reason)
        if keep is not None:
            keep(run)
        if reason is not None:
            break
    return run


def round_ends(first: int, last: int) -> tuple[int, ...]:
    """Return the epochs at which rounds end, of which each doubles the epochs made before.

    Examples
    --------
    >>> round_ends(10, 100)
    (10, 20, 40, 80, 100)
    """
    ends = [first]
    while ends[-1] < last:
        ends.append(min(2 * ends[-1], last))
    return tuple(ends)


def auto_rounds(n_rows: int, batch_size: int) -> tuple[int, int]:
    """Choose where the first and the last round end when `train` is to go on until it converges.

    The first after 300 steps, but at least 5 epochs; the last within 20,000 steps, but after 40
    epochs or more.

    Examples
    --------
    >>> auto_rounds(1, 100), auto_rounds(1000, 100), auto_rounds(60_000, 100)
    ((300, 19200), (30, 1920), (5, 40))
    """
    n_steps = math.ceil(n_rows / batch_size)
    first = last = max(math.ceil(300 / n_steps), 5)
    while last < 40 or 2 * last * n_steps <= 20_000:
        last *= 2
    return first, last


def result_of(run: Run) -> TrainResult:
    """Return what a run has come to: its best epoch, where early stopping looks for one."""
    state = run.state if run.watch.best_state is None else run.watch.best_state
    return TrainResult(state.estimate, run.history, state, run)


def at_best(run: Run) -> Run:
    """Return a run as it was after the best epoch that early stopping has seen."""
    epoch, state = run.watch.best_epoch, run.watch.best_state
    history = {name: values[:epoch] for name, values in run.history.items()}
    watch = run.watch._replace(waited=0)
    return run._replace(state=state, epoch=epoch, history=history, watch=watch)


def _visitor(
    run: Run, source: Source, plan: Plan, keep: Callable[[Run], None] | None
) -> Callable[[Run, tuple[int, ...]], tuple[Run, bool]]:
    """Return what makes one pass over the rows and says whether all that came of it is finite.

    The run that it gets stays valid: it is what to return to when the new one is not finite.
    """
    optimizer, rate = make_optimizer(plan.optimizer, plan.learning_rate)
    scale = SMALLER**run.recoveries
    if rate is None and scale < 1:
        optimizer = with_smaller_steps(optimizer, scale)
    marks = trainable(run.state.model)
    batch_size = _batch_size(source, plan)

    run_one = run_chunk_in_place if source.has_chunks else run_chunk

    def visit_rows(run: Run, order: tuple[int, ...]) -> tuple[Run, bool]:
        finite: list[Array] = []
        if source.has_chunks:  # the state given stays valid
            run = run._replace(state=jax.tree.map(_copy, run.state))
        for chunk in source.chunks(order, run.position):
            done = plan.done(run.epoch + run.position / source.n_rows)
            optimizer_state = set_learning_rate(run.state.optimizer_state, rate, done, scale)
            state, totals, good = source.placement.run(
                run_one,
                run.state._replace(optimizer_state=optimizer_state),
                _visit(chunk, batch_size, source),
                plan.objective,
                optimizer,
                marks,
                batch_size,
                source.placement,
                plan.clipping,
            )
            position = run.position + len(chunk.rows)
            run = run._replace(state=state, position=position, totals=(*run.totals, totals))
            finite.append(good.block_until_ready())
            del chunk  # before the next one is made
            if keep is not None and position < source.n_rows and all(map(bool, finite)):
                keep(run)
        return run, all(map(bool, finite))

    return visit_rows


def _copy(leaf: Any) -> Any:
    return leaf.copy() if eqx.is_array(leaf) else leaf


def _batch_size(source: Source, plan: Plan) -> int:
    return source.placement.rounded(min(plan.batch_size, bucket(source.n_rows)))


def _visit(chunk: Chunk, batch_size: int, source: Source) -> Visit:
    n_buffer = len(jax.tree.leaves(chunk.x)[0])
    rows, n = source.placement.order(chunk.rows, n_buffer, batch_size)
    return Visit(chunk.x, chunk.c, rows, n, np.int32(source.n_rows), chunk.weight)


def _held_out_bounds(state: TrainState, source: Source, plan: Plan) -> dict[str, float]:
    batch_size, placement = _batch_size(source, plan), source.placement
    state = state._replace(model=state.estimate)
    totals = [
        placement.run(
            evaluate_chunk,
            state,
            _visit(chunk, batch_size, source),
            plan.objective,
            batch_size,
            placement,
        )
        for chunk in source.chunks(None)
    ]
    means = mean_metrics(totals, source.n_rows)
    return {f"validation_{name}": _plain(means[name]) for name in BOUNDS if name in means}


def _appended(history: History, row: Row) -> History:
    """Add a row; columns that are new, or have ended, hold NaN elsewhere."""
    n = len(history.get("epoch", []))
    return {
        column: [*history.get(column, [math.nan] * n), row.get(column, math.nan)]
        for column in {**history, **row}
    }


def _plain(value: np.ndarray | np.generic) -> Any:
    return float(value) if np.ndim(value) == 0 else np.asarray(value)


def _watched(run: Run, before: Run, row: Row, plan: Plan, marks: PyTree[bool]) -> Watch:
    """Return what early stopping has seen after an epoch, whose row of the history is `row`."""
    stopping = plan.stopping
    if not (stopping.on or stopping.measures_moves):
        return run.watch
    step = int(run.state.step)
    if not plan.objective.counts(step, round(step * plan.epochs / row["epoch"])):
        return run.watch
    moved = math.inf
    if stopping.measures_moves:
        moved = float(_relative_change(before.state.model, run.state.model, marks))
    held_out = any(f"validation_{name}" in row for name in BOUNDS)
    seen = Seen(row["epoch"], judged_value(row), run.state, held_out, moved)
    return stopping.after(run.watch, seen)


@jit
def _relative_change(
    before: LatentVariableModel, after: LatentVariableModel, marks: PyTree[bool]
) -> Float[Array, ""]:
    one, other = (jax.tree.leaves(eqx.filter(model, marks)) for model in (before, after))
    change = sum(jnp.sum(jnp.abs(b - a) ** 2) for a, b in zip(one, other, strict=True))
    size = sum(jnp.sum(jnp.abs(a) ** 2) for a in one)
    return jnp.sqrt(change / size)  # infinite from zero, or NaN: not small


def _recovered(
    last_good: Run,
    bad: Run,
    held_out: dict[str, float],
    plan: Plan,
    restart: Callable[[], Run] | None,
    best: Run,
) -> Run:
    """Return the run to go on from after numbers that are not finite."""
    number = last_good.epoch + 1
    quantity, value = _fault(bad, held_out)
    if last_good.recoveries < MOST_RECOVERIES:
        recoveries, back = last_good.recoveries + 1, last_good
        if _is_beyond_help(last_good):
            if last_good.watch.best_state is not None:
                back = at_best(last_good)
            elif restart is not None:
                back = restart()
        place = f"epoch {back.epoch}" if back.epoch else "the beginning"
        warnings.warn(
            f"Training went back to {place}, and on from there with steps "
            f"{SMALLER**recoveries:g} times as large: in epoch {number}, {quantity} was {value}.",
            FitWarning,
            stacklevel=2,
        )
        return back._replace(recoveries=recoveries, recovered_at=back.epoch)
    rate = getattr(plan.learning_rate, "__name__", repr(plan.learning_rate))
    advice = (
        "Look in the held-out rows for values that are impossible under the model."
        if held_out
        else f"Try a smaller `learning_rate` (now {rate}) or a larger "
        "`batch_size`, and look for extreme values in the data."
    )
    kept = f"the model after epoch {best.epoch} is kept" if best.epoch else "no epoch was completed"
    state = best.state
    raise TrainingDiverged(
        f"Training diverged: in epoch {number}, {quantity} was {value}, although the steps had "
        f"become smaller {MOST_RECOVERIES} times ({kept}). {advice}",
        number,
        quantity,
        TrainResult(state.estimate, best.history, state, best),
    )


def _better(one: Run, other: Run) -> Run:
    """Return the run whose last epoch has the higher bound; one that has an epoch at all."""
    if not (one.epoch and other.epoch):
        return one if one.epoch else other
    bounds = [judged_at(run.history, run.epoch)[1] for run in (one, other)]
    return other if None not in bounds and bounds[1] > bounds[0] else one


def _is_beyond_help(run: Run) -> bool:
    """Whether it failed from here before, or is worse already than after its first epoch."""
    if run.recovered_at == run.epoch:
        return True
    column, bound = judged_at(run.history, run.epoch) if run.epoch else (None, None)
    return column is not None and bool(bound < run.history[column][0])


def _fault(run: Run, held_out: dict[str, float]) -> tuple[str, float | complex]:
    """Return the name and the value of the first number that is not finite."""
    totals = {
        name: sum(total[name] for total in jax.device_get(run.totals))
        for name in (run.totals[0] if run.totals else ())
    }
    parameters, _ = jax.tree_util.tree_flatten_with_path(
        eqx.filter(run.state.model, trainable(run.state.model))
    )
    named = {
        f"the parameter {jax.tree_util.keystr(path, simple=True, separator='.')}": leaf
        for path, leaf in parameters
    }
    for name, value in {**totals, **held_out, **named}.items():
        wrong = np.ravel(np.asarray(value))
        wrong = wrong[~np.isfinite(wrong)]
        if len(wrong):
            return name, complex(wrong[0]) if np.iscomplexobj(wrong) else float(wrong[0])
    return "the sum of the parameters' sizes", math.inf
