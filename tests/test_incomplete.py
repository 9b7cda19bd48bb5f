"""Factor analysis of rows with holes: the maximum of the likelihood of what is observed."""

import numpy as np
import pytest
import sklearn.datasets
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis

from aevb import VAE
from aevb import incomplete as em
from aevb.factors import _regression

rng = np.random.default_rng(0)
LOADINGS = rng.normal(size=(6, 2))
NOISE = np.linspace(0.3, 0.8, 6)
MEAN = np.arange(6.0)


def draw(n, share=0.3, seed=0):
    rng = np.random.default_rng(seed)
    rows = MEAN + rng.normal(size=(n, 2)) @ LOADINGS.T + NOISE * rng.normal(size=(n, 6))
    return rows, rng.random(rows.shape) >= share


def fit(rows, observed, k=2, noise=None, weight=None, context=None):
    n = len(rows)
    weight = np.ones(n) if weight is None else weight
    context = np.zeros((n, 0)) if context is None else context
    return em.fit_incomplete(rows, observed, k, noise, weight, context)


def covariance(model):
    return model.loadings @ model.loadings.T + np.diag(model.noise**2)


def exact(model, rows, observed):
    """Return the mean log-likelihood of what is observed, a row at a time."""
    total = 0.0
    for row, there in zip(rows, observed, strict=True):
        if there.any():
            block = covariance(model)[np.ix_(there, there)]
            total += multivariate_normal(model.mean[there], block).logpdf(row[there])
    return total / len(rows)


def test_the_likelihood_is_that_of_the_normal_law_of_what_is_observed():
    rows, observed = draw(50)
    observed[3] = False
    model = em.IncompleteModel(MEAN, LOADINGS, np.zeros((6, 0)), NOISE)
    none, ones = np.zeros((50, 0)), np.ones(50)
    found = model.posterior(rows, observed, none)
    value = em._log_likelihood(model, rows, observed, ones, none, *found)
    assert np.isclose(value, exact(model, rows, observed), rtol=1e-9)
    z, own = found
    row, there = rows[0], observed[0]
    gain = LOADINGS[there].T @ np.linalg.inv(covariance(model)[np.ix_(there, there)])
    np.testing.assert_allclose(z[0], gain @ (row - MEAN)[there], rtol=1e-7)
    np.testing.assert_allclose(own[0], np.eye(2) - gain @ LOADINGS[there], atol=1e-7)
    np.testing.assert_allclose(z[3], 0)


def test_a_step_never_goes_down(monkeypatch):
    rows, observed = draw(200, 0.5)
    values = []
    step = em._step

    def watched(*arguments):
        model, value = step(*arguments)
        prior = np.sum(arguments[0].loadings ** 2 / arguments[0].noise[:, None] ** 2) / 2
        prior += 2 * np.sum(np.log(arguments[0].noise))  # N(0, noise²) of two loadings a column
        values.append(value - prior / len(rows))
        return model, value

    monkeypatch.setattr(em, "_step", watched)
    fit(rows, observed)
    assert len(values) > 3
    assert values[-1] > values[0]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_the_law_of_the_data_is_found(share):
    rows, observed = draw(4000, share)
    model = fit(np.where(observed, rows, 1e6), observed)
    np.testing.assert_allclose(model.mean, MEAN, atol=0.1)
    np.testing.assert_allclose(
        covariance(model), LOADINGS @ LOADINGS.T + np.diag(NOISE**2), atol=0.25
    )


def test_of_complete_rows_it_is_factor_analysis():
    rows, observed = draw(3000, 0.0)
    other = FactorAnalysis(2, tol=1e-8, max_iter=1000).fit(rows)
    assert abs(exact(fit(rows, observed), rows, observed) - other.score(rows)) < 1e-3


def test_weights_are_repeated_rows():
    """But for the prior of the loadings, which counts as much as a row of weight 1."""
    rows, observed = draw(2000)
    weight = np.arange(2000) % 3 + 1
    one = fit(rows, observed, weight=weight.astype(float))
    again = np.repeat(np.arange(2000), weight)
    other = fit(rows[again], observed[again])
    np.testing.assert_allclose(covariance(one), covariance(other), rtol=0.02, atol=0.02)


def test_the_unit_of_weights_does_not_matter():
    rows, observed = draw(80)
    weight = 1.0 + np.arange(80) % 3
    one, other = (fit(rows, observed, weight=unit * weight) for unit in (1, 1e-4))
    np.testing.assert_allclose(covariance(one), covariance(other), rtol=1e-6)


def test_a_few_rows_of_many_columns_are_regressed_by_a_small_system():
    rng = np.random.default_rng(0)
    known, target, weight = rng.normal(size=(30, 7)), rng.normal(size=30), rng.random(30) + 0.5
    wide = np.concatenate([known, np.zeros((30, 40))], axis=1)
    one, other = (_regression(each, target, weight) for each in (known, wide))
    np.testing.assert_allclose(other[0][:7], one[0], atol=1e-10)
    assert np.isclose(one[1], other[1]) and not other[0][7:].any()


def test_a_context_is_regressed_upon():
    rows, observed = draw(2000)
    context = np.random.default_rng(5).normal(size=(2000, 2))
    slopes = np.arange(12.0).reshape(6, 2) / 6
    model = fit(rows + context @ slopes.T, observed, context=context)
    np.testing.assert_allclose(model.slopes, slopes, atol=0.15)


def test_known_noise_stays():
    rows, observed = draw(500)
    assert (fit(rows, observed, noise=2 * NOISE).noise == 2 * NOISE).all()


@pytest.mark.parametrize("k", [1, 5, 9])
def test_odd_rows_are_fitted_as_well(k):
    rows, observed = draw(12, 0.4)
    rows[:, 1], observed[:, 2], observed[4] = 7.0, False, False
    model = fit(rows, observed, k)
    assert all(np.isfinite(part).all() for part in model)
    assert model.noise[1] == model.noise[2] == 0
    assert model.loadings.shape == (6, k)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_many_factors_of_few_values_are_no_trap(name):
    """Pairwise covariances of half the cells once led to a start 2,700 nats below others."""
    X = getattr(sklearn.datasets, f"load_{name}")().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.5, np.nan, X)
    options = {"random_state": 0, "verbose": False, "hidden": (32,)}
    start = VAE(10, epochs=1, learning_rate=1e-12, **options).fit(X)
    random = VAE(10, epochs=100, init="random", **options).fit(X)
    linear, other = (vae.log_likelihood(X, n_draws=500).mean() for vae in (start, random))
    assert linear > other + 0.1
