"""Pictures of training: its bound by epoch, the noise of its gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import ticker

from aevb.plotting.style import COLOURS, DARK, LIGHT, MARKERS, new_axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What a history can tell of learning, the tightest bound first; and of which cases.
_QUANTITIES = {
    "iw_bound": "importance-weighted bound",
    "elbo": "ELBO",
    "log_joint": "log p(x, z)",
}
_BOUNDS = ("iw_bound", "elbo")
_ROWS = {"": ("training", COLOURS[0]), "validation_": ("held out", COLOURS[2])}


def learning_curve(history: Mapping[str, Sequence[float]], ax: Axes | None = None) -> Axes:
    """Draw the bounds against the epochs, of training and of held-out cases.

    Parameters
    ----------
    history : mapping of str to sequence
        ``vae.history_``, or that of `train`: ``epoch`` and what there is of ``iw_bound`` and
        ``elbo``, each also with ``validation_`` before it. Without a bound, as for Monte Carlo EM,
        ``log_joint`` is drawn.
    ax : Axes, optional
        Where to draw; None: a new figure.

    Returns
    -------
    Axes
        The axes; epochs on a logarithmic scale when there are ten or more.

    Raises
    ------
    ValueError
        When the history has none of these columns, or no ``epoch``.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb.plotting import learning_curve
    >>> history = {"epoch": [1, 2, 3], "elbo": [-30.0, -25.0, -24.0]}
    >>> learning_curve(history, ax=Figure().subplots()).get_ylabel()
    'ELBO (nats per case)'
    """
    there = {
        quantity: name
        for quantity, name in _QUANTITIES.items()
        if any(prefix + quantity in history for prefix in _ROWS)
    }
    shown = {quantity: name for quantity, name in there.items() if quantity in _BOUNDS} or there
    if not shown:
        raise ValueError(
            f"Expected one of the columns {', '.join(_QUANTITIES)} in `history`; got "
            f"{', '.join(history) or 'none'}."
        )
    if "epoch" not in history:
        raise ValueError(
            "Expected the column epoch in `history`, the number of each epoch from 1; got "
            f"{', '.join(history)}."
        )
    ax = new_axes(ax, (6.4, 4.2))
    epochs = np.asarray(history["epoch"])
    for line, (quantity, name) in zip(("-", "--"), shown.items(), strict=False):
        for prefix, (rows, colour) in _ROWS.items():
            column = prefix + quantity
            if column in history:
                label = rows if len(shown) == 1 else f"{name}, {rows}"
                ax.plot(epochs, history[column], line, color=colour, linewidth=2, label=label)
    if len(epochs) >= 10:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(ticker.NullLocator())
        ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"{' and '.join(shown.values())} (nats per case)")
    ax.set_title("Learning curve")
    ax.legend(frameon=False, loc="lower right")
    ax.grid(axis="y", color=LIGHT, linewidth=0.8)
    plain(ax)
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
    ax = new_axes(ax, (7.4, 1.2 + 0.36 * len(y)))
    relative = table["variance_x_cost"]
    relative = np.where((relative > 0) & (relative < np.inf), relative, np.nan)
    error = relative * table["variance_se"] / np.where(relative > 0, table["variance"], 1)
    ax.axvline(1, color=DARK, linewidth=0.8)
    for k, group in enumerate(groups):
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        at = y + 0.6 * ((k + 0.5) / len(groups) - 0.5)
        ax.errorbar(relative[:, k], at, xerr=error[:, k], fmt=marker, color=colour, label=group)
    for line in np.flatnonzero(first["objective"][1:] != first["objective"][:-1]) + 0.5:
        ax.axhline(line, color=DARK, linewidth=0.8)
    entries = zip(first["estimator"], first["n_draws"], first["milliseconds"], strict=True)
    ax.set_yticks(y, [f"{name} ({n})  {ms:.2g} ms" for name, n, ms in entries])
    ax.invert_yaxis()
    xlabel = "variance × milliseconds, relative to the first of the same objective"
    ax.set(xscale="log", xlabel=xlabel, ylabel="estimator (draws) and cost")
    ax.set_title("Noise of the gradient at equal time")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    ax.grid(axis="x", color=LIGHT, linewidth=0.8)
    plain(ax)
    return ax
