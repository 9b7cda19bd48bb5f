"""Columns of several kinds as one datum: each kind's side by side in a block of its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Num, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.models.conditional import Conditional
from aevb.models.kinds.base import Block, Constants
from aevb.models.linear import Start
from aevb.probability.blocks import Blocks


class Case(NamedTuple):
    """One datum of several blocks.

    Attributes
    ----------
    blocks : dict of Array
        The values of each block.
    observed : dict of Array, or None
        Which of them are there, bool, of the same shapes; None: all.
    """

    blocks: dict[str, Any]
    observed: dict[str, Any] | None = None


@final
class CaseBlock(eqx.Module):
    """Several blocks, with the interface of one: what a model for `Case` is built from.

    Parameters
    ----------
    parts : dict of Block
        The blocks by name.
    holes : bool
        Whether values may be missing: the encoder then reads which are there as well.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb.models.kinds.case import CaseBlock
    >>> from aevb.schema import Schema
    >>> sizes, answers = np.array([[1.0], [2.5], [3.0]]), np.array([[0.0], [1.0], [1.0]])
    >>> block = CaseBlock(
    ...     {"sizes": Schema.fit(sizes).block, "answers": Schema.fit(answers, "bernoulli").block}
    ... )
    >>> block.shape
    (2,)
    """

    parts: dict[str, Block]
    holes: bool = eqx.field(static=True, default=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all values in one vector."""
        return (sum(part.size for part in self.parts.values()),)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what the encoder reads: each block, then what is there."""
        n_inputs = sum(math.prod(part.input_shape) for part in self.parts.values())
        return (n_inputs + self.holes * math.prod(self.shape),)

    @property
    def direct_shape(self) -> tuple[int, ...]:
        """Shape of features that are the decoder's location themselves: that of a single block."""
        first, *others = self.parts.values()
        return self.shape if others else first.shape

    @property
    def n_locations(self) -> int:
        """How many numbers the decoder gives of one datum."""
        return sum(part.n_locations for part in self.parts.values())

    @property
    def widths(self) -> np.ndarray:
        """How many numbers the decoder gives of each value, shape (size,)."""
        return np.concatenate(
            [np.repeat(part.n_locations // part.size, part.size) for part in self.parts.values()]
        )

    def example(self) -> Case:
        """Return the shapes and types of one datum."""
        blocks: dict[str, Any] = {name: part.example() for name, part in self.parts.items()}
        if not self.holes:
            return Case(blocks)
        bits = {name: jax.ShapeDtypeStruct(x.shape, bool) for name, x in blocks.items()}
        return Case(blocks, bits)

    @property
    def constants(self) -> Constants:
        """What the model holds of the data: of what the decoder does not hold, the inputs."""
        parts = {name: part.constants.inputs for name, part in self.parts.items()}
        return Constants(CaseInputs(parts, self.holes))

    def starting_at(self, start: Start) -> CaseBlock:
        """Return the block with another start of the decoder, which is cut at the parts' ends."""
        sizes = [part.n_locations for part in self.parts.values()]
        ends = [*itertools.accumulate(sizes, initial=0)]
        slices = itertools.starmap(slice, itertools.pairwise(ends))
        named = zip(self.parts.items(), slices, strict=True)
        parts = {name: part.starting_at(_some(start, rows)) for (name, part), rows in named}
        return CaseBlock(parts, self.holes)

    def head(self, features: tuple[int, ...], *, key: Key) -> Conditional:
        """Build the decoder's last part: a head for each block."""
        keys = jax.random.split(key, len(self.parts))
        named = zip(self.parts.items(), keys, strict=True)
        return CaseHead({name: part.head(features, key=k) for (name, part), k in named})


def _some(start: Start, rows: slice) -> Start:
    return jax.tree.map(lambda array: array[rows], start)


@final
class CaseInputs(eqx.Module):
    """What the encoder reads of a case: what it reads of each block, one after the other."""

    parts: dict[str, Callable]
    holes: bool = eqx.field(static=True, default=False)

    def __call__(self, case: Case) -> Num[Array, " size"]:
        """Return one vector."""
        observed: dict = dict.fromkeys(self.parts) if case.observed is None else case.observed
        read = [part(case.blocks[name], observed[name]) for name, part in self.parts.items()]
        if self.holes:
            read += [_marks(case.blocks[name], observed[name]) for name in self.parts]
        return jnp.concatenate([jnp.ravel(each) for each in read])


def _marks(block: Any, observed: Any) -> Array:
    """Return 1 for what is there, 0 for what is not; a complete case has no marks of its own."""
    if observed is None:
        return jnp.ones(jnp.shape(block), jnp.float32)
    return observed.astype(jnp.float32)


@final
class CaseHead(Conditional):
    """p(x|z) of a case: its blocks are independent given z."""

    parts: dict[str, Conditional]

    def __call__(self, *given: PyTree) -> Blocks:
        """Return p(x|z) for the features of one latent."""
        return Blocks({name: part(*given) for name, part in self.parts.items()}, Case)
