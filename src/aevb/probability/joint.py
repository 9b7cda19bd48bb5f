"""Several latents, or several parts of a datum, as one distribution."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.distributions import Distribution


class _Conditional(NamedTuple):
    given: tuple[str, ...]
    function: Callable[..., Distribution]


class Joint:
    r"""Joint distribution of named parts, each given those before it.

    .. math:: p(a, b, \dots) = p(a)\, p(b | a) \cdots

    Its values are dictionaries with an entry for each part. A model of several layers of latents
    returns one from ``prior`` (the top layer first) and one from ``posterior`` (the layer next to
    the data first), with the same names; a datum of several parts has one for its likelihood.

    Parameters
    ----------
    **parts : Distribution or callable
        In the order of the factorisation. A distribution is that of a part independent of the
        others; a function, with names of earlier parts as its arguments, returns that of a part
        given them.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> layers = Joint(top=dist.Normal(), bottom=lambda top: dist.Normal(top, 0.5))
    >>> value = layers.sample(jax.random.key(0))
    >>> sorted(value), layers.log_prob(value).shape
    (['bottom', 'top'], ())
    """

    batch_shape: tuple[int, ...] = ()

    def __init__(self, **parts: Distribution | Callable[..., Distribution]):
        if not parts:
            raise ValueError("Expected at least one part for `Joint`; got none.")
        self._parts: dict[str, Any] = {}
        for name, part in parts.items():
            given: tuple[str, ...] = ()
            if callable(part) and not hasattr(part, "log_prob"):
                given = tuple(inspect.signature(part).parameters)
                part = _Conditional(given, part)
            if not hasattr(part, "log_prob") and not isinstance(part, _Conditional):
                raise TypeError(
                    f"Expected a distribution, or a function that returns one, for part {name!r} "
                    f"of a Joint; got {part!r}."
                )
            if not set(given) <= set(self._parts):
                raise ValueError(
                    f"Expected part {name!r} of a Joint to be a function of earlier parts "
                    f"({', '.join(self._parts) or 'there are none'}), by their names; got one of "
                    f"{', '.join(given)}."
                )
            self._parts[name] = part

    @property
    def has_rsample(self) -> bool:
        """Whether every part is reparameterised."""
        return all(d.has_rsample for d in self._factors(self._example()).values())

    @property
    def event_shape(self) -> dict[str, tuple[int, ...]]:
        """The shape of each part."""
        return {name: d.event_shape for name, d in self._factors(self._example()).items()}

    def sample(self, key: Array, sample_shape: tuple[int, ...] = ()) -> dict[str, Array]:
        """Draw all parts, each given those before it."""
        if sample_shape:
            keys = jax.random.split(key, sample_shape)
            draw = self.sample
            for _ in sample_shape:
                draw = jax.vmap(draw)
            return draw(keys)
        value: dict[str, Array] = {}
        for name, part_key in zip(
            self._parts, jax.random.split(key, len(self._parts)), strict=True
        ):
            value[name] = self._factor(name, value).sample(part_key)
        return value

    def log_prob(self, value: dict[str, Array]) -> Array:
        """Evaluate the log-density of one value, all parts together; nats."""
        factors = self._factors(value)
        for name, d in factors.items():
            if d.batch_shape:
                raise ValueError(
                    f"Expected one joint distribution for part {name!r} of a Joint; got "
                    f"independent ones of batch shape {d.batch_shape}. Join them with "
                    f"`.to_event({len(d.batch_shape)})`."
                )
        return jnp.sum(jnp.stack([d.log_prob(value[name]) for name, d in factors.items()]))

    @property
    def mean(self) -> dict[str, Array]:
        """Expectation of each part, where no part depends on another."""
        given = [name for name, part in self._parts.items() if isinstance(part, _Conditional)]
        if given:
            raise NotImplementedError(
                f"The mean of part {given[0]!r}, given others, is not known; average over samples."
            )
        return {name: d.mean for name, d in self._parts.items()}

    def stop_gradient(self) -> Joint:
        """Return the same distribution, whose parameters pass no gradient on; its values do."""
        example = self._example()
        return Joint(**{name: _stopped(part, example) for name, part in self._parts.items()})

    def _example(self) -> dict[str, Array]:
        shapes = jax.eval_shape(self.sample, jax.random.key(0))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def _factor(self, name: str, value: dict[str, Array]) -> Distribution:
        part = self._parts[name]
        if isinstance(part, _Conditional):
            return part.function(*[value[other] for other in part.given])
        return part

    def _factors(self, value: dict[str, Array]) -> dict[str, Distribution]:
        return {name: self._factor(name, value) for name in self._parts}


def _stopped(part: Any, example: dict[str, Array]) -> Any:
    if not isinstance(part, _Conditional):
        return jax.tree.map(lax.stop_gradient, part)
    # What the function closes over becomes its arguments, and these can be stopped.
    values = [example[other] for other in part.given]
    function, constants = jax.closure_convert(part.function, *values)
    stopped = [lax.stop_gradient(constant) for constant in constants]
    return _Conditional(part.given, lambda *values: function(*values, *stopped))
