"""Predictions of many rows: of any model, and under whatever is set around the call."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import VAE, LatentVariableModel, predict

rng = np.random.default_rng(0)
MANY = rng.normal(size=(5000, 3))  # more than two blocks
KEY = jax.random.key(0)


class Regression(LatentVariableModel):
    """x = c z + noise: a model with a context."""

    def prior(self):
        return dist.Normal(jnp.zeros(1), 1.0).to_event(1)

    def likelihood(self, z, c):
        return dist.Normal(c * z, 0.5).to_event(1)

    def posterior(self, x, c):
        precision = 1 + jnp.sum(c**2) / 0.25
        mean = jnp.sum(c * x)[None] / 0.25 / precision
        return dist.Normal(mean, precision**-0.5).to_event(1)

    @staticmethod
    def log_evidence(x, c):
        covariance = 0.25 * jnp.eye(3) + jnp.outer(c, c)
        return dist.MultivariateNormal(jnp.zeros(3), covariance).log_prob(x)


@pytest.fixture(scope="module")
def vae():
    return VAE(2, hidden=(5,), epochs=1, random_state=0, verbose=False).fit(MANY[:100])


def test_every_function_maps_a_model_with_context_over_rows():
    X, C = (rng.normal(size=(40, 3)).astype(np.float32) for _ in range(2))
    model = Regression()
    exact = jax.vmap(model.log_evidence)(X, C)
    q = predict.encode(model, X, context=C)
    means, variances = predict.latent_moments(model, X, context=C)
    np.testing.assert_array_equal(q.mean, means)
    np.testing.assert_array_equal(predict.latent_mean(model, X, context=C), means)
    # The posterior is exact: one draw of the importance weight is p(x).
    likelihoods = predict.log_likelihood(model, X, KEY, context=C, n_draws=3)
    np.testing.assert_allclose(likelihoods, exact, rtol=1e-4, atol=1e-4)
    bounds = predict.elbo(model, X, KEY, context=C, n_draws=4000)
    np.testing.assert_allclose(bounds, exact, atol=0.3)
    np.testing.assert_allclose(np.mean(bounds - exact), 0, atol=0.03)
    kl = 0.5 * (variances + means**2 - 1 - np.log(variances))
    np.testing.assert_allclose(predict.latent_kl(model, X, context=C), kl, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(predict.decode(model, means, context=C), C * means, rtol=1e-5)
    np.testing.assert_allclose(predict.reconstruct(model, X, context=C), C * means, rtol=1e-5)
    ones = np.ones((4000, 3), np.float32)
    drawn = predict.sample(model, 4000, KEY, context=ones)
    np.testing.assert_allclose(np.cov(drawn.T), 1 + 0.25 * np.eye(3), atol=0.15)


def test_the_estimators_methods_are_these_functions(vae):
    model, X = vae.model_, MANY[:50].astype(np.float32)
    np.testing.assert_array_equal(predict.latent_mean(model, X), vae.transform(X))
    np.testing.assert_array_equal(predict.reconstruct(model, X), vae.reconstruct(X))
    np.testing.assert_array_equal(
        predict.decode(model, np.eye(2)), vae.inverse_transform(np.eye(2))
    )
    assert predict.sample(model, 3, KEY, mean=True).shape == vae.sample(3).shape


def test_a_row_has_the_same_number_whatever_comes_with_it(vae):
    X = MANY.astype(np.float32)
    all_of_them = predict.latent_mean(vae.model_, X)
    np.testing.assert_array_equal(predict.latent_mean(vae.model_, X[4000:]), all_of_them[4000:])


def blocks(function, n_rows=2048, n_blocks=3):
    """Return what a function of a model gives for rows that are the same in each block."""
    rows = np.tile(MANY[:n_rows], (n_blocks, 1))
    return np.split(function(rows), n_blocks)


@pytest.mark.parametrize(
    "setting",
    [
        lambda: jax.enable_x64(True),
        lambda: jax.default_matmul_precision("bfloat16"),
        lambda: jax.numpy_dtype_promotion("standard"),
        lambda: jax.default_device(jax.devices("cpu")[0]),
    ],
    ids=["64 bits", "precision", "promotion", "device"],
)
def test_what_is_set_around_a_call_holds_for_every_block(vae, setting):
    model = vae.model_
    with setting():
        first, *others = blocks(lambda rows: predict.latent_mean(model, rows))
        scores = blocks(lambda rows: predict.elbo(model, rows, KEY, n_draws=2), n_rows=16)
    for other in others:
        assert other.dtype == first.dtype
        np.testing.assert_array_equal(other, first)
    for score in scores[1:]:
        np.testing.assert_array_equal(score, scores[0])


def test_64_bits_are_64_bits_in_every_block():
    class Wide(LatentVariableModel):
        def prior(self):
            return dist.Normal()

        def likelihood(self, z):
            return dist.Normal(z, 1.0).expand([3]).to_event(1)

        def posterior(self, x):
            return dist.Normal(x[0], 1.0)

    with jax.enable_x64(True):
        means = predict.latent_mean(Wide(), MANY)
    assert means.dtype == np.float64
    np.testing.assert_array_equal(means, MANY[:, 0])  # float32 would round them


def test_predict_is_a_public_name():
    assert aevb.predict is predict
