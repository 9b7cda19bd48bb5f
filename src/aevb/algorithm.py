"""The AEVB algorithm for any latent-variable model: `train`, the front door to Algorithm 1."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from aevb.data.batches import InMemory
from aevb.errors import DivergenceError, integer
from aevb.inference.estimators import Estimator
from aevb.inference.full_vb import Bayesian
from aevb.inference.optimizers import make_optimizer, set_learning_rate
from aevb.inference.stopping import BOUNDS, EarlyStopping, judged_value
from aevb.inference.training import (
    TrainState,
    evaluate_chunk,
    initialise,
    mean_metrics,
    run_epoch,
)
from aevb.models.base import LatentVariableModel, trainable
from aevb.models.checks import check_model
from aevb.preparation import (
    check_callbacks,
    check_context,
    check_held_out,
    check_objective,
    check_trainable,
    choose_objective,
)
from aevb.progress import ProgressBar

# The generator behind a seed: against JAX's default it compiles in half the time and saves a
# thirtieth of a step. The same seed gives the same numbers on one machine, not on all.
FAST = "rbg"


class Epoch(NamedTuple):
    """What a callback sees after each epoch; it returns True to stop the training.

    Attributes
    ----------
    number, n_epochs : int
        Number of this epoch, from 1, and the number planned.
    metrics : dict
        This epoch's row of the history.
    history : dict of list
        All rows so far, by column.
    state : TrainState
        Model, optimizer's state and key after this epoch.
    """

    number: int
    n_epochs: int
    metrics: dict[str, float]
    history: dict[str, list]
    state: TrainState

    @property
    def model(self) -> Any:
        """The model after this epoch."""
        return self.state.model


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
        ``datapoints_per_second``.
        ``pandas.DataFrame(history)`` reads it.
    state : TrainState
        Model, optimizer's state and key at the end.
    """

    model: Any
    history: dict[str, list]
    state: TrainState


def train(
    model: LatentVariableModel,
    data: Any,
    *,
    context: Any = None,
    bound: str | Estimator = "auto",
    n_draws: int = 1,
    objective: Callable | None = None,
    weight_prior: float | None = None,
    kl_weight: float | Callable = 1.0,
    free_bits: float = 0.0,
    optimizer: Any = "adamax",
    learning_rate: Any = "auto",
    batch_size: int = 100,
    epochs: int = 10,
    key: Any = 0,
    validation_data: Any = None,
    validation_context: Any = None,
    patience: int | None = None,
    tol: float | None = None,
    callbacks: Sequence[Callable[[Epoch], Any]] = (),
    verbose: bool | str = "auto",
) -> TrainResult:
    """Fit a latent-variable model by Algorithm 1, Auto-Encoding Variational Bayes.

    Parameters
    ----------
    model : LatentVariableModel
        The model at its initial parameters; all floating arrays outside `Frozen` are trained. In
        `Bayesian`, it is fitted by full variational Bayes.
    data : PyTree of arrays, shape (n, ...)
        The datapoints, along the leading axis.
    context : PyTree of arrays, shape (n, ...), optional
        Context c of each datapoint, for models whose methods take one.
    bound, n_draws
        The estimator and its number of draws, as in `sgvb`.
    objective : callable, optional
        In place of `bound` and all that weighs it: `WakeSleep`, `MonteCarloEM`, `FullVB` (of
        itself for a `Bayesian` model), or any
        ``(model, batch, key, state) -> (surrogate, metrics, state)``; a state of its own, several
        updates per batch: see `aevb.inference.training`.
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the weights, which makes the fit a maximum a
        posteriori one; None: flat. Weights are arrays of two dimensions or more, biases and vectors
        are not; see `SGVB`.
    kl_weight, free_bits : float or callable, float
        Factor before the KL, or a schedule of it over steps; nats of KL that each latent dimension
        has free. Other than 1 and 0, what is maximised is no bound; the history shows the plain
        ELBO all the same. See `SGVB`.
    optimizer : str or optax.GradientTransformation
        An Optax optimizer by name, or ready made.
    learning_rate : "auto", float or callable
        A number; an Optax schedule over steps; or ``"auto"``: the optimizer's default here (1e-2
        for Adamax), falling to 0 along half a cosine over the epochs.
    batch_size : int
        The paper's M. The last, shorter batch of an epoch counts with its own number of rows.
    epochs : int
        Passes over the data.
    key : Array or int
        JAX random key, or a seed for one.
    validation_data : PyTree of arrays, optional
        Held-out datapoints, whose bound is computed after each epoch.
    validation_context : PyTree of arrays, optional
        Their context.
    patience, tol : int, float, optional
        Stop when the bound has not risen by more than `tol` nats (default 0) for `patience` epochs
        (default 10), and return the best epoch's model. With neither, no early stop. The bound is
        the importance-weighted one where the estimator has one, else the ELBO; of the validation
        data, if there are any, else of the training data (less ``kl_parameters``, of full
        variational Bayes).
    callbacks : sequence of callables
        Each is called with an `Epoch` after every epoch, and may return True to stop.
    verbose : bool or "auto"
        Progress bar; ``"auto"``: in a terminal or a notebook.

    Returns
    -------
    TrainResult
        ``.model``, ``.history`` and ``.state``.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit, before the first step.
    DivergenceError
        When the bound or a parameter is no longer finite after an epoch, or the bound of
        `validation_data` is not.

    References
    ----------
    Kingma and Welling (2013), Algorithm 1, https://arxiv.org/abs/1312.6114

    Examples
    --------
    A mean with a normal prior, whose posterior is N(2/3 of the sum of two numbers, 1/3):

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
    epochs = integer(epochs, "epochs", minimum=1)
    batch_size = integer(batch_size, "batch_size", minimum=1)
    if not isinstance(model, LatentVariableModel):
        raise TypeError(
            f"Expected a LatentVariableModel for `model`; got {type(model).__name__}. Write it as "
            "a subclass with the methods prior, likelihood and posterior."
        )
    check_callbacks(callbacks)
    bar = ProgressBar(epochs, verbose)
    settings = (bound, n_draws, weight_prior, kl_weight, free_bits)
    objective = choose_objective(model, objective, settings)
    make_optimizer(optimizer, learning_rate)  # say now what is wrong with them
    key = _typed(key)
    source = data if isinstance(data, InMemory) else InMemory(data, context, batch_size=batch_size)
    if validation_data is not None and not isinstance(validation_data, InMemory):
        validation_data = InMemory(validation_data, validation_context, batch_size=batch_size)
    example = source.example()
    check_trainable(model)
    check_context(model, objective, example[1])
    check_model(model.at_mean() if isinstance(model, Bayesian) else model, *example)
    if validation_data is not None:
        check_held_out(example, validation_data.example())
    objective_state = None
    if hasattr(objective, "init"):
        own_key = jax.random.fold_in(key, 2**31 + 2)  # no step has that number
        objective_state = eqx.filter_jit(objective.init)(model, source.x, source.c, own_key)
    check_objective(
        objective,
        model,
        example,
        source.batch_size,
        key,
        state=objective_state,
        validated=validation_data is not None,
        stopped_early=EarlyStopping(patience, tol).on,
    )
    state = start(model, optimizer, learning_rate, key, objective_state)
    with bar:
        return proceed(
            state,
            source,
            objective=objective,
            optimizer=optimizer,
            learning_rate=learning_rate,
            epochs=epochs,
            validation=validation_data,
            patience=patience,
            tol=tol,
            callbacks=(bar, *callbacks),
        )


def _typed(key: Any) -> Array:
    """Return the key that a seed or an old-style key stands for."""
    if isinstance(key, numbers.Integral):
        return jax.random.key(int(key), impl=FAST)
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


def start(
    model: Any, optimizer: Any, learning_rate: Any, key: Array, objective_state: Any = None
) -> TrainState:
    """Return the state before the first step."""
    transformation, _ = make_optimizer(optimizer, learning_rate)
    return _initialise(model, transformation, key, trainable(model), objective_state)


_initialise = eqx.filter_jit(initialise)  # eagerly, it would compile dozens of small programs


def proceed(
    state: TrainState,
    source: InMemory,
    *,
    objective: Callable,
    optimizer: Any,
    learning_rate: Any,
    epochs: int,
    validation: InMemory | None = None,
    patience: int | None = None,
    tol: float | None = None,
    callbacks: Sequence[Callable[[Epoch], Any]] = (),
) -> TrainResult:
    """Train on from a state; see `train`."""
    transformation, rate = make_optimizer(optimizer, learning_rate)
    marks = trainable(state.model)
    seed = [int(word) for word in np.asarray(jax.random.key_data(state.key)).flat] + [
        int(state.step)
    ]
    stopping = EarlyStopping(patience, tol)
    history: dict[str, list] = {}
    for epoch_number in range(1, epochs + 1):
        began = time.perf_counter()
        last_good = state
        schedule = set_learning_rate(state.optimizer_state, rate, (epoch_number - 1) / epochs)
        state, metrics, finite = run_epoch(
            state._replace(optimizer_state=schedule),
            source.shuffled(seed, epoch_number),
            objective,
            transformation,
            marks,
            source.batch_size,
        )
        seconds = time.perf_counter() - began
        if not finite:
            kept = TrainResult(last_good.model, history, last_good)
            raise DivergenceError(
                _divergence_message(epoch_number, learning_rate), epoch_number, kept
            )
        row: dict[str, Any] = {"epoch": epoch_number, **{k: _plain(v) for k, v in metrics.items()}}
        if validation is not None:
            held_out = _validation_metrics(state, validation, objective)
            if not all(map(math.isfinite, held_out.values())):
                kept = TrainResult(last_good.model, history, last_good)
                raise DivergenceError(_held_out_message(epoch_number, held_out), epoch_number, kept)
            row |= held_out
        row |= {"seconds": seconds, "datapoints_per_second": len(source) / seconds}
        for column, value in row.items():
            history.setdefault(column, []).append(value)
        epoch = Epoch(epoch_number, epochs, row, history, state)
        wanted = [bool(callback(epoch)) for callback in callbacks]
        if stopping.update(judged_value(row), state) or any(wanted):
            break
    state = stopping.best_state if stopping.on else state
    return TrainResult(state.model, history, state)


def _validation_metrics(
    state: TrainState, source: InMemory, objective: Callable
) -> dict[str, float]:
    totals = [
        evaluate_chunk(state, chunk, objective, source.batch_size) for chunk in source.ordered()
    ]
    means = mean_metrics(totals, len(source))
    return {f"validation_{name}": _plain(means[name]) for name in BOUNDS if name in means}


def _plain(value: np.ndarray) -> Any:
    return float(value) if np.ndim(value) == 0 else np.asarray(value)


def _held_out_message(epoch: int, bounds: dict[str, float]) -> str:
    got = ", ".join(f"{name} = {value}" for name, value in bounds.items())
    return (
        f"Expected a finite bound of `validation_data`; got {got} after epoch {epoch}, whose "
        "training was finite. Look in the held-out rows for values that are infinite, NaN or "
        "impossible under the model."
    )


def _divergence_message(epoch: int, learning_rate: Any) -> str:
    kept = "no epoch was completed" if epoch == 1 else f"the model after epoch {epoch - 1} is kept"
    return (
        f"Training diverged: in epoch {epoch} the bound or a parameter became infinite or NaN "
        f"({kept}). Try a smaller `learning_rate` (now {learning_rate!r}), a larger `batch_size`, "
        "an optimizer with clipped gradients (optax.chain(optax.clip_by_global_norm(...), ...)), "
        "or look for extreme values in the data."
    )
