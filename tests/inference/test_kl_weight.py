"""The minibatch objective with a weight on the KL and with free bits, against sums by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import LatentVariableModel
from aevb.inference.estimators import ESTIMATORS, estimator_a, sticking_the_landing
from aevb.inference.sgvb import SGVB
from aevb.inference.training import Batch

ROWS = np.random.default_rng(0).normal(size=(4, 3))
WEIGHT = np.array([1.0, 1.0, 0.0, 1.0])
WITHOUT_KL = ["iw", "dreg", "score", "vimco"]


def batch(step=0):
    keys = jax.random.split(jax.random.key(2), len(ROWS))
    return Batch(jnp.asarray(ROWS), None, jnp.asarray(WEIGHT), keys, 4.0, None, step)


def evaluate(objective, model, step=0):
    surrogate, metrics, _ = eqx.filter_jit(objective)(model, batch(step), jax.random.key(0), None)
    return surrogate, metrics


def kl_by_hand(model):
    """KL of each row and dimension, equation (10)."""
    mean, variance = (ROWS - model.m) @ model.V.T, np.asarray(model.d)
    return 0.5 * (variance + np.asarray(mean) ** 2 - 1 - np.log(variance))


@pytest.fixture
def model(x64, linear_gaussian):
    return linear_gaussian.random(3, 2)


@pytest.mark.parametrize("bound", ["auto", "A", "B", "stl"])
def test_weight_multiplies_the_kl_alone(model, bound):
    beta = 0.3
    surrogate, metrics = evaluate(SGVB(bound, 2, kl_weight=beta), model)
    plain, plain_metrics = evaluate(SGVB(bound, 2), model)
    np.testing.assert_allclose(
        surrogate, metrics["reconstruction"] - beta * metrics["kl"], rtol=1e-12
    )
    # What is reported is the bound itself, whatever is maximised.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), metrics, plain_metrics)
    np.testing.assert_allclose(plain, metrics["elbo"], rtol=1e-12)


def test_gradient_is_that_of_the_weighted_terms(model):
    def gradient(objective):
        return jax.jit(jax.grad(lambda m: objective(m, batch(), jax.random.key(0), None)[0]))(model)

    whole, weighted, no_kl = (gradient(SGVB("B", 2, kl_weight=b)) for b in (1.0, 0.3, 0.0))
    mixed = jax.tree.map(lambda one, none: 0.3 * one + 0.7 * none, whole, no_kl)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), weighted, mixed)


def test_a_schedule_is_asked_for_the_step(model):
    schedule = optax.linear_schedule(0.0, 1.0, 10)
    for step, beta in [(0, 0.0), (4, 0.4), (50, 1.0)]:
        surrogate, metrics = evaluate(SGVB("B", kl_weight=schedule), model, jnp.asarray(step))
        np.testing.assert_allclose(
            surrogate, metrics["reconstruction"] - beta * metrics["kl"], rtol=1e-6
        )


@pytest.mark.parametrize("bound", ["A", "B"])
@pytest.mark.parametrize("beta", [None, 0.5])
def test_free_bits_are_counted_per_dimension_over_the_batch(model, bound, beta):
    mean = np.average(kl_by_hand(model), axis=0, weights=WEIGHT)
    free = mean.mean()  # between the two dimensions
    surrogate, metrics = evaluate(SGVB(bound, 2, kl_weight=beta, free_bits=free), model)
    penalty = mean.max() + free
    expected = metrics["reconstruction"] - (1.0 if beta is None else beta) * penalty
    np.testing.assert_allclose(surrogate, expected, rtol=1e-10)
    np.testing.assert_allclose(
        metrics["elbo"], metrics["reconstruction"] - metrics["kl"], rtol=1e-12
    )
    if bound == "B":
        np.testing.assert_allclose(metrics["kl"], mean.sum(), rtol=1e-10)


def test_a_dimension_below_its_free_bits_is_not_pushed(model):
    kl = np.average(kl_by_hand(model), axis=0, weights=WEIGHT)
    objective, plain = SGVB("B", free_bits=kl.max() + 0.1), SGVB("B", kl_weight=0.0)
    gradients = [
        jax.jit(jax.grad(lambda m, f=f: f(m, batch(), jax.random.key(0), None)[0]))(model)
        for f in (objective, plain)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), *gradients)


class Scalar(LatentVariableModel):
    """A latent that is a single number."""

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(z, 1.0).expand([3]).to_event(1)

    def posterior(self, x):
        return dist.Normal(x.sum(), 0.5)


def test_free_bits_of_a_single_number(x64):
    kl = 0.5 * (0.25 + ROWS.sum(axis=1) ** 2 - 1 - np.log(0.25))
    mean = np.average(kl, weights=WEIGHT)
    for free in mean - 0.1, mean + 0.1:
        surrogate, metrics = evaluate(SGVB("B", free_bits=free), Scalar())
        expected = metrics["reconstruction"] - max(mean, free)
        np.testing.assert_allclose(surrogate, expected, rtol=1e-10)


class HeavyTailed(Scalar):
    def prior(self):
        return dist.Cauchy()


def test_free_bits_need_a_closed_form():
    message = r"closed form beside `free_bits`; got Normal and Cauchy"
    with pytest.raises(ValueError, match=message):
        SGVB("A", free_bits=0.1)(HeavyTailed(), batch(), jax.random.key(0), None)


class Together(Scalar):
    """Two latents whose dimensions the posterior does not have apart."""

    def prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(z[0], 1.0).expand([3]).to_event(1)

    def posterior(self, x):
        return dist.MultivariateNormal(x[:2], jnp.eye(2))


def test_free_bits_need_a_divergence_by_dimensions():
    message = (
        r"`free_bits` are counted in, of `Together\.posterior`.*got MultivariateNormal and Norm"
    )
    with pytest.raises(ValueError, match=message):
        SGVB("B", free_bits=0.1)(Together(), batch(), jax.random.key(0), None)


def test_free_bits_refuse_a_gradient_that_they_would_replace():
    message = r"beside `free_bits`: one of 'auto', 'A', 'B'; got 'stl'"
    with pytest.raises(ValueError, match=message):
        SGVB("stl", free_bits=0.1)


@pytest.mark.parametrize("bound", WITHOUT_KL)
@pytest.mark.parametrize("options", [{"kl_weight": 0.5}, {"free_bits": 0.1}])
def test_bounds_without_a_kl_term_refuse(line, bound, options):
    (name,) = options
    message = rf"beside `{name}`: one of 'auto', 'A', 'B'.*; got '{bound}'"
    with pytest.raises(ValueError, match=message):
        SGVB(bound, 2, **options)
    with pytest.raises(ValueError, match=message):
        aevb.train(line(), ROWS.astype(np.float32), estimator=bound, n_draws=2, **options)


def test_the_estimators_themselves_are_as_good_as_their_names(model):
    for function, name in [(estimator_a, "A"), (sticking_the_landing, "stl")]:
        by_function, by_name = (
            evaluate(SGVB(bound, 2, kl_weight=0.3), model)[0] for bound in (function, name)
        )
        np.testing.assert_allclose(by_function, by_name, rtol=1e-12)
    with pytest.raises(ValueError, match=r"beside `kl_weight`"):
        SGVB(ESTIMATORS["iw"], 2, kl_weight=0.3)


def test_training_with_a_weight_reports_the_plain_bound(line):
    # A weight of zero makes an auto-encoder of the model: more is reconstructed, at a larger KL.
    data = np.random.default_rng(5).normal(size=(64, 3)).astype(np.float32) + 1
    options = {"epochs": 100, "batch_size": 16, "n_draws": 4}
    weights = {"plain": 1.0, "none": 0.0, "warm": optax.linear_schedule(0.0, 1.0, 100)}
    histories = {
        name: aevb.train(line(), data, **options, kl_weight=weight).history
        for name, weight in weights.items()
    }
    for history in histories.values():
        difference = np.subtract(history["reconstruction"], history["kl"])
        np.testing.assert_allclose(history["elbo"], difference, rtol=1e-5)
    kl, reconstruction, elbo = (
        {name: np.mean(history[column][-20:]) for name, history in histories.items()}
        for column in ("kl", "reconstruction", "elbo")
    )
    assert kl["none"] > kl["plain"] + 0.5
    assert reconstruction["none"] > reconstruction["plain"]
    assert elbo["none"] < elbo["plain"] - 0.1
    assert elbo["none"] < elbo["warm"] - 0.1
    assert histories["warm"]["kl"][2] > histories["plain"]["kl"][2]
