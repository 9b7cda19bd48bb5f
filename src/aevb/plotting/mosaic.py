"""Many images as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from aevb.errors import number
from aevb.plotting.style import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def as_images(images: ArrayLike) -> np.ndarray:
    """Return images as an array of float64, or say what is wrong with them."""
    images = np.asarray(images, np.float64)
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise ValueError(
            "Expected images of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3); "
            f"got {images.shape}. Reshape rows to their image's shape first."
        )
    if not images.size:
        raise ValueError(f"Expected one image at least; got none, shape {images.shape}.")
    return images


def value_range(given: Sequence[float] | None, *drawn: np.ndarray) -> tuple[float, float]:
    """Return the values at both ends of the colour map: those given, or the range of the images."""
    if given is not None:
        low, high = (
            number(value, "limits", "finite numbers (low, high)", math.isfinite)
            for value in listed(given, "limits", 2)
        )
        if low >= high:
            raise ValueError(f"Expected (low, high), low below high, for `limits`; got {given}.")
        return low, high
    finite = np.concatenate([images[np.isfinite(images)] for images in drawn])
    if not finite.size:
        raise ValueError("Expected finite numbers in the images; got nothing but NaN and infinity.")
    return float(finite.min()), float(finite.max())


def scaled(images: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Scale images to [0, 1]; gray ones come back as (n, h, w), others as (n, h, w, 4).

    A pixel that is not a number has no colour, like the gaps between images.
    """
    images = as_images(images)
    low, high = limits
    between = np.clip((images - low) / ((high - low) or 1), 0, 1)
    if images.shape[3:] == (3,):
        known = ~np.isnan(between).any(axis=-1, keepdims=True)
        return np.concatenate([np.where(known, between, 0), known], axis=-1)
    return between.reshape(images.shape[:3])


def mosaic(images: np.ndarray, n_columns: int, gap: int) -> np.ndarray:
    """Put images (n, h, w[, 4]) into one, line by line, `gap` transparent pixels apart."""
    n, height, width = images.shape[:3]
    n_rows = math.ceil(n / n_columns)
    shape = (n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, *images.shape[3:])
    whole = np.full(shape, 0.0 if images.ndim == 4 else np.nan)
    for index, image in enumerate(images):
        row, column = divmod(index, n_columns)
        top, left = row * (height + gap), column * (width + gap)
        whole[top : top + height, left : left + width] = image
    return whole


def lines(images: np.ndarray, apart: int) -> np.ndarray:
    """Put lines of images (n, m, h, w[, 4]) into one, `apart` pixels between the lines."""
    return mosaic(np.stack([mosaic(line, len(line), gap=1) for line in images]), 1, gap=apart)


def centres(n: int, size: int, gap: int) -> np.ndarray:
    """Return where the middles of `n` images lie, each `size` pixels long, `gap` apart."""
    return np.arange(n) * (size + gap) + (size - 1) / 2


def size_for(whole: np.ndarray, width: float, margins: tuple[float, float]) -> tuple[float, float]:
    """Return the size of a figure, inches, for a picture of that width with margins for text.

    `margins` are those beside the picture, and above and below it. A title fits in any case.
    """
    height = width * whole.shape[0] / whole.shape[1]
    shrunk = min(1, 11 / height)
    return max(width * shrunk + margins[0], 4.8), height * shrunk + margins[1]


def show(ax: Axes, whole: np.ndarray, cmap: str, **options: Any) -> None:
    """Draw the picture, pixel by pixel."""
    ax.imshow(whole, cmap=cmap, vmin=0, vmax=1, interpolation="nearest", **options)
