"""A distribution on a convenient scale, seen on that of the data."""

from __future__ import annotations

from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray as Key
from jaxtyping import PyTree
from numpyro.distributions import Distribution, constraints


@final
class Event(eqx.Module):
    """Entries that had one value in all of n rows: scored as an event, not by a density.

    By Laplace's rule of succession the same value has probability (n + 1) / (n + 2), and any other
    value together 1 / (n + 2).

    Attributes
    ----------
    marks : Frozen
        Shape (d,), bool: which entries these are.
    n_rows : Frozen
        The number n.
    value : Frozen, optional
        Shape (d,): the values, where the law does not tell them.
    """

    marks: PyTree  # `aevb.models.Frozen`, of which this room does not know
    n_rows: PyTree
    value: PyTree = None

    def log_prob(self, same: Array) -> Array:
        """Return the log-probability of each entry, given whether its value is the same."""
        total = jnp.log(jnp.asarray(self.n_rows.value, jnp.result_type(float)) + 2)
        return jnp.where(same, jnp.log1p(-jnp.exp(-total)), -total)


class Rescaled(Distribution):
    r"""Law of x, whose standardised form :math:`u = (x - a) / b` has independent `entries`.

    .. math:: \log p(x) = \sum_j \left[ \log p_j(u_j) - \log b_j \right]

    Everything is computed on the scale of u, so that no unit of x is too small or too large.

    Parameters
    ----------
    entries : Distribution
        Of the entries of u, batch shape (d,).
    scaling : Standardise
        The map from x to u, with ``undo`` and ``log_scale``.
    event : Event, optional
        Entries of x that had one value, a, in all training rows.

    Examples
    --------
    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> from aevb.models.kinds.scaling import Standardise
    >>> x = Rescaled(dist.Normal(jnp.zeros(2), 1.0), Standardise([1.0, 2.0], [10.0, 0.1]))
    >>> x.mean.tolist(), round(float(x.log_prob(jnp.array([1.0, 2.0]))), 4)
    ([1.0, 2.0], -1.8379)
    """

    arg_constraints: ClassVar[dict] = {}
    support = constraints.real_vector
    pytree_data_fields = ("entries", "scaling", "event")

    def __init__(
        self,
        entries: Distribution,
        scaling: Any,
        event: Event | None = None,
        *,
        validate_args: bool | None = None,
    ):
        self.entries, self.scaling, self.event = entries, scaling, event
        super().__init__((), entries.batch_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether the entries are reparameterised."""
        return self.entries.has_rsample

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw vectors."""
        return self._in_units(self.entries.sample(key, sample_shape))

    def log_prob(self, value: Array) -> Array:
        """Return the log-density of vectors, nats."""
        if jnp.ndim(value) > 1:
            return jnp.vectorize(self.log_prob, signature="(d)->()")(value)
        return jnp.sum(self.log_prob_of_entries(value))

    def log_prob_of_entries(self, value: Array) -> Array:
        """Return the log-density of each entry of one vector, nats."""
        each = self.entries.log_prob(self.scaling(value)) - self.scaling.log_scale()
        if self.event is not None:
            same = value == self.scaling.undo(jnp.zeros_like(each))
            each = jnp.where(self.event.marks.value, self.event.log_prob(same), each)
        return each

    @property
    def mean(self) -> Array:
        """Expectation of each entry."""
        return self._in_units(self.entries.mean)

    @property
    def variance(self) -> Array:
        """Variance of each entry."""
        scale = jnp.exp(self.scaling.log_scale())
        return self._constant_or(self.entries.variance * scale**2, 0.0)

    @property
    def mode(self) -> Array:
        """Most probable value of each entry."""
        return self._in_units(mode_of(self.entries))

    def _in_units(self, u: Array) -> Array:
        return self._constant_or(self.scaling.undo(u), self.scaling.undo(jnp.zeros_like(u)))

    def _constant_or(self, varying: Array, constant: ArrayLike) -> Array:
        return (
            varying if self.event is None else jnp.where(self.event.marks.value, constant, varying)
        )


def mode_of(d: Distribution) -> Array:
    """Return the most probable value of a distribution; that of each entry, if several.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> float(mode_of(dist.Normal(3.0, 1.0)))
    3.0
    """
    if isinstance(d, dist.Independent):
        return mode_of(d.base_dist)
    if isinstance(d, dist.Normal | dist.Laplace):
        return d.mean
    return d.mode


class WithEvents(Distribution):
    """Independent entries, of which some had one value in all training rows.

    Parameters
    ----------
    base : Distribution
        Of all entries, batch shape (d,).
    event : Event
        Which entries these are, and their values.
    """

    arg_constraints: ClassVar[dict] = {}
    pytree_data_fields = ("base", "event")

    def __init__(self, base: Distribution, event: Event, *, validate_args: bool | None = None):
        self.base, self.event = base, event
        super().__init__((), base.batch_shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """That of each entry."""
        return constraints.independent(self.base.support, 1)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw vectors."""
        return self._constant_or(self.base.sample(key, sample_shape))

    def log_prob(self, value: Array) -> Array:
        """Return the log-density of vectors, nats."""
        return jnp.sum(self.log_prob_of_entries(value), axis=-1)

    def log_prob_of_entries(self, value: Array) -> Array:
        """Return the log-density of each entry, nats."""
        event = self.event.log_prob(value == self.event.value.value)
        return jnp.where(self.event.marks.value, event, self.base.log_prob(value))

    @property
    def mean(self) -> Array:
        """Expectation of each entry."""
        return self._constant_or(self.base.mean)

    @property
    def variance(self) -> Array:
        """Variance of each entry."""
        return jnp.where(self.event.marks.value, 0.0, self.base.variance)

    @property
    def mode(self) -> Array:
        """Most probable value of each entry."""
        return self._constant_or(mode_of(self.base))

    def _constant_or(self, varying: Array) -> Array:
        return jnp.where(self.event.marks.value, self.event.value.value, varying)


def entries(base: Distribution, event: Event | None = None) -> Distribution:
    """Return the law of a vector of independent entries, of which some may be events."""
    return base.to_event(1) if event is None else WithEvents(base, event)
