"""Kullback-Leibler divergences in closed form, dispatched on the pair of types."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.distribution import ExpandedDistribution
from numpyro.distributions.kl import kl_divergence as numpyro_kl


def _normal_normal(q: dist.Normal, p: dist.Normal) -> Array:
    log_ratio = 2 * (jnp.log(q.scale) - jnp.log(p.scale))
    mahalanobis = ((q.loc - p.loc) / p.scale) ** 2
    return 0.5 * (jnp.exp(log_ratio) + mahalanobis - 1 - log_ratio)


_RULES: dict[tuple[type, type], Callable] = {
    (dist.Normal, dist.Normal): _normal_normal,
}


def _core(d: dist.Distribution) -> dist.Distribution:
    while isinstance(d, (dist.Independent, ExpandedDistribution)):
        d = d.base_dist
    return d


def _rule(q: dist.Distribution, p: dist.Distribution) -> Callable | None:
    pair = (type(_core(q)), type(_core(p)))
    return _RULES.get(pair) or numpyro_kl.dispatch(*pair)


def has_closed_form(q: dist.Distribution, p: dist.Distribution) -> bool:
    """Say whether KL(q‖p) is known in closed form for this pair of families.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> has_closed_form(dist.Normal(), dist.Normal()), has_closed_form(dist.Normal(), dist.Cauchy())
    (True, False)
    """
    return q.event_shape == p.event_shape and _rule(q, p) is not None


def kl_per_dimension(q: dist.Distribution, p: dist.Distribution) -> Array:
    """KL of each independent component, before the sum over the event; nats.

    Examples
    --------
    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> q = dist.Normal(jnp.array([0.0, 1.0]), 1.0).to_event(1)
    >>> kl_per_dimension(q, dist.Normal(jnp.zeros(2), 1.0).to_event(1)).tolist()
    [0.0, 0.5]
    """
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"Expected distributions of the same event shape for KL(q‖p); got {q.event_shape} "
            f"and {p.event_shape}. Join independent components with `.to_event`."
        )
    rule = _rule(q, p)
    if rule is None:
        raise NotImplementedError(
            f"No closed form is known for KL({_family(q)}‖{_family(p)}); use estimator 'A'."
        )
    components = q.event_shape[: q.event_dim - _core(q).event_dim]
    shape = jnp.broadcast_shapes(q.batch_shape, p.batch_shape) + components
    return jnp.broadcast_to(rule(_core(q), _core(p)), shape)


def kl_divergence(q: dist.Distribution, p: dist.Distribution) -> Array:
    r"""Kullback-Leibler divergence KL(q‖p) in closed form, nats.

    For two diagonal Gaussians this is the paper's equation (10),
    :math:`-\tfrac12 \sum_j (1 + \log \sigma_j^2 - \mu_j^2 - \sigma_j^2)` when p is N(0, I).

    Parameters
    ----------
    q, p : Distribution
        Distributions with the same event shape.

    Returns
    -------
    Array
        The divergence, one number per element of the batch shape.

    Raises
    ------
    NotImplementedError
        When no closed form is known for the pair; see `has_closed_form`.
    ValueError
        When the event shapes differ.

    Examples
    --------
    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> q = dist.Normal(jnp.array([0.0, 1.0]), 1.0).to_event(1)
    >>> float(kl_divergence(q, dist.Normal(jnp.zeros(2), 1.0).to_event(1)))
    0.5
    """
    kl = kl_per_dimension(q, p)
    event_dims = q.event_dim - _core(q).event_dim
    return jnp.sum(kl, axis=tuple(range(-event_dims, 0))) if event_dims else kl


def _family(d: dist.Distribution) -> str:
    return type(_core(d)).__name__
