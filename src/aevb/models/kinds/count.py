"""Counts: whole numbers from 0 up, with or without a known greatest one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Shaped

from aevb.errors import some
from aevb.models.base import Frozen
from aevb.models.kinds.base import Constants, Kind, Measured, Names, Scaled, refuse, standardised
from aevb.models.kinds.entrywise import Entrywise, Held, centre, log_noise, slowed
from aevb.models.kinds.scaling import Standardise
from aevb.models.kinds.summary import Summary
from aevb.models.linear import Start, Working
from aevb.probability import counts

_SMALL = 1e-3  # the least mean from which a decoder starts
# How far above the logarithm of its greatest count a mean is free. Beyond, its logarithm grows as a
# logarithm: a single step too large, for a case far from all others, would multiply means without
# end.
_MARGIN = 2.0


@final
@dataclass(frozen=True)
class Count(Kind):
    """Whole numbers from 0 up; the encoder reads log(1 + x)."""

    name: ClassVar[str] = "count"

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError for anything but whole numbers from 0 up."""
        bad, expected = ~_is_count(block), "whole numbers from 0 up"
        refuse(bad, block, expected, self.likelihood, columns, first_row)

    def view(self, block: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """Return the numbers that the encoder reads, before they are standardised."""
        return np.log1p(block.astype(np.float64))

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Standardise log(1 + x); start at the logarithm of the mean."""
        return Measured(
            shift=seen.mean,
            scale=np.where(seen.constant, 1.0, seen.spread),
            start=np.log(np.maximum(summary.mean, _SMALL)),
            constant=summary.constant,
            resolution=np.ones(len(summary.mean)),
            n_rows=summary.n,
            high=summary.high,
        )

    def typical(self, measured: Measured) -> np.ndarray:
        """Return the whole numbers at the means of log(1 + x)."""
        return np.rint(np.expm1(measured.shift))

    def constants(self, measured: Measured) -> Constants:
        """Return what the encoder reads, where the decoder starts, and how far it is free."""
        scale = np.where(measured.constant, np.inf, measured.scale)
        ceiling = np.log(np.maximum(measured.high, 1.0)) + _MARGIN
        return Constants(
            Scaled(Standardise(measured.shift, scale), _log1p),
            start=jnp.asarray(measured.start, jnp.float32),
            ceiling=Frozen(jnp.asarray(ceiling, jnp.float32)),
        )


def _log1p(count: Array) -> Array:  # JAX's own functions cannot be pickled
    return jnp.log1p(count)


class _LogMean(Entrywise):
    """A law of counts by the logarithm of its mean."""

    has_noise: ClassVar[bool] = True  # beyond that of Poisson

    def working(self, measured: Measured) -> Working:
        # Around a mean m, log(1 + x) rises by m / (1 + m) with the logarithm of the mean, and has
        # the variance m / (1 + m)² if x is Poisson.
        m = _mean_of_poisson(measured.shift)
        slope, noise = m / (1 + m) / measured.scale, np.sqrt(m) / (1 + m) / measured.scale
        one, zero = np.ones(len(m)), np.zeros(len(m))
        learned = None if self.has_noise else noise
        return Working(one, zero, slope, np.log(m), learned, noise)


def _mean_of_poisson(mean_log1p: np.ndarray) -> np.ndarray:
    """Return the mean m at which E log(1 + x) is given, to second order, by bisection."""
    low, high = np.full_like(mean_log1p, np.log(_SMALL)), np.maximum(mean_log1p, 0.0) + 1
    for _ in range(50):
        middle = (low + high) / 2
        m = np.exp(middle)
        above = np.log1p(m) - m / (1 + m) ** 2 / 2 > mean_log1p
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp(low)


def log_mean(location: Array, held: Held) -> Array:
    """Return the logarithm of the mean, which grows slowly beyond its ceiling."""
    return location if held.ceiling is None else slowed(location, held.ceiling.value)


@final
@dataclass(frozen=True)
class Poisson(_LogMean):
    """Poisson decoder for counts: the variance is the mean.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="poisson")
    VAE(likelihood='poisson')
    """

    name: ClassVar[str] = "poisson"
    kind: ClassVar[str] = "count"
    has_noise: ClassVar[bool] = False

    def own(self, constants):  # noqa: D102
        return {}

    def law(self, location, own, held):  # noqa: D102
        return counts.Poisson(log_mean(location, held), validate_args=False).to_event(1)


@final
@dataclass(frozen=True)
class NegativeBinomial(_LogMean):
    """Negative binomial decoder for counts: the variance is m + m²/r, with an r for each column.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="negative-binomial")
    VAE(likelihood='negative-binomial')
    """

    name: ClassVar[str] = "negative-binomial"
    kind: ClassVar[str] = "count"

    def own(self, constants):  # noqa: D102
        return {"log_concentration": _log_concentration(constants)}

    def law(self, location, own, held):  # noqa: D102
        law = counts.NegativeBinomial(
            log_mean(location, held), own["log_concentration"], validate_args=False
        )
        return law.to_event(1)


@final
@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(_LogMean):
    """Negative binomial decoder with additional zeros, whose share is learned for each column.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="zero-inflated-negative-binomial")
    VAE(likelihood='zero-inflated-negative-binomial')
    """

    name: ClassVar[str] = "zero-inflated-negative-binomial"
    kind: ClassVar[str] = "count"

    def own(self, constants):  # noqa: D102
        concentration = _log_concentration(constants)
        return {"log_concentration": concentration, "zeros": jnp.full_like(concentration, -2.0)}

    def law(self, location, own, held):  # noqa: D102
        base = counts.NegativeBinomial(
            log_mean(location, held), own["log_concentration"], validate_args=False
        )
        return counts.ZeroInflated(base, own["zeros"], validate_args=False).to_event(1)


def _log_concentration(constants: Constants) -> Array:
    """Return what variance beyond Poisson's there is at the start, as a concentration."""
    if not isinstance(constants.start, Start):
        return jnp.zeros_like(centre(constants))
    beyond = jnp.exp(2 * log_noise(constants)) - jnp.exp(-centre(constants))
    return -jnp.log(jnp.clip(beyond, 1e-3, 10.0))


@final
@dataclass(frozen=True)
class Successes(Kind):
    """Whole numbers from 0 to a known greatest one, the number of trials."""

    name: ClassVar[str] = "successes"

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError for anything but whole numbers from 0 to the number of trials."""
        flat, total = block.reshape(len(block), -1), self._total
        if total.size not in (1, flat.shape[1]):
            raise ValueError(
                f"Expected one number of trials, or {flat.shape[1]}, for `total`; got {total.size}."
            )
        expected = "whole numbers from 0 up"
        if np.isfinite(total).all():
            expected = f"whole numbers from 0 to the number of trials ({some(np.unique(total))})"
        bad = ~_is_count(flat) | (flat > total)
        refuse(bad, flat, expected, self.likelihood, columns, first_row)

    @property
    def _total(self) -> np.ndarray:
        """The numbers of trials; infinite before they are known."""
        total = getattr(self.likelihood, "total", "auto")
        return np.ravel(np.asarray(np.inf if isinstance(total, str) else total, float))

    def settled(self, summary: Summary, n_levels: tuple[int, ...] = ()) -> Successes:
        """Take the greatest value of each column for its number of trials, if none was given."""
        if np.isfinite(self._total).all():
            return self
        most = tuple(map(int, np.maximum(summary.high, 1)))
        return replace(self, likelihood=BetaBinomial(most))

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Standardise; start at the log-odds of the mean share."""
        total = self._total
        share = np.clip(summary.mean / total, 0.01, 0.99)
        return standardised(summary, np.log(share / (1 - share)))

    def constants(self, measured: Measured) -> Constants:
        """Return what the encoder reads, and where the decoder starts."""
        scale = np.where(measured.constant, np.inf, measured.scale)
        start = jnp.asarray(measured.start, jnp.float32)
        total = Frozen(jnp.asarray(np.broadcast_to(self._total, start.shape), jnp.float32))
        return Constants(Scaled(Standardise(measured.shift, scale)), start=start, total=total)


@final
@dataclass(frozen=True)
class BetaBinomial(Entrywise):
    """Beta-binomial decoder for numbers of successes in a known number of trials.

    Parameters
    ----------
    total : "auto", int or tuple of int
        Number of trials, for all columns or for each. ``"auto"``: the greatest value that a column
        has in the training data.

    Examples
    --------
    >>> from aevb import VAE
    >>> from aevb import likelihoods
    >>> VAE(likelihood=likelihoods.BetaBinomial(total=10))
    VAE(likelihood=BetaBinomial(total=10))
    """

    total: str | int | tuple[int, ...] = "auto"
    name: ClassVar[str] = "beta-binomial"
    kind: ClassVar[str] = "successes"

    def __post_init__(self) -> None:
        totals = np.ravel(np.asarray(self.total, object))
        if not (self.total == "auto" or all(_is_total(total) for total in totals)):
            raise ValueError(
                "Expected 'auto', a positive whole number or a tuple of them for `total`; got "
                f"{self.total!r}."
            )

    def own(self, constants):  # noqa: D102
        return {"log_concentration": jnp.full_like(centre(constants), 2.0)}

    def law(self, location, own, held):  # noqa: D102
        total = held.total.value
        law = counts.BetaBinomial(location, own["log_concentration"], total, validate_args=False)
        return law.to_event(1)

    def working(self, measured):  # noqa: D102
        share = 1 / (1 + np.exp(-measured.start))
        total = np.ravel(np.asarray(self.total, float))
        slope = total * share * (1 - share) / measured.scale
        one, zero = np.ones(len(share)), np.zeros(len(share))
        least = np.sqrt(total * share * (1 - share)) / measured.scale
        return Working(one, zero, slope, measured.start, None, np.minimum(least, 1.0))


def _is_count(block: np.ndarray) -> np.ndarray:
    return (block >= 0) & (block == np.rint(block))


def _is_total(total: object) -> bool:
    return isinstance(total, int | np.integer) and not isinstance(total, bool) and bool(total > 0)
