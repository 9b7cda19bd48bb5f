"""Fashion-MNIST with convolutional networks: pictures of clothes, coded by twenty numbers each.

The images are found in the folder that AEVB_DATA names, or fetched; see `aevb.datasets`. Gray
levels have a Bernoulli likelihood: its numbers are expectations over images binarised at random,
neither densities of the gray image nor comparable with those of images that were binarised once.

What is measured, on test images that training has not seen:

- the evidence lower bound, in nats per image, with convolutions, and with fully connected layers
  trained on the same images for as many epochs;
- the error of reconstructions as a share of white, beside that of as many principal components,
  which minimise it among linear codes.

The picture has test images, their reconstructions below them, and images drawn from the model.
`main(60_000, 20)` is the whole data set for longer, half an hour or more on two cores.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA

from aevb import VAE, datasets

LATENTS = 20


def error(images: np.ndarray, found: np.ndarray) -> float:
    """Return the root of the mean squared error of gray levels, as a share of white."""
    return float(np.sqrt(np.mean(np.square(images - found.reshape(images.shape))))) / 255


def show(vae: VAE, images: np.ndarray, path: str) -> None:
    """Draw reconstructions of some images, and images from the prior."""
    figure, (above, below) = plt.subplots(2, figsize=(8, 8), height_ratios=(1, 2))
    vae.plot.reconstructions(images, ax=above)
    above.set_title("Test images, and their reconstructions")
    vae.plot.samples(64, ax=below)
    below.set_title("Expected images at latents drawn from the prior")
    figure.tight_layout()
    figure.savefig(path)


def main(
    n_train: int = 10_000, epochs: int = 5, n_test: int = 2000, path: str = "fashion_mnist.png"
) -> dict[str, float]:
    train, test = datasets.load_fashion_mnist()
    X, Y = train.images[:n_train], test.images[:n_test]
    options = {"epochs": epochs, "random_state": 0}
    vae = VAE(LATENTS, architecture="conv", **options).fit(X)
    print(f"{vae.schema_.describe()}; channels {vae.config_.architecture.stages(X.shape[1:])}")
    show(vae, Y[:10], path)
    pca = PCA(LATENTS, random_state=0).fit(X.reshape(len(X), -1))
    linear = pca.inverse_transform(pca.transform(Y.reshape(len(Y), -1)))
    return {
        "ELBO of test images, nats, convolutions": vae.score(Y),
        "ELBO of test images, nats, fully connected": VAE(LATENTS, **options).fit(X).score(Y),
        "error of reconstructions, convolutions": error(Y, vae.reconstruct(Y)),
        "error of reconstructions, principal components": error(Y, linear),
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:50s} {value:.3f}")
