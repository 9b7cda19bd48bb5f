"""Where rows are computed on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int, PyTree

Count = int | Int[Array, ""]  # traced or not


class Share(NamedTuple):
    """The rows of a batch that one device computes.

    Attributes
    ----------
    rows : Array
        Their numbers in the device's buffers.
    position : Array
        Their positions in the whole batch.
    weight : Array
        0 for padding. For a real row the number of devices, so that a device's sum over its rows,
        divided by `n`, has the mean over the whole batch as its average over the devices.
    n : Array
        Number of real rows of the whole batch.
    """

    rows: Int[Array, " b"]
    position: Int[Array, " b"]
    weight: Float[Array, " b"]
    n: Float[Array, ""]


class Placement(ABC):
    """How chunks get to the devices, who computes which rows, and how results are combined.

    `put`, `order`, `rounded`, `run` and `agree` are called on the host, the others inside compiled
    functions.
    """

    @property
    @abstractmethod
    def n_shards(self) -> int:
        """Number of the shards that rows are shared out to: row i is of shard i mod n_shards."""

    @property
    @abstractmethod
    def own_shards(self) -> range:
        """The shards of this process."""

    @abstractmethod
    def put(self, rows: PyTree, *, given: bool = False) -> PyTree:
        """Put a PyTree of host arrays, rows leading, on the devices.

        Those that are `given` away, as nobody writes to them any more, may be taken as they are.
        """

    @abstractmethod
    def rounded(self, batch_size: int) -> int:
        """Return the least batch size that can be shared out, from the one given up."""

    @abstractmethod
    def order(
        self, rows: Int[np.ndarray, " n"], n_buffer: int, batch_size: int
    ) -> tuple[PyTree, PyTree]:
        """Lay out the order in which rows of the buffers are visited, for `share`.

        Parameters
        ----------
        rows : np.ndarray
            Numbers of the rows, as they were in the arrays given to `put`.
        n_buffer : int
            Number of rows of the buffers, on all devices.
        batch_size : int
            Rows per step.

        Returns
        -------
        order : PyTree
            The order, of a shape that depends on `n_buffer` alone.
        n : PyTree
            How many rows there are.
        """

    @abstractmethod
    def run(self, program: Callable, state: PyTree, visit: PyTree, *others: Any) -> PyTree:
        """Call a compiled function with a state that all devices share, and with their rows."""

    @abstractmethod
    def agree(self, reason: str | None) -> str | None:
        """Return the reason to stop that holds for all processes, given that of this one."""

    @abstractmethod
    def map(self, function: Callable, by_row: tuple) -> Callable:
        """Return a function that each device computes for its own rows.

        Parameters
        ----------
        function : callable
            Its results must be the same on all devices, as they are after `reduce`.
        by_row : tuple of PyTree of bool
            For each argument, or parts of it, whether its arrays have rows leading.
        """

    @abstractmethod
    def n_steps(self, n: PyTree, batch_size: int) -> Count:
        """Return the number of batches, given the `n` of `order`."""

    @abstractmethod
    def share(self, order: PyTree, n: PyTree, i: Count, batch_size: int) -> Share:
        """Return the device's rows of the i-th batch."""

    @abstractmethod
    def reduce(self, means: PyTree) -> PyTree:
        """Average over the devices what each found for its own rows of a batch."""


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

    def put(self, rows: PyTree, *, given: bool = False) -> PyTree:
        """Put the rows on the default device."""
        return jax.device_put(rows, may_alias=True) if given else jax.device_put(rows)

    def rounded(self, batch_size: int) -> int:
        """Return the batch size as it is."""
        return batch_size

    def order(
        self, rows: Int[np.ndarray, " n"], n_buffer: int, batch_size: int
    ) -> tuple[Int[np.ndarray, " n_padded"], np.int32]:
        """Return the rows with padding behind them, a multiple of the batch size long."""
        n = len(rows)
        padded = np.zeros(-(-n_buffer // batch_size) * batch_size, np.int32)
        padded[:n] = rows
        return padded, np.int32(n)

    def run(self, program: Callable, state: PyTree, visit: PyTree, *others: Any) -> PyTree:
        """Call the function."""
        return program(state, visit, *others)

    def agree(self, reason: str | None) -> str | None:
        """Return the reason as it is."""
        return reason

    def map(self, function: Callable, by_row: tuple) -> Callable:
        """Return the function as it is."""
        return function

    def n_steps(self, n: Int[Array, ""], batch_size: int) -> Count:
        """Return ⌈n/B⌉."""
        return (n + batch_size - 1) // batch_size

    def share(
        self, order: Int[Array, " n_padded"], n: Int[Array, ""], i: Count, batch_size: int
    ) -> Share:
        """Return the whole batch."""
        start, position = i * batch_size, jnp.arange(batch_size)
        rows = lax.dynamic_slice_in_dim(order, start, batch_size)
        weight = (start + position < n).astype(jnp.float32)
        return Share(rows, position, weight, jnp.sum(weight))

    def reduce(self, means: PyTree) -> PyTree:
        """Return the means as they are."""
        return means
