"""Kullback-Leibler divergences in closed form, dispatched on the pair of types."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.scipy.special import gammaln
from numpyro.distributions.distribution import ExpandedDistribution
from numpyro.distributions.kl import kl_divergence as numpyro_kl

from aevb.probability.families import FisherSnedecor, Rayleigh, Triangular
from aevb.probability.measures import have_ratio, measure_of
from aevb.probability.positive import Gompertz


def _normal_normal(q: dist.Normal, p: dist.Normal) -> Array:
    log_ratio = 2 * (jnp.log(q.scale) - jnp.log(p.scale))
    mahalanobis = ((q.loc - p.loc) / p.scale) ** 2
    return 0.5 * (jnp.exp(log_ratio) + mahalanobis - 1 - log_ratio)


def _laplace_laplace(q: dist.Laplace, p: dist.Laplace) -> Array:
    distance, ratio = jnp.abs(q.loc - p.loc) / p.scale, q.scale / p.scale
    return distance + ratio * jnp.exp(-distance / ratio) - 1 - jnp.log(ratio)


def _cauchy_cauchy(q: dist.Cauchy, p: dist.Cauchy) -> Array:
    excess = (q.scale - p.scale) ** 2 + (q.loc - p.loc) ** 2
    return jnp.log1p(excess / (4 * q.scale * p.scale))


def _gumbel_gumbel(q: dist.Gumbel, p: dist.Gumbel) -> Array:
    ratio, shift = q.scale / p.scale, (q.loc - p.loc) / p.scale
    mean_tail = jnp.exp(gammaln(1 + ratio) - shift)  # E_q exp(-(z - p.loc) / p.scale)
    return shift + mean_tail - 1 - jnp.log(ratio) + jnp.euler_gamma * (ratio - 1)


def _rayleigh_rayleigh(q: Rayleigh, p: Rayleigh) -> Array:
    log_ratio = 2 * (jnp.log(q.scale) - jnp.log(p.scale))
    return jnp.expm1(log_ratio) - log_ratio


def _weibull_weibull(q: dist.Weibull, p: dist.Weibull) -> Array:
    ratio, log_scales = p.concentration / q.concentration, jnp.log(q.scale) - jnp.log(p.scale)
    mean_power = jnp.exp(gammaln(1 + ratio) + p.concentration * log_scales)  # E_q (z / p.scale)^k
    mean_log = (ratio - 1) * jnp.euler_gamma - p.concentration * log_scales
    return mean_power + mean_log - 1 - jnp.log(ratio)


def _uniform_uniform(q: dist.Uniform, p: dist.Uniform) -> Array:
    inside = (p.low <= q.low) & (q.high <= p.high)
    return jnp.where(inside, jnp.log(p.high - p.low) - jnp.log(q.high - q.low), jnp.inf)


def _against_gamma(q: dist.Distribution, p: dist.Distribution) -> Array:
    return numpyro_kl(_as_gamma(q), _as_gamma(p))


def _as_gamma(d: dist.Distribution) -> dist.Distribution:
    return dist.Gamma(1.0, d.rate) if isinstance(d, dist.Exponential) else d


def _against_normal(q: dist.Distribution, p: dist.Normal) -> Array:
    return _cross_entropy(q, p) - q.entropy()


def _cross_entropy(q: dist.Distribution, p: dist.Normal) -> Array:
    """Return -E_q log p, for any q with a mean and a variance."""
    square = (q.variance + (q.mean - p.loc) ** 2) / p.scale**2
    each = 0.5 * (square + math.log(2 * math.pi)) + jnp.log(p.scale)
    return jnp.sum(each, axis=-1) if q.event_dim else each


def _gumbel_normal(q: dist.Gumbel, p: dist.Normal) -> Array:
    entropy = 1 + jnp.euler_gamma + jnp.log(q.scale)  # NumPyro's has none
    return _cross_entropy(q, p) - entropy


def _student_normal(q: dist.StudentT, p: dist.Normal) -> Array:
    has_variance = q.df > 2
    safe = dist.StudentT(jnp.where(has_variance, q.df, 3.0), q.loc, q.scale)
    return jnp.where(has_variance, _against_normal(safe, p), jnp.inf)


# A rule serves subclasses, too.
_RULES: dict[tuple[type, type], Callable] = {
    (dist.Normal, dist.Normal): _normal_normal,
    (dist.LogNormal, dist.LogNormal): _normal_normal,  # one map of two normals
    (dist.Laplace, dist.Laplace): _laplace_laplace,
    (dist.Cauchy, dist.Cauchy): _cauchy_cauchy,
    (dist.Gumbel, dist.Gumbel): _gumbel_gumbel,
    (Rayleigh, Rayleigh): _rayleigh_rayleigh,
    (dist.Weibull, dist.Weibull): _weibull_weibull,
    (dist.Uniform, dist.Uniform): _uniform_uniform,
    (dist.Exponential, dist.Exponential): _against_gamma,
    (dist.Exponential, dist.Gamma): _against_gamma,
    (dist.Gamma, dist.Exponential): _against_gamma,
    (dist.Weibull, dist.Exponential): _against_gamma,
    (dist.Gumbel, dist.Normal): _gumbel_normal,
    (dist.StudentT, dist.Normal): _student_normal,
}
_WITH_ENTROPY = (
    *(dist.Laplace, dist.Logistic, dist.Uniform, Triangular),
    *(dist.Exponential, dist.Gamma, dist.Weibull, dist.LogNormal, dist.LogUniform, dist.Pareto),
    *(dist.Beta, Rayleigh, Gompertz, FisherSnedecor),
    *(dist.MultivariateNormal, dist.LowRankMultivariateNormal),
)
_RULES |= {(family, dist.Normal): _against_normal for family in _WITH_ENTROPY}


def _core(d: dist.Distribution) -> dist.Distribution:
    while isinstance(d, (dist.Independent, ExpandedDistribution)):
        d = d.base_dist
    return d


def _rule(q: dist.Distribution, p: dist.Distribution) -> Callable | None:
    if not have_ratio(measure_of(q), measure_of(p)):
        return None  # NumPyro has a "divergence" of a point mass from any density
    types = type(_core(q)), type(_core(p))
    for pair in itertools.product(types[0].__mro__, types[1].__mro__):
        if pair in _RULES:
            return _RULES[pair]
    return numpyro_kl.dispatch(*types)


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

    Raises
    ------
    ValueError
        When no closed form is known for the pair (see `has_closed_form`), when the event shapes
        differ, or the dimensions of `q` or `p` are not independent of one another, as those of a
        multivariate normal with full covariance: their divergence is not a sum over dimensions, and
        only `kl_divergence` has a value.

    Examples
    --------
    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> q = dist.Normal(jnp.array([0.0, 1.0]), 1.0).to_event(1)
    >>> kl_per_dimension(q, dist.Normal(jnp.zeros(2), 1.0).to_event(1)).tolist()
    [0.0, 0.5]
    """
    kl = _kl_per_component(q, p)
    for d in (q, p):
        if _core(d).event_dim:
            raise ValueError(
                "Expected distributions of independent dimensions for the KL per dimension; got "
                f"{_family(d)}, which does not factorise. `kl_divergence` gives the whole."
            )
    return kl


def kl_divergence(q: dist.Distribution, p: dist.Distribution) -> Array:
    r"""Kullback-Leibler divergence KL(q‖p) in closed form, nats.

    For two diagonal Gaussians this is the paper's equation (10),
    :math:`-\tfrac12 \sum_j (1 + \log \sigma_j^2 - \mu_j^2 - \sigma_j^2)` when p is N(0, I).
    Against independent normals there is one for every q of known entropy, mean and variance,
    :math:`-H(q) - E_q \log p`: among them normals of full and of low-rank covariance.

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
    ValueError
        When no closed form is known for the pair (see `has_closed_form`), or the event shapes
        differ.

    Examples
    --------
    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> q = dist.Normal(jnp.array([0.0, 1.0]), 1.0).to_event(1)
    >>> float(kl_divergence(q, dist.Normal(jnp.zeros(2), 1.0).to_event(1)))
    0.5
    """
    kl = _kl_per_component(q, p)
    event_dims = q.event_dim - _core(q).event_dim
    return jnp.sum(kl, axis=tuple(range(-event_dims, 0))) if event_dims else kl


def _kl_per_component(q: dist.Distribution, p: dist.Distribution) -> Array:
    """Evaluate the rule for the pair; a component is one number, or one event of a joint family."""
    if q.event_shape != p.event_shape:
        raise ValueError(
            f"Expected distributions of the same event shape for KL(q‖p); got {q.event_shape} "
            f"and {p.event_shape}. Join independent components with `.to_event`."
        )
    rule = _rule(q, p)
    if rule is None:
        raise ValueError(
            f"No closed form is known for KL({_family(q)}‖{_family(p)}); use estimator 'A'."
        )
    components = q.event_shape[: q.event_dim - _core(q).event_dim]
    shape = jnp.broadcast_shapes(q.batch_shape, p.batch_shape) + components
    return jnp.broadcast_to(rule(_core(q), _core(p)), shape)


def _family(d: dist.Distribution) -> str:
    return type(_core(d)).__name__
