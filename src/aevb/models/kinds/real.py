"""Real numbers: standardised for the networks, Gaussian in the data's own units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float, Shaped

from aevb.errors import choose
from aevb.models.base import Frozen
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
from aevb.models.kinds.dependence import dependent_columns
from aevb.models.kinds.entrywise import Entrywise, above, before_floor, log_noise
from aevb.models.kinds.scaling import Standardise
from aevb.models.kinds.summary import Summary
from aevb.models.linear import Start, Working
from aevb.probability import amounts
from aevb.probability.rescaled import Event, Rescaled
from aevb.probability.special import scale_of

# A density over continuous x has no upper bound, so its scale has a floor: that of the error of
# rounding to the last digit, but at least e⁻⁹ and at most half of the column's own.
_LEAST, _HALF = -9.0, math.log(0.5)
_SMALLEST = float(np.finfo(np.float32).tiny)


@final
@dataclass(frozen=True)
class Real(Kind):
    """Real numbers of any finite scale."""

    name: ClassVar[str] = "real"

    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Take any numbers: the border has refused those that are not finite."""

    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Centre each entry and scale it to unit variance; constant ones stay apart."""
        constant = summary.constant
        small = (summary.spread < _SMALLEST) & ~constant
        if small.any():
            column = int(np.flatnonzero(small)[0])
            raise ValueError(
                f"Expected columns that vary by {_SMALLEST:.2g} or more, the smallest normal "
                f"float32, for `X`; got {column_name(column, columns)} of standard deviation "
                f"{summary.spread[column]:.2g}. Rescale the data."
            )
        return Measured(
            shift=np.where(constant, summary.low, summary.mean).astype(np.float64),
            scale=np.where(constant, 1.0, summary.spread),
            start=np.zeros(len(constant)),
            constant=constant,
            resolution=summary.resolution,
            n_rows=summary.n,
        )

    def typical(self, measured: Measured) -> np.ndarray:
        """Return the means."""
        return measured.shift

    def remarks(self, summary: Summary, columns: Names = None) -> list[str]:
        """Warn of a value that dwarfs the differences of all others in its column."""
        alone = summary.lone_values()
        if not alone:
            return []
        column, row, value = alone[0]
        more = f" There are {len(alone) - 1} more such values." if len(alone) > 1 else ""
        return [
            f"{value:g} in row {row}, {column_name(column, columns)} of `X` dwarfs the differences "
            "between all other values there: it sets the column's scale, on which the others look "
            f"the same.{more} If it is a mistake, correct it or leave the row out; if it is not, "
            "take logarithms, for instance by numpy.arcsinh."
        ]

    def dependent(
        self, block: Shaped[np.ndarray, "n ..."], resolution: Float[np.ndarray, " size"]
    ) -> tuple[int, ...]:
        """Find the columns of a table that are linear functions of others; not in pictures."""
        return dependent_columns(block, resolution) if block.ndim == 2 else ()

    def constants(self, measured: Measured) -> Constants:
        """Standardise; entries that were constant in training tell the encoder nothing."""
        shift, scale, constant = measured.shift, measured.scale, measured.constant
        event = None
        if constant.any():
            event = Event(Frozen(jnp.asarray(constant)), Frozen(jnp.asarray(measured.n_rows)))
        return Constants(
            Scaled(Standardise(shift, np.where(constant, np.inf, scale))),
            Standardise(shift, scale),
            Frozen(jnp.asarray(least_log_scale(measured), jnp.float32)),
            jnp.asarray(measured.start, jnp.float32),
            event,
        )


def least_log_scale(measured: Measured) -> np.ndarray:
    """Return the logarithm of the least scale of each entry's density, on standardised data."""
    rounding = measured.resolution / math.sqrt(12)  # standard deviation of its error
    return np.clip(np.log(rounding / measured.scale), _LEAST, _HALF)


# One for each entry, learned or frozen; or a map from features.
LogScale = Float[Array, " size"] | Frozen | Location


@final
@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Gaussian decoder for real-valued data: a density in the data's own units.

    An entry that has one value in all n training rows has no density. It is scored as an event, by
    Laplace's rule of succession: (n + 1) / (n + 2) is the probability of the same value, and
    1 / (n + 2) that of any other.

    Parameters
    ----------
    scale : "learned", "per-datapoint" or float
        Standard deviation of x given z. ``"learned"``: one per feature, shared by all data.
        ``"per-datapoint"``: a function of z, as in the paper's appendix C.2. A number: fixed, in
        the data's own units. Learned scales have a floor: the standard deviation of the error of
        rounding to the feature's last digit, δ/√12 for digits of size δ, but at least e⁻⁹ and at
        most half of the feature's own. It bounds the density of values that others determine.

    Examples
    --------
    >>> from aevb import VAE, Gaussian
    >>> VAE(likelihood=Gaussian(scale=0.1))
    VAE(likelihood=Gaussian(scale=0.1))
    """

    scale: str | float = "learned"
    name: ClassVar[str] = "gaussian"
    kind: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        if isinstance(self.scale, str):
            names = {"learned": None, "per-datapoint": None}
            choose(self.scale, names, "scale", " or a positive number")
        elif not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(
                "Expected 'learned', 'per-datapoint' or a positive number for `scale`; "
                f"got {self.scale!r}."
            )

    def build(self, features, shape, constants, *, key):  # noqa: D102
        key_location, key_scale = jax.random.split(key)
        location = Location(features, size_of(shape), constants.start, key=key_location)
        first = jnp.zeros(size_of(shape))
        if isinstance(constants.start, Start):
            first = before_floor(jnp.log(constants.start.unit), constants.floor.value)
        log_scale: LogScale
        if not isinstance(self.scale, str):
            log_scale = Frozen(math.log(self.scale) - constants.standardise.log_scale())
        elif self.scale == "learned":
            log_scale = first
        else:
            if len(features) > 1:
                raise ValueError(
                    "Expected a `decoder` that returns a vector of features for "
                    f"Gaussian(scale='per-datapoint'); got an output of shape {features}."
                )
            begin: Array | Start = first
            if isinstance(constants.start, Start):  # the same for all data, at first
                weight = jnp.zeros_like(constants.start.weight)
                begin = Start(weight, first, jnp.ones_like(first))
            log_scale = Location(features, size_of(shape), begin, key=key_scale)
        scaling = constants.standardise, constants.floor
        return GaussianHead(location, log_scale, *scaling, constants.event, shape)

    def working(self, measured):  # noqa: D102
        one, zero = np.ones(len(measured.constant)), np.zeros(len(measured.constant))
        if isinstance(self.scale, str):
            return Working(one, zero, one, zero, None, np.exp(least_log_scale(measured)))
        noise = self.scale / measured.scale
        return Working(one, zero, one, zero, noise, noise)


class _HeavyTailed(Entrywise):
    """A law around a location on standardised data, with a learned scale for each column."""

    def own(self, constants):
        """Start at the noise that the linear start leaves."""
        return {"log_scale": before_floor(log_noise(constants), constants.floor.value)}

    def working(self, measured):
        return Gaussian().working(measured)


@final
@dataclass(frozen=True)
class Laplace(_HeavyTailed):
    """Laplace decoder for real-valued data: absolute errors, not squared ones.

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="laplace")
    VAE(likelihood='laplace')
    """

    name: ClassVar[str] = "laplace"
    kind: ClassVar[str] = "real"

    def law(self, location, own, held):  # noqa: D102
        scale = scale_of(above(own["log_scale"], held.floor.value)) / math.sqrt(2)
        law = dist.Laplace(location, scale, validate_args=False)
        return Rescaled(law, held.standardise, held.event)


@final
@dataclass(frozen=True)
class StudentT(_HeavyTailed):
    """Student's t decoder for real-valued data with outliers.

    Parameters
    ----------
    df : "learned" or float
        Degrees of freedom: the fewer, the heavier the tails. ``"learned"``: more than one, for each
        column.

    Examples
    --------
    >>> from aevb import VAE
    >>> from aevb import likelihoods
    >>> VAE(likelihood=likelihoods.StudentT(df=4.0))
    VAE(likelihood=StudentT(df=4.0))
    """

    df: str | float = "learned"
    name: ClassVar[str] = "student-t"
    kind: ClassVar[str] = "real"

    def __post_init__(self) -> None:
        if isinstance(self.df, str):
            choose(self.df, {"learned": None}, "df", " or a positive number")
        elif not (np.isfinite(self.df) and self.df > 0):
            raise ValueError(f"Expected 'learned' or a positive number for `df`; got {self.df!r}.")

    def own(self, constants):  # noqa: D102
        own = super().own(constants)
        if self.df == "learned":
            own["log_df_above_one"] = jnp.full_like(own["log_scale"], math.log(9.0))
        return own

    def law(self, location, own, held):  # noqa: D102
        log_scale = above(own["log_scale"], held.floor.value)
        if isinstance(self.df, str):
            log_df = jax.nn.softplus(own["log_df_above_one"])  # log(1 + e^...)
        else:
            log_df = jnp.full_like(log_scale, math.log(self.df))
        law = amounts.StudentT(location, log_scale, log_df, validate_args=False)
        return Rescaled(law, held.standardise, held.event)


@final
class GaussianHead(Conditional):
    """p(x|z) = N(location, scale²) on standardised data, carried back to the data's units.

    `log_scale` is a vector shared by all data (learned, or frozen), or a map from features.
    """

    location: Location
    log_scale: LogScale
    standardise: Standardise
    floor: Frozen
    event: Event | None
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, *given: Float[Array, "*shape"]) -> dist.Distribution:
        """Return p(x|z) for the features of one latent."""
        (h,) = given
        location = self.location(h)
        if isinstance(self.log_scale, Frozen):
            log_scale = jnp.broadcast_to(self.log_scale.value, location.shape)
        else:
            raw = self.log_scale(h) if isinstance(self.log_scale, Location) else self.log_scale
            log_scale = above(raw, self.floor.value)
        entries = dist.Normal(location, scale_of(log_scale), validate_args=False)
        return in_shape(Rescaled(entries, self.standardise, self.event), self.shape)
