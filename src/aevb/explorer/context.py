"""What a model is told of a case besides the latent point, condition and exposure, in a page."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from aevb.data.tables import NUMBER
from aevb.explorer.columns import columns_of, parts_of, text, with_cells
from aevb.learned import Learned
from aevb.models.exposed import Context


def examples(learned: Learned) -> tuple[Any, Any]:
    """Return shapes and types of what is told of a case: its condition, and its exposure."""
    condition = None if learned.condition is None else learned.condition.schema.block.example()
    exposure = None if learned.exposure is None else jax.ShapeDtypeStruct((), np.dtype("float32"))
    return condition, exposure


def context_of(learned: Learned, condition: Any, exposure: Any) -> Any:
    """Return the context of a case, as the networks read it."""
    covariates = None if learned.condition is None else learned.condition.inputs(condition).ravel()
    if learned.exposure is None:
        return covariates
    return Context(covariates, exposure / learned.exposure.typical)


def given_columns(
    learned: Learned, conditions: np.ndarray, exposures: np.ndarray
) -> dict[str, Any] | None:
    """Describe what the model is told of a case besides the latent point, and starting values."""
    columns: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    if learned.condition is not None:
        schema = learned.condition.schema
        columns, parts = columns_of(schema), parts_of(schema)
        if schema.names is None:
            columns = [{**each, "name": f"condition {each['name']}"} for each in columns]
        start = conditions[0] if len(conditions) else schema.typical()
        for column, value in zip(columns, start, strict=True):
            origin = 0 if "levels" in column else column.get("origin", 0)
            column["start"] = float(value) + origin
        if len(conditions):
            columns = with_cells(columns, conditions, most=conditions.size)
    if learned.exposure is not None:
        typical = learned.exposure.typical
        column = {"name": "exposure", "kind": NUMBER, "part": len(parts), "place": 0}
        column["positive"] = True
        column["start"] = float(exposures[0]) if len(exposures) else typical
        columns.append(column | ({"values": text(exposures)} if len(exposures) else {}))
        parts.append({"size": 1, "filler": typical})
    content: dict[str, Any] = {"columns": columns, "parts": parts}
    if learned.exposure is not None and learned.exposure.by_total:
        names = [*learned.schema.parts]
        content["totalled"] = [names.index(name) for name in learned.schema.counts]
    return content if columns else None
