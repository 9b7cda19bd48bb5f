"""Tables of mixed columns: a likelihood for each by rule, and everything back in their own form."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from aevb import VAE, Gaussian, likelihoods
from aevb.columns import Columns
from aevb.models.kinds.case import Case
from aevb.schema import Schema

pytestmark = pytest.mark.usefixtures("own_messages")

rng = np.random.default_rng(0)
SMALL = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False}
N = 200
Z = rng.normal(size=N)
DAYS = pd.to_timedelta(np.round(300 * Z + 1000), unit="D")
MIXED = pd.DataFrame(
    {
        "visits": rng.poisson(np.exp(1 + 0.8 * Z)),
        "height": 170 + 10 * Z + rng.normal(size=N),
        "city": np.where(Z > 0.5, "Ulm", np.where(rng.random(N) < 0.5, "Bonn", "Köln")),
        "grade": pd.Categorical.from_codes(
            np.clip(np.round(Z + 1.5), 0, 3).astype(int), list("abcde"), ordered=True
        ),
        "smoker": Z + rng.normal(size=N) > 0.5,
        "flag": (Z > 0).astype(np.int8),
        "since": pd.Timestamp("2020-01-01") + DAYS,
        "colour": rng.choice(list("rgbyckm"), N),
    },
    index=np.arange(N) + 7,
)
GONE = rng.random(MIXED.shape) < 0.2
GONE[:9] = False


def with_holes(table):
    nullable = {"visits": "Int64", "smoker": "boolean", "flag": "Int8"}
    return table.astype(nullable).mask(GONE[: len(table)])


HOLES = with_holes(MIXED)


@pytest.fixture(scope="module")
def complete():
    return VAE(2, **SMALL).fit(MIXED)


@pytest.fixture(scope="module")
def holey():
    return VAE(2, **SMALL).fit(HOLES)


# The rules.

RULES = {
    "truth values": ([True, False, True], "bernoulli"),
    "truth among objects": ([True, None, False], "bernoulli"),
    "zeros and ones": ([0, 1, 1], "bernoulli"),
    "zeros and ones as floats": ([0.0, 1.0, 1.0], "bernoulli"),
    "texts": (["x", "y", "x"], "categorical"),
    "categories": (pd.Categorical([3, 4, 3]), "categorical"),
    "ordered categories": (pd.Categorical(["a", "b", "a"], ordered=True), "ordinal"),
    "counts": ([0, 7, 2], "negative-binomial"),
    "counts with an empty cell": ([0.0, 7.0, None, 3.0], "negative-binomial"),
    "whole numbers as floats": ([0.0, 7.0, 2.0], "gaussian"),
    "years": ([1999, 2003, 2001], "gaussian"),
    "negative whole numbers": ([-1, 7, 2], "gaussian"),
    "large whole numbers": ([10, 2_000_000, 3], "gaussian"),
    "numbers": ([0.5, 0.7, 0.1], "gaussian"),
    "dates": (pd.to_datetime(["2020-01-01", "2021-01-01", "2020-05-01"]), "gaussian"),
    "durations": (pd.to_timedelta([1, 2, 3], unit="D"), "gaussian"),
}


@pytest.mark.parametrize("name", RULES)
def test_each_column_has_its_likelihood_by_rule(name):
    cells, expected = RULES[name]
    columns, _ = Columns.learn(pd.DataFrame({"it": cells}))
    assert columns["it"].name == expected
    assert columns.choices[0].why


def test_what_was_chosen_prints_as_a_table(complete):
    said = str(complete.likelihood_)
    assert said.splitlines()[0].split() == ["column", "type", "likelihood", "why"]
    assert "3 categories" in said
    assert "variance" in said
    assert complete.likelihood_["grade"] == likelihoods.Ordinal()
    assert list(complete.likelihood_) == list(MIXED.columns)
    assert "1 ordinal" in complete.schema_.describe()


@pytest.mark.slow
def test_columns_may_be_told():
    told = {"height": "log-normal", "visits": likelihoods.Poisson()}
    chosen = VAE(1, likelihood=told, **SMALL).fit(MIXED).likelihood_
    assert (chosen["height"].name, chosen["visits"].name) == ("log-normal", "poisson")
    assert chosen["city"].name == "categorical"
    numbers = MIXED[["height", "visits"]]
    assert VAE(1, likelihood="gaussian", **SMALL).fit(numbers).likelihood_["visits"] == Gaussian()


def test_numbers_may_be_taken_for_categories():
    table = pd.DataFrame({"cylinders": [4, 6, 8, 8, 4, 6] * 5, "weight": rng.normal(size=30)})
    vae = VAE(1, likelihood={"cylinders": "categorical"}, **SMALL).fit(table)
    assert set(vae.sample(50, random_state=0)["cylinders"]) <= {4, 6, 8}
    with pytest.raises(ValueError, match=r"column 'cylinders' .* got 5 in row 0"):
        vae.transform(table.assign(cylinders=5))


def test_a_table_of_pixels_is_a_picture():
    pixels = pd.DataFrame(rng.integers(0, 256, size=(40, 6)).astype(np.uint8))
    pixels[0] = np.uint8(0)
    vae = VAE(1, **SMALL).fit(pixels)
    array = VAE(1, **SMALL).fit(pixels.to_numpy())
    assert vae.schema_.kind == array.schema_.kind
    np.testing.assert_array_equal(vae.elbo(pixels), array.elbo(pixels.to_numpy()))
    assert (vae.sample(3).dtypes == np.uint8).all()


def test_columns_of_one_likelihood_are_one_block():
    table = pd.DataFrame(rng.normal(size=(40, 30))).add_prefix("x")
    table["three"], table["four"] = list("abca" * 10), list("abcd" * 10)
    table["nine"] = list("abcdefghi" * 4) + list("abcd")
    schema = VAE(1, **SMALL).fit(table).schema_
    assert {name: len(part.columns) for name, part in schema.parts.items()} == {
        "categorical-4": 2,  # padded to four
        "categorical-16": 1,
        "gaussian": 30,
    }


# There and back.


def assert_same_form(new, table):
    assert list(new.columns) == list(table.columns)
    pd.testing.assert_series_equal(new.dtypes, table.dtypes)


def test_predictions_have_the_form_of_the_table(complete):
    drawn = complete.sample(50, random_state=1)
    assert_same_form(drawn, MIXED)
    assert set(drawn["city"]) <= {"Ulm", "Bonn", "Köln"}
    assert list(drawn["grade"].cat.categories) == list("abcde")
    assert drawn["since"].between("2015", "2030").all()
    assert (drawn["since"] == drawn["since"].dt.normalize()).all()  # whole days, as in the table
    assert_same_form(complete.sample(5, mean=True), MIXED)
    back = complete.reconstruct(MIXED)
    assert_same_form(back, MIXED)
    assert back.index.equals(MIXED.index)
    assert_same_form(complete.inverse_transform(np.zeros((3, 2))), MIXED)
    assert complete.transform(MIXED).shape == (N, 2)


@pytest.mark.slow
def test_what_is_filled_is_of_its_kind_and_the_rest_as_it_was(holey):
    filled = holey.impute(HOLES, 50)
    assert_same_form(filled, HOLES)
    assert filled.index.equals(HOLES.index)
    assert filled.notna().all(axis=None)
    for name in HOLES:
        here = HOLES[name].notna()
        pd.testing.assert_series_equal(filled[name][here], HOLES[name][here])
    draws = holey.impute(HOLES, 50, n_imputations=2)
    assert len(draws) == 2
    assert draws[0].notna().all(axis=None)
    assert (draws[0] != draws[1]).any(axis=None)


def test_columns_speak_of_one_another():
    vae = VAE(2, **SMALL | {"epochs": 60}).fit(HOLES)
    gone = HOLES["flag"].isna()
    right = vae.impute(HOLES, 200)["flag"][gone] == MIXED["flag"][gone]
    assert right.mean() > 0.7  # a coin: a half
    error = (vae.impute(HOLES, 200)["height"] - MIXED["height"])[HOLES["height"].isna()]
    assert np.sqrt(np.mean(error**2)) < 0.6 * MIXED["height"].std()


@pytest.mark.parametrize("library", ["polars", "arrow"])
def test_other_libraries_get_their_own_tables(library):
    plain = HOLES.assign(grade=HOLES["grade"].astype(str).where(HOLES["grade"].notna()))
    arrow = pa.Table.from_pandas(plain, preserve_index=False)
    table = arrow if library == "arrow" else pl.from_arrow(arrow)
    vae = VAE(2, **SMALL).fit(table)
    for new in (vae.sample(4), vae.reconstruct(table), vae.impute(table, 20)):
        assert type(new) is type(table)
        assert new.schema == table.schema if library == "polars" else True
    expected = VAE(2, **SMALL).fit(plain)
    np.testing.assert_array_equal(vae.elbo(table), expected.elbo(plain))


def test_files_and_pickles_keep_it(holey, tmp_path):
    holey.save(tmp_path / "model")
    for again in (VAE.load(tmp_path / "model"), pickle.loads(pickle.dumps(holey))):
        np.testing.assert_array_equal(again.elbo(HOLES), holey.elbo(HOLES))
        pd.testing.assert_frame_equal(again.impute(HOLES, 20), holey.impute(HOLES, 20))
        pd.testing.assert_frame_equal(again.sample(9), holey.sample(9))
        assert str(again.likelihood_) == str(holey.likelihood_)


@pytest.mark.slow
def test_files_keep_what_was_told(tmp_path):
    vae = VAE(1, likelihood={"visits": likelihoods.Poisson()}, **SMALL).fit(MIXED)
    vae.save(tmp_path / "model")
    again = VAE.load(tmp_path / "model")
    assert again.get_params()["likelihood"] == {"visits": likelihoods.Poisson()}
    assert again.likelihood_["visits"] == likelihoods.Poisson()


@pytest.mark.slow
def test_held_out_rows_and_further_passes():
    vae = VAE(2, validation_fraction=0.2, **SMALL).fit(MIXED)
    assert np.isfinite(vae.history_["validation_elbo"]).all()
    vae.partial_fit(MIXED[:50])
    assert np.isfinite(vae.score(MIXED))
    vamp = VAE(2, prior="vamp", **SMALL | {"epochs": 1}).fit(pd.concat([HOLES] * 3))
    assert np.isfinite(vamp.score(HOLES))


def test_numbers_of_a_table_may_come_as_an_array():
    numbers = MIXED[["height", "visits"]]
    vae = VAE(1, **SMALL).fit(numbers)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        Z = vae.transform(numbers.to_numpy())
    np.testing.assert_array_equal(Z, vae.transform(numbers))


# Origins: float32 holds what float64 did.


@pytest.mark.parametrize("offset", [1.7e9, -1e12])
def test_a_large_offset_is_taken_away_first(offset):
    small = pd.DataFrame({"t": MIXED["height"] - 170, "h": MIXED["height"] + rng.normal(size=N)})
    large = small.assign(t=small["t"] + offset)
    a, b = (VAE(1, **SMALL | {"epochs": 30}).fit(table) for table in (small, large))
    np.testing.assert_allclose(a.score(small), b.score(large), atol=0.05)
    assert abs(b.sample(100, random_state=0)["t"] - offset).max() < 100
    np.testing.assert_allclose(
        a.reconstruct(small)["t"], b.reconstruct(large)["t"] - offset, atol=2
    )


def test_dates_count_in_days():
    days = (MIXED["since"] - pd.Timestamp("1970-01-01")).dt.days.astype(float)
    tables = [pd.DataFrame({"d": column, "z": Z}) for column in (MIXED["since"], days)]
    scores = [VAE(1, **SMALL).fit(table).score(table) for table in tables]
    np.testing.assert_allclose(*scores, atol=0.02)  # nats, after training in float32


# Columns that say nothing.


def test_columns_that_do_not_vary_are_left_out_and_come_back():
    table = HOLES.assign(one=5, text="x", empty=None)
    with pytest.warns(UserWarning) as told:
        vae = VAE(2, **SMALL).fit(table)
    messages = " ".join(str(each.message) for each in told)
    assert "Columns ['one', 'text'] of `X` have a single value each" in messages
    assert "Column 'empty' of `X` has no value" in messages
    without = VAE(2, **SMALL).fit(HOLES)
    np.testing.assert_array_equal(vae.elbo(table), without.elbo(HOLES))  # at 0 nats
    drawn = vae.sample(5)
    assert (drawn["one"] == 5).all()
    assert (drawn["text"] == "x").all()
    assert drawn["empty"].isna().all()
    filled = vae.impute(table, 20)
    assert filled.drop(columns="empty").notna().all(axis=None)
    np.testing.assert_array_equal(vae.elbo(table.assign(one=None)), vae.elbo(table))
    assert "(left out)" in str(vae.likelihood_)


def test_identifiers_are_told():
    table = MIXED.assign(name=[f"n{j}" for j in range(N)])
    columns, _ = Columns.learn(table)
    assert f"{N} categories in {N} rows" in str(columns)


# What is refused.


def test_an_unseen_category_is_named(complete):
    later = MIXED.copy()
    later.loc[12, "city"] = "Genf"
    for method in (complete.transform, complete.elbo, complete.partial_fit):
        with pytest.raises(ValueError, match=r"\['Bonn', .*\], for column 'city'.*'Genf' in row 5"):
            method(later)


def test_an_unseen_category_may_count_as_missing():
    vae = VAE(1, unseen="missing", **SMALL).fit(MIXED)
    later = MIXED.copy()
    later.loc[12, "city"] = "Genf"
    assert np.isfinite(vae.elbo(later)).all()
    later.loc[12, "city"] = None
    assert vae.elbo(later)[5] == pytest.approx(
        vae.elbo(MIXED.assign(city=MIXED["city"].where(MIXED.index != 12, "Genf")))[5]
    )


MISTAKES = {
    "a missing column": (lambda t: t.drop(columns="city"), ValueError, r"missing:\n- city"),
    "a renamed column": (lambda t: t.rename(columns={"city": "town"}), ValueError, "unseen at fit"),
    "an empty cell": (
        lambda t: t.assign(height=t["height"].where(t["height"] < 180)),
        ValueError,
        r"NaN in \d+ cells: .*'height'",
    ),
    "another type": (lambda t: t.assign(height="tall"), TypeError, "number values.*'height'"),
    "no table": (lambda t: t.to_numpy(), (TypeError, ValueError), "Expected"),
    "no rows": (lambda t: t[:0], ValueError, r"at least 1 row .* shape \(0, 8\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_later_tables_that_do_not_fit(name, complete):
    spoil, error, message = MISTAKES[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        with pytest.raises(error, match=message):
            complete.transform(spoil(MIXED))


REFUSED = {
    "an unknown column": ({"hight": "gamma"}, ValueError, r"got 'hight'.* mean 'height'"),
    "an unknown likelihood": ({"height": "gama"}, ValueError, "mean 'gamma'"),
    "a support": ({"height": "beta"}, ValueError, r"likelihood 'beta'.*column 'height'"),
    "texts as numbers": ({"city": "gaussian"}, TypeError, r"'city'; got 'gaussian'"),
    "texts in order": ({"city": "ordinal"}, TypeError, "ordered=True"),
    "dates as amounts": ({"since": "gamma"}, TypeError, "'since'; got 'gamma'"),
    "all columns": ("gaussian", TypeError, "'city'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_likelihoods_that_do_not_suit(name):
    told, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        VAE(1, likelihood=told, **SMALL).fit(MIXED)


def test_likelihoods_by_column_need_columns():
    with pytest.raises((TypeError, ValueError), match="table"):
        VAE(1, likelihood={"a": "gamma"}, **SMALL).fit(np.ones((4, 2)))


def test_mixed_types_are_refused_by_row():
    with pytest.raises(TypeError, match=r"column 'it' of `X`; got numbers \(row 0: 1\) and texts"):
        VAE(1, **SMALL).fit(pd.DataFrame({"it": [1, "x", 2], "z": [1.0, 2.0, 3.0]}))


def test_a_table_that_does_not_vary_is_refused():
    with pytest.raises(ValueError, match="at least one column that varies"):
        VAE(1, **SMALL).fit(pd.DataFrame({"a": [1, 1], "b": ["x", "x"]}))


def test_comparisons_need_one_likelihood(complete):
    with pytest.raises(TypeError, match="data of one likelihood"):
        complete.compare(MIXED[:50], train=MIXED[50:])


# The encoded case.


def test_a_case_has_a_block_for_each_likelihood(holey):
    columns, rows = Columns.learn(HOLES)
    schema = Schema.fit(rows, columns=columns)
    case = schema.encode(rows)
    assert isinstance(case, Case)
    assert list(case.blocks) == sorted(case.blocks)  # as JAX has them
    assert {block.shape[1] for block in case.observed.values()} == {1, 2}
    np.testing.assert_array_equal(
        np.sum([seen.sum() for seen in case.observed.values()]), HOLES.notna().sum().sum()
    )


def test_a_table_of_numbers_is_the_plain_array():
    numbers = pd.DataFrame(rng.normal(size=(20, 3)), columns=list("abc"))
    vae = VAE(1, **SMALL).fit(numbers)
    assert vae.schema_.is_plain
    expected = VAE(1, **SMALL).fit(numbers.to_numpy())
    np.testing.assert_array_equal(vae.elbo(numbers), expected.elbo(numbers.to_numpy()))
