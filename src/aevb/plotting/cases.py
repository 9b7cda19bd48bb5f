"""Cases as users give them: one alone or several, images or flat rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aevb.errors import integer


def image_shape(fitted: tuple[int, ...], given: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of a case as an image, for data of shape `fitted`; ValueError if none."""
    size = math.prod(fitted)
    if given is None:
        if len(fitted) > 1:
            return fitted
        side = math.isqrt(size)
        example = f"({side}, {side})" if side**2 == size else "(28, 28)"
        raise ValueError(
            "Expected images for this picture, cases of shape (n, h, w) or (n, h, w, c); got "
            f"rows of {size} values. If each row is an image, say its shape: "
            f"image_shape={example}. For tables see plot.column_effects(X) and "
            "plot.latent_scatter(X)."
        )
    shape = tuple(integer(side, "image_shape", minimum=1) for side in given)
    if len(shape) not in (2, 3) or math.prod(shape) != size:
        raise ValueError(
            f"Expected (h, w) or (h, w, c) of the {size} values of a case for `image_shape`; "
            f"got {shape}, {math.prod(shape)} values."
        )
    return shape


def as_cases(X: Any, fitted: tuple[int, ...]) -> Any:
    """Return cases with an axis of rows, also where there is one of shape `fitted` alone."""
    if hasattr(X, "to_frame"):  # a row of a DataFrame, with its names
        return X.to_frame().T
    alone = np.shape(X) in (fitted, (math.prod(fitted),))
    return np.asarray(X)[None] if alone else X
