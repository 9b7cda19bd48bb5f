"""The paper's models, data and optimizer, as its section 5 and appendices C and E have them.

Where the paper is silent, its first author's published code (dpkingma/anglepy) decides: gray MNIST,
50,000 / 10,000 / 10,000 rows; weights from N(0, 0.01²), with zeros in the biases and in the
encoder's log-variance weights; Adagrad on gradients *summed* over the minibatch, accumulators from
zero, the first 100 steps without an update; a prior N(0, 1) over the weights, not over biases; Frey
faces divided by 256, with a sigmoid for the mean. Unlike there, minibatches are drawn without
replacement within an epoch.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from results import Row

import aevb

BATCH = 100
STEPS = (0.01, 0.02, 0.1)  # Adagrad's
TRIAL = 1000  # updates in which one of them is chosen
WAITS = 100  # steps in which Adagrad's accumulators fill and nothing moves


class Data(NamedTuple):
    """Rows in [0, 1], and what the paper does with them."""

    train: np.ndarray
    test: np.ndarray
    hidden: int
    gaussian: bool


def load(name: str) -> Data:
    """Load MNIST or the Frey faces, split as above."""
    if name == "mnist":
        train, test = aevb.datasets.load_mnist()
        images = [split.images.reshape(-1, 784) / np.float32(255) for split in (train, test)]
        return Data(images[0][:50_000], images[1], hidden=500, gaussian=False)
    train, test = aevb.datasets.load_frey_faces()
    images = [split.images.reshape(-1, 560) / np.float32(256) for split in (train, test)]
    return Data(*images, hidden=200, gaussian=True)


class PaperVAE(aevb.LatentVariableModel):
    """Appendix C: one hidden layer of tanh units on each side."""

    W3: jax.Array  # encoder
    b3: jax.Array
    W4: jax.Array  # its mean and, below, its log-variance
    b4: jax.Array
    W1: jax.Array  # decoder
    b1: jax.Array
    W2: jax.Array  # its mean and, if Gaussian, its log-variance
    b2: jax.Array
    gaussian: bool = eqx.field(static=True)

    @classmethod
    def start(cls, data: Data, n_z: int, seed: int) -> "PaperVAE":
        """Draw the first weights from N(0, 0.01²)."""
        d, h, out = data.train.shape[1], data.hidden, 1 + data.gaussian
        rng = np.random.default_rng(seed)
        shapes = [(h, d), (2 * n_z, h), (h, n_z), (out * d, h)]
        W3, W4, W1, W2 = (rng.normal(0, 0.01, shape).astype(np.float32) for shape in shapes)
        W4[n_z:] = 0
        b3, b4, b1, b2 = (np.zeros(len(W), np.float32) for W in (W3, W4, W1, W2))
        arrays = map(jnp.asarray, (W3, b3, W4, b4, W1, b1, W2, b2))
        return cls(*arrays, gaussian=data.gaussian)

    def prior(self):
        n_z = self.W1.shape[1]
        return dist.Normal(jnp.zeros(n_z), 1.0, validate_args=False).to_event(1)

    def posterior(self, x):
        h = jnp.tanh(x @ self.W3.T + self.b3)
        mean, log_variance = jnp.split(h @ self.W4.T + self.b4, 2)
        return dist.Normal(mean, jnp.exp(0.5 * log_variance), validate_args=False).to_event(1)

    def likelihood(self, z):
        h = jnp.tanh(z @ self.W1.T + self.b1)
        out = h @ self.W2.T + self.b2
        if not self.gaussian:
            return aevb.GrayBernoulli(out, validate_args=False).to_event(1)
        mean, log_variance = jnp.split(out, 2)
        scale = jnp.exp(0.5 * log_variance)
        return dist.Normal(jax.nn.sigmoid(mean), scale, validate_args=False).to_event(1)


def adagrad(rate: float, batch: int = BATCH) -> optax.GradientTransformation:
    """Adagrad on gradients summed over a batch, as in the first author's code."""
    return optax.chain(
        optax.scale(batch),
        optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-8),
        optax.scale_by_schedule(lambda step: jnp.where(step < WAITS, 0.0, -rate)),
    )


def step_for(kept: list[Row], wanted: float | None, trial: Callable[[float], float]) -> float:
    """Return Adagrad's step: that of the rows kept, or the one wanted, or the best in its trial."""
    if kept:
        step = kept[0]["settings"]["adagrad_step"]
        if wanted not in (None, step):
            raise ValueError(
                f"Expected --step {step}, that of the rows kept; got {wanted}. Give another file "
                "as --results for another step."
            )
        return step
    if wanted:
        return wanted

    def score(step: float) -> float:
        try:
            value = trial(step)
        except aevb.TrainingDiverged:
            return -np.inf
        return -np.inf if np.isnan(value) else value

    scores = {step: score(step) for step in STEPS}
    print(f"after {TRIAL} updates, by step: {scores}", flush=True)
    return max(STEPS, key=lambda step: scores[step])
