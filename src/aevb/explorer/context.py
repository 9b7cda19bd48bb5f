"""What a model is told of a case beside the latent point, condition and exposure, in a page."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from aevb.data.tables import NUMBER
from aevb.explorer.columns import LEVELS, columns_of, parts_of, text, with_cells
from aevb.learned import Learned
from aevb.models.exposed import Context
from aevb.schema import Schema


def examples(learned: Learned) -> tuple[Any, Any]:
    """Return shapes and types of what is told of a case: its condition, and its exposure."""
    condition = None if learned.condition is None else learned.condition.schema.block.example()
    exposure = None if learned.exposure is None else jax.ShapeDtypeStruct((), np.dtype("float32"))
    return condition, exposure


def context_of(learned: Learned, condition: Any, exposure: Any) -> Any:
    """Return what the networks read of it."""
    covariates = None if learned.condition is None else learned.condition.inputs(condition).ravel()
    if learned.exposure is None:
        return covariates
    return Context(covariates, exposure / learned.exposure.typical)


def given_columns(
    learned: Learned, conditions: np.ndarray, exposures: np.ndarray
) -> dict[str, Any] | None:
    """Describe what the model is told of a case beside the latent point, and where that begins."""
    columns: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    if learned.condition is not None:
        schema = learned.condition.schema
        columns, parts = columns_of(schema), parts_of(schema)
        if schema.names is None:
            columns = [{**each, "name": f"condition {each['name']}"} for each in columns]
        start = conditions[0] if len(conditions) else _typical(schema)
        for column, value in zip(columns, start, strict=True):
            origin = 0 if "levels" in column else column.get("origin", 0)
            column["start"] = float(value) + origin
        if len(conditions):
            columns = with_cells(columns, conditions)
    if learned.exposure is not None:
        typical = learned.exposure.typical
        column = {"name": "exposure", "kind": NUMBER, "part": len(parts), "place": 0}
        column["start"] = float(exposures[0]) if len(exposures) else typical
        columns.append(column | ({"values": text(exposures)} if len(exposures) else {}))
        parts.append({"size": 1, "filler": typical})
    return {"columns": columns, "parts": parts} if columns else None


def _typical(schema: Schema) -> np.ndarray:
    """Return a row to begin with: means of numbers, the most frequent levels."""
    row = np.zeros(math.prod(schema.shape))
    for part in schema.parts.values():
        if part.kind.name in LEVELS:
            value = part.measured.levels.argmax(axis=1)
        else:
            value = part.measured.shift if part.kind.name == "real" else part.kind.filler
        row[slice(None) if part.columns is None else list(part.columns)] = value
    return row
