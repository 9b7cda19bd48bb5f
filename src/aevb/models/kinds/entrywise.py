"""Likelihoods of independent entries: a location each, and parameters that all data share."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution

from aevb.models.base import Frozen
from aevb.models.conditional import Conditional
from aevb.models.kinds.base import Constants, Likelihood, Location, in_shape
from aevb.models.kinds.scaling import Standardise
from aevb.models.linear import Start
from aevb.probability.rescaled import Event

Own = dict[str, Array | Frozen]  # parameters by name


class Held(eqx.Module):
    """Constants of the data that a law needs, as `Constants` has them."""

    standardise: Standardise | None
    floor: Frozen | None
    ceiling: Frozen | None
    event: Event | None
    levels: Frozen | None
    total: Frozen | None


@dataclass(frozen=True)
class Entrywise(Likelihood):
    """A family whose law is a function of locations, which the decoder gives."""

    @abstractmethod
    def own(self, constants: Constants) -> Own:
        """Return where the parameters start that all data share."""

    @abstractmethod
    def law(self, location: Float[Array, " k"], own: Own, held: Held) -> Distribution:
        """Return p(x|z), a distribution of vectors in the data's own units.

        Parameters
        ----------
        location : Array
            What the decoder gives: k numbers, for each entry one, or as many as it has levels.
        own : dict of Array
            Parameters that all data share.
        held : Held
            Constants of the data.
        """

    def build(  # noqa: D102
        self, features: tuple[int, ...], shape: tuple[int, ...], constants: Constants, *, key: Key
    ) -> EntrywiseHead:
        size = len(centre(constants))
        location = Location(features, size, constants.start, key=key)
        held = Held(*(getattr(constants, each.name) for each in dataclasses.fields(Held)))
        return EntrywiseHead(location, self.own(constants), held, self, shape)


@final
class EntrywiseHead(Conditional):
    """p(x|z) by the law of an `Entrywise` likelihood."""

    location: Location
    own: Own
    held: Held
    likelihood: Entrywise = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, *given: Float[Array, "*shape"]) -> Distribution:
        """Return p(x|z) for the features of one latent."""
        (h,) = given
        law = self.likelihood.law(self.location(h), self.own, self.held)
        return in_shape(law, self.shape)


def centre(constants: Constants) -> Float[Array, " k"]:
    """Return the locations at which the decoder starts."""
    start = constants.start
    return start.bias if isinstance(start, Start) else jnp.ravel(jnp.asarray(start))


def log_noise(constants: Constants, otherwise: ArrayLike = 0.0) -> Float[Array, " k"]:
    """Return the logarithm of the scale at which data depart from the linear start, if any."""
    if isinstance(constants.start, Start):
        return jnp.log(constants.start.unit)
    return jnp.broadcast_to(jnp.asarray(otherwise, jnp.float32), centre(constants).shape)


def above(raw: Array, floor: Array) -> Array:
    """Keep the learned logarithm of a scale above its floor, smoothly."""
    return floor + jax.nn.softplus(raw - floor)


def slowed(raw: Array, ceiling: Array) -> Array:
    """Let a location grow only logarithmically beyond its ceiling: smoothly, without an end."""
    beyond = jax.nn.softplus(raw - ceiling)
    return raw - beyond + jnp.log1p(beyond)


def before_floor(log_scale: Array, floor: Array) -> Array:
    """Return what `above` makes `log_scale` of."""
    return floor + jnp.log(jnp.expm1(jnp.maximum(log_scale - floor, 1e-3)))
