"""Whether the three distributions of a model agree, found out before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro.distributions import constraints

from aevb.models.base import Frozen, Given, LatentVariableModel, name_of, trainable
from aevb.probability.joint import AnyDistribution, Joint
from aevb.probability.measures import (
    CENSORED,
    NO_DENSITIES,
    Image,
    Measure,
    is_same,
    measure_of,
    support_of,
)
from aevb.probability.relaxed import log_simplex

# Values within the supports that posteriors have, to be tried on the prior's.
_VALUES: list[tuple[constraints.Constraint, tuple[float, ...]]] = [
    (constraints.real, (-10.0, 0.5, 10.0)),
    (constraints.positive, (0.01, 0.5, 10.0)),
    (constraints.unit_interval, (0.01, 0.5, 0.99)),
]


def check_model(model: LatentVariableModel, x: PyTree, c: PyTree = None) -> None:
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
    parameters, rest = eqx.partition(model, trainable(model))
    # What training leaves as it is keeps its values, so that bounds of a support are known.
    rest = jax.tree.map(lambda leaf: jnp.asarray(leaf) if eqx.is_array(leaf) else leaf, rest)

    def check(parameters: PyTree, x: PyTree, c: PyTree) -> None:
        _check(Given(eqx.combine(parameters, rest), c), x)

    eqx.filter_eval_shape(check, parameters, x, c)


def check_trainable(model: LatentVariableModel | Given) -> None:
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


def _check(model: Given, x: PyTree) -> None:
    name = name_of(model)
    posterior = _distribution(model, "posterior", x)
    prior = _distribution(model, "prior")
    if posterior.event_shape != prior.event_shape:
        raise ValueError(
            f"Expected the same latent from `{name}.posterior` and `{name}.prior`; got event "
            f"shapes {posterior.event_shape} and {prior.event_shape}."
        )
    require_ratio(model, posterior, prior)
    z = posterior.sample(jax.random.key(0))
    _check_supports(name, posterior, prior, z)
    _check_log_prob(name, "prior", prior, z)
    likelihood = _distribution(model, "likelihood", z)
    expected, got = _shapes(x), getattr(likelihood, "event_shape", None)
    if not _agree(got, expected):
        raise ValueError(
            f"Expected a distribution of one datapoint, of shape {expected}, from "
            f"`{name}.likelihood`; got event shape {got}."
        )
    require_likelihood(model, likelihood)
    _check_log_prob(name, "likelihood", likelihood, x)


def require_ratio(model: LatentVariableModel | Given, posterior: Any, prior: Any) -> None:
    """Raise ValueError where q(z|x) and p(z) are not densities relative to one measure.

    Their ratio would not be part of a bound: a point mass beside a normal density, say.
    """
    q_measure, p_measure = measure_of(posterior), measure_of(prior)
    _require_density(model, posterior, q_measure, "posterior", NO_DENSITIES)
    _require_density(model, prior, p_measure, "prior", NO_DENSITIES)
    for part, q, p in _pairs(q_measure, p_measure):
        if not is_same(q, p):
            learned = isinstance(q, Image) and isinstance(p, Image)
            raise ValueError(
                f"Expected densities of one kind from `{name_of(model)}.posterior` and "
                f"`{name_of(model)}.prior`, whose ratio has a meaning; got {family_of(posterior)} "
                f"on {q} and {family_of(prior)} on {p}{part}. Choose two families with the same "
                f"support{', transformed by the same constants' if learned else ''}."
            )


def require_likelihood(model: LatentVariableModel | Given, d: Any) -> None:
    """Raise ValueError for p(x|z) that gives data neither a density nor a probability."""
    barred = tuple(measure for measure in NO_DENSITIES if measure != CENSORED)
    _require_density(model, d, measure_of(d), "likelihood", barred)


def _require_density(
    model: LatentVariableModel | Given,
    d: Any,
    measure: Measure | None,
    method: str,
    barred: tuple[str, ...],
) -> None:
    for part, each, _ in _pairs(measure, None):
        if each in barred:
            raise ValueError(
                f"Expected a probability density or mass function from "
                f"`{name_of(model)}.{method}`; got {family_of(d)} on {each}{part}, whose "
                "log_prob is not a term of a bound. Instead of a point choose a narrow normal, "
                "or leave it out."
            )


def _pairs(
    q: Measure | None, p: Measure | None, part: str = ""
) -> Iterator[tuple[str, Measure | None, Measure | None]]:
    """Yield the measures of each part, with words for which it is."""
    if not isinstance(q, dict):
        yield part, q, p
        return
    for name in q:
        other = p.get(name) if isinstance(p, dict) else p
        yield from _pairs(q[name], other, f" for part {name!r}")


def _distribution(model: Given, method: str, *arguments: PyTree) -> Any:
    """Call a method; return the one joint distribution that must come of it."""
    name = f"{name_of(model)}.{method}"
    try:
        d = getattr(model, method)(*arguments)
        getattr(d, "event_shape", None)  # a Joint calls its functions now
    except Exception as error:  # whatever a user's model raises is the user's to read
        of = f" of one {'latent' if method == 'likelihood' else 'datapoint'}" if arguments else ""
        shapes = f"{of} of shape {_shapes(arguments[0])}" if arguments else ""
        raise ValueError(
            f"Expected a distribution from `{name}`{shapes}; got {type(error).__name__}: {error}"
        ) from error
    needed = ["log_prob"] if method == "likelihood" else ["log_prob", "sample", "event_shape"]
    if isinstance(d, type) or not all(hasattr(d, attribute) for attribute in needed):
        got = f"the class {d.__name__}" if isinstance(d, type) else eqx.tree_pformat(d, width=1000)
        raise TypeError(
            f"Expected a distribution from `{name}`; got {got}. Return one of "
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


def _check_log_prob(name: str, method: str, d: Any, value: PyTree) -> None:
    """Raise ValueError where log_prob does not give one number for the value it will get."""
    of = f"one {'latent' if method == 'prior' else 'datapoint'} of shape {_shapes(value)}"
    expected = f"Expected one number from `log_prob` of `{name}.{method}` for {of}; got"
    try:
        shape = jnp.shape(d.log_prob(value))
    except Exception as error:  # as above
        raise ValueError(f"{expected} {type(error).__name__}: {error}") from error
    if shape:
        raise ValueError(f"{expected} an array of shape {shape}.")


def _check_supports(
    name: str, posterior: AnyDistribution, prior: AnyDistribution, z: PyTree
) -> None:
    """Raise ValueError where the posterior is known to leave the prior's support."""
    if isinstance(posterior, Joint) and isinstance(prior, Joint):
        parts = prior.factors(z)
        for part, q in posterior.factors(z).items():
            _check_supports(name, q, parts[part], z[part])
        return
    q, p = support_of(posterior), support_of(prior)
    if q is None or p is None:
        return
    for value in _values_within(q, z):
        try:
            with jax.ensure_compile_time_eval():
                inside = bool(np.all(p(value)))  # NumPy's, where it will do, compiles nothing
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            return  # its bounds are parameters
        if not inside:
            raise ValueError(
                f"Expected latents of `{name}.posterior` within the support of `{name}.prior`, "
                f"{_entry(p)}; got {family_of(posterior)} with support {_entry(q)}. Choose two "
                "families with the same support."
            )


def _values_within(support: constraints.Constraint, z: PyTree) -> list[np.ndarray]:
    """Return some values of the shape of z, where they are known."""
    entry = _entry(support)
    if isinstance(entry, type(constraints.simplex)):
        return [np.full(z.shape, 1 / z.shape[-1])]
    if isinstance(entry, type(log_simplex)):
        return [np.full(z.shape, -math.log(z.shape[-1]))]
    known = [values for other, values in _VALUES if entry is other]
    return [np.full(z.shape, value) for values in known for value in values]


def _entry(support: constraints.Constraint) -> constraints.Constraint:
    """Return the support of one entry of an array."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def family_of(d: Any) -> str:
    """Return the name of a distribution's family, for messages."""
    while type(d).__name__ in ("Independent", "ExpandedDistribution", "MaskedDistribution"):
        d = d.base_dist
    return type(d).__name__


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


def _agree(got: PyTree, expected: PyTree) -> bool:
    """Say whether an event shape may be that of data; of parts, those that are named must be."""
    if isinstance(got, dict):
        fits = isinstance(expected, dict) and got.keys() <= expected.keys()
        return fits and all(_agree(got[part], expected[part]) for part in got)
    single = isinstance(expected, tuple) and all(isinstance(size, int) for size in expected)
    return got is None or not single or got == expected
