"""Laws of counts, by their means and on logarithmic scales, exact in single precision.

Numbers that are large beside their differences cancel in the textbook forms: at a concentration of
1e8, a float32 logarithm of the gamma function is off by tens of nats. Deviances are written here by
`exp_excess`, and factorials by what Stirling's formula leaves.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution, constraints

from aevb.probability.special import (
    HALF_LOG_2PI,
    exp_excess,
    log_factorial,
    log_ratio,
    log_rising,
    stirling_remainder,
)

_LOG_MEANS = (-60.0, 60.0)
_LOG_CONCENTRATIONS = (-20.0, 20.0)


class Poisson(Distribution):
    """Poisson law of `log_rate`.

    Parameters
    ----------
    log_rate : Array
        Logarithm of the mean, between -60 and 60.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = Poisson(jnp.log(2.5))
    >>> round(float(law.mean), 4), float(law.mode), round(float(law.log_prob(3.0)), 4)
    (2.5, 2.0, -1.5429)
    """

    arg_constraints: ClassVar = {"log_rate": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_rate: Array, *, validate_args: bool | None = None):
        self.log_rate = jnp.clip(log_rate, *_LOG_MEANS)
        super().__init__(jnp.shape(log_rate), validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw counts."""
        return draw_poisson(key, jnp.exp(self.log_rate), sample_shape + self.batch_shape)

    def log_prob(self, value: Array) -> Array:
        """Return the log-probability of counts, nats."""
        x, some = _counts(value)
        rate = jnp.exp(self.log_rate)
        deviance = x * exp_excess(log_ratio(rate, x, rate - x))
        several = -deviance - HALF_LOG_2PI - 0.5 * jnp.log(x) - stirling_remainder(x)
        return jnp.where(some, several, -rate)

    @property
    def mean(self) -> Array:
        """Expectation."""
        return jnp.exp(self.log_rate)

    @property
    def variance(self) -> Array:
        """Variance."""
        return self.mean

    @property
    def mode(self) -> Array:
        """Most probable count."""
        return jnp.floor(self.mean)


class NegativeBinomial(Distribution):
    r"""Negative binomial law by mean and concentration: a gamma mixture of Poisson laws.

    Its variance is :math:`m + m^2 / r` for a mean m and a concentration r.

    Parameters
    ----------
    log_mean : Array
        Logarithm of m, between -60 and 60.
    log_concentration : Array
        Logarithm of r, between -20 and 20.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = NegativeBinomial(jnp.log(4.0), jnp.log(2.0))
    >>> round(float(law.variance), 4), round(float(law.log_prob(0.0)), 4)
    (12.0, -2.1972)
    """

    arg_constraints: ClassVar = {
        "log_mean": constraints.real,
        "log_concentration": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self, log_mean: Array, log_concentration: Array, *, validate_args: bool | None = None
    ):
        self.log_mean = jnp.clip(log_mean, *_LOG_MEANS)
        self.log_concentration = jnp.clip(log_concentration, *_LOG_CONCENTRATIONS)
        shape = jnp.broadcast_shapes(jnp.shape(log_mean), jnp.shape(log_concentration))
        super().__init__(shape, validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw counts."""
        shape = sample_shape + self.batch_shape
        key_gamma, key_poisson = jax.random.split(key)
        log_gamma = jax.random.loggamma(key_gamma, jnp.exp(self.log_concentration), shape)
        rate = jnp.exp(log_gamma - self.log_concentration + self.log_mean)
        return draw_poisson(key_poisson, rate, shape)

    def log_prob(self, value: Array) -> Array:
        """Return the log-probability of counts, nats."""
        x, some = _counts(value)
        m, r = jnp.exp(self.log_mean), jnp.exp(self.log_concentration)
        apart = x - m
        deviance = x * log_ratio(x, m, apart) - (r + x) * log_ratio(r + x, r + m, apart)
        between = stirling_remainder(r + x) - stirling_remainder(r) - stirling_remainder(x)
        log_x = jnp.log(x)
        spread = 0.5 * (log_x + jax.nn.softplus(log_x - self.log_concentration))
        none = -r * jax.nn.softplus(self.log_mean - self.log_concentration)
        return jnp.where(some, between - deviance - HALF_LOG_2PI - spread, none)

    @property
    def mean(self) -> Array:
        """Expectation."""
        return jnp.broadcast_to(jnp.exp(self.log_mean), self.batch_shape)

    @property
    def variance(self) -> Array:
        """Variance."""
        return self.mean * (1 + jnp.exp(self.log_mean - self.log_concentration))

    @property
    def mode(self) -> Array:
        """Most probable count."""
        share = 1 - jnp.exp(-self.log_concentration)
        return jnp.floor(self.mean * jnp.maximum(share, 0))


class ZeroInflated(Distribution):
    """Law of counts with more zeros: 0 with some probability, else as `base`.

    Parameters
    ----------
    base : Distribution
        Law of counts.
    logits : Array
        Log-odds of the additional zeros.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = ZeroInflated(Poisson(jnp.log(2.0)), jnp.array(0.0))
    >>> round(float(law.mean), 4), round(float(jnp.exp(law.log_prob(0.0))), 4)
    (1.0, 0.5677)
    """

    arg_constraints: ClassVar = {"logits": constraints.real}
    support = constraints.nonnegative_integer
    pytree_data_fields = ("base",)

    def __init__(self, base: Distribution, logits: Array, *, validate_args: bool | None = None):
        self.base, self.logits = base, logits
        shape = jnp.broadcast_shapes(base.batch_shape, jnp.shape(logits))
        super().__init__(shape, validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw counts."""
        key_zero, key_base = jax.random.split(key)
        zero = jax.random.bernoulli(
            key_zero, jax.nn.sigmoid(self.logits), sample_shape + self.batch_shape
        )
        return jnp.where(zero, 0.0, self.base.sample(key_base, sample_shape))

    def log_prob(self, value: Array) -> Array:
        """Return the log-probability of counts, nats."""
        own = self.base.log_prob(value) + jax.nn.log_sigmoid(-self.logits)
        zero = jnp.logaddexp(jax.nn.log_sigmoid(self.logits), own)
        return jnp.where(jnp.asarray(value) == 0, zero, own)

    @property
    def mean(self) -> Array:
        """Expectation."""
        return self.base.mean * jax.nn.sigmoid(-self.logits)

    @property
    def variance(self) -> Array:
        """Variance."""
        kept = jax.nn.sigmoid(-self.logits)
        return kept * (self.base.variance + (1 - kept) * self.base.mean**2)

    @property
    def mode(self) -> Array:
        """Most probable count."""
        other = self.base.mode
        zero = jnp.zeros_like(other)
        return jnp.where(self.log_prob(other) > self.log_prob(zero), other, zero)


class BetaBinomial(Distribution):
    r"""Beta-binomial law by its mean share and concentration: a beta mixture of binomial laws.

    Parameters
    ----------
    logits : Array
        Log-odds of the mean share.
    log_concentration : Array
        Logarithm of the sum of the beta's two parameters, between -20 and 20.
    total : Array
        Number of trials.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = BetaBinomial(jnp.array(0.0), jnp.log(2.0), 5.0)  # uniform
    >>> float(law.mean), round(float(jnp.exp(law.log_prob(4.0))), 4)
    (2.5, 0.1667)
    """

    arg_constraints: ClassVar = {
        "logits": constraints.real,
        "log_concentration": constraints.real,
        "total": constraints.nonnegative,
    }

    def __init__(
        self,
        logits: Array,
        log_concentration: Array,
        total: Any,
        *,
        validate_args: bool | None = None,
    ):
        self.logits = logits
        self.log_concentration = jnp.clip(log_concentration, *_LOG_CONCENTRATIONS)
        self.total = jnp.asarray(total, jnp.result_type(float))
        shape = jnp.broadcast_shapes(*map(jnp.shape, (logits, log_concentration, self.total)))
        super().__init__(shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The whole numbers from 0 to the number of trials."""
        return constraints.integer_interval(0, self.total)

    def _log_parameters(self) -> tuple[Array, Array]:
        """Return the logarithms of the beta's parameters."""
        return (
            self.log_concentration + jax.nn.log_sigmoid(self.logits),
            self.log_concentration + jax.nn.log_sigmoid(-self.logits),
        )

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw numbers of successes."""
        shape = sample_shape + self.batch_shape
        key_share, key_count = jax.random.split(key)
        a, b = (
            jax.random.loggamma(k, jnp.broadcast_to(jnp.exp(log), shape))
            for k, log in zip(jax.random.split(key_share), self._log_parameters(), strict=True)
        )
        return jax.random.binomial(
            _counter_key(key_count), self.total, jax.nn.sigmoid(a - b), shape
        ).astype(jnp.result_type(float))

    def log_prob(self, value: Array) -> Array:
        """Return the log-probability of numbers of successes, nats."""
        x, n = jnp.asarray(value, jnp.result_type(float)), self.total
        log_a, log_b = self._log_parameters()
        ways = log_factorial(n) - log_factorial(x) - log_factorial(n - x)
        won, lost = _log_rising(log_a, x), _log_rising(log_b, n - x)
        return ways + won + lost - _log_rising(self.log_concentration, n)

    @property
    def mean(self) -> Array:
        """Expectation."""
        return self.total * jax.nn.sigmoid(self.logits) + jnp.zeros(self.batch_shape)

    @property
    def variance(self) -> Array:
        """Variance."""
        whole = jnp.exp(self.log_concentration)
        return self.mean * jax.nn.sigmoid(-self.logits) * (whole + self.total) / (whole + 1)

    @property
    def mode(self) -> Array:
        """Most probable number of successes."""
        a, b = map(jnp.exp, self._log_parameters())
        inner = (a > 1) & (b > 1)
        within = (self.total + 1) * (a - 1) / jnp.where(inner, a + b - 2, 1)
        within = jnp.clip(jnp.floor(within), 0, self.total)
        return jnp.where(inner, within, jnp.where(a > b, self.total, 0.0))


def _counts(value: Any) -> tuple[Array, Array]:
    """Return the counts as floats, 1 in the place of 0, and where they are not 0."""
    x = jnp.asarray(value, jnp.result_type(float))
    some = x > 0
    return jnp.where(some, x, 1.0), some


def _log_rising(log_a: Array, x: Array) -> Array:
    """Return log Γ(a + x) / Γ(a) of whole numbers x, for an a that may be 0 in single precision."""
    some = x >= 1
    further = log_rising(jnp.exp(log_a) + 1, jnp.where(some, x, 1.0) - 1)
    return jnp.where(some, log_a + further, 0.0)


def draw_poisson(key: Key, rate: Array, shape: tuple[int, ...]) -> Array:
    """Draw Poisson counts as floats; beyond 1e9 by the normal law, which they follow there.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> draw_poisson(jax.random.key(0), jnp.array([0.0, 3.0, 1e12]), (3,)).shape
    (3,)
    """
    key = _counter_key(key)
    most = 1e9
    few = jax.random.poisson(key, jnp.minimum(rate, most), shape).astype(jnp.result_type(float))
    many = jnp.round(rate + jnp.sqrt(rate) * jax.random.normal(key, shape))
    return jnp.where(rate > most, many, few)


def _counter_key(key: Key) -> Key:
    """Return a key of the one generator that JAX draws counts by."""
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")
