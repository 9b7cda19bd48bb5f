"""What stands before and behind a graph of ONNX that takes rows: an input for each column."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.compose import add_prefix
from onnx.helper import make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from aevb.export.functions import Function
from aevb.export.rows import Column, Port, name_of

_ROWS, _OWN = "rows/", "columns/"  # before the names of values within


def with_columns(model: ModelProto, function: Function) -> ModelProto:
    """Return a model whose tables have an input, or an output, for each of their columns.

    Parameters
    ----------
    model : ModelProto
        With an input, or an output, for the rows of each port of the function.
    function : Function
        What it computes.
    """
    if not any(port.columns for port in (*function.inputs, *function.outputs)):
        return model
    model = add_prefix(model, _ROWS)
    graph = model.graph
    reading, writing = _Ports(graph), _Ports(graph)
    for port in function.inputs:
        reading.read(port)
    for port in function.outputs:
        writing.write(port)
    _replace(graph.input, reading.values)
    _replace(graph.output, writing.values)
    _replace(graph.node, [*reading.nodes, *graph.node, *writing.nodes])
    model.opset_import.append(make_opsetid("ai.onnx.ml", 3))  # has LabelEncoder
    return model


class _Ports:
    """Inputs or outputs of a graph, and the nodes between them and its rows."""

    def __init__(self, graph: GraphProto):
        self.graph = graph
        self.values: list[ValueInfoProto] = []
        self.nodes: list[NodeProto] = []

    def read(self, port: Port) -> None:
        """Make rows of columns."""
        if not port.columns:
            self._plain(port)
            self._add("Identity", [port.name], _ROWS + port.name)
            return
        cells = []
        for column in port.columns:
            name = self._column(port, column)
            if column.categories:
                codes = np.arange(len(column.categories), dtype=np.float32).tolist()
                known = {"keys_strings": column.categories, "values_floats": codes}
                name = self._add("LabelEncoder", [name], None, **known, default_float=np.nan)
            elif column.origin:
                shifted = self._add("Sub", [name, self._constant(np.float64(column.origin))])
                name = self._add("Cast", [shifted], to=TensorProto.FLOAT)
            cells.append(self._add("Unsqueeze", [name, self._constant(np.array([1]))]))
        self._add("Concat", cells, _ROWS + port.name, axis=1)

    def write(self, port: Port) -> None:
        """Make columns of rows."""
        if not port.columns:
            self._plain(port)
            self._add("Identity", [_ROWS + port.name], port.name)
            return
        for j, column in enumerate(port.columns):
            name = self._column(port, column)
            is_plain = not (column.categories or column.origin)
            place = self._constant(np.array(j))
            inner = self._add(
                "Gather", [_ROWS + port.name, place], name if is_plain else None, axis=1
            )
            if column.categories:
                codes = np.arange(len(column.categories), dtype=np.float32).tolist()
                known = {"keys_floats": codes, "values_strings": column.categories}
                self._add("LabelEncoder", [inner], name, **known, default_string="")
            elif column.origin:
                wide = self._add("Cast", [inner], to=TensorProto.DOUBLE)
                self._add("Add", [wide, self._constant(np.float64(column.origin))], name)

    def _plain(self, port: Port) -> None:
        types = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
        value = make_tensor_value_info(port.name, types[port.dtype], ["n", *port.shape])
        self.values.append(value)

    def _column(self, port: Port, column: Column) -> str:
        kind = TensorProto.DOUBLE if column.origin else TensorProto.FLOAT
        kind = TensorProto.STRING if column.categories else kind
        name = name_of(port, column)
        self.values.append(make_tensor_value_info(name, kind, ["n"]))
        return name

    def _add(self, op: str, inputs: list[str], output: str | None = None, **options: Any) -> str:
        own = {"domain": "ai.onnx.ml"} if op == "LabelEncoder" else {}
        output = output or f"{_OWN}{inputs[0]}/{len(self.nodes)}"
        self.nodes.append(make_node(op, inputs, [output], **own, **options))
        return output

    def _constant(self, value: Any) -> str:
        name = f"{_OWN}constant/{len(self.graph.initializer)}"
        self.graph.initializer.append(from_array(np.asarray(value), name))
        return name


def _replace(field: Any, values: Any) -> None:
    kept = [*values]
    del field[:]
    field.extend(kept)
