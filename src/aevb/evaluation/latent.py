"""What one posterior says of each latent dimension: where it lies, its spread, its KL."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution

from aevb.models.priors import EqualMixture
from aevb.probability.divergences import has_closed_form, kl_per_dimension

N_DRAWS = 32


def location(q: Distribution) -> Float[Array, " d"]:
    """Return the mean of each latent, or the median where the family has no mean (Cauchy)."""
    base = _components(q)
    return base.loc if isinstance(base, dist.Cauchy) else q.mean


def spread(q: Distribution) -> Float[Array, " d"]:
    """Return the variance of each latent: infinite where the family has none (Cauchy)."""
    base = _components(q)
    return jnp.full_like(base.loc, jnp.inf) if isinstance(base, dist.Cauchy) else q.variance


def marginal_kl(q: Distribution, p: Distribution, key: Key) -> Float[Array, " d"]:
    r"""KL of each latent's own distribution, :math:`\mathrm{KL}(q(z_j|x) \| p(z_j))`; nats.

    Where latents are independent under q and p these sum to the KL of the bound. Their sum is less
    where they are dependent under q alone, and no part of the bound where they are under p.

    Parameters
    ----------
    q, p : Distribution
        Over vectors of the same length d.
    key : Array
        Of the draws to average over where the divergence has no closed form; the estimate is
        unbiased, and may be negative.

    Returns
    -------
    Array
        Shape (d,); NaN where the density of a single latent is not known, as under a flow.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> p = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    >>> q = dist.Normal(jnp.array([0.0, 1.0]), 1.0).to_event(1)
    >>> marginal_kl(q, p, jax.random.key(0)).tolist()
    [0.0, 0.5]
    """
    independent = _components(q) is not None and _components(p) is not None
    if independent and has_closed_form(q, p):
        return kl_per_dimension(q, p)

    def log_ratio(z: Float[Array, " d"]) -> Float[Array, " d"]:
        log_q, log_p = log_marginals(q, z), log_marginals(p, z)
        if log_q is None or log_p is None:
            return jnp.full(z.shape, jnp.nan)
        return log_q - log_p

    return jnp.mean(jax.vmap(log_ratio)(q.sample(key, (N_DRAWS,))), axis=0)


def log_marginals(d: Distribution, z: Float[Array, " d"]) -> Float[Array, " d"] | None:
    """Log-density of each entry of one z by itself, nats; None where it is not known."""
    base = _components(d)
    if base is not None:
        return base.log_prob(z)
    if isinstance(d, dist.MultivariateNormal | dist.LowRankMultivariateNormal):
        return dist.Normal(d.mean, jnp.sqrt(d.variance)).log_prob(z)
    if isinstance(d, dist.MultivariateStudentT):
        scale = jnp.linalg.norm(d.scale_tril, axis=-1)
        return dist.StudentT(d.df, d.loc, scale).log_prob(z)
    if isinstance(d, dist.Dirichlet):
        rest = jnp.sum(d.concentration) - d.concentration
        return dist.Beta(d.concentration, rest).log_prob(z)
    if isinstance(d, dist.MixtureSameFamily):
        each = _components(d.component_distribution)
        if each is None:
            return None
        log_weight = jax.nn.log_softmax(d.mixing_distribution.logits)
        return jax.nn.logsumexp(each.log_prob(z) + log_weight[:, None], axis=0)
    if isinstance(d, EqualMixture) and log_marginals(d.component, z) is not None:
        each = d.over_components(lambda q: log_marginals(q, z))
        return jax.nn.logsumexp(each, axis=0) - math.log(len(each))
    return None


def _components(d: Distribution) -> Distribution | None:
    """Return the distributions of the entries of a vector, if they are independent, else None."""
    independent = isinstance(d, dist.Independent) and d.base_dist.event_shape == ()
    return d.base_dist if independent and len(d.event_shape) == 1 else None
