"""The one VAE that every contender trains, on the same terms, and the evaluator of what came of it.

All train n-hidden-latent-hidden-n with tanh, in float32, by Adamax (betas 0.9 and 0.999, epsilon
1e-8) on minibatches reshuffled each epoch, with one draw of z per row, a Bernoulli likelihood on
gray levels in [0, 1] and the closed-form KL. All start as `VAE` does: weights as Glorot and
Bengio have them and biases at zero, but for the last ones, the logits of the data's mean. Mean and
log-variance of q(z|x) come from one joint layer everywhere, which is the faster way. On a GPU all
products may use TF32, which is JAX's default and is switched on for PyTorch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

AfterEpoch = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """What is trained on which rows."""

    images: np.ndarray  # as the user has them: given to `VAE.fit`, which scales them by itself
    pixels: np.ndarray  # the same as (n, d) float32 in [0, 1]: given to everybody else
    latent_dim: int
    epochs: int
    device: str = "cpu"
    threads: int = 1
    hidden: int = 500
    batch_size: int = 100
    learning_rate: float = 2e-3
    seed: int = 0


class Weights(NamedTuple):
    """A trained VAE as arrays; matrices are (in, out)."""

    W1: np.ndarray
    b1: np.ndarray
    Wmu: np.ndarray
    bmu: np.ndarray
    Wlv: np.ndarray
    blv: np.ndarray
    W3: np.ndarray
    b3: np.ndarray
    W4: np.ndarray
    b4: np.ndarray


def unit_floats(images: np.ndarray, maximum: float = 255) -> np.ndarray:
    """Gray levels as (n, d) float32 in [0, 1]."""
    return (images.reshape(len(images), -1) / np.float32(maximum)).astype(np.float32)


def elbo(weights: Weights, x: np.ndarray, n_draws: int = 8, seed: int = 0) -> float:
    """Evaluate any contender's mean ELBO in nats per datapoint: NumPy, one noise for all."""
    w, rng = weights, np.random.default_rng(seed)
    h = np.tanh(x @ w.W1 + w.b1)
    mean, log_var = h @ w.Wmu + w.bmu, h @ w.Wlv + w.blv
    kl = 0.5 * np.sum(mean**2 + np.exp(log_var) - 1 - log_var, axis=1, dtype=np.float64)
    log_likelihood = np.zeros(len(x))
    for _ in range(n_draws):
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        z = mean + np.exp(0.5 * log_var) * noise
        logits = np.tanh(z @ w.W3 + w.b3) @ w.W4 + w.b4
        per_pixel = x * logits - np.logaddexp(np.float32(0), logits)
        log_likelihood += per_pixel.sum(axis=1, dtype=np.float64) / n_draws
    return float(np.mean(log_likelihood - kl))


def first_logits(pixels: np.ndarray) -> np.ndarray:
    """Return the decoder's last biases before training: logits of the mean, within 1 to 99 %."""
    mean = np.clip(pixels.mean(axis=0, dtype=np.float64), 0.01, 0.99)
    return np.log(mean / (1 - mean)).astype(np.float32)


def joint(first: list, second: list) -> Weights:
    """Name the arrays of an encoder and a decoder, each [W, b, W, b], heads side by side."""
    W1, b1, W2, b2 = map(np.asarray, first)
    Wmu, Wlv = np.split(W2, 2, axis=1)
    bmu, blv = np.split(b2, 2)
    return Weights(W1, b1, Wmu, bmu, Wlv, blv, *map(np.asarray, second))
