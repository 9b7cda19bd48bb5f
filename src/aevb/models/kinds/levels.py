"""Data of a few levels each: categories without an order, and levels with one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Shaped

from aevb.errors import some
from aevb.models.base import Frozen
from aevb.models.kinds.base import Constants, Kind, Measured, Names, Scaled, refuse, standardised
from aevb.models.kinds.entrywise import Entrywise
from aevb.models.kinds.scaling import Standardise
from aevb.models.kinds.summary import Summary
from aevb.models.linear import Working
from aevb.probability import levels

_LEAST_SHARE = 1e-4  # at the start, of a level that does occur
_LEAST_VARIANCE = 0.01  # of an indicator: rarer levels do not speak louder to the encoder


@dataclass(frozen=True)
class _Levels(Kind):
    """Whole numbers from 0 to K - 1, each of which stands for a level.

    Parameters
    ----------
    n_levels : tuple of int
        The number K of each entry; empty: as many as the training data show.
    """

    n_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.n_levels, tuple) or not all(
            type(each) is int and each > 0 for each in self.n_levels
        ):
            raise TypeError(
                f"Expected a tuple of whole numbers for `n_levels`; got {self.n_levels!r:.80}."
            )

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError for anything but the numbers of levels."""
        flat = block.reshape(len(block), -1)
        bad = (flat < 0) | (flat != np.rint(flat))
        expected = "whole numbers from 0 up, the numbers of levels,"
        if self.n_levels:
            most = np.asarray(self.n_levels)
            bad |= flat >= most
            expected = (
                f"whole numbers from 0 to below the number of levels, {some(np.unique(most))},"
            )
        refuse(bad, flat, expected, self.likelihood, columns, first_row)

    def settled(self, summary: Summary, n_levels: tuple[int, ...] = ()) -> _Levels:
        """Take as many levels as are known or the training data show, but at least two."""
        if self.n_levels:
            return self
        most = n_levels or summary.high + 1
        return replace(self, n_levels=tuple(map(int, np.maximum(most, 2))))

    def view(self, block: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """Return an indicator of each level of each entry."""
        flat = block.reshape(len(block), -1, 1)
        return (flat == np.arange(max(self.n_levels))).astype(np.float32)

    def typical(self, measured: Measured) -> np.ndarray:
        """Return the most frequent levels."""
        return measured.levels.argmax(axis=1)

    def _shares(self, seen: Summary) -> Float[np.ndarray, "size n_levels"]:
        """Return the share of each level; 0 where an entry has no such level."""
        width = max(self.n_levels)
        exists = np.arange(width) < np.reshape(self.n_levels, (-1, 1))
        shares = np.maximum(seen.mean.reshape(-1, width), _LEAST_SHARE) * exists
        return shares / shares.sum(axis=1, keepdims=True)


class Indicators(eqx.Module):
    """What the encoder reads of levels: an indicator of each, standardised; 0 if not observed."""

    scaled: Scaled
    width: int = eqx.field(static=True)

    def __call__(
        self, block: Array | np.ndarray, observed: Array | np.ndarray | None = None
    ) -> Array:
        """Read one datum."""
        which = jnp.ravel(jnp.asarray(block, jnp.int32))[:, None] == jnp.arange(self.width)
        if observed is not None:
            observed = jnp.repeat(jnp.ravel(observed), self.width)
        return self.scaled(jnp.ravel(which).astype(jnp.float32), observed)


@final
@dataclass(frozen=True)
class Categories(_Levels):
    """Categories: levels without an order."""

    name: ClassVar[str] = "categories"

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Centre the indicators; start at the logarithms of the shares."""
        shares = self._shares(seen)
        flat = np.ravel(shares)
        with np.errstate(divide="ignore"):
            start = np.log(flat)
        return Measured(
            shift=flat,
            scale=np.sqrt(np.maximum(flat * (1 - flat), _LEAST_VARIANCE)),
            start=np.where(flat > 0, start, 0.0),
            constant=summary.constant,
            resolution=np.ones(len(summary.mean)),
            n_rows=summary.n,
            levels=shares,
        )

    def constants(self, measured: Measured) -> Constants:
        """Return what the encoder reads, and where the decoder starts."""
        scale = np.where(np.ravel(measured.levels) > 0, measured.scale, np.inf)
        inputs = Indicators(Scaled(Standardise(measured.shift, scale)), measured.levels.shape[1])
        start = jnp.asarray(measured.start, jnp.float32)
        return Constants(inputs, start=start, levels=_log_shares(measured))


@final
@dataclass(frozen=True)
class Categorical(Entrywise):
    """Categorical decoder: a softmax over the categories of each entry.

    The data are the numbers of the categories, from 0 up.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="categorical")
    VAE(likelihood='categorical')
    """

    name: ClassVar[str] = "categorical"
    kind: ClassVar[str] = "categories"

    def own(self, constants):  # noqa: D102
        return {}

    def law(self, location, own, held):  # noqa: D102
        log_shares = held.levels.value
        logits = jnp.reshape(location, log_shares.shape)
        logits = jnp.where(jnp.isfinite(log_shares), logits, -jnp.inf)
        return levels.Categorical(logits, validate_args=False).to_event(1)

    def working(self, measured):  # noqa: D102
        # An indicator rises by p (1 - p) with its own logit; of K that sum to one, each logit
        # does only (K - 1) / K of the work.
        p = np.ravel(measured.levels)
        some = p > 0
        n_levels = np.repeat(np.sum(measured.levels > 0, axis=1), measured.levels.shape[1])
        root = np.where(some, np.sqrt(p * (1 - p)), 1.0)
        one = np.ones(len(p))
        gain = np.where(some, measured.scale / root, 0.0)
        slope = root * n_levels / (n_levels - 1)
        return Working(gain, 0 * one, slope, measured.start, one, one)


@final
@dataclass(frozen=True)
class Ordered(_Levels):
    """Levels with an order; the encoder reads their numbers."""

    name: ClassVar[str] = "ordered"

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Standardise the numbers of the levels."""
        return standardised(summary, np.zeros(len(summary.mean)), self._shares(seen))

    def constants(self, measured: Measured) -> Constants:
        """Return what the encoder reads, and the shares from which the cuts start."""
        scale = np.where(measured.constant, np.inf, measured.scale)
        inputs = Scaled(Standardise(measured.shift, scale))
        start = jnp.asarray(measured.start, jnp.float32)
        return Constants(inputs, start=start, levels=_log_shares(measured))


@final
@dataclass(frozen=True)
class Ordinal(Entrywise):
    """Ordinal decoder: proportional odds, with learned cuts between the levels of each entry.

    The data are the numbers of the levels, from 0 up.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="ordinal")
    VAE(likelihood='ordinal')
    """

    name: ClassVar[str] = "ordinal"
    kind: ClassVar[str] = "ordered"

    def own(self, constants):  # noqa: D102
        below = jnp.cumsum(jnp.exp(constants.levels.value), axis=1)[:, :-1]
        below = jnp.clip(below, _LEAST_SHARE, 1 - _LEAST_SHARE)
        cuts = jnp.log(below) - jnp.log1p(-below)
        gaps = jnp.maximum(jnp.diff(cuts, axis=1), 1e-3)
        return {"first": cuts[:, 0], "gaps": jnp.log(jnp.expm1(gaps))}

    def law(self, location, own, held):  # noqa: D102
        first = own["first"][:, None]
        gaps = jnp.cumsum(jax.nn.softplus(own["gaps"]), axis=1)
        cuts = jnp.concatenate([first, first + gaps], axis=1)
        exists = jnp.isfinite(held.levels.value)[:, 1:]
        cuts = jnp.where(exists, cuts, jnp.inf)
        return levels.Ordinal(location, cuts, validate_args=False).to_event(1)

    def working(self, measured):  # noqa: D102
        below = np.cumsum(measured.levels, axis=1)
        slope = np.sum(below * (1 - below), axis=1) / measured.scale
        one, zero = np.ones(len(slope)), np.zeros(len(slope))
        return Working(one, zero, np.maximum(slope, 1e-3), zero, one, one)


def _log_shares(measured: Measured) -> Frozen:
    with np.errstate(divide="ignore"):
        return Frozen(jnp.asarray(np.log(measured.levels), jnp.float32))
