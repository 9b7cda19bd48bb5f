"""Pictures of the latent space and its dimensions."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps, colors, dates
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from aevb.latents import INACTIVE
from aevb.plotting.style import (
    COLOURS,
    DARK,
    LIGHT,
    MARKERS,
    check_dimensions,
    counted,
    listed,
    new_axes,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType

_SIZE = (7, 6.4)  # inches, of a scatter
_POINTS: dict[str, Any] = {"s": 18, "alpha": 0.8, "linewidths": 0}
_UNKNOWN = "#bbbbbb"
_MOST_CLASSES = len(COLOURS) * len(MARKERS)
_MOST_LABELS = 40
_MOST_COLUMNS = 60


def latent_scatter(
    Z: ArrayLike,
    labels: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    dimensions: Sequence[int] = (0, 1),
) -> Axes:
    """Draw cases as points in two latent dimensions, coloured by class or by a number.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Latent points, such as ``vae.transform(X)``.
    labels : array-like of shape (n,), optional
        Classes, at most 40, each named among its points. Floating-point numbers, dates
        (datetime64) and more than 40 distinct integers get a colour scale. Cases whose label is
        missing (None, NaN) are gray, "unknown" in the legend.
    ax : Axes, optional
        Where to draw; None: a new figure.
    dimensions : sequence of two int, default=(0, 1)
        The columns of Z to draw.

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
    if Z.ndim != 2 or Z.shape[1] < 2:
        raise ValueError(
            "Expected latent points of shape (n, d), d at least 2, for `Z`; got "
            f"{Z.shape}. One latent dimension is better seen in a histogram."
        )
    shown = check_dimensions(dimensions, Z.shape[1])
    if len(shown) != 2:
        raise ValueError(f"Expected two integers for `dimensions`; got {len(shown)}: {shown}.")
    n_dimensions, Z = Z.shape[1], Z[:, shown]
    if labels is None:
        ax = new_axes(ax, _SIZE)
        ax.scatter(*Z.T, color=COLOURS[0], **_POINTS)
    else:
        ax = _draw_labelled(Z, labels, ax)
    ax.set_xlabel(f"latent dimension {shown[0]}")
    ax.set_ylabel(f"latent dimension {shown[1]}")
    where = "the latent space" if n_dimensions == 2 else f"two of {n_dimensions} latent dimensions"
    ax.set_title(f"{counted(len(Z), 'case')} in {where}")
    ax.set_aspect("equal", adjustable="datalim")
    plain(ax)
    return ax


def kl_per_dimension(
    kl: ArrayLike, ax: Axes | None = None, *, inactive_below: float = INACTIVE
) -> Axes:
    """Draw how many nats each latent dimension holds, the most first, and which are inactive.

    An inactive dimension's posterior is the prior for every case, and the decoder does without it.

    Parameters
    ----------
    kl : array-like of shape (d,)
        KL of each dimension in nats, averaged over cases, such as ``vae.explained_nats_``.
    ax : Axes, optional
        Where to draw; None: a new figure.
    inactive_below : float, default=0.01
        Nats below which a dimension is called inactive. After a short
        training, further dimensions may be inactive in effect.

    Returns
    -------
    Axes
        The axes, a bar for each dimension.

    Raises
    ------
    ValueError
        When the numbers are not finite, as under a flow, where the KL of one dimension by itself is
        not known.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import kl_per_dimension
    >>> ax = kl_per_dimension([0.5, 2.0, 0.001], ax=Figure().subplots())
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['1', '0', '2']
    """
    kl = np.asarray(kl, np.float64)
    if kl.ndim != 1 or not len(kl) or not np.isfinite(kl).all():
        raise ValueError(
            "Expected a finite number of nats for each latent dimension for `kl`; got "
            f"{np.array2string(kl, threshold=6)}. Under a flow the KL of a single dimension is "
            "not known."
        )
    order = np.argsort(-kl, kind="stable")
    n_active = int((kl >= inactive_below).sum())
    ax = new_axes(ax, (6.4, 4.2))
    bars = ax.bar(np.arange(len(kl)), kl[order], color=COLOURS[0], width=0.8)
    if n_active < len(kl):
        for bar in bars[n_active:]:
            bar.set_color(COLOURS[2])
        ax.axvspan(n_active - 0.5, len(kl) - 0.5, color=LIGHT, linewidth=0, zorder=0, alpha=0.6)
        label = f"inactive: below {inactive_below:g} nats"
        inactive = Patch(facecolor=LIGHT, edgecolor=COLOURS[2], label=label)
        ax.legend(handles=[inactive], loc="upper right", frameon=False)
        ax.margins(y=0.15)  # room for the legend above equal bars
    aside = max(0.6, (6 - len(kl)) / 2)  # a few bars stay slim
    ax.set_xlim(-aside, len(kl) - 1 + aside)
    if len(kl) <= _MOST_LABELS:
        ax.set_xticks(np.arange(len(kl)), [str(j) for j in order])
        ax.set_xlabel("latent dimension")
    else:
        ax.set_xlabel("latent dimensions in the order of their KL")
    ax.tick_params(axis="x", length=0, labelsize=7 if 20 < len(kl) <= _MOST_LABELS else 10)
    ax.set_ylabel("KL of q(z|x) from p(z) (nats per case)")
    ax.set_title(f"{n_active} of {len(kl)} latent dimensions active")
    ax.grid(axis="y", color=LIGHT, linewidth=0.8)
    ax.set_axisbelow(True)
    plain(ax)
    return ax


def column_effects(
    effects: ArrayLike,
    columns: Sequence[str] | None = None,
    dimensions: Sequence[int] | None = None,
    ax: Axes | None = None,
    *,
    step: str = "from z = \N{MINUS SIGN}1 to +1",
) -> Axes:
    """Draw which columns of a table each latent dimension moves, as a heat map.

    Parameters
    ----------
    effects : array-like of shape (n_dimensions, n_columns)
        How much E[x|z] of the column changes when the dimension makes the `step`, in standard
        deviations of the column; NaN leaves a cell empty. See `PlotAccessor.column_effects`.
    columns : sequence of str, optional
        Names of the columns; None: 0, 1, 2, ...
    dimensions : sequence of int, optional
        The latent dimension of each row of `effects`; None: 0, 1, 2, ...
    ax : Axes, optional
        Where to draw; None: a new figure.
    step : str, optional
        What the dimension does, in words.

    Returns
    -------
    Axes
        The axes: a line for each column (beyond 60, for those that move most, as the title says), a
        place along it for each latent dimension, numbers where they fit.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import column_effects
    >>> ax = column_effects([[1.5, -0.2]], ["age", "height"], ax=Figure().subplots())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['age', 'height']
    """
    effects = np.asarray(effects, np.float64)
    if effects.ndim != 2 or 0 in effects.shape:
        raise ValueError(
            "Expected numbers of shape (n_dimensions, n_columns) for `effects`; got "
            f"{effects.shape}."
        )
    n_dimensions, n_columns = effects.shape
    every = range(n_columns) if columns is None else columns
    names = [str(name) for name in listed(every, "columns")]
    shown = listed(range(n_dimensions) if dimensions is None else dimensions, "dimensions")
    if (len(shown), len(names)) != effects.shape:
        raise ValueError(
            f"Expected {n_dimensions} `dimensions` and {n_columns} `columns`, as `effects` has; "
            f"got {len(shown)} and {len(names)}."
        )
    title = "Columns that each latent dimension moves"
    size = np.nan_to_num(np.abs(effects))
    if n_columns > _MOST_COLUMNS:
        kept = np.sort(np.argsort(-size.max(axis=0), kind="stable")[:_MOST_COLUMNS])
        effects, names = effects[:, kept], [names[k] for k in kept]
        title = f"The {_MOST_COLUMNS} of {n_columns} columns that latent dimensions move most"
    n_lines = len(names)
    longest = max(map(len, names))
    width = 1.8 + 0.08 * longest + 0.55 * n_dimensions
    ax = new_axes(ax, (max(width, 4.8), 0.8 + max(0.24 * n_lines, 2.2)))
    limit = size.max() or 1.0
    cmap = colormaps["RdBu_r"].with_extremes(bad=LIGHT)
    picture = ax.imshow(effects.T, cmap=cmap, vmin=-limit, vmax=limit, aspect="auto")
    whole = ax.get_window_extent()
    points = 72 / ax.figure.dpi  # of a pixel
    width, height = points * whole.width / n_dimensions, points * whole.height / n_lines
    if width >= 24 and height >= 9:
        for (k, j), value in np.ndenumerate(effects.T):
            if np.isfinite(value):
                colour = _contrast(cmap((value / limit + 1) / 2))
                ax.text(j, k, _signed(value), ha="center", va="center", color=colour, fontsize=8)
    ax.set_xticks(np.arange(n_dimensions), [str(j) for j in shown])
    ax.set_yticks(np.arange(n_lines), names, fontsize=9 if height >= 9 else 6)
    ax.set_xlabel("latent dimension")
    ax.set_title(title)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(picture, ax=ax)
    bar.set_label(f"change of E[x|z] in standard deviations,\n{step}", fontsize=9)
    bar.outline.set_visible(False)
    return ax


def _draw_labelled(Z: np.ndarray, labels: ArrayLike, ax: Axes | None) -> Axes:
    if np.shape(labels) != (len(Z),):
        raise ValueError(
            f"Expected a label for each of the {len(Z)} cases, of shape ({len(Z)},), for "
            f"`labels`; got shape {np.shape(labels)}."
        )
    values, known = _known(labels)
    n_distinct = len(np.unique(values))
    is_scale = values.dtype.kind in ("iufM" if n_distinct > _MOST_CLASSES else "fM")
    if n_distinct > _MOST_CLASSES and not is_scale:
        raise ValueError(
            f"Expected at most {_MOST_CLASSES} classes for `labels`, which can be told apart; got "
            f"{n_distinct}. Numbers and dates (datetime64) get a colour scale instead."
        )
    ax = new_axes(ax, _SIZE)
    if len(values):
        (_draw_scale if is_scale else _draw_classes)(ax, Z[known], values)
    if not known.all():
        ax.scatter(*Z[~known].T, color=_UNKNOWN, label="unknown", zorder=0.9, **_POINTS)
    if len(values) and is_scale:
        if not known.all():
            ax.legend(loc="upper left", markerscale=1.8)
    else:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=1.8)
    return ax


def _known(labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return those labels that are known, as numbers, dates or text, and which they are."""
    of_numpy = isinstance(getattr(labels, "dtype", np.dtype(object)), np.dtype)
    # Of pandas' own types, integers would be floats beside a missing label: objects stay integers.
    values = np.asarray(labels) if of_numpy else np.array(list(labels), object)
    if values.dtype.kind == "O":
        known = np.array([_is_known(label) for label in values], bool)
        objects = list(values[known])
        is_number = all(isinstance(label, numbers.Real) for label in objects)
        return np.array(objects if is_number else [str(label) for label in objects]), known
    known = ~np.isnat(values) if values.dtype.kind in "mM" else np.ones(len(values), bool)
    if values.dtype.kind == "f":
        known = np.isfinite(values)
    return values[known], known


def _is_known(label: Any) -> bool:
    same = label == label  # of NaN and NaT it is not, of pandas' NA neither is it nor is it not
    return label is not None and isinstance(same, bool | np.bool_) and bool(same)


def _draw_scale(ax: Axes, Z: np.ndarray, values: np.ndarray) -> None:
    is_date = values.dtype.kind == "M"
    colour = dates.date2num(values) if is_date else values
    bar = ax.figure.colorbar(
        ax.scatter(Z[:, 0], Z[:, 1], c=colour, cmap="viridis", **_POINTS), ax=ax
    )
    if is_date:
        locator = dates.AutoDateLocator()
        bar.ax.yaxis.set_major_locator(locator)
        bar.ax.yaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _draw_classes(ax: Axes, Z: np.ndarray, values: np.ndarray) -> None:
    for k, label in enumerate(np.unique(values)):
        points, colour = Z[values == label], COLOURS[k % len(COLOURS)]
        marker = MARKERS[k // len(COLOURS)]
        ax.scatter(*points.T, color=colour, marker=marker, label=str(label), **_POINTS)
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


def _centre(points: np.ndarray) -> np.ndarray:
    """Return the point that has a third of the others nearest: it lies within a cluster."""
    some = points[:: math.ceil(len(points) / 500)]
    distances = np.linalg.norm(some[:, None] - some[None, :], axis=-1)
    return some[np.quantile(distances, 1 / 3, axis=1).argmin()]


def _contrast(colour: ColorType) -> str:
    brightness = np.dot(colors.to_rgb(colour), (0.299, 0.587, 0.114))
    return DARK if brightness > 0.5 else "white"


def _signed(value: float) -> str:
    rounded = round(value, 1)
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0"
