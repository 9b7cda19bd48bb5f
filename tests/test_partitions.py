"""`Predictor`: each row's own result whatever the partition, in any container, loaded once."""

import itertools
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from aevb import VAE, Predictor, partitions

rng = np.random.default_rng(0)
N = 60
TABLE = pd.DataFrame(
    {
        "size": rng.normal(size=N),
        "count": rng.poisson(3, N),
        "town": rng.choice(["Bonn", "Ulm"], N),
        "level": pd.Categorical(rng.choice(["low", "high"], N), ["low", "high"], ordered=True),
        "owner": rng.random(N) < 0.5,
        "day": pd.Timestamp("2000-01-01") + pd.to_timedelta(rng.integers(0, 999, N), unit="D"),
    }
)
TABLE.index = pd.Index(rng.permutation(N) + 100, name="number")
ROWS = rng.normal(size=(N, 3))
QUICK = {"hidden": (5,), "epochs": 2, "random_state": 0, "verbose": False}
OPTIONS = {
    "transform": {},
    "reconstruct": {},
    "impute": {"n_draws": 5},
    "surprise": {"n_draws": 5},
    "elbo": {"n_draws": 3},
    "score_samples": {},
    "log_likelihood": {"n_draws": 5, "random_state": 3},
    "bits_per_dimension": {"n_draws": 5, "bin_width": 0.1},
}


@pytest.fixture(scope="module")
def of_table(tmp_path_factory):
    vae = VAE(2, **QUICK).fit(TABLE)
    path = tmp_path_factory.mktemp("partitions") / "table.aevb"
    vae.save(path)
    return vae, path


@pytest.fixture(scope="module")
def of_rows():
    return VAE(2, **QUICK).fit(ROWS)


def pieces(n, sizes=(1, 7, 20)):
    """Return slices of some sizes that cover n rows."""
    ends = np.cumsum([0, *sizes, n - sum(sizes)])
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def test_every_method_of_one_result_a_case_is_there():
    assert set(OPTIONS) == set(partitions._METHODS)


@pytest.mark.quick(3)
@pytest.mark.parametrize("method", OPTIONS)
def test_partitions_of_pandas_have_the_rows_of_the_whole(method, of_table):
    vae, path = of_table
    predict = Predictor(path, method, **OPTIONS[method])
    table = TABLE
    if method == "impute":
        table = TABLE.astype({"count": "Int64", "owner": "boolean"}).mask(
            rng.random(TABLE.shape) < 0.2
        )
    found = pd.concat([predict(table.iloc[piece]) for piece in pieces(N)])
    whole = predict(table)
    pd.testing.assert_frame_equal(found, whole, check_exact=True)
    expected = getattr(vae, method)(table, **OPTIONS[method])
    np.testing.assert_array_equal(np.squeeze(whole.to_numpy()), np.asarray(expected))
    assert whole.index.equals(TABLE.index)
    nothing = predict(table.iloc[:0])
    assert list(nothing.columns) == list(whole.columns) and len(nothing) == 0
    assert (nothing.dtypes == whole.dtypes).all()


LIBRARIES = {
    "pandas": lambda table: table,
    "polars": pl.from_pandas,
    "pyarrow": pa.Table.from_pandas,
}


def types_of(table):
    return table.schema if isinstance(table, pa.Table) else table.dtypes


@pytest.mark.parametrize("method", ["transform", "reconstruct", "surprise", "elbo"])
@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_a_table_comes_back_in_its_own_library(library, method, of_table):
    """The model was fitted to pandas: a cell is the same whatever the library."""
    _, path = of_table
    predict = Predictor(path, method, **OPTIONS[method])
    table = LIBRARIES[library](TABLE.reset_index(drop=True))
    found = predict(table)
    assert type(found) is type(table)
    whole = predict(TABLE.reset_index(drop=True))
    again = found.to_pandas()
    assert list(again.columns) == list(whole.columns)
    for name in whole:
        np.testing.assert_array_equal(again[name].to_numpy(), whole[name].to_numpy())
    nothing = predict(table[:0])
    assert len(nothing) == 0 and str(types_of(nothing)) == str(types_of(found))


@pytest.mark.parametrize("method", ["transform", "reconstruct", "surprise", "elbo", "impute"])
def test_a_dict_of_arrays_comes_back_as_one(method, of_table):
    _, path = of_table
    predict = Predictor(path, method, **OPTIONS[method])
    whole = predict(TABLE)
    batch = {name: TABLE[name].to_numpy() for name in TABLE}
    found = predict(batch)
    assert list(found) == list(whole.columns)
    for name, values in found.items():
        assert isinstance(values, np.ndarray)
        np.testing.assert_array_equal(values, whole[name].to_numpy())
    nothing = predict({name: values[:0] for name, values in batch.items()})
    assert {name: len(values) for name, values in nothing.items()} == dict.fromkeys(found, 0)


@pytest.mark.quick(4)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", OPTIONS)
def test_an_array_comes_back_as_one(method, dtype, of_rows):
    X = ROWS.astype(dtype)
    predict = Predictor(of_rows, method, **OPTIONS[method])
    whole = getattr(of_rows, method)(X, **OPTIONS[method])
    found = np.concatenate([predict(X[piece]) for piece in pieces(N)])
    assert isinstance(found, np.ndarray) and found.dtype == whole.dtype
    np.testing.assert_array_equal(found, whole)
    nothing = predict(X[:0])
    assert nothing.dtype == whole.dtype and nothing.shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("method", ["reconstruct", "impute"])
def test_columns_of_numbers_keep_the_names_of_the_partition(method, of_rows):
    """The model was fitted to an array, which has none."""
    predict = Predictor(of_rows, method, **OPTIONS[method])
    whole = predict(ROWS)
    for names in (["a", "b", "c"], [7, 8, 9]):
        table = pd.DataFrame(ROWS, columns=names, index=TABLE.index)
        found = predict(table)
        assert list(found.columns) == names and found.index.equals(table.index)
        np.testing.assert_array_equal(found.to_numpy(), whole)
        assert (predict(table[:0]).dtypes == found.dtypes).all()
    found = predict({"a": ROWS[:, 0], "b": ROWS[:, 1], "c": ROWS[:, 2]})
    np.testing.assert_array_equal(np.column_stack([found[name] for name in "abc"]), whole)


def test_pictures_in_a_dict_stay_pictures():
    X = rng.random((30, 4, 5))
    vae = VAE(2, **QUICK).fit(X)
    found = Predictor(vae, "reconstruct", keep="path")({"path": np.arange(30), "picture": X})
    np.testing.assert_array_equal(found["picture"], vae.reconstruct(X))
    np.testing.assert_array_equal(found["path"], np.arange(30))
    table = pd.DataFrame(X.reshape(30, 20))
    found = Predictor(vae, "reconstruct")(table)
    np.testing.assert_array_equal(found.to_numpy(), vae.reconstruct(X).reshape(30, 20))


CONDITIONS = {
    "labels": (lambda table: table["town"].to_numpy(), "town"),
    "numbers": (lambda table: table[["size", "count"]].to_numpy(), ["size", "count"]),
    "a table": (lambda table: table[["town", "day"]], ["town", "day"]),
    "a dict": (lambda table: {"town": table["town"].tolist()}, "town"),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_taken_from_the_columns_of_the_partition(name):
    told, condition = CONDITIONS[name]
    X = pd.DataFrame(ROWS, columns=["a", "b", "c"], index=TABLE.index)
    vae = VAE(2, **QUICK).fit(X, condition=told(TABLE))
    expected = vae.transform(X, condition=told(TABLE))
    predict = Predictor(vae, condition=condition)
    whole = pd.concat([X, TABLE], axis=1)[["a", "b", "c", *np.ravel(condition)]]
    for convert in LIBRARIES.values():
        found = predict(convert(whole.reset_index(drop=True)))
        np.testing.assert_array_equal(np.asarray(found), expected)
    found = predict({column: whole[column].to_numpy() for column in whole})
    np.testing.assert_array_equal(np.column_stack(list(found.values())), expected)
    assert len(predict(whole[:0])) == 0


def test_an_exposure_is_taken_from_the_columns_of_the_partition():
    counts = pd.DataFrame(rng.poisson(3, (N, 2)), columns=["a", "b"])
    years = rng.uniform(1, 2, N)
    vae = VAE(1, likelihood="poisson", **QUICK).fit(counts, exposure=years)
    found = Predictor(vae, "elbo", exposure="years")(counts.assign(years=years))
    np.testing.assert_array_equal(found["elbo"], vae.elbo(counts, exposure=years))
    by_total = VAE(1, likelihood="poisson", **QUICK).fit(counts + 1, exposure="total")
    found = Predictor(by_total, "elbo")(counts + 1)
    np.testing.assert_array_equal(found["elbo"], by_total.elbo(counts + 1))


def test_columns_are_kept_in_front_as_they_are(of_table):
    vae, path = of_table
    table = TABLE.assign(id=[f"case {i}" for i in range(N)])
    predict = Predictor(path, keep=["id", "town"])  # an identifier, and one that the model reads
    found = predict(table)
    assert list(found.columns) == ["id", "town", "vae0", "vae1"]
    pd.testing.assert_frame_equal(found[["id", "town"]], table[["id", "town"]])
    np.testing.assert_array_equal(found[["vae0", "vae1"]], vae.transform(TABLE))
    assert (predict(table[:0]).dtypes == found.dtypes).all()


# The model and its file.


def test_a_file_is_loaded_once_for_all_threads_and_again_when_it_changes(of_table, tmp_path):
    vae, _ = of_table
    path = tmp_path / "model.aevb"
    vae.save(path)
    partitions._loaded.cache_clear()
    predict = Predictor(path)
    again = pickle.loads(pickle.dumps(predict))
    start = threading.Barrier(4)

    def one(predict):
        start.wait()
        return predict(TABLE)

    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(one, [predict, again] * 2)]
    assert partitions._loaded.cache_info().misses == 1
    for each in found:
        pd.testing.assert_frame_equal(each, predict(TABLE))
    other = VAE(1, **QUICK).fit(TABLE)
    other.save(path)
    os.utime(path, ns=(0, 0))  # whatever the resolution of the clock
    assert list(predict(TABLE).columns) == ["vae0"]
    assert partitions._loaded.cache_info().misses == 2


def test_a_path_is_that_of_the_caller_and_a_fitted_model_travels_by_itself(of_table, monkeypatch):
    vae, path = of_table
    monkeypatch.chdir(path.parent)
    by_path, by_model = Predictor(path.name), Predictor(vae)
    monkeypatch.chdir("/")
    for predict in (by_path, by_model):
        again = pickle.loads(pickle.dumps(predict))
        np.testing.assert_array_equal(again(TABLE), vae.transform(TABLE))
    assert len(pickle.dumps(by_path)) < 1000 < len(pickle.dumps(by_model))


def test_what_scikit_learn_is_set_to_return_changes_nothing(of_rows):
    vae = pickle.loads(pickle.dumps(of_rows)).set_output(transform="pandas")
    found = Predictor(vae)(ROWS)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, of_rows.transform(ROWS))


REFUSED = {
    "no method": ({"method": "encode"}, ValueError, "Expected one of 'transform'.*got 'encode'"),
    "no option": ({"method": "elbo", "n_draw": 3}, ValueError, "Did you mean 'n_draws'"),
    "several tables": ({"method": "impute", "n_imputations": 2}, ValueError, "n_imputations"),
    "a generator": (
        {"method": "elbo", "random_state": np.random.RandomState(0)},
        TypeError,
        "integer.*random_state",
    ),
    "a condition": ({"condition": "town"}, ValueError, "`condition` left at None.*'town'"),
    "an exposure": ({"exposure": "years"}, ValueError, "`exposure` left at None.*'years'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_at_once(name, of_rows):
    options, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        Predictor(of_rows, **options)


def test_what_is_missing_is_named(of_rows, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Expected a model file.*nothing\.aevb"):
        Predictor(tmp_path / "nothing.aevb")
    with pytest.raises(TypeError, match=r"path.*or a fitted VAE.*got int"):
        Predictor(3)
    with pytest.raises(ValueError, match="not fitted"):
        Predictor(VAE())
    labelled = VAE(1, **QUICK).fit(ROWS, condition=[*"ab"] * 30)
    with pytest.raises(ValueError, match=r"name of a column for `condition`.*got None"):
        Predictor(labelled)
    exposed = VAE(1, likelihood="poisson", **QUICK).fit(np.eye(6) + 1, exposure=np.arange(1, 7))
    with pytest.raises(ValueError, match=r"name of a column for `exposure`.*got None"):
        Predictor(exposed)
    predict = Predictor(labelled, condition="label")
    with pytest.raises(ValueError, match=r"missing are \['label'\], among \['a'\]"):
        predict(pd.DataFrame({"a": [1.0]}))
    with pytest.raises(ValueError, match=r"`keep`.*'surprise'.*got \['a'\]"):
        table = pd.DataFrame(ROWS, columns=list("abc"))
        Predictor(VAE(1, **QUICK).fit(table), "surprise", keep="a", n_draws=2)(table)
    with pytest.raises(TypeError, match=r"with names.*got ndarray"):
        predict(ROWS)
