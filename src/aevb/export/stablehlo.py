"""A function as StableHLO: the bytes of `jax.export`, for processors, GPUs and TPUs."""

from __future__ import annotations

import jax
from jax import export

from aevb.export.functions import Function
from aevb.export.libraries import library

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(function: Function) -> bytes:
    """Return what `jax.export.deserialize` reads.

    Parameters
    ----------
    function : Function
        Of a batch, whose number of rows is left open.

    Raises
    ------
    ImportError
        When FlatBuffers is not installed.
    """
    library("flatbuffers", ".stablehlo")
    (n,) = export.symbolic_shape("n")
    exported = export.export(jax.jit(function.call), platforms=PLATFORMS)(*function.specs(n))
    return bytes(exported.serialize())
