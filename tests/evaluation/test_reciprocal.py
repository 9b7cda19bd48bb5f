"""Appendix D's estimate of log p(x), against the models whose log p(x) and posterior are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Joint, LatentVariableModel, log_likelihood, reciprocal_importance_sampling
from aevb.evaluation import posterior_draws
from aevb.evaluation.reciprocal import fitted_normal, log_reciprocal_mean

X = np.array([0.5, -1.0, 2.0, 0.3, -0.7])


@eqx.filter_jit
def over_keys(function, model, x, n_keys, **options):
    """Apply a function of model, x and key with many keys."""
    keys = jax.random.split(jax.random.key(0), n_keys)
    return jax.vmap(lambda key: function(model, x, key, **options))(keys)


def standard_error(values):
    return np.std(values) / np.sqrt(len(values))


def joint_of(model, draws):
    return jax.vmap(lambda z: model.prior().log_prob(z) + model.likelihood(z).log_prob(X))(draws)


def test_is_exact_with_the_exact_posterior(x64, linear_gaussian):
    # q(z) / p(x, z) is 1 / p(x) at every z, wherever that z comes from.
    model = linear_gaussian.random(5, 2)
    exact = model.exact_posterior(X)
    z = jax.random.normal(jax.random.key(0), (4, 7, 2))
    estimate = jax.jit(lambda z: log_reciprocal_mean(exact.log_prob(z), joint_of(model, z)))
    for draws in z:
        np.testing.assert_allclose(estimate(draws), model.log_evidence(X), rtol=1e-12)


def test_exact_draws_estimate_the_reciprocal_without_bias(x64, linear_gaussian):
    model = linear_gaussian.random(5, 2)
    exact = model.exact_posterior(X)
    mean, covariance = exact.mean, exact.covariance_matrix
    off = dist.MultivariateNormal(mean + 0.2, covariance_matrix=0.6 * covariance)

    def estimate(key):
        z = exact.sample(key, (10,))
        log_ratio = off.log_prob(z), joint_of(model, z)
        return log_reciprocal_mean(*log_ratio) - model.log_evidence(X)

    errors = jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(0), 4000))
    assert abs(np.exp(-errors).mean() - 1) < 4 * standard_error(np.exp(-errors))
    assert errors.mean() > 4 * standard_error(errors)  # biased upwards, as Jensen has it
    assert errors.mean() < 0.1


@pytest.mark.slow
def test_is_close_to_the_evidence_and_not_below(x64, linear_gaussian):
    model = linear_gaussian.random(5, 3, seed=3)
    noise = np.random.default_rng(0).normal(size=(200, 8))
    x = noise[:, :3] @ np.asarray(model.W).T + model.m + model.s * noise[:, 3:]
    keys = jax.random.split(jax.random.key(1), len(x))
    estimates = jax.jit(jax.vmap(lambda x, k: reciprocal_importance_sampling(model, x, k)))(x, keys)
    errors = estimates - jax.vmap(model.log_evidence)(x)
    assert errors.mean() > -4 * standard_error(errors)
    assert errors.mean() < 0.03
    assert np.std(errors) < 0.1
    assert np.mean(np.abs(errors) < 0.25) > 0.97


def both(model, x, **options):
    """Return the estimate and the draws of the same chain."""
    functions = reciprocal_importance_sampling, posterior_draws
    return jax.jit(lambda key: [f(model, x, key, **options) for f in functions])(jax.random.key(3))


@pytest.mark.slow
def test_settings_of_the_chain_are_passed_on(x64, linear_gaussian):
    options = {"n_draws": 20, "n_burn_in": 5, "n_leapfrog": 2, "n_starts": 10}
    estimate, draws = both(linear_gaussian.random(5, 2), X, **options)
    log_q = fitted_normal(draws.z[:10]).log_prob(draws.z[10:])
    expected = log_reciprocal_mean(log_q, draws.log_joint[10:])
    np.testing.assert_allclose(estimate, expected, rtol=1e-8)


def test_draws_are_of_the_exact_posterior(x64, linear_gaussian):
    # It starts from a recognition model that knows nothing of x, and finds the scales itself.
    model = linear_gaussian.random(5, 2)
    model = eqx.tree_at(lambda m: m.s, model, jnp.asarray(0.05))
    draws = over_keys(posterior_draws, model, X, 40, n_draws=100)
    assert draws.z.shape == (40, 100, 2)
    assert abs(draws.acceptance.mean() - 0.9) < 0.02
    exact = model.exact_posterior(X)
    scaled = (draws.z - exact.mean) @ np.linalg.inv(np.linalg.cholesky(exact.covariance_matrix)).T
    means = scaled.mean(axis=1)
    assert (np.abs(means.mean(axis=0)) < 4 * standard_error(means)).all()
    squares = (scaled**2).mean(axis=1)
    assert (np.abs(squares.mean(axis=0) - 1) < 4 * standard_error(squares)).all()
    likelihood = model.likelihood(draws.z[0, 0]).log_prob(X)
    joint = model.prior().log_prob(draws.z[0, 0]) + likelihood
    np.testing.assert_allclose(draws.log_joint[0, 0], joint, rtol=1e-8)


def test_fitted_normal_has_mean_and_covariance_of_the_draws():
    z = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    fitted = fitted_normal(z)
    np.testing.assert_allclose(fitted.mean, z.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(fitted.covariance_matrix, np.cov(z.T), rtol=1e-4, atol=1e-6)


class Curved(LatentVariableModel):
    """Binary pixels behind a nonlinear decoder, with a poor recognition model."""

    W: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        return aevb.GrayBernoulli(2 * jnp.tanh(self.W @ z) - 0.5).to_event(1)

    def posterior(self, x):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)


@pytest.mark.slow
def test_agrees_with_importance_sampling_on_a_curved_model():
    rng = np.random.default_rng(0)
    model = Curved(jnp.asarray(rng.normal(size=(12, 2)), jnp.float32))
    x = (rng.random(12) < 0.5).astype(np.float32)
    estimates = over_keys(reciprocal_importance_sampling, model, x, 50)
    reference = over_keys(log_likelihood, model, x, 50, n_draws=2000)
    miss = estimates.mean() - reference.mean()
    error = np.hypot(standard_error(estimates), standard_error(reference))
    assert -4 * error < miss < 4 * error + 0.02


class Sharp(LatentVariableModel):
    """x tells z to 1e-6: three transitions do not find so small a step."""

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(z, 1e-6)

    def posterior(self, x):
        return dist.Normal(x, 1e-6)


def test_a_chain_that_never_moves_has_no_estimate():
    estimate, draws = both(Sharp(), 0.5, n_draws=8, n_burn_in=3)
    assert np.ptp(draws.z) == 0
    assert np.isnan(estimate)


class TwoSided(LatentVariableModel):
    """x tells |z| alone; the recognition model knows one side only."""

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(jnp.abs(z), 0.1)

    def posterior(self, x):
        return dist.Normal(x, 0.1)


@pytest.mark.slow
def test_a_chain_that_sees_half_of_the_posterior_misses_log_two():
    # The other half of the starting points, draws from the prior, lets it see either half.
    half = dist.Normal(0.0, 1.01**0.5).log_prob(1.5)  # each side's share of p(x); x far from 0
    draws = over_keys(posterior_draws, TwoSided(), 1.5, 60)
    sides = np.sign(draws.z[..., 0])
    assert (sides == sides[:, :1]).all()
    assert 10 < (sides[:, 0] > 0).sum() < 50
    log_q = jax.vmap(lambda z: fitted_normal(z[:100]).log_prob(z[100:]))(draws.z)
    estimates = jax.vmap(log_reciprocal_mean)(log_q, draws.log_joint[:, 100:])
    np.testing.assert_allclose(estimates.mean(), half, atol=0.03)


class Layers(LatentVariableModel):
    """Two layers of latents, whose scalar ones are joined, and a context."""

    def prior(self, c):
        return Joint(top=dist.Normal(), bottom=lambda top: dist.Normal(top + c, 0.5))

    def likelihood(self, z, c):
        return dist.Normal(z["bottom"], 0.5)

    def posterior(self, x, c):
        return Joint(bottom=dist.Normal(x, 0.5), top=dist.Normal())


@pytest.mark.slow
def test_latents_may_be_joint_and_have_a_context():
    exact = dist.Normal(3.0, 1.5**0.5).log_prob(2.0)  # variances 1, 1/4 and 1/4
    estimates = over_keys(reciprocal_importance_sampling, Layers(), 2.0, 20, c=3.0)
    np.testing.assert_allclose(estimates.mean(), exact, atol=0.03)


class Of(LatentVariableModel):
    """A model of any prior."""

    p: dist.Distribution

    def prior(self):
        return self.p

    def likelihood(self, z):
        return dist.Normal(jnp.sum(z), 1.0)

    def posterior(self, x):
        return self.p


def test_more_than_four_dimensions_are_refused():
    model = Of(dist.Normal(jnp.zeros(5), 1.0).to_event(1))
    message = r"at most 4 latent dimensions of `Of`.*got 5\. `aevb\.log_likelihood` takes any"
    with pytest.raises(ValueError, match=message):
        reciprocal_importance_sampling(model, 0.0, jax.random.key(0))


@pytest.mark.parametrize("prior", [dist.Gamma(2.0), dist.Bernoulli(0.5)], ids=lambda p: repr(p)[:5])
def test_latents_with_bounds_and_discrete_ones_are_refused(prior):
    message = r"real latents without bounds from `Of\.prior` for Hamiltonian Monte Carlo"
    with pytest.raises(ValueError, match=message):
        reciprocal_importance_sampling(Of(prior), 0.0, jax.random.key(0))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_draws": 7}, ValueError, "at least 8 for `n_draws`; got 7"),
        ({"n_draws": 50.0}, TypeError, r"at least 8 for `n_draws`; got 50\.0"),
        ({"n_burn_in": 1}, ValueError, "at least 2 for `n_burn_in`; got 1"),
        ({"n_leapfrog": 0}, ValueError, "at least 1 for `n_leapfrog`; got 0"),
        ({"n_starts": 1}, ValueError, "at least 2 for `n_starts`; got 1"),
        ({"target_acceptance": 1.0}, ValueError, r"0 and 1 for `target_acceptance`; got 1\.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_settings_are_named(options, error, message):
    with pytest.raises(error, match=message):
        reciprocal_importance_sampling(TwoSided(), 1.5, jax.random.key(0), **options)
