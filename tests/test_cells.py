"""Questions to a table: cells given others, odd cells, and holes under a model of complete data."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats

from aevb import VAE

pytestmark = pytest.mark.usefixtures("own_messages")

rng = np.random.default_rng(0)
LINEAR = {"epochs": 1, "learning_rate": 1e-12, "random_state": 0, "hidden": (), "verbose": False}
SMALL = {"hidden": (16,), "epochs": 60, "random_state": 0, "verbose": False}
W = rng.normal(size=(5, 2)) * [0.9, 0.5]
X = rng.normal(size=(2000, 2)) @ W.T + rng.normal(size=(2000, 5)) + 7
HOLES = np.where(rng.random(X.shape) < 0.2, np.nan, X)
N = 400
Z = rng.normal(size=N)
TABLE = pd.DataFrame(
    {
        "visits": rng.poisson(np.exp(1 + 0.8 * Z)),
        "height": 170 + 10 * Z + rng.normal(size=N),
        "city": np.where(Z > 0, "Ulm", "Bonn"),
        "weight": 70 + 8 * Z + 2 * rng.normal(size=N),
    },
    index=np.arange(N) + 3,
)


def linear(data):
    """Return a linear model at its start, its mean and its covariance: an exact law."""
    vae = VAE(2, likelihood="gaussian", **LINEAR).fit(data)
    law, head = vae.model_.likelihood(np.zeros(2)), vae.model_.decoder.head
    if hasattr(law, "parts"):
        law, head = law.parts["data"], head.parts["data"]
    start = head.location.linear.start.value
    loadings = np.float64(start.weight) * vae.schema_.measured.scale[:, None]
    covariance = loadings @ loadings.T + np.diag(np.float64(law.variance))
    return vae, np.float64(law.mean), covariance


@pytest.fixture(scope="module", params=["complete", "holes"])
def exact(request):
    return linear(X if request.param == "complete" else HOLES)


def conditional(mean, covariance, missing, values):
    """Return mean and covariance of what is missing, given the values of the rest."""
    here = ~missing
    gain = covariance[np.ix_(missing, here)] @ np.linalg.inv(covariance[np.ix_(here, here)])
    spread = covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(here, missing)]
    return mean[missing] + gain @ (values - mean[here]), spread


class TestAgainstTheLinearModel:
    def test_filled_values_are_conditional_expectations(self, exact):
        vae, mean, covariance = exact
        missing = np.random.default_rng(2).random((40, 5)) < 0.4
        missing[missing.all(axis=1), 0] = False
        filled = vae.impute(np.where(missing, np.nan, X[:40]), n_draws=4000)
        errors = [
            filled[i][gone] - conditional(mean, covariance, gone, X[i][~gone])[0]
            for i, gone in enumerate(missing)
        ]
        assert np.median(abs(np.concatenate(errors))) < 0.06

    def test_cases_given_some_cells_follow_the_conditional_law(self, exact):
        vae, mean, covariance = exact
        drawn = vae.sample(4000, random_state=1, given={0: 9.0, 3: 6.0})
        missing = np.array([False, True, True, False, True])
        expected, spread = conditional(mean, covariance, missing, np.array([9.0, 6.0]))
        assert drawn.shape == (4000, 5)
        assert (drawn[:, [0, 3]] == [9, 6]).all()
        np.testing.assert_allclose(drawn[:, missing].mean(axis=0), expected, atol=0.1)
        np.testing.assert_allclose(np.cov(drawn[:, missing].T), spread, atol=0.25)
        centre = vae.sample(3, given={0: 9.0, 3: 6.0}, mean=True)
        np.testing.assert_allclose(centre[:, missing], np.tile(expected, (3, 1)), atol=0.1)

    def test_surprise_is_minus_the_conditional_log_density(self, exact):
        vae, mean, covariance = exact
        odd = X[:30].copy()
        odd[7, 2] += 6  # about five standard deviations
        found = vae.surprise(odd, n_draws=5000)
        for j in range(5):
            gone = np.arange(5) == j
            laws = [conditional(mean, covariance, gone, row[~gone]) for row in odd]
            expected = [
                -scipy.stats.norm.logpdf(row[j], m[0], np.sqrt(s[0, 0]))
                for row, (m, s) in zip(odd, laws, strict=True)
            ]
            np.testing.assert_allclose(found[:, j], expected, atol=0.15, rtol=0.05)
        assert np.unravel_index(found.argmax(), found.shape) == (7, 2)


@pytest.fixture(scope="module")
def mixed():
    return VAE(2, **SMALL).fit(TABLE)


class TestTables:
    def test_given_a_category(self, mixed):
        for city, sign in (("Ulm", 1), ("Bonn", -1)):
            drawn = mixed.sample(1000, random_state=0, given={"city": city})
            assert (drawn["city"] == city).all()
            assert list(drawn.dtypes) == list(TABLE.dtypes)
            own = TABLE[TABLE["city"] == city]
            assert sign * (drawn["height"].mean() - 170) > 4
            assert abs(drawn["height"].mean() - own["height"].mean()) < 2
            assert abs(drawn["visits"].mean() / own["visits"].mean() - 1) < 0.25

    def test_given_more_than_was_ever_seen(self, mixed):
        drawn = mixed.sample(500, random_state=0, given={"city": "Bonn", "height": 182.0})
        assert (drawn["city"] == "Bonn").all()
        assert drawn["weight"].mean() > 72  # the height counts for more

    def test_the_wrong_cell_is_found(self, mixed):
        spoilt = TABLE.copy()
        rows = np.arange(0, 60, 3)
        spoilt.loc[spoilt.index[rows], "height"] = 340 - spoilt["height"].iloc[rows]
        tall = rows[abs(TABLE["height"].iloc[rows] - 170) > 8]
        nats = mixed.surprise(spoilt, 500)
        assert isinstance(nats, pd.DataFrame)
        assert nats.index.equals(TABLE.index)
        relative = (nats - mixed.surprise(TABLE, 500).median()).iloc[tall]
        assert (relative.idxmax(axis=1) == "height").mean() > 0.8

    @pytest.mark.slow
    def test_missing_cells_have_none(self):
        holes = TABLE.astype({"visits": "Int64"}).mask(rng.random(TABLE.shape) < 0.2)
        vae = VAE(2, **SMALL | {"epochs": 2}).fit(holes)
        nats = vae.surprise(holes[:40], 50)
        np.testing.assert_array_equal(nats.isna().to_numpy(), holes[:40].isna().to_numpy())
        drawn = vae.sample(5, given={"visits": 3, "city": "Ulm"})
        assert (drawn["visits"] == 3).all()
        assert drawn.notna().all(axis=None)

    def test_a_model_of_complete_tables_fills_them(self, mixed):
        gone = np.random.default_rng(3).random(TABLE.shape) < 0.2
        holes = TABLE.astype({"visits": "Int64"}).mask(gone)
        filled = mixed.impute(holes, 300)
        assert filled.notna().all(axis=None)
        assert (filled["city"] == TABLE["city"])[gone[:, 2]].mean() > 0.85
        error = (filled["height"] - TABLE["height"])[gone[:, 1]]
        assert np.sqrt(np.mean(error**2)) < 0.6 * TABLE["height"].std()
        assert len(mixed.impute(holes[:5], 50, n_imputations=3)) == 3
        with pytest.raises(ValueError, match="NaN in"):
            mixed.transform(holes)  # the encoder needs them

    @pytest.mark.slow  # compiles for a model of its own
    def test_polars(self):
        table = pl.from_pandas(TABLE)
        vae = VAE(1, **SMALL | {"epochs": 2}).fit(table)
        assert vae.surprise(table[:5], 50).columns == table.columns
        assert vae.sample(3, given={"city": "Ulm"})["city"].to_list() == ["Ulm"] * 3


@pytest.mark.slow
def test_under_a_condition():
    vae = VAE(1, **SMALL).fit(TABLE.drop(columns="city"), condition=TABLE["city"])
    drawn = vae.sample(200, random_state=0, given={"visits": 3}, condition="Ulm")
    other = vae.sample(200, random_state=0, given={"visits": 3}, condition="Bonn")
    assert drawn["height"].mean() > other["height"].mean()
    nats = vae.surprise(TABLE.drop(columns="city")[:9], 50, condition=TABLE["city"][:9])
    assert nats.notna().all(axis=None)
    with pytest.raises(ValueError, match="a single `condition`"):
        vae.sample(given={"visits": 3}, condition=["Ulm", "Bonn"])


def test_pictures_have_a_surprise_for_each_pixel():
    images = (rng.random((60, 4, 4)) < 0.5).astype(np.uint8) * 255
    vae = VAE(2, **SMALL | {"epochs": 2}).fit(images)
    nats = vae.surprise(images[:3], 50)
    assert nats.shape == (3, 4, 4)
    assert (nats > 0).all()  # probabilities


def test_the_same_every_time_and_in_every_company(mixed):
    whole = mixed.surprise(TABLE[:20], 50)
    pd.testing.assert_frame_equal(mixed.surprise(TABLE[:20], 50), whole)
    pd.testing.assert_frame_equal(mixed.surprise(TABLE[7:9], 50), whole[7:9])
    one, other = (mixed.sample(5, 1, given={"city": "Ulm"}) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


REFUSED = {
    "an unknown column": ({"cty": "Ulm"}, ValueError, r"in `given`; got 'cty'.* mean 'city'"),
    "an unknown category": ({"city": "Genf"}, ValueError, "'Bonn', 'Ulm'.*got 'Genf'"),
    "several values": ({"city": ["Ulm", "Bonn"]}, ValueError, "single value for column 'city'"),
    "another kind": ({"height": "tall"}, TypeError, "'height'"),
    "nothing": ({}, TypeError, "dictionary"),
    "no dictionary": ("Ulm", TypeError, "dictionary"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_given(name, mixed):
    given, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        mixed.sample(3, given=given)


def test_positions_of_arrays():
    vae = VAE(1, **SMALL | {"epochs": 1}).fit(X[:100])
    with pytest.raises(ValueError, match=r"from 0 to 4 in `given`; got 5"):
        vae.sample(given={5: 1.0})
