"""Evidence by importance sampling: its errors are what it says, where it says that they can be."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import genpareto, norm

from aevb import VAE, LatentVariableModel, given, log_likelihood, predict
from aevb.evaluation.importance import Evidence, evidence, pareto_shape
from aevb.inference.estimators import draw

X = np.linspace(-3, 3, 200)
EXACT = norm(0, np.sqrt(2)).logpdf(X)  # z ~ N(0, 1), x ~ N(z, 1)


class Shift(LatentVariableModel):
    """x ~ N(z, 1); q(z|x) = N(x/2 + off, scale²), exact at off 0 and scale √½."""

    scale: jax.Array
    off: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x):
        return dist.Normal(x / 2 + self.off, self.scale)


def model(scale, off=0.0):
    return Shift(jnp.array(scale), jnp.array(off))


def found(scale, off=0.0, n_draws=1000, key=0):
    return predict.evidence(model(scale, off), X, jax.random.key(key), n_draws=n_draws)


def test_of_the_exact_posterior_all_draws_agree():
    one = found(0.5**0.5)
    np.testing.assert_allclose(one.log_likelihood, EXACT, atol=1e-5)
    assert (one.standard_error < 1e-3).all() and (one.n_effective > 999.9).all()
    assert np.isnan(one.pareto_k).all() and one.reliable.all()


@pytest.mark.parametrize(("scale", "off"), [(0.9, 0.0), (1.5, 0.0), (0.8, 0.3)])
def test_errors_are_as_large_as_it_says(scale, off):
    one = found(scale, off)
    assert one.reliable.all()
    errors = (one.log_likelihood - EXACT) / one.standard_error
    assert 0.85 < np.sqrt(np.mean(errors**2)) < 1.15
    assert (abs(errors) < 5).all()


def test_the_bias_is_as_large_as_it_says():
    """Of few draws, averaged over 50 keys and 200 datapoints."""
    each = [found(1.8, n_draws=20, key=key) for key in range(50)]
    measured = np.mean([one.log_likelihood - EXACT for one in each])
    said = np.mean([one.bias for one in each])
    assert measured < 0
    np.testing.assert_allclose(said, measured, rtol=0.25)


def test_a_posterior_that_is_too_narrow_is_not_believed():
    one = found(0.15, n_draws=5000)  # of infinitely many draws the shape is 1 - 0.15² / 0.5 = 0.955
    assert 0.8 < one.pareto_k.mean() < 0.955
    assert one.reliable.mean() < 0.2
    assert abs((one.log_likelihood - EXACT) / one.standard_error).max() > 5  # rightly so
    assert "cannot be believed" in str(one)


def test_the_numbers_are_those_of_the_log_likelihood():
    key = jax.random.key(3)
    for n_draws in (1, 7, 130):
        one = evidence(model(1.2), jnp.array(0.4), key, n_draws=n_draws)
        other = log_likelihood(model(1.2), jnp.array(0.4), key, n_draws=n_draws)
        np.testing.assert_allclose(one.log_likelihood, other, rtol=1e-6)
        assert np.isnan(one.standard_error) == (n_draws == 1)


def test_it_is_said_of_the_weights_of_these_draws():
    """The draws of 130 in chunks of 50 are those of 50, of 50, and of the first 30 of 50."""
    view, key, x = model(1.2), jax.random.key(0), jnp.array(0.4)
    one = evidence(view, x, key, n_draws=130)
    keys = [jax.random.fold_in(key, i) for i in range(3)]
    log_w = jnp.concatenate([_log_weights(view, x, each, 50) for each in keys])[:130]
    w = np.exp(np.asarray(log_w, np.float64))
    assert np.isclose(one.log_likelihood, np.log(w.mean()), rtol=1e-5)
    assert np.isclose(one.n_effective, w.sum() ** 2 / (w**2).sum(), rtol=1e-4)
    assert np.isclose(one.standard_error, np.sqrt((130 / one.n_effective - 1) / 129), rtol=1e-4)
    largest = jnp.sort(log_w)[::-1][: min(35, 26) + 1]
    assert np.isclose(one.pareto_k, pareto_shape(largest), rtol=1e-4)


def _log_weights(view, x, key, n):
    draws = draw(given(view), x, key, n, pathwise=False)
    return draws.log_likelihood + draws.log_prior() - draws.log_posterior()


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.3, 0.6, 1.0])
def test_the_shape_of_a_pareto_tail_is_found(k):
    each = []
    for seed in range(20):
        draws = genpareto(k).rvs(4000, random_state=seed) + 1
        each.append(pareto_shape(jax.lax.top_k(jnp.log(jnp.asarray(draws)), 401)[0]))
    expected = (400 * k + 5) / 410  # drawn to a half
    assert abs(np.mean(each) - expected) < 4 * np.std(each) / np.sqrt(20) + 0.02


def test_from_few_weights_no_shape_is_estimated():
    assert np.isnan(pareto_shape(jnp.arange(5.0)[::-1]))
    assert np.isnan(found(1.2, n_draws=20).pareto_k).all()


def test_an_estimator_gives_it_with_conditions_and_exposures():
    rng = np.random.default_rng(0)
    counts, kind = rng.poisson(3, size=(40, 4)), np.arange(40) % 2
    options = {"hidden": (8,), "epochs": 2, "random_state": 0, "verbose": False}
    vae = VAE(2, likelihood="poisson", **options)
    vae.fit(counts, condition=kind, exposure="total")
    one = vae.evidence(counts, 200, condition=kind)
    assert isinstance(one, Evidence)
    np.testing.assert_allclose(
        one.log_likelihood, vae.log_likelihood(counts, 200, condition=kind), rtol=1e-5
    )
    said = str(one)
    assert "40 cases by 200 draws each" in said and "standard error over the cases" in said
