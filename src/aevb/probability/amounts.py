"""Laws of positive amounts and of proportions, by their locations, exact in single precision."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution, constraints

from aevb.probability.positive import above_zero, open_uniform
from aevb.probability.special import (
    HALF_LOG_2PI,
    exp_excess,
    log_rising,
    stirling_remainder,
)

_LOGS = (-60.0, 60.0)
_LOG_CONCENTRATIONS = (-20.0, 20.0)
_TINY, _BELOW_ONE = float(np.finfo(np.float32).tiny), float(np.nextafter(np.float32(1), 0))


class LogNormal(dist.LogNormal):
    """NumPyro's log-normal law, with its mode; draws stay positive numbers."""

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw amounts."""
        normal = self.loc + self.scale * jax.random.normal(key, sample_shape + self.batch_shape)
        return jnp.exp(jnp.clip(normal, -80.0, 80.0))

    @property
    def mode(self) -> Array:
        """Where the density is highest."""
        return jnp.exp(self.loc - self.scale**2)


class MeanGamma(Distribution):
    r"""Gamma law by its mean and concentration; its variance is :math:`m^2 / k`.

    Parameters
    ----------
    log_mean : Array
        Logarithm of m, between -60 and 60.
    log_concentration : Array
        Logarithm of k, between -20 and 20.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = MeanGamma(jnp.log(3.0), jnp.log(2.0))
    >>> round(float(law.variance), 4), round(float(law.mode), 4), round(float(law.log_prob(3.0)), 4)
    (4.5, 1.5, -1.7123)
    """

    arg_constraints: ClassVar = {
        "log_mean": constraints.real,
        "log_concentration": constraints.real,
    }
    support = constraints.positive

    def __init__(
        self, log_mean: Array, log_concentration: Array, *, validate_args: bool | None = None
    ):
        self.log_mean = jnp.clip(log_mean, *_LOGS)
        self.log_concentration = jnp.clip(log_concentration, *_LOG_CONCENTRATIONS)
        shape = jnp.broadcast_shapes(jnp.shape(log_mean), jnp.shape(log_concentration))
        super().__init__(shape, validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw amounts, never 0."""
        k = jnp.exp(self.log_concentration)
        log_draw = jax.random.loggamma(key, k, sample_shape + self.batch_shape)
        return above_zero(jnp.exp(log_draw - self.log_concentration + self.log_mean))

    def log_prob(self, value: Array) -> Array:
        """Return the log-density of amounts, nats."""
        log_x = jnp.log(value)
        k = jnp.exp(self.log_concentration)
        fit = 0.5 * self.log_concentration - HALF_LOG_2PI - stirling_remainder(k)
        return fit - log_x - k * exp_excess(jnp.minimum(log_x - self.log_mean, _LOGS[1]))

    @property
    def mean(self) -> Array:
        """Expectation."""
        return jnp.broadcast_to(jnp.exp(self.log_mean), self.batch_shape)

    @property
    def variance(self) -> Array:
        """Variance."""
        return self.mean * jnp.exp(self.log_mean - self.log_concentration)

    @property
    def mode(self) -> Array:
        """Where the density is highest; the least positive number if it rises towards 0."""
        return jnp.maximum(self.mean * (1 - jnp.exp(-self.log_concentration)), _TINY)


class MeanBeta(Distribution):
    r"""Beta law by its mean and concentration; its variance is :math:`m (1 - m) / (c + 1)`.

    Parameters
    ----------
    logits : Array
        Log-odds of the mean m.
    log_concentration : Array
        Logarithm of the sum c of the two usual parameters, between -20 and 20.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = MeanBeta(jnp.array(0.0), jnp.log(4.0))
    >>> float(law.mode), round(float(law.variance), 4), round(float(law.log_prob(0.25)), 4)
    (0.5, 0.05, 0.1178)
    """

    arg_constraints: ClassVar = {"logits": constraints.real, "log_concentration": constraints.real}
    support = constraints.unit_interval

    def __init__(
        self, logits: Array, log_concentration: Array, *, validate_args: bool | None = None
    ):
        self.logits = jnp.clip(logits, *_LOGS)
        self.log_concentration = jnp.clip(log_concentration, *_LOG_CONCENTRATIONS)
        shape = jnp.broadcast_shapes(jnp.shape(logits), jnp.shape(log_concentration))
        super().__init__(shape, validate_args=validate_args)

    @property
    def _logs(self) -> tuple[Array, Array]:
        """Logarithms of the mean and of its complement."""
        return jax.nn.log_sigmoid(self.logits), jax.nn.log_sigmoid(-self.logits)

    @property
    def parameters(self) -> tuple[Array, Array]:
        """The two usual parameters."""
        first, second = (jnp.exp(self.log_concentration + log) for log in self._logs)
        return first, second

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw proportions, never 0 or 1."""
        shape = sample_shape + self.batch_shape
        one, other = (
            jax.random.loggamma(k, jnp.broadcast_to(p, shape))
            for k, p in zip(jax.random.split(key), self.parameters, strict=True)
        )
        return jnp.clip(jax.nn.sigmoid(one - other), _TINY, _BELOW_ONE)

    def log_prob(self, value: Array) -> Array:
        """Return the log-density of proportions, nats."""
        a, b = self.parameters
        logs = self._logs
        log_x, log_rest = jnp.log(value), jnp.log1p(-value)
        whole = jnp.exp(self.log_concentration)
        fit = a * (log_x - logs[0]) + b * (log_rest - logs[1]) - log_x - log_rest
        remainders = stirling_remainder(whole) - stirling_remainder(a) - stirling_remainder(b)
        return fit + 0.5 * (self.log_concentration + sum(logs)) - HALF_LOG_2PI + remainders

    @property
    def mean(self) -> Array:
        """Expectation."""
        return jnp.broadcast_to(jax.nn.sigmoid(self.logits), self.batch_shape)

    @property
    def variance(self) -> Array:
        """Variance."""
        return jnp.exp(sum(self._logs)) / (1 + jnp.exp(self.log_concentration))

    @property
    def mode(self) -> Array:
        """Where the density is highest: within, or next to an end if it rises towards that."""
        a, b = self.parameters
        inner = (a > 1) & (b > 1)
        within = (a - 1) / jnp.where(inner, a + b - 2, 1)
        return jnp.where(inner, within, jnp.where(a > b, _BELOW_ONE, _TINY))


class ContinuousBernoulli(Distribution):
    r"""Continuous Bernoulli law on [0, 1]: its density is proportional to :math:`e^{\eta x}`.

    Loaiza-Ganem and Cunningham (2019), https://arxiv.org/abs/1907.06845. It is what the Bernoulli
    likelihood of gray levels becomes when it is normalised.

    Parameters
    ----------
    logits : Array
        :math:`\eta`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = ContinuousBernoulli(jnp.array(2.0))
    >>> round(float(law.mean), 4), round(float(law.log_prob(0.3)), 4)
    (0.6565, -0.5614)
    """

    arg_constraints: ClassVar = {"logits": constraints.real}
    support = constraints.unit_interval

    def __init__(self, logits: Array, *, validate_args: bool | None = None):
        self.logits = logits
        super().__init__(jnp.shape(logits), validate_args=validate_args)

    def _split(self) -> tuple[Array, Array, Array]:
        """Return whether the logits are small, those that are (or 0), and the others (or 1)."""
        small = jnp.abs(self.logits) < 0.3
        return small, jnp.where(small, self.logits, 0.0), jnp.where(small, 1.0, self.logits)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse distribution function."""
        u = open_uniform(key, sample_shape + self.batch_shape)
        small, near, far = self._split()
        size = jnp.abs(far)
        # From the end where the density is highest: 1 + log(u + (1 - u) e^-|η|) / |η|.
        top = 1 + jnp.logaddexp(jnp.log(u), jnp.log1p(-u) - size) / size
        drawn = jnp.where(far > 0, top, 1 - top)
        flat = u + near * u * (1 - u) / 2 * (1 + near * (1 - 2 * u) / 3)
        return jnp.clip(jnp.where(small, flat, drawn), 0.0, 1.0)

    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        small, near, far = self._split()
        half = jnp.abs(far) / 2
        log_ratio = half + jnp.log1p(-jnp.exp(-2 * half)) - jnp.log(2 * half)
        square = near**2
        series = square / 24 * (1 - square / 120 * (1 - square * 2 / 189))
        centred = jnp.asarray(value, self.logits.dtype) - 0.5  # log of sinh(η/2) / (η/2)
        return self.logits * centred - jnp.where(small, series, log_ratio)

    @property
    def mean(self) -> Array:
        """Expectation."""
        small, near, far = self._split()
        square = near**2
        series = 0.5 + near / 12 * (1 - square / 60 * (1 - square / 42))
        return jnp.where(small, series, -1 / jnp.expm1(-far) - 1 / far)

    @property
    def variance(self) -> Array:
        """Variance."""
        small, near, far = self._split()
        square = near**2
        series = (1 - square / 20 * (1 - square * 5 / 126)) / 12
        size = jnp.abs(far)
        return jnp.where(small, series, 1 / far**2 - jnp.exp(-size) / jnp.expm1(-size) ** 2)

    @property
    def mode(self) -> Array:
        """Where the density is highest: one of the two ends."""
        return jnp.where(self.logits > 0, 1.0, 0.0)


class StudentT(Distribution):
    """Student's t law by the logarithms of its scale and degrees of freedom.

    Parameters
    ----------
    loc : Array
        Centre.
    log_scale, log_df : Array
        Logarithms of the scale and of the degrees of freedom.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = StudentT(jnp.array(1.0), jnp.array(0.0), jnp.log(4.0))
    >>> float(law.mean), float(law.variance), round(float(law.log_prob(2.0)), 4)
    (1.0, 2.0, -1.5387)
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real,
        "log_scale": constraints.real,
        "log_df": constraints.real,
    }
    support = constraints.real

    def __init__(
        self, loc: Array, log_scale: Array, log_df: Array, *, validate_args: bool | None = None
    ):
        self.loc, self.log_scale, self.log_df = loc, log_scale, log_df
        shape = jnp.broadcast_shapes(*map(jnp.shape, (loc, log_scale, log_df)))
        super().__init__(shape, validate_args=validate_args)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw numbers."""
        shape = sample_shape + self.batch_shape
        draws = jax.random.t(key, jnp.broadcast_to(jnp.exp(self.log_df), shape), shape)
        return self.loc + jnp.exp(self.log_scale) * draws

    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        df = jnp.exp(self.log_df)
        size = jnp.abs(value - self.loc) * jnp.exp(-self.log_scale)
        # Of a number whose square would overflow, the logarithm is doubled instead.
        far = size > 1e18
        near = jnp.log1p(jnp.where(far, 0.0, size) ** 2 / df)
        beyond = 2 * jnp.log(jnp.where(far, size, 1.0)) - self.log_df
        fit = log_rising(df / 2, jnp.asarray(0.5)) - 0.5 * (self.log_df + jnp.log(np.pi))
        return fit - self.log_scale - (df + 1) / 2 * jnp.where(far, beyond, near)

    @property
    def mean(self) -> Array:
        """Expectation; the centre where there is none."""
        return jnp.broadcast_to(self.loc, self.batch_shape)

    @property
    def variance(self) -> Array:
        """Variance, infinite for 2 degrees of freedom or fewer."""
        df: Any = jnp.exp(self.log_df)
        factor = jnp.where(df > 2, df / jnp.where(df > 2, df - 2, 1), jnp.inf)
        return jnp.broadcast_to(factor * jnp.exp(2 * self.log_scale), self.batch_shape)

    @property
    def mode(self) -> Array:
        """Where the density is highest."""
        return self.mean
