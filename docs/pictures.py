"""Make the pictures of the documentation: `python docs/pictures.py`, or some of them by name.

Gray levels are drawn as ink on paper, so that the pages can turn a picture's colours round in the
dark. Colours are reduced to 128: no picture is larger than about 100 kB.
"""

import io
import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import dates
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_wine, make_moons

from aevb import VAE, OutlierDetector, datasets, plotting

IMAGES = Path(__file__).parent / "images"
EXAMPLES = Path(__file__).parents[1] / "examples"
INK = {"cmap": "gray_r"}
REAL, DRAWN = "#b8b8b8", "#0b6b6b"
N_CLOTHES = 10_000


def mnist() -> None:
    """MNIST in two dimensions: the manifold, and the test digits in the latent space."""
    train, test = datasets.load_mnist()
    vae = VAE(latent_dim=2, random_state=0).fit(train.images)
    print(f"test ELBO on gray levels: {vae.score(test.images):.2f} nats per image")
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6.2), layout="constrained")
    plotting.manifold(vae.inverse_transform, (28, 28), ax=left, **INK)
    rows = slice(0, 3000)
    plotting.latent_scatter(vae.transform(test.images[rows]), test.labels[rows], ax=right)
    right.set_title("3000 test digits in the latent space")
    write(figure, "mnist", dpi=80)


def digits() -> None:
    """What `vae.plot` draws of the digits: a model of two dimensions, and one of ten."""
    train, test = datasets.load_digits()
    two = VAE(latent_dim=2, validation_fraction=0.2, random_state=0).fit(train.images)
    save("manifold", two.plot.manifold(n=16, **INK))
    save("latent_scatter", two.plot.latent_scatter(test.images, test.labels))
    save("learning_curve", two.plot.learning_curve())
    ten = VAE(latent_dim=10, random_state=0).fit(train.images)
    save("kl_per_dimension", ten.plot.kl_per_dimension())
    save("reconstructions", ten.plot.reconstructions(test.images[:10], **INK))
    save("samples", ten.plot.samples(64, **INK))
    save("interpolation", ten.plot.interpolation(test.images[0], test.images[1], **INK))
    save("traversal", ten.plot.traversal(test.images[0], **INK))


def wine() -> None:
    """Which columns of a table each latent dimension moves."""
    table = load_wine(as_frame=True).data
    vae = VAE(latent_dim=2, random_state=0).fit(table)
    save("column_effects", vae.plot.column_effects(table))


def unusual() -> None:
    """The oddest wines of all, and which of their cells make them so."""
    table = load_wine(as_frame=True).data
    detector = OutlierDetector(VAE(3, random_state=0), contamination=0.05).fit(table)
    scores = detector.score_samples(table)
    order = np.argsort(scores)[:12]
    nats = detector.surprise(table.iloc[order])
    _, ax = plt.subplots(figsize=(8, 5.4), layout="constrained")
    drawn = ax.imshow(nats, cmap="Reds", vmin=0, vmax=10, aspect="auto")
    for i, j in zip(*np.nonzero(nats > 3), strict=True):
        colour = "white" if nats[i, j] > 6 else "black"
        ax.text(j, i, f"{nats[i, j]:.0f}", ha="center", va="center", color=colour)
    ax.set_xticks(range(table.shape[1]), table.columns, rotation=35, ha="right")
    names = [f"wine {k}: \N{MINUS SIGN}{-scores[k]:.0f}" for k in order]
    ax.set_yticks(range(len(order)), names)
    ax.set_title("The least likely of 178 wines (bound, nats), and their odd cells")
    ax.figure.colorbar(drawn, label="nats above what is usual in the column", extend="max")
    save("unusual", ax)


def synthetic() -> None:
    """The columns of a table of simulated people, and of as many drawn from the fitted model."""
    simulate = runpy.run_path(str(EXAMPLES / "mixed_table.py"))["simulate"]
    real = simulate(3000, np.random.default_rng(0))
    vae = VAE(4, prior="mixture", likelihood={"income": "log-normal"}, epochs=60, random_state=0)
    drawn = vae.fit(real).sample(len(real), random_state=0)
    figure, axes = plt.subplots(2, 3, figsize=(9, 4.8), layout="constrained")
    names = ["income", "height", "moved", "children", "town", "education"]
    for name, ax in zip(names, axes.flat, strict=True):
        compare(real[name], drawn[name], ax)
    axes[0, 0].legend(frameon=False)
    figure.suptitle("Each column of 3000 rows: the table, and rows drawn from the model")
    write(figure, "plot_synthetic")


def compare(real: pd.Series, drawn: pd.Series, ax: plt.Axes) -> None:
    """Draw the distributions of a column in two tables: of numbers by bins, else by level."""
    ax.set_title(real.name)
    ax.set_yticks([])
    ax.spines[["top", "right", "left"]].set_visible(False)
    outline = {"edgecolor": DRAWN, "linewidth": 1.5, "fill": False}
    if real.dtype.kind in "fM":
        is_date = real.dtype.kind == "M"
        both = [dates.date2num(column) if is_date else column for column in (real, drawn)]
        bins = np.histogram_bin_edges(both[0], 40)
        ax.hist(both[0], bins=bins, color=REAL, label="the table")
        ax.hist(both[1], bins=bins, histtype="step", label="drawn", **outline)
        ax.locator_params(axis="x", nbins=4)
        if is_date:
            ax.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=6))
            ax.xaxis.set_major_formatter(dates.DateFormatter("%Y"))
        return
    levels = real.cat.categories if hasattr(real, "cat") else sorted(real.unique())[:10]
    places = np.arange(len(levels))
    of_table, of_model = ([(column == level).sum() for level in levels] for column in (real, drawn))
    ax.bar(places, of_table, color=REAL)
    ax.bar(places, of_model, **outline)
    ax.set_xticks(places, [str(level) for level in levels])


def moons() -> None:
    """Points in two half-moons: what they are drawn from, as the model sees it, and new ones."""
    X = make_moons(2000, noise=0.07, random_state=0)[0]
    vae = VAE(2, prior="mixture", hidden=(50, 50), epochs=200, random_state=0).fit(X)
    x, y = np.linspace(-1.5, 2.5, 120), np.linspace(-1, 1.5, 75)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    density = np.exp(vae.log_likelihood(grid, n_draws=200)).reshape(len(y), len(x))
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
    axes[1].contourf(x, y, density, levels=20, cmap="Greens")
    new = vae.sample(2000, random_state=0)
    for ax, points in ((axes[0], X), (axes[2], new)):
        ax.scatter(*points.T, s=4, color=DRAWN, alpha=0.5, linewidths=0)
    for ax, title in zip(axes, ("the data", "p(x) of the model", "new cases"), strict=True):
        ax.set(title=title, xlim=(-1.5, 2.5), ylim=(-1, 1.5), aspect="equal", xticks=[], yticks=[])
    write(figure, "plot_moons")


def clothes() -> None:
    """A map of Fashion-MNIST: test images at the places of their latents."""
    train, test = datasets.load_fashion_mnist()
    two = VAE(latent_dim=2, epochs=30, random_state=0).fit(train.images[:N_CLOTHES])
    Z, taken = two.transform(test.images[:4000]), []
    low, high = np.quantile(Z, [0.005, 0.995], axis=0)
    _, ax = plt.subplots(figsize=(8, 8 * (high - low)[1] / (high - low)[0]))
    for z, image in zip(Z, test.images, strict=False):
        free = all(np.abs(z - other).max() > 0.21 for other in taken)  # none above another
        if free and (low < z).all() and (z < high).all():
            taken.append(z)
            extent = (z[0] - 0.1, z[0] + 0.1, z[1] - 0.1, z[1] + 0.1)
            ax.imshow(image, cmap="gray_r", extent=extent, vmin=0, vmax=255)
    ax.set(xlim=(low[0] - 0.1, high[0] + 0.1), ylim=(low[1] - 0.1, high[1] + 0.1))
    ax.set_position((0, 0, 1, 1))
    ax.axis("off")
    write(ax.figure, "plot_clothes", dpi=80)


def holes() -> None:
    """Images of clothes of which one half is hidden, and filled."""
    train, test = datasets.load_fashion_mnist()
    vae = VAE(latent_dim=20, epochs=20, random_state=0).fit(train.images[:N_CLOTHES])
    whole = test.images[:10].astype("float32")
    seen = whole.copy()
    seen[:5, 14:] = np.nan
    seen[5:, :, 14:] = np.nan
    rows = [images.swapaxes(0, 1).reshape(28, -1) for images in (seen, vae.impute(seen), whole)]
    _, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
    colours = matplotlib.colormaps["gray_r"].with_extremes(bad="#c9b37e")
    ax.imshow(np.concatenate(rows), cmap=colours)
    ax.set_yticks([14, 42, 70], ["seen", "filled", "whole"])
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    save("holes", ax)


def save(name: str, ax: plt.Axes) -> None:
    """Write the picture that some axes are in."""
    write(ax.figure, f"plot_{name}")


def write(figure: Figure, name: str, dpi: int = 110) -> None:
    """Write a picture, in few colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    plt.close(figure)
    image = Image.open(buffer).convert("RGB").quantize(128)
    image.save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    made = (mnist, digits, wine, unusual, synthetic, moons, clothes, holes)
    makers = {maker.__name__: maker for maker in made}
    for name in sys.argv[1:] or makers:
        makers[name]()
