"""The affine map to the scale on which the networks work, whatever the data's units."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from aevb.models.base import Frozen

_SAFE = 2.0**64  # between its inverse and it, no product of two float32 leaves the normal numbers


class Standardise(eqx.Module):
    """Affine map to the scale on which the networks work: ``(x - shift) / scale``.

    Parameters
    ----------
    shift, scale : ndarray
        Numbers, or vectors with an entry for each entry of the flattened datum. The scale may be
        any positive normal float32; infinite: the entry becomes 0.
    """

    constants: Frozen
    lifts: bool = eqx.field(static=True)

    def __init__(self, shift: ArrayLike, scale: ArrayLike):
        shift, scale = (np.ravel(np.asarray(a, np.float64)) for a in (shift, scale))
        # Processors take subnormal numbers for 0. Columns whose scale is close to them, or to the
        # largest numbers, are first multiplied by a power of two, which is exact.
        extreme = np.isfinite(scale) & ((scale < 1 / _SAFE) | (scale > _SAFE))
        self.lifts = bool(extreme.any())
        with np.errstate(divide="ignore"):
            exponent = np.where(extreme, -np.floor(np.log2(np.where(extreme, scale, 1))), 0.0)
        exponent = np.clip(exponent, -126, 126)
        lift = 2.0**exponent
        arrays = (shift, scale, shift * lift, 1 / (scale * lift), lift)
        self.constants = Frozen(
            tuple(
                jnp.asarray(np.float32(a[0] if len(a) == 1 else a), jnp.float32)
                for a in np.broadcast_arrays(*arrays)
            )
        )

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Scale one datum."""
        _, _, shift, inverse, lift = self.constants.value
        flat = jnp.ravel(x)
        if self.lifts:
            flat = _times(flat.astype(jnp.float32), lift)
        return jnp.reshape((flat - shift) * inverse, jnp.shape(x))

    def undo(self, x: Array | np.ndarray) -> Array:
        """Return a flat datum to the data's own units."""
        shift, scale, *_ = self.constants.value
        return x * scale + shift

    def log_scale(self) -> Array:
        """Return the logarithm of the scale: what a density loses by the map."""
        _, _, _, inverse, lift = self.constants.value
        return -jnp.log(inverse) - jnp.log(lift)


def _times(x: Array, lift: Array) -> Array:
    """Multiply float32 numbers by powers of two, subnormal ones too."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    fraction = (bits & jnp.uint32(0x7FFFFF)).astype(jnp.float32)
    sign = jnp.where(bits >> 31, -1.0, 1.0)
    subnormal = (bits & jnp.uint32(0x7F800000)) == 0
    # They are multiples of 2^-149, which is itself subnormal.
    unit = jnp.where(lift > 1, lift * jnp.float32(2.0**-75), 0) * jnp.float32(2.0**-74)
    return jnp.where(subnormal, sign * fraction * unit, x * lift)
