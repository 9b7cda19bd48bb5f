"""Intensities of 8-bit pictures, taken for the whole numbers that they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from aevb.models.base import Frozen
from aevb.models.kinds.base import Constants, Kind, Measured, Names, Scaled, refuse, standardised
from aevb.models.kinds.entrywise import Entrywise, above, before_floor, log_noise
from aevb.models.kinds.scaling import Standardise
from aevb.models.kinds.summary import Summary
from aevb.models.linear import Working
from aevb.probability import levels

_WHITE = 255
_LEAST = math.log(0.1)  # in units of an intensity: all of the mass is on one of them


@final
@dataclass(frozen=True)
class Intensity(Kind):
    """Whole numbers from 0 to 255."""

    name: ClassVar[str] = "intensity"

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError for anything but whole numbers from 0 to 255."""
        bad = (block < 0) | (block > _WHITE) | (block != np.rint(block))
        refuse(bad, block, f"whole numbers from 0 to {_WHITE}", self.likelihood, columns, first_row)

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Standardise each entry; constant ones have a scale of one intensity."""
        return standardised(summary, np.zeros(len(summary.mean)))

    def constants(self, measured: Measured) -> Constants:
        """Return the scaling, and the floor of scales."""
        scale = np.where(measured.constant, np.inf, measured.scale)
        return Constants(
            Scaled(Standardise(measured.shift, scale)),
            Standardise(measured.shift, measured.scale),
            Frozen(jnp.asarray(_LEAST - np.log(measured.scale), jnp.float32)),
            jnp.asarray(measured.start, jnp.float32),
        )


@final
@dataclass(frozen=True)
class DiscretisedLogistic(Entrywise):
    """Logistic decoder rounded to whole intensities, with a learned scale for each entry.

    A probability of 8-bit values, not a density: comparable with codes in bits.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="discretised-logistic")
    VAE(likelihood='discretised-logistic')
    """

    name: ClassVar[str] = "discretised-logistic"
    kind: ClassVar[str] = "intensity"

    def own(self, constants):  # noqa: D102
        begin = log_noise(constants) + 0.5 * math.log(3) - math.log(math.pi)
        return {"log_scale": before_floor(begin, constants.floor.value)}

    def law(self, location, own, held):  # noqa: D102
        log_scale = above(own["log_scale"], held.floor.value)
        log_scale += held.standardise.log_scale()
        location = held.standardise.undo(location)
        law = levels.DiscretisedLogistic(location, log_scale, float(_WHITE), validate_args=False)
        return law.to_event(1)

    def working(self, measured):  # noqa: D102
        one, zero = np.ones(len(measured.scale)), np.zeros(len(measured.scale))
        return Working(one, zero, one, zero, None, np.minimum(0.3 / measured.scale, 1.0))
