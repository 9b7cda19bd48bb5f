"""Cases as users give them: one alone or several, images or flat rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from aevb.errors import integer
from aevb.plotting.style import listed


def image_shape(fitted: tuple[int, ...], given: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of a case as an image, for data of shape `fitted`; ValueError if none."""
    size = math.prod(fitted)
    if given is None:
        if len(fitted) > 1:
            return fitted
        raise ValueError(
            "Expected images for this picture, cases of shape (n, h, w) or (n, h, w, c); got "
            f"rows of {size} values. If each row is an image, say its shape as "
            f"image_shape=(h, w) or (h, w, c){_example(size)}. For tables see "
            "plot.column_effects(X) and plot.latent_scatter(X)."
        )
    shape = check_image_shape(given)
    if math.prod(shape) != size:
        raise ValueError(
            f"Expected (h, w) or (h, w, c) of the {size} values of a case for `image_shape`; "
            f"got {shape}, {math.prod(shape)} values."
        )
    return shape


def check_image_shape(given: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an image, or say what `image_shape` may be."""
    shape = tuple(integer(side, "image_shape", minimum=1) for side in listed(given, "image_shape"))
    if len(shape) not in (2, 3):
        raise ValueError(f"Expected (h, w) or (h, w, c) for `image_shape`; got {shape}.")
    return shape


def as_cases(
    X: ArrayLike, fitted: tuple[int, ...], image: tuple[int, ...] | None = None
) -> ArrayLike:
    """Return cases with an axis of rows, also where there is one alone.

    A case may have the shape `fitted`, be flat, or have that of the `image` that is drawn.
    """
    if hasattr(X, "to_frame"):  # a row of a DataFrame, with its names
        return X.to_frame().T
    shape = np.shape(X)
    if shape in (fitted, (math.prod(fitted),), image):
        return np.reshape(X, (1, *fitted))
    return np.reshape(X, (-1, *fitted)) if shape[1:] == image else X


def _example(size: int) -> str:
    """Return a square image of that many values, gray or coloured, if there is one."""
    for channels in ((), (3,)):
        side = math.isqrt(size // math.prod(channels))
        shape = (side, side, *channels)
        if side > 1 and math.prod(shape) == size:
            return f", for instance image_shape={shape}"
    return ""
