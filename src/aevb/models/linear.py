r"""The linear start: training begins at the optimum of the linear model that the network contains.

With affine decoder and encoder, a variational auto-encoder is factor analysis,

.. math:: p(x|z) = N(x; W z + m, \\Psi), \\quad p(z) = N(0, I),

whose maximum of the likelihood is known (`aevb.factors` finds it). Rotated so that the exact
posterior is diagonal, it is a point among the parameters at which the bound is tight. Networks
begin there, and add to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float
from jaxtyping import PRNGKeyArray as Key

from aevb.models.base import Frozen
from aevb.models.networks import Body, Linear


class Start(eqx.Module):
    """An affine map to begin with, and the unit in which a network departs from it.

    Parameters
    ----------
    weight, bias : Array
        The map.
    unit : Array
        For each of its outputs, what counts as one: the scale of its noise.
    """

    weight: Float[Array, "out_size in_size"]
    bias: Float[Array, " out_size"]
    unit: Float[Array, " out_size"]


class Departure(eqx.Module):
    """``weight x + bias + unit * linear([h, x])``: the start, and what is learned beside it.

    Parameters
    ----------
    start : Start
        Where it begins; training leaves that as it is.
    linear : Linear
        Of features and input, `Beside` one another; begins at zero.
    """

    start: Frozen
    linear: Linear

    def __init__(self, start: Start, n_features: int, *, key: Key):
        linear = Linear(n_features, start.bias.shape[0], key=key)
        self.linear = eqx.tree_at(lambda at: at.weight, linear, jnp.zeros_like(linear.weight))
        self.start = Frozen(start)

    def __call__(self, features: Float[Array, "*batch n_features"]) -> Float[Array, "*batch out"]:
        """Map features that end in the input."""
        start: Start = self.start.value
        given = features[..., -start.weight.shape[1] :]
        return given @ start.weight.T + start.bias + start.unit * self.linear(features)


class Beside(eqx.Module):
    """A body whose features have the input beside them, for a linear path around it."""

    body: Body

    def __call__(self, x: Array) -> Array:
        """Return features and input in one vector."""
        return jnp.concatenate([self.body(x), jnp.ravel(x)])


class Around(eqx.Module):
    """``start(z) + unit * body(z)``, of a body that returns data and begins at zero.

    Parameters
    ----------
    body : callable PyTree
        From one latent to an array of the shape of one datum.
    start : Start
        Where it begins; training leaves that as it is.
    """

    body: Body
    start: Frozen

    def __init__(self, body: Body, start: Start):
        self.body, self.start = body, Frozen(start)

    def __call__(self, z: Float[Array, " in_size"]) -> Float[Array, "*shape"]:
        """Return an array of the shape of one datum."""
        start: Start = self.start.value
        departure = self.body(z)
        moved = start.weight @ z + start.bias + start.unit * jnp.ravel(departure)
        return moved.reshape(departure.shape)


class LinearStart(NamedTuple):
    """Where decoder and encoder begin.

    Attributes
    ----------
    decoder : Start
        From z to the location of p(x|z).
    encoder : Start
        From what the encoder reads to the mean of q(z|x); the unit is its standard deviation.
    """

    decoder: Start
    encoder: Start


class Working(NamedTuple):
    """A likelihood's linear approximation: ``t = gain x + offset`` is nearly Gaussian given z.

    x is what the encoder reads, and t about ``slope (location - centre)`` plus noise.

    Attributes
    ----------
    gain, offset, slope, centre : ndarray
        One number for each entry.
    noise : ndarray or None
        Standard deviation of the noise; None: to be learned.
    least_noise : ndarray
        The least that it may be.
    """

    gain: np.ndarray
    offset: np.ndarray
    slope: np.ndarray
    centre: np.ndarray
    noise: np.ndarray | None
    least_noise: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[Working]) -> Working:
        """Return that of several blocks; the noise is learned unless that of all is known."""
        noises = [part.noise for part in parts]
        known = [noise for noise in noises if noise is not None]
        return cls(
            np.concatenate([part.gain for part in parts]),
            np.concatenate([part.offset for part in parts]),
            np.concatenate([part.slope for part in parts]),
            np.concatenate([part.centre for part in parts]),
            np.concatenate(known) if len(known) == len(noises) else None,
            np.concatenate([part.least_noise for part in parts]),
        )


def no_start(block: Any, latent_dim: int, condition_size: int = 0) -> LinearStart:
    """Return zeros of the shapes of a start for a block of data."""
    n_read = math.prod(block.input_shape) + condition_size
    shapes = (block.n_locations, latent_dim + condition_size), (latent_dim, n_read)
    parts = (Start(jnp.zeros(s), jnp.zeros(s[0]), jnp.ones(s[0])) for s in shapes)
    return LinearStart(*parts)
