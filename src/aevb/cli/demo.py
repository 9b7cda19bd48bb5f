"""``aevb demo``: the main job on the handwritten digits that come with scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

from aevb.cli import report
from aevb.data.datasets import load_digits
from aevb.vae import VAE

N_DRAWS = 1000


def run(folder: Path, epochs: int | None) -> None:
    """Fit the digits, print the table, and leave model and pictures in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    train, test = load_digits()
    typer.echo(
        f"Fitting {len(train.images)} handwritten digits of 8 × 8 pixels "
        "in two latent dimensions ..."
    )
    vae = VAE(latent_dim=2, epochs="auto" if epochs is None else epochs, random_state=0)
    vae.fit(train.images, validation_data=test.images)  # watched in the learning curve only
    typer.echo(f"{vae.n_epochs_} epochs in {time.perf_counter() - began:.1f} s")

    parts = {"train": train.images, "test": test.images}
    scores = {
        f"{name} ({len(images)})": {
            "elbo": vae.elbo(images),
            "log_likelihood": vae.log_likelihood(images, N_DRAWS),
        }
        for name, images in parts.items()
    }
    report.show_scores(vae, test.images, scores, N_DRAWS)

    path = folder / "digits.aevb"
    vae.save(path)
    if not np.array_equal(VAE.load(path).transform(test.images), vae.transform(test.images)):
        raise RuntimeError(f"The model loaded from {path} differs from the one that was saved.")
    typer.echo(f"In {folder}:")
    _list(path, "the model; loaded back, it predicts the same, bit for bit")
    _draw(folder, vae, test)
    typer.echo(f"Done in {time.perf_counter() - began:.0f} s.")


def _draw(folder: Path, vae: VAE, test: Any) -> None:
    try:
        plot = vae.plot
    except ImportError as error:
        typer.echo(f"No pictures: {error}")
        return

    pictures: dict[str, tuple[str, tuple[float, float], Callable[[Any], Any]]] = {
        "reconstructions.png": (
            "test digits and what the model makes of them",
            (8, 4.2),
            lambda ax: plot.reconstructions(test.images[:20], ax, cmap="gray_r"),
        ),
        "manifold.png": (
            "the digits that the latent space decodes to",
            (7, 7),
            lambda ax: plot.manifold(ax=ax, cmap="gray_r"),
        ),
        "latent.png": (
            "the test digits in the latent space, by class",
            (7, 6.4),
            lambda ax: plot.latent_scatter(test.images, test.labels, ax),
        ),
        "learning_curve.png": (
            "the ELBO while learning",
            (6.4, 4.2),
            plot.learning_curve,
        ),
    }

    from matplotlib.figure import Figure

    for name, (caption, size, draw) in pictures.items():
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        figure.savefig(folder / name, dpi=150, bbox_inches="tight")
        _list(folder / name, caption)


def _list(path: Path, caption: str) -> None:
    typer.echo(f"  {path.name:<20} {caption}")
