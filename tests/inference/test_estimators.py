"""The estimators that differentiate through z: importance-weighted, sticking the landing, DReG.

Averages over many draws are held to four standard errors of their exact values, with fixed keys.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree

from aevb import LatentVariableModel, sgvb
from aevb.inference.estimators import ESTIMATORS, Estimate, estimator_a, importance_weighted
from aevb.inference.sgvb import SGVB
from aevb.inference.training import Batch
from aevb.models import given

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([0.5, -1.0, 2.0])
N_KEYS = 20_000  # the same everywhere, for tests to share what is compiled


@pytest.fixture
def model(linear_gaussian):
    return linear_gaussian.random(3, 2)


@pytest.fixture
def exact(linear_gaussian):
    """A model whose q is the exact posterior."""
    return linear_gaussian.random(3, 2, orthogonal=True).with_best_posterior()


@eqx.filter_jit
def estimates(model, bound, n_draws=1, n_keys=N_KEYS, x=X):
    """Estimate the bound and its gradient, a PyTree like the model, with many keys."""

    def one(key):
        return jax.value_and_grad(lambda m: sgvb(m, x, key, estimator=bound, n_draws=n_draws))(
            model
        )

    return jax.vmap(one)(jax.random.split(jax.random.key(1), n_keys))


def assert_mean(values, expected):
    values = np.asarray(values)
    standard_error = values.std(axis=0) / np.sqrt(len(values))
    assert (abs(values.mean(axis=0) - expected) < 4 * standard_error + 1e-12).all()


def assert_means(trees, expected):
    jax.tree.map(assert_mean, trees, expected)


def variance(gradients):
    return np.asarray(gradients).var(axis=0).sum()


class Tied(LatentVariableModel):
    """A linear-Gaussian model whose encoder is the decoder's transpose: one array serves both."""

    W: jax.Array
    linear_gaussian: type = eqx.field(static=True)

    @property
    def untied(self):
        d = jnp.array([0.3, 0.6])
        return self.linear_gaussian(self.W, jnp.zeros(3), jnp.asarray(0.7), 0.4 * self.W.T, d)

    def prior(self):
        return self.untied.prior()

    def likelihood(self, z):
        return self.untied.likelihood(z)

    def posterior(self, x):
        return self.untied.posterior(x)


# Sticking the landing.


def test_gradients_of_shared_parameters_are_unbiased(linear_gaussian):
    tied = Tied(linear_gaussian.random(3, 2).W, linear_gaussian)
    values, gradients = estimates(tied, "stl")
    expected, gradient = jax.jit(jax.value_and_grad(lambda m: m.untied.exact_elbo(X)))(tied)
    assert_mean(values, expected)
    assert_means(gradients, gradient)


def test_sticking_the_landing_is_unbiased(model):
    values, gradients = estimates(model, "stl")
    expected, gradient = jax.jit(jax.value_and_grad(lambda m: m.exact_elbo(X)))(model)
    assert_mean(values, expected)
    assert_means(gradients, gradient)


@pytest.mark.parametrize(("bound", "n_draws"), [("stl", 1), ("dreg", 3)])
def test_at_the_exact_posterior_its_gradient_is_zero_for_every_draw(exact, bound, n_draws):
    values, gradients = estimates(exact, bound, n_draws)
    evidence, gradient = jax.jit(jax.value_and_grad(lambda m: m.log_evidence(X)))(exact)
    np.testing.assert_allclose(values, evidence, rtol=1e-12)
    np.testing.assert_allclose(gradients.V, 0, atol=1e-10)
    np.testing.assert_allclose(gradients.d, 0, atol=1e-10)
    # In θ it is that of the evidence (Fisher's identity), also in m, which the posterior shares.
    for name in ("W", "m", "s"):
        assert variance(getattr(gradients, name)) > 0.1
        assert_mean(getattr(gradients, name), getattr(gradient, name))


def test_estimator_a_keeps_the_score_there(exact):
    _, gradients = estimates(exact, "A")
    assert variance(gradients.V) > 0.1
    assert_mean(gradients.V, np.zeros_like(exact.V))


# The importance-weighted bound.


def test_one_importance_sample_is_estimator_a(model):
    one, a = (estimates(model, bound) for bound in ("iw", "A"))
    jax.tree.map(lambda b, c: np.testing.assert_allclose(b, c, rtol=1e-10), one, a)


@eqx.filter_jit
def importance_weighted_bounds(model, k, n_keys):
    keys = jax.random.split(jax.random.key(2), n_keys)
    return jax.vmap(lambda key: sgvb(model, X, key, estimator="iw", n_draws=k))(keys)


@pytest.mark.slow
def test_importance_weighted_bound_rises_to_the_evidence(model):
    model = eqx.tree_at(lambda m: m.d, model.with_best_posterior(), replace_fn=lambda d: 2 * d)
    sizes = ((1, 8000), (4, 8000), (200, 400))
    one, four, many = (np.asarray(importance_weighted_bounds(model, k, n)) for k, n in sizes)
    evidence, error = model.log_evidence(X), np.hypot(one.std(), four.std()) / 8000**0.5
    assert_mean(one, model.exact_elbo(X))
    assert four.mean() - one.mean() > 4 * error
    assert evidence - four.mean() > 4 * four.std() / 8000**0.5
    # With many draws the gap to the evidence is half the variance.
    assert many.var() < 0.02
    assert_mean(many + many.var() / 2, evidence)


def test_all_importance_weights_are_the_evidence_at_the_exact_posterior(exact):
    values, _ = estimates(exact, "iw", 3)
    np.testing.assert_allclose(values, exact.log_evidence(X), rtol=1e-12)


# DReG.


def test_one_doubly_reparameterised_sample_sticks_the_landing(model):
    one, stl = (estimates(model, bound) for bound in ("dreg", "stl"))
    jax.tree.map(lambda b, c: np.testing.assert_allclose(b, c, rtol=1e-10, atol=1e-12), one, stl)


def test_dreg_has_the_expectation_of_the_importance_weighted_gradient(linear_gaussian, model):
    for each in model, Tied(model.W, linear_gaussian):
        (value, dreg), (iw, plain) = estimates(each, "dreg", 3), estimates(each, "iw", 3)
        np.testing.assert_allclose(value, iw, rtol=1e-12)
        # The draws are the same, so that the difference has the smaller standard error.
        difference = jax.tree.map(jnp.subtract, plain, dreg)
        assert_means(difference, jax.tree.map(jnp.zeros_like, each))


def test_dreg_varies_less_near_the_optimum(model):
    model = model.with_best_posterior()
    (_, plain), (_, dreg) = estimates(model, "iw", 3), estimates(model, "dreg", 3)
    assert variance(dreg.V) < variance(plain.V) / 3
    assert variance(dreg.d) < variance(plain.d) / 3
    np.testing.assert_allclose(dreg.W, plain.W, rtol=1e-8)  # the gradient in θ is the same


def doubly_reparameterised_by_hand(model, x, key, k):
    """Σ w̃² (∂log w/∂z)(∂z/∂φ) + Σ w̃ ∂log w/∂θ, from Jacobians."""
    q = model.posterior(x)  # constant below

    def draws(model):
        return model.posterior(x).sample(key, (k,))

    def log_w(model, z):
        return model.likelihood(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)

    z = draws(model)
    weight = jax.nn.softmax(jax.vmap(log_w, (None, 0))(model, z))
    through_z = weight[:, None] ** 2 * jax.vmap(jax.grad(log_w, 1), (None, 0))(model, z)
    direct = jax.vmap(jax.grad(log_w), (None, 0))(model, z)
    return jax.tree.map(
        lambda dz, d: jnp.tensordot(through_z, dz, 2) + jnp.tensordot(weight, d, 1),
        jax.jacobian(draws)(model),
        direct,
    )


def test_dreg_is_its_formula_row_by_row(model):
    # Rows of weight zero, an objective on a scale of its own, and other terms beside it.
    rows = np.random.default_rng(0).normal(size=(4, 3))
    keys, weight = jax.random.split(jax.random.key(2), 4), np.array([1.0, 0.0, 3.0, 1.0])
    batch = Batch(rows, None, weight, keys, 4.0, np.arange(4), 0)

    @jax.jit
    @jax.grad
    def gradient(model):
        surrogate, _, _ = SGVB("dreg", 4)(model, batch, keys[0], None)
        return -2.5 * surrogate + jnp.sum(model.W)

    @jax.jit
    def by_hand(model):
        each = jax.vmap(lambda x, key: doubly_reparameterised_by_hand(model, x, key, 4))(rows, keys)
        return jax.tree.map(lambda leaf: -2.5 * jnp.tensordot(weight / 5, leaf, 1), each)

    expected = by_hand(model)
    expected = eqx.tree_at(lambda m: m.W, expected, expected.W + 1)
    got, expected = (ravel_pytree(tree)[0] for tree in (gradient(model), expected))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


class Unregistered(dist.Distribution):
    """A distribution of a user's own that JAX cannot take apart."""

    def __init__(self, center):
        self.center = center
        super().__init__(event_shape=jnp.shape(center))

    has_rsample = True

    def sample(self, key, sample_shape=()):
        shape, dtype = (*sample_shape, *self.event_shape), self.center.dtype
        return self.center + jax.random.normal(key, shape, dtype)

    def log_prob(self, value):
        return dist.Normal(self.center, 1.0).log_prob(value).sum()


class Half(LatentVariableModel):
    """A model in numbers of 16 bits."""

    weight: jax.Array

    def prior(self):
        return dist.Normal(jnp.bfloat16(0), jnp.bfloat16(1))

    def likelihood(self, z):
        return dist.Normal(z, jnp.bfloat16(1))

    def posterior(self, x):
        return Unregistered(self.weight * x)


def test_dreg_in_half_precision():
    def bound(model):
        return sgvb(model, jnp.bfloat16(1), jax.random.key(0), estimator="dreg", n_draws=2)

    value, gradient = jax.jit(jax.value_and_grad(bound))(Half(jnp.bfloat16(2)))
    assert value.dtype == gradient.weight.dtype == jnp.bfloat16
    assert np.isfinite(float(gradient.weight)) and float(gradient.weight) != 0


# What they have in common.


@pytest.mark.parametrize("bound", ESTIMATORS)
def test_every_estimator_reports_the_evidence_lower_bound(model, bound):
    @jax.jit
    def metrics(model):
        keys = jax.random.split(jax.random.key(3), 5000)
        return jax.vmap(lambda key: ESTIMATORS[bound](given(model), X, key, 3).metrics)(keys)

    reported = metrics(model)
    assert_mean(reported["elbo"], model.exact_elbo(X))
    terms = reported["reconstruction"] - reported["kl"]
    np.testing.assert_allclose(reported["elbo"], terms, rtol=1e-12)
    assert ("iw_bound" in reported) == (bound in ("iw", "dreg", "vimco"))
    if "iw_bound" in reported:
        assert reported["iw_bound"].mean() > model.exact_elbo(X) + 0.05


@pytest.mark.slow
def test_compiled_or_not_the_numbers_are_the_same(model):
    def value_and_gradient(model, key):
        return jax.value_and_grad(lambda m: sgvb(m, X, key, estimator="dreg", n_draws=2))(model)

    key = jax.random.key(4)
    eager, compiled = value_and_gradient(model, key), jax.jit(value_and_gradient)(model, key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), eager, compiled
    )


def test_an_estimator_may_be_a_function(model):
    def twice(model, x, key, n_draws):
        value, metrics = estimator_a(model, x, key, n_draws)
        return Estimate(2 * value, metrics)

    key = jax.random.key(0)
    a, doubled, named = (
        sgvb(model, X, key, estimator=bound) for bound in ("A", twice, importance_weighted)
    )
    np.testing.assert_allclose([doubled, named], [2 * a, a], rtol=1e-12)


class WithUnregistered(Tied):
    def posterior(self, x):
        return Unregistered(self.untied.posterior(x).mean)


def test_gradients_stop_on_any_distribution(linear_gaussian):
    # Of unit variance, q can be written in NumPyro's terms, and the numbers must be the same.
    own = WithUnregistered(linear_gaussian.random(3, 2).W, linear_gaussian)
    same = eqx.tree_at(lambda m: m.d, own.untied, jnp.ones(2))
    values, gradients = estimates(own, "dreg", 3)
    expected, gradient = estimates(same, "dreg", 3)
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    both = gradient.W + 0.4 * jnp.swapaxes(gradient.V, 1, 2)
    np.testing.assert_allclose(gradients.W, both, rtol=1e-8, atol=1e-8)


# What cannot be.


class Flipped(LatentVariableModel):
    """A latent that cannot be reparameterised."""

    def prior(self):
        return dist.Bernoulli(0.5).expand([2]).to_event(1)

    def likelihood(self, z):
        return dist.Normal(z.sum(), 1.0)

    def posterior(self, x):
        return dist.Bernoulli(0.3).expand([2]).to_event(1)


@pytest.mark.parametrize("bound", ["auto", "A", "B", "stl", "iw", "dreg"])
def test_posteriors_without_a_path_are_told_which_estimator_will_do(bound):
    message = r"`Flipped\.posterior`; got Bernoulli\w*, whose .* 'score' and 'vimco' need none"
    with pytest.raises(ValueError, match=message):
        sgvb(Flipped(), 1.0, jax.random.key(0), estimator=bound, n_draws=2)


def test_an_unknown_name_is_answered_with_the_nearest(model):
    with pytest.raises(ValueError, match=r"'vimco' or a function .* got 'VIMCO2'\. Did you mean"):
        sgvb(model, X, jax.random.key(0), estimator="VIMCO2")


def test_no_closed_form_is_no_estimator_b(model):
    class Cauchy(Tied):
        def prior(self):
            return dist.Cauchy(jnp.zeros(2)).to_event(1)

    other = Cauchy(model.W, type(model))
    with pytest.raises(ValueError, match=r"KL\(Normal‖Cauchy\); use estimator 'A'"):
        sgvb(other, X, jax.random.key(0), estimator="B")
