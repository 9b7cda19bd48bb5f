"""Laws over a few values: categories, ordered levels, and the intensities of pixels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution, constraints

from aevb.probability.special import log_logistic_interval

_WINDOW = 16  # levels on both sides of the location that may be neither sure nor impossible


class _Levels(Distribution):
    """A law over the whole numbers from 0 to K - 1, by all of their log-probabilities."""

    arg_constraints: ClassVar[dict] = {}

    @property
    @abstractmethod
    def log_probs(self) -> Array:
        """Log-probabilities, in one more axis than the batch."""

    @property
    def support(self) -> constraints.Constraint:
        """The whole numbers from 0 to K - 1."""
        return constraints.integer_interval(0, self.log_probs.shape[-1] - 1)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw levels."""
        shape = sample_shape + self.batch_shape
        return jax.random.categorical(key, self.log_probs, shape=shape)

    def log_prob(self, value: Array) -> Array:
        """Return the log-probability of levels, nats."""
        which = jnp.asarray(value, jnp.int32)[..., None] == jnp.arange(self.log_probs.shape[-1])
        return jnp.sum(jnp.where(which, self.log_probs, 0.0), axis=-1)

    @property
    def mode(self) -> Array:
        """The most probable level."""
        return jnp.argmax(self.log_probs, axis=-1)


class Categorical(_Levels):
    """Categorical law; categories with logits of minus infinity do not occur.

    Parameters
    ----------
    logits : Array
        Shape (..., K), unnormalised.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = Categorical(jnp.array([[0.0, 1.0, -jnp.inf], [3.0, 1.0, 1e4]]))
    >>> law.mode.tolist(), jnp.exp(law.log_prob(jnp.array([2, 2]))).tolist()
    ([1, 2], [0.0, 1.0])
    """

    def __init__(self, logits: Array, *, validate_args: bool | None = None):
        self.logits = logits
        super().__init__(jnp.shape(logits)[:-1], validate_args=validate_args)

    @property
    def log_probs(self) -> Array:
        """Log-probabilities of the categories."""
        return jax.nn.log_softmax(self.logits, axis=-1)

    @property
    def mean(self) -> Array:
        """The most probable category, which stands for the average that categories do not have."""
        return self.mode

    @property
    def variance(self) -> Array:
        """The probability of any category but the most probable one."""
        return 1 - jnp.exp(jnp.max(self.log_probs, axis=-1))


class Ordinal(_Levels):
    r"""Ordered levels: :math:`P(x \le k) = \sigma(c_k - \ell)`, a proportional-odds model.

    Parameters
    ----------
    location : Array
        :math:`\ell`, shape (...).
    cuts : Array
        :math:`c_0 < c_1 < \dots`, shape (..., K - 1); infinite ones close levels that do not occur.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = Ordinal(jnp.array(0.0), jnp.array([-1.0, 1.0]))
    >>> round(float(jnp.exp(law.log_prob(2))), 4), float(law.mean), int(law.median)
    (0.2689, 1.0, 1)
    """

    def __init__(self, location: Array, cuts: Array, *, validate_args: bool | None = None):
        self.location, self.cuts = location, cuts
        shape = jnp.broadcast_shapes(jnp.shape(location), jnp.shape(cuts)[:-1])
        super().__init__(shape, validate_args=validate_args)

    @property
    def log_probs(self) -> Array:
        """Log-probabilities of the levels."""
        cuts = jnp.broadcast_to(self.cuts, (*self.batch_shape, self.cuts.shape[-1]))
        end = jnp.full((*self.batch_shape, 1), jnp.inf)
        edges = jnp.concatenate([-end, cuts, end], axis=-1)
        low, high = edges[..., :-1], edges[..., 1:]
        closed = low == jnp.inf
        low = jnp.where(closed, 0.0, low)
        gap = jnp.where(jnp.isinf(low) | jnp.isinf(high), jnp.inf, high - low)
        at = self.location[..., None]
        return jnp.where(closed, -jnp.inf, log_logistic_interval(low - at, high - at, gap))

    @property
    def median(self) -> Array:
        """The level that half of the draws do not exceed."""
        return jnp.sum(self.cuts < self.location[..., None], axis=-1)

    @property
    def mean(self) -> Array:
        """Expectation of the number of the level."""
        return jnp.sum(jax.nn.sigmoid(self.location[..., None] - self.cuts), axis=-1)

    @property
    def variance(self) -> Array:
        """Variance of the number of the level."""
        probs, levels = jnp.exp(self.log_probs), jnp.arange(self.log_probs.shape[-1])
        return jnp.sum(probs * (levels - self.mean[..., None]) ** 2, axis=-1)


class DiscretisedLogistic(Distribution):
    r"""A logistic law rounded to whole numbers, with all beyond the ends put on them.

    Salimans et al. (2017), https://arxiv.org/abs/1701.05517: with edges half a unit away,

    .. math:: P(x) = \sigma\Big(\frac{x + \frac12 - \ell}{s}\Big)
              - \sigma\Big(\frac{x - \frac12 - \ell}{s}\Big).

    Parameters
    ----------
    location : Array
        :math:`\ell`.
    log_scale : Array
        Logarithm of s.
    high : float
        The greatest value; the least is 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = DiscretisedLogistic(jnp.array(3.2), jnp.array(0.0), 255.0)
    >>> round(float(law.mean), 2), float(law.mode), round(float(law.log_prob(3.0)), 4)
    (3.24, 3.0, -1.4162)
    """

    arg_constraints: ClassVar = {"location": constraints.real, "log_scale": constraints.real}
    pytree_aux_fields = ("high",)

    def __init__(
        self,
        location: Array,
        log_scale: Array,
        high: float = 255.0,
        *,
        validate_args: bool | None = None,
    ):
        self.location, self.log_scale, self.high = location, log_scale, high
        shape = jnp.broadcast_shapes(jnp.shape(location), jnp.shape(log_scale))
        super().__init__(shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The whole numbers from 0 to `high`."""
        return constraints.integer_interval(0, int(self.high))

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw whole numbers."""
        noise = jax.random.logistic(key, sample_shape + self.batch_shape)
        return self._rounded(self.location + jnp.exp(self.log_scale) * noise)

    def log_prob(self, value: Array) -> Array:
        """Return the log-probability of whole numbers, nats."""
        x, inverse = jnp.asarray(value, jnp.result_type(float)), jnp.exp(-self.log_scale)
        from_location = x - self.location
        high = jnp.where(x >= self.high, jnp.inf, (from_location + 0.5) * inverse)
        low = jnp.where(x <= 0, -jnp.inf, (from_location - 0.5) * inverse)
        end = (x >= self.high) | (x <= 0)
        return log_logistic_interval(low, high, jnp.where(end, jnp.inf, inverse))

    def _above(self, edge: Any) -> Array:
        """Return the probability of values above an edge between two."""
        return jax.nn.sigmoid((self.location - edge) * jnp.exp(-self.log_scale))

    @property
    def mean(self) -> Array:
        r"""Expectation, :math:`\sum_k P(x > k)`."""
        scale = jnp.exp(self.log_scale)
        nearest = jnp.floor(self.location)
        # Narrow laws: below the window every level is exceeded, above it none.
        edges = [nearest + j + 0.5 for j in range(-_WINDOW, _WINDOW)]
        terms = [
            jnp.where((edge > 0) & (edge < self.high), self._above(edge), 0.0) for edge in edges
        ]
        narrow = jnp.clip(nearest - _WINDOW, 0, self.high) + sum(terms)
        # Wide ones: the integral of the same, with the first correction of the midpoint rule.
        ends = [self._above(edge) for edge in (0.0, self.high)]
        low, high = (self.location / scale, (self.location - self.high) / scale)
        area = scale * (jax.nn.softplus(low) - jax.nn.softplus(high))
        slopes = [p * (1 - p) / scale for p in ends]
        wide = area - (slopes[0] - slopes[1]) / 24
        return jnp.where(scale < 1, narrow, wide)

    @property
    def variance(self) -> Array:
        r"""Variance, by :math:`E x^2 = \sum_k (2k + 1) P(x > k)` over all levels."""

        def add(k: Any, total: Array) -> Array:
            return total + (2 * k + 1) * self._above(k + 0.5)

        start = jnp.zeros(self.batch_shape)
        return jax.lax.fori_loop(0, int(self.high), add, start) - self.mean**2

    @property
    def mode(self) -> Array:
        """The most probable value: next to the location, or an end."""
        inner = self._rounded(self.location)
        ends = jnp.zeros_like(inner), jnp.full_like(inner, self.high)
        candidates = jnp.stack([inner, *ends])
        best = jnp.argmax(jax.vmap(self.log_prob)(candidates), axis=0)
        return jnp.take_along_axis(candidates, best[None], axis=0)[0]

    def _rounded(self, x: Array) -> Array:
        return jnp.clip(jnp.round(x), 0.0, self.high)
