"""What latent points decode to: a manifold, lines between cases, lines along each dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import ticker
from numpy.typing import ArrayLike
from scipy.special import ndtri

from aevb.errors import integer
from aevb.plotting.cases import check_image_shape
from aevb.plotting.mosaic import centres, lines, mosaic, scaled, show, size_for, value_range
from aevb.plotting.style import DARK, listed, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def manifold(
    decode: Callable[[np.ndarray], ArrayLike],
    image_shape: Sequence[int],
    n: int = 20,
    ax: Axes | None = None,
    *,
    cmap: str = "gray",
    limits: Sequence[float] | None = None,
    quantile: Callable[[np.ndarray], ArrayLike] = ndtri,
) -> Axes:
    """Draw what a two-dimensional latent space decodes to, as in figure 4 of the paper.

    The latent points are a linear grid on the unit square, carried over by the inverse CDF of the
    prior, so that each image stands for the same share of p(z).

    Parameters
    ----------
    decode : callable
        Maps latent points (m, 2) to images (m, ...), such as ``vae.inverse_transform``.
    image_shape : sequence of int
        (h, w) or (h, w, c).
    n : int, default=20
        Images along each axis, two at least.
    ax : Axes, optional
        Where to draw; None: a new figure.
    cmap : str, default="gray"
        Colour map of gray images; ``"gray_r"`` is ink on paper.
    limits : (low, high), optional
        Values drawn at the two ends of the colour map; None: the range of all images.
    quantile : callable, optional
        Inverse CDF of a prior with independent dimensions: maps probabilities (m,) to latent values
        (m,), or (m, 2) with a column for each dimension. By default that of N(0, I).

    Returns
    -------
    Axes
        The axes; they show probabilities, with ticks at round values of z.

    Raises
    ------
    ValueError
        When `decode` gives other than n² images of that shape.

    References
    ----------
    Kingma and Welling (2013), figure 4, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import manifold
    >>> ax = manifold(lambda Z: Z[:, :1] - Z[:, 1:], (1, 1), n=5, ax=Figure().subplots())
    >>> ax.get_xlabel()
    'latent dimension 0'
    """
    n, shape = integer(n, "n", minimum=2), check_image_shape(image_shape)
    z = _two_columns(quantile((np.arange(n) + 0.5) / n))
    first, second = np.meshgrid(z[:, 0], z[::-1, 1])  # images go down the page, the second goes up
    Z = np.column_stack([first.ravel(), second.ravel()]).astype(np.float32)
    images = np.asarray(decode(Z), np.float64)
    if images.shape[:1] != (n * n,) or images.size != n * n * math.prod(shape):
        raise ValueError(
            f"Expected {n * n} images of shape {shape} from `decode`, one for each latent point; "
            f"got an array of shape {images.shape}."
        )
    images = images.reshape(n * n, *shape)
    images = scaled(images, value_range(limits, images))
    whole = mosaic(images, n, gap=1)
    ax = new_axes(ax, size_for(whole, 5.8, (0.6, 0.8)))
    show(ax, whole, cmap, extent=(0, 1, 0, 1))
    ax.set_aspect(images.shape[1] / images.shape[2])
    levels = np.linspace(0.001, 0.999, 999)
    curves = _two_columns(quantile(levels))
    for axis, curve in ((ax.xaxis, curves[:, 0]), (ax.yaxis, curves[:, 1])):
        ticks = _round_values(curve[9], curve[-10])  # from the quantile at 1 % to that at 99 %
        at = np.interp(ticks, curve, levels)
        apart = np.diff(at, prepend=-1) > 0.03  # labels that would touch are left out
        axis.set_ticks(at[apart], [_plain_number(tick) for tick in ticks[apart]])
    ax.set_xlabel("latent dimension 0")
    ax.set_ylabel("latent dimension 1")
    ax.set_title("Learned manifold: E[x|z] over the quantiles of p(z)")
    _frameless(ax, length=3)
    return ax


def interpolation(
    images: ArrayLike,
    ax: Axes | None = None,
    *,
    ends: ArrayLike | None = None,
    cmap: str = "gray",
    limits: Sequence[float] | None = None,
) -> Axes:
    """Draw images on the way from one case to another, a line for each pair of cases.

    Parameters
    ----------
    images : array-like of shape (n_pairs, n_steps, h, w[, c])
        What the points of a straight line through the latent space decode to, from the start (left)
        to the end (right), evenly spaced. See `PlotAccessor.interpolation`.
    ax : Axes, optional
        Where to draw; None: a new figure.
    ends : array-like of shape (n_pairs, 2, h, w[, c]), optional
        The two cases themselves, drawn at both sides.
    cmap : str, default="gray"
        Colour map of gray images; ``"gray_r"`` is ink on paper.
    limits : (low, high), optional
        Values drawn at the two ends of the colour map; None: the range of `images` and `ends`.

    Returns
    -------
    Axes
        The axes, with ticks where the line begins (t = 0) and ends (t = 1), and at the cases.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import interpolation
    >>> t = np.linspace(0, 1, 5).reshape(1, 5, 1, 1)
    >>> start, end = np.eye(2), np.ones((2, 2))
    >>> ax = interpolation((1 - t) * start + t * end, ax=Figure().subplots())
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['t = 0', 't = 1']
    """
    images = _lines_of_images(images)
    n_pairs, n_steps, height, width = images.shape[:4]
    drawn = [images]
    ticks, labels = centres(n_steps, width, gap=1)[[0, -1]], ["t = 0", "t = 1"]
    if ends is not None:
        ends = np.asarray(ends, np.float64)
        if ends.shape != (n_pairs, 2, *images.shape[2:]):
            raise ValueError(
                f"Expected two images for each line, of shape {(n_pairs, 2, *images.shape[2:])}, "
                f"for `ends`; got {ends.shape}."
            )
        drawn.append(ends)
    apart = max(height // 6, 2)
    span = value_range(limits, *drawn)
    whole = _scaled_lines(images, span, apart)
    if ends is not None:
        aside = max(width // 3, 2)
        start, end = (_scaled_lines(ends[:, [side]], span, apart) for side in (0, 1))
        gap = np.full((len(whole), aside, *whole.shape[2:]), 0.0 if whole.ndim == 3 else np.nan)
        whole = np.concatenate([start, gap, whole, gap, end], axis=1)
        outer = (width - 1) / 2
        ticks = np.array([outer, *(ticks + width + aside), whole.shape[1] - 1 - outer])
        labels = ["start", *labels, "end"]
    n_images = n_steps + (0 if ends is None else 2)
    ax = new_axes(ax, size_for(whole, min(0.8 * n_images, 10), (0.1, 0.6)))
    show(ax, whole, cmap)
    ax.set_xticks(ticks, labels)
    ax.set_yticks([])
    ax.set_title("E[x|z] on the straight line between two cases")
    _frameless(ax)
    return ax


def traversal(
    images: ArrayLike,
    dimensions: Sequence[int] | None = None,
    ax: Axes | None = None,
    *,
    levels: ArrayLike | None = None,
    kl: ArrayLike | None = None,
    cmap: str = "gray",
    limits: Sequence[float] | None = None,
) -> Axes:
    """Draw what changes along each latent dimension while the others stay put, line by line.

    Parameters
    ----------
    images : array-like of shape (n_dimensions, n_steps, h, w[, c])
        What the latent points decode to. See `PlotAccessor.traversal`.
    dimensions : sequence of int, optional
        The dimension of each line; None: 0, 1, 2, ...
    ax : Axes, optional
        Where to draw; None: a new figure.
    levels : array-like of shape (n_steps,), optional
        The quantile of the prior that each step is at, between 0 and 1.
    kl : array-like of shape (n_dimensions,), optional
        KL of each line's dimension in nats, written beside it.
    cmap : str, default="gray"
        Colour map of gray images; ``"gray_r"`` is ink on paper.
    limits : (low, high), optional
        Values drawn at the two ends of the colour map; None: the range of all images.

    Returns
    -------
    Axes
        The axes.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import traversal
    >>> ax = traversal(np.zeros((2, 3, 4, 4)), dimensions=[7, 1], ax=Figure().subplots())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['7', '1']
    """
    images = _lines_of_images(images)
    n_lines, n_steps, height, width = images.shape[:4]
    apart = max(height // 6, 2)
    each = ", one for each line of images"
    shown = range(n_lines) if dimensions is None else dimensions
    names = [str(j) for j in listed(shown, "dimensions", n_lines, each)]
    if kl is not None:
        nats = listed(kl, "kl", n_lines, each)
        names = [f"{j}\n{value:.2f} nats" for j, value in zip(names, nats, strict=True)]
    steps = None if levels is None else listed(levels, "levels", n_steps, ", one for each step")
    whole = _scaled_lines(images, value_range(limits, images), apart)
    ax = new_axes(ax, size_for(whole, min(0.7 * n_steps, 10), (0.9, 0.85)))
    show(ax, whole, cmap)
    ax.set_yticks(centres(n_lines, height, apart), names)
    ax.set_ylabel("dimension")
    if steps is None:
        ax.set_xticks([])
    else:
        percent = [f"{level:.0%}".replace("%", " %") for level in steps]
        ax.set_xticks(centres(n_steps, width, gap=1), percent, fontsize=8)
        ax.set_xlabel("quantile of the prior along that dimension")
    ax.set_title("E[x|z] while one latent dimension moves")
    _frameless(ax)
    return ax


def _lines_of_images(images: ArrayLike) -> np.ndarray:
    images = np.asarray(images, np.float64)
    if images.ndim not in (4, 5) or 0 in images.shape:
        raise ValueError(
            "Expected lines of images, of shape (n_lines, n_steps, h, w[, c]), for `images`; got "
            f"{images.shape}. A single line is images[None]."
        )
    return images


def _scaled_lines(images: np.ndarray, limits: tuple[float, float], apart: int) -> np.ndarray:
    each = scaled(images.reshape(-1, *images.shape[2:]), limits)
    return lines(each.reshape(*images.shape[:2], *each.shape[1:]), apart)


def _two_columns(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return np.column_stack([values, values]) if values.ndim == 1 else values


def _round_values(low: float, high: float) -> np.ndarray:
    values = np.asarray(ticker.MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high))
    return values[(low <= values) & (values <= high)]


def _plain_number(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _frameless(ax: Axes, length: float = 0) -> None:
    ax.tick_params(length=length, color=DARK)
    ax.spines[:].set_visible(False)
