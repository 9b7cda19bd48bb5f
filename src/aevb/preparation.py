"""What is found out before the first step: whether settings, model, data and objective agree."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct

from aevb.inference.estimators import Estimate, Estimator
from aevb.inference.full_vb import Bayesian, FullVB
from aevb.inference.mcem import MonteCarloEM
from aevb.inference.sgvb import SGVB
from aevb.inference.stopping import judged_column
from aevb.inference.training import Batch
from aevb.inference.wake_sleep import WakeSleep
from aevb.models.base import Frozen, LatentVariableModel, name_of, trainable

OWN = (SGVB, WakeSleep, MonteCarloEM)  # objectives that reach the context through the model alone


def make_objective(
    bound: str | Estimator,
    n_draws: int = 1,
    weight_prior: float | None = None,
    kl_weight: float | Callable = 1.0,
    free_bits: float = 0.0,
) -> SGVB:
    """Build the minibatch objective, which checks its settings."""
    plain_kl = isinstance(kl_weight, float | int) and kl_weight == 1
    settings = {
        "weight_prior": weight_prior,
        "kl_weight": None if plain_kl else kl_weight,
        "free_bits": free_bits or None,
    }
    SGVB(bound, n_draws, **settings)
    # Traced, so that other numbers compile nothing.
    traced = {
        name: jnp.asarray(value, jnp.float32)
        for name, value in settings.items()
        if isinstance(value, numbers.Real)
    }
    return SGVB(bound, n_draws, **{**settings, **traced})


def choose_objective(
    model: LatentVariableModel, objective: Callable | None, settings: tuple
) -> Any:
    """Return the objective that is meant: the one given, or the one that the settings describe."""
    if objective is None:
        objective = make_objective(*settings)
        return FullVB(objective) if isinstance(model, Bayesian) else objective
    if settings != ("auto", 1, None, 1.0, 0.0):
        raise ValueError(
            "Expected `bound`, `n_draws`, `weight_prior`, `kl_weight` and `free_bits` left at "
            f"their defaults beside an `objective`, which has its own; got {settings}."
        )
    if isinstance(model, Bayesian) and isinstance(objective, OWN):
        raise ValueError(
            "Expected FullVB for `objective` of a Bayesian model, FullVB(SGVB('A')) for instance; "
            f"got {type(objective).__name__}."
        )
    return objective


def check_callbacks(callbacks: Any) -> None:
    """Raise TypeError for anything but a sequence of callables."""
    if callable(callbacks) or not all(map(callable, callbacks)):
        raise TypeError(
            f"Expected a sequence of callables for `callbacks`; got {callbacks!r}. "
            "A single one is written [callback]."
        )


def check_trainable(model: Any) -> None:
    """Raise ValueError for a model that training could not move."""
    if any(jax.tree.leaves(trainable(model))):
        return
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        model, is_leaf=lambda node: isinstance(node, Frozen)
    )
    numbers = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in leaves
        if isinstance(leaf, float)
    ]
    found = f"; {', '.join(f'`{name}`' for name in numbers)} of type float" if numbers else ""
    raise ValueError(
        f"Expected parameters to train in `{name_of(model)}`; got none{found}. They are the "
        "floating JAX arrays outside `Frozen`: jnp.array(0.5), not 0.5."
    )


def check_context(model: Any, objective: Callable, c: Any) -> None:
    """Raise ValueError for a context that no method of the model would see."""
    per_row = objective.objective if isinstance(objective, FullVB) else objective
    if not jax.tree.leaves(c) or not isinstance(per_row, OWN):
        return
    model = model.at_mean() if isinstance(model, Bayesian) else model
    methods = (model.prior, model.likelihood, model.posterior)
    if not any("c" in inspect.signature(method).parameters for method in methods):
        raise ValueError(
            f"Expected `context` left at None for `{name_of(model)}`, none of whose methods has "
            "an argument `c`; got one. Write `def likelihood(self, z, c)`, for instance."
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


def check_objective(
    objective: Callable,
    model: Any,
    example: tuple,
    batch_size: int,
    key: Array,
    *,
    state: Any = None,
    validated: bool = False,
    stopped_early: bool = False,
) -> None:
    """Hold an objective against the model and the shapes of one batch; nothing is computed.

    Parameters
    ----------
    objective, model, key, state
        As in training.
    example : tuple
        Shapes of one datapoint and its context, as of `InMemory.example`.
    batch_size : int
        Rows per batch.
    validated, stopped_early : bool
        Whether there are held-out rows; whether training may stop by a bound.

    Raises
    ------
    ValueError, TypeError
        When the objective cannot serve the model, or does not report what is asked of it.
    """
    per_row = objective.objective if isinstance(objective, FullVB) else objective
    if isinstance(per_row, SGVB) and callable(per_row.bound):
        plain = model.at_mean() if isinstance(model, Bayesian) else model
        eqx.filter_eval_shape(_check_estimate, per_row.bound, per_row.n_draws, plain, example, key)
    batch = _batch_of_shapes(example, batch_size, key)
    metrics = eqx.filter_eval_shape(_checked_metrics, objective, model, batch, key, state)
    if (validated or stopped_early) and judged_column(metrics) is None:
        raise ValueError(
            "Expected a metric 'elbo' of `objective`, or 'iw_bound', by which validation and early "
            f"stopping judge; got {', '.join(map(repr, metrics)) or 'none'}."
        )
    if validated and hasattr(objective, "expectation"):
        raise ValueError(
            "Expected no `validation_data` beside an objective with an E step, whose state "
            f"belongs to the rows trained on; got both, of {type(objective).__name__}."
        )


def _check_estimate(bound: Callable, n_draws: int, model: Any, example: tuple, key: Array) -> None:
    estimate = bound(model, example[0], key, example[1], n_draws)
    if not (isinstance(estimate, Estimate) and isinstance(estimate.metrics, dict)):
        wrong = f"{type(estimate).__name__}"
    elif jnp.shape(estimate.value):
        wrong = f"a value of shape {jnp.shape(estimate.value)}"
    else:
        return
    raise TypeError(
        "Expected an Estimate(value, metrics), a number and a dict of numbers for one datapoint, "
        f"from the estimator given as `bound`; got {wrong}. See aevb.inference.estimators.Estimate."
    )


@eqx.filter_jit  # so that the same objective is not traced again for the next fit
def _checked_metrics(objective: Callable, model: Any, batch: Batch, key: Array, state: Any) -> dict:
    if hasattr(objective, "expectation"):
        state = objective.expectation(model, batch, key, state)
    result = objective(model, batch, key, state)
    if not (isinstance(result, tuple) and len(result) == 3 and isinstance(result[1], dict)):
        raise TypeError(
            "Expected (surrogate, metrics, state), with a dict of metrics, from `objective`; got "
            f"{eqx.tree_pformat(result, width=1000)}."
        )
    if jnp.shape(result[0]):
        raise ValueError(
            "Expected one number to maximise from `objective`; got an array of shape "
            f"{jnp.shape(result[0])}."
        )
    return result[1]


def _batch_of_shapes(example: tuple, n: int, key: Array) -> Any:
    def rows(row: ShapeDtypeStruct) -> ShapeDtypeStruct:
        return ShapeDtypeStruct((n, *row.shape), row.dtype)

    x, c = jax.tree.map(rows, example)
    one, count = ShapeDtypeStruct((), jnp.float32), ShapeDtypeStruct((), jnp.int32)
    own_key = ShapeDtypeStruct((), key.dtype)
    fields: list[Any] = [x, c, rows(one), rows(own_key), one, rows(count), count]
    return Batch(*fields)
