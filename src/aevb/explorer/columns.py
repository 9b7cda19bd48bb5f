"""Columns of a table or of labels, as a page has them: what each is, and the values of cases."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from aevb.data.tables import BOOLEAN, CATEGORY, INTEGER, NUMBER, column_of
from aevb.models.kinds.rows import dense
from aevb.schema import Schema

LEVELS = ("categories", "ordered")  # kinds of data that have probabilities
_CELLS = 500_000  # of the cases in a page
_MOST_CLASSES = 40  # at most this many distinct whole numbers are classes


def parts_of(schema: Schema) -> list[dict[str, Any]]:
    """Describe the inputs that a case has: how many values, and what stands where there is none."""
    parts = schema.parts.values()
    return [{"size": math.prod(part.shape), "filler": part.kind.filler} for part in parts]


def columns_of(schema: Schema) -> list[dict[str, Any]]:
    """Describe each column: its name, what it is, and where the model has it."""
    size = math.prod(schema.shape)
    names = schema.names or [str(j) for j in range(size)]
    columns: list[dict[str, Any]] = [{"name": name, "kind": NUMBER} for name in names]
    n_levelled = 0
    for number, part in enumerate(schema.parts.values()):
        levelled = part.kind.name in LEVELS
        for place, j in enumerate(range(size) if part.columns is None else part.columns):
            columns[j] |= {"part": number, "place": place}
            if levelled:
                n_levels = part.kind.settings["n_levels"]
                columns[j] |= {
                    "kind": CATEGORY,
                    "levels": [str(level) for level in range(n_levels[place])],
                    "laws": len(schema.parts) + n_levelled,
                    "width": max(n_levels),
                }
        n_levelled += levelled
    choices = schema.columns.choices if schema.columns else ()
    for column, choice in zip(columns, choices, strict=bool(choices)):
        column |= {"origin": choice.origin, "whole": choice.whole}
        if choice.likelihood is None:
            column["value"] = choice.value if math.isfinite(choice.value) else None
        levels = choice.levels or choice.type.categories
        if levels is not None:
            column["levels"] = [_spelled(level) for level in levels]
        if column["kind"] == NUMBER:
            column["kind"] = choice.type.kind
    return columns


def _spelled(level: Any) -> str:
    return f"{level:.15g}" if isinstance(level, float) else str(level)


def with_cells(
    columns: list[dict[str, Any]], rows: np.ndarray, most: int = _CELLS
) -> list[dict[str, Any]]:
    """Return columns with the values of the cases, as far as there is room for them."""
    some = columns[: most // max(rows.shape[0], 1)]
    cells = dense(rows.reshape(rows.shape[0], len(columns))[:, : len(some)])
    for column, values in zip(some, cells.T, strict=True):
        if "part" in column:  # others have one value only
            column["values"] = text(values)
    return columns


def label_of(labels: Any, n: int) -> dict[str, Any]:
    """Return labels as a column like those of a table."""
    if np.shape(labels) != (n,):
        raise ValueError(
            f"Expected a label for each of the {n} cases, of shape ({n},), for `labels`; got "
            f"shape {np.shape(labels)}."
        )
    own, values = column_of(str(getattr(labels, "name", None) or "label"), labels)
    kind, levels = own.kind, own.categories
    if kind in (BOOLEAN, INTEGER):
        distinct = np.unique(values[~np.isnan(values)])
        if len(distinct) <= _MOST_CLASSES:
            levels = tuple(bool(v) if kind == BOOLEAN else int(v) for v in distinct)
            values = np.where(np.isnan(values), np.nan, np.searchsorted(distinct, values))
            kind = CATEGORY
    column: dict[str, Any] = {"name": own.name, "kind": kind, "values": values}
    return column if levels is None else column | {"levels": [_spelled(level) for level in levels]}


def text(values: Any) -> str:
    """Return numbers as base64 of float32."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")
