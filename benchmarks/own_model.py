"""The VAE of `job.py` as a model of one's own, in two spellings.

`Digits` is what the documentation advises, in 20 lines or fewer. `Plain` is what comes to mind
first: Equinox's network and NumPyro's Bernoulli. Both are written for one image and are trained by
`aevb.train`, which maps them over a minibatch.
"""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from job import Job, Weights, first_logits, joint

import aevb


class Digits(aevb.LatentVariableModel):
    W: list
    b: list

    def __init__(self, key, logits):
        sizes = [(784, 500), (500, 40), (20, 500), (500, 784)]
        glorot = jax.nn.initializers.glorot_uniform()
        self.W = [glorot(k, size) for k, size in zip(jax.random.split(key, 4), sizes, strict=True)]
        self.b = [*(jnp.zeros(n) for _, n in sizes[:-1]), logits]

    def prior(self):
        return dist.Normal(jnp.zeros(20), 1.0).to_event(1)

    def likelihood(self, z):
        h = jnp.tanh(z @ self.W[2] + self.b[2])  # vector first: a batch of z is then one product
        logits = h @ self.W[3] + self.b[3]
        return aevb.GrayBernoulli(logits, 255.0, validate_args=False).to_event(1)

    def posterior(self, x):
        h = jnp.tanh(x / 255.0 @ self.W[0] + self.b[0])
        mean, log_variance = jnp.split(h @ self.W[1] + self.b[1], 2)
        return dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1)


class Plain(aevb.LatentVariableModel):
    encoder: eqx.nn.MLP
    decoder: eqx.nn.MLP

    def __init__(self, key):
        keys = jax.random.split(key)
        self.encoder = eqx.nn.MLP(784, 40, 500, depth=1, activation=jnp.tanh, key=keys[0])
        self.decoder = eqx.nn.MLP(20, 784, 500, depth=1, activation=jnp.tanh, key=keys[1])

    def prior(self):
        return dist.Normal(jnp.zeros(20), 1.0).to_event(1)

    def likelihood(self, z):
        # With its checks on, NumPyro's Bernoulli gives gray levels a probability of zero.
        return dist.Bernoulli(logits=self.decoder(z), validate_args=False).to_event(1)

    def posterior(self, x):
        mean, log_variance = jnp.split(self.encoder(x), 2)
        return dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1)


def lines_of(model: type) -> int:
    """Count the lines of a class, blank ones apart."""
    return sum(bool(line.strip()) for line in inspect.getsource(model).splitlines())


def digits(job: Job) -> Digits:
    """Start `Digits` on the terms of a job."""
    return Digits(jax.random.key(job.seed), jnp.asarray(first_logits(job.pixels)))


def plain(job: Job) -> Plain:
    """Start `Plain` from the same weights."""
    model, start = Plain(jax.random.key(job.seed)), digits(job)

    def arrays(model: Plain) -> list:
        layers = (*model.encoder.layers, *model.decoder.layers)
        return [array for layer in layers for array in (layer.weight, layer.bias)]

    values = [array for W, b in zip(start.W, start.b, strict=True) for array in (W.T, b)]
    return eqx.tree_at(arrays, model, values)


def weights_of(model: Digits | Plain) -> Weights:
    """Arrays of a trained model."""
    if isinstance(model, Digits):
        W, b = model.W, model.b
    else:
        layers = (*model.encoder.layers, *model.decoder.layers)
        W, b = [layer.weight.T for layer in layers], [layer.bias for layer in layers]
    return joint([W[0], b[0], W[1], b[1]], [W[2], b[2], W[3], b[3]])
