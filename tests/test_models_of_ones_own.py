"""`train` on models that users write: where all is known exactly, training finds it.

Generative parts whose parameters are known are `Frozen`. A family of posteriors that holds the
exact one must then reach the evidence, and sticking the landing has no noise left there.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest
from jax import Array
from scipy import optimize, stats

import aevb
from aevb import Frozen, Joint, LatentVariableModel


@functools.cache  # the same object compiles once
def falling(rate, n_steps):
    return optax.cosine_decay_schedule(rate, n_steps)


def fit(model, data, epochs, rate=0.1, **options):
    """Train with steps that fall to zero."""
    n_batches = -(-len(jax.tree.leaves(data)[0]) // options.get("batch_size", 100))
    learning_rate = falling(rate, epochs * n_batches)
    return aevb.train(model, data, epochs=epochs, learning_rate=learning_rate, **options)


# Probabilistic PCA, all of it learnt.

D, K, N = 6, 2, 1000


class PPCA(LatentVariableModel):
    W: jax.Array
    mean: jax.Array
    log_scale: jax.Array
    V: jax.Array
    log_d: jax.Array

    @classmethod
    def random(cls, seed):
        rng = np.random.default_rng(seed)
        arrays = (rng.normal(size=(D, K)), np.zeros(D), 0.0, 0.1 * rng.normal(size=(K, D)))
        return cls(*(jnp.asarray(array, jnp.float32) for array in (*arrays, np.zeros(K))))

    def prior(self):
        return dist.Normal(jnp.zeros(K), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(self.W @ z + self.mean, jnp.exp(self.log_scale)).to_event(1)

    def posterior(self, x):
        return dist.Normal(self.V @ (x - self.mean), jnp.exp(0.5 * self.log_d)).to_event(1)

    def exact_elbo(self, rows):
        """Average of the bound in closed form, in 64 bits."""
        W, mean, log_scale, V, log_d = (np.asarray(leaf, float) for leaf in jax.tree.leaves(self))
        mu, d, s2 = (rows - mean) @ V.T, np.exp(log_d), np.exp(2 * log_scale)
        kl = 0.5 * (d + mu**2 - 1 - log_d).sum(axis=1)
        squares = ((rows - mean - mu @ W.T) ** 2).sum(axis=1) + d @ (W**2).sum(axis=0)
        return np.mean(-kl - D / 2 * np.log(2 * np.pi * s2) - squares / (2 * s2))


@pytest.mark.quick(1)
@pytest.mark.parametrize("seed", range(5))
def test_probabilistic_pca_reaches_its_optimum(seed):
    # Tipping and Bishop (1999): s² is the mean of the discarded eigenvalues.
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(D, D)))[0]
    X = rng.normal(size=(N, D)) * np.sqrt([20.0, 4.0, 1.0, 1.0, 1.0, 1.0]) @ axes + axes[0]
    X = X.astype(np.float32)
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T.astype(float), bias=True))[::-1]
    s2 = eigenvalues[K:].mean()
    assert 20 < eigenvalues[0] / s2 <= 25
    logs = np.log(eigenvalues[:K]).sum() + (D - K) * np.log(s2)
    optimum = -0.5 * (D * np.log(2 * np.pi) + logs + D)
    trained = fit(PPCA.random(seed), X, 600, rate=0.03, key=seed).model
    assert optimum - 1e-3 < trained.exact_elbo(X) < optimum + 1e-6


# Data of several parts.


class Patients(LatentVariableModel):
    """A latent severity behind two readings and a count of visits; how noisy they are is known."""

    loading: jax.Array
    log_rate: jax.Array
    encoder: jax.Array
    noise: Frozen
    dose: jax.Array  # a whole number: no parameter

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return Joint(
            readings=dist.Normal(self.loading * z, self.noise.value).to_event(1),
            visits=dist.Poisson(jnp.exp(self.log_rate + z)),
        )

    def posterior(self, x):
        features = jnp.concatenate([x["readings"], jnp.log1p(x["visits"])[None], jnp.ones(1)])
        mean, log_scale = self.encoder @ features
        return dist.Normal(mean, jnp.exp(log_scale))


def test_data_in_a_dictionary():
    rng = np.random.default_rng(0)
    z = rng.normal(size=500)
    data = {
        "readings": (z[:, None] * [1.0, -2.0] + 0.5 * rng.normal(size=(500, 2))).astype("float32"),
        "visits": rng.poisson(np.exp(0.7 + z)).astype(np.uint8),
        "unread": np.zeros((500, 3), np.float32),
    }
    model = Patients(
        *(0.1 * jnp.ones(2), jnp.zeros(()), jnp.zeros((2, 4))),
        *(Frozen(jnp.array([0.5, 0.5])), jnp.array(3)),
    )
    training = {name: column[:400] for name, column in data.items()}
    held_out = {name: column[400:] for name, column in data.items()}
    result = fit(model, training, 200, validation_data=held_out)
    trained = result.model
    assert result.history["validation_elbo"][-1] > result.history["validation_elbo"][0] + 2
    np.testing.assert_allclose(abs(trained.loading), [1.0, 2.0], atol=0.15)
    np.testing.assert_allclose(trained.log_rate, 0.7, atol=0.15)
    np.testing.assert_array_equal(trained.noise.value, [0.5, 0.5])
    assert trained.dose == 3
    severity = jax.vmap(lambda x: trained.posterior(x).mean)(held_out)
    assert abs(np.corrcoef(severity, z[400:])[0, 1]) > 0.9


class Pair:
    """A distribution of a user's own over a tuple: nothing but its density."""

    def __init__(self, first, second):
        self.parts = first, second

    def log_prob(self, x):
        return sum(part.log_prob(each) for part, each in zip(self.parts, x, strict=True))


class Twins(LatentVariableModel):
    """Two measurements of one number, of different precision, in a tuple."""

    encoder: jax.Array
    log_scale: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return Pair(dist.Normal(z, 1.0), dist.Normal(z, 0.5))

    def posterior(self, x):
        return dist.Normal(self.encoder @ jnp.stack(x), jnp.exp(self.log_scale))


def test_data_in_a_tuple():
    # Precisions add: 1 + 1 + 4 = 6, and the mean is (x + 4 y) / 6.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 300)).astype(np.float32)
    model = Twins(jnp.zeros(2), jnp.zeros(()))
    result = fit(model, (x, y), 200, estimator="stl")
    np.testing.assert_allclose(result.model.encoder, [1 / 6, 4 / 6], atol=1e-3)
    np.testing.assert_allclose(np.exp(result.model.log_scale), 6**-0.5, atol=1e-3)
    covariance = [[2.0, 1.0], [1.0, 1.25]]
    evidence = stats.multivariate_normal([0, 0], covariance).logpdf(np.stack([x, y], 1)).mean()
    np.testing.assert_allclose(result.history["elbo"][-1], evidence, atol=1e-3)


# Layers, shapes and families of latents.


class TwoLayers(LatentVariableModel):
    """Top t ~ N(0, 1), bottom b ~ N(t, I) of two numbers, x ~ N(b, 0.25 I)."""

    bottom: jax.Array
    bottom_scale: jax.Array
    top: jax.Array
    top_log_scale: jax.Array

    def prior(self):
        return Joint(t=dist.Normal(), b=lambda t: dist.Normal(t * jnp.ones(2), 1.0).to_event(1))

    def likelihood(self, z):
        return dist.Normal(z["b"], 0.5).to_event(1)

    def posterior(self, x):
        diagonal = jnp.diag(jnp.exp(jnp.diag(self.bottom_scale)))
        scale = jnp.tril(self.bottom_scale, -1) + diagonal
        return Joint(
            b=dist.MultivariateNormal(self.bottom @ x, scale_tril=scale),
            t=lambda b: dist.Normal(self.top @ b, jnp.exp(self.top_log_scale)),
        )


@pytest.mark.quick(1)
@pytest.mark.parametrize("bound", ["stl", "dreg"])
def test_two_layers_of_latents(bound):
    # x ~ N(0, 11ᵀ + 1.25 I). The bottom's posterior is correlated, the top's given it N(Σb/3, 1/3).
    rng = np.random.default_rng(0)
    X = rng.multivariate_normal([0, 0], [[2.25, 1.0], [1.0, 2.25]], 400).astype(np.float32)
    model = TwoLayers(jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.zeros(2), jnp.zeros(()))
    result = fit(model, X, 200, estimator=bound, n_draws=2)
    evidence = stats.multivariate_normal([0, 0], [[2.25, 1.0], [1.0, 2.25]]).logpdf(X).mean()
    np.testing.assert_allclose(result.history["elbo"][-1], evidence, atol=1e-3)
    np.testing.assert_allclose(result.model.top, [1 / 3, 1 / 3], atol=1e-2)
    np.testing.assert_allclose(np.exp(result.model.top_log_scale), 3**-0.5, atol=1e-2)
    prior = np.array([[2.0, 1.0], [1.0, 2.0]])
    gain = prior @ np.linalg.inv(prior + 0.25 * np.eye(2))
    np.testing.assert_allclose(result.model.bottom, gain, atol=1e-2)


class Counts(LatentVariableModel):
    """Counts of rates with a Gamma prior: the posterior is Gamma too."""

    log_concentration: jax.Array
    log_rate: jax.Array
    hyper: Frozen

    def prior(self):
        return dist.Gamma(*self.hyper.value)

    def likelihood(self, z):
        return dist.Poisson(z)

    def posterior(self, x):
        return dist.Gamma(jnp.exp(self.log_concentration) + x, jnp.exp(self.log_rate))


@pytest.mark.slow
@pytest.mark.quick(1)
@pytest.mark.parametrize(("bound", "error"), [("auto", 0.03), ("stl", 1e-3)])
def test_counts_with_gamma_latents(bound, error):
    # Gamma(a + x, b + 1); the evidence is negative binomial.
    a, b = 2.0, 0.5
    X = np.random.default_rng(0).negative_binomial(a, b / (1 + b), 500).astype(np.uint16)
    model = Counts(jnp.zeros(()), jnp.zeros(()), Frozen(jnp.array([a, b])))
    result = fit(model, X, 100, estimator=bound)
    np.testing.assert_allclose(np.exp(result.model.log_concentration), a, atol=0.1)
    np.testing.assert_allclose(np.exp(result.model.log_rate), b + 1, atol=0.05)
    evidence = stats.nbinom(a, b / (1 + b)).logpmf(X).mean()
    np.testing.assert_allclose(np.mean(result.history["elbo"][-20:]), evidence, atol=error)


class Clusters(LatentVariableModel):
    """Three known clusters on a line; which one a point belongs to is a discrete latent."""

    slope: jax.Array
    offset: jax.Array
    means: Frozen

    def prior(self):
        return dist.Categorical(logits=jnp.zeros(3))

    def likelihood(self, z):
        return dist.Normal(self.means.value[z], 1.0)

    def posterior(self, x):
        return dist.Categorical(logits=self.slope * x + self.offset)


@pytest.mark.slow
@pytest.mark.quick(1)
@pytest.mark.parametrize("bound", ["score", "vimco"])
def test_discrete_latents(bound):
    # The exact log-odds are mean · x - mean²/2 and a constant.
    rng = np.random.default_rng(0)
    means = np.array([-2.0, 0.0, 1.5], np.float32)
    X = (means[rng.integers(3, size=500)] + rng.normal(size=500)).astype(np.float32)
    model = Clusters(jnp.zeros(3), jnp.zeros(3), Frozen(jnp.asarray(means)))
    result = fit(model, X, 300, estimator=bound, n_draws=8)
    odds = np.asarray(result.model.slope - result.model.slope[1])
    np.testing.assert_allclose(odds, means, atol=0.2)
    evidence = np.log(stats.norm(means, 1).pdf(X[:, None]).mean(axis=1)).mean()
    assert evidence - 0.02 < np.mean(result.history["elbo"][-20:]) < evidence + 0.01


FACTORS = np.array([[1.0, 2.0], [3.0, 0.5]], np.float32)


class Table(LatentVariableModel):
    """One free posterior for each datapoint, found by its number: no encoder. Latents 2 × 2."""

    mean: jax.Array
    log_scale: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros((2, 2)), 1.0).to_event(2)

    def likelihood(self, z):
        return dist.Normal(FACTORS * z, 0.5).to_event(2)

    def posterior(self, x, c):
        return dist.Normal(self.mean[c], jnp.exp(self.log_scale[c])).to_event(2)


class PoissonLogNormal(LatentVariableModel):
    """Counts of rate exp(mean + s z), of which the evidence is an integral over one normal."""

    mean: Array
    log_s: Array
    encoder: eqx.nn.MLP

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Poisson(jnp.exp(self.mean + jnp.exp(self.log_s) * z))

    def posterior(self, x):
        loc, log_scale = self.encoder(jnp.log1p(x)[None])
        return dist.Normal(loc, jnp.exp(log_scale))


@pytest.mark.slow
def test_poisson_log_normal_reaches_its_optimum_by_the_defaults():
    rng = np.random.default_rng(0)
    x = rng.poisson(np.exp(1 + 0.8 * rng.normal(size=236))).astype(np.float32)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)

    def log_likelihood(parameters):
        rate = np.exp(parameters[0] + np.exp(parameters[1]) * nodes)
        return np.log(stats.poisson.pmf(x[:, None], rate) @ (weights / weights.sum())).mean()

    encoder = eqx.nn.MLP(1, 2, 16, 1, key=jax.random.key(0))
    model = aevb.train(PoissonLogNormal(jnp.array(0.0), jnp.array(0.0), encoder), x).model
    best = -optimize.minimize(lambda p: -log_likelihood(p), [1, 0], method="Nelder-Mead").fun
    assert best - 0.01 < log_likelihood([float(model.mean), float(model.log_s)]) < best + 1e-6


@pytest.mark.slow
def test_one_posterior_per_datapoint():
    n = 50
    X = np.random.default_rng(0).normal(size=(n, 2, 2)).astype(np.float32)
    model = Table(jnp.zeros((n, 2, 2)), jnp.zeros((n, 2, 2)))
    result = fit(
        model, X, 1000, context=np.arange(n), estimator="stl", batch_size=20, optimizer="adam"
    )
    precision = 1 + FACTORS**2 / 0.25
    np.testing.assert_allclose(result.model.mean, FACTORS * X / 0.25 / precision, atol=1e-3)
    expected = np.broadcast_to(precision**-0.5, X.shape)
    np.testing.assert_allclose(np.exp(result.model.log_scale), expected, atol=1e-3)
    evidence = stats.norm(0, np.sqrt(FACTORS**2 + 0.25)).logpdf(X).sum() / n
    np.testing.assert_allclose(result.history["elbo"][-1], evidence, atol=1e-3)


# The history of a bound that is not the evidence lower bound.


@pytest.mark.slow
def test_importance_weighted_bound_has_a_column_of_its_own(line):
    data = np.random.default_rng(5).normal(size=(60, 3)).astype(np.float32) + 1
    options = {"epochs": 5, "batch_size": 20, "validation_data": data[:20]}
    for bound in "iw", "vimco":
        history = aevb.train(line(), data, estimator=bound, n_draws=5, **options).history
        columns = ["elbo", "iw_bound", "kl", "reconstruction"]
        assert list(history)[1:7] == [*columns, "validation_iw_bound", "validation_elbo"]
        assert np.all(np.array(history["iw_bound"]) > history["elbo"])
        assert np.all(np.array(history["validation_iw_bound"]) > history["validation_elbo"])


def test_early_stopping_goes_by_the_bound_that_is_maximised(line):
    def objective(model, batch, key, state):
        step = batch.step.astype(float)
        metrics = {"elbo": -step, "iw_bound": -jnp.abs(step - 3)}
        return jnp.sum(model.shift), metrics, state

    data, models = np.zeros((10, 3), np.float32), []
    result = aevb.train(
        line(),
        data,
        objective=objective,
        batch_size=10,
        epochs=20,
        patience=4,
        callbacks=[lambda epoch: models.append(epoch.model)],
    )
    smoothed = pd.Series(-abs(np.arange(20.0) - 3)).ewm(span=4, adjust=False).mean()
    best = int(np.argmax(smoothed))
    assert best > 3 and len(result.history["iw_bound"]) == best + 1 + 4
    np.testing.assert_array_equal(result.model.shift, models[best].shift)
