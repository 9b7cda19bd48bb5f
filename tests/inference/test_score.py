"""Estimators without a path through z, against sums over all values of discrete latents.

Averages over many draws are held to four standard errors of their exact values, with fixed keys.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import Joint, LatentVariableModel, sgvb

pytestmark = pytest.mark.usefixtures("x64")

N_KEYS = 20_000


@eqx.filter_jit
def estimates(model, x, bound, n_draws, n_keys=N_KEYS):
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


class Bits(LatentVariableModel):
    """Two bits behind three numbers; the decoder's weights are also the encoder's."""

    weight: jax.Array
    log_odds: jax.Array
    slope: jax.Array

    def prior(self):
        return dist.Bernoulli(logits=self.log_odds).to_event(1)

    def likelihood(self, z):
        return dist.Normal(self.weight @ z, 0.8).to_event(1)

    def posterior(self, x):
        return dist.Bernoulli(logits=self.slope * (self.weight.T @ x)).to_event(1)

    values = np.array(list(itertools.product([0, 1], repeat=2)))

    @classmethod
    def some(cls):
        rng = np.random.default_rng(0)
        return cls(*(jnp.asarray(rng.normal(size=shape)) for shape in [(3, 2), 2, 2]))


class Classes(LatentVariableModel):
    """A Gaussian mixture: one of three classes behind three numbers."""

    means: jax.Array
    log_odds: jax.Array
    slope: jax.Array

    def prior(self):
        return dist.Categorical(logits=self.log_odds)

    def likelihood(self, z):
        return dist.Normal(self.means[z], 1.0).to_event(1)

    def posterior(self, x):
        return dist.Categorical(logits=self.slope @ x)

    values = np.arange(3)

    @classmethod
    def some(cls):
        rng = np.random.default_rng(1)
        return cls(*(jnp.asarray(rng.normal(size=shape)) for shape in [(3, 3), 3, (3, 3)]))


X = np.array([0.5, -1.0, 1.2])


def log_terms(model):
    """log q(z|x) and log p(x, z) - log q(z|x) of every value of z."""
    q = model.posterior(X)
    log_q = jax.vmap(q.log_prob)(model.values)
    log_p = jax.vmap(lambda z: model.prior().log_prob(z) + model.likelihood(z).log_prob(X))
    return log_q, log_p(model.values) - log_q


def elbo_by_enumeration(model):
    log_q, log_w = log_terms(model)
    return jnp.exp(log_q) @ log_w


def importance_weighted_by_enumeration(model, k):
    log_q, log_w = log_terms(model)
    tuples = np.array(list(itertools.product(range(len(model.values)), repeat=k)))
    bounds = jax.nn.logsumexp(log_w[tuples], axis=1) - np.log(k)
    return jnp.exp(log_q[tuples].sum(axis=1)) @ bounds


@pytest.mark.parametrize(("model", "n_draws"), [(Bits, 2), (Classes, 5)])
def test_score_function_against_enumeration(model, n_draws):
    model = model.some()
    expected, gradient = jax.jit(jax.value_and_grad(elbo_by_enumeration))(model)
    values, gradients = estimates(model, X, "score", n_draws)
    assert_mean(values, expected)
    jax.tree.map(assert_mean, gradients, gradient)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "k"), [(Bits, 4), (Classes, 2)])
def test_vimco_against_enumeration(model, k):
    model = model.some()
    exact = jax.jit(jax.value_and_grad(importance_weighted_by_enumeration), static_argnums=1)
    expected, gradient = exact(model, k)
    values, gradients = estimates(model, X, "vimco", k)
    assert_mean(values, expected)
    jax.tree.map(assert_mean, gradients, gradient)
    assert elbo_by_enumeration(model) < expected


class Square(LatentVariableModel):
    """f(z) = z² and nothing else, at the mean at which prior and posterior agree."""

    mean: jax.Array
    scale: jax.Array
    prior_mean: jax.Array

    def prior(self):
        return dist.Normal(self.prior_mean, self.scale)

    def likelihood(self, z):
        return dist.Unit(z**2)

    def posterior(self, x):
        return dist.Normal(self.mean, self.scale)


@pytest.mark.parametrize("n_draws", [2, 6])
def test_variance_with_the_control_variate(n_draws):
    # d/dμ E z² = 2μ. The plain estimate's variance is (μ⁴/σ² + 14μ² + 15σ²)/L. Less the mean of
    # the others it is (8μ² + 10σ² + (8μ² + 2σ²)/(L - 1))/L, by the moments of the normal.
    mean, scale = 1.3, 0.6
    model = Square(*map(jnp.asarray, (mean, scale, mean)))
    _, gradients = estimates(model, jnp.zeros(0), "score", n_draws, n_keys=100_000)
    plain = (mean**4 / scale**2 + 14 * mean**2 + 15 * scale**2) / n_draws
    expected = 8 * mean**2 + 10 * scale**2 + (8 * mean**2 + 2 * scale**2) / (n_draws - 1)
    assert_mean(gradients.mean, 2 * mean)
    assert_mean((gradients.mean - 2 * mean) ** 2, expected / n_draws)
    assert expected / n_draws < 0.9 * plain


def test_score_function_agrees_with_the_path(linear_gaussian):
    model = linear_gaussian.random(3, 2)
    expected, gradient = jax.jit(jax.value_and_grad(lambda m: m.exact_elbo(X)))(model)
    values, gradients = estimates(model, X, "score", 4)
    assert_mean(values, expected)
    jax.tree.map(assert_mean, gradients, gradient)


class Switch(LatentVariableModel):
    """A bit, and a number whose mean depends on it: no path, in a joint distribution."""

    odds: jax.Array

    def prior(self):
        return Joint(bit=dist.Bernoulli(0.5), number=lambda bit: dist.Normal(2.0 * bit, 1.0))

    def likelihood(self, z):
        return dist.Normal(z["number"], 1.0)

    def posterior(self, x):
        # The exact one: x ~ N(2 bit, 2) given the bit alone.
        bit = dist.Bernoulli(logits=self.odds * (x - 1))
        return Joint(bit=bit, number=lambda bit: dist.Normal(bit + x / 2, 0.5**0.5))


@pytest.mark.parametrize("bound", ["score", "vimco"])
def test_discrete_and_continuous_latents_at_their_exact_posterior(bound):
    model, x = Switch(jnp.array(1.0)), jnp.array(1.4)
    evidence = jnp.log(jnp.exp(dist.Normal(jnp.array([0.0, 2.0]), 2**0.5).log_prob(x)).mean())
    values, gradients = estimates(model, x, bound, 3, n_keys=100)
    np.testing.assert_allclose(values, evidence)
    assert_mean(gradients.odds, 0)
    # All f equal each other: the control variate takes all there is. VIMCO keeps a score.
    assert (abs(gradients.odds).max() < 1e-12) == (bound == "score")
    with pytest.raises(ValueError, match=r"`Switch\.posterior`; got Joint, whose draws carry no"):
        sgvb(model, x, jax.random.key(0), estimator="A")


@pytest.mark.parametrize("bound", ["score", "vimco"])
def test_one_draw_is_too_few(bound):
    message = rf"Expected `n_draws` of at least 2 for estimator '{bound}'.*got 1"
    with pytest.raises(ValueError, match=message):
        sgvb(Bits.some(), X, jax.random.key(0), estimator=bound)
