"""What every kind of columns has: how it is checked, measured, shown to the encoder, modelled.

A `Kind` is about the data: which values there may be, on what scale the networks see them. A
`Likelihood` is the family p(x|z) that its columns have. Both are described by a few settings; what
training moves are the modules that they build.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Shaped
from jaxtyping import PRNGKeyArray as Key

from aevb.models.base import Frozen
from aevb.models.conditional import Conditional
from aevb.models.kinds.scaling import Standardise
from aevb.models.kinds.summary import Summary
from aevb.models.linear import Departure, Start, Working
from aevb.models.networks import Linear
from aevb.probability.distributions import Reshaped
from aevb.probability.rescaled import Event

Names = Sequence[str] | None  # of the columns


class Measured(NamedTuple):
    """What a kind takes from the training data: plain numbers, saved with the model.

    Attributes
    ----------
    shift, scale : ndarray
        The scaling ``(x - shift) / scale`` on which the networks work: one number, or one for each
        entry of the flattened datum; float64.
    start : ndarray
        Location of p(x|z) at which the decoder starts, before the first step: the data's mean, on
        the scale on which the decoder gives it.
    constant : ndarray of bool
        Which entries have one value, `shift`, in all training rows.
    resolution : ndarray
        One unit of the last digit that is written, in the data's own units.
    n_rows : int or ndarray
        Number of training rows; that of each entry, where values are missing.
    levels : ndarray
        Of data with levels, the share of each, shape (size, K); 0 where an entry has fewer. Of
        other data, of shape (0, 0).
    high : ndarray
        Of counts, the greatest value of each entry. Of other data, of shape (0,).
    """

    shift: Float[np.ndarray, " size"]
    scale: Float[np.ndarray, " size"]
    start: Float[np.ndarray, " size"]
    constant: Bool[np.ndarray, " size"]
    resolution: Float[np.ndarray, " size"]
    n_rows: int | Int[np.ndarray, " size"]
    levels: Float[np.ndarray, "size_or_none n_levels"] = np.zeros((0, 0))
    high: Float[np.ndarray, " size_or_none"] = np.zeros(0)


class Constants(eqx.Module):
    """What the model holds of the data, and training leaves as it is.

    Attributes
    ----------
    inputs : callable PyTree
        What the encoder reads: (block, observed) -> array of the block's shape. ``observed`` marks
        the entries that are there; None: all.
    standardise : Standardise
        The scaling of the likelihood.
    floor : Array or None
        The logarithm of the least scale of a density, on the scale of the networks.
    start : Array or Start
        Where the decoder's location starts: a vector, or the map of the linear start.
    event : Event or None
        The entries that did not vary, if there are any.
    white : float
        The value that stands for "one" in binary data.
    levels : Frozen or None
        Logarithms of the shares of levels, shape (size, K).
    total : Frozen or None
        Numbers of trials, shape (size,).
    ceiling : Frozen or None
        Location of each entry beyond which it grows slowly.
    """

    inputs: Callable[..., Array]
    standardise: Standardise | None = None
    floor: Frozen | None = None
    start: Float[Array, " size"] | Start | float = 0.0
    event: Event | None = None
    white: float = eqx.field(static=True, default=1.0)
    levels: Frozen | None = None
    total: Frozen | None = None
    ceiling: Frozen | None = None


@dataclass(frozen=True)
class Likelihood(ABC):
    """A family of decoders p(x|z), as the user names it; subclasses are final.

    Attributes
    ----------
    name : str
        Its name.
    kind : str
        The kind of data that it is for: a name of `aevb.models.kinds.KINDS`.
    """

    name: ClassVar[str]
    kind: ClassVar[str]

    @abstractmethod
    def build(
        self,
        features: tuple[int, ...],
        shape: tuple[int, ...],
        constants: Constants,
        *,
        key: Key,
    ) -> Conditional:
        """Build the head: a map from features of one latent to p(x|z), in the data's own units.

        Parameters
        ----------
        features : tuple of int
            Shape of the features.
        shape : tuple of int
            Shape of one datum.
        constants : Constants
            What the model holds of the data.
        key : Array
            JAX random key.
        """

    def working(self, measured: Measured) -> Working | None:
        """Return its linear approximation, from which training starts; None if it has none."""
        return None


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of columns, with the likelihood that they have; subclasses are final.

    Parameters
    ----------
    likelihood : Likelihood
        The family p(x|z).
    dtype : str
        Type of the data, by NumPy's name.
    """

    likelihood: Likelihood
    dtype: str
    name: ClassVar[str]
    filler: ClassVar[float] = 0.0  # a value of the support, where there is none

    @property
    def settings(self) -> dict[str, Any]:
        """What a kind has been told beside likelihood and type, by name."""
        names = {each.name for each in fields(self)} - {"likelihood", "dtype"}
        return {name: getattr(self, name) for name in sorted(names)}

    @abstractmethod
    def check(
        self, block: Shaped[np.ndarray, "n ..."], columns: Names = None, first_row: int = 0
    ) -> None:
        """Raise ValueError, naming column, row and value, if a value is outside the support.

        Parameters
        ----------
        block : ndarray of shape (n, ...)
            Some rows.
        columns : sequence of str, optional
            Names of the columns.
        first_row : int
            Number of the first of them in all data.
        """

    def settled(self, summary: Summary, n_levels: tuple[int, ...] = ()) -> Kind:
        """Return this kind with what its settings leave to the training data.

        Parameters
        ----------
        summary : Summary
            Of the values.
        n_levels : tuple of int
            Of data with levels whose number is known, this number for each entry.
        """
        return self

    def view(self, block: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """Return numbers of which `measure` needs the summary beside that of the values."""
        return block

    @abstractmethod
    def measure(self, summary: Summary, seen: Summary, columns: Names = None) -> Measured:
        """Take from the training rows what the model needs of them.

        Parameters
        ----------
        summary : Summary
            Of the values.
        seen : Summary
            Of what `view` makes of them.
        columns : sequence of str, optional
            Names of the columns.
        """

    def remarks(self, summary: Summary, columns: Names = None) -> list[str]:
        """Return what a user should be warned of, a sentence or two each."""
        return []

    def dependent(
        self, block: Shaped[np.ndarray, "n ..."], resolution: Float[np.ndarray, " size"]
    ) -> tuple[int, ...]:
        """Return the columns whose densities would be rewarded for what others say already."""
        return ()

    def typical(self, measured: Measured) -> np.ndarray:
        """Return values from the middle of the training data, or others that are possible."""
        return np.asarray(self.filler)

    @abstractmethod
    def constants(self, measured: Measured) -> Constants:
        """Return what the model holds of the data: what the encoder reads, for one."""

    def head(
        self, features: tuple[int, ...], shape: tuple[int, ...], constants: Constants, *, key: Key
    ) -> Conditional:
        """Build the decoder's last part: a map from features of one latent to p(x|z)."""
        return self.likelihood.build(features, shape, constants, key=key)


class Block(eqx.Module):
    """Columns of one kind, side by side, as the model knows them.

    Parameters
    ----------
    kind : Kind
        Their kind.
    shape : tuple of int
        Shape of one datum.
    measured : Measured
        What was measured on the training data.
    """

    kind: Kind = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    constants: Constants

    def __init__(self, kind: Kind, shape: tuple[int, ...], measured: Measured):
        self.kind, self.shape = kind, shape
        self.constants = kind.constants(measured)

    @property
    def size(self) -> int:
        """Number of values of one datum."""
        return size_of(self.shape)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what the encoder reads of one datum."""
        return eqx.filter_eval_shape(self.constants.inputs, self.example()).shape

    @property
    def direct_shape(self) -> tuple[int, ...]:
        """Shape of features that are the decoder's location themselves."""
        return self.shape

    @property
    def n_locations(self) -> int:
        """How many numbers the decoder gives of one datum."""
        start = self.constants.start
        return len(start.bias) if isinstance(start, Start) else jnp.size(start)

    def example(self) -> jax.ShapeDtypeStruct:
        """Return shape and type of one datum."""
        return jax.ShapeDtypeStruct(self.shape, np.dtype(self.kind.dtype))

    def starting_at(self, start: Start) -> Block:
        """Return the block with another start of the decoder."""
        return eqx.tree_at(lambda block: block.constants.start, self, start)

    def head(self, features: tuple[int, ...], *, key: Key) -> Conditional:
        """Build the decoder's last part."""
        return self.kind.head(features, self.shape, self.constants, key=key)


class Scaled(eqx.Module):
    """What the encoder reads of numbers: standardised, and 0 where they are not observed.

    Parameters
    ----------
    standardise : Standardise
        The scaling.
    view : callable, optional
        What to make of the numbers before: their logarithms, for one.
    """

    standardise: Standardise
    view: Callable[[Array], Array] | None = eqx.field(static=True, default=None)

    def __call__(
        self, block: Array | np.ndarray, observed: Array | np.ndarray | None = None
    ) -> Array:
        """Scale one datum."""
        if self.view is not None:
            block = self.view(jnp.asarray(block, jnp.float32))
        scaled = self.standardise(block)
        return scaled if observed is None else jnp.where(observed, scaled, 0)


class Location(eqx.Module):
    """One parameter of p(x|z) for each entry of the flattened x, from the decoder's features.

    Features in the form of a vector pass an affine map to the size of x; features that already
    have the (two- or three-dimensional) shape of x are taken as they are.
    """

    linear: Linear | Departure | None

    def __init__(
        self, features: tuple[int, ...], size: int, start: ArrayLike | Start = 0.0, *, key: Key
    ):
        self.linear = None
        if len(features) > 1:
            return
        if isinstance(start, Start):
            self.linear = Departure(start, features[0], key=key)
        else:
            linear = Linear(features[0], size, key=key)
            bias = jnp.broadcast_to(jnp.ravel(jnp.asarray(start, jnp.float32)), size)
            self.linear = eqx.tree_at(lambda linear: linear.bias, linear, bias)

    def __call__(self, h: Float[Array, "*shape"]) -> Float[Array, " size"]:
        """Return a vector with an entry for each entry of x."""
        return jnp.ravel(h) if self.linear is None else self.linear(h)


def in_shape(flat: dist.Distribution, shape: tuple[int, ...]) -> dist.Distribution:
    """Show a distribution of vectors as one of data of some shape."""
    return flat if len(shape) == 1 else Reshaped(flat, shape)


def size_of(shape: tuple[int, ...]) -> int:
    """Return the number of entries of a datum."""
    return math.prod(shape)


def standardised(
    summary: Summary, start: Float[np.ndarray, " size"], levels: np.ndarray | None = None
) -> Measured:
    """Measure whole numbers that the encoder reads centred and scaled to unit variance.

    Parameters
    ----------
    summary : Summary
        Of the values.
    start : ndarray
        Where the decoder's location starts.
    levels : ndarray, optional
        The share of each level.
    """
    measured = Measured(
        shift=summary.mean,
        scale=np.where(summary.constant, 1.0, summary.spread),
        start=start,
        constant=summary.constant,
        resolution=np.ones(len(summary.mean)),
        n_rows=summary.n,
    )
    return measured if levels is None else measured._replace(levels=levels)


def refuse(
    bad: Bool[np.ndarray, "n ..."],
    block: Shaped[np.ndarray, "n ..."],
    expected: str,
    likelihood: Likelihood,
    columns: Names,
    first_row: int = 0,
) -> None:
    """Raise ValueError for the first bad value, by column and row, if there is one.

    Parameters
    ----------
    bad : ndarray of bool
        Which values are outside the support.
    block : ndarray of shape (n, ...)
        The values.
    expected : str
        What values there may be.
    likelihood : Likelihood
        Whose support that is.
    columns : sequence of str, optional
        Names of the columns.
    first_row : int
        Number of the first row in all data.
    """
    if not bad.any():
        return
    flat = bad.reshape(len(bad), -1)
    row, column = map(int, np.argwhere(flat)[0])
    several = f", and in {flat.sum() - 1} more cells" if flat.sum() > 1 else ""
    raise ValueError(
        f"Expected {expected} for likelihood {likelihood.name!r}; got "
        f"{block.reshape(len(block), -1)[row, column]} in row {row + first_row}, "
        f"{column_name(column, columns)}{several}. Correct these values, or choose another "
        "likelihood."
    )


def column_name(position: int, columns: Names) -> str:
    """Name a column in a message."""
    return f"column {position}" if columns is None else f"column {columns[position]!r}"
