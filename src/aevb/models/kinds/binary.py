"""Zeros and ones, and the gray levels between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float, Shaped
from numpy.typing import DTypeLike

from aevb.models.conditional import Conditional
from aevb.models.kinds.base import (
    Constants,
    Kind,
    Likelihood,
    Location,
    Measured,
    Names,
    Scaled,
    column_name,
    in_shape,
    size_of,
)
from aevb.models.kinds.entrywise import Entrywise
from aevb.models.kinds.scaling import Standardise
from aevb.models.kinds.summary import Summary
from aevb.models.linear import Working
from aevb.probability import amounts
from aevb.probability.distributions import GrayBernoulli
from aevb.probability.rescaled import Rescaled


def white(dtype: DTypeLike) -> float:
    """Return the value that stands for "one" in data of this type."""
    return 255.0 if np.dtype(dtype) == np.uint8 else 1.0


@final
@dataclass(frozen=True)
class Binary(Kind):
    """Zeros and ones, or gray levels between black and white: 0 to 1, 8-bit images 0 to 255."""

    name: ClassVar[str] = "binary"

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError if a value lies outside [0, 1], or [0, 255] for 8-bit data."""
        one = white(self.dtype)
        if one > 1 and block.dtype.kind in "bf" and 0 < block.max() <= 1:
            raise ValueError(
                f"Expected values from 0 to {one:g}, as in the uint8 data of the fit; got "
                f"{block.dtype} no larger than {block.max():g}. Multiply data in [0, 1] by {one:g}."
            )
        if block.min() >= 0 and block.max() <= one:
            return
        block = block.reshape(len(block), -1)
        row, column = map(int, np.argwhere((block < 0) | (one < block))[0])
        raise ValueError(
            f"Expected values from 0 to {one:g} for likelihood {self.likelihood.name!r} of data of "
            f"type {self.dtype}; got {block[row, column]} in row {row + first_row}, "
            f"{column_name(column, columns)}. Rescale the data (8-bit images as uint8 need no "
            "scaling), or use likelihood='gaussian'."
        )

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Scale white to one; start at the logits of the mean (between 1 % and 99 %)."""
        one = white(self.dtype)
        mean = np.clip(summary.mean / one, 0.01, 0.99)
        start = np.log(mean / (1 - mean))
        none = np.zeros(len(mean), bool)  # an entry that was always black may be white
        return Measured(np.zeros(1), np.full(1, one), start, none, np.ones(1), summary.n)

    def constants(self, measured: Measured) -> Constants:
        """Scale white to one."""
        standardise = Standardise(measured.shift, measured.scale)
        start = jnp.asarray(measured.start, jnp.float32)
        return Constants(Scaled(standardise), standardise, start=start, white=white(self.dtype))


@final
@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Bernoulli decoder for binary data, and for gray levels between black and white.

    Data in [0, 1], boolean data, or 8-bit images (0 to 255). For gray levels the value is
    E_b log p(b|z), b ~ Bernoulli(x): the expected log-likelihood under stochastic binarisation,
    not a density of x itself (paper, appendix C.1; see `aevb.probability.GrayBernoulli`).

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="bernoulli")
    VAE(likelihood='bernoulli')
    """

    name: ClassVar[str] = "bernoulli"
    kind: ClassVar[str] = "binary"

    def build(self, features, shape, constants, *, key):  # noqa: D102
        location = Location(features, size_of(shape), constants.start, key=key)
        return BernoulliHead(location, shape, constants.white)

    def working(self, measured):  # noqa: D102
        # Of Bernoulli(p), (x - p) / √v with v = p (1 - p) has variance 1, and rises by √v with the
        # logit, to first order.
        p = 1 / (1 + np.exp(-measured.start))
        root = np.sqrt(p * (1 - p))
        one = np.ones(len(p))
        return Working(1 / root, -p / root, root, measured.start, one, one)


@final
@dataclass(frozen=True)
class ContinuousBernoulli(Entrywise):
    """Continuous Bernoulli decoder: a density of gray levels, where Bernoulli's has none.

    Loaiza-Ganem and Cunningham (2019), https://arxiv.org/abs/1907.06845.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="continuous-bernoulli")
    VAE(likelihood='continuous-bernoulli')
    """

    name: ClassVar[str] = "continuous-bernoulli"
    kind: ClassVar[str] = "binary"

    def own(self, constants):  # noqa: D102
        return {}

    def law(self, location, own, held):  # noqa: D102
        law = amounts.ContinuousBernoulli(location, validate_args=False)
        return Rescaled(law, held.standardise)

    def working(self, measured):  # noqa: D102
        # The logits that would give the mean to a Bernoulli law give it about half of that here.
        law = amounts.ContinuousBernoulli(jnp.asarray(measured.start, jnp.float32))
        mean, root = np.asarray(law.mean, float), np.sqrt(np.asarray(law.variance, float))
        one = np.ones(len(mean))
        return Working(1 / root, -mean / root, root, measured.start, one, one)


@final
class BernoulliHead(Conditional):
    """p(x|z) = Bernoulli(sigmoid(location)), appendix C.1; gray levels as `GrayBernoulli` says."""

    location: Location
    shape: tuple[int, ...] = eqx.field(static=True)
    white: float = eqx.field(static=True)

    def __call__(self, *given: Float[Array, "*shape"]) -> dist.Distribution:
        """Return p(x|z) for the features of one latent."""
        (h,) = given
        flat = GrayBernoulli(self.location(h), self.white, validate_args=False)
        return in_shape(flat.to_event(1), self.shape)
