"""The VAE of `job.py` by stochastic variational inference in NumPyro and in Pyro.

Both are written as the VAE examples of these libraries are, without what would slow them down here:
the KL in closed form (`TraceMeanField_ELBO`), logits instead of probabilities, no validation (which
gray levels would not pass), the data on the device from the start. Their losses are sums over a
minibatch, the package's are means: the same to Adamax, whose steps do not depend on the gradient's
scale.
"""

from typing import Any

from contenders import torch_bodies, torch_weights
from job import AfterEpoch, Job, Weights, first_logits, joint


def train_numpyro(job: Job, after_epoch: AfterEpoch) -> Weights:
    """NumPyro's SVI: an epoch is one jitted `fori_loop` of `svi.update` over shuffled batches."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import numpyro
    import numpyro.distributions as dist
    import optax
    from jax import lax
    from jax.example_libraries import stax
    from jax.nn.initializers import glorot_uniform, zeros
    from numpyro.infer import SVI, TraceMeanField_ELBO

    numpyro.enable_validation(False)
    n, n_features = job.pixels.shape
    latent_dim, batch_size = job.latent_dim, job.batch_size

    def dense(units: int, bias: Any = zeros) -> Any:
        return stax.Dense(units, W_init=glorot_uniform(), b_init=bias)

    def logits_of_mean(*_: Any) -> Any:
        return jnp.asarray(first_logits(job.pixels))

    encoder = stax.serial(dense(job.hidden), stax.Tanh, dense(2 * latent_dim))
    decoder = stax.serial(dense(job.hidden), stax.Tanh, dense(n_features, logits_of_mean))

    def model(x: Any) -> None:
        decode = numpyro.module("decoder", decoder, (len(x), latent_dim))
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([latent_dim]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: Any) -> None:
        encode = numpyro.module("encoder", encoder, (len(x), n_features))
        mean, log_variance = jnp.split(encode(x), 2, axis=1)
        with numpyro.plate("rows", len(x)):
            numpyro.sample("z", dist.Normal(mean, jnp.exp(0.5 * log_variance)).to_event(1))

    svi = SVI(model, guide, optax.adamax(job.learning_rate), TraceMeanField_ELBO())

    @jax.jit
    def epoch(state: Any, pixels: Any, order: Any) -> tuple[Any, Any]:
        def step(i: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, total = carry
            rows = lax.dynamic_slice_in_dim(order, i * batch_size, batch_size)
            state, loss = svi.update(state, pixels[rows])
            return state, total + loss

        return lax.fori_loop(0, n // batch_size, step, (state, 0.0))

    pixels, rng = jnp.asarray(job.pixels), np.random.default_rng(job.seed)
    state = svi.init(jax.random.key(job.seed), pixels[:batch_size])
    for _ in range(job.epochs):
        state, total = epoch(state, pixels, rng.permutation(n))
        float(total)  # the epoch's mean loss would be printed here; this waits for the device
        after_epoch()

    def arrays(name: str) -> list:
        (W, b), _, (V, c) = svi.get_params(state)[f"{name}$params"]
        return [W, b, V, c]

    return joint(arrays("encoder"), arrays("decoder"))


def train_pyro(job: Job, after_epoch: AfterEpoch) -> Weights:
    """Pyro's SVI, step by step as it comes: data already a tensor, no loader."""
    import pyro
    import pyro.distributions as dist
    import torch
    from pyro.infer import SVI, TraceMeanField_ELBO

    pyro.enable_validation(False)
    encoder, decoder = torch_bodies(job)

    def model(x: torch.Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("rows", len(x)):
            zeros = x.new_zeros(len(x), job.latent_dim)
            z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: torch.Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("rows", len(x)):
            mean, log_variance = encoder(x).chunk(2, dim=1)
            pyro.sample("z", dist.Normal(mean, torch.exp(0.5 * log_variance)).to_event(1))

    optimizer = pyro.optim.Adamax({"lr": job.learning_rate})
    svi = SVI(model, guide, optimizer, loss=TraceMeanField_ELBO())
    pixels = torch.from_numpy(job.pixels)
    for _ in range(job.epochs):
        for rows in torch.randperm(len(pixels)).split(job.batch_size):
            svi.step(pixels[rows])
        after_epoch()
    return torch_weights(encoder, decoder)
