"""Estimators against Gauss-Hermite quadrature, which is exact here to many digits.

Averages over many draws are held to four standard errors of it, with fixed keys.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import LatentVariableModel, sgvb
from aevb.evaluation.marginal import log_likelihood

pytestmark = pytest.mark.usefixtures("x64")


def gauss_hermite(n_nodes=80):
    """Nodes e and weights w with Σ w f(e) = E f(e) over e ~ N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
    return nodes, weights / weights.sum()


@eqx.filter_jit
def estimates(model, x, bound, n_draws=1, n_keys=50_000):
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


def log_ratio(model, x, z):
    """Evaluate log p(x, z) - log q(z|x)."""
    log_p = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    return log_p - model.posterior(x).log_prob(z)


class Scalar(LatentVariableModel):
    """z ~ N(0, 1), x ~ N(weight z, 0.5²), with q(z|x) = N(v x, scale²)."""

    weight: jax.Array
    v: jax.Array
    scale: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(self.weight * z, 0.5)

    def posterior(self, x):
        return dist.Normal(self.v * x, self.scale)


def two_importance_samples_by_quadrature(model, x):
    nodes, weights = gauss_hermite()
    log_w = log_ratio(model, x, model.v * x + model.scale * nodes)
    pairs = jnp.logaddexp(log_w[:, None], log_w[None, :]) - jnp.log(2)
    return weights @ pairs @ weights


def test_two_importance_samples_against_quadrature():
    model, x = Scalar(*map(jnp.asarray, (0.8, 0.6, 0.7))), jnp.array(1.5)
    expected, gradient = jax.jit(jax.value_and_grad(two_importance_samples_by_quadrature))(model, x)
    for bound in "iw", "dreg":
        values, gradients = estimates(model, x, bound, 2)
        assert_mean(values, expected)
        jax.tree.map(assert_mean, gradients, gradient)


class Mixture(LatentVariableModel):
    """A number x ~ N(z², 1), z ~ N(0, 1): two values of z explain it, and q has two components."""

    logits: jax.Array
    loc: jax.Array
    scale: jax.Array
    power: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(self.power * z**2, 1.0)

    def posterior(self, x):
        components = dist.Normal(self.loc * x, self.scale)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)


MIXTURE = (np.array([0.3, -0.4]), np.array([-0.5, 0.7]), np.array([0.5, 0.3]), np.array(0.9))


@pytest.fixture
def mixture():
    return Mixture(*map(jnp.asarray, MIXTURE))


def elbo_by_quadrature(model, x):
    nodes, weights = gauss_hermite()
    z = (model.loc * x)[:, None] + model.scale[:, None] * nodes
    return jax.nn.softmax(model.logits) @ log_ratio(model, x, z) @ weights


@pytest.mark.parametrize(("bound", "n_draws"), [("A", 1), ("stl", 2)])
def test_mixture_posterior_in_strata(mixture, bound, n_draws):
    x = jnp.array(2.0)
    expected, gradient = jax.jit(jax.value_and_grad(elbo_by_quadrature))(mixture, x)
    values, gradients = estimates(mixture, x, bound, n_draws)
    assert_mean(values, expected)
    jax.tree.map(assert_mean, gradients, gradient)
    assert abs(gradient.logits[0]) > 0.05


def test_importance_weights_in_strata(mixture):
    # One draw from each component: E log Σ_k π_k w(z_k), a bound above estimator A's.
    x, (nodes, weights) = jnp.array(2.0), gauss_hermite()

    def by_quadrature(model, x):
        z = (model.loc * x)[:, None] + model.scale[:, None] * nodes
        first, second = jax.nn.log_softmax(model.logits)[:, None] + log_ratio(model, x, z)
        return weights @ jnp.logaddexp(first[:, None], second[None, :]) @ weights

    expected, gradient = jax.jit(jax.value_and_grad(by_quadrature))(mixture, x)
    values, gradients = estimates(mixture, x, "iw")
    assert_mean(values, expected)
    jax.tree.map(assert_mean, gradients, gradient)
    grid = np.linspace(-8, 8, 4001)
    joint = np.exp(-(grid**2) / 2 - (x - 0.9 * grid**2) ** 2 / 2) / (2 * np.pi)
    evidence = np.log(joint.sum() * (grid[1] - grid[0]))
    assert jax.jit(elbo_by_quadrature)(mixture, x) + 0.05 < expected < evidence - 0.001


def test_a_mixture_without_a_component_is_the_other(mixture):
    one = eqx.tree_at(lambda m: m.logits, mixture, jnp.array([-800.0, 0.0]))
    values, gradients = estimates(one, jnp.array(2.0), "iw")
    assert np.isfinite(values).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert (gradients.loc[:, 0] == 0).all() and (gradients.loc[:, 1] != 0).all()


class Interval(LatentVariableModel):
    """q(z|x) uniform between two ends that are parameters: its score averages to no zero."""

    low: jax.Array
    high: jax.Array
    constant: bool = eqx.field(static=True, default=False)

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(z, 0.8)

    def posterior(self, x):
        return dist.Uniform(-1.0, 2.0) if self.constant else dist.Uniform(self.low, self.high)


def test_estimators_that_drop_the_score_refuse_ends_that_move():
    def by_quadrature(model, x):
        nodes, weights = np.polynomial.legendre.leggauss(40)
        z = model.low + (model.high - model.low) * (nodes + 1) / 2
        return weights / 2 @ log_ratio(model, x, z)

    model, x, key = Interval(jnp.array(-1.0), jnp.array(1.5)), jnp.array(0.7), jax.random.key(0)
    expected, gradient = jax.jit(jax.value_and_grad(by_quadrature))(model, x)
    values, gradients = estimates(model, x, "A")
    assert_mean(values, expected)
    assert_mean(gradients.low, gradient.low)
    assert_mean(gradients.high, gradient.high)
    for bound in "stl", "dreg", "score", "vimco":
        message = rf"`Interval` whose support .* '{bound}', .* got Uniform\. Use 'A' or 'iw'"
        with pytest.raises(ValueError, match=message):
            sgvb(model, x, key, estimator=bound, n_draws=2)
        sgvb(Interval(model.low, model.high, constant=True), x, key, estimator=bound, n_draws=2)


class PlaneMixture(LatentVariableModel):
    """A latent of two dimensions with a mixture of three for a posterior."""

    loc: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(z, 0.5).to_event(1)

    def posterior(self, x):
        components = dist.Normal(self.loc, 0.6).to_event(1)
        return dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.array([0.2, 0.3, 0.5])), components
        )


@pytest.mark.slow
def test_mixture_of_vectors():
    model, x = PlaneMixture(jnp.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])), jnp.array([0.3, 0.4])
    nodes, weights = gauss_hermite(40)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1)
    z = model.loc[:, None, None] + 0.6 * grid
    ratio = jax.jit(log_ratio)(model, x, z)
    expected = np.einsum("kij,k,i,j", ratio, [0.2, 0.3, 0.5], weights, weights)
    assert_mean(estimates(model, x, "A", 2)[0], expected)


def test_dreg_refuses_a_mixture(mixture):
    message = r"`Mixture` that is not a mixture for estimator 'dreg'.*'iw' or 'stl'"
    with pytest.raises(ValueError, match=message):
        sgvb(mixture, jnp.array(2.0), jax.random.key(0), estimator="dreg")


class Curved(LatentVariableModel):
    """Two latents behind five bits, by a decoder that bends."""

    def prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        W = np.random.default_rng(0).normal(size=(5, 2))
        return dist.Bernoulli(logits=3 * jnp.sin(W @ z) + 0.5).to_event(1)

    def posterior(self, x):
        return dist.Normal(jnp.zeros(2), 1.2).to_event(1)


@pytest.mark.slow
def test_evidence_of_a_curved_model_against_quadrature():
    model, x = Curved(), jnp.array([1.0, 0.0, 0.0, 1.0, 1.0])
    nodes, weights = gauss_hermite()
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    log_p = jax.vmap(lambda z: model.likelihood(z).log_prob(x))(grid)
    evidence = np.log(np.outer(weights, weights).ravel() @ np.exp(log_p))
    keys = jax.random.split(jax.random.key(5), 50)
    estimated = jax.jit(jax.vmap(lambda key: log_likelihood(model, x, key, n_draws=2000)))(keys)
    weighted = jax.jit(jax.vmap(lambda key: sgvb(model, x, key, estimator="iw", n_draws=2000)))(
        keys
    )
    for values in np.asarray(estimated), np.asarray(weighted):
        error = values.std() / 50**0.5
        assert error < 0.01
        assert abs(values.mean() - evidence) < 4 * error + values.var()  # the bias is var / 2
