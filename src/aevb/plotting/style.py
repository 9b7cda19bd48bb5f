"""What all pictures share: axes to draw into, and colours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aevb.errors import integer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Tol's "muted" scheme and black: distinct also to people with a colour vision deficiency.
COLOURS = (
    *("#332288", "#88ccee", "#cc6677", "#117733", "#ddcc77"),
    *("#882255", "#44aa99", "#222222", "#aa4499", "#999933"),
)
MARKERS = "os^D"  # beyond ten classes the colours come again in another shape
DARK, LIGHT = "#222222", "#dddddd"


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the given axes, or those of a new figure of that size, inches."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def counted(n: int, thing: str) -> str:
    """Return ``1 case``, ``2 cases``, ..."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def plain(ax: Axes) -> None:
    """Leave the two axes only, of the frame."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(DARK)


def listed(values: Any, name: str, n: int | None = None, of: str = "") -> list:
    """Return what a user gave as a list, of `n` entries, or say what is wrong with it."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"Expected a sequence for `{name}`; got {values!r}. Write [{values!r}].")
    values = list(values)
    if n is not None and len(values) != n:
        raise ValueError(f"Expected {n} values for `{name}`{of}; got {len(values)}.")
    return values


def check_dimensions(dimensions: Iterable[int], n: int) -> list[int]:
    """Return the latent dimensions that a user names, or say what is wrong with them."""
    named = [integer(j, "dimensions", minimum=0) for j in listed(dimensions, "dimensions")]
    if not named or max(named) >= n or len(set(named)) < len(named):
        raise ValueError(
            f"Expected distinct integers from 0 to {n - 1} for `dimensions`; got {named}."
        )
    return named
