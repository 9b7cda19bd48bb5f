"""The Open Inference Protocol (V2): what KServe, Seldon and Triton's clients send and expect.

https://github.com/kserve/open-inference-protocol. An input is a tensor ``X`` of cases, or one for
each column of a table. The outputs are ``latent``, ``elbo`` and ``reconstruction``, of a table
``reconstruction.COLUMN``; all of them, or those that a request names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from aevb.data.tables import BOOLEAN, CATEGORY, DATE, ORDERED
from aevb.errors import choose, some
from aevb.serve.bodies import cells, check_names, check_rows, plain, rows_of, table_of
from aevb.serve.methods import Told
from aevb.vae import VAE

PLATFORM = "aevb"
METHODS = {"latent": "encode", "elbo": "elbo", "reconstruction": "reconstruct"}
_TYPES = {BOOLEAN: "BOOL", **dict.fromkeys((CATEGORY, ORDERED, DATE), "BYTES")}
_DTYPES = {
    **{"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"},
    **{
        f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32)
    },
    **{"INT64": "int64", "UINT64": "uint64", "BYTES": "object"},
}

Parameters = dict[str, str | float | bool | None]


class Tensor(BaseModel):
    """An input of a request: its data flat, in row-major order, or as nested lists."""

    model_config = ConfigDict(extra="forbid")
    name: str
    shape: list[int] = Field(min_length=1, max_length=8)
    datatype: str
    parameters: Parameters = {}
    data: list[Any]


class Wanted(BaseModel):
    """An output that a request names."""

    model_config = ConfigDict(extra="forbid")
    name: str
    parameters: Parameters = {}


class Inference(BaseModel):
    """A request; ``parameters`` may hold ``condition`` and ``exposure``, one for all cases."""

    model_config = ConfigDict(extra="forbid")
    id: str | None = None
    parameters: Parameters = {}
    inputs: list[Tensor] = Field(min_length=1)
    outputs: list[Wanted] = []


def metadata(name: str, vae: VAE) -> dict[str, Any]:
    """Return what the protocol says of a model: its inputs and outputs, -1 for any number."""
    columns, shape = vae.schema_.columns, list(vae.feature_shape_)
    if columns is None:
        inputs = [_about("X", "FP32", shape)]
        made = [_about("reconstruction", "FP32", shape)]
    else:
        inputs = [
            _about(choice.type.name, _TYPES.get(choice.type.kind, "FP64"), [])
            for choice in columns.choices
        ]
        made = [{**each, "name": f"reconstruction.{each['name']}"} for each in inputs]
    latent = _about("latent", "FP32", [vae.config_.latent_dim])
    return {
        "name": name,
        "versions": ["1"],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": [latent, _about("elbo", "FP32", []), *made],
    }


def _about(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}


def read(inference: Inference, vae: VAE, most: int) -> Told:
    """Return the cases of a request."""
    tensors = {tensor.name: _values(tensor, most) for tensor in inference.inputs}
    columns = vae.schema_.columns
    if columns is None:
        if tensors.keys() != {"X"}:
            raise ValueError(f"Expected one input, 'X'; got {some(tensors)}.")
        X: Any = rows_of(tensors["X"].tolist(), None)
    else:
        lengths = {values.shape for values in tensors.values()}
        if len(lengths) > 1 or len(next(iter(lengths))) > 1:
            raise ValueError(
                "Expected inputs of one length n, of shape [n] or [n, 1]; got "
                f"{some(sorted(lengths))}."
            )
        check_names(tensors, columns.names)
        names = [name for name in columns.names if name in tensors]
        X = table_of({name: tensors[name].tolist() for name in names}, columns)
    given = inference.parameters
    return Told(X, given.get("condition"), given.get("exposure"))


def _values(tensor: Tensor, most: int) -> np.ndarray:
    choose(tensor.datatype, _DTYPES, f"datatype` of `{tensor.name}")
    check_rows(tensor.shape[0], most)
    flat = tensor.data
    for _ in tensor.shape[1:]:
        if not (flat and isinstance(flat[0], list)):
            break
        flat = [cell for row in flat for cell in (row if isinstance(row, list) else [row])]
    if min(tensor.shape) < 0 or math.prod(tensor.shape) != len(flat):
        raise ValueError(
            f"Expected {tensor.shape} values for the input {tensor.name!r}; got {len(flat)}."
        )
    values = np.empty(len(flat), object)
    values[:] = flat
    shape = tensor.shape
    return values.reshape(shape[:1] if shape[1:] == [1] and tensor.name != "X" else shape)


def wanted(inference: Inference, vae: VAE) -> list[str]:
    """Return the names of the outputs of a request."""
    known = [each["name"] for each in metadata("", vae)["outputs"]]
    for each in inference.outputs:
        choose(each.name, dict.fromkeys(known), "outputs")
    return list(dict.fromkeys(each.name for each in inference.outputs)) or known


def method_of(output: str) -> str:
    """Return the method that an output comes from."""
    return METHODS[output.partition(".")[0]]


def response(
    name: str, inference: Inference, outputs: list[str], made: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the response to a request, with the results of the methods by name."""
    found = []
    for output in outputs:
        result = made[method_of(output)]
        if isinstance(result, pa.Table):
            found.append(_tensor(output, result[output.partition(".")[2]]))
        else:
            data = plain(result.astype(np.float32).ravel())
            about = {"name": output, "datatype": "FP32", "shape": list(result.shape)}
            found.append({**about, "data": data})
    about = {"model_name": name, "model_version": "1", "outputs": found}
    return about if inference.id is None else {**about, "id": inference.id}


def _tensor(name: str, column: pa.ChunkedArray) -> dict[str, Any]:
    data = cells(column)
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    datatype = "BOOL" if pa.types.is_boolean(column.type) else "FP64" if is_number else "BYTES"
    if pa.types.is_duration(column.type) or pa.types.is_decimal(column.type):
        datatype = "FP64"
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}
