"""Estimates of log p(x) against the models whose log p(x) is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import GrayBernoulli, LatentVariableModel, posteriors, sgvb
from aevb.evaluation import elbo, log_likelihood

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([0.5, -1.0, 2.0, 0.3, -0.7])


@eqx.filter_jit
def estimates(model, n_draws, x=X, n_keys=4000, chunk=50):
    """Estimate log p(x) with many keys."""
    keys = jax.random.split(jax.random.key(0), n_keys)
    return jax.vmap(lambda k: log_likelihood(model, x, k, n_draws=n_draws, chunk=chunk))(keys)


def standard_error(values):
    return np.std(values) / np.sqrt(len(values))


def test_is_exact_at_the_exact_posterior(linear_gaussian):
    model = linear_gaussian.random(5, 2, orthogonal=True).with_best_posterior()
    np.testing.assert_allclose(estimates(model, 3, n_keys=20), model.log_evidence(X), rtol=1e-12)


@pytest.mark.parametrize(("n_draws", "chunk"), [(1, 50), (7, 3), (60, 50)])
def test_weights_average_to_the_evidence(linear_gaussian, n_draws, chunk):
    # E exp(estimate) = p(x) for every number of draws, whatever the chunks they come in.
    model = linear_gaussian.random(5, 2).with_best_posterior()
    relative = np.exp(estimates(model, n_draws, chunk=chunk) - model.log_evidence(X))
    assert abs(relative.mean() - 1) < 4 * standard_error(relative)


@pytest.mark.slow
def test_rises_with_the_number_of_draws_from_the_bound_to_the_evidence(linear_gaussian):
    model = linear_gaussian.random(5, 2)
    one, five, fifty = (np.asarray(estimates(model, k)) for k in (1, 5, 50))
    assert abs(one.mean() - model.exact_elbo(X)) < 4 * standard_error(one)
    for fewer, more in ((one, five), (five, fifty)):
        gain = more.mean() - fewer.mean()
        assert gain > 4 * np.hypot(standard_error(fewer), standard_error(more))
    assert fifty.mean() < model.log_evidence(X)
    close = estimates(model.with_best_posterior(), 5000, n_keys=20)
    np.testing.assert_allclose(close, model.log_evidence(X), atol=0.05)


class WithFlow(LatentVariableModel):
    """Three latents behind five numbers; q(z|x) is an inverse autoregressive flow."""

    head: eqx.Module
    weight: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(3), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(self.weight @ z, 1.0).to_event(1)

    def posterior(self, x):
        return self.head(jnp.asarray(x))


@pytest.mark.slow
def test_scores_of_an_inverse_autoregressive_flow_do_not_invert_it():
    # They did, draw by draw, one latent after the other: a loop as long as z.
    pytest.importorskip("flowjax")
    key = jax.random.key(0)
    head = posteriors.Flow(width=4, n_layers=2).build(5, 3, key=key)
    model = WithFlow(head, jax.random.normal(key, (5, 3)))
    scores = {
        "elbo": lambda x: elbo(model, x, key, n_draws=8),
        "log_likelihood": lambda x: log_likelihood(model, x, key, n_draws=8, chunk=8),
    }
    for score in scores.values():
        assert "length=3" not in str(jax.make_jaxpr(score)(X))
    gradient = jax.make_jaxpr(lambda x: sgvb(model, x, key, estimator="score", n_draws=8))(X)
    assert "length=3" in str(gradient)  # log q as a function of φ at draws that stay

    def log_weights(key):
        q = model.posterior(X)
        z = q.sample(key, (8,))
        log_likelihood = jax.vmap(lambda z: model.likelihood(z).log_prob(X))(z)
        return log_likelihood + model.prior().log_prob(z) - jax.vmap(q.log_prob)(z)

    np.testing.assert_allclose(scores["elbo"](X), jnp.mean(log_weights(key)), rtol=1e-9)
    log_w = log_weights(jax.random.fold_in(key, 0))
    expected = jax.nn.logsumexp(log_w) - np.log(8)
    np.testing.assert_allclose(scores["log_likelihood"](X), expected, rtol=1e-9)


def test_elbo_is_the_bound(linear_gaussian):
    model = linear_gaussian.random(5, 2)
    keys = jax.random.split(jax.random.key(0), 1000)
    values = eqx.filter_jit(jax.vmap(lambda key: elbo(model, X, key, n_draws=8)))(keys)
    assert abs(values.mean() - model.exact_elbo(X)) < 4 * standard_error(values)


class Curved(LatentVariableModel):
    """Pixels behind a nonlinear decoder: log p(x) has no closed form, but quadrature does it."""

    W: jax.Array
    V: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(self.W.shape[1]), 1.0).to_event(1)

    def likelihood(self, z):
        return GrayBernoulli(jnp.sin(self.W @ z) + (self.W @ z) ** 2 - 1).to_event(1)

    def posterior(self, x):
        return dist.Normal(jnp.tanh(self.V @ x), 1.2).to_event(1)


@pytest.mark.parametrize(("kind", "latent_dim"), [("binary", 2), ("gray", 1)])
def test_equals_gauss_hermite_quadrature(kind, latent_dim):
    rng = np.random.default_rng(0)
    W, V = 0.5 * rng.normal(size=(6, latent_dim)), 0.3 * rng.normal(size=(latent_dim, 6))
    model = Curved(jnp.asarray(W), jnp.asarray(V))
    x = (rng.random(6) < 0.5).astype(float) if kind == "binary" else rng.random(6)

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(*[nodes] * latent_dim, indexing="ij"), -1).reshape(-1, latent_dim)
    mass = np.prod(np.stack(np.meshgrid(*[weights] * latent_dim, indexing="ij"), -1), -1).ravel()
    log_p = np.asarray(jax.jit(jax.vmap(lambda z: model.likelihood(z).log_prob(x)))(grid))
    evidence = np.log(np.sum(mass / mass.sum() * np.exp(log_p)))

    relative = np.exp(estimates(model, 100, x, n_keys=1000) - evidence)
    assert abs(relative.mean() - 1) < 4 * standard_error(relative)
    assert standard_error(relative) < 0.005


def test_works_in_32_bits_too(linear_gaussian):
    model = linear_gaussian.random(5, 2, orthogonal=True).with_best_posterior()
    exact = float(model.log_evidence(X))
    model = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model)
    jax.config.update("jax_enable_x64", False)
    estimate = eqx.filter_jit(log_likelihood)(model, X.astype(np.float32), jax.random.key(0))
    assert estimate.dtype == np.float32
    np.testing.assert_allclose(estimate, exact, rtol=1e-5)


class Shifted(LatentVariableModel):
    """z ~ N(c, 1), x ~ N(z, 1), with the exact posterior."""

    def prior(self, c):
        return dist.Normal(c, 1.0)

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x, c):
        return dist.Normal((x + c) / 2, 0.5**0.5)


def test_context_is_passed_on():
    exact = dist.Normal(3.0, 2**0.5).log_prob(2.0)
    estimate = log_likelihood(Shifted(), 2.0, jax.random.key(0), c=3.0, n_draws=4)
    np.testing.assert_allclose(estimate, exact, rtol=1e-12)
    bounds = jax.vmap(lambda key: elbo(Shifted(), 2.0, key, c=3.0, n_draws=4))
    values = bounds(jax.random.split(jax.random.key(0), 1000))
    assert abs(values.mean() - exact) < 4 * standard_error(values)


class Narrow(Shifted):
    """The same with q(z|x) uniform on an interval that leaves out part of the posterior."""

    def posterior(self, x, c):
        return dist.Uniform(c, c + 1.0)


def test_rises_to_the_evidence_on_the_support_of_the_posterior_only():
    exact = dist.Normal(3.0, 2**0.5).log_prob(2.0)
    left = dist.Normal(2.5, 0.5**0.5)  # the exact posterior, of which q sees z in (3, 4)
    share = jnp.log(left.cdf(4.0) - left.cdf(3.0))
    estimate = log_likelihood(Narrow(), 2.0, jax.random.key(0), c=3.0, n_draws=100_000)
    assert share < -1
    np.testing.assert_allclose(estimate, exact + share, atol=0.01)


@pytest.mark.parametrize("score", [elbo, log_likelihood])
@pytest.mark.parametrize(
    ("n_draws", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)]
)
def test_number_of_draws_is_checked(score, n_draws, error):
    with pytest.raises(error, match="integer of at least 1 for `n_draws`; got"):
        score(Shifted(), 2.0, jax.random.key(0), c=3.0, n_draws=n_draws)


def test_chunk_is_checked():
    with pytest.raises(ValueError, match="integer of at least 1 for `chunk`; got 0"):
        log_likelihood(Shifted(), 2.0, jax.random.key(0), c=3.0, chunk=0)


@pytest.mark.parametrize("score", [elbo, log_likelihood])
def test_context_and_number_of_draws_are_given_by_name(score):
    with pytest.raises(TypeError, match="positional"):
        score(Shifted(), 2.0, jax.random.key(0), 3.0)
