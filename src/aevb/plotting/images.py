"""Pictures of images: reconstructions, samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from aevb.plotting.mosaic import as_images, mosaic, scaled, show, size_for, value_range
from aevb.plotting.style import counted, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def reconstructions(
    originals: ArrayLike,
    reconstructed: ArrayLike,
    ax: Axes | None = None,
    *,
    cmap: str = "gray",
    limits: Sequence[float] | None = None,
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
    limits : (low, high), optional
        Values drawn at the two ends of the colour map; None: the range of the originals.

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
    originals, reconstructed = as_images(originals), as_images(reconstructed)
    if originals.shape != reconstructed.shape:
        raise ValueError(
            f"Expected images of shape {originals.shape}, as for `originals`, for `reconstructed`; "
            f"got {reconstructed.shape}."
        )
    span = value_range(limits, originals)
    n_columns = min(len(originals), 10)
    bands = []
    for start in range(0, len(originals), n_columns):
        pair = [
            mosaic(scaled(images[start : start + n_columns], span), n_columns, gap=1)
            for images in (originals, reconstructed)
        ]
        bands.append(mosaic(np.stack(pair), 1, gap=1))
    whole = mosaic(np.stack(bands), 1, gap=max(originals.shape[1] // 3, 2))
    ax = new_axes(ax, size_for(whole, 0.8 * n_columns, (0.1, 0.4)))
    show(ax, whole, cmap)
    ax.set_title("Originals (above) and their reconstructions (below)")
    ax.set_axis_off()
    return ax


def samples(
    images: ArrayLike,
    ax: Axes | None = None,
    *,
    cmap: str = "gray",
    limits: Sequence[float] | None = None,
) -> Axes:
    """Draw images side by side in a square, as in figure 5 of the paper.

    Parameters
    ----------
    images : array-like of shape (n, h, w[, c])
        Images, such as ``vae.sample(64)``, or ``vae.sample(64, mean=True)`` without the noise.
    ax : Axes, optional
        Where to draw; None: a new figure.
    cmap : str, default="gray"
        Colour map of gray images; ``"gray_r"`` is ink on paper.
    limits : (low, high), optional
        Values drawn at the two ends of the colour map; None: the range of the images.

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
    '4 images'
    """
    images = as_images(images)
    images = scaled(images, value_range(limits, images))
    n_columns = math.ceil(math.sqrt(len(images)))
    whole = mosaic(images, n_columns, gap=1)
    ax = new_axes(ax, size_for(whole, min(1.5 * n_columns, 5), (0.1, 0.4)))
    show(ax, whole, cmap)
    ax.set_title(counted(len(images), "image"))
    ax.set_axis_off()
    return ax
