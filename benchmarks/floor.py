"""The floor: the matrix products of one step of `job.py`'s VAE, in JAX and in NumPy.

Nothing else is done but a plain SGD update: a linear network x -> h -> (mean, log-variance) ->
z = their sum -> g -> y with loss ||y||^2 / 2, so that every product waits for real data. Nothing is
constant, and so nothing can be hoisted out of the loop. No product is spent on the gradient with
respect to x.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from job import AfterEpoch, Job

RATE = 1e-9  # so small that the weights stay finite; a step costs the same at any rate


def _weights(job: Job) -> list[np.ndarray]:
    rng = np.random.default_rng(job.seed)
    n, h, z = job.pixels.shape[1], job.hidden, job.latent_dim
    shapes = [(n, h), (h, 2 * z), (z, h), (h, n)]
    return [(rng.standard_normal(s) / np.sqrt(s[0])).astype(np.float32) for s in shapes]


def _batches(job: Job) -> Iterator[tuple[int, int]]:
    """Rows of the full batches; the floor may skip a last short one."""
    return pairwise(range(0, len(job.pixels) + 1, job.batch_size))


def train_floor_jax(job: Job, after_epoch: AfterEpoch) -> None:
    """The floor in JAX: an epoch is one jitted `lax.fori_loop`."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    k, batch_size, n_batches = job.latent_dim, job.batch_size, len(list(_batches(job)))

    @jax.jit
    def epoch(weights: list[jax.Array], pixels: jax.Array, rate: jax.Array) -> list[jax.Array]:
        def step(i: jax.Array, weights: list[jax.Array]) -> list[jax.Array]:
            W1, W2, W3, W4 = weights
            x = lax.dynamic_slice_in_dim(pixels, i * batch_size, batch_size)
            h = x @ W1
            m = h @ W2
            z = m[:, :k] + m[:, k:]
            g = z @ W3
            y = g @ W4
            dW4, dg = g.T @ y, y @ W4.T
            dW3, dz = z.T @ dg, dg @ W3.T
            dm = jnp.concatenate([dz, dz], axis=1)
            dW2, dh = h.T @ dm, dm @ W2.T
            dW1 = x.T @ dh
            return [W - rate * dW for W, dW in zip(weights, (dW1, dW2, dW3, dW4), strict=True)]

        return lax.fori_loop(0, n_batches, step, weights)

    weights = [jnp.asarray(W) for W in _weights(job)]
    pixels, rate = jnp.asarray(job.pixels), jnp.float32(RATE)
    for _ in range(job.epochs):
        weights = jax.block_until_ready(epoch(weights, pixels, rate))
        after_epoch()


def train_floor_numpy(job: Job, after_epoch: AfterEpoch) -> None:
    """The same floor in NumPy, updating in place."""
    k, rate = job.latent_dim, np.float32(RATE)
    W1, W2, W3, W4 = weights = _weights(job)
    for _ in range(job.epochs):
        for start, stop in _batches(job):
            x = job.pixels[start:stop]
            h = x @ W1
            m = h @ W2
            z = m[:, :k] + m[:, k:]
            g = z @ W3
            y = g @ W4
            dW4, dg = g.T @ y, y @ W4.T
            dW3, dz = z.T @ dg, dg @ W3.T
            dm = np.concatenate([dz, dz], axis=1)
            dW2, dh = h.T @ dm, dm @ W2.T
            dW1 = x.T @ dh
            for W, dW in zip(weights, (dW1, dW2, dW3, dW4), strict=True):
                dW *= rate
                W -= dW
        after_epoch()
