"""Where rows are computed on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax
from jax import Array
from jaxtyping import Float, PyTree


class Placement(ABC):
    """How chunks get to the devices, and how their results are combined."""

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

    def put(self, rows: PyTree) -> PyTree:
        """Put the rows on the default device."""
        return jax.device_put(rows)

    def reduce(self, means: PyTree, weight: Float[Array, ""]) -> PyTree:
        """Return the means as they are."""
        return means
