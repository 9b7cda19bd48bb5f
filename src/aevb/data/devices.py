"""Several devices, of one process or of many, that share out every batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int, PyTree
from numpy.typing import ArrayLike

from aevb.data.placement import Count, OneDevice, Placement, Share
from aevb.data.processes import gathered, guarded
from aevb.errors import integer

_ARRAYS = (Array, np.ndarray, np.generic)
_AXIS = "rows"
# A batch of 100 has 20 shards, one of 1000 has 40, and powers of two have up to 64: many numbers
# of devices divide it, and shards stay large enough to be shuffled.
_MOST_SHARDS = 2**6 * 3 * 5


def placement_for(devices: str | int | None, batch_size: int) -> Placement:
    """Return where a training runs, from what a user says.

    Parameters
    ----------
    devices : "all", int or None
        All devices of all processes; so many of them; or None, JAX's default device.
    batch_size : int
        Rows per step, on all devices together.

    Raises
    ------
    ValueError, TypeError
        When there are not so many devices, or a batch cannot be shared out among them.
    """
    if devices is None:
        return OneDevice()
    known = jax.devices()
    if devices != "all":
        if isinstance(devices, str):
            raise ValueError(f"Expected 'all', a number or None for `devices`; got {devices!r}.")
        number = integer(devices, "devices", minimum=1)
        if number > len(known):
            raise ValueError(
                f"Expected at most {len(known)} for `devices`, as many as JAX has here; got "
                f"{number}."
            )
        if jax.process_count() > 1 and number < len(known):
            raise ValueError(
                "Expected 'all' for `devices` in a run of several processes, which have "
                f"{len(known)}; got {number}."
            )
        known = known[:number]
    n_shards = math.gcd(batch_size, _MOST_SHARDS)
    if n_shards % len(known):
        fitting = [d for d in range(1, n_shards + 1) if n_shards % d == 0]
        raise ValueError(
            "Expected a number of devices that a batch can be shared out to, which of "
            f"`batch_size={batch_size}` is one of {', '.join(map(str, fitting))}; got "
            f"{len(known)}. It must divide `batch_size` and {_MOST_SHARDS}: choose another of the "
            "two."
        )
    return Devices(tuple(known), n_shards)


@dataclass(frozen=True)
class Devices(Placement):
    r"""Devices that hold and compute some of the rows each, and all of the parameters.

    Row r belongs to shard r mod S. A batch is B/S rows from each of the S shards, in the order of
    the shards, and a device has S/D shards. So the batches and, as noise is keyed by a row's
    position in the batch, the draws do not depend on the number of devices D, but for rounding.
    Each device computes the gradient of its own rows. Once per step they are averaged, as one
    vector: a tree of reductions would wait for the network once for each array.

    Parameters
    ----------
    devices : tuple of jax.Device
        The same in all processes.
    n_shards : int
        S, a multiple of their number.

    Examples
    --------
    >>> placement = Devices((jax.devices()[0],), n_shards=2)
    >>> placement.put(np.arange(6)).tolist(), placement.rounded(5)
    ([0, 2, 4, 1, 3, 5], 6)
    """

    devices: tuple[jax.Device, ...]
    n_shards: int = 1

    @property
    def own_shards(self) -> range:
        """Those of the devices of this process, which JAX numbers one after another."""
        per_device = self.n_shards // len(self.devices)
        own = [i for i, each in enumerate(self.devices) if each in jax.local_devices()]
        return range(own[0] * per_device, (own[-1] + 1) * per_device)

    def put(self, rows: PyTree, *, given: bool = False) -> PyTree:
        """Put each device's rows on it, shard by shard; a process reads those of its own."""
        return jax.tree.map(self._put, rows)

    def _put(self, rows: ArrayLike) -> Array:
        array, n_shards = np.asarray(rows), self.n_shards
        size = -(-len(array) // n_shards)

        def part(index: Any) -> np.ndarray:  # of whole shards
            begin, end, _ = index[0].indices(n_shards * size)
            buffer = np.empty((end - begin, *array.shape[1:]), array.dtype)
            for place, shard in enumerate(range(begin // size, end // size)):
                own, of_shard = array[shard::n_shards], buffer[place * size :][:size]
                of_shard[: len(own)], of_shard[len(own) :] = own, array[0]
            return buffer

        shape = (n_shards * size, *array.shape[1:])
        return jax.make_array_from_callback(shape, self._sharding(_AXIS), part)

    def rounded(self, batch_size: int) -> int:
        """Return the next multiple of the number of shards."""
        return -(-batch_size // self.n_shards) * self.n_shards

    def order(
        self, rows: Int[np.ndarray, " n"], n_buffer: int, batch_size: int
    ) -> tuple[Int[Array, "S m"], Int[Array, " S"]]:
        """Return the order within each shard, and the number of rows of each."""
        n_shards, size = self.n_shards, n_buffer // self.n_shards
        per_batch, per_device = batch_size // n_shards, n_shards // len(self.devices)
        shard = rows % n_shards
        n = np.bincount(shard, minlength=n_shards).astype(np.int32)
        by_shard = np.split(rows[np.argsort(shard, kind="stable")], np.cumsum(n)[:-1])
        order = np.zeros((n_shards, -(-size // per_batch) * per_batch), np.int32)
        for s, own in enumerate(by_shard):
            order[s, : len(own)] = own // n_shards + s % per_device * size
        on_devices = jax.make_array_from_callback(
            order.shape, self._sharding(_AXIS), order.__getitem__
        )
        return on_devices, self._everywhere(n)

    def run(self, program: Callable, state: PyTree, visit: PyTree, *others: Any) -> PyTree:
        """Call the function; what it returns is the same on all devices, and is had from one.

        Raises
        ------
        ConnectionError
            When another process has ended.
        """
        visit = visit._replace(n_total=self._everywhere(visit.n_total))
        with guarded():
            results = jax.block_until_ready(program(self._everywhere(state), visit, *others))
        return jax.tree.map(
            lambda leaf: leaf.addressable_data(0) if isinstance(leaf, Array) else leaf, results
        )

    def agree(self, reason: str | None) -> str | None:
        """Return the reason of the first process that has one."""
        return next(filter(None, gathered(reason or "")), None)

    def map(self, function: Callable, by_row: tuple) -> Callable:
        """Return the function of a device's own rows, on all devices."""
        specs = jax.tree.map(lambda rows: PartitionSpec(_AXIS) if rows else PartitionSpec(), by_row)
        return jax.shard_map(
            function,
            mesh=self._mesh,
            in_specs=specs,
            out_specs=PartitionSpec(),
            check_vma=False,  # else JAX sums every gradient by itself, array by array
        )

    def n_steps(self, n: Int[Array, " S"], batch_size: int) -> Count:
        """Return the number of batches until the last shard is empty."""
        per_batch = batch_size // self.n_shards
        return (jnp.max(n) + per_batch - 1) // per_batch

    def share(
        self, order: Int[Array, "K m"], n: Int[Array, " S"], i: Count, batch_size: int
    ) -> Share:
        """Return the rows of the device's K shards."""
        per_batch, (per_device, _) = batch_size // self.n_shards, order.shape
        first, start = lax.axis_index(_AXIS) * per_device, i * per_batch
        rows = lax.dynamic_slice_in_dim(order, start, per_batch, axis=1)
        own = lax.dynamic_slice_in_dim(n, first, per_device)
        real = start + jnp.arange(per_batch) < own[:, None]
        weight = len(self.devices) * real.astype(jnp.float32)
        position = first * per_batch + jnp.arange(rows.size)
        n_real = jnp.sum(jnp.clip(n - start, 0, per_batch)).astype(jnp.float32)
        return Share(rows.ravel(), position, weight.ravel(), n_real)

    def reduce(self, means: PyTree) -> PyTree:
        """Average over the devices, as one vector."""
        vector, restored = ravel_pytree(means)
        return restored(lax.pmean(vector, _AXIS))

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (_AXIS,))

    def _sharding(self, *axes: str) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(*axes))

    def _everywhere(self, tree: PyTree) -> PyTree:
        """Put arrays that all processes have on each device."""
        leaves, structure = jax.tree.flatten(tree)
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, _ARRAYS)]
        arrays, sharding = [leaves[i] for i in places], self._sharding()
        copies = [jax.device_put(arrays, device) for device in self._mesh.local_devices]
        for i, *each in zip(places, *copies, strict=True):
            leaves[i] = jax.make_array_from_single_device_arrays(each[0].shape, sharding, each)
        return jax.tree.unflatten(structure, leaves)
