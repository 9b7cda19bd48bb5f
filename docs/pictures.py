"""Make the pictures of the documentation: `python docs/pictures.py`, or some of them by name."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

from aevb import VAE, datasets, plotting

IMAGES = Path(__file__).parent / "images"


def mnist() -> None:
    """MNIST in two dimensions: the manifold, and the test digits in the latent space."""
    train, test = datasets.load_mnist()
    vae = VAE(latent_dim=2, random_state=0).fit(train.images)
    print(f"test ELBO on gray levels: {vae.score(test.images):.2f} nats per image")
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6.2), layout="constrained")
    plotting.manifold(vae.inverse_transform, (28, 28), ax=left)
    rows = slice(0, 3000)
    plotting.latent_scatter(vae.transform(test.images[rows]), test.labels[rows], ax=right)
    right.set_title("3000 test digits in the latent space")
    figure.savefig(IMAGES / "mnist.png", dpi=80)


def digits() -> None:
    """What `vae.plot` draws of the digits: a model of two dimensions, and one of ten."""
    train, test = datasets.load_digits()
    two = VAE(latent_dim=2, validation_fraction=0.2, random_state=0).fit(train.images)
    save("manifold", two.plot.manifold(n=16))
    save("latent_scatter", two.plot.latent_scatter(test.images, test.labels))
    save("learning_curve", two.plot.learning_curve())
    ten = VAE(latent_dim=10, random_state=0).fit(train.images)
    save("kl_per_dimension", ten.plot.kl_per_dimension())
    save("reconstructions", ten.plot.reconstructions(test.images[:10]))
    save("samples", ten.plot.samples(64))
    save("interpolation", ten.plot.interpolation(test.images[0], test.images[1]))
    save("traversal", ten.plot.traversal(test.images[0]))


def wine() -> None:
    """Which columns of a table each latent dimension moves."""
    table = load_wine(as_frame=True).data
    vae = VAE(latent_dim=2, random_state=0).fit(table)
    save("column_effects", vae.plot.column_effects(table))


def save(name: str, ax: plt.Axes) -> None:
    """Write the picture that some axes are in."""
    ax.figure.savefig(IMAGES / f"plot_{name}.png", dpi=110)
    plt.close(ax.figure)


if __name__ == "__main__":
    makers = {maker.__name__: maker for maker in (mnist, digits, wine)}
    for name in sys.argv[1:] or makers:
        makers[name]()
