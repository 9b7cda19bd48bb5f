"""Positive amounts, on logarithmic scales; and proportions, on the scale of log-odds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import digamma
from jaxtyping import Shaped

from aevb.models.base import Frozen
from aevb.models.kinds.base import Constants, Kind, Measured, Names, Scaled, refuse
from aevb.models.kinds.entrywise import Entrywise, above, before_floor, centre, log_noise
from aevb.models.kinds.scaling import Standardise
from aevb.models.kinds.summary import Summary
from aevb.models.linear import Working
from aevb.probability import amounts
from aevb.probability.rescaled import Event, entries
from aevb.probability.special import scale_of

# As those of real numbers: a density of continuous data has no upper bound without them.
_LEAST, _HALF = -9.0, math.log(0.5)


class _OnAScale(Kind):
    """Numbers that are standardised after a map to the whole line."""

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Standardise after the map; start at the mean there."""
        constant = summary.constant
        return Measured(
            shift=np.where(constant, seen.low, seen.mean),
            scale=np.where(constant | (seen.spread == 0), 1.0, seen.spread),
            start=np.where(constant, seen.low, seen.mean),
            constant=constant,
            resolution=summary.resolution,
            n_rows=summary.n,
        )

    def _constants(
        self, measured: Measured, view: Callable, undo: Callable, rounding: np.ndarray
    ) -> Constants:
        """Return what the model holds, for the rounding error of the data on the map's scale."""
        scaling = np.where(measured.constant, np.inf, measured.scale)
        least = np.clip(np.log(rounding / measured.scale), _LEAST, _HALF) + np.log(measured.scale)
        event = None
        if measured.constant.any():
            value = undo(measured.shift)
            event = Event(
                Frozen(jnp.asarray(measured.constant)),
                Frozen(jnp.asarray(measured.n_rows)),
                Frozen(jnp.asarray(value, jnp.float32)),
            )
        return Constants(
            Scaled(Standardise(measured.shift, scaling), view),
            Standardise(measured.shift, measured.scale),
            Frozen(jnp.asarray(least, jnp.float32)),
            jnp.asarray(measured.start, jnp.float32),
            event,
        )


@final
@dataclass(frozen=True)
class Amount(_OnAScale):
    """Positive numbers; the encoder reads their logarithms."""

    name: ClassVar[str] = "amount"
    filler: ClassVar[float] = 1.0

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError for a value that is 0 or less."""
        refuse(block <= 0, block, "positive numbers", self.likelihood, columns, first_row)

    def view(self, block: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """Return the logarithms."""
        return np.log(block.astype(np.float64))

    def typical(self, measured: Measured) -> np.ndarray:
        """Return the geometric means."""
        return np.exp(measured.shift)

    def constants(self, measured: Measured) -> Constants:
        """Return what the encoder reads, and the floor of scales of the logarithm."""
        rounding = measured.resolution / math.sqrt(12) / np.exp(measured.start)
        return self._constants(measured, _log, np.exp, rounding)


def _log(amount: Array) -> Array:  # JAX's own functions cannot be pickled
    return jnp.log(amount)


class _OfLogarithms(Entrywise):
    """A law of amounts whose location is on the logarithmic scale."""

    def own(self, constants):
        """Start at the noise that the linear start leaves, or at each column's own spread."""
        begin = log_noise(constants, constants.standardise.log_scale())
        return {"log_scale": before_floor(begin, constants.floor.value)}

    def working(self, measured):
        one, zero = np.ones(len(measured.start)), np.zeros(len(measured.start))
        least = np.full(len(one), np.exp(_LEAST))
        return Working(one, zero, one / measured.scale, measured.start, None, least)


@final
@dataclass(frozen=True)
class Gamma(_OfLogarithms):
    """Gamma decoder for positive amounts: the standard deviation is a share of the mean.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="gamma")
    VAE(likelihood='gamma')
    """

    name: ClassVar[str] = "gamma"
    kind: ClassVar[str] = "amount"

    def law(self, location, own, held):  # noqa: D102
        log_k = -2 * above(own["log_scale"], held.floor.value)
        # The location is that of the logarithms: E log x = log m + ψ(k) - log k.
        log_mean = location + log_k - digamma(jnp.exp(log_k))
        return entries(amounts.MeanGamma(log_mean, log_k, validate_args=False), held.event)


@final
@dataclass(frozen=True)
class LogNormal(_OfLogarithms):
    """Log-normal decoder for positive amounts: their logarithms are Gaussian.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="log-normal")
    VAE(likelihood='log-normal')
    """

    name: ClassVar[str] = "log-normal"
    kind: ClassVar[str] = "amount"

    def law(self, location, own, held):  # noqa: D102
        scale = scale_of(above(own["log_scale"], held.floor.value))
        return entries(amounts.LogNormal(location, scale, validate_args=False), held.event)


@final
@dataclass(frozen=True)
class Proportion(_OnAScale):
    """Numbers between 0 and 1, without the ends; the encoder reads their log-odds."""

    name: ClassVar[str] = "proportion"
    filler: ClassVar[float] = 0.5

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError for a value that is not between 0 and 1."""
        outside = (block <= 0) | (block >= 1)
        refuse(outside, block, "numbers between 0 and 1", self.likelihood, columns, first_row)

    def view(self, block: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """Return the log-odds."""
        share = block.astype(np.float64)
        return np.log(share) - np.log1p(-share)

    def typical(self, measured: Measured) -> np.ndarray:
        """Return the proportions at the means of the log-odds."""
        return _logistic(measured.shift)

    def constants(self, measured: Measured) -> Constants:
        """Return what the encoder reads, and the floor of scales of the log-odds."""
        share = _logistic(measured.start)
        rounding = measured.resolution / math.sqrt(12) / (share * (1 - share))
        return self._constants(measured, _log_odds, _logistic, rounding)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _log_odds(share: Array) -> Array:
    return jnp.log(share) - jnp.log1p(-share)


@final
@dataclass(frozen=True)
class Beta(_OfLogarithms):
    """Beta decoder for proportions, by mean and concentration.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="beta")
    VAE(likelihood='beta')
    """

    name: ClassVar[str] = "beta"
    kind: ClassVar[str] = "proportion"

    def own(self, constants):  # noqa: D102
        return super().own(constants) | {"start": Frozen(centre(constants))}

    def law(self, location, own, held):  # noqa: D102
        # Near the mean share m of the start, the log-odds vary by 1 / √(m (1 - m) (c + 1)).
        start = own["start"].value
        spread = jax.nn.log_sigmoid(start) + jax.nn.log_sigmoid(-start)
        log_c = -2 * above(own["log_scale"], held.floor.value) - spread
        return entries(amounts.MeanBeta(location, log_c, validate_args=False), held.event)
