"""Continuous families that NumPyro lacks, all with reparameterised samples."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import betainc, betaln, digamma, gammaln
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import promote_shapes, validate_sample

from aevb.probability.positive import above_zero, open_uniform, standard_exponential


class Rayleigh(Distribution):
    r"""Rayleigh(`scale`): the length of a vector of two independent normals.

    .. math:: p(x) = \frac{x}{\sigma^2} \exp(-x^2 / 2\sigma^2), \qquad x > 0

    Parameters
    ----------
    scale : Array
        :math:`\sigma`, positive.

    Examples
    --------
    >>> import jax
    >>> d = Rayleigh(2.0)
    >>> round(float(d.mean), 4), d.sample(jax.random.key(0), (5,)).shape
    (2.5066, (5,))
    """

    arg_constraints: ClassVar = {"scale": constraints.positive}
    support = constraints.positive
    reparametrized_params: ClassVar = ["scale"]

    def __init__(self, scale: Array, *, validate_args: bool | None = None):
        self.scale = scale
        super().__init__(batch_shape=jnp.shape(scale), validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse CDF."""
        draws = standard_exponential(key, sample_shape + self.batch_shape)
        return self.scale * jnp.sqrt(2 * draws)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        return jnp.log(value) - 2 * jnp.log(self.scale) - 0.5 * (value / self.scale) ** 2

    @property
    def mean(self) -> Array:
        """Expectation."""
        return self.scale * jnp.sqrt(jnp.pi / 2)

    @property
    def variance(self) -> Array:
        """Variance."""
        return (2 - jnp.pi / 2) * jnp.square(self.scale)

    def cdf(self, value: Array) -> Array:
        """Return the probability of a smaller value."""
        return -jnp.expm1(-0.5 * (value / self.scale) ** 2)

    def icdf(self, q: Array) -> Array:
        """Return the quantile of a probability `q`."""
        return self.scale * jnp.sqrt(-2 * jnp.log1p(-q))

    def entropy(self) -> Array:
        """Differential entropy, nats."""
        return 1 + jnp.log(self.scale) - 0.5 * jnp.log(2) + 0.5 * jnp.euler_gamma


class Erlang(dist.Gamma):
    r"""Erlang(`concentration`, `rate`): the sum of `concentration` independent exponentials.

    A gamma distribution of whole concentration; a draw costs that many uniform ones.

    Parameters
    ----------
    concentration : int
        The number of exponentials, 1 or more; it is not learned.
    rate : Array
        The rate of each, positive.

    Raises
    ------
    ValueError
        When `concentration` is not a whole number, or is less than 1.

    Examples
    --------
    >>> d = Erlang(3, 2.0)
    >>> float(d.mean), float(d.variance)
    (1.5, 0.75)
    """

    arg_constraints: ClassVar = {"rate": constraints.positive}
    reparametrized_params: ClassVar = ["rate"]
    pytree_aux_fields = ("_n_terms",)

    def __init__(self, concentration: int, rate: Array, *, validate_args: bool | None = None):
        if not isinstance(concentration, int) or concentration < 1:
            raise ValueError(
                f"Expected a whole number of 1 or more for `concentration`; got {concentration!r}. "
                "Gamma takes any positive number."
            )
        self._n_terms = concentration
        super().__init__(float(concentration), rate, validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw a sum of exponentials, each by its inverse CDF."""
        terms = standard_exponential(key, (self._n_terms, *sample_shape, *self.batch_shape))
        return jnp.sum(terms, axis=0) / self.rate


class Triangular(Distribution):
    r"""Triangular(`low`, `mode`, `high`): the density rises linearly to `mode`, then falls.

    Parameters
    ----------
    low, mode, high : Array
        The ends of the support and the place of the peak, `low` < `mode` < `high`.

    Examples
    --------
    >>> d = Triangular(-1.0, 0.0, 2.0)
    >>> round(float(d.mean), 4), round(float(d.cdf(0.0)), 4), round(float(d.icdf(1 / 3)), 4)
    (0.3333, 0.3333, 0.0)
    """

    arg_constraints: ClassVar = {
        name: constraints.dependent(is_discrete=False, event_dim=0)
        for name in ("low", "mode", "high")
    }
    reparametrized_params: ClassVar = ["low", "mode", "high"]
    mode: Any = None  # a parameter, where every distribution has a property

    def __init__(
        self,
        low: Array,
        mode: Array,
        high: Array,
        *,
        validate_args: bool | None = None,
    ):
        self.low, self.mode, self.high = promote_shapes(low, mode, high)
        shape = lax.broadcast_shapes(jnp.shape(low), jnp.shape(mode), jnp.shape(high))
        super().__init__(batch_shape=shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> constraints.Constraint:
        """Return the interval from `low` to `high`."""
        return constraints.interval(self.low, self.high)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw by the inverse CDF."""
        return self.icdf(open_uniform(key, sample_shape + self.batch_shape))

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        before = value < self.mode
        to_end = jnp.where(before, value - self.low, self.high - value)
        side = jnp.where(before, self.mode - self.low, self.high - self.mode)
        return jnp.log(2 * to_end / side) - jnp.log(self.high - self.low)

    @property
    def mean(self) -> Array:
        """Expectation."""
        return jnp.asarray(self.mode + ((self.low - self.mode) + (self.high - self.mode)) / 3)

    @property
    def variance(self) -> Array:
        """Variance."""
        left, right = self.mode - self.low, self.high - self.mode
        return jnp.asarray((left**2 + left * right + right**2) / 18)

    def cdf(self, value: Array) -> Array:
        """Return the probability of a smaller value."""
        left, right = self.mode - self.low, self.high - self.mode
        value = jnp.clip(value, self.low, self.high)
        rising = (value - self.low) ** 2 / left
        falling = (self.high - value) ** 2 / right
        width = self.high - self.low
        return jnp.where(value < self.mode, rising / width, 1 - falling / width)

    def icdf(self, q: Array) -> Array:
        """Return the quantile of a probability `q`."""
        left, right = self.mode - self.low, self.high - self.mode
        width = self.high - self.low
        rising = self.low + jnp.sqrt(q * width * left)
        falling = self.high - jnp.sqrt((1 - q) * width * right)
        return jnp.where(q * width < left, rising, falling)

    def entropy(self) -> Array:
        """Differential entropy, nats."""
        return 0.5 + jnp.log((self.high - self.low) / 2)


class FisherSnedecor(Distribution):
    r"""F(`df1`, `df2`): the ratio of two chi-squared variables, each by its degrees of freedom.

    .. math:: x = \frac{u / d_1}{v / d_2}, \qquad u \sim \chi^2(d_1), \; v \sim \chi^2(d_2)

    Parameters
    ----------
    df1, df2 : Array
        Degrees of freedom, positive. The mean is infinite up to `df2` = 2, the variance up to 4.

    Examples
    --------
    >>> d = FisherSnedecor(4.0, 8.0)
    >>> round(float(d.mean), 4), round(float(d.variance), 4)
    (1.3333, 2.2222)
    """

    arg_constraints: ClassVar = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    reparametrized_params: ClassVar = ["df1", "df2"]

    def __init__(self, df1: Array, df2: Array, *, validate_args: bool | None = None):
        self.df1, self.df2 = promote_shapes(df1, df2)
        shape = lax.broadcast_shapes(jnp.shape(df1), jnp.shape(df2))
        super().__init__(batch_shape=shape, validate_args=validate_args)

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw a ratio of gammas, in logarithms, which do not underflow."""
        both = jnp.broadcast_arrays(self.df1, self.df2)
        shapes = jnp.stack(both, axis=-1) / 2
        logs = jax.random.loggamma(key, shapes, sample_shape + shapes.shape)
        log_ratio = logs[..., 0] - logs[..., 1] + jnp.log(self.df2) - jnp.log(self.df1)
        return above_zero(jnp.exp(log_ratio))

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        a, b, ratio = self.df1 / 2, self.df2 / 2, self.df1 / self.df2
        log_power = a * jnp.log(ratio) + (a - 1) * jnp.log(value)
        return log_power - (a + b) * jnp.log1p(ratio * value) - betaln(a, b)

    @property
    def mean(self) -> Array:
        """Expectation."""
        mean = jnp.divide(self.df2, self.df2 - 2)
        return jnp.broadcast_to(jnp.where(self.df2 > 2, mean, jnp.inf), self.batch_shape)

    @property
    def variance(self) -> Array:
        """Variance."""
        excess = jnp.divide(2 * (self.df1 + self.df2 - 2), self.df1 * (self.df2 - 4))
        variance = jnp.divide(self.df2, self.df2 - 2) ** 2 * excess
        return jnp.where(self.df2 > 4, variance, jnp.inf)

    def cdf(self, value: Array) -> Array:
        """Return the probability of a smaller value."""
        scaled = self.df1 * value
        return betainc(self.df1 / 2, self.df2 / 2, scaled / (scaled + self.df2))

    def entropy(self) -> Array:
        """Differential entropy, nats."""
        a, b = self.df1 / 2, self.df2 / 2
        mean_log = digamma(a) - digamma(b)  # of the ratio of the two gammas
        mean_log_rest = digamma(a + b) - digamma(b)
        spread = betaln(a, b) - (a - 1) * mean_log + (a + b) * mean_log_rest
        return spread + jnp.log(self.df2) - jnp.log(self.df1)


class Elliptical(Distribution):
    r"""Elliptical distribution: a random length in a uniform direction, scaled and moved.

    .. math:: z = \mu + L \, (r u), \qquad u \text{ uniform on the sphere}

    so that, in d dimensions and with :math:`r = |L^{-1}(z - \mu)|`,

    .. math:: \log p(z) = \log p(r) - (d - 1) \log r
              - \log \frac{2 \pi^{d/2}}{\Gamma(d/2)} - \log |L|.

    NumPyro's ``MultivariateNormal`` and ``MultivariateStudentT`` are its best-known members.

    Parameters
    ----------
    radius : Distribution
        The law of r > 0, one-dimensional. ``Gamma(d, 1)`` gives a density in proportion to
        exp(-r); one whose density does not vanish as r to the power d - 1 at 0 makes that of z
        infinite, or zero, at its centre.
    loc : Array
        :math:`\mu`, shape (..., d).
    scale_tril : Array
        :math:`L`, lower triangular with a positive diagonal, shape (..., d, d).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> d = Elliptical(Rayleigh(1.0), jnp.zeros(2), jnp.eye(2))  # the standard normal
    >>> d.sample(jax.random.key(0), (5,)).shape, d.variance.round(4).tolist()
    ((5, 2), [1.0, 1.0])
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    reparametrized_params: ClassVar = ["loc", "scale_tril"]
    pytree_data_fields = ("radius", "loc", "scale_tril")

    def __init__(
        self,
        radius: Distribution,
        loc: Array,
        scale_tril: Array,
        *,
        validate_args: bool | None = None,
    ):
        self.radius, self.loc, self.scale_tril = radius, loc, scale_tril
        batch_shape = lax.broadcast_shapes(
            radius.batch_shape, jnp.shape(loc)[:-1], jnp.shape(scale_tril)[:-2]
        )
        super().__init__(batch_shape, jnp.shape(loc)[-1:], validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the radius is reparameterised."""
        return self.radius.has_rsample

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw a direction and a length, then scale and move."""
        key_direction, key_radius = jax.random.split(key)
        normal = jax.random.normal(key_direction, self.shape(sample_shape))
        direction = normal / jnp.linalg.norm(normal, axis=-1, keepdims=True)
        radius = self.radius.expand(self.batch_shape).sample(key_radius, sample_shape)
        return self.loc + jnp.einsum(
            "...ij,...j->...i", self.scale_tril, radius[..., None] * direction
        )

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return the log-density, nats."""
        (d,) = self.event_shape
        solve = functools.partial(solve_triangular, lower=True)
        whiten = jnp.vectorize(solve, signature="(d,d),(d)->(d)")
        standard = whiten(self.scale_tril, value - self.loc)
        radius = jnp.sqrt(above_zero(jnp.sum(standard**2, axis=-1)))
        log_sphere = jnp.log(2) + d / 2 * jnp.log(jnp.pi) - gammaln(d / 2)
        diagonal = jnp.diagonal(self.scale_tril, axis1=-2, axis2=-1)
        log_volume = log_sphere + (d - 1) * jnp.log(radius) + jnp.sum(jnp.log(diagonal), axis=-1)
        return self.radius.log_prob(radius) - log_volume

    @property
    def mean(self) -> Array:
        """Expectation, where that of the radius is finite."""
        return jnp.broadcast_to(self.loc, self.shape())

    @property
    def variance(self) -> Array:
        """Variance of each entry."""
        second_moment = self.radius.variance + self.radius.mean**2
        share = jnp.sum(self.scale_tril**2, axis=-1) / self.event_shape[0]
        return jnp.broadcast_to(jnp.expand_dims(second_moment, -1) * share, self.shape())
