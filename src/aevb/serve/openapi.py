"""What the OpenAPI page says of bodies and status codes."""

from __future__ import annotations

from typing import Any

from aevb.serve.bodies import ARROW, JSON, NPY
from aevb.serve.protocol import Inference

DESCRIPTION = (
    "Fitted variational auto-encoders. Rows are JSON (lists in the order of the columns, or "
    "objects by their names), .npy files or Arrow streams; `Accept` chooses the answer's form. "
    "In JSON a missing value is null, as is a number that is not finite; NaN is refused. Dates are "
    "ISO 8601, durations seconds. A row gets the same numbers whichever others come with it."
)
OF_BODIES = (400, 401, 404, 406, 408, 413, 415, 422, 503, 504)

_MEANINGS = {
    400: "The body is not of its type.",
    401: "The key is missing or wrong.",
    404: "There is no such model.",
    406: "No form of the answer that `Accept` allows.",
    408: "The body did not arrive in time.",
    413: "The body is too large, or has too many rows.",
    415: "The body is of a type that is not read here.",
    422: "The model cannot take these data; the text says why.",
    503: "Too many requests, or the models are not ready; `Retry-After` says when to come again.",
    504: "Not computed in time.",
}

_CELL: dict[str, Any] = {
    "anyOf": [{"type": each} for each in ("number", "string", "boolean", "null")]
}
_ROWS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "array", "items": {"anyOf": [*_CELL["anyOf"], {"type": "array"}]}},
            {"type": "object", "additionalProperties": _CELL},
        ]
    },
}
_TOLD: dict[str, Any] = {
    "condition": {"description": "Labels or covariates, of a model that was fitted with some."},
    "exposure": {"description": "Exposures, of a model of counts that was fitted with some."},
}
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_POINTS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "items": {"type": "number"}},
}


def rows(method: str) -> dict[str, Any]:
    """Return the body of a method."""
    plain = _POINTS if method == "decode" else _ROWS
    beside = {
        "type": "object",
        "required": ["rows"],
        "properties": {"rows": plain, **_TOLD},
        "additionalProperties": False,
    }
    content = {JSON: {"schema": {"anyOf": [plain, beside]}}, NPY: _BINARY, ARROW: _BINARY}
    return {"required": True, "content": content}


def told() -> dict[str, Any]:
    """Return the body of a request for new cases, which may be empty."""
    schema = {"type": "object", "properties": _TOLD, "additionalProperties": False}
    return {"required": False, "content": {JSON: {"schema": schema}}}


def inference() -> dict[str, Any]:
    """Return the body of a request of the Open Inference Protocol."""
    schema = Inference.model_json_schema()
    definitions = schema.pop("$defs")
    return {"required": True, "content": {JSON: {"schema": _resolved(schema, definitions)}}}


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """Put definitions in the places that refer to them."""
    if isinstance(schema, list):
        return [_resolved(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _resolved(value, definitions) for key, value in schema.items()}


def responses(*codes: int, error: str = "detail", results: bool = False) -> dict[Any, Any]:
    """Return what is said of responses, by status code."""
    said = {"type": "object", "required": [error], "properties": {error: {"type": "string"}}}
    found: dict[Any, Any] = {
        code: {"description": _MEANINGS[code], "content": {JSON: {"schema": said}}}
        for code in codes
    }
    if results:
        content = {JSON: {"schema": {"type": "array"}}, NPY: _BINARY, ARROW: _BINARY}
        found[200] = {"description": "A row for each row.", "content": content}
    return found
