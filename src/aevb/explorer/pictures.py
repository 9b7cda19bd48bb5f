"""Pictures of cases, as a page has them: all of them in one file."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from aevb.errors import integer
from aevb.schema import Schema

_PIXELS = 2**24  # before they are compressed
_BYTES = 1_500_000  # of all pictures together


def image_shape_of(schema: Schema, given: Sequence[int] | None) -> tuple[int, ...] | None:
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


def pictures(schema: Schema, shape: tuple[int, ...], rows: np.ndarray) -> dict[str, Any]:
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
    if len(sheet) > _BYTES:
        every *= -(-len(sheet) // _BYTES)
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
