"""Missing values are integrated out of the bound, and filled by what the others let expect."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from numpy.random import default_rng
from sklearn.datasets import load_wine

from aevb import VAE
from aevb.models.kinds.case import Case

rng = np.random.default_rng(0)
# An update this small leaves the start as it is; without hidden layers the model is linear.
LINEAR = {"epochs": 1, "learning_rate": 1e-12, "random_state": 0, "hidden": (), "verbose": False}
SMALL = {"epochs": 30, "random_state": 0, "hidden": (16,), "verbose": False}
W = rng.normal(size=(5, 2)) * [0.9, 0.5]  # so that q(z|x) is wide
COMPLETE = rng.normal(size=(3000, 2)) @ W.T + rng.normal(size=(3000, 5)) + 7
MISSING = rng.random(COMPLETE.shape) < 0.3
MISSING[MISSING.all(axis=1), 0] = False  # a value in every row
HOLES = np.where(MISSING, np.nan, COMPLETE)


@pytest.fixture(scope="module")
def linear():
    """A linear model at its start, its mean and its covariance."""
    vae = VAE(2, likelihood="gaussian", **LINEAR).fit(HOLES)
    part = vae.model_.likelihood(np.zeros(2)).parts["data"]
    start = vae.model_.decoder.head.parts["data"].location.linear.start.value
    loadings = np.float64(start.weight) * vae.schema_.measured.scale[:, None]
    covariance = loadings @ loadings.T + np.diag(np.float64(part.variance))
    return vae, np.float64(part.mean), covariance


def conditional(row, mean, covariance):
    """Return mean and covariance of what is missing, given what is not."""
    gone, here = np.isnan(row), ~np.isnan(row)
    gain = covariance[np.ix_(gone, here)] @ np.linalg.inv(covariance[np.ix_(here, here)])
    expected = mean[gone] + gain @ (row[here] - mean[here])
    return expected, covariance[np.ix_(gone, gone)] - gain @ covariance[np.ix_(here, gone)]


class TestAgainstTheLinearModel:
    def test_the_start_has_the_covariance_of_the_complete_data(self, linear):
        _, mean, covariance = linear
        scale = COMPLETE.std(axis=0)
        np.testing.assert_allclose(mean / scale, COMPLETE.mean(axis=0) / scale, atol=0.05)
        error = (covariance - np.cov(COMPLETE.T)) / np.outer(scale, scale)
        assert abs(error).max() < 0.1  # three standard errors, of half of the pairs

    def test_missing_entries_are_integrated_out_of_the_likelihood(self, linear):
        vae, mean, covariance = linear
        rows = HOLES[:60]
        expected = [
            scipy.stats.multivariate_normal(mean[here], covariance[np.ix_(here, here)]).logpdf(
                row[here]
            )
            if (here := ~np.isnan(row)).any()
            else 0.0
            for row in rows
        ]
        estimate = vae.log_likelihood(rows, n_draws=5000)
        np.testing.assert_allclose(np.median(estimate - expected), 0, atol=0.02)
        assert abs(np.mean(estimate - expected)) < 0.1

    def test_the_bound_is_below_the_likelihood_of_what_is_observed(self, linear):
        vae, *_ = linear
        assert vae.score(HOLES[:200]) < vae.log_likelihood(HOLES[:200], n_draws=500).mean()

    def test_filled_values_are_conditional_expectations(self, linear):
        vae, mean, covariance = linear
        rows = HOLES[:60]
        filled = vae.impute(rows, n_draws=5000)
        errors = [
            (filled[i][np.isnan(row)] - conditional(row, mean, covariance)[0])
            for i, row in enumerate(rows)
        ]
        assert np.median(abs(np.concatenate(errors))) < 0.05

    def test_draws_are_as_uncertain_as_the_values(self, linear):
        vae, mean, covariance = linear
        row = COMPLETE[0].copy()
        row[[1, 3]] = np.nan
        draws = vae.impute(row[None], n_draws=20_000, n_imputations=4000, random_state=1)
        assert draws.shape == (4000, 1, 5)
        expected, spread = conditional(row, mean, covariance)
        got = draws[:, 0, [1, 3]]
        np.testing.assert_allclose(got.mean(axis=0), expected, atol=0.15)
        np.testing.assert_allclose(np.diag(np.cov(got.T)), np.diag(spread), rtol=0.2)


def test_a_fit_fills_better_than_the_mean():
    X = load_wine().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    gone = np.random.default_rng(1).random(X.shape) < 0.3
    filled = VAE(2, **SMALL | {"epochs": 200}).fit(with_holes := np.where(gone, np.nan, X))
    error = np.mean((filled.impute(with_holes) - X)[gone] ** 2)
    assert error < 0.75 * np.mean(X[gone] ** 2)


@pytest.fixture(scope="module")
def fitted():
    return VAE(2, **SMALL).fit(HOLES[:300])


class TestContract:
    def test_what_is_observed_is_returned_bit_by_bit(self, fitted):
        for dtype in (np.float32, np.float64):
            rows = HOLES[:50].astype(dtype)
            for filled in (fitted.impute(rows, 50), *fitted.impute(rows, 50, n_imputations=3)):
                assert filled.dtype == dtype
                np.testing.assert_array_equal(filled[~MISSING[:50]], rows[~MISSING[:50]])
                assert np.isfinite(filled).all()

    def test_the_same_every_time_and_in_every_company(self, fitted):
        whole = fitted.impute(HOLES[:50], 50)
        np.testing.assert_array_equal(fitted.impute(HOLES[:50], 50), whole)
        np.testing.assert_array_equal(fitted.impute(HOLES[7:9], 50), whole[7:9])
        assert (fitted.impute(HOLES[:50], 50, random_state=1) != whole).any()

    def test_everything_else_takes_holes_as_well(self, fitted):
        rows = HOLES[:50]
        assert fitted.transform(rows).shape == (50, 2)
        assert np.isfinite(fitted.reconstruct(rows)).all()
        assert fitted.sample(4, random_state=0).shape == (4, 5)
        assert np.isfinite(fitted.transform(COMPLETE[:50])).all()
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.score_samples(rows), fitted.score_samples(rows))

    def test_files_keep_it(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        again = VAE.load(tmp_path / "model")
        assert again.schema_.holes
        np.testing.assert_array_equal(again.impute(HOLES[:9], 20), fitted.impute(HOLES[:9], 20))

    def test_held_out_cases_and_further_passes_may_have_holes(self):
        vae = VAE(2, validation_fraction=0.2, **SMALL | {"epochs": 2}).fit(HOLES[:300])
        assert np.isfinite(vae.history_["validation_elbo"]).all()
        vae.partial_fit(HOLES[300:400])
        assert vae.n_epochs_ == 3

    @pytest.mark.slow
    def test_the_search_for_epochs_takes_holes(self):
        vae = VAE(2, **SMALL | {"epochs": "auto", "batch_size": 100}).fit(HOLES[:60])
        assert np.isfinite(vae.score(HOLES[:60]))

    def test_learned_priors_take_holes(self):
        vae = VAE(2, prior="vamp", **SMALL | {"epochs": 2}).fit(HOLES[:600])
        assert np.isfinite(vae.score(HOLES[:60]))

    def test_pictures_keep_their_shape(self):
        images = rng.normal(size=(40, 4, 3))
        images[3, 1, 2] = np.nan
        vae = VAE(2, **SMALL | {"epochs": 2}).fit(images)
        assert vae.impute(images, 20).shape == (40, 4, 3)
        assert vae.impute(images, 20, n_imputations=2).shape == (2, 40, 4, 3)
        assert vae.reconstruct(images).shape == (40, 4, 3)

    def test_tables_may_have_empty_cells(self):
        table = pd.DataFrame({"a": [1, None, 3, 4], "b": [2.0, 1.0, None, 3.0]})
        for cells in (table, table.astype({"a": "Int64"})):
            vae = VAE(1, **SMALL | {"epochs": 2}).fit(cells)
            assert vae.impute(cells, 20).notna().all(axis=None)

    def test_without_holes_cases_stay_the_arrays_that_they_are(self):
        vae = VAE(2, **SMALL | {"epochs": 1}).fit(COMPLETE[:100])
        rows = COMPLETE[:3].astype(np.float32)
        assert vae.schema_.encode(rows) is rows
        holes = VAE(2, **SMALL).fit(HOLES[:90]).schema_
        assert isinstance(holes.encode(rows), Case)
        assert "some values are missing" in holes.describe()


KINDS = {
    "bernoulli": (rng.random((80, 3)) < 0.4).astype(float),
    "student-t": rng.standard_t(3, size=(80, 3)),
    "gamma": rng.gamma(2, size=(80, 3)),
    "beta": rng.beta(2, 3, size=(80, 3)),
    "negative-binomial": rng.poisson(3, size=(80, 3)).astype(float),
    "beta-binomial": rng.binomial(6, 0.4, size=(80, 3)).astype(float),
    "categorical": rng.integers(0, 4, size=(80, 3)).astype(float),
    "ordinal": rng.integers(0, 4, size=(80, 3)).astype(float),
    "discretised-logistic": rng.integers(0, 256, size=(80, 3)).astype(float),
}


@pytest.mark.parametrize("likelihood", KINDS)
def test_filled_values_are_of_their_kind(likelihood):
    gone = default_rng(3).random((80, 3)) < 0.2
    gone[:, 0] &= ~gone.all(axis=1)
    X = np.where(gone, np.nan, KINDS[likelihood])
    vae = VAE(1, likelihood=likelihood, **SMALL | {"epochs": 2}).fit(X)
    filled = vae.impute(X, 20)
    assert np.isfinite(filled).all()
    vae.schema_.kind.check(filled)
    for draw in vae.impute(X, 20, n_imputations=2):
        vae.schema_.kind.check(draw)
    assert vae.config_.init == "linear"


def test_columns_and_rows_without_a_value_are_told():
    X = HOLES[:100].copy()
    X[:, 2] = np.nan
    X[~np.isfinite(X).any(axis=1), 0] = 7.0
    X[4] = np.nan
    with pytest.warns(UserWarning, match=r"No value in") as told:
        vae = VAE(2, **SMALL | {"epochs": 2}).fit(X)
    messages = " ".join(str(each.message) for each in told)
    assert "columns [2]" in messages
    assert "rows [4]" in messages
    filled = vae.impute(X, 20)
    assert np.isnan(filled[:, 2]).all()  # nothing is known of it
    assert np.isfinite(np.delete(filled, 2, axis=1)).all()
    assert vae.elbo(X[4:5])[0] <= 0  # of nothing, whose log-probability is 0


class TestRefusals:
    def test_a_model_of_complete_data_takes_complete_data(self):
        vae = VAE(2, **SMALL | {"epochs": 1}).fit(COMPLETE[:100])
        with pytest.raises(ValueError, match=r"NaN in 2 cells: rows \[0, 1\], columns \[2\]"):
            vae.transform(np.where(np.arange(5) == 2, np.nan, COMPLETE[:2]))

    def test_comparisons_need_all_values(self):
        vae = VAE(2, **SMALL | {"epochs": 1}).fit(HOLES[:100])
        with pytest.raises(ValueError, match="without missing values for `compare`"):
            vae.compare(HOLES[100:200], train=HOLES[:100])


def _rows():
    rows = np.random.default_rng(0).normal(size=(40, 3)).round(2)
    return rows, np.random.default_rng(1).random(rows.shape) < 0.2


def _objects(rows, missing, value):
    cells = rows.astype(object)
    cells[missing] = value
    return cells


@pytest.mark.parametrize(
    "written",
    [
        lambda rows, missing: np.ma.masked_array(rows, missing),
        lambda rows, missing: np.ma.masked_array(rows.astype("f4"), missing),
        lambda rows, missing: [
            np.ma.masked_array(*pair) for pair in zip(rows, missing, strict=True)
        ],
        lambda rows, missing: _objects(rows, missing, pd.NA),
        lambda rows, missing: _objects(rows, missing, None),
        lambda rows, missing: _objects(rows, missing, pd.NA).tolist(),
    ],
    ids=["masked", "masked float32", "masked rows", "NA", "None", "NA in lists"],
)
def test_what_is_missing_may_be_written_otherwise(written):
    rows, missing = _rows()
    holes = np.where(missing, np.nan, rows)
    options = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False}
    vae, other = (VAE(1, **options).fit(X) for X in (holes, written(rows, missing)))
    np.testing.assert_array_equal(other.transform(written(rows, missing)), vae.transform(holes))
    filled = other.impute(written(rows, missing))
    np.testing.assert_allclose(filled, vae.impute(holes), rtol=1e-6)


def test_masked_integers_are_holes_as_well():
    counts = np.ma.masked_equal(np.random.default_rng(0).poisson(3, size=(40, 3)), 6)
    vae = VAE(1, likelihood="poisson", hidden=(8,), epochs=2, verbose=False).fit(counts)
    assert vae.schema_.holes and not np.isnan(vae.impute(counts)).any()
