"""Independent distributions of several blocks of values, of which some may be missing."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution

from aevb.probability.distributions import Reshaped
from aevb.probability.rescaled import Rescaled, WithEvents, mode_of


class Blocks(eqx.Module):
    """Distribution of values ``value.blocks``, a dictionary, independent of one another.

    Entries that ``value.observed`` marks as missing do not count in the density: they are
    integrated out, which is exact since entries are independent given z.

    Parameters
    ----------
    parts : dict of Distribution
        The distribution of each block, of independent entries.
    value : callable
        Makes a value of a dictionary of blocks.
    """

    parts: dict[str, Distribution]
    value: Callable[[dict[str, Array]], PyTree] = eqx.field(static=True)

    @property
    def event_shape(self) -> None:
        """Not one shape: every block has its own."""
        return None

    def log_prob(self, value: PyTree) -> Float[Array, ""]:
        """Return the log-density of what is observed, nats."""
        total = jnp.zeros(())
        for name, part in self.parts.items():
            block = value.blocks[name]
            if value.observed is None:
                total += part.log_prob(block)
            else:
                each = log_prob_of_entries(part, block)
                total += jnp.sum(jnp.where(value.observed[name].ravel(), each, 0.0))
        return total

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> PyTree:
        """Draw all blocks."""
        keys = jax.random.split(key, len(self.parts))
        named = zip(self.parts.items(), keys, strict=True)
        return self.value({name: part.sample(k, sample_shape) for (name, part), k in named})

    @property
    def mean(self) -> PyTree:
        """Expectation of every block."""
        return self.value({name: part.mean for name, part in self.parts.items()})

    @property
    def variance(self) -> PyTree:
        """Variance of every block."""
        return self.value({name: part.variance for name, part in self.parts.items()})

    @property
    def mode(self) -> PyTree:
        """Most probable value of every entry."""
        return self.value({name: mode_of(part) for name, part in self.parts.items()})


def log_prob_of_some(d: Distribution | Blocks, value: PyTree, which: PyTree) -> Float[Array, ""]:
    """Return the log-density of some entries of a value, the others integrated out; nats.

    Parameters
    ----------
    d : Distribution or Blocks
        Of independent entries.
    value : Array, or what `Blocks` takes
        The value.
    which : Array, or dict of Array
        Marks the entries that count.
    """
    if isinstance(d, Blocks):
        return d.log_prob(value._replace(observed=which))
    return jnp.sum(jnp.where(jnp.ravel(which), log_prob_of_entries(d, value), 0.0))


def log_prob_of_entries(d: Distribution, value: Array) -> Array:
    """Return the log-density of each entry of a value by itself, in one vector; nats.

    Raises
    ------
    TypeError
        For a distribution whose entries are not known to be independent.
    """
    if isinstance(d, Reshaped):
        return log_prob_of_entries(d.base, jnp.ravel(value))
    if isinstance(d, Rescaled | WithEvents):
        return d.log_prob_of_entries(value)
    if isinstance(d, dist.Independent) and not d.base_dist.event_shape:
        return jnp.ravel(d.base_dist.log_prob(value))
    raise TypeError(
        f"Expected a distribution of independent entries for data with holes; got "
        f"{type(d).__name__}."
    )
