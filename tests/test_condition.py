"""Conditional models: labels or covariates enter encoder and decoder, and are never generated."""

import pickle

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_iris

from aevb import VAE, datasets
from aevb.condition import Condition

pytestmark = pytest.mark.usefixtures("own_messages")

rng = np.random.default_rng(0)
SMALL = {"hidden": (16,), "epochs": 60, "random_state": 0, "verbose": False}
STILL = {"hidden": (), "epochs": 1, "learning_rate": 1e-12, "random_state": 0, "verbose": False}
N = 600
AGE = rng.normal(50, 10, size=N)
CITY = rng.choice(["Bonn", "Köln", "Ulm"], size=N)
SHIFT = {"Bonn": -3.0, "Köln": 0.0, "Ulm": 5.0}
MEAN = np.array([SHIFT[city] for city in CITY])[:, None] + 0.2 * (AGE[:, None] - 50)
X = MEAN + rng.normal(size=(N, 1)) * [1.0, 0.8, 0.5] + 0.3 * rng.normal(size=(N, 3))
TABLE = pd.DataFrame({"age": AGE, "city": CITY})


@pytest.fixture(scope="module")
def fitted():
    return VAE(1, **SMALL).fit(X, condition=TABLE)


# Against closed forms.


def test_the_linear_start_is_regression_and_factor_analysis_of_what_it_leaves():
    """Its log-likelihood is that of the conditional normal law; without a condition it is lower."""
    vae = VAE(1, likelihood="gaussian", **STILL).fit(X, condition=TABLE)
    design = np.column_stack([np.ones(N), AGE, CITY == "Bonn", CITY == "Köln"])
    residual = X - design @ np.linalg.lstsq(design, X, rcond=None)[0]
    covariance = residual.T @ residual / N
    exact = -0.5 * (
        np.sum((residual @ np.linalg.inv(covariance)) * residual, axis=1)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    estimate = vae.log_likelihood(X, 500, condition=TABLE)
    assert vae.config_.init == "linear"
    np.testing.assert_allclose(estimate.mean(), exact.mean(), atol=0.02)
    np.testing.assert_allclose(vae.score(X, condition=TABLE), exact.mean(), atol=0.02)  # tight
    assert VAE(1, likelihood="gaussian", **STILL).fit(X).score(X) < exact.mean() - 1


def test_draws_follow_their_condition(fitted):
    for city, shift in SHIFT.items():
        drawn = fitted.sample(2000, random_state=1, condition={"age": 60.0, "city": city})
        np.testing.assert_allclose(drawn.mean(axis=0), shift + 2, atol=0.4)
        np.testing.assert_allclose(drawn.std(axis=0), [1.04, 0.85, 0.58], atol=0.25)


def test_the_latents_need_not_say_what_the_condition_says(fitted):
    """z is what is left: a case under another condition moves by the difference of the two."""
    Z = fitted.transform(X, condition=TABLE)
    assert abs(np.corrcoef(Z[:, 0], CITY == "Ulm")[0, 1]) < 0.2
    own = fitted.inverse_transform(Z, condition=TABLE)
    np.testing.assert_allclose(fitted.reconstruct(X, condition=TABLE), own, atol=1e-5)
    moved = fitted.inverse_transform(Z, condition=TABLE.assign(city="Ulm"))
    expected = 5.0 - np.array([SHIFT[city] for city in CITY])
    np.testing.assert_allclose((moved - own).mean(axis=1), expected, atol=0.6)


# What a condition may be.

FORMS = {
    "texts": (CITY, "Ulm", 3),
    "a list": (CITY.tolist(), ["Ulm"], 3),
    "a series": (pd.Series(CITY, index=np.arange(N) + 5), "Ulm", 3),
    "whole numbers": (np.unique(CITY, return_inverse=True)[1] * 7, 14, 3),
    "truth": (CITY == "Ulm", True, 1),
    "numbers": (AGE, 60.0, 1),
    "an array": (np.column_stack([AGE, CITY == "Ulm"]), [[60.0, 1.0]], 2),
    "a table": (TABLE, TABLE[:1], 4),
    "Polars": (pl.from_pandas(TABLE), pl.from_pandas(TABLE[:1]), 4),
    "named columns": ({"age": AGE, "city": CITY}, {"age": 60.0, "city": "Ulm"}, 4),
    "a table, then names": (TABLE, {"age": [60.0], "city": ["Ulm"]}, 4),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_condition_in_whatever_form(name, tmp_path):
    C, one, size = FORMS[name]
    vae = VAE(1, **SMALL | {"epochs": 2}).fit(X, condition=C)
    assert vae.condition_.size == size
    assert vae.sample(4, condition=one).shape == (4, 3)
    assert vae.sample(condition=C).shape == (N, 3)
    assert vae.elbo(X, condition=one).shape == (N,)
    vae.save(tmp_path / "model")
    for again in (VAE.load(tmp_path / "model"), pickle.loads(pickle.dumps(vae))):
        np.testing.assert_array_equal(again.elbo(X, condition=C), vae.elbo(X, condition=C))
        np.testing.assert_array_equal(again.sample(3, condition=one), vae.sample(3, condition=one))


@pytest.mark.slow  # two fits of 1437 images
def test_digits_of_a_class():
    digits = datasets.load_digits()
    images, labels = digits.train.images, digits.train.labels
    vae = VAE(5, **SMALL | {"epochs": 20}).fit(images, condition=labels)
    plain = VAE(5, **SMALL | {"epochs": 20}).fit(images)
    assert vae.score(images, condition=labels) > plain.score(images)
    for digit in (0, 1):
        mean = images[labels == digit].mean(axis=0)
        drawn = vae.sample(200, random_state=0, condition=digit, mean=True).mean(axis=0)
        assert np.corrcoef(mean.ravel(), drawn.ravel())[0, 1] > 0.95
    assert vae.sample(condition=[3, 3, 7]).shape == (3, 8, 8)


@pytest.mark.slow  # five fits of as many kinds
def test_every_way_of_use(tmp_path):
    iris = load_iris()
    labels = iris.target_names[iris.target]
    holes = np.where(rng.random(iris.data.shape) < 0.1, np.nan, iris.data)
    options = {"validation_fraction": 0.2}, {"epochs": "auto"}, {"prior": "vamp"}, {"patience": 3}
    for each in options:
        vae = VAE(2, **SMALL | {"epochs": 2, "batch_size": 50} | each)
        if "prior" in each:
            vae.set_params(prior="mixture")
        vae.fit(holes, condition=labels, sample_weight=np.arange(150) % 3)
        assert np.isfinite(vae.score(holes, condition=labels))
        assert np.isfinite(vae.explained_nats_).all()
    vae.partial_fit(holes, condition=labels)
    assert np.isfinite(vae.impute(holes, 20, condition=labels)).all()
    assert vae.encode(holes, condition=labels).mean.shape == (150, 2)
    near = vae.distances(holes[:5], condition=labels[:5])
    assert near.shape == (5, 5)
    held = {"validation_data": holes[:9], "validation_condition": labels[:9]}
    assert np.isfinite(
        VAE(1, **SMALL).fit(holes, condition=labels, **held).score_samples(holes, condition=labels)
    ).all()
    big = np.concatenate([holes] * 4), np.concatenate([labels] * 4)
    vamp = VAE(2, prior="vamp", **SMALL | {"epochs": 1}).fit(big[0], condition=big[1])
    vamp.save(tmp_path / "model")
    again = VAE.load(tmp_path / "model")
    np.testing.assert_array_equal(*(v.sample(3, condition="setosa") for v in (vamp, again)))


def test_the_model_is_one_of_pairs(fitted):
    _, c = Condition.learn(TABLE, N)
    model = fitted.model_
    assert model.posterior(X[0].astype(np.float32), c[0]).mean.shape == (1,)
    assert model.likelihood(np.zeros(1), c[0]).mean.shape == (3,)
    leaves = jax.tree.leaves(model.prior())
    assert leaves  # p(z), which needs no condition


# What is refused.

MISTAKES = {
    "none": (lambda v: v.transform(X), "Expected `condition`, as in the fit .* got None"),
    "too few": (lambda v: v.elbo(X, condition=TABLE[:5]), r"each of the 600 cases; got 5"),
    "another category": (
        lambda v: v.sample(condition={"age": 1.0, "city": "Genf"}),
        "In `condition`: .*'Bonn'.*got 'Genf' in row 0",
    ),
    "a missing column": (lambda v: v.sample(condition={"age": 1.0}), r"missing are \['city'\]"),
    "a missing cell": (
        lambda v: v.sample(condition={"age": np.nan, "city": "Ulm"}),
        r"In `condition`: Expected values in all cells; got none, or infinity, in rows \[0\]",
    ),
    "another kind": (lambda v: v.sample(condition={"age": "old", "city": "Ulm"}), "'age'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_conditions_that_do_not_fit(name, fitted):
    ask, message = MISTAKES[name]
    with pytest.raises((TypeError, ValueError), match=message):
        ask(fitted)


def test_values_outside_the_support_are_said_to_be_those_of_the_condition():
    known, _ = Condition.learn({"visits": np.arange(40) % 7}, 40)
    with pytest.raises(ValueError, match=r"In `condition`: .*whole numbers from 0 up"):
        known.read({"visits": [-1]})


def test_before_a_fit_as_well():
    vae = VAE(1, **SMALL)
    for C, message in (
        (CITY[:5], "In `condition`: Expected a row for each of the 600 cases; got 5"),
        (np.where(AGE > 60, np.nan, AGE), "In `condition`: .*in rows"),
        (np.ones((N, 2, 2)), r"In `condition`: .*shape \(600, 2, 2\)"),
        (["x"] * N, "In `condition`: .*at least one column that varies"),
        ([["a", "b"]] * N, "In `condition`: "),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            vae.fit(X, condition=C)
        assert not hasattr(vae, "model_")


def test_models_without_one_take_none():
    vae = VAE(1, **SMALL | {"epochs": 1}).fit(X)
    with pytest.raises(ValueError, match="`condition` left at None"):
        vae.transform(X, condition=CITY)
    with pytest.raises(ValueError, match="without condition and exposure for `compare`"):
        VAE(1, **SMALL | {"epochs": 1}).fit(X, condition=CITY).compare(X[:50], train=X[50:])
