"""What a page is told of a fitted model: programs, codes of some cases, what their columns are."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from sklearn.utils.validation import check_is_fitted

from aevb import predict
from aevb.data.tables import BOOLEAN, CATEGORY, INTEGER, NUMBER, column_of
from aevb.errors import integer
from aevb.evaluation.latent import location
from aevb.explorer.programs import NotInAPage, program
from aevb.learned import Learned
from aevb.models.base import given
from aevb.models.exposed import Context
from aevb.models.kinds.case import Case
from aevb.models.kinds.rows import dense, some_of
from aevb.probability.averages import evidence, expected
from aevb.schema import Schema

_CELLS = 500_000  # of tables that are in a page, so that cases can be looked at
_PIXELS = 2**24  # of pictures before they are compressed
_PICTURES = 1_500_000  # bytes of all pictures together
_MOST_CLASSES = 40  # whole numbers up to so many are classes
_LEVELS = ("categories", "ordered")  # kinds of data that have probabilities


def payload(
    vae: Any,
    X: Any = None,
    labels: Any = None,
    *,
    condition: Any = None,
    exposure: Any = None,
    image_shape: Sequence[int] | None = None,
    n_cases: int = 10_000,
) -> dict[str, Any]:
    """Return all that the explorer needs of a fitted model, as JSON can hold it.

    Parameters
    ----------
    vae : VAE
        The fitted estimator.
    X : array-like or table, optional
        Cases to show on the map. None: the map has none.
    labels : array-like of shape (n,), optional
        A label, a number or a date of each case, to colour it by.
    condition, exposure : optional
        Those of `X`, of a model that was fitted with some.
    image_shape : sequence of int, optional
        Height and width, and channels if there are any, where pictures were fitted as flat rows.
    n_cases : int, default=10_000
        Number of cases at most; of more, so many are shown, evenly spaced.

    Returns
    -------
    dict
        ``decode`` and ``encode`` (programs; ``encode`` is None where it cannot run in a page),
        ``latent``, ``parts``, ``given`` (what the model is told beside the latent point),
        ``picture`` or ``columns``, and ``cases``.

    Raises
    ------
    NotInAPage
        When the model needs something that a page does not have.
    ValueError, TypeError
        When cases, or what belongs to them, do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb import VAE, explorer
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> vae = VAE(2, hidden=(4,), epochs=1, random_state=0).fit(X)
    >>> explorer.payload(vae, X)["cases"]["n"]
    50
    """
    check_is_fitted(vae)
    learned, model = vae._learned, vae.model_
    schema = learned.schema
    shape = _image_shape(schema, image_shape)
    n_cases = integer(n_cases, "n_cases", minimum=1)
    rows, label = np.zeros((0, *schema.shape), np.float32), None
    codes = np.zeros((0, vae.config_.latent_dim), np.float32)
    conditions, exposures = np.zeros((0, 0)), np.zeros(0)
    if X is None:
        for name, told in {"labels": labels, "condition": condition, "exposure": exposure}.items():
            if told is not None:
                raise ValueError(f"Expected cases for `X` beside `{name}`; got None.")
    else:
        data, rows = vae._encoded(X, condition, exposure)
        label = None if labels is None else _label(labels, rows.shape[0])
        if label is not None:
            label["values"] = _text(some_of(label["values"], n_cases))
        if learned.condition is not None:
            conditions = some_of(learned.condition.rows(condition, rows.shape[0]), n_cases)
        data, rows = some_of(data, n_cases), some_of(rows, n_cases)
        if learned.exposure is not None:
            exposures = data.c.exposure * learned.exposure.typical
        if rows.shape[0]:
            codes = predict.latent_mean(model, data.x, context=data.c)
    latent = _latent(model.prior(), np.asarray(vae.explained_nats_), codes)
    content: dict[str, Any] = {
        "latent": latent,
        "decode": _decoder(model, learned),
        "encode": _encoder(model, learned),
        "parts": _parts(schema),
        "holes": schema.holes,
        "given": _given(learned, conditions, exposures),
        "cases": {"n": rows.shape[0], "codes": _text(codes), "label": label},
    }
    if shape:
        content["picture"] = _picture(schema, shape, dense(rows))
    else:
        content["columns"] = _with_cells(_columns(schema), rows)
    return content


def _decoder(model: Any, learned: Learned) -> dict[str, Any]:
    """Return the program of z, and of what is given beside it.

    Its outputs are what to expect of each part, then the probabilities of levels.
    """
    schema = learned.schema
    levelled = [name for name, part in schema.parts.items() if part.kind.name in _LEVELS]

    def decode(z: Array, *told: Any) -> list[Array]:
        law = given(model, _context(learned, *told)).likelihood(z)
        values, averages = _blocks(expected(law), schema), _blocks(evidence(law), schema)
        return [values[name] for name in schema.parts] + [averages[name] for name in levelled]

    point = jax.eval_shape(model.prior().sample, jax.random.key(0))
    return program(decode, point, *_examples(learned))


def _blocks(value: Any, schema: Schema) -> dict[str, Array]:
    if isinstance(value, Case):
        return value.blocks
    return value if isinstance(value, dict) else dict.fromkeys(schema.parts, value)


def _encoder(model: Any, learned: Learned) -> dict[str, Any] | None:
    """Return the program of a case's code; None where it cannot run in a page."""

    def encode(x: Any, *told: Any) -> Any:
        return location(given(model, _context(learned, *told)).posterior(x))

    try:
        return program(encode, learned.schema.block.example(), *_examples(learned), n_bytes=2)
    except NotInAPage:
        return None


def _examples(learned: Learned) -> tuple[Any, Any]:
    """Return shapes and types of what is told of a case: its condition, and its exposure."""
    condition = None if learned.condition is None else learned.condition.schema.block.example()
    exposure = None if learned.exposure is None else jax.ShapeDtypeStruct((), np.dtype("float32"))
    return condition, exposure


def _context(learned: Learned, condition: Any, exposure: Any) -> Any:
    """Return what the networks read of it."""
    covariates = None if learned.condition is None else learned.condition.inputs(condition).ravel()
    if learned.exposure is None:
        return covariates
    return Context(covariates, exposure / learned.exposure.typical)


def _parts(schema: Schema) -> list[dict[str, Any]]:
    """Describe the inputs that a case has: how many values, and what stands where there is none."""
    parts = schema.parts.values()
    return [{"size": math.prod(part.shape), "filler": part.kind.filler} for part in parts]


def _given(
    learned: Learned, conditions: np.ndarray, exposures: np.ndarray
) -> dict[str, Any] | None:
    """Describe what the model is told of a case beside the latent point, and where that begins."""
    columns: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    if learned.condition is not None:
        schema = learned.condition.schema
        columns, parts = _columns(schema), _parts(schema)
        if schema.names is None:
            columns = [{**each, "name": f"condition {each['name']}"} for each in columns]
        start = conditions[0] if len(conditions) else _typical(schema)
        for column, value in zip(columns, start, strict=True):
            origin = 0 if "levels" in column else column.get("origin", 0)
            column["start"] = float(value) + origin
        if len(conditions):
            columns = _with_cells(columns, conditions)
    if learned.exposure is not None:
        typical = learned.exposure.typical
        column = {"name": "exposure", "kind": NUMBER, "part": len(parts), "place": 0}
        column["start"] = float(exposures[0]) if len(exposures) else typical
        columns.append(column | ({"values": _text(exposures)} if len(exposures) else {}))
        parts.append({"size": 1, "filler": typical})
    return {"columns": columns, "parts": parts} if columns else None


def _typical(schema: Schema) -> np.ndarray:
    """Return a row to begin with: means of numbers, the most frequent levels."""
    row = np.zeros(math.prod(schema.shape))
    for part in schema.parts.values():
        if part.kind.name in _LEVELS:
            value = part.measured.levels.argmax(axis=1)
        else:
            value = part.measured.shift if part.kind.name == "real" else part.kind.filler
        row[slice(None) if part.columns is None else list(part.columns)] = value
    return row


def _latent(prior: Any, nats: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """Describe the latents: in which order to show them, where to begin, how far they go."""
    draws = np.asarray(prior.sample(jax.random.key(0), (2000,)))
    low, middle, high = np.quantile(draws, [0.002, 0.5, 0.998], axis=0)
    if len(codes):
        low, high = np.minimum(low, codes.min(axis=0)), np.maximum(high, codes.max(axis=0))
        middle = np.median(codes, axis=0)
    known = bool(np.isfinite(nats).all())
    order = np.argsort(-nats, kind="stable") if known else np.arange(len(nats))
    return {
        "order": order.tolist(),
        "nats": nats.tolist() if known else None,
        "start": middle.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _image_shape(schema: Schema, given: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the shape of a case as a picture; None: it is a row."""
    size = math.prod(schema.shape)
    if given is None:
        shape = (*schema.shape, 1)[:3] if len(schema.shape) > 1 else ()
        return shape if len(shape) == 3 and len(schema.shape) < 4 and shape[2] in (1, 3) else None
    shape = tuple(integer(side, "image_shape", minimum=1) for side in given)
    if len(shape) not in (2, 3) or math.prod(shape) != size or (*shape, 1)[2] not in (1, 3):
        raise ValueError(
            f"Expected (h, w) or (h, w, 3) of the {size} values of a case for `image_shape`; got "
            f"{shape}."
        )
    return (*shape, 1)[:3]


def _picture(schema: Schema, shape: tuple[int, ...], rows: np.ndarray) -> dict[str, Any]:
    """Describe pictures: their shape, the values of black and white, and those of the cases."""
    measured = schema.part.measured
    if schema.part.kind.likelihood.name == "bernoulli":
        low, high = 0.0, float(schema.white)
    elif schema.part.kind.dtype == "uint8":
        low, high = 0.0, 255.0
    elif len(rows):
        low, high = float(np.nanmin(rows)), float(np.nanmax(rows))
    else:
        low = float(np.min(measured.shift - 2 * measured.scale))
        high = float(np.max(measured.shift + 2 * measured.scale))
    pixels = (rows.reshape(-1, *shape).astype(np.float32) - low) / ((high - low) or 1) * 255
    pixels = np.rint(np.clip(np.nan_to_num(pixels), 0, 255)).astype(np.uint8)
    every = max(1, -(-pixels.size // _PIXELS))
    sheet = _sheet(pixels[::every])
    if len(sheet) > _PICTURES:
        every *= -(-len(sheet) // _PICTURES)
        sheet = _sheet(pixels[::every])
    return {
        "shape": list(shape),
        "low": low,
        "high": high,
        "every": every,
        "sheet": base64.b64encode(sheet).decode("ascii") if len(rows) else None,
    }


def _sheet(pixels: np.ndarray) -> bytes:
    """Return pictures (n, h, w, c) as one PNG file, as many in a line as there are lines."""
    n, height, width, channels = pixels.shape
    side = max(1, math.isqrt(max(n - 1, 0)) + 1)
    n_lines = max(1, -(-n // side))
    sheet = np.zeros((n_lines * side, height, width, channels), np.uint8)
    sheet[:n] = pixels
    sheet = sheet.reshape(n_lines, side, height, width, channels).swapaxes(1, 2)
    lines = sheet.reshape(n_lines * height, side * width * channels)
    data = np.pad(lines, ((0, 0), (1, 0))).tobytes()  # each line begins with its filter: none

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    colour = 0 if channels == 1 else 2
    header = struct.pack(">2I5B", side * width, n_lines * height, 8, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(data, 9)),
            chunk(b"IEND", b""),
        ]
    )


def _columns(schema: Schema) -> list[dict[str, Any]]:
    """Describe each column: its name, what it is, and where the model has it."""
    size = math.prod(schema.shape)
    names = schema.names or [str(j) for j in range(size)]
    columns: list[dict[str, Any]] = [{"name": name, "kind": NUMBER} for name in names]
    n_levelled = 0
    for number, part in enumerate(schema.parts.values()):
        levelled = part.kind.name in _LEVELS
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
    return f"{level:g}" if isinstance(level, float) else str(level)


def _with_cells(columns: list[dict[str, Any]], rows: np.ndarray) -> list[dict[str, Any]]:
    """Return columns with the values of the cases, as far as there is room for them."""
    most = _CELLS // max(rows.shape[0], 1)
    cells = dense(rows.reshape(rows.shape[0], len(columns))[:, :most])
    for column, values in zip(columns[:most], cells.T, strict=True):
        column["values"] = _text(values)
    return columns


def _label(labels: Any, n: int) -> dict[str, Any]:
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


def _text(values: Any) -> str:
    """Return numbers as base64 of float32."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode("ascii")
