"""Make the pictures of the documentation: `python docs/pictures.py`."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from aevb import VAE, datasets, plotting

IMAGES = Path(__file__).parent / "images"


def mnist() -> None:
    """MNIST in two dimensions: the manifold, and the test digits in the latent space."""
    train, test = datasets.load_mnist()
    vae = VAE(latent_dim=2, epochs=40, random_state=0).fit(train.images)
    print(f"test ELBO on gray levels: {vae.score(test.images):.2f} nats per image")
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6.2), layout="constrained")
    plotting.manifold(vae.inverse_transform, (28, 28), ax=left)
    rows = slice(0, 3000)
    plotting.latent_scatter(vae.transform(test.images[rows]), test.labels[rows], ax=right)
    right.set_title("3000 test digits in the latent space")
    figure.savefig(IMAGES / "mnist.png", dpi=80)


if __name__ == "__main__":
    mnist()
