"""What the commands say about a fitted model, every number under its own name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich import box
from rich.console import Console
from rich.table import Table

from aevb.columns import Columns, spelled
from aevb.data.arrays import narrow
from aevb.data.stored import Stored
from aevb.data.tables import is_table
from aevb.data.text import understand
from aevb.inference.stopping import BOUNDS
from aevb.latents import INACTIVE
from aevb.schema import Schema

_BOUND_NAMES = {"elbo": "ELBO", "iw_bound": "importance-weighted bound"}


def meaning(vae: Any, X: ArrayLike) -> tuple[str, str]:
    """Return what the model's bounds and log-likelihoods of `X` are, and what to heed."""
    kinds = {part.kind.name for part in vae.schema_.parts.values()}
    if kinds & {"real", "amount", "proportion"}:
        return "Log-density log p(x)", "A density depends on the units of the data."
    if kinds != {"binary"}:
        return "Log-probability log p(x)", "The data are whole numbers or categories."
    values, white = np.asarray(X), vae.schema_.white
    if ((values > 0) & (values < white)).any():
        return (
            "Expected log-likelihood under stochastic binarisation (gray levels)",
            "A gray level counts as the probability of white: not comparable with binarised data.",
        )
    return "Log-likelihood log p(x)", "The data are binary."


def show_scores(
    vae: Any, X: ArrayLike, parts: Mapping[str, Mapping[str, np.ndarray]], n_draws: int
) -> None:
    """Print the mean bound and log-likelihood of some parts of the data, with standard errors."""
    quantity, note = meaning(vae, X)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(f"nats per {_case(vae)}")
    for part in parts:
        table.add_column(part, justify="right", no_wrap=True)
    rows = {"elbo": "ELBO", "log_likelihood": f"importance-sampled, {n_draws} draws"}
    for key, name in rows.items():
        table.add_row(name, *(_mean(scores[key]) for scores in parts.values()))
    note = (
        f"Mean ± standard error over {_case(vae)}s; higher is better. Both lie below it on "
        f"average, the importance-sampled one closer, and rising with the draws. {note}"
    )
    _print(quantity, table, note)


def show_fit(vae: Any, X: Any) -> None:
    """Print what was fitted, how well, and which latent dimensions are inactive."""
    history = vae.history_
    kept = vae.best_epoch_ - 1
    why = history.get("stopped", [""])[-1]
    ended = "" if why in {"", "epochs"} else f", stopped by {why}"
    epochs = f"{vae.n_epochs_} in {sum(history['seconds']):.1f} s{ended}"
    if kept < vae.n_epochs_ - 1:
        epochs += f"; the model of epoch {kept + 1}, the best, is kept"
    shape = " × ".join(str(size) for size in vae.feature_shape_)
    quantity, note = meaning(vae, next(X.pieces()) if isinstance(X, Stored) else X)
    schema = vae.schema_
    chosen = (
        " (chosen for these data)"
        if schema.why or (schema.columns and schema.columns.are_chosen)
        else ""
    )
    likelihood = schema.columns.in_short() if schema.columns else schema.likelihood.name
    nats = np.sort(vae.explained_nats_)[::-1]
    inactive = "not known"  # under a flow
    if np.isfinite(nats).all():
        inactive = f"{(nats < INACTIVE).sum()} of {len(nats)} (KL below {INACTIVE:g} nats)"
    unit = f"nats per {_case(vae)}"

    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_row("data", f"{len(X)} {_case(vae)}s of {shape} values")
    for remark in schema.remarks:
        table.add_row("note", remark)
    table.add_row("likelihood", f"{likelihood}{chosen}")
    table.add_row("epochs", epochs)
    for name, rows in {"": "training", "validation_": "held out"}.items():
        over = "" if name else ", mean over the epoch"
        for bound in BOUNDS:
            if np.isfinite(history.get(name + bound, [np.nan] * (kept + 1))[kept]):
                value = f"{history[name + bound][kept]:.2f} {unit}{over}"
                table.add_row(f"{_BOUND_NAMES[bound]}, {rows}", value)
    table.add_row("KL by latent dimension", ", ".join(f"{n:.2f}" for n in nats) + f" {unit}")
    table.add_row("inactive dimensions", inactive)
    note = f"The ELBO is a lower bound on the {quantity[0].lower()}{quantity[1:]}. {note}"
    _print("A variational auto-encoder is fitted", table, note)


def show_data(path: Path, X: Any, likelihood: Any) -> None:
    """Print how a file was understood, and the likelihood that a fit would choose."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_row("cases", str(len(X)))
    if path.suffix.lower() in (".csv", ".tsv"):
        table.add_row("written in", str(understand(path)[0]))
    if not is_table(X):
        schema = Schema.fit(narrow(np.asarray(X)), likelihood)
        table.add_row("values", " × ".join(map(str, X.shape[1:])))
        table.add_row("likelihood", f"{schema.likelihood} ({schema.why})")
        _print(str(path), table, "A table without names of columns is an array of one likelihood.")
        return
    columns, rows = Columns.learn(X, likelihood)
    missing = [int(np.isnan(column).sum()) for column in rows.T]
    _print(str(path), table, "")
    chosen = Table(box=box.SIMPLE_HEAD)
    for title in ("column", "type", "likelihood", "missing", "why"):
        chosen.add_column(title)
    for choice, n in zip(columns.choices, missing, strict=True):
        named = "left out" if choice.likelihood is None else spelled(choice.likelihood)
        share = f"{n / len(X):.0%}" if n else ""
        chosen.add_row(choice.type.name, choice.type.kind, named, share, choice.why)
    note = "--kind NAME=LIKELIHOOD chooses another, here and in aevb fit."
    _print("Columns", chosen, note)


def _print(title: str, table: Table, note: str) -> None:
    console = Console(highlight=False)
    for part in ("", f"[bold]{title}[/bold]", table, note, ""):
        console.print(part)


def _case(vae: Any) -> str:
    return "image" if len(vae.feature_shape_) > 1 else "case"


def _mean(values: np.ndarray) -> str:
    mean = np.mean(values, dtype=np.float64)
    if len(values) < 2:
        return f"{mean:.2f}"
    return f"{mean:.2f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.2f}"
