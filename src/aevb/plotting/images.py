"""Pictures of images: a manifold, reconstructions, samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from aevb.plotting.style import DARK, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def manifold(
    decode: Callable[[np.ndarray], ArrayLike],
    image_shape: Sequence[int],
    n: int = 20,
    ax: Axes | None = None,
    *,
    cmap: str = "gray",
) -> Axes:
    """Draw what a two-dimensional latent space decodes to, as in figure 4 of the paper.

    The latent points are a linear grid on the unit square, carried over by the inverse CDF of the
    standard normal, so that each image stands for the same share of p(z).

    Parameters
    ----------
    decode : callable
        Maps latent points (m, 2) to images (m, ...), such as ``vae.inverse_transform``.
    image_shape : sequence of int
        (h, w) or (h, w, c).
    n : int, default=20
        Images along each axis.
    ax : Axes, optional
        Where to draw; None: a new figure.
    cmap : str, default="gray"
        Colour map of gray images; ``"gray_r"`` is ink on paper.

    Returns
    -------
    Axes
        The axes; they show probabilities, with ticks at round values of z.

    References
    ----------
    Kingma and Welling (2013), figure 4, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import manifold
    >>> ax = manifold(lambda Z: Z[:, :1] - Z[:, 1:], (1, 1), n=5, ax=Figure().subplots())
    >>> ax.get_xlabel()
    'latent dimension 1'
    """
    ax = new_axes(ax, (6.4, 6.4))
    z = ndtri((np.arange(n) + 0.5) / n)
    first, second = np.meshgrid(z, z[::-1])  # images go down the page, z₂ goes up
    Z = np.column_stack([first.ravel(), second.ravel()]).astype(np.float32)
    images = _images(np.asarray(decode(Z)).reshape(n * n, *image_shape))
    _show(ax, _mosaic(images, n, gap=1), cmap, extent=(0, 1, 0, 1))
    ax.set_aspect(images.shape[1] / images.shape[2])
    ticks = np.arange(-2, 3)
    labels = [f"{tick:d}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
    ax.set_xticks(ndtr(ticks), labels)
    ax.set_yticks(ndtr(ticks), labels)
    ax.set_xlabel("latent dimension 1")
    ax.set_ylabel("latent dimension 2")
    ax.set_title("Learned manifold: E[x|z] over the quantiles of p(z)")
    ax.tick_params(length=3, color=DARK)
    ax.spines[:].set_visible(False)
    return ax


def reconstructions(
    originals: ArrayLike,
    reconstructed: ArrayLike,
    ax: Axes | None = None,
    *,
    cmap: str = "gray",
) -> Axes:
    """Draw images with their reconstructions beneath, ten pairs to a line.

    Parameters
    ----------
    originals, reconstructed : array-like of shape (n, h, w[, c])
        Images, and in the same order what the model makes of them.
    ax : Axes, optional
        Where to draw; None: a new figure.
    cmap : str, default="gray"
        Colour map of gray images; ``"gray_r"`` is ink on paper.

    Returns
    -------
    Axes
        The axes.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import reconstructions
    >>> images = np.eye(4).reshape(2, 2, 4)
    >>> ax = reconstructions(images, images / 2, ax=Figure().subplots())
    >>> ax.get_title()
    'Originals (above) and their reconstructions (below)'
    """
    originals, reconstructed = np.asarray(originals), np.asarray(reconstructed)
    if originals.shape != reconstructed.shape:
        raise ValueError(
            f"Expected images of shape {originals.shape}, as of `originals`, for `reconstructed`; "
            f"got {reconstructed.shape}."
        )
    limits = originals.min(), originals.max()
    n_columns = min(len(originals), 10)
    bands = []
    for start in range(0, len(originals), n_columns):
        pair = [
            _mosaic(_images(images[start : start + n_columns], limits), n_columns, gap=1)
            for images in (originals, reconstructed)
        ]
        bands.append(_mosaic(np.stack(pair), 1, gap=1))
    height, width = originals.shape[1:3]
    apart = max(height // 3, 2)
    ax = new_axes(ax, (8, 0.6 + 1.6 * len(bands) * height / width))
    _show(ax, _mosaic(np.stack(bands), 1, gap=apart), cmap)
    ax.set_title("Originals (above) and their reconstructions (below)")
    ax.set_axis_off()
    return ax


def samples(images: ArrayLike, ax: Axes | None = None, *, cmap: str = "gray") -> Axes:
    """Draw images side by side in a square, as in figure 5 of the paper.

    Parameters
    ----------
    images : array-like of shape (n, h, w[, c])
        Images, such as ``vae.sample(64, mean=True)``.
    ax : Axes, optional
        Where to draw; None: a new figure.
    cmap : str, default="gray"
        Colour map of gray images; ``"gray_r"`` is ink on paper.

    Returns
    -------
    Axes
        The axes.

    References
    ----------
    Kingma and Welling (2013), figure 5, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import samples
    >>> ax = samples(np.eye(4).reshape(4, 2, 2), ax=Figure().subplots())
    >>> ax.get_title()
    '4 samples from the model'
    """
    images = _images(np.asarray(images))
    ax = new_axes(ax, (5, 5.3))
    _show(ax, _mosaic(images, math.ceil(math.sqrt(len(images))), gap=1), cmap)
    ax.set_title(f"{len(images)} samples from the model")
    ax.set_axis_off()
    return ax


def _images(images: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Scale images to [0, 1]; gray ones come back as (n, h, w), others as (n, h, w, 4)."""
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
        raise ValueError(
            "Expected images of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3); "
            f"got {images.shape}. Reshape rows to their image's shape first."
        )
    low, high = limits or (images.min(), images.max())
    scaled = np.clip((images.astype(np.float64) - low) / ((high - low) or 1), 0, 1)
    if images.shape[3:] == (3,):
        return np.concatenate([scaled, np.ones_like(scaled[..., :1])], axis=-1)
    return scaled.reshape(images.shape[:3])


def _mosaic(images: np.ndarray, n_columns: int, gap: int) -> np.ndarray:
    """Put images (n, h, w[, 4]) into one, line by line, `gap` transparent pixels apart."""
    n, height, width = images.shape[:3]
    n_rows = math.ceil(n / n_columns)
    shape = (n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, *images.shape[3:])
    mosaic = np.full(shape, 0.0 if images.ndim == 4 else np.nan)
    for index, image in enumerate(images):
        row, column = divmod(index, n_columns)
        top, left = row * (height + gap), column * (width + gap)
        mosaic[top : top + height, left : left + width] = image
    return mosaic


def _show(ax: Axes, mosaic: np.ndarray, cmap: str, **options: Any) -> None:
    ax.imshow(mosaic, cmap=cmap, vmin=0, vmax=1, interpolation="nearest", **options)
