"""Two layers of latents, as Burda, Grosse and Salakhutdinov (2015) stack them, on small digits.

p(x, h1, h2) = p(h2) p(h1|h2) p(x|h1) and q(h1, h2|x) = q(h1|x) q(h2|h1). Each is one `Joint`, whose
value is a dictionary with an entry for each layer.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import aevb

PIXELS, H1, H2 = 64, 20, 10


class Normal(eqx.Module):
    """N(mean, diag scale²), both from one hidden layer."""

    body: aevb.MLP
    head: eqx.nn.Linear

    def __init__(self, n_in, n_out, key):
        key_body, key_head = jax.random.split(key)
        self.body = aevb.MLP(n_in, (100,), "tanh", key=key_body)
        self.head = eqx.nn.Linear(100, 2 * n_out, key=key_head)

    def __call__(self, x):
        mean, log_scale = jnp.split(self.head(self.body(x)), 2)
        return dist.Normal(mean, jnp.exp(log_scale)).to_event(1)


class TwoLayers(aevb.LatentVariableModel):
    q1: Normal
    q2: Normal
    p1: Normal
    px: eqx.nn.MLP

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.q1, self.q2 = Normal(PIXELS, H1, keys[0]), Normal(H1, H2, keys[1])
        self.p1 = Normal(H2, H1, keys[2])
        self.px = eqx.nn.MLP(H1, PIXELS, 100, 1, jnp.tanh, key=keys[3])

    def prior(self):
        top = dist.Normal(jnp.zeros(H2), 1.0).to_event(1)
        return aevb.Joint(h2=top, h1=lambda h2: self.p1(h2))

    def likelihood(self, z):
        return dist.Bernoulli(logits=self.px(z["h1"])).to_event(1)

    def posterior(self, x):
        return aevb.Joint(h1=self.q1(x.astype(float)), h2=lambda h1: self.q2(h1))


def main(epochs: int = 60) -> dict[str, float]:
    data = aevb.datasets.load_digits()
    train, test = (part.images.reshape(-1, PIXELS) > 0.5 for part in (data.train, data.test))
    model = TwoLayers(jax.random.key(0))
    result = aevb.train(
        model, train, estimator="dreg", n_draws=5, epochs=epochs, validation_data=test
    )
    keys = jax.random.split(jax.random.key(1), len(test))

    def log_likelihood(x, key):
        return aevb.log_likelihood(result.model, x, key, n_draws=500)

    estimate = jax.jit(jax.vmap(log_likelihood))(test, keys)
    return {
        "test log-likelihood (500 draws), nats per digit": float(estimate.mean()),
        "test bound of 5 draws, last epoch": result.history["validation_iw_bound"][-1],
        "test ELBO, last epoch": result.history["validation_elbo"][-1],
        "independent pixels, nats per digit": _independent(train, test),
    }


def _independent(train, test):
    p = np.clip(train.mean(axis=0), 0.001, 0.999)
    return float(np.where(test, np.log(p), np.log1p(-p)).sum(axis=1).mean())


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:50s} {value:10.3f}")
