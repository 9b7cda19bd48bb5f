"""Wake-sleep against gradients written by hand, and against probabilistic PCA."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import LatentVariableModel, WakeSleep
from aevb.inference.sgvb import log_weight_prior
from aevb.inference.training import Batch


def batch_of(x, weight=None, c=None, n_total=100.0):
    keys = jax.random.split(jax.random.key(2), len(x))
    weight = np.ones(len(x)) if weight is None else weight
    x, weight, n_total = map(jnp.asarray, (x, weight, n_total))
    return Batch(x, c, weight, keys, n_total, jnp.arange(len(x)), jnp.asarray(0))


@pytest.fixture
def model(x64, linear_gaussian):
    return linear_gaussian.random(5, 2)


@eqx.filter_jit
def evaluate(objective, model, batch):
    return objective(model, batch, jax.random.key(0), None)[:2]


ROWS = np.random.default_rng(0).normal(size=(4, 5))


def test_gradients_are_those_written_by_hand(model):
    batch = batch_of(ROWS, [1.0, 1.0, 1.0, 0.0])

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        return WakeSleep()(model, batch, jax.random.key(0), None)[0]

    @jax.jit
    @jax.vmap
    def draws(x, key):  # those that the objective makes, again
        wake, sleep = jax.random.split(key)
        latent, noise = jax.random.split(sleep)
        dream_z = model.prior().sample(latent)
        dream_x = model.likelihood(dream_z).sample(noise)
        return model.posterior(x).sample(wake, (1,))[0], dream_z, dream_x

    x = ROWS[:3]
    W, m, s, V, d = model.W, model.m, model.s, model.V, model.d
    z, dream_z, dream_x = draws(x, batch.keys[:3])
    residual = x - z @ W.T - m  # of data, under the generative model
    missed = dream_z - (dream_x - m) @ V.T  # of dreams, under the recognition model
    by_hand = {
        "W": residual.T @ z / s**2 / 3,
        "s": np.mean(np.sum(residual**2, axis=1) / s**3 - 5 / s),
        "V": (missed / d).T @ (dream_x - m) / 3,
        "d": np.mean(missed**2 / (2 * d**2) - 1 / (2 * d), axis=0),
        # Encoder and decoder share it: the sum of what both want.
        "m": np.mean(residual / s**2 - (missed / d) @ V, axis=0),
    }
    found = gradient(model)
    for name, expected in by_hand.items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-10, err_msg=name)


def test_metrics_are_the_elbo_at_the_latents_recognised(model):
    exact = eqx.tree_at(lambda m: m.W, model, jnp.linalg.qr(model.W)[0]).with_best_posterior()
    metrics = evaluate(WakeSleep(), exact, batch_of(ROWS))[1]
    # At the exact posterior, equation (6) has no noise.
    evidence = np.mean(jax.vmap(exact.log_evidence)(ROWS))
    np.testing.assert_allclose(metrics["elbo"], evidence, rtol=1e-10)
    difference = metrics["reconstruction"] - metrics["kl"]
    np.testing.assert_allclose(metrics["elbo"], difference, rtol=1e-10)
    # log q(z|x) of exact draws from p(z|x): mean -H[q], variance 1/2 per dimension.
    expected = -exact.posterior(ROWS[0]).entropy()
    assert abs(metrics["dream_log_posterior"] - expected) < 4 * np.sqrt(2 / 2 / len(ROWS))
    assert set(metrics) == {"elbo", "kl", "reconstruction", "dream_log_posterior"}


def test_rows_of_weight_zero_do_not_count(model):
    padded = batch_of(ROWS, [1.0, 1.0, 0.0, 0.0])
    other = padded._replace(x=padded.x.at[2:].set(7.0))
    assert evaluate(WakeSleep(), model, padded) == evaluate(WakeSleep(), model, other)


def test_weight_prior_is_over_the_weights_of_both_models(model):
    batch = batch_of(ROWS)
    plain, _ = evaluate(WakeSleep(), model, batch)
    pulled, _ = evaluate(WakeSleep(weight_prior=0.7), model, batch)
    np.testing.assert_allclose(pulled - plain, log_weight_prior(model, 0.7) / 100, rtol=1e-8)


class Offset(LatentVariableModel):
    """x is z and the context, almost: who does not know the context does not know z."""

    scale: jax.Array

    def prior(self, c):
        return dist.Normal(c["centre"], 1.0)

    def likelihood(self, z, c):
        return dist.Normal(z + c["offset"], 0.01)

    def posterior(self, x, c):
        return dist.Normal(x - c["offset"], self.scale)


def test_dreams_are_dreamt_under_the_rows_own_context(x64):
    c = {"centre": jnp.array([0.0, 50.0]), "offset": jnp.array([100.0, -100.0])}
    batch = batch_of(np.zeros(2), c=c)
    _, metrics = evaluate(WakeSleep(), Offset(jnp.array(0.01)), batch)
    best = float(dist.Normal(0.0, 0.01).log_prob(0.0))
    assert best - 10 < metrics["dream_log_posterior"] <= best


@pytest.mark.slow
def test_learns_probabilistic_pca(linear_gaussian):
    # With one latent, the exact posterior is of q's family.
    rng = np.random.default_rng(3)
    X = rng.normal(size=(1000, 1)) @ [[1.5, -1.0, 0.5]] + 0.6 * rng.normal(size=(1000, 3))
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, bias=True))
    s2 = eigenvalues[:2].mean()
    maximum = -0.5 * (3 * np.log(2 * np.pi) + np.log(eigenvalues[2]) + 2 * np.log(s2) + 3)

    start = linear_gaussian.random(3, 1, seed=1)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start)
    result = aevb.train(
        start,
        X.astype(np.float32),
        objective=WakeSleep(),
        optimizer="adam",
        learning_rate=optax.cosine_decay_schedule(0.03, 3000),
        epochs=300,
    )
    evidence = np.mean(jax.vmap(result.model.log_evidence)(X))
    assert maximum - 0.01 < evidence <= maximum + 1e-5
    elbo = np.mean(jax.vmap(result.model.exact_elbo)(X))
    assert evidence - 0.01 < elbo <= evidence + 1e-5
    np.testing.assert_allclose(result.history["elbo"][-1], elbo, atol=0.02)


class Switch(LatentVariableModel):
    """A latent of two values, which no path can be differentiated through."""

    logit: jax.Array
    shift: jax.Array
    slope: jax.Array

    def prior(self):
        return dist.Bernoulli(logits=self.logit)

    def likelihood(self, z):
        return dist.Normal(self.shift * (2 * z - 1), 1.0)

    def posterior(self, x):
        return dist.Bernoulli(logits=self.slope * x)


def test_latents_may_be_discrete():
    rng = np.random.default_rng(0)
    X = (2.0 * rng.choice([-1, 1], 1000) + rng.normal(size=1000)).astype(np.float32)
    start = Switch(jnp.array(0.0), jnp.array(0.5), jnp.array(0.5))
    model = aevb.train(start, X, objective=WakeSleep(), learning_rate=0.05, epochs=100).model
    assert abs(model.shift - 2.0) < 0.15
    assert abs(model.slope - 2 * model.shift) < 0.5  # of the exact posterior
    assert abs(model.logit) < 0.2


class Silent:
    """A distribution that knows nothing but its density."""

    def log_prob(self, x):
        return jnp.sum(x) * 0.0


class Undrawn(LatentVariableModel):
    weight: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return Silent()

    def posterior(self, x):
        return dist.Normal(self.weight * x, 1.0)


def test_what_cannot_be_dreamt_is_refused():
    with pytest.raises(TypeError, match=r"`Undrawn\.likelihood`; got Silent, without `sample`"):
        aevb.train(Undrawn(jnp.array(1.0)), np.ones(4), objective=WakeSleep())


@pytest.mark.usefixtures("own_messages")
@pytest.mark.parametrize(("wrong", "error"), [(0.0, ValueError), ("flat", TypeError)])
def test_wrong_weight_priors_are_named(wrong, error):
    with pytest.raises(
        error, match=f"standard deviation or None for `weight_prior`; got {wrong!r}"
    ):
        WakeSleep(weight_prior=wrong)
