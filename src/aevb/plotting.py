"""Arrays to pictures: each function draws into the given axes, or new ones, and returns them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

try:
    from matplotlib import colors, ticker
except ImportError as error:
    raise ImportError(
        'Pictures need matplotlib, which is not installed: pip install "aevb[plot]"'
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Tol's "muted" scheme and black: distinct also to people with a colour vision deficiency.
_COLOURS = (
    *("#332288", "#88ccee", "#cc6677", "#117733", "#ddcc77"),
    *("#882255", "#44aa99", "#222222", "#aa4499", "#999933"),
)
_MARKERS = "os^D"  # beyond ten classes the colours come again in another shape
_DARK, _LIGHT = "#222222", "#dddddd"


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
    ax = _axes(ax, (6.4, 6.4))
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
    ax.tick_params(length=3, color=_DARK)
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
    ax = _axes(ax, (8, 0.6 + 1.6 * len(bands) * height / width))
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
    ax = _axes(ax, (5, 5.3))
    _show(ax, _mosaic(images, math.ceil(math.sqrt(len(images))), gap=1), cmap)
    ax.set_title(f"{len(images)} samples from the model")
    ax.set_axis_off()
    return ax


def latent_scatter(Z: ArrayLike, labels: ArrayLike | None = None, ax: Axes | None = None) -> Axes:
    """Draw cases as points of a two-dimensional latent space, coloured by class or by a number.

    Parameters
    ----------
    Z : array-like of shape (n, 2)
        Latent points, such as ``vae.transform(X)``.
    labels : array-like of shape (n,), optional
        Classes, each named among its points; floating-point labels get a colour scale.
    ax : Axes, optional
        Where to draw; None: a new figure.

    Returns
    -------
    Axes
        The axes.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import latent_scatter
    >>> ax = latent_scatter([[0, 1], [2, 3]], ["cat", "dog"], ax=Figure().subplots())
    >>> [text.get_text() for text in ax.texts]
    ['cat', 'dog']
    """
    Z = np.asarray(Z)
    if Z.ndim != 2 or Z.shape[1] != 2:
        raise ValueError(
            f"Expected latent points of shape (n, 2) for `Z`; got {Z.shape}. "
            "Choose two dimensions, for instance Z[:, :2]."
        )
    ax = _axes(ax, (7, 6.4))
    style: dict[str, Any] = {"s": 18, "alpha": 0.8, "linewidths": 0}
    if labels is None:
        ax.scatter(Z[:, 0], Z[:, 1], color=_COLOURS[0], **style)
    elif (labels := np.asarray(labels)).dtype.kind == "f":
        scale = ax.scatter(Z[:, 0], Z[:, 1], c=labels, cmap="viridis", **style)
        ax.figure.colorbar(scale, ax=ax)
    else:
        for k, label in enumerate(np.unique(labels)):
            points, colour = Z[labels == label], _COLOURS[k % len(_COLOURS)]
            marker = _MARKERS[k // len(_COLOURS) % len(_MARKERS)]
            ax.scatter(
                points[:, 0], points[:, 1], color=colour, marker=marker, label=str(label), **style
            )
            x, y = _centre(points)
            ax.text(
                x,
                y,
                str(label),
                ha="center",
                va="center",
                color=_contrast(colour),
                fontweight="bold",
                bbox={"boxstyle": "round,pad=0.25", "facecolor": colour, "edgecolor": "white"},
            )
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=1.8)
    ax.set_xlabel("latent dimension 1")
    ax.set_ylabel("latent dimension 2")
    ax.set_title(f"{len(Z)} cases in the latent space")
    ax.set_aspect("equal", adjustable="datalim")
    _plain(ax)
    return ax


def learning_curve(history: Mapping[str, Sequence[float]], ax: Axes | None = None) -> Axes:
    """Draw the evidence lower bound against the epochs.

    Parameters
    ----------
    history : mapping of str to sequence
        ``vae.history_``: ``epoch``, ``elbo``, and ``validation_elbo`` if cases were held out.
    ax : Axes, optional
        Where to draw; None: a new figure.

    Returns
    -------
    Axes
        The axes; epochs on a logarithmic scale when there are ten or more.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import learning_curve
    >>> history = {"epoch": [1, 2, 3], "elbo": [-30.0, -25.0, -24.0]}
    >>> learning_curve(history, ax=Figure().subplots()).get_ylabel()
    'ELBO (nats per case)'
    """
    ax = _axes(ax, (6.4, 4.2))
    epochs = np.asarray(history["epoch"])
    curves = {"elbo": ("training", _COLOURS[0]), "validation_elbo": ("held out", _COLOURS[2])}
    for column, (name, colour) in curves.items():
        if column in history:
            ax.plot(epochs, history[column], color=colour, linewidth=2, label=name)
    if len(epochs) >= 10:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    ax.set_xlabel("epoch")
    ax.set_ylabel("ELBO (nats per case)")
    ax.set_title("Learning curve")
    ax.legend(frameon=False, loc="lower right")
    ax.grid(axis="y", color=_LIGHT, linewidth=0.8)
    _plain(ax)
    return ax


def gradient_variance(report: Any, ax: Axes | None = None) -> Axes:
    """Draw variance × cost of each estimator's gradient, by group of parameters: left is better.

    Parameters
    ----------
    report : GradientVariance
        What `aevb.gradient_variance` returns.
    ax : Axes, optional
        Where to draw; None: a new figure.

    Returns
    -------
    Axes
        The axes; bars are a standard error of the variance. What is zero or unknown has no point.

    Examples
    --------
    >>> import aevb, jax.numpy as jnp
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import gradient_variance
    >>> model = aevb.VAE(epochs=1, random_state=0).fit(jnp.eye(8)).model_
    >>> report = aevb.gradient_variance(model, jnp.eye(8), estimators=[("B", 1)], n_repeats=3)
    >>> len(gradient_variance(report, ax=Figure().subplots()).get_yticks())
    1
    """
    groups = list(dict.fromkeys(report.rows["group"]))
    table = {name: np.reshape(values, (-1, len(groups))) for name, values in report.rows.items()}
    first = {name: column[:, 0] for name, column in table.items()}  # the same in every group
    y = np.arange(len(first["estimator"]))
    ax = _axes(ax, (7.4, 1.2 + 0.36 * len(y)))
    relative = table["variance_x_cost"]
    relative = np.where((relative > 0) & (relative < np.inf), relative, np.nan)
    error = relative * table["variance_se"] / np.where(relative > 0, table["variance"], 1)
    ax.axvline(1, color=_DARK, linewidth=0.8)
    for k, group in enumerate(groups):
        colour, marker = _COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)]
        at = y + 0.6 * ((k + 0.5) / len(groups) - 0.5)
        ax.errorbar(relative[:, k], at, xerr=error[:, k], fmt=marker, color=colour, label=group)
    for line in np.flatnonzero(first["objective"][1:] != first["objective"][:-1]) + 0.5:
        ax.axhline(line, color=_DARK, linewidth=0.8)
    entries = zip(first["estimator"], first["n_draws"], first["milliseconds"], strict=True)
    ax.set_yticks(y, [f"{name} ({n})  {ms:.2g} ms" for name, n, ms in entries])
    ax.invert_yaxis()
    xlabel = "variance × milliseconds, relative to the first of the same objective"
    ax.set(xscale="log", xlabel=xlabel, ylabel="estimator (draws) and cost")
    ax.set_title("Noise of the gradient at equal time")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.grid(axis="x", color=_LIGHT, linewidth=0.8)
    _plain(ax)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


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


def _centre(points: np.ndarray) -> np.ndarray:
    """Return the point that has a third of the others nearest: it lies within a cluster."""
    some = points[:: math.ceil(len(points) / 500)]
    distances = np.linalg.norm(some[:, None] - some[None, :], axis=-1)
    return some[np.quantile(distances, 1 / 3, axis=1).argmin()]


def _contrast(colour: str) -> str:
    brightness = np.dot(colors.to_rgb(colour), (0.299, 0.587, 0.114))
    return _DARK if brightness > 0.5 else "white"


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_DARK)
