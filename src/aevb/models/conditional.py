"""Conditional distributions: modules whose call returns a distribution."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import final

import equinox as eqx
from jax import Array
from jaxtyping import PyTree
from numpyro.distributions import Distribution

from aevb.probability.blocks import Blocks


class Conditional(eqx.Module):
    """A distribution given something: a prior (), an encoder (x,), a decoder (z,).

    A head, which is a conditional distribution given features, makes one of a body: see `Network`.
    """

    @abstractmethod
    def __call__(self, *given: PyTree) -> Distribution | Blocks:
        """Return the distribution."""


@final
class Network(Conditional):
    """A distribution given an input, by a network: inputs, then body, then head.

    Parameters
    ----------
    body : callable PyTree
        Turns what the network reads into features.
    head : Conditional
        Turns features into a distribution.
    inputs : callable PyTree, optional
        Turns the input into what the network reads: the data scaled, for one.
    """

    body: Callable[[PyTree], Array]
    head: Callable[..., Distribution | Blocks]
    inputs: Callable[[PyTree], Array] | None = None

    def __call__(self, *given: PyTree) -> Distribution | Blocks:
        """Return the distribution for one input."""
        (x,) = given
        return self.head(self.body(x if self.inputs is None else self.inputs(x)))
