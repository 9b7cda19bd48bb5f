"""Likelihoods of every kind of column: one line each, held to the same laws.

A new kind of column joins by a line in `KINDS`.
"""

import functools
import pickle
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.random import default_rng

from aevb import VAE, likelihoods
from aevb.models.kinds import LIKELIHOODS
from aevb.models.kinds.case import Case
from aevb.probability.blocks import Blocks
from aevb.schema import Schema

N = 120
rng = default_rng(7)
Z = rng.normal(size=(N, 2))
ETA = 0.8 * Z @ rng.normal(size=(2, 4))  # what every column depends on


def levels(n):
    return np.argmax(rng.gumbel(size=(N, 4, n)) + ETA[:, :, None] * np.linspace(-1, 1, n), axis=-1)


class Line(NamedTuple):
    """Data of a kind, the values that it refuses, and whether other units are of the same kind."""

    data: np.ndarray
    refused: tuple
    scales: bool = False


KINDS = {
    "gaussian": Line(ETA + rng.normal(size=ETA.shape), (), True),
    "student-t": Line(ETA + rng.standard_t(2, size=ETA.shape), (), True),
    "laplace": Line(ETA + rng.laplace(size=ETA.shape), (), True),
    "log-normal": Line(np.exp(ETA + rng.normal(size=ETA.shape)), (0.0, -1.0), True),
    "gamma": Line(np.exp(ETA) * rng.gamma(3, size=ETA.shape), (0.0, -1.0), True),
    "beta": Line(1 / (1 + np.exp(-ETA - rng.normal(size=ETA.shape))), (0.0, 1.0, -0.25)),
    "continuous-bernoulli": Line(1 / (1 + np.exp(-ETA)), (-0.25, 1.25)),
    "bernoulli": Line(rng.random(ETA.shape) < 1 / (1 + np.exp(-ETA)), ()),
    "discretised-logistic": Line(
        np.clip(np.rint(90 + 40 * ETA + 9 * rng.normal(size=ETA.shape)), 0, 255), (-1.0, 3.5, 256.0)
    ),
    "poisson": Line(rng.poisson(np.exp(1 + ETA)), (-1, 0.5)),
    "negative-binomial": Line(rng.negative_binomial(2, 1 / (1 + np.exp(ETA))), (-1, 0.5)),
    "zero-inflated-negative-binomial": Line(
        rng.poisson(np.exp(1 + ETA)) * (rng.random(ETA.shape) < 0.6), (-1, 0.5)
    ),
    "beta-binomial": Line(rng.binomial(9, 1 / (1 + np.exp(-ETA))), (-1, 0.5, 10)),
    "categorical": Line(levels(3), (-1, 0.5, 3)),
    "ordinal": Line(levels(4), (-1, 0.5, 4)),
}
OPTIONS = {"hidden": (5,), "epochs": 2, "random_state": 0}


def test_every_likelihood_is_held_to_the_laws():
    assert set(KINDS) == set(LIKELIHOODS)
    public = {cls.__name__ for cls in LIKELIHOODS.values()} | {"Likelihood"}
    assert set(likelihoods.__all__) == public


@pytest.fixture(scope="module")
def fitted():
    """One small fit of each likelihood."""

    @functools.cache
    def of(name):
        return VAE(2, likelihood=name, **OPTIONS).fit(KINDS[name].data)

    return of


def log_probs(vae, X):
    """Evaluate log p(x|z), row by row, at the latents that the data came from."""
    return jax.vmap(lambda z, x: vae.model_.likelihood(z).log_prob(x))(jnp.float32(Z), X)


@pytest.mark.parametrize("name", KINDS)
class TestKind:
    def test_starts_at_the_linear_model_above_random_weights(self, name, fitted):
        random = VAE(2, likelihood=name, init="random", **OPTIONS).fit(KINDS[name].data)
        started = fitted(name)
        assert started.config_.init == "linear"
        assert started.history_["elbo"][0] > random.history_["elbo"][0]

    def test_new_cases_are_of_the_kind(self, name, fitted):
        vae = fitted(name)
        drawn = vae.sample(500, random_state=1)
        vae.schema_.kind.check(np.asarray(drawn))
        assert np.isfinite(vae.log_likelihood(drawn[:20], n_draws=5)).all()

    def test_new_cases_have_the_means_of_the_data(self, name, fitted):
        if name in ("categorical", "student-t"):
            pytest.skip("categories have no mean, and heavy tails no steady one")
        data = KINDS[name].data.astype(float)
        drawn = np.asarray(fitted(name).sample(4000, random_state=1), float)
        error = (drawn.mean(axis=0) - data.mean(axis=0)) / data.std(axis=0)
        assert abs(error).max() < 0.4  # after two epochs

    def test_missing_entries_are_integrated_out(self, name, fitted):
        """Given z, entries are independent: what is not observed does not count."""
        vae = fitted(name)
        part = vae.model_.likelihood(jnp.array([0.3, -0.2]))
        x = jnp.asarray(
            vae.schema_.encode(np.asarray(KINDS[name].data[:1], vae.schema_.kind.dtype))[0]
        )
        blocks = Blocks({"all": part}, Case)
        ones = [
            blocks.log_prob(Case({"all": x}, {"all": jnp.arange(4) == entry})) for entry in range(4)
        ]
        np.testing.assert_allclose(sum(ones), part.log_prob(x), rtol=1e-5)
        assert float(blocks.log_prob(Case({"all": x}, {"all": jnp.zeros(4, bool)}))) == 0

    def test_values_outside_are_refused_by_row_and_column(self, name, fitted):
        for value in KINDS[name].refused:
            data = np.array(KINDS[name].data, float)
            data[17, 2] = value
            with pytest.raises(ValueError, match=rf"got {value}\b.* in row 17, column 2"):
                fitted(name).log_likelihood(data)

    def test_they_are_refused_before_a_fit_as_well(self, name):
        for value in KINDS[name].refused:
            if value in (3, 4, 10):
                continue  # in training data, another level or a greater number of trials
            data = np.array(KINDS[name].data, float)
            data[17, 2] = value
            with pytest.raises(ValueError, match="row 17, column 2"):
                VAE(2, likelihood=name, **OPTIONS).fit(data)

    def test_other_units_shift_log_densities_alone(self, name, fitted):
        if not KINDS[name].scales:
            pytest.skip("other units are of another kind")
        X = np.float32(KINDS[name].data)
        other = VAE(2, likelihood=name, **OPTIONS).fit(10 * X)
        before, after = log_probs(fitted(name), X), log_probs(other, 10 * X)
        shift = np.mean(after - before, dtype=float)
        assert shift == pytest.approx(-4 * np.log(10), abs=1e-4)

    def test_constant_columns_are_no_trouble(self, name):
        data = KINDS[name].data.copy()
        data[:, 1] = data[0, 1]
        vae = VAE(2, likelihood=name, **OPTIONS).fit(data)
        assert np.isfinite(vae.score(data))
        assert np.isfinite(vae.transform(data)).all()
        vae.schema_.kind.check(np.asarray(vae.sample(50, random_state=0)))

    def test_files_and_pickles_say_the_same(self, name, fitted, tmp_path):
        vae, X = fitted(name), KINDS[name].data
        vae.save(tmp_path / "model")
        for again in (VAE.load(tmp_path / "model"), pickle.loads(pickle.dumps(vae))):
            assert again.likelihood_ == vae.likelihood_
            np.testing.assert_array_equal(again.log_likelihood(X[:9]), vae.log_likelihood(X[:9]))

    def test_modes_are_as_probable_as_any_draw(self, name, fitted):
        vae = fitted(name)
        law = vae.model_.likelihood(jnp.array([0.3, -0.2]))
        best = float(law.log_prob(Blocks({"x": law}, Case).mode.blocks["x"]))
        draws = law.sample(jax.random.key(0), (200,))
        assert best >= float(jax.vmap(law.log_prob)(draws).max()) - 1e-4


class TestSchema:
    """What is learned of levels and trials."""

    def test_levels_are_those_of_the_training_data(self):
        schema = Schema.fit(np.array([[0, 1], [2, 0], [1, 1.0]]), "categorical")
        assert schema.kind.n_levels == (3, 2)
        np.testing.assert_allclose(schema.measured.levels[0], [1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
        assert schema.measured.levels[1, 2] == 0

    def test_a_level_that_an_entry_does_not_have_has_no_probability(self):
        X = np.array([[0, 1], [2, 0], [1, 1.0]] * 10)
        vae = VAE(1, likelihood="categorical", **OPTIONS).fit(X)
        assert vae.sample(300, random_state=0)[:, 1].max() == 1

    def test_the_number_of_trials_is_the_greatest_value_unless_given(self):
        X = np.array([[0, 4], [3, 2.0]])
        assert Schema.fit(X, "beta-binomial").likelihood.total == (3, 4)
        assert Schema.fit(X, likelihoods.BetaBinomial(9)).likelihood.total == 9
        with pytest.raises(ValueError, match=r"number of trials .*3.*got 4.0 in row 0, column 1"):
            Schema.fit(X, likelihoods.BetaBinomial(3))
        with pytest.raises(ValueError, match="`total`; got 3"):
            Schema.fit(X, likelihoods.BetaBinomial((3, 4, 5)))

    @pytest.mark.parametrize("total", [0, -1, "many", (3, 0), True])
    def test_a_number_of_trials_is_a_positive_whole_number(self, total):
        with pytest.raises(ValueError, match="`total`; got"):
            likelihoods.BetaBinomial(total)

    @pytest.mark.parametrize("df", [0.0, -1.0, "few", np.inf])
    def test_degrees_of_freedom_are_positive(self, df):
        with pytest.raises(ValueError, match="`df`; got"):
            likelihoods.StudentT(df)

    def test_8_bit_pictures_are_whole_numbers(self):
        X = default_rng(0).integers(1, 255, size=(30, 4, 4)).astype(np.uint8)
        assert Schema.fit(X).likelihood == likelihoods.DiscretisedLogistic()
        assert Schema.fit(X.astype(np.float32)).likelihood == likelihoods.Gaussian()
        X[:, :2] = 0
        assert Schema.fit(X).likelihood == likelihoods.Bernoulli()
