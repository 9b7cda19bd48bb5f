"""Several latents, or several parts of a datum, as one distribution."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution

from aevb.probability.measures import Measure, measure_of


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
            if _is_distribution(part):
                self._parts[name] = part
                continue
            if isinstance(part, type) or not callable(part):
                raise TypeError(
                    f"Expected a distribution, or a function that returns one, for part {name!r} "
                    f"of a Joint; got {part!r}."
                )
            given = tuple(inspect.signature(part).parameters)
            if not set(given) <= set(self._parts):
                raise ValueError(
                    f"Expected part {name!r} of a Joint to be a function of earlier parts "
                    f"({', '.join(self._parts) or 'there are none'}), by their names; got one of "
                    f"{', '.join(given)}."
                )
            self._parts[name] = _Conditional(given, part)

    @property
    def has_rsample(self) -> bool:
        """Whether every part is reparameterised."""
        return all(self._each("has_rsample").values())

    @property
    def measure(self) -> dict[str, Measure | None]:
        """What the density of each part is relative to."""
        found: dict[str, Measure | None] = {}
        self._visit(lambda name, d: found.update({name: measure_of(d)}))
        return found

    @property
    def event_shape(self) -> dict[str, tuple[int, ...]]:
        """The shape of each part."""
        return self._each("event_shape")

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> dict[str, Array]:
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

    def log_prob(self, value: dict[str, Array]) -> Float[Array, ""]:
        """Evaluate the log-density of one value, all parts together; nats."""
        terms = [d.log_prob(value[name]) for name, d in self.factors(value).items()]
        return jnp.sum(jnp.stack(terms))

    def factors(self, value: dict[str, Array]) -> dict[str, Distribution]:
        """Return the distribution of each part, given those before it in `value`."""
        return {name: self._factor(name, value) for name in self._parts}

    @property
    def mean(self) -> dict[str, Array]:
        """Expectation of each part, where no part depends on another."""
        given = [name for name, part in self._parts.items() if isinstance(part, _Conditional)]
        if given:
            raise NotImplementedError(
                f"The mean of part {given[0]!r}, given others, is not known; average over samples."
            )
        return {name: d.mean for name, d in self._parts.items()}

    def _each(self, attribute: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._visit(lambda name, d: found.update({name: getattr(d, attribute)}))
        return found

    def _visit(self, look: Callable[[str, Distribution], None]) -> None:
        """Read an attribute that is not an array off each part, without computing anything."""

        def visit(key: Key) -> None:
            for name, d in self.factors(self.sample(key)).items():
                look(name, d)

        jax.eval_shape(visit, jax.random.key(0))

    def _factor(self, name: str, value: dict[str, Array]) -> Distribution:
        d = self._parts[name]
        if isinstance(d, _Conditional):
            d = d.function(**{other: value[other] for other in d.given})
            if not _is_distribution(d):
                raise TypeError(
                    f"Expected a distribution from the function of part {name!r} of a Joint; got "
                    f"{d!r}."
                )
        batch_shape = getattr(d, "batch_shape", ())
        if batch_shape:
            raise ValueError(
                f"Expected one joint distribution for part {name!r} of a Joint; got independent "
                f"ones of batch shape {batch_shape}. Join them with "
                f"`.to_event({len(batch_shape)})`."
            )
        return d


#: What a model's methods return: one distribution, or a joint one of several parts.
AnyDistribution = Distribution | Joint


def _is_distribution(part: Any) -> bool:
    return hasattr(part, "log_prob") and not isinstance(part, type)
