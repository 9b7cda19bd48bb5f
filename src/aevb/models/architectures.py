"""Architectures: which networks encoder and decoder are, where the user does not give their own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import choose, integer
from aevb.models.convolutions import ConvDecoder, ConvEncoder
from aevb.models.kinds.base import Block
from aevb.models.kinds.case import CaseBlock
from aevb.models.linear import Start
from aevb.models.networks import MLP, Activation, Body

MANY = 1000  # cases, from which on a deep network is the better default: benchmarks/README.md
_LEAST = 8  # pixels of a side


@dataclass(frozen=True)
class Architecture(ABC):
    """A kind of networks, as the user names it; subclasses are final.

    Attributes
    ----------
    name : str
        Its name.
    """

    name: ClassVar[str]

    @abstractmethod
    def auto_hidden(self, n_cases: int) -> tuple[int, ...]:
        """Return what ``hidden="auto"`` stands for, of a fit to so many cases."""

    @abstractmethod
    def encoder(
        self,
        block: Block | CaseBlock,
        n_read: int,
        hidden: tuple[int, ...],
        activation: Activation,
        *,
        key: Key,
    ) -> Body:
        """Build the body of the encoder.

        Parameters
        ----------
        block : Block or CaseBlock
            The data.
        n_read : int
            Numbers that it reads of one case, and of its condition.
        hidden : tuple of int
            Units of fully connected layers.
        activation : str or callable
            Elementwise function.
        key : Array
            JAX random key.
        """

    @abstractmethod
    def decoder(
        self,
        block: Block | CaseBlock,
        n_read: int,
        hidden: tuple[int, ...],
        activation: Activation,
        *,
        key: Key,
    ) -> Body:
        """Build the body of the decoder, which has the layers of the encoder in reverse."""


@final
@dataclass(frozen=True)
class Dense(Architecture):
    """Fully connected layers.

    ``hidden="auto"`` is one layer of 500 for fewer than 1000 cases, and otherwise (500, 250, 100).

    Examples
    --------
    >>> Dense().auto_hidden(60_000)
    (500, 250, 100)
    """

    name: ClassVar[str] = "dense"

    def auto_hidden(self, n_cases: int) -> tuple[int, ...]:  # noqa: D102
        return (500, 250, 100) if n_cases >= MANY else (500,)

    def encoder(self, block, n_read, hidden, activation, *, key):  # noqa: D102
        return MLP(n_read, hidden, activation, key=key)

    def decoder(self, block, n_read, hidden, activation, *, key):  # noqa: D102
        return MLP(n_read, hidden[::-1], activation, key=key)


@final
@dataclass(frozen=True)
class Convolutional(Architecture):
    """Residual convolutions, for pictures of any size from 8 x 8 on, gray or with channels.

    Each stage of the encoder halves height and width, and adds what two convolutions with windows
    of 3 x 3 find. The decoder has the same stages in reverse. Fully connected layers of `hidden`
    stand between the stages and the latents; ``"auto"`` is none.

    Parameters
    ----------
    channels : "auto" or sequence of int
        Channels of each stage. ``"auto"`` halves until a side would be shorter than four, with 32
        channels at first and twice as many at each further stage, up to 256.

    Examples
    --------
    >>> Convolutional().stages((28, 28)), Convolutional().stages((100, 75, 3))
    ((32, 64), (32, 64, 128, 256))
    """

    channels: str | tuple[int, ...] = "auto"
    name: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        if isinstance(self.channels, str):
            choose(self.channels, {"auto": None}, "channels", " or a sequence of integers")
            return
        channels = tuple(integer(each, "channels", minimum=1) for each in self.channels)
        if not channels:
            raise ValueError("Expected at least one stage for `channels`; got none.")
        object.__setattr__(self, "channels", channels)

    def stages(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the channels of each stage, for pictures of a shape."""
        if not isinstance(self.channels, str):
            return self.channels
        n_stages = int(math.log2(min(shape[:2]) / 4))
        return tuple(min(32 * 2**k, 256) for k in range(n_stages))

    def auto_hidden(self, n_cases: int) -> tuple[int, ...]:  # noqa: D102
        return ()

    def encoder(self, block, n_read, hidden, activation, *, key):  # noqa: D102
        shape = self._pictured(block).shape
        return ConvEncoder(shape, n_read, self.stages(shape), hidden, activation, key=key)

    def decoder(self, block, n_read, hidden, activation, *, key):  # noqa: D102
        picture = self._pictured(block)
        channels = self.stages(picture.shape)
        decoder = ConvDecoder(n_read, picture.shape, channels, hidden[::-1], activation, key=key)
        start = picture.constants.start
        if isinstance(start, Start):  # which it departs from
            return decoder
        start = jnp.ravel(jnp.asarray(start, jnp.float32))
        bias = jnp.broadcast_to(start, decoder.bias.shape)
        return eqx.tree_at(lambda at: at.bias, decoder, bias)

    def _pictured(self, block: Block | CaseBlock) -> Block:
        """Return the block of pictures."""
        parts = list(block.parts.values()) if isinstance(block, CaseBlock) else [block]
        shape = parts[0].shape
        if len(parts) > 1 or len(shape) not in (2, 3) or min(shape[:2]) < _LEAST:
            raise ValueError(
                "Expected pictures of 8 x 8 pixels or more, an array of shape (n, height, width) "
                "or (n, height, width, channels), for architecture 'conv'; got rows of shape "
                f"{block.shape}. Reshape `X`, or use architecture='dense'."
            )
        if parts[0].n_locations != parts[0].size:
            raise ValueError(
                "Expected a likelihood with one number from the decoder for each pixel, such as "
                "'bernoulli', 'gaussian' or 'discretised-logistic', for architecture 'conv'; got "
                f"{parts[0].kind.likelihood.name!r}."
            )
        return parts[0]


ARCHITECTURES: dict[str, Any] = {cls.name: cls for cls in (Dense, Convolutional)}


def make_architecture(architecture: Any) -> Architecture:
    """Return the architecture that a user's `architecture` stands for."""
    if isinstance(architecture, Architecture):
        return architecture
    return choose(architecture, ARCHITECTURES, "architecture", " or an Architecture")()
