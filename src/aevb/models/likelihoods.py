"""Decoders p(x|z), in two steps.

A `Likelihood` (`Bernoulli`, `Gaussian`) is the family that the user names: it checks the data and
builds the head. A head is the part of the model that turns a decoder's features into the
distribution of a datum *in the data's own units*, so that no density needs a Jacobian afterwards
and nothing has to be scaled back. The distributions do not check what they are given: the data are
checked once, before training, and a mask over every pixel costs a tenth of a step.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from aevb.errors import choose
from aevb.models.base import Frozen
from aevb.models.networks import Linear
from aevb.probability.distributions import GrayBernoulli, Reshaped

MIN_LOG_SCALE = -6.0  # of standardised data: a density over continuous x has no upper bound


class Standardise(eqx.Module):
    """Affine map to the scale on which the networks work: ``(x - shift) / scale``.

    Shift and scale are numbers, or vectors with an entry for each entry of the flattened datum.
    """

    constants: Frozen

    def __init__(self, shift: Any, scale: Any):
        flat = [jnp.asarray(array, jnp.float32) for array in (shift, scale)]
        self.constants = Frozen(tuple(array.ravel() if array.ndim else array for array in flat))

    def __call__(self, x: Array) -> Array:
        """Scale one datum."""
        shift, scale = self.constants.value
        return jnp.reshape((jnp.ravel(x) - shift) * (1 / scale), jnp.shape(x))

    def undo(self, x: Array) -> Array:
        """Return a flat datum to the data's own units."""
        shift, scale = self.constants.value
        return x * scale + shift


class Measured(NamedTuple):
    """What a likelihood takes from the training data.

    Attributes
    ----------
    standardise : Standardise
        The scaling on which the networks work.
    start : Array
        Location of p(x|z) at which the decoder starts, before the first step: the data's mean.
    """

    standardise: Standardise
    start: Any


class Location(eqx.Module):
    """One parameter of p(x|z) for each entry of the flattened x, from the decoder's features.

    Features in the form of a vector pass an affine map to the size of x; features that already
    have the (two- or three-dimensional) shape of x are taken as they are.
    """

    linear: Linear | None

    def __init__(self, features: tuple[int, ...], size: int, start: Any = 0.0, *, key: Array):
        self.linear = None
        if len(features) == 1:
            linear = Linear(features[0], size, key=key)
            bias = jnp.broadcast_to(jnp.ravel(jnp.asarray(start, jnp.float32)), size)
            self.linear = eqx.tree_at(lambda linear: linear.bias, linear, bias)

    def __call__(self, h: Array) -> Array:
        """Return a vector with an entry for each entry of x."""
        return jnp.ravel(h) if self.linear is None else self.linear(h)


def _show(flat: dist.Distribution, shape: tuple[int, ...]) -> dist.Distribution:
    flat = flat.to_event(1)
    return flat if len(shape) == 1 else Reshaped(flat, shape)


class BernoulliHead(eqx.Module):
    """p(x|z) = Bernoulli(sigmoid(location)), appendix C.1; gray levels as `GrayBernoulli` says."""

    location: Location
    shape: tuple[int, ...] = eqx.field(static=True)
    white: float = eqx.field(static=True)

    def __call__(self, h: Array) -> dist.Distribution:
        """Return p(x|z) for the features of one latent."""
        flat = GrayBernoulli(self.location(h), self.white, validate_args=False)
        return _show(flat, self.shape)


class GaussianHead(eqx.Module):
    """p(x|z) = N(location, scale²) on standardised data, carried back to the data's units.

    `log_scale` is a vector shared by all data (learned, or frozen), or a map from features.
    """

    location: Location
    log_scale: Any
    standardise: Standardise
    shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, h: Array) -> dist.Distribution:
        """Return p(x|z) for the features of one latent."""
        mean = self.standardise.undo(self.location(h))
        _, unit = self.standardise.constants.value
        if isinstance(self.log_scale, Frozen):
            scale = jnp.broadcast_to(self.log_scale.value, mean.shape)
        else:
            raw = self.log_scale(h) if isinstance(self.log_scale, Location) else self.log_scale
            log_scale = MIN_LOG_SCALE + jax.nn.softplus(raw - MIN_LOG_SCALE)
            scale = unit * jnp.exp(log_scale)
        return _show(dist.Normal(mean, scale, validate_args=False), self.shape)


@dataclass(frozen=True)
class Likelihood:
    """A family of decoders p(x|z), as the user names it; subclasses are final."""

    name: ClassVar[str]

    @abstractmethod
    def check(self, X: np.ndarray, dtype: Any, columns: Any = None) -> None:
        """Raise ValueError, naming column, row and value, if X leaves the support.

        `dtype` is the type of the data that the model was fitted to.
        """

    @abstractmethod
    def measure(self, X: np.ndarray) -> Measured:
        """Measure on the training data what the model needs of them."""

    @abstractmethod
    def head(
        self,
        features: tuple[int, ...],
        shape: tuple[int, ...],
        measured: Measured,
        dtype: Any,
        *,
        key: Array,
    ) -> Any:
        """Build the head: a map from features of one latent to p(x|z)."""


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """Bernoulli decoder for binary data, and for gray levels between black and white.

    Data in [0, 1], boolean data, or 8-bit images (0 to 255). For gray levels the value is
    E_b log p(b|z), b ~ Bernoulli(x): the expected log-likelihood under stochastic binarisation,
    no density of x itself (paper, appendix C.1; see `aevb.probability.GrayBernoulli`).

    Examples
    --------
    >>> from aevb import VAE
    >>> VAE(likelihood="bernoulli")
    VAE(likelihood='bernoulli')
    """

    name: ClassVar[str] = "bernoulli"

    @staticmethod
    def white(dtype: Any) -> float:
        """Return the value that stands for "one" in data of this type."""
        return 255.0 if dtype == np.uint8 else 1.0

    def check(self, X: np.ndarray, dtype: Any, columns: Any = None) -> None:
        """Raise ValueError if a value lies outside [0, 1], or [0, 255] for 8-bit data."""
        white = self.white(dtype)
        if white > 1 and X.dtype.kind in "bf" and 0 < X.max() <= 1:
            raise ValueError(
                f"Expected values from 0 to {white:g}, as in the uint8 data of the fit; got "
                f"{X.dtype} no larger than {X.max():g}. Multiply data in [0, 1] by {white:g}."
            )
        if X.min() >= 0 and X.max() <= white:
            return
        X = X.reshape(len(X), -1)
        row, column = np.argwhere((X < 0) | (white < X))[0]
        raise ValueError(
            f"Expected values from 0 to {white:g} for likelihood 'bernoulli' of data of type "
            f"{np.dtype(dtype).name}; got {X[row, column]} in row {row}, "
            f"{_column(column, columns)}. Rescale the data (8-bit images as uint8 need no "
            "scaling), or use likelihood='gaussian'."
        )

    def measure(self, X: np.ndarray) -> Measured:
        """Scale white to one; start at the logits of the mean (between 1 % and 99 %)."""
        white = self.white(X.dtype)
        mean = np.clip(X.mean(axis=0, dtype=np.float64) / white, 0.01, 0.99)
        return Measured(Standardise(0.0, white), np.log(mean / (1 - mean)).astype(np.float32))

    def head(self, features, shape, measured, dtype, *, key):  # noqa: D102
        location = Location(features, math.prod(shape), measured.start, key=key)
        return BernoulliHead(location, shape, self.white(dtype))


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """Gaussian decoder for real-valued data: a density in the data's own units.

    Parameters
    ----------
    scale : "learned", "per-datapoint" or float
        Standard deviation of x given z. ``"learned"``: one per feature, shared by all data.
        ``"per-datapoint"``: a function of z, as in the paper's appendix C.2. A number: fixed, in
        the data's own units. Learned scales stay above e⁻⁶ of the feature's own standard deviation.

    Examples
    --------
    >>> from aevb import VAE, Gaussian
    >>> VAE(likelihood=Gaussian(scale=0.1))
    VAE(likelihood=Gaussian(scale=0.1))
    """

    scale: str | float = "learned"
    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        if isinstance(self.scale, str):
            choose(
                self.scale,
                {"learned": None, "per-datapoint": None},
                "scale",
                " or a positive number",
            )
        elif not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(
                "Expected 'learned', 'per-datapoint' or a positive number for `scale`; "
                f"got {self.scale!r}."
            )

    def check(self, X: np.ndarray, dtype: Any, columns: Any = None) -> None:
        """Raise ValueError if a value is so large that its square leaves float32."""
        largest = max(-float(X.min()), float(X.max()))
        if largest > 1e18:
            X = X.reshape(len(X), -1)
            row, column = np.argwhere((X < -1e18) | (X > 1e18))[0]
            raise ValueError(
                "Expected numbers below 1e18 in size for likelihood 'gaussian'; got "
                f"{X[row, column]:g} in row {row}, {_column(column, columns)}, whose square leaves "
                "the range of float32. Rescale the data."
            )

    def measure(self, X: np.ndarray) -> Measured:
        """Centre each feature and scale it to unit variance (constant features: only centre)."""
        mean = X.mean(axis=0, dtype=np.float64)
        blocks = (X[start : start + 4096] for start in range(0, len(X), 4096))  # no copy of X
        scale = np.sqrt(sum(((block - mean) ** 2).sum(axis=0) for block in blocks) / len(X))
        constant = scale <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
        return Measured(Standardise(mean, np.where(constant, 1.0, scale)), start=0.0)

    def head(self, features, shape, measured, dtype, *, key):  # noqa: D102
        key_location, key_scale = jax.random.split(key)
        location = Location(features, math.prod(shape), key=key_location)
        log_scale: Any
        if self.scale == "learned":
            log_scale = jnp.zeros(math.prod(shape))
        elif self.scale == "per-datapoint":
            if len(features) > 1:
                raise ValueError(
                    "Expected a `decoder` that returns a vector of features for "
                    f"Gaussian(scale='per-datapoint'); got an output of shape {features}."
                )
            log_scale = Location(features, math.prod(shape), key=key_scale)
        else:
            log_scale = Frozen(jnp.asarray(self.scale, jnp.float32))
        return GaussianHead(location, log_scale, measured.standardise, shape)


def _column(position: int, columns: Any) -> str:
    return f"column {position}" if columns is None else f"column {columns[position]!r}"


LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}


def make_likelihood(likelihood: Any, X: np.ndarray) -> tuple[Likelihood, str]:
    """Return the likelihood that a user's `likelihood` stands for, and why if it was chosen."""
    if isinstance(likelihood, Likelihood):
        return likelihood, ""
    if likelihood == "auto":
        chosen, reason = choose_likelihood(X)
        return chosen, f" ({reason})"
    table = {"auto": None, **LIKELIHOODS}
    return choose(likelihood, table, "likelihood", " or a Likelihood")(), ""


def choose_likelihood(X: np.ndarray) -> tuple[Likelihood, str]:
    """Choose a likelihood for an array, and say why.

    Bernoulli when all values lie in [0, 1] (or the type is uint8) and at least a quarter of them
    are at the two ends of that range; else Gaussian.
    """
    white = Bernoulli.white(X.dtype)
    if X.min() < 0 or X.max() > white:
        return Gaussian(), "values outside [0, 1]"
    extreme = (np.count_nonzero(X == 0) + np.count_nonzero(white == X)) / X.size
    why = f"{extreme:.0%} of the values are 0 or {white:g}"
    return (Bernoulli() if extreme >= 0.25 else Gaussian()), why
