"""A fitted model's function as a file that runs without aevb."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aevb import __version__
from aevb.data.files import check_target, replacing
from aevb.errors import integer
from aevb.export.functions import Function, function_of
from aevb.export.rows import Port, name_of
from aevb.learned import Learned
from aevb.models.base import LatentVariableModel

_ONNX, _STABLEHLO = ".onnx", ".stablehlo"


def export(
    path: str | os.PathLike[str],
    learned: Learned,
    model: LatentVariableModel,
    what: str,
    *,
    latent_dim: int,
    n_draws: int,
    seed: int,
) -> None:
    """Write a function of a model to a file; see `aevb.VAE.export`.

    Parameters
    ----------
    path : path-like
        Where to; its ending is the format. An existing file is replaced.
    learned : Learned
        What was learned of the data.
    model : LatentVariableModel
        The fitted model.
    what : {"encode", "decode", "reconstruct", "elbo"}
        Which function.
    latent_dim : int
        Number of latent dimensions.
    n_draws, seed : int
        Of the bound: number of draws, and the seed of their noise.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (_ONNX, _STABLEHLO):
        raise ValueError(
            f"Expected a file name that ends in {_ONNX} or {_STABLEHLO} for `path`; got "
            f"{path.name!r}."
        )
    check_target(path, overwrite=True)
    n_draws = integer(n_draws, "n_draws", minimum=1)
    with jax.enable_x64(False):  # single precision, whatever is set around the call
        single = jax.tree.map(_single, model)
        function = function_of(learned, single, what, latent_dim, n_draws, seed)
        text = json.dumps(_described(function, learned), indent=2)
        files: dict[Path, bytes]
        if ending == _ONNX:
            from aevb.export.onnx import to_onnx

            files = {path: to_onnx(function, text)}
        else:
            from aevb.export.stablehlo import to_stablehlo

            # The format has no place for a description, which therefore stands beside it.
            beside = path.with_name(f"{path.name}.json")
            files = {beside: text.encode(), path: to_stablehlo(function)}
    for each, content in files.items():
        with replacing(each) as temporary:
            temporary.write_bytes(content)


def _single(leaf: Any) -> Any:
    is_wide = getattr(leaf, "dtype", None) == np.float64
    return leaf.astype(np.float32) if is_wide else leaf


def _described(function: Function, learned: Learned) -> dict[str, Any]:
    """Return what those who call a function have to know, for JSON."""
    columns = learned.schema.columns
    return {
        "aevb": __version__,
        "function": function.name,
        "inputs": [_of_port(port) for port in function.inputs],
        "outputs": [_of_port(port) for port in function.outputs],
        "left_out": [] if columns is None else [columns.names[j] for j in columns.left_out],
        "takes_missing_values": learned.schema.holes,
    }


def _of_port(port: Port) -> dict[str, Any]:
    columns = [{**column.described(), "port": name_of(port, column)} for column in port.columns]
    described = {"name": port.name, "type": port.dtype, "shape": ["n", *port.shape]}
    return {**described, "columns": columns} if columns else described
