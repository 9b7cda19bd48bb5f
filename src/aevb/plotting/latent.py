"""Pictures of the latent space."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colors
from numpy.typing import ArrayLike

from aevb.plotting.style import COLOURS, DARK, MARKERS, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    ax = new_axes(ax, (7, 6.4))
    style: dict[str, Any] = {"s": 18, "alpha": 0.8, "linewidths": 0}
    if labels is None:
        ax.scatter(Z[:, 0], Z[:, 1], color=COLOURS[0], **style)
    elif (labels := np.asarray(labels)).dtype.kind == "f":
        scale = ax.scatter(Z[:, 0], Z[:, 1], c=labels, cmap="viridis", **style)
        ax.figure.colorbar(scale, ax=ax)
    else:
        for k, label in enumerate(np.unique(labels)):
            points, colour = Z[labels == label], COLOURS[k % len(COLOURS)]
            marker = MARKERS[k // len(COLOURS) % len(MARKERS)]
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
    plain(ax)
    return ax


def _centre(points: np.ndarray) -> np.ndarray:
    """Return the point that has a third of the others nearest: it lies within a cluster."""
    some = points[:: math.ceil(len(points) / 500)]
    distances = np.linalg.norm(some[:, None] - some[None, :], axis=-1)
    return some[np.quantile(distances, 1 / 3, axis=1).argmin()]


def _contrast(colour: str) -> str:
    brightness = np.dot(colors.to_rgb(colour), (0.299, 0.587, 0.114))
    return DARK if brightness > 0.5 else "white"
