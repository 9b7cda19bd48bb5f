"""Where rows are computed on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax
from jax import Array
from jaxtyping import Float, PyTree


class Placement(ABC):
    """How chunks get to the devices, and how their results are combined."""

    @property
    @abstractmethod
    def n_shards(self) -> int:
        """Number of the shards that rows are shared out to: row i is of shard i mod n_shards."""

    @property
    @abstractmethod
    def own_shards(self) -> range:
        """The shards of this process."""

    @abstractmethod
    def put(self, rows: PyTree) -> PyTree:
        """Put a PyTree of host arrays, rows leading, on the devices."""

    @abstractmethod
    def reduce(self, means: PyTree, weight: Float[Array, ""]) -> PyTree:
        """Average over the devices what each found for its own rows of a batch.

        Parameters
        ----------
        means : PyTree
            Means over the device's rows: gradients and metrics.
        weight : Array
            The number of these rows.
        """


@dataclass(frozen=True)
class OneDevice(Placement):
    """JAX's default device, where there is nothing to combine."""

    @property
    def n_shards(self) -> int:
        """One."""
        return 1

    @property
    def own_shards(self) -> range:
        """All of one."""
        return range(1)

    def put(self, rows: PyTree) -> PyTree:
        """Put the rows on the default device."""
        return jax.device_put(rows)

    def reduce(self, means: PyTree, weight: Float[Array, ""]) -> PyTree:
        """Return the means as they are."""
        return means
