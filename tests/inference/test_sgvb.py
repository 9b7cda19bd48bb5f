"""Both estimators of the bound against the linear-Gaussian model, where all is known exactly.

Averages over many draws are held to four standard errors of their exact values; the keys are
fixed, so that a test that passes does so always.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import Frozen, LatentVariableModel, priors, sgvb
from aevb.inference.estimators import estimator_a, estimator_b
from aevb.inference.sgvb import SGVB, log_weight_prior
from aevb.inference.training import Batch
from aevb.models import given

pytestmark = pytest.mark.usefixtures("x64")

X = np.array([0.5, -1.0, 2.0, 0.3, -0.7])
N_KEYS = 20_000


@pytest.fixture
def model(linear_gaussian):
    return linear_gaussian.random(5, 2)


@eqx.filter_jit
def estimates(model, bound="B", n_draws=1, n_keys=N_KEYS, x=X):
    """Estimate the bound with many keys."""
    keys = jax.random.split(jax.random.key(0), n_keys)
    return jax.vmap(lambda key: sgvb(model, x, key, estimator=bound, n_draws=n_draws))(keys)


def assert_mean(values, expected):
    values = np.asarray(values)
    standard_error = values.std(axis=0) / np.sqrt(len(values))
    assert (abs(values.mean(axis=0) - expected) < 4 * standard_error + 1e-12).all()


@pytest.mark.parametrize("bound", ["A", "B"])
def test_expectation_is_the_bound(model, bound):
    values = estimates(model, bound)
    assert_mean(values, model.exact_elbo(X))
    assert model.exact_elbo(X) < model.log_evidence(X)


@pytest.mark.parametrize("bound", ["A", "B"])
def test_gradient_is_unbiased(model, bound):
    @jax.jit
    def gradients(model):
        keys = jax.random.split(jax.random.key(1), N_KEYS)
        return jax.vmap(lambda key: jax.grad(lambda m: sgvb(m, X, key, estimator=bound))(model))(
            keys
        )

    model = jax.tree.map(jnp.asarray, model)
    exact = jax.jit(jax.grad(lambda m: m.exact_elbo(X)))(model)
    jax.tree.map(assert_mean, gradients(model), exact)


def test_estimators_differ_by_the_log_ratio_of_prior_and_posterior(model):
    # r = log p(z) - log q(z|x) has the variance Σ μ²σ² + ½ (σ² - 1)².
    difference = np.asarray(estimates(model, "A") - estimates(model, "B"))
    mean, variance = np.asarray(model.V @ (X - model.m)), np.asarray(model.d)
    expected = np.sum(mean**2 * variance + 0.5 * (variance - 1) ** 2)
    assert_mean(difference, 0.0)
    assert_mean((difference - difference.mean()) ** 2, expected)


def test_divergence_of_estimator_b_is_equation_10(model):
    mean, variance = np.asarray(model.V @ (X - model.m)), np.asarray(model.d)
    equation_10 = 0.5 * np.sum(1 + np.log(variance) - mean**2 - variance)
    value, bound = jax.jit(lambda m: estimator_b(given(m), X, jax.random.key(0), 3))(model)
    np.testing.assert_allclose(-bound["kl"], equation_10, rtol=1e-12)
    np.testing.assert_allclose(bound["elbo"], bound["reconstruction"] - bound["kl"], rtol=1e-12)
    np.testing.assert_array_equal(value, bound["elbo"])


def test_estimator_a_has_no_variance_at_the_exact_posterior(linear_gaussian):
    model = linear_gaussian.random(5, 2, orthogonal=True).with_best_posterior()
    np.testing.assert_allclose(estimates(model, "A", n_keys=50), model.log_evidence(X), rtol=1e-12)
    assert estimates(model, "B", n_keys=50).std() > 0.1


def test_gap_at_the_best_posterior_is_that_of_the_covariance(linear_gaussian):
    model = linear_gaussian.random(5, 2).with_best_posterior()
    M = np.asarray(model.M)
    gap = 0.5 * (np.log(np.diag(M)).sum() - np.linalg.slogdet(M)[1])
    assert gap > 0.05
    assert_mean(estimates(model, "A"), model.log_evidence(X) - gap)


class Unknown(LatentVariableModel):
    """A linear-Gaussian model with another prior, to which no divergence is known."""

    linear: LatentVariableModel

    def prior(self):
        return dist.StudentT(5.0, jnp.zeros(2)).to_event(1)

    def likelihood(self, z):
        return self.linear.likelihood(z)

    def posterior(self, x):
        return self.linear.posterior(x)


def test_auto_is_b_where_the_divergence_is_known_and_a_elsewhere(model):
    np.testing.assert_array_equal(
        estimates(model, "auto", n_keys=50), estimates(model, "B", n_keys=50)
    )
    unknown = Unknown(model)
    np.testing.assert_array_equal(
        estimates(unknown, "auto", n_keys=50), estimates(unknown, "A", n_keys=50)
    )
    with pytest.raises(ValueError, match=r"KL\(Normal‖StudentT\)"):
        sgvb(unknown, X, jax.random.key(0), estimator="B")


def test_draws_average(model):
    one, eight = (np.asarray(estimates(model, "B", n)) for n in (1, 8))
    assert_mean(eight, model.exact_elbo(X))
    # The ratio of two variances of N values each has a relative standard error of about
    # √(2 (kurtosis - 1)/N): 3 % for the kurtosis of a squared normal.
    np.testing.assert_allclose(one.var() / eight.var(), 8.0, rtol=0.12)


class Square(LatentVariableModel):
    """log p(x|z) = z², whatever x: the expectation of z² under q, and nothing else."""

    mean: jax.Array
    scale: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Unit(z**2)

    def posterior(self, x):
        return dist.Normal(self.mean, self.scale)


def test_gradient_is_the_pathwise_one():
    # d/dμ E z² = 2μ. Pathwise: variance 4σ². By the score function: μ⁴/σ² + 14μ² + 15σ².
    mean, scale = 1.3, 0.6

    def reconstruction(mean, key):
        model = Square(mean, jnp.asarray(scale))
        return estimator_b(given(model), jnp.zeros(0), key, 1).metrics["reconstruction"]

    keys = jax.random.split(jax.random.key(0), N_KEYS)
    gradients = jax.jit(jax.vmap(jax.grad(reconstruction), (None, 0)))(mean, keys)
    gradients = np.asarray(gradients)
    assert_mean(gradients, 2 * mean)
    assert_mean((gradients - 2 * mean) ** 2, 4 * scale**2)
    assert gradients.var() < (mean**4 / scale**2 + 14 * mean**2 + 15 * scale**2) / 10


class WithContext(LatentVariableModel):
    """A model whose prior and posterior depend on a context; its likelihood leaves it out."""

    weight: jax.Array

    def prior(self, c):
        return dist.Normal(c["shift"], 1.0)

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x, c=None):
        return dist.Normal(c["shift"] + self.weight * (x - c["shift"]), 0.5**0.5)


def test_context_reaches_the_methods_that_take_it():
    # z ~ N(c, 1), x ~ N(z, 1): the posterior is exact at weight ½, the evidence N(x; c, 2).
    model = WithContext(jnp.array(0.5))
    bound = sgvb(model, 2.0, jax.random.key(0), c={"shift": 3.0}, estimator="A")
    np.testing.assert_allclose(bound, dist.Normal(3.0, 2**0.5).log_prob(2.0), rtol=1e-12)


class Joint:
    """A distribution of several parts of a datapoint, given the latent."""

    def __init__(self, **parts):
        self.parts = parts

    def log_prob(self, x):
        return sum(self.parts[name].log_prob(x[name]) for name in self.parts)


class TwoParts(LatentVariableModel):
    """One latent behind a number and a vector."""

    weight: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return Joint(a=dist.Normal(z, 1.0), b=dist.Normal(-z, 1.0).expand([2]).to_event(1))

    def posterior(self, x):
        return dist.Normal(self.weight * (x["a"] - x["b"].sum()), 0.5)


def test_a_datapoint_may_be_a_pytree():
    # Three observations of z, the last two with the sign changed: the posterior is exact at ¼.
    x = {"a": jnp.array(1.0), "b": jnp.array([-0.5, 2.0])}
    covariance = np.outer([1, -1, -1], [1, -1, -1]) + np.eye(3)
    evidence = dist.MultivariateNormal(np.zeros(3), covariance).log_prob(np.array([1.0, -0.5, 2.0]))
    bound = sgvb(TwoParts(jnp.array(0.25)), x, jax.random.key(0), estimator="A")
    np.testing.assert_allclose(bound, evidence, rtol=1e-12)


@pytest.mark.usefixtures("own_messages")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"estimator": "auot"},
            ValueError,
            r"'auto', 'A', 'B', .* or a function for `estimator`; got 'auot'\. Did you mean",
        ),
        ({"estimator": None}, TypeError, r"`estimator`; got None"),
        ({"n_draws": 0}, ValueError, r"integer of at least 1 for `n_draws`; got 0"),
        ({"n_draws": 2.0}, TypeError, r"integer of at least 1 for `n_draws`; got 2\.0"),
    ],
)
def test_wrong_arguments_are_named(model, options, error, message):
    with pytest.raises(error, match=message):
        sgvb(model, X, jax.random.key(0), **options)


class Independent(LatentVariableModel):
    """A model that forgets to join the components of one of its distributions."""

    forgets: str = eqx.field(static=True)

    def join(self, name, d):
        return d if name == self.forgets else d.to_event(1)

    def prior(self):
        return self.join("prior", dist.Normal(jnp.zeros(2), 1.0))

    def likelihood(self, z):
        return self.join("likelihood", dist.Normal(z, 1.0))

    def posterior(self, x):
        return self.join("posterior", dist.Normal(x, 1.0))


@pytest.mark.parametrize("method", ["prior", "likelihood", "posterior"])
def test_components_that_were_not_joined_are_noticed(method):
    message = rf"`Independent\.{method}`; got .* shape \(2,\)\. Join them with `\.to_event\(1\)`"
    with pytest.raises(ValueError, match=message):
        sgvb(Independent(method), jnp.zeros(2), jax.random.key(0))


# The minibatch objective.


def batch(x, weight, n_total=100.0):
    keys = jax.random.split(jax.random.key(2), len(x))
    x, weight, n_total = map(jnp.asarray, (x, weight, n_total))
    return Batch(x, None, weight, keys, n_total, jnp.arange(len(x)), jnp.asarray(7))


def test_objective_is_the_mean_over_the_rows_that_count(model):
    rows = np.random.default_rng(0).normal(size=(4, 5))
    whole = batch(rows, [1.0, 1.0, 1.0, 0.0])
    surrogate, metrics, _ = SGVB("A", 2)(model, whole, jax.random.key(3), None)
    by_hand = [
        estimator_a(given(model), row, key, 2)
        for row, key in zip(rows[:3], whole.keys[:3], strict=True)
    ]
    for name, mean in metrics.items():
        np.testing.assert_allclose(mean, np.mean([b.metrics[name] for b in by_hand]), rtol=1e-12)
    np.testing.assert_allclose(surrogate, metrics["elbo"], rtol=1e-12)


def test_biases_of_convolutions_are_no_weights():
    conv = eqx.nn.Conv2d(1, 2, 3, key=jax.random.key(0))
    assert conv.bias.ndim == 3
    expected = dist.Normal(0.0, 2.0).log_prob(conv.weight) - dist.Normal(0.0, 2.0).log_prob(0.0)
    np.testing.assert_allclose(log_weight_prior(conv, 2.0), jnp.sum(expected), rtol=1e-6)


class Parts(eqx.Module):
    latent_prior: object
    weight: jax.Array


def test_what_is_part_of_a_latent_prior_is_no_weight():
    weight = jax.random.normal(jax.random.key(0), (2, 3))
    expected = -0.5 * jnp.sum(weight**2) / 2.0**2
    mixture = priors.Mixture(3).build(2, key=jax.random.key(1))
    vamp = priors.Vamp(2).build(2, examples=jnp.ones((2, 5)), key=jax.random.key(1))
    for latent_prior in (mixture, vamp):
        value = log_weight_prior(Parts(latent_prior, weight), 2.0)
        np.testing.assert_allclose(value, expected, rtol=1e-12)


class Named(eqx.Module):
    """Arrays under names with "bias" in them; one of them is that of biases."""

    bias: jax.Array
    debias_weight: jax.Array
    layers: dict


def test_only_what_is_called_bias_is_spared():
    # "debias_weight" was, too.
    ones = jnp.ones((2, 2))
    model = Named(ones, 2 * ones, {"bias": 3 * ones, "unbiased": 4 * ones, "list": [5 * ones]})
    expected = -0.5 * 4 * (2**2 + 4**2 + 5**2)
    np.testing.assert_allclose(log_weight_prior(model, 1.0), expected)
    np.testing.assert_allclose(log_weight_prior([ones], 1.0), -2.0)
    np.testing.assert_allclose(log_weight_prior(ones, 1.0), -2.0)


def test_complex_weights_are_pulled_by_their_size():
    # Their squares pushed the imaginary parts away from zero.
    weights = jnp.array([[3.0 + 4.0j, 1.0j]])
    value, slope = jax.value_and_grad(lambda w: log_weight_prior([w], 2.0))(weights)
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, -0.5 * (25 + 1) / 4)
    np.testing.assert_allclose(jnp.conj(slope), -weights / 4)


def test_a_weight_prior_without_weights_is_refused():
    flat = Parts(priors.Mixture(3).build(2, key=jax.random.key(1)), jnp.ones(4))
    with pytest.raises(ValueError, match=r"for `weight_prior`; got .*, weight of shape \(4,\)\."):
        log_weight_prior(flat, 2.0)
    with pytest.raises(
        ValueError, match=r"trainable arrays .*; got none\. .*as a matrix, \(p, 1\)"
    ):
        log_weight_prior(Parts(None, Frozen(jnp.ones((2, 2)))), 2.0)
    with pytest.raises(ValueError, match=r"Expected weights in `Square`"):
        aevb.train(Square(jnp.array(0.0), jnp.array(1.0)), np.zeros((4, 0)), weight_prior=1.0)


@pytest.mark.usefixtures("own_messages")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"estimator": "nope"}, ValueError, "for `estimator`; got 'nope'"),
        ({"n_draws": 0}, ValueError, "`n_draws`; got 0"),
        ({"n_draws": 1.5}, TypeError, r"`n_draws`; got 1\.5"),
        ({"weight_prior": -1}, ValueError, "positive standard deviation or None.*; got -1"),
        ({"weight_prior": "flat"}, TypeError, "`weight_prior`; got 'flat'"),
        ({"kl_weight": -0.5}, ValueError, r"a schedule for `kl_weight`; got -0\.5"),
        ({"free_bits": -3}, ValueError, "nats from 0 up for `free_bits`; got -3"),
    ],
)
def test_settings_of_the_objective_that_do_not_fit(options, error, message):
    with pytest.raises(error, match=message):
        SGVB(**options)


def test_settings_of_the_objective_may_be_traced():
    def settings(scale):
        objective = SGVB("B", 2, weight_prior=scale, kl_weight=scale, free_bits=scale)
        return objective.weight_prior + objective.kl_weight + objective.free_bits

    assert jax.jit(settings)(jnp.array(0.5)) == 1.5
    doubled = jax.tree.map(
        lambda leaf: 2 * leaf, SGVB("B", weight_prior=0.5, kl_weight=np.ones(()))
    )
    assert (doubled.weight_prior, doubled.kl_weight) == (1.0, 2.0)


def test_weight_prior_counts_once_for_the_whole_data_set_and_spares_biases(model):
    rows, scale, n_total = np.zeros((3, 5)), 0.7, 40.0
    objective = SGVB("B", 1, weight_prior=jnp.asarray(scale))
    surrogate, metrics, _ = objective(
        model, batch(rows, np.ones(3), n_total), jax.random.key(0), None
    )
    matrices = sum(float(jnp.sum(matrix**2)) for matrix in (model.W, model.V))
    np.testing.assert_allclose(
        surrogate - metrics["elbo"], -0.5 * matrices / scale**2 / n_total, rtol=1e-10
    )
