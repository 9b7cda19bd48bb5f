"""NumPyro's families on positive numbers, whose draws keep off the ends of their support.

NumPyro's own draw the end itself: an exponential 0 once in eight million 32-bit draws, a gamma of
small concentration far more often. There a log-density is infinite or its gradient NaN, and one
such draw ends a training. The classes here differ from NumPyro's of the same name only in that,
and in what their descriptions say.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample


def open_uniform(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw uniformly from the open interval (0, 1): never 0, never 1.

    Examples
    --------
    >>> import jax
    >>> draws = open_uniform(jax.random.key(0), (1000,))
    >>> bool(draws.min() > 0), bool(draws.max() < 1)
    (True, True)
    """
    steps = jax.random.uniform(key, shape)
    return steps + 0.5 * jnp.finfo(steps.dtype).eps  # the middle of a step of the generator


def standard_exponential(key: Array, shape: tuple[int, ...]) -> Array:
    """Draw from Exponential(1) by its inverse CDF; never 0.

    Examples
    --------
    >>> import jax
    >>> bool(standard_exponential(jax.random.key(0), (1000,)).min() > 0)
    True
    """
    return -jnp.log1p(-open_uniform(key, shape))


def above_zero(draws: Array) -> Array:
    """Lift draws that underflowed to the smallest number whose reciprocal is safe to multiply.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> bool(above_zero(jnp.array(0.0)) > 0), float(above_zero(jnp.array(0.5)))
    (True, 0.5)
    """
    info = jnp.finfo(draws.dtype)
    return jnp.maximum(draws, info.tiny / info.eps)


class Exponential(dist.Exponential):
    """Exponential(`rate`), never drawn as 0.

    Parameters
    ----------
    rate : Array
        The inverse of the mean, positive.

    Examples
    --------
    >>> import jax
    >>> float(Exponential(2.0).mean), Exponential(2.0).sample(jax.random.key(0), (3,)).shape
    (0.5, (3,))
    """

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse CDF."""
        return standard_exponential(key, sample_shape + self.batch_shape) / self.rate


class Weibull(dist.Weibull):
    """Weibull(`scale`, `concentration`), never drawn as 0, where its gradient is NaN.

    Parameters
    ----------
    scale : Array
        Scale, positive.
    concentration : Array
        Shape, positive.

    Examples
    --------
    >>> import jax
    >>> Weibull(2.0, 1.5).sample(jax.random.key(0), (3,)).shape
    (3,)
    """

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse CDF."""
        draws = standard_exponential(key, sample_shape + self.batch_shape)
        return above_zero(self.scale * draws ** (1 / self.concentration))


class Gamma(dist.Gamma):
    """Gamma(`concentration`, `rate`), never drawn as 0, as 32 bits do at a concentration of 0.3.

    Parameters
    ----------
    concentration : Array
        Shape, positive. Below 0.1, a thousandth of the draws and more are smaller than 32 bits
        can tell from 0; they are lifted, and estimates of the entropy are too high.
    rate : Array
        Inverse scale, positive.

    Examples
    --------
    >>> import jax
    >>> bool(Gamma(0.01, 1.0).sample(jax.random.key(0), (1000,)).min() > 0)
    True
    """

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw, with implicit gradients through the concentration."""
        return above_zero(super().sample(key, sample_shape))


class Chi2(dist.Chi2):
    """Chi-squared with `df` degrees of freedom, never drawn as 0.

    Parameters
    ----------
    df : Array
        Degrees of freedom, positive; of 0.2 or less, see `Gamma`.

    Examples
    --------
    >>> import jax
    >>> bool(Chi2(0.1).sample(jax.random.key(0), (1000,)).min() > 0)
    True
    """

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw, with implicit gradients through the degrees of freedom."""
        return above_zero(super().sample(key, sample_shape))


class Gompertz(dist.Gompertz):
    r"""Gompertz(`concentration`, `rate`): an exponential hazard; never drawn as 0.

    .. math:: F(x) = 1 - \exp(-c \, (e^{r x} - 1))

    NumPyro's has no variance and no entropy, and its mean is NaN for concentrations above 88.

    Parameters
    ----------
    concentration : Array
        :math:`c`, positive.
    rate : Array
        :math:`r`, positive.

    Examples
    --------
    >>> d = Gompertz(1.0, 2.0)
    >>> round(float(d.mean), 4), round(float(d.variance), 4)
    (0.2982, 0.0441)
    """

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse CDF."""
        return self._quantile(standard_exponential(key, sample_shape + self.batch_shape))

    def _quantile(self, exponential: Array) -> Array:
        """Return what a standard exponential variable turns into."""
        return jnp.log1p(exponential / self.concentration) / self.rate

    def _quadrature(self) -> tuple[Array, Array]:
        """Return points along a first axis, and weights of their sum, for expectations.

        The trapezoidal rule in the logarithm of an exponential variable, where the integrand is
        smooth and falls off so fast that the error is below that of 64-bit numbers.
        """
        step = 0.25
        nodes = np.arange(-38.0, 4.75, step).reshape(-1, *(1 for _ in self.batch_shape))
        return self._quantile(jnp.exp(nodes)), jnp.asarray(step * np.exp(nodes - np.exp(nodes)))

    @property
    def mean(self) -> Array:
        """Expectation."""
        points, weights = self._quadrature()
        return jnp.sum(weights * points, axis=0)

    @property
    def variance(self) -> Array:
        """Variance."""
        points, weights = self._quadrature()
        return jnp.sum(weights * (points - self.mean) ** 2, axis=0)

    def entropy(self) -> Array:
        """Differential entropy, nats."""
        return 1 - jnp.log(self.concentration * self.rate) - self.rate * self.mean


class Pareto(dist.Pareto):
    r"""Pareto(`scale`, `alpha`), of finite log-density also where a draw rounds to `scale`.

    .. math:: p(x) = \alpha \, s^\alpha / x^{\alpha + 1}, \qquad x \ge s

    Parameters
    ----------
    scale : Array
        :math:`s`, the lower end of the support, positive.
    alpha : Array
        Tail index, positive; the mean is infinite up to 1, the variance up to 2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(Pareto(2.0, 3.0).log_prob(jnp.array(2.0))), 4)
    0.4055
    """

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        """Return the numbers from `scale` on."""
        return constraints.greater_than_eq(self.scale)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse CDF."""
        draws = standard_exponential(key, sample_shape + self.batch_shape)
        return self.scale * jnp.exp(draws / self.alpha)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        relative = jnp.log(value) - jnp.log(self.scale)
        return jnp.log(self.alpha) - jnp.log(self.scale) - (self.alpha + 1) * relative


class Reciprocal(dist.LogUniform):
    r"""The reciprocal distribution from `low` to `high`: uniform in the logarithm.

    .. math:: p(x) = \frac{1}{x \, \log(b / a)}, \qquad a \le x \le b

    NumPyro's ``LogUniform``, of finite log-density also where a draw rounds to an end.

    Parameters
    ----------
    low, high : Array
        :math:`0 < a < b`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(Reciprocal(1.0, jnp.e).log_prob(2.0)), 4)
    -0.6931
    """

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse CDF."""
        draws = open_uniform(key, sample_shape + self.batch_shape)
        return jnp.clip(self.low * jnp.exp(draws * self._log_width), self.low, self.high)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        return -jnp.log(value) - jnp.log(self._log_width)

    @property
    def _log_width(self) -> Array:
        return jnp.log1p((self.high - self.low) / self.low)
