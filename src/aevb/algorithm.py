"""The AEVB algorithm for any latent-variable model: `train`, the front door to Algorithm 1."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PRNGKeyArray as Key
from jaxtyping import PyTree

from aevb.data.devices import Devices, placement_for
from aevb.data.placement import Placement
from aevb.data.processes import check_same, is_first
from aevb.data.source import InMemory, Source
from aevb.errors import integer
from aevb.inference.clipping import Clipping
from aevb.inference.estimators import Estimator
from aevb.inference.full_vb import Bayesian, FullVB
from aevb.inference.mcem import MonteCarloEM
from aevb.inference.objective import Objective, ObjectiveFunction, as_objective, check_objective
from aevb.inference.optimizers import LearningRate, Optimizer, make_optimizer
from aevb.inference.run import (
    Callback,
    Plan,
    Run,
    TrainResult,
    advance,
    auto_rounds,
    begin,
    result_of,
    round_ends,
)
from aevb.inference.sgvb import SGVB, Schedule, make_objective
from aevb.inference.stopping import Converged, EarlyStopping, TimeLimit
from aevb.inference.wake_sleep import WakeSleep
from aevb.interruption import Interruption
from aevb.models.base import LatentVariableModel
from aevb.models.checks import check_model, check_trainable
from aevb.progress import ProgressBar

# The generator behind a seed: against JAX's default it compiles in half the time and saves a
# thirtieth of a step. The same seed gives the same numbers on one machine, not on all.
FAST = "rbg"
# Where devices share a batch: a row's numbers do not depend on which others are computed with it.
EXACT = "threefry2x32"

OF_ONE_MODEL = (SGVB, WakeSleep, MonteCarloEM)  # objectives that know nothing of q(θ)


def train(
    model: LatentVariableModel,
    data: PyTree | Source,
    *,
    context: PyTree = None,
    estimator: str | Estimator = "auto",
    n_draws: int = 1,
    objective: Objective | ObjectiveFunction | None = None,
    weight_prior: float | None = None,
    kl_weight: float | Schedule = 1.0,
    free_bits: float = 0.0,
    optimizer: Optimizer = "adamax",
    learning_rate: LearningRate = "auto",
    batch_size: int = 100,
    epochs: int | str = "auto",
    key: Key | int = 0,
    validation_data: PyTree | Source | None = None,
    validation_context: PyTree = None,
    patience: int | None = None,
    tol: float | None = None,
    tol_params: float | None = None,
    time_limit: float | None = None,
    clip_norm: str | float | None = "auto",
    devices: str | int | None = None,
    callbacks: Sequence[Callback] = (),
    resume: Run | None = None,
    verbose: bool | str = "auto",
) -> TrainResult:
    """Fit a latent-variable model by Algorithm 1, Auto-Encoding Variational Bayes.

    Parameters
    ----------
    model : LatentVariableModel
        The model at its initial parameters. All floating arrays outside `Frozen` are trained. A
        `Bayesian` model is fitted by full variational Bayes.
    data : PyTree of arrays, shape (n, ...), or Source
        The datapoints along the leading axis, or a source of them (`aevb.data.source`).
    context : PyTree of arrays, shape (n, ...), optional
        Context c of each datapoint, for models whose methods take one. A source has its own.
    estimator, n_draws
        The estimator of the bound and its number of draws, as in `sgvb`.
    objective : Objective or callable, optional
        Replaces `estimator` and its weights: `WakeSleep`, `MonteCarloEM`, `FullVB` (the
        default for a `Bayesian` model), an `Objective` of your own, or a function
        ``(model, batch, key, state) -> (number to maximise, metrics, state)``.
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the weights: the fit is then a maximum a
        posteriori one. None: a flat prior. Weights are arrays of two dimensions or more; biases and
        vectors are not weights. See `SGVB`.
    kl_weight, free_bits : float or callable, float
        Factor before the KL, or a schedule of it over steps; nats of KL that cost nothing in each
        latent dimension. With any values but 1 and 0, what is maximised is not a bound. The history
        shows the plain ELBO in any case. See `SGVB`.
    optimizer : str or optax.GradientTransformation
        An Optax optimizer, or the name of one, of `optax.contrib` as well. The model of a
        schedule-free one is the average that it keeps; the state has the weights to train on.
    learning_rate : "auto", float or callable
        A number, or an Optax schedule over steps. ``"auto"`` starts at the optimizer's default here
        (1e-2 for Adamax) and falls to 0 along half a cosine over the epochs, or over each
        round.
    batch_size : int
        The paper's M. The last batch of an epoch may be shorter, and counts with its own rows.
    epochs : int or "auto"
        Passes over the data, including those of `resume`. ``"auto"`` trains in rounds, each as long
        as all before it, until a round, after the third, raises the bound by less than a
        thousandth of a nat or a ten-thousandth of itself. The first round has 300 steps, but at
        least 5 epochs; at most 20,000 steps, but at least 40 epochs, are made. A warning says when
        the bound was still rising.
    key : Array or int
        JAX random key, or a seed for one.
    validation_data : PyTree of arrays, optional
        Held-out datapoints, whose bound is computed after each epoch.
    validation_context : PyTree of arrays, optional
        Their context.
    patience, tol : int, float, optional
        Stop when the bound has not risen by more than `tol` nats (default 0) for `patience` epochs
        (default 10), and return the best epoch's model. With neither, training does not stop early.
        The bound is the importance-weighted one if the estimator has one, otherwise the ELBO. It is
        that of the validation data, if there are any, otherwise that of the training data (minus
        ``kl_parameters`` for full variational Bayes), averaged over about `patience` epochs. Epochs
        of a warm-up of `kl_weight` do not count.
    tol_params : float, optional
        Stop after an epoch that has moved the parameters by a smaller share of their size (‖Δθ‖ /
        ‖θ‖): the paper's "until convergence of the parameters".
    time_limit : float, optional
        Stop after the first epoch that ends more than this many seconds after the call.
    clip_norm : "auto", float or None
        Largest norm of the gradient, which is shortened to it. ``"auto"``: for each array of
        parameters, ten times what is typical of the steps before, from the hundredth step on: it
        spares all but spikes.
        None: none.
    devices : "all", int or None
        Devices that share every batch, as in `VAE`; None: one. A source has its own. The objective
        must be a mean over the rows (free bits are not), plus terms of the parameters alone.
    callbacks : sequence of callables
        Each is called with an `Epoch` after every epoch, and returns True, or the reason, to stop
        the training.
    resume : Run, optional
        A run to continue, with the same data and settings: ``result.run``, or an ``epoch.run`` that
        a callback has kept. It ends at the same model, bit for bit, as a run that was never
        interrupted. Its model and key replace `model` and `key`.
    verbose : bool or "auto"
        Whether to show a progress bar. ``"auto"`` shows it in a terminal or a notebook.

    Returns
    -------
    TrainResult
        ``.model``, ``.history``, ``.state`` and ``.run``.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit, before the first step.
    TrainingDiverged
        When the bound or a parameter is not finite after an epoch, or the bound of
        `validation_data` is not, although training went back three times, to the epoch before or
        to the beginning, and on from there with smaller steps.

    References
    ----------
    Kingma and Welling (2013), Algorithm 1, https://arxiv.org/abs/1312.6114

    Examples
    --------
    The mean of two numbers with a normal prior. Its posterior is normal around a third of their
    sum, with variance 1/3:

    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Mean(aevb.LatentVariableModel):
    ...     loc: jax.Array
    ...     log_scale: jax.Array
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0).expand([2]).to_event(1)
    ...     def posterior(self, x):
    ...         return dist.Normal(self.loc, jnp.exp(self.log_scale))
    >>> model = Mean(jnp.array(0.0), jnp.array(0.0))
    >>> result = aevb.train(model, jnp.array([[1.0, 2.0]]), epochs=2000, learning_rate=0.01)
    >>> abs(float(result.model.loc) - 1.0) < 0.1
    True
    """
    if epochs != "auto":
        epochs = integer(epochs, "epochs", minimum=1)
    batch_size = integer(batch_size, "batch_size", minimum=1)
    if not isinstance(model, LatentVariableModel):
        raise TypeError(
            f"Expected a LatentVariableModel for `model`; got {type(model).__name__}. Write it as "
            "a subclass with the methods prior, likelihood and posterior."
        )
    check_callbacks(callbacks)
    if not (resume is None or isinstance(resume, Run)):
        raise TypeError(
            f"Expected a Run, `result.run` of an earlier call, for `resume`; got "
            f"{type(resume).__name__}."
        )
    make_optimizer(optimizer, learning_rate)  # say now what is wrong with them
    settings = (estimator, n_draws, weight_prior, kl_weight, free_bits)
    objective = choose_objective(model, objective, settings)
    placement = _placement(devices, batch_size, data)
    key = _typed(key, generator(placement))
    source = _source(data, context, "data", placement)
    limit = TimeLimit(time_limit)
    stopping, first_round = EarlyStopping(patience, tol, tol_params), None
    if isinstance(epochs, str):
        first_round, epochs = auto_rounds(source.n_rows, batch_size)
        if stopping.on:
            first_round = None
        else:
            stopping = Converged(round_ends(first_round, epochs), tol_params)
    plan = Plan(
        objective,
        optimizer,
        learning_rate,
        batch_size,
        epochs,
        stopping,
        clipping=Clipping(clip_norm),
        first_round=first_round,
    )
    left = epochs - (0 if resume is None else resume.epoch)
    bar = ProgressBar(left, verbose if speaks(placement) else False)
    held_out = None
    if validation_data is not None:
        held_out = _source(validation_data, validation_context, "validation_data", placement)
    elif jax.tree.leaves(validation_context):
        raise ValueError(
            "Expected `validation_data` beside `validation_context`; got none. Give the held-out "
            "datapoints, or leave their context out."
        )
    check_trainable(model)
    check_model(model.at_mean() if isinstance(model, Bayesian) else model, *source.example())
    check_fit(model, source, plan, key, held_out)
    if isinstance(source.placement, Devices):
        shapes = [leaf.shape for leaf in jax.tree.leaves(source.example())]
        check_same(
            {
                "`key`": str(jax.random.key_data(key)),
                "the number of rows": str(source.n_rows),
                "the shape of a row": str(shapes),
                **{f"`{name}`": repr(getattr(plan, name)) for name in ("batch_size", "epochs")},
            }
        )

    def start() -> Run:
        if resume is not None:
            return resume
        return begin(model, source, plan.objective, optimizer, learning_rate, key)

    run = start()
    with bar, Interruption() as interruption:
        every: Sequence[Callback] = (bar, *callbacks, limit, interruption)
        run = advance(run, source, plan, validation=held_out, callbacks=every, restart=start)
    if first_round is not None and run.stopped == "epochs":
        warnings.warn(
            f"Not converged: the bound was still rising after {epochs} epochs, the most that "
            "epochs='auto' makes. Train on by epochs=..., with resume=result.run for instance.",
            stacklevel=2,
        )
    return result_of(run)


def generator(placement: Placement) -> str:
    """Return the name of the generator of random numbers that a seed stands for."""
    return EXACT if isinstance(placement, Devices) else FAST


def speaks(placement: Placement) -> bool:
    """Whether this process writes and shows what it and others train together."""
    return is_first() if isinstance(placement, Devices) else True


def _placement(devices: str | int | None, batch_size: int, data: PyTree | Source) -> Placement:
    if not isinstance(data, Source):
        return placement_for(devices, batch_size)
    if devices is not None:
        raise ValueError(
            "Expected `devices` left at None beside a source for `data`, which has a placement of "
            f"its own; got {devices!r}. Give it to the source: InMemory(x, placement=...)."
        )
    return data.placement


def _source(data: PyTree | Source, context: PyTree, name: str, placement: Placement) -> Source:
    if not isinstance(data, Source):
        return InMemory(data, context, placement=placement)
    if jax.tree.leaves(context):
        parameter = "context" if name == "data" else "validation_context"
        raise ValueError(
            f"Expected `{parameter}` left at None beside a source for `{name}`, which has the "
            f"context of its rows; got one. Give it to the source: InMemory(x, c)."
        )
    return data


def _typed(key: Any, impl: str) -> Key:
    """Return the key that a seed or an old-style key stands for."""
    if isinstance(key, numbers.Integral):
        return jax.random.key(int(key), impl=impl)
    if isinstance(key, Array) and key.dtype == jnp.uint32 and key.shape == (2,):
        return jax.random.wrap_key_data(key, impl="threefry2x32")
    if not (isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(
            f"Expected a JAX random key, jax.random.key(0) for one, or a seed for `key`; got "
            f"{key!r}."
        )
    if key.shape:
        raise ValueError(f"Expected one random key for `key`; got keys of shape {key.shape}.")
    return key


def choose_objective(
    model: LatentVariableModel, objective: Objective | ObjectiveFunction | None, settings: tuple
) -> Objective:
    """Return the objective that is meant: the one given, or the one that the settings describe."""
    if objective is None:
        objective = make_objective(*settings)
        return FullVB(objective) if isinstance(model, Bayesian) else objective
    if settings != ("auto", 1, None, 1.0, 0.0):
        raise ValueError(
            "Expected `estimator`, `n_draws`, `weight_prior`, `kl_weight` and `free_bits` left at "
            f"their defaults beside an `objective`, which has its own; got {settings}."
        )
    if isinstance(model, Bayesian) and isinstance(objective, OF_ONE_MODEL):
        raise ValueError(
            "Expected FullVB for `objective` of a Bayesian model, FullVB(SGVB('A')) for instance; "
            f"got {type(objective).__name__}."
        )
    return as_objective(objective)


def check_fit(
    model: LatentVariableModel, source: Source, plan: Plan, key: Key, held_out: Source | None = None
) -> None:
    """Check that a model, data and the plan of a training fit together, by shapes alone.

    Raises
    ------
    ValueError, TypeError
        When they do not fit; nothing has been computed by then.
    """
    x, c = source.example()
    if held_out is not None:
        check_held_out((x, c), held_out.example())
    if isinstance(source.placement, Devices):
        _check_shared(source.placement, source.n_rows, plan.objective, key)
    check_objective(
        plan.objective,
        model,
        source,
        plan.batch_size,
        key,
        validated=held_out is not None,
        stops_early=plan.stopping.on,
    )


def _check_shared(placement: Devices, n_rows: int, objective: Objective, key: Key) -> None:
    """Raise ValueError where several devices would not compute what one does."""
    n_devices = len(placement.devices)
    if n_rows < n_devices:
        raise ValueError(
            f"Expected at least one row for each of {n_devices} devices, in all processes; got "
            f"{n_rows} in all. Use fewer `devices` or processes."
        )
    if not objective.is_mean:
        raise ValueError(
            "Expected an objective that is a mean over the rows beside `devices`, without "
            f"`free_bits` or a state of its own; got {type(objective).__name__}. Train with "
            "`devices=None`, or without it."
        )
    if str(jax.random.key_impl(key)) == FAST:
        raise ValueError(
            f"Expected a seed, or a key of the generator {EXACT!r}, for `key` beside `devices`; "
            f"got one of {FAST!r}, whose numbers depend on the batch as a whole."
        )


def check_callbacks(callbacks: Any) -> None:
    """Raise TypeError for anything but a sequence of callables."""
    if callable(callbacks) or not all(map(callable, callbacks)):
        raise TypeError(
            f"Expected a sequence of callables for `callbacks`; got {callbacks!r}. "
            "A single one is written [callback]."
        )


def check_held_out(example: tuple, held_out: tuple) -> None:
    """Raise ValueError unless held-out rows and their context look like those to train on."""
    for parameter, of, rows, other in zip(
        ("validation_data", "validation_context"),
        ("data", "context"),
        example,
        held_out,
        strict=True,
    ):
        expected, got = (jax.tree.map(lambda row: row.shape, tree) for tree in (rows, other))
        if expected != got:
            raise ValueError(
                f"Expected rows of shape {expected}, as in `{of}`, for `{parameter}`; got {got}."
            )
