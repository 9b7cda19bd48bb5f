"""Parameters and arguments that do not fit are named, with what was expected and what was got."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import VAE, Gaussian, LatentVariableModel

pytestmark = pytest.mark.usefixtures("own_messages")

TABLE = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
SMALL = {"hidden": (3,), "epochs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    """An estimator that was fitted before, and what it then said."""
    vae = VAE(2, **SMALL).fit(TABLE)
    return vae, vae.transform(TABLE)


BAD_PARAMETERS = {
    "latent_dim": [
        (0, ValueError, "integer of at least 1 for `latent_dim`; got 0"),
        (-2, ValueError, "`latent_dim`; got -2"),
        (2.5, TypeError, r"`latent_dim`; got 2\.5"),
        ("2", TypeError, "`latent_dim`; got '2'"),
        (True, TypeError, "`latent_dim`; got True"),
    ],
    "likelihood": [
        ("bernouli", ValueError, r"`likelihood`; got 'bernouli'\. Did you mean 'bernoulli'\?"),
        (Gaussian, TypeError, "a Likelihood for `likelihood`; got <class"),
    ],
    "prior": [("norml", ValueError, r"`prior`; got 'norml'\. Did you mean 'normal'\?")],
    "posterior": [("Norma", ValueError, r"`posterior`; got 'Norma'\. Did you mean 'normal'\?")],
    "hidden": [
        (0, ValueError, "`hidden`; got 0"),
        ((5, 2.5), TypeError, r"`hidden`; got 2\.5"),
        ("500", TypeError, "`hidden`; got '5"),
        (None, TypeError, "`hidden`; got None"),
        (2.5, TypeError, r"`hidden`; got 2\.5"),
    ],
    "activation": [
        ("thanh", ValueError, r"`activation`; got 'thanh'\. Did you mean 'tanh'\?"),
        (3, TypeError, "or a function for `activation`; got 3"),
    ],
    "estimator": [
        (
            "atuo",
            ValueError,
            r"'auto', 'A', 'B', .* for `estimator`; got 'atuo'\. Did you mean 'auto'",
        ),
        ("vimco", ValueError, "`n_draws` of at least 2 for estimator 'vimco'"),
        ("b", ValueError, r"`estimator`; got 'b'\. Did you mean 'B'\?"),
    ],
    "n_draws": [(0, ValueError, "`n_draws`; got 0"), (1.0, TypeError, r"`n_draws`; got 1\.0")],
    "optimizer": [
        ("adamx", ValueError, r"`optimizer`; got 'adamx'\. Did you mean 'adamax'\?"),
        (3, TypeError, "`optimizer`; got 3"),
    ],
    "learning_rate": [
        (0.0, ValueError, r"positive number.* for `learning_rate`; got 0\.0"),
        (float("nan"), ValueError, "`learning_rate`; got nan"),
        ("big", ValueError, "`learning_rate`; got 'big'"),
        (None, TypeError, "`learning_rate`; got None"),
    ],
    "batch_size": [(0, ValueError, "`batch_size`; got 0"), (9.5, TypeError, "`batch_size`; got 9")],
    "epochs": [
        (0, ValueError, "`epochs`; got 0"),
        ("many", (TypeError, ValueError), "`epochs`; got 'many'"),
    ],
    "weight_prior": [
        (0, ValueError, "positive standard deviation or None for `weight_prior`; got 0"),
        ("flat", TypeError, "`weight_prior`; got 'flat'"),
    ],
    "validation_fraction": [
        (1.0, ValueError, r"`validation_fraction`; got 1\.0"),
        (-0.1, ValueError, r"`validation_fraction`; got -0\.1"),
        ("some", TypeError, "`validation_fraction`; got 'some'"),
        (None, TypeError, "`validation_fraction`; got None"),
        (0.99, ValueError, r"`validation_fraction`; got 0\.99"),
    ],
    "patience": [(0, ValueError, "`patience`; got 0"), (1.5, TypeError, r"`patience`; got 1\.5")],
    "tol": [
        ("none", TypeError, "`tol`; got 'none'"),
        (-0.1, ValueError, r"from 0 up, or None for `tol`; got -0\.1"),
        (float("nan"), ValueError, "`tol`; got nan"),
    ],
    "devices": [
        ("some", ValueError, "'all', a number or None for `devices`; got 'some'"),
        (0, ValueError, "`devices`; got 0"),
        (1.5, TypeError, r"`devices`; got 1\.5"),
        (1000, ValueError, "at most 1 for `devices`.*; got 1000"),
    ],
    "callbacks": [
        (print, TypeError, "`callbacks`; got"),
        ([3], TypeError, "`callbacks`; got"),
    ],
    "random_state": [("x", ValueError, "'x' cannot be used to seed")],
    "verbose": [("loud", ValueError, "`verbose`; got 'loud'"), (None, TypeError, "`verbose`")],
}


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [(name, *case) for name, cases in BAD_PARAMETERS.items() for case in cases],
    ids=[f"{name}={case[0]!r}" for name, cases in BAD_PARAMETERS.items() for case in cases],
)
def test_parameters_that_do_not_fit(name, value, error, message, fitted):
    vae, Z = fitted
    fresh, again = VAE(**{**SMALL, name: value}), copy.copy(vae).set_params(**{name: value})
    for estimator in (fresh, again):
        with pytest.raises(error, match=message):
            estimator.fit(TABLE)
    assert not [learned for learned in vars(fresh) if learned.endswith("_")]
    again.set_params(**vae.get_params())
    np.testing.assert_array_equal(again.transform(TABLE), Z)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("sample", {"n_samples": 0}, "`n_samples`; got 0"),
        ("elbo", {"X": TABLE, "n_draws": 0}, "`n_draws`; got 0"),
        ("log_likelihood", {"X": TABLE, "n_draws": -1}, "`n_draws`; got -1"),
    ],
)
def test_arguments_that_do_not_fit(method, options, message, fitted):
    with pytest.raises(ValueError, match=message):
        getattr(fitted[0], method)(**options)


# `train` with a model of one's own.


class Point(LatentVariableModel):
    """A number behind a number."""

    weight: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x):
        x = x["a"] if isinstance(x, dict) else x
        return dist.Normal(self.weight * x, 0.7)


POINT = Point(jnp.array(0.3))
ROWS = np.ones(5, np.float32)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"a": ROWS, "b": ROWS[:3]}, {}, r"rows .*`data`; got .*5.*3"),
        (ROWS, {"context": ROWS[:3]}, "rows .*`context`; got .*3"),
        (ROWS[:0], {}, "row.*`data`; got"),
        (np.float32(1.0), {}, "`data`; got"),
        (ROWS, {"callbacks": print}, "`callbacks`; got"),
        (ROWS, {"learning_rate": None}, "`learning_rate`; got None"),
        (ROWS, {"weight_prior": "flat"}, "`weight_prior`; got 'flat'"),
        (ROWS, {"tol": "none"}, "`tol`; got 'none'"),
    ],
    ids=["rows", "context", "empty", "scalar", "callbacks", "learning_rate", "weight_prior", "tol"],
)
def test_train_says_what_it_expected(data, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        aevb.train(POINT, data, **{"epochs": 1, **options})


def test_train_wants_a_model():
    with pytest.raises(TypeError, match="`model`; got int"):
        aevb.train(3, ROWS, epochs=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"posterior": "mixture", "estimator": "B"}, ValueError, "closed form"),
        ({"posterior": "full-normal", "free_bits": 0.5}, ValueError, "`free_bits`"),
        ({"estimator": lambda model, x, key, n_draws: x}, TypeError, "Expected an Estimate"),
    ],
    ids=["B without a closed form", "free bits of a full covariance", "no Estimate"],
)
def test_objectives_that_do_not_fit_are_refused_before_the_first_step(
    options, error, message, monkeypatch
):
    def advance(*arguments, **options):
        raise AssertionError("training began")

    monkeypatch.setattr("aevb.fitting.advance", advance)
    vae = VAE(2, **SMALL, **options)
    with pytest.raises(error, match=message):
        vae.fit(TABLE)
    assert not [learned for learned in vars(vae) if learned.endswith("_")]
