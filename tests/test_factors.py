"""Factor analysis of the data, and the model that begins there."""

from __future__ import annotations

import functools

import jax
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
import sklearn.datasets
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import LinearRegression

from aevb import MLP, VAE, Gaussian, datasets, posteriors
from aevb.factors import FactorModel, Moments, first_noise, fit_factors, linear_start
from aevb.models.autoencoder import build_autoencoder
from aevb.models.kinds.case import CaseBlock
from aevb.models.linear import Departure, no_start
from aevb.schema import Schema

IRIS = sklearn.datasets.load_iris().data
WINE = sklearn.datasets.load_wine().data
STILL = {"epochs": 1, "learning_rate": 1e-12, "random_state": 0, "init": "linear"}


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_moments_of_chunks_are_those_of_all_rows(size):
    chunks = [WINE[i : i + size] for i in range(0, len(WINE), size)]
    n, mean, products = functools.reduce(Moments.merge, map(Moments.of, chunks))
    assert n == len(WINE)
    np.testing.assert_allclose(mean, WINE.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(products / n, np.cov(WINE.T, bias=True), rtol=1e-9, atol=1e-9)


def test_a_few_rows_stand_for_the_moments():
    moments = Moments.of(WINE)
    few = moments.rows()
    assert len(few) == 2 * WINE.shape[1]
    np.testing.assert_allclose(few.mean(axis=0), moments.mean, rtol=1e-9)
    covariance = np.cov(WINE.T, bias=True)
    np.testing.assert_allclose(np.cov(few.T, bias=True), covariance, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_with_its_own_noise_known_it_is_probabilistic_pca(latent_dim):
    X = standardised(IRIS)
    pca = PCA(latent_dim).fit(X)
    n = len(X)  # scikit-learn divides by n - 1
    noise = np.full(4, np.sqrt(pca.noise_variance_ * (n - 1) / n))
    model = fit_factors(X, latent_dim, noise)
    covariance = model.loadings @ model.loadings.T + np.diag(noise**2)
    np.testing.assert_allclose(covariance, pca.get_covariance() * (n - 1) / n, atol=1e-12)


def test_many_columns_are_factored_as_few_are():
    rng = np.random.default_rng(0)
    W, noise = rng.normal(size=(700, 3)), np.full(700, 0.5)
    X = rng.normal(size=(900, 3)) @ W.T + noise * rng.normal(size=(900, 700))
    model = fit_factors(X, 3, noise)
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    exact = (vectors[:, -3:] * (values[-3:] - 0.25)) @ vectors[:, -3:].T
    np.testing.assert_allclose(model.loadings @ model.loadings.T, exact, atol=1e-3)
    learned = fit_factors(X, 3, None)
    np.testing.assert_allclose(learned.noise, 0.5, rtol=0.15)


def test_recognition_is_the_exact_posterior_and_diagonal():
    rng = np.random.default_rng(1)
    given = FactorModel(rng.normal(size=6), rng.normal(size=(6, 3)), rng.uniform(0.3, 2, 6))
    model, weights, scale = given.recognise()
    covariance = given.loadings @ given.loadings.T
    np.testing.assert_allclose(model.loadings @ model.loadings.T, covariance, atol=1e-12)
    total = covariance + np.diag(given.noise**2)
    np.testing.assert_allclose(weights, model.loadings.T @ np.linalg.inv(total), atol=1e-12)
    exact = np.eye(3) - weights @ model.loadings
    np.testing.assert_allclose(exact, np.diag(scale**2), atol=1e-12)
    assert np.all(np.diff(scale) > 0)  # the best known first


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("likelihood", "posterior"),
    [
        ("gaussian", "normal"),
        ("gaussian", "full-normal"),
        (Gaussian("per-datapoint"), "normal"),
        (Gaussian(0.4), "normal"),
    ],
)
def test_the_model_begins_at_factor_analysis(likelihood, posterior):
    """Where q is exact, every importance weight is p(x): there is no error of simulation."""
    X = np.float32(IRIS)
    vae = VAE(2, likelihood=likelihood, posterior=posterior, **STILL).fit(X)
    location = vae.model_.decoder.head.location.linear.start.value
    W = np.float64(location.weight) * X.std(axis=0)[:, None]
    scale = np.asarray(vae.model_.likelihood(np.zeros(2)).variance) ** 0.5
    mean = X.mean(axis=0) + location.bias * X.std(axis=0)
    expected = scipy.stats.multivariate_normal(mean, W @ W.T + np.diag(scale**2)).logpdf(X)
    one_draw = vae.log_likelihood(X, n_draws=1)
    np.testing.assert_allclose(one_draw, expected, atol=2e-3)
    assert vae.score(X) == pytest.approx(expected.mean(), abs=0.05)  # the bound is tight


@pytest.mark.parametrize("posterior", [posteriors.LowRankNormal(2), posteriors.Mixture(3)])
def test_other_gaussian_posteriors_begin_near_the_exact_one(posterior):
    """Near only: the columns of V, and the components, must differ to be learned."""
    exact, near = (
        VAE(2, likelihood="gaussian", posterior=each, **STILL).fit(IRIS)
        for each in ("normal", posterior)
    )
    assert near.config_.init == "linear"
    np.testing.assert_allclose(
        near.log_likelihood(IRIS, n_draws=100), exact.log_likelihood(IRIS, n_draws=1), atol=0.1
    )
    assert exact.score(IRIS) - 0.2 < near.score(IRIS)


@pytest.mark.quick(1)
@pytest.mark.parametrize(("X", "k"), [(IRIS, 1), (WINE, 2), (WINE, 5)])
def test_the_start_is_as_good_as_scikit_learns(X, k):
    X = np.float32(standardised(X))
    vae = VAE(k, likelihood="gaussian", **STILL).fit(X)
    best = FactorAnalysis(k, tol=1e-6, max_iter=20_000, svd_method="lapack").fit(X).score(X)
    assert vae.log_likelihood(X, n_draws=1).mean() > best - 0.02  # there are several maxima


@pytest.mark.parametrize(("X", "k"), [(IRIS, 3), (IRIS, 4), (IRIS, 9), (WINE, 13), (WINE, 20)])
def test_as_many_factors_as_columns_describe_any_covariance(X, k):
    """From the columns' variances, scikit-learn's search stops 1.3 nats below on iris."""
    X = standardised(X)
    model = fit_factors(X, k, None)
    covariance = model.loadings @ model.loadings.T + np.diag(model.noise**2)
    score = scipy.stats.multivariate_normal(model.mean, covariance).logpdf(X).mean()
    full = scipy.stats.multivariate_normal(X.mean(axis=0), np.cov(X.T, bias=True)).logpdf(X).mean()
    assert full - 0.05 < score < full + 1e-9


def test_the_first_noise_is_what_regression_leaves():
    X = standardised(WINE)
    left = [
        X[:, j] - LinearRegression().fit(others, X[:, j]).predict(others)
        for j, others in ((j, np.delete(X, j, axis=1)) for j in range(X.shape[1]))
    ]
    np.testing.assert_allclose(first_noise(X, 0), np.var(left, axis=1), rtol=1e-6)


@pytest.mark.parametrize("rows", [WINE[:6], np.c_[WINE, WINE.sum(axis=1)]])
def test_columns_that_others_determine_have_a_first_noise_as_well(rows):
    noise = first_noise(rows, 2)
    assert np.all(np.isfinite(noise) & (noise > 0) & (noise <= rows.var(axis=0)))


@pytest.mark.slow
def test_digits_begin_far_above_independent_pixels():
    X = datasets.load_digits().train.images
    started = VAE(5, likelihood="bernoulli", **STILL).fit(X).score(X)
    independent = VAE(5, likelihood="bernoulli", **{**STILL, "init": "random"}).fit(X).score(X)
    assert started > independent + 1.5


@pytest.mark.slow
def test_training_goes_up_from_there():
    rng = np.random.default_rng(0)
    t = rng.normal(size=500)
    X = np.column_stack([t, t**2, np.sin(2 * t)]) + 0.1 * rng.normal(size=(500, 3))
    start = VAE(1, **STILL).fit(X).score(X)
    vae = VAE(1, init="linear", epochs=100, random_state=0).fit(X)
    assert vae.score(X) > start + 0.5


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "X",
    [
        np.random.default_rng(0).normal(size=(12, 40)),
        np.random.default_rng(0).normal(size=(30, 300)),
        np.column_stack([IRIS, np.ones(150)]),
        np.column_stack([IRIS, IRIS[:, 0]]),
        1e-30 * IRIS,
        IRIS[:, :1],
        np.random.default_rng(0).normal(size=(20, 3, 4)),
    ],
    ids=["few rows", "many columns", "constant", "copied", "small", "one column", "images"],
)
def test_odd_data_start_as_well(X):
    vae = VAE(5, likelihood="gaussian", init="linear", epochs=2, random_state=0).fit(X)
    assert vae.config_.init == "linear"
    assert np.all(np.isfinite(vae.score_samples(X)))
    assert np.all(np.isfinite(vae.transform(X)))


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "options",
    [
        {"posterior": "iaf"},
        {"posterior": "gamma", "prior": dist.Gamma(2.0, 1.0)},
        {"decoder": MLP(2, (5,), "relu", key=jax.random.key(0))},
    ],
    ids=["flow", "gamma", "own decoder"],
)
def test_what_cannot_start_linear_starts_at_random(options):
    vae = VAE(2, init="linear", epochs=1, hidden=(5,), random_state=0, **options).fit(IRIS)
    assert vae.config_.init == "random"
    leaves = jax.tree.leaves(vae.model_, is_leaf=lambda node: isinstance(node, Departure))
    assert not any(isinstance(leaf, Departure) for leaf in leaves)


def test_a_saved_start_is_loaded_again(tmp_path):
    vae = VAE(2, init="linear", epochs=2, hidden=(5,), random_state=0).fit(IRIS)
    vae.save(tmp_path / "model")
    loaded = VAE.load(tmp_path / "model")
    assert loaded.config_.init == "linear"
    np.testing.assert_array_equal(loaded.transform(IRIS), vae.transform(IRIS))
    np.testing.assert_array_equal(loaded.score_samples(IRIS), vae.score_samples(IRIS))


def test_the_start_itself_stays_where_it_is():
    first = VAE(2, init="linear", epochs=1, hidden=(5,), random_state=0).fit(IRIS)
    later = VAE(2, init="linear", epochs=9, hidden=(5,), random_state=0).fit(IRIS)
    for parts in zip(
        *(jax.tree.leaves(vae.model_.decoder.head.location.linear.start) for vae in (first, later)),
        strict=True,
    ):
        np.testing.assert_array_equal(*parts)


@pytest.mark.slow
def test_blocks_of_a_case_start_where_one_block_would():
    key, X = jax.random.key(0), np.float32(IRIS)
    whole = Schema.fit(X, "gaussian")
    start = linear_start(whole.block, whole.likelihood.working(whole.measured), X, 2)
    parts = {"sepal": X[:, :2], "petal": X[:, 2:]}
    block = CaseBlock({name: Schema.fit(part, "gaussian").block for name, part in parts.items()})
    one = build_autoencoder(whole.block, 2, start=start, key=key).likelihood(np.ones(2))
    several = build_autoencoder(block, 2, start=start, key=key).likelihood(np.ones(2)).parts
    for statistic in ("mean", "variance"):
        joined = np.concatenate([getattr(several[name], statistic) for name in parts])
        np.testing.assert_allclose(joined, getattr(one, statistic), rtol=1e-5)


def test_a_start_needs_a_posterior_that_can_begin_there():
    schema = Schema.fit(np.float32(IRIS), "gaussian")
    with pytest.raises(ValueError, match=r"Gaussian `posterior`.*got Reparameterised"):
        build_autoencoder(
            schema.block,
            2,
            posterior=posteriors.Reparameterised("laplace"),
            start=no_start(schema.block, 2),
            key=jax.random.key(0),
        )


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match=r"`init`; got 'lineal'\. Did you mean 'linear'"):
        VAE(init="lineal").fit(IRIS)
