"""Annealed importance sampling, and all estimates of log p(x) beside the closed form."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

from aevb import VAE, Joint, LatentVariableModel, predict
from aevb.evaluation import (
    Annealed,
    Importance,
    Reciprocal,
    Sandwich,
    annealed_importance_sampling,
    evidence,
    sandwich,
)
from aevb.evaluation.annealed import temperatures
from aevb.evaluation.importance import evidence_of

X = np.array([0.5, -1.0, 2.0, 0.3, -0.7])


def simulated(model, n, seed=0):
    """Draw datapoints of a linear-Gaussian model."""
    noise = np.random.default_rng(seed).normal(size=(n, sum(model.W.shape)))
    z, rest = np.split(noise, [model.W.shape[1]], axis=1)
    return z @ np.asarray(model.W).T + np.asarray(model.m) + float(model.s) * rest


@eqx.filter_jit
def over_keys(function, n, seed=0):
    return jax.vmap(function)(jax.random.split(jax.random.key(seed), n))


@eqx.filter_jit
def one_row(model, x, settings=Annealed(), n_chains=16):  # noqa: B008
    key = jax.random.key(0)
    return annealed_importance_sampling(model, x, key, n_chains=n_chains, settings=settings)


def mean_and_error(values):
    values = np.asarray(values, np.float64)
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


METHODS = {
    "importance": (Importance(), 5000),
    "annealed": (Annealed(), 32),
    "annealed from the prior": (Annealed(n_temperatures=300, start="prior"), 32),
    "reciprocal": (Reciprocal(), 32),
}


@pytest.mark.parametrize("name", METHODS)
def test_each_agrees_with_the_closed_form_within_its_own_error(x64, linear_gaussian, name):
    model = linear_gaussian.random(5, 2)
    rows = simulated(model, 12)
    method, n_draws = METHODS[name]
    found = predict.evidence(model, rows, jax.random.key(1), n_draws=n_draws, method=method)
    error = found.log_likelihood - jax.vmap(model.log_evidence)(jnp.asarray(rows))
    assert (found.standard_error > 0).all() and found.standard_error.max() < 0.3
    assert (abs(error) <= 4 * found.standard_error + abs(found.bias)).all()
    assert np.sqrt(np.mean((error / found.standard_error) ** 2)) > 0.3  # and not far too large


@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_weights_estimate_the_evidence_without_bias(x64, linear_gaussian, start):
    """Over runs with pilots of their own, with few temperatures, so that the weights differ."""
    model, settings = linear_gaussian.random(5, 2), Annealed(n_temperatures=8, start=start)
    found = over_keys(
        lambda key: annealed_importance_sampling(model, X, key, n_chains=16, settings=settings),
        2000,
    )
    ratio = np.exp(found.log_likelihood - model.log_evidence(X))
    mean, error = mean_and_error(ratio)
    assert 0.005 < error < 0.05
    assert abs(mean - 1) < 4 * error


def test_the_reverse_estimates_the_reciprocal_without_bias(x64, linear_gaussian):
    """Over simulated data, with one chain: E[p(x) / w] = 1, whatever x was simulated."""
    settings = Annealed(n_temperatures=8)
    model = linear_gaussian.random(5, 2)

    def one(key):
        z_key, x_key, *_ = jax.random.split(key, 6)  # as `sandwich` splits it
        x = model.likelihood(model.prior().sample(z_key)).sample(x_key)
        found = sandwich(model, key, n_chains=1, settings=settings)
        exact = model.log_evidence(x)
        return found.lower - exact, found.upper - exact

    below, above = over_keys(one, 4000)
    mean, error = mean_and_error(np.exp(-above))
    assert error < 0.05
    assert abs(mean - 1) < 4 * error
    mean, error = mean_and_error(below)
    assert mean < -4 * error
    mean, error = mean_and_error(above)
    assert mean > 4 * error


@pytest.mark.slow
def test_more_temperatures_from_a_bad_start_tighten_the_sandwich(x64, linear_gaussian):
    """With one chain the gap is a divergence, which falls like 1 / n."""
    model = linear_gaussian.random(5, 2)
    model = eqx.tree_at(lambda m: m.s, model, jnp.asarray(0.2))  # the prior is far off

    def found(n):
        settings = Annealed(n_temperatures=n, start="prior")
        return over_keys(lambda key: sandwich(model, key, n_chains=1, settings=settings), 100)

    few, more, many = (found(n) for n in (3, 30, 300))
    assert few.mean_gap > 3 * more.mean_gap > 9 * many.mean_gap
    assert few.mean_gap > 4 * few.mean_gap_se
    assert -4 * many.mean_gap_se < many.mean_gap < 0.5


def test_with_the_exact_posterior_both_bounds_are_the_evidence(x64, linear_gaussian):
    model = linear_gaussian.random(5, 2, orthogonal=True).with_best_posterior()
    found = predict.sandwich(model, 6, jax.random.key(0), n_chains=2)
    np.testing.assert_allclose(found.lower, found.upper, rtol=1e-9)
    one = one_row(model, X, n_chains=4)
    np.testing.assert_allclose(one.log_likelihood, model.log_evidence(X), rtol=1e-9)
    np.testing.assert_allclose([one.n_effective, one.n_draws], 4, rtol=1e-9)


def test_without_temperatures_it_is_importance_sampling(x64, linear_gaussian):
    """Both have the same law of the weights: their errors are those of as many draws."""
    model = linear_gaussian.random(5, 2)
    none = Annealed(n_temperatures=0)
    found = over_keys(
        lambda key: annealed_importance_sampling(model, X, key, n_chains=50, settings=none), 400
    )
    other = over_keys(lambda key: evidence(model, X, key, n_draws=50), 400, seed=1)
    for one, two in zip(found[:3], other[:3], strict=True):
        (mean, error), (mean_2, error_2) = mean_and_error(one), mean_and_error(two)
        assert abs(mean - mean_2) < 4 * np.hypot(error, error_2)


def test_temperatures_rise_from_0_to_1_and_lie_dense_at_both_ends():
    found = temperatures(9)
    rises = np.diff(found)
    assert (found[0], found[5], found[-1]) == (0, 0.5, 1)
    assert (np.diff(rises[:5]) > 0).all()
    np.testing.assert_allclose(rises, rises[::-1])
    np.testing.assert_array_equal(temperatures(0), [0, 1])


def test_step_sizes_fit_posteriors_of_any_scale(x64, linear_gaussian):
    """One latent is known a hundred times as well as the other: unit masses would not move it."""
    model = linear_gaussian.random(5, 2)
    model = eqx.tree_at(lambda m: m.W, model, model.W * jnp.array([30.0, 0.3]))
    for settings in (Annealed(start="prior", n_temperatures=1000), Annealed()):
        best = model.with_best_posterior() if settings.start == "posterior" else model
        found = one_row(best, X, settings)
        error = found.log_likelihood - model.log_evidence(X)
        assert found.standard_error < 0.5
        assert abs(error) < 4 * found.standard_error + 1e-3


def test_the_error_of_few_weights_is_that_of_their_mean():
    w = np.array([1.0, 2.0, 4.0, 3.0])
    found = evidence_of(jnp.log(jnp.asarray(w)))
    assert np.isclose(found.log_likelihood, np.log(w.mean()))
    assert np.isclose(found.standard_error, w.std(ddof=1) / 2 / w.mean(), rtol=1e-5)
    assert np.isclose(found.bias, -(found.standard_error**2) / 2)
    assert np.isnan(evidence_of(jnp.zeros(1)).standard_error)


class Layers(LatentVariableModel):
    """Two layers of latents, and a context."""

    def prior(self, c):
        return Joint(top=dist.Normal(), bottom=lambda top: dist.Normal(top + c, 0.5))

    def likelihood(self, z, c):
        return dist.Normal(z["bottom"], 0.5)

    def posterior(self, x, c):
        return Joint(bottom=dist.Normal(x, 0.5), top=dist.Normal())


def test_layers_and_contexts(x64):
    contexts, rows = jnp.array([0.0, 3.0]), jnp.array([1.0, 1.0])
    found = predict.evidence(Layers(), rows, jax.random.key(0), context=contexts, method="annealed")
    exact = dist.Normal(contexts, 1.5**0.5).log_prob(rows)
    assert (abs(found.log_likelihood - exact) < 4 * found.standard_error + 1e-6).all()
    bounds = predict.sandwich(Layers(), 2, jax.random.key(0), context=contexts)
    assert abs(bounds.gap).max() < 0.5


class Bounded(LatentVariableModel):
    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x):
        return dist.Uniform(x - 1, x + 1)


def test_latents_with_bounds_are_refused():
    with pytest.raises(ValueError, match=r"without bounds from `Bounded.posterior`.*Uniform"):
        annealed_importance_sampling(Bounded(), jnp.array(0.3), jax.random.key(0))
    found = one_row(Bounded(), jnp.array(0.3), Annealed(start="prior"))
    exact = dist.Normal(0.0, 2**0.5).log_prob(0.3)
    assert abs(found.log_likelihood - exact) < 4 * found.standard_error


@pytest.fixture(scope="module")
def vae():
    rows = (np.random.default_rng(0).random((60, 6)) < 0.4).astype(np.float32)
    options = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False}
    return VAE(2, likelihood="bernoulli", **options).fit(rows), rows


@pytest.mark.parametrize("method", ["annealed", "reciprocal"])
def test_a_row_has_its_own_numbers_whatever_comes_with_it(vae, method):
    vae, rows = vae
    all_of_them = vae.evidence(rows[:9], method=method)
    some = vae.evidence(rows[[7, 2]], method=method)
    for one, other in zip(all_of_them, some, strict=True):
        np.testing.assert_array_equal(one[[7, 2]], other)
    again, others = (vae.evidence(rows[:1], method=method, random_state=seed) for seed in (0, 1))
    assert again.log_likelihood[0] == all_of_them.log_likelihood[0] != others.log_likelihood[0]


def test_an_estimator_agrees_with_itself(vae):
    vae, rows = vae
    base = vae.evidence(rows[:8], 5000)
    np.testing.assert_array_equal(base.log_likelihood, vae.log_likelihood(rows[:8], 5000))
    for method in ("annealed", "reciprocal"):
        other = vae.evidence(rows[:8], method=method)
        assert (other.n_draws == 16).all()
        error = np.hypot(base.standard_error, other.standard_error)
        assert (abs(other.log_likelihood - base.log_likelihood) < 4 * error + 1e-3).all()
    assert (vae.evidence(rows[:2]).n_draws == 1000).all()


def test_a_sandwich_of_an_estimator(vae):
    vae, _ = vae
    found = vae.sandwich(20, n_chains=4)
    assert isinstance(found, Sandwich)
    assert found.lower.shape == found.upper.shape == found.gap.shape == (20,)
    np.testing.assert_array_equal(found.lower, vae.sandwich(20, n_chains=4).lower)
    assert abs(found.mean_gap) < 4 * found.mean_gap_se + 0.01
    said = str(found)
    assert "20 simulated cases, 4 chains each way" in said and "upper bound" in said
    assert "±" not in str(vae.sandwich(1, n_chains=4)) and "nan" not in said


@pytest.mark.slow
def test_simulated_cases_have_conditions_and_exposures():
    rng = np.random.default_rng(0)
    counts, kind = rng.poisson(3, size=(40, 4)), np.arange(40) % 2
    options = {"hidden": (8,), "epochs": 2, "random_state": 0, "verbose": False}
    vae = VAE(2, likelihood="poisson", **options)
    vae.fit(counts, condition=kind, exposure="total")
    few, many = (vae.sandwich(6, 4, condition=1, exposure=n) for n in (1, 1000))
    assert few.lower.mean() > many.lower.mean()  # counts near 0 are easier to foretell
    assert np.isfinite([few.gap, many.gap]).all()


@pytest.mark.slow
def test_tables_with_holes_are_annealed_and_simulated():
    rng = np.random.default_rng(0)
    z = rng.normal(size=60)
    table = pd.DataFrame({"size": z + rng.normal(size=60), "eggs": rng.poisson(np.exp(z / 2))})
    table["sex"] = np.where(z + rng.normal(size=60) > 0, "f", "m")
    table["size"] = table["size"].where(np.arange(60) % 3 > 0)
    vae = VAE(1, hidden=(4,), epochs=3, random_state=0, verbose=False).fit(table)
    base, found = vae.evidence(table[:6], 5000), vae.evidence(table[:6], method="annealed")
    error = np.hypot(base.standard_error, found.standard_error)
    assert (abs(base.log_likelihood - found.log_likelihood) < 4 * error + 1e-3).all()
    bounds = vae.sandwich(20, 4)
    assert abs(bounds.mean_gap) < 4 * bounds.mean_gap_se + 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda vae, x: vae.evidence(x, method="aneal"), "Did you mean 'annealed'"),
        (lambda vae, x: vae.evidence(x, 0, method="annealed"), "n_draws.*got 0"),
        (lambda vae, x: vae.sandwich(0), "n_samples.*got 0"),
        (lambda vae, x: vae.sandwich(2, n_chains=0), "n_chains.*got 0"),
        (lambda vae, x: vae.sandwich(2, method="importance"), "'annealed' or .*got 'importance'"),
        (lambda vae, x: Annealed(n_temperatures=-1), "n_temperatures.*got -1"),
        (lambda vae, x: Annealed(start="middle"), "'posterior', 'prior' for `start`"),
        (lambda vae, x: Annealed(target_acceptance=1.0), "between 0 and 1.*got 1.0"),
        (lambda vae, x: Reciprocal(n_burn_in=1), "n_burn_in.*got 1"),
        (lambda vae, x: Importance(chunk=0), "chunk.*got 0"),
    ],
)
def test_what_does_not_fit_is_refused(vae, own_messages, call, message):
    with pytest.raises(ValueError, match=message):
        call(*vae)


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["full-normal", "mixture", "iaf", "coupling", "student-t"])
def test_any_posterior_without_bounds_is_a_start(vae, posterior):
    _, rows = vae
    options = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False}
    other = VAE(2, likelihood="bernoulli", posterior=posterior, **options).fit(rows)
    found, base = other.evidence(rows[:4], method="annealed"), other.evidence(rows[:4], 20_000)
    error = np.hypot(base.standard_error, found.standard_error)
    assert (abs(found.log_likelihood - base.log_likelihood) < 4 * error + 1e-3).all()
    bounds = other.sandwich(10, 4)
    assert abs(bounds.mean_gap) < 4 * bounds.mean_gap_se + 0.02
