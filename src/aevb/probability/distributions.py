"""Distributions that NumPyro lacks, and distributions over many rows at once."""

from __future__ import annotations

import numbers
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from aevb.probability.measures import Measure, image_of, measure_of
from aevb.probability.rescaled import mode_of


@jax.custom_jvp
def _bernoulli_log_prob(logits: Array, x: Array) -> Array:
    return x * logits - jnp.maximum(logits, 0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))


@_bernoulli_log_prob.defjvp
def _bernoulli_log_prob_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # Differentiating the stable form piece by piece costs three more passes over the pixels.
    logits, x = primals
    logits_dot, x_dot = tangents
    tangent = (x - jax.nn.sigmoid(logits)) * logits_dot + logits * x_dot
    return _bernoulli_log_prob(logits, x), tangent


class GrayBernoulli(Distribution):
    r"""Bernoulli over {0, `white`} whose ``log_prob`` accepts the gray levels between.

    For :math:`x \in [0, 1]` (in units of `white`),

    .. math:: \log p(x) := x \log y + (1 - x) \log(1 - y)
              = E_{b \sim \mathrm{Bernoulli}(x)} \log p(b), \qquad y = \mathrm{sigmoid}(\eta).

    On {0, 1} this is the Bernoulli log-likelihood. On gray levels it is its expectation under
    stochastic binarisation, as the paper (appendix C.1) and its followers use it. It is not
    a normalised density, and must not be compared with the log-likelihood of binarised data.

    Parameters
    ----------
    logits : Array
        :math:`\eta = \log y / (1 - y)`, any shape.
    white : float
        The data's value for "one": 1, or 255 for 8-bit images.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> pixel = GrayBernoulli(jnp.array(0.0), white=255.0)
    >>> round(float(pixel.log_prob(jnp.array(100.0))), 4), float(pixel.mean)
    (-0.6931, 127.5)
    """

    arg_constraints: ClassVar = {"logits": constraints.real}
    pytree_aux_fields = ("white",)

    def __init__(self, logits: Array, white: float = 1.0, *, validate_args: bool | None = None):
        self.logits = logits
        self.white = white
        super().__init__(batch_shape=jnp.shape(logits), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The interval from 0 to `white`."""
        return constraints.interval(0.0, self.white)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw values of 0 and `white`."""
        shape = sample_shape + self.batch_shape
        return self.white * jax.random.bernoulli(key, jax.nn.sigmoid(self.logits), shape)

    @validate_sample
    def log_prob(self, value: Array) -> Array:
        """Return E log p(b) over b ~ Bernoulli(`value`), nats."""
        return _bernoulli_log_prob(self.logits, value * (1 / self.white))

    @property
    def mean(self) -> Array:
        """Expectation, in the data's units."""
        return self.white * jax.nn.sigmoid(self.logits)

    @property
    def variance(self) -> Array:
        """Variance, in the data's units squared."""
        y = jax.nn.sigmoid(self.logits)
        return self.white**2 * y * (1 - y)

    @property
    def mode(self) -> Array:
        """The more probable one of 0 and `white`."""
        return jnp.where(self.logits > 0, self.white, 0.0)


class _Reshaped(constraints.Constraint):
    """Arrays that are within another constraint when their shape is another."""

    def __init__(
        self,
        base: constraints.Constraint,
        base_shape: tuple[int, ...],
        event_shape: tuple[int, ...],
    ):
        self.base, self.base_shape, self.event_shape = base, base_shape, event_shape

    @property
    def event_dim(self) -> int:
        return len(self.event_shape)

    @property
    def is_discrete(self) -> bool:
        return self.base.is_discrete

    @property
    def measure(self) -> Measure | None:
        return image_of(measure_of(self.base), self.base_shape)

    def __call__(self, x: Array) -> Array:
        return self.base(self._shaped(x, self.event_shape, self.base_shape))

    def feasible_like(self, prototype: Array) -> Array:
        base = self.base.feasible_like(self._shaped(prototype, self.event_shape, self.base_shape))
        return self._shaped(base, self.base_shape, self.event_shape)

    def _shaped(self, x: Array, old: tuple[int, ...], new: tuple[int, ...]) -> Array:
        return jnp.reshape(x, jnp.shape(x)[: jnp.ndim(x) - len(old)] + new)

    def tree_flatten(self) -> tuple:
        shapes = {"base_shape": self.base_shape, "event_shape": self.event_shape}
        return (self.base,), (("base",), shapes)

    def eq(self, other: object, static: bool = False) -> ArrayLike:
        if not isinstance(other, _Reshaped):
            return False
        shapes = self.base_shape, self.event_shape
        return shapes == (other.base_shape, other.event_shape) and self.base.eq(other.base, static)


class Reshaped(Distribution):
    """A distribution over vectors, seen as one over arrays of another shape.

    Elementwise work stays on the vector: rows of 28 pixels fill a processor's registers badly.

    Parameters
    ----------
    base : Distribution
        A distribution with one event dimension.
    event_shape : tuple of int
        The shape to show, of the same size.

    Examples
    --------
    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> image = Reshaped(dist.Normal(jnp.zeros(6), 1.0).to_event(1), (2, 3))
    >>> image.mean.shape, image.log_prob(jnp.zeros((2, 3))).shape
    ((2, 3), ())
    """

    arg_constraints: ClassVar[dict] = {}
    pytree_data_fields = ("base",)

    def __init__(
        self,
        base: Distribution,
        event_shape: tuple[int, ...],
        *,
        validate_args: bool | None = None,
    ):
        self.base = base
        super().__init__(base.batch_shape, tuple(event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The support of `base`, in the other shape."""
        support = self.base.support
        entry = getattr(support, "base_constraint", support)
        if entry.event_dim:
            return _Reshaped(support, self.base.event_shape, self.event_shape)
        return constraints.independent(entry, len(self.event_shape))

    @property
    def measure(self) -> Measure | None:
        """That of `base`; entries of a surface depend on one another, whatever their shape."""
        return image_of(measure_of(self.base), self.base.event_shape)

    @property
    def has_rsample(self) -> bool:
        """Whether `base` is reparameterised."""
        return self.base.has_rsample

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw arrays."""
        return self._show(self.base.sample(key, sample_shape))

    def log_prob(self, value: Array) -> Array:
        """Return the log-density of arrays, nats."""
        batch = jnp.shape(value)[: jnp.ndim(value) - len(self.event_shape)]
        return self.base.log_prob(jnp.reshape(value, batch + self.base.event_shape))

    @property
    def mean(self) -> Array:
        """Expectation of each entry."""
        return self._show(self.base.mean)

    @property
    def variance(self) -> Array:
        """Variance of each entry."""
        return self._show(self.base.variance)

    @property
    def mode(self) -> Array:
        """Most probable value of each entry."""
        return self._show(mode_of(self.base))

    def _show(self, vectors: Array) -> Array:
        return jnp.reshape(vectors, jnp.shape(vectors)[:-1] + self.event_shape)


class Batched(eqx.Module):
    """One distribution per row: what ``jax.vmap`` of a function returning a distribution gives.

    A distribution that leaves ``jax.vmap`` bare believes in the shape of a single row, and its
    methods then fail or mislead. This wrapper maps them over the rows.

    Parameters
    ----------
    distribution : Distribution
        A distribution whose arrays all carry a leading axis of length n.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> q = Batched(jax.vmap(lambda m: dist.Normal(m, 1.0).to_event(1))(jnp.zeros((5, 2))))
    >>> len(q), q.mean.shape, q.log_prob(jnp.zeros((5, 2))).shape
    (5, (5, 2), (5,))
    """

    distribution: Distribution

    def __len__(self) -> int:
        return jax.tree.leaves(self.distribution)[0].shape[0]

    def __getitem__(self, index: Any) -> Distribution | Batched:
        """Return one row's distribution (integer index), or some rows' (slice, array)."""
        one = isinstance(index, numbers.Integral)
        if one:  # JAX would clamp a position behind the end, and iteration would never end
            index = range(len(self))[index]
        rows = jax.tree.map(lambda leaf: leaf[index], self.distribution)
        return rows if one else Batched(rows)

    @property
    def mean(self) -> Array:
        """Mean of each row, shape (n, *event_shape)."""
        return jax.vmap(lambda d: d.mean)(self.distribution)

    @property
    def variance(self) -> Array:
        """Variance of each row, shape (n, *event_shape)."""
        return jax.vmap(lambda d: d.variance)(self.distribution)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw from each row's distribution, shape (*sample_shape, n, *event_shape)."""
        keys = jax.random.split(key, len(self))
        axis = len(sample_shape)
        draw = jax.vmap(lambda d, k: d.sample(k, sample_shape), out_axes=axis)
        return draw(self.distribution, keys)

    def log_prob(self, value: Array) -> Array:
        """Log-density of row i at ``value[i]``, shape (n,), in nats."""
        return jax.vmap(lambda d, v: d.log_prob(v))(self.distribution, value)
