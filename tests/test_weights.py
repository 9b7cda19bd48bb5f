"""Weights: a case of weight 2 counts as two, and one of weight 0 not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.flatten_util import ravel_pytree

from aevb import VAE, Gaussian
from aevb.data.source import InMemory
from aevb.factors import Moments
from aevb.inference.objective import Batch
from aevb.inference.sgvb import SGVB

rng = np.random.default_rng(0)
X = (rng.normal(size=(120, 2)) @ rng.normal(size=(2, 4)) + rng.normal(size=(120, 4))).astype("f4")
WEIGHT = rng.integers(0, 4, size=120)
REPEATED = np.repeat(X, WEIGHT, axis=0)
SMALL = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False}
LINEAR = {"hidden": (), "random_state": 0, "verbose": False, "likelihood": Gaussian(1.0)}


def batch_of(rows, weight, keys, n=None):
    arrays = jnp.asarray(rows), None, jnp.asarray(weight, jnp.float32), keys
    return Batch(*arrays, jnp.asarray(50.0), jnp.arange(len(rows)), jnp.asarray(0), n)


@pytest.mark.parametrize("estimator", ["auto", "A", "stl", "iw", "dreg", "score"])
def test_an_integer_weight_is_so_many_rows_in_value_and_gradient(estimator):
    model = VAE(2, **SMALL | {"epochs": 1}).fit(X).model_
    n = 10
    weight = np.arange(n) % 3 + 1
    keys = jax.random.split(jax.random.key(0), n)
    objective = SGVB(estimator=estimator, n_draws=2)

    def value(model, batch):
        return objective(model, batch, jax.random.key(1), None)[0]

    one = batch_of(X[:n], weight / weight.mean(), keys, jnp.asarray(float(n)))
    other = batch_of(
        np.repeat(X[:n], weight, axis=0),
        np.ones(weight.sum()),
        keys[np.repeat(np.arange(n), weight)],
    )
    for each in (value, lambda m, b: ravel_pytree(jax.grad(value)(m, b))[0]):
        np.testing.assert_allclose(each(model, one), each(model, other), rtol=2e-4, atol=2e-5)


def test_batches_are_unbiased():
    """Also of one row each, where a weight divided by itself would be lost."""
    source = InMemory(X, weight=WEIGHT + 1.0)
    chunk = next(source.chunks(None))
    np.testing.assert_allclose(np.asarray(chunk.weight)[:120].mean(), 1, rtol=1e-6)
    part = source.part(np.arange(7))
    np.testing.assert_allclose(np.asarray(next(part.chunks(None)).weight)[:7].mean(), 1, rtol=1e-6)
    one = batch_of(X[:1], [3.0], jax.random.split(jax.random.key(0), 1), jnp.asarray(1.0))
    assert float(one.share[0]) == 3


@pytest.mark.slow
def test_the_optimum_is_that_of_repeated_rows():
    long = LINEAR | {"epochs": 3000, "batch_size": 500}
    weight = np.where(X[:, 0] > 0, 4, 1)
    rows = np.repeat(X, weight, axis=0)
    weighted = VAE(1, **long).fit(X, sample_weight=weight)
    repeated = VAE(1, **long).fit(rows)
    plain = VAE(1, **long).fit(X)
    scores = [vae.log_likelihood(rows, 500).mean() for vae in (weighted, repeated, plain)]
    assert abs(scores[0] - scores[1]) < 1e-3  # nats
    assert scores[0] > scores[2] + 0.1


def test_the_linear_start_is_that_of_repeated_rows():
    one, other = Moments.of(np.float64(X), np.float64(WEIGHT)), Moments.of(np.float64(REPEATED))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    still = LINEAR | {"epochs": 1, "learning_rate": 1e-12}
    both = VAE(1, **still).fit(X, sample_weight=WEIGHT), VAE(1, **still).fit(REPEATED)
    scores = [vae.log_likelihood(REPEATED, 500).mean() for vae in both]
    assert abs(scores[0] - scores[1]) < 1e-3


@pytest.mark.parametrize("form", ["array", "table", "list"])
def test_zero_weights_are_left_out_rows(form):
    make = {"array": np.asarray, "table": pd.DataFrame, "list": lambda X: X.tolist()}[form]
    weight = (WEIGHT > 0).astype(float)
    one = VAE(2, **SMALL).fit(make(X), sample_weight=weight * 7)
    other = VAE(2, **SMALL).fit(make(X[WEIGHT > 0]))
    np.testing.assert_allclose(one.elbo(make(X)), other.elbo(make(X)), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_all_ways_of_training_take_weights():
    for options in ({"epochs": "auto"}, {"validation_fraction": 0.2}, {"patience": 2}):
        vae = VAE(2, **SMALL | options).fit(X, sample_weight=WEIGHT)
        assert np.isfinite(vae.score(X))
    vae.partial_fit(X, sample_weight=WEIGHT)
    fresh = VAE(2, **SMALL).partial_fit(X, sample_weight=WEIGHT + 1.0)
    assert np.isfinite(fresh.score(X))


def test_the_history_holds_weighted_means():
    still = SMALL | {"epochs": 1, "learning_rate": 1e-12}
    weight = np.where(np.arange(120) < 60, 1e-9, 1.0)
    vae = VAE(2, **still).fit(X, sample_weight=weight)
    assert vae.history_["elbo"][0] == pytest.approx(vae.elbo(X[60:], 200).mean(), abs=0.2)


REFUSED = {
    "another number": (np.ones(119), r"120 rows of `X` for `sample_weight`; got .*\(119,\)"),
    "negative": (np.where(np.arange(120) == 3, -1.0, 1.0), "got -1 in row 3"),
    "not finite": (np.where(np.arange(120) == 3, np.nan, 1.0), "got nan in row 3"),
    "none": (np.zeros(120), "two weights or more above zero"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_are_none(name):
    weight, message = REFUSED[name]
    vae = VAE(2, **SMALL)
    with pytest.raises(ValueError, match=message):
        vae.fit(X, sample_weight=weight)
    assert not hasattr(vae, "model_")
