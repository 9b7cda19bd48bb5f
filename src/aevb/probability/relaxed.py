"""A continuous relaxation of a choice among K, for latents that would be discrete."""

from __future__ import annotations

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample


class _LogSimplex(constraints.ParameterFreeConstraint):
    """Vectors y whose exp(y) sums to one: a surface, as the simplex is."""

    event_dim = 1
    measure = "the log-simplex"
    reltol = 10.0  # relative to the machine's precision

    def __call__(self, x: Array) -> Array:
        tolerance = self.reltol * jnp.finfo(jnp.result_type(x, float)).eps * jnp.shape(x)[-1] ** 0.5
        return jnp.abs(jax.nn.logsumexp(x, axis=-1)) < tolerance

    def feasible_like(self, prototype: Array) -> Array:
        return jnp.full_like(prototype, -math.log(jnp.shape(prototype)[-1]))


log_simplex = _LogSimplex()


class ExpRelaxedOneHotCategorical(Distribution):
    r"""Logarithm of a relaxed one-hot vector (Concrete, Gumbel-softmax), of K entries.

    .. math:: y = \frac{\eta + g}{\tau} - \log \sum_k e^{(\eta_k + g_k)/\tau}, \quad
              g_k \sim \mathrm{Gumbel}(0, 1)

    so that exp(y) lies in the simplex, and is one-hot as the temperature falls to 0. The density is
    that of y on the surface where exp(y) sums to one; in logarithms it does not underflow, and a
    divergence is the same as between the relaxed vectors themselves.

    Parameters
    ----------
    temperature : Array
        τ, above 0.
    logits : Array
        η, shape (..., K), unnormalised.

    References
    ----------
    Maddison, Mnih and Teh (2017), appendix C.3, https://arxiv.org/abs/1611.00712

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> choice = ExpRelaxedOneHotCategorical(0.5, jnp.zeros(3))
    >>> y = choice.sample(jax.random.key(0))
    >>> round(float(jnp.exp(y).sum()), 4), choice.log_prob(y).shape
    (1.0, ())
    """

    arg_constraints: ClassVar = {
        "temperature": constraints.positive,
        "logits": constraints.real_vector,
    }
    support = log_simplex
    reparametrized_params: ClassVar = ["temperature", "logits"]

    def __init__(self, temperature: Array, logits: Array, *, validate_args: bool | None = None):
        self.temperature = temperature
        self.logits = logits
        batch_shape = jax.lax.broadcast_shapes(jnp.shape(temperature), jnp.shape(logits)[:-1])
        super().__init__(batch_shape, jnp.shape(logits)[-1:], validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw logarithms of relaxed one-hot vectors."""
        noise = jax.random.gumbel(key, self.shape(sample_shape), jnp.result_type(float))
        temperature = jnp.asarray(self.temperature)[..., None]
        return jax.nn.log_softmax((self.logits + noise) / temperature)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return the log-density of logarithms of relaxed one-hot vectors, nats."""
        K = self.event_shape[0]
        temperature = jnp.asarray(self.temperature)
        score = self.logits - temperature[..., None] * value
        constant = math.lgamma(K) + (K - 1) * jnp.log(temperature)
        return constant + jnp.sum(score, -1) - K * jax.nn.logsumexp(score, -1)
