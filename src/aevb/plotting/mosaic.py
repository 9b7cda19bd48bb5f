"""Many images as one picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scaled(images: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Scale images to [0, 1]; gray ones come back as (n, h, w), others as (n, h, w, 4)."""
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise ValueError(
            "Expected images of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3); "
            f"got {images.shape}. Reshape rows to their image's shape first."
        )
    low, high = limits or (images.min(), images.max())
    between = np.clip((images.astype(np.float64) - low) / ((high - low) or 1), 0, 1)
    if images.shape[3:] == (3,):
        return np.concatenate([between, np.ones_like(between[..., :1])], axis=-1)
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
