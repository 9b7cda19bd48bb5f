"""Whether the three distributions of a model agree, found out before anything is computed."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.distributions import constraints

from aevb.models.base import LatentVariableModel, name_of, with_context

# Points of the supports that posteriors have, to be tried on the prior's.
_POINTS: list[tuple[Any, list]] = [
    (constraints.real, [-3.0, 0.5, 3.0]),
    (constraints.positive, [0.01, 0.5, 3.0]),
    (constraints.unit_interval, [0.01, 0.5, 0.99]),
    (constraints.simplex, [[0.2, 0.8]]),
]


def check_model(model: LatentVariableModel, x: Any, c: Any = None) -> None:
    """Hold the methods of a model against each other and against one datapoint, by shapes alone.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    x, c : PyTree of arrays or jax.ShapeDtypeStruct
        One datapoint and its context.

    Raises
    ------
    ValueError, TypeError
        When a method fails, returns no distribution or several, or when shapes or supports of two
        methods do not agree; the message names the method.
    """
    eqx.filter_eval_shape(_check, model, x, c)


def _check(model: LatentVariableModel, x: Any, c: Any) -> None:
    name = name_of(model)
    posterior = _distribution(model, "posterior", x, c=c)
    prior = _distribution(model, "prior", c=c)
    if posterior.event_shape != prior.event_shape:
        raise ValueError(
            f"Expected the same latent from `{name}.posterior` and `{name}.prior`; got event "
            f"shapes {posterior.event_shape} and {prior.event_shape}."
        )
    _check_supports(name, posterior, prior)
    z = posterior.sample(jax.random.key(0))
    likelihood = _distribution(model, "likelihood", z, c=c)
    expected, got = _shapes(x), getattr(likelihood, "event_shape", None)
    if isinstance(expected, tuple) and isinstance(got, tuple) and got != expected:
        raise ValueError(
            f"Expected a distribution of one datapoint, of shape {expected}, from "
            f"`{name}.likelihood`; got event shape {got}."
        )


def _distribution(model: LatentVariableModel, method: str, *arguments: Any, c: Any) -> Any:
    """Call a method; return the one joint distribution that must come of it."""
    name = f"{name_of(model)}.{method}"
    try:
        d = with_context(getattr(model, method), *arguments, c=c)
    except Exception as error:  # whatever a user's model raises is the user's to read
        of = f" of one {'latent' if method == 'likelihood' else 'datapoint'}" if arguments else ""
        shapes = f"{of} of shape {_shapes(arguments[0])}" if arguments else ""
        raise ValueError(
            f"Expected a distribution from `{name}`{shapes}; got {type(error).__name__}: {error}"
        ) from error
    needed = ["log_prob"] if method == "likelihood" else ["log_prob", "sample", "event_shape"]
    if isinstance(d, type) or not all(hasattr(d, attribute) for attribute in needed):
        raise TypeError(
            f"Expected a distribution from `{name}`; got {_described(d)}. Return one of "
            "numpyro.distributions, dist.Normal(mean, scale).to_event(1) for instance."
        )
    batch_shape = getattr(d, "batch_shape", ())
    if batch_shape:
        raise ValueError(
            f"Expected one joint distribution of the whole datapoint from `{name}`; got "
            f"independent ones of batch shape {batch_shape}. Join them with "
            f"`.to_event({len(batch_shape)})`."
        )
    return d


def _check_supports(name: str, posterior: Any, prior: Any) -> None:
    """Raise ValueError where the posterior is known to leave the prior's support."""
    q, p = _support(posterior), _support(prior)
    for support, points in _POINTS:
        if q is support and p is not None:
            with jax.ensure_compile_time_eval():
                inside = jnp.all(p(jnp.asarray(points)))
            if isinstance(inside, jax.core.Tracer):  # its bounds are parameters
                return
            if not inside:
                raise ValueError(
                    f"Expected latents of `{name}.posterior` within the support of "
                    f"`{name}.prior`, {p}; got {type(posterior).__name__} with support {q}. "
                    "Choose two families with the same support."
                )


def _support(d: Any) -> Any:
    support = getattr(d, "support", None)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


def _described(value: Any) -> str:
    def of(leaf: Any) -> str:
        if hasattr(leaf, "dtype"):
            return f"{leaf.dtype.name}{list(leaf.shape)}"
        return repr(leaf)

    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {', '.join(map(of, value))}"
    return of(value) if hasattr(value, "dtype") else repr(value)
