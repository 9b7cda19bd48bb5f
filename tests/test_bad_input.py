"""What a user can get wrong is said before the first step, and costs nothing that was there."""

import decimal
import re
import warnings

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import HealthCheck, example, given, settings

from aevb import VAE, FitWarning, TrainingDiverged, predict

pytestmark = pytest.mark.usefixtures("own_messages")

TABLE = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
IMAGES = np.random.default_rng(0).random((30, 2, 3)).astype(np.float32)
SMALL = {"hidden": (3,), "epochs": 1, "random_state": 0}


def table_with(*cells, names=None):
    """Return the table with values put in: (row, column, value)."""
    X = TABLE.astype(np.float64)
    for row, column, value in cells:
        X[row, column] = value
    return X if names is None else pd.DataFrame(X, columns=list(names))


def frame(**columns):
    """Return a table of four rows, with further columns."""
    return pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 0.0, 2.0, 1.0], **columns})


INFINITIES = table_with(*((row, row % 4, np.inf) for row in range(8)))

# What is given to `fit`, and what the message must say.
BAD_DATA = {
    "infinity": (table_with((7, 2, -np.inf)), r"infinity \(inf\) in 1 cell: rows \[7\], .*\[2\]"),
    "infinity beside a hole": (
        table_with((3, 1, np.nan), (7, 1, np.inf)),
        r"infinity \(inf\) in 1 cell: rows \[7\], columns \[1\]",
    ),
    "many infinities": (
        INFINITIES,
        r"rows \[0, 1, 2, 3, 4, … \(8 in all\)\], columns \[0, 1, 2, 3\]",
    ),
    "opposite infinities": (
        table_with((0, 0, np.inf), (1, 0, -np.inf)),
        r"infinity \(inf\) in 2 cells: rows \[0, 1\], columns \[0\]",
    ),
    "infinity in a named column": (
        table_with((3, 1, np.inf), names="abcd"),
        r"column 'b' of `X`; got infinity \(inf\) in rows \[3\]",
    ),
    "nothing but holes": (np.full((5, 2, 2), np.nan), "got none: every cell is missing"),
    "too large for float32": (
        table_with((4, 3, 1e300)),
        r"range of float32 .* got 1e\+300 in row 4, column 3.*Rescale",
    ),
    "too large both ways": (
        table_with((4, 3, 1e300), (5, 3, -1e300)),
        r"range of float32 .* got 1e\+300 in row 4, column 3",
    ),
    "no rows": (TABLE[:0], r"0 sample\(s\).*minimum of"),
    "no rows of images": (IMAGES[:0], r"0 sample\(s\).*minimum of"),
    "no columns": (TABLE[:, :0], r"0 feature\(s\).*minimum of 1"),
    "one row": (TABLE[:1], r"1 sample\(s\).*minimum of 2"),
    "one dimension": (TABLE[0], "Expected 2D array, got 1D array"),
    "a number": (3.0, "Expected 2D array, got scalar"),
    "nothing": (None, "Expected 2D array, got scalar"),
    "five dimensions": (
        np.zeros((4, 2, 2, 2, 2)),
        r"\(n, h, w, c\) for `X`; got \(4, 2, 2, 2, 2\)",
    ),
    "strings": ([["a", "b"], ["c", "d"]], r"got 'a' in column 0, row 0, .*OneHotEncoder"),
    "strings of numbers": ([["1", "2"], ["3", "4"]], r"got text \(<U1\) in column 0.*float\)"),
    "bytes": (np.array([[b"a"], [b"b"]]), r"got b'a' in column 0, row 0"),
    "strings as images": (np.full((4, 2, 2), "a"), r"got 'a' in column 0, row 0"),
    "dates": (
        np.array([["2020-01-01"], ["2021-01-01"]], dtype="M8[D]"),
        r"got dates \(datetime64\[D\]\) in column 0\. .*days since a date",
    ),
    "periods": (
        frame(d=pd.period_range("2020", periods=4)),
        r"for column 'd' of `X`; got .*Convert",
    ),
    "complex numbers": (TABLE + 1j, r"got complex64 in column 0\. Complex data not supported"),
    "a complex column": (frame(c=[1j, 2, 3, 4]), r"for column 'c' of `X`; got .*Convert"),
    "two columns of one name": (  # a library of scikit-learn's had its own error
        pd.DataFrame(TABLE, columns=list("abab")),
        r"different name for each column of `X`; got \['a', 'b'\] more than once\. Rename",
    ),
    "lists in cells": (frame(c=[[1], [2], [3], [4]]), r"column 'c' of `X`; got \[1\] in row 0"),
    "a dictionary in a cell": (
        np.array([[1, {}], [2, 3]], dtype=object),
        r"got \{\} in column 1, row 0, and float\(\) argument must be",
    ),
    "sparse columns": (
        pd.DataFrame.sparse.from_spmatrix(scipy.sparse.eye(4)),
        r"column '0' of `X`; got Sparse.*Use X\.sparse\.to_dense\(\)",
    ),
    "an empty frame": (pd.DataFrame(), r"and one column for `X`; got .* shape \(0, 0\)"),
    "a frame of no columns": (frame()[[]], r"and one column for `X`; got .* shape \(4, 0\)"),
    "a frame of no rows": (frame().iloc[:0], r"at least 2 rows .* shape \(0, 2\)"),
    "a series": (frame()["a"], "2-dimensional container"),
    "a structured array": (
        np.array([(1, 2.0), (3, 4.0)], dtype=[("a", int), ("b", float)]),
        r"structured_to_unstructured",
    ),
    "rows of different lengths": (
        [[1.0, 2.0], [3.0]],
        r"rows of the same length for `X`; got 2 cells in row 0 and 1 in row 1",
    ),
    "rows of one length with sequences in them": (
        [[[1.0], 2.0], [3.0, 4.0]],
        r"rows of the same length for `X`; got cells that are sequences",
    ),
}


@pytest.fixture(scope="module")
def fitted():
    """An estimator that was fitted before, and what it then said."""
    vae = VAE(2, **SMALL).fit(TABLE)
    return vae, vae.transform(TABLE), vae.elbo(TABLE)


def assert_untouched(fitted):
    vae, Z, bound = fitted
    np.testing.assert_array_equal(vae.transform(TABLE), Z)
    np.testing.assert_array_equal(vae.elbo(TABLE), bound)
    assert vae.n_features_in_ == 4
    assert not hasattr(vae, "feature_names_in_")


@pytest.mark.parametrize(("X", "message"), BAD_DATA.values(), ids=list(BAD_DATA))
def test_data_that_cannot_be_fitted(X, message, fitted):
    fresh = VAE(2, **SMALL)
    with pytest.raises((ValueError, TypeError), match=message):
        fresh.fit(X)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    with pytest.raises((ValueError, TypeError), match=message):
        fitted[0].fit(X)
    assert_untouched(fitted)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (TABLE[:, :3], "X has 3 features, but VAE is expecting 4 features"),
        (table_with((2, 0, np.nan)), r"NaN in 1 cell: rows \[2\], columns \[0\]"),
        (np.zeros((3, 2, 2)), r"Expected cases of shape \(n, 4\) for `X`; got \(3, 2, 2\)"),
        (TABLE[:0], r"0 sample\(s\)"),
        (TABLE[0], "Expected 2D array, got 1D array"),
        ([["a"] * 4], "got 'a' in column 0, row 0"),
    ],
    ids=["features", "NaN", "images", "no rows", "one dimension", "strings"],
)
@pytest.mark.parametrize(
    "method", ["transform", "reconstruct", "encode", "elbo", "log_likelihood", "score", "distances"]
)
def test_cases_that_a_fitted_model_cannot_take(X, message, method, fitted):
    with pytest.raises(ValueError, match=message):
        getattr(fitted[0], method)(X)


def test_images_of_another_shape():
    vae = VAE(2, **SMALL).fit(IMAGES)
    with pytest.raises(ValueError, match=r"shape \(n, 2, 3\) for `X`; got \(30, 3, 2\)"):
        vae.transform(IMAGES.reshape(30, 3, 2))
    with pytest.raises(ValueError, match=r"shape \(n, 2, 3\) for `X`; got \(30, 2, 3, 1\)"):
        vae.transform(IMAGES[..., None])
    with pytest.raises(ValueError, match="X has 5 features, but VAE is expecting 6"):
        vae.transform(IMAGES.reshape(30, 6)[:, :5])


@pytest.mark.parametrize(
    ("Z", "message"),
    [
        (np.zeros((3, 5)), r"latent points of shape \(n, 2\) for `Z`; got \(3, 5\)"),
        (np.full((1, 2), np.nan), "Z contains NaN"),
        (np.zeros(2), "Expected 2D array, got 1D array"),
        ([["a", "b"]], "could not convert string to float"),
    ],
    ids=["shape", "NaN", "one dimension", "strings"],
)
def test_latent_points_that_are_none(Z, message, fitted):
    with pytest.raises(ValueError, match=message):
        fitted[0].inverse_transform(Z)


UNIT = np.random.default_rng(0).random((30, 4)).round().astype(np.float32)


def unit_with(row, column, value):
    X = UNIT.copy()
    X[row, column] = value
    return X


class TestSupport:
    @pytest.mark.parametrize("value", [-0.5, 1.5])
    def test_row_column_and_value_are_named(self, value):
        message = (
            rf"Expected values from 0 to 1 for likelihood 'bernoulli' .* got {value} in row 5, "
            r"column 2\. Rescale the data .* or use likelihood='gaussian'"
        )
        with pytest.raises(ValueError, match=message):
            VAE(likelihood="bernoulli", **SMALL).fit(unit_with(5, 2, value))

    def test_columns_are_named_as_the_user_does(self):
        frame = pd.DataFrame(unit_with(5, 2, 3.0), columns=list("abcd"))
        with pytest.raises(ValueError, match=r"got 3\.0 in row 5, column 'c'"):
            VAE(likelihood="bernoulli", **SMALL).fit(frame)

    def test_holds_for_every_later_case(self):
        vae = VAE(likelihood="bernoulli", **SMALL).fit(UNIT)
        before = vae.transform(UNIT)
        bad = unit_with(5, 2, 7.0)
        for method in (vae.transform, vae.elbo, vae.partial_fit, vae.reconstruct):
            with pytest.raises(ValueError, match=r"got 7\.0 in row 5, column 2"):
                method(bad)
        with pytest.raises(ValueError, match=r"got 7\.0 in row 5, column 2"):
            VAE(likelihood="bernoulli", **SMALL).fit(UNIT, validation_data=bad)
        np.testing.assert_array_equal(vae.transform(UNIT), before)

    def test_8_bit_images_are_not_taken_for_numbers_from_0_to_1(self):
        vae = VAE(**SMALL).fit(UNIT)
        with pytest.raises(ValueError, match=r"Expected values from 0 to 1 .* got 255"):
            vae.elbo((255 * UNIT).astype(np.uint8))

    def test_numbers_from_0_to_1_are_not_taken_for_8_bit_images(self):
        vae = VAE(**SMALL).fit((255 * UNIT).astype(np.uint8))
        for X in (UNIT, UNIT > 0.5):
            with pytest.raises(
                ValueError, match=r"uint8 data of the fit; got .*Multiply .* by 255"
            ):
                vae.elbo(X)
        as_floats = vae.transform(np.float64((255 * UNIT).astype(np.uint8)))
        np.testing.assert_array_equal(as_floats, vae.transform((255 * UNIT).astype(np.uint8)))


@pytest.mark.parametrize("spread", [1e-4, 50.0])
def test_columns_that_float32_rounds_are_named(spread):
    X = TABLE.astype(np.float64)
    X[:, 2] = 1.7e9 + spread * X[:, 2]
    with pytest.warns(UserWarning, match=r"Columns \[2\] of `X`.*Subtract an offset"):
        VAE(**SMALL).fit(X)


def test_columns_that_float32_holds_are_left_in_peace(recwarn):
    X = TABLE.astype(np.float64)
    X[:, 1] = 1e6  # constant
    X[:, 2] = 1e3 + X[:, 2]
    VAE(**SMALL).fit(X)
    assert not [w for w in recwarn if "float32" in str(w.message)]


NUMBERS = {
    "nothing masked": np.ma.masked_array(frame().to_numpy(), mask=False),
    "no mask": np.ma.masked_array(frame().to_numpy()),
    "nullable": frame().astype({"a": "Int64", "b": "Float64"}),
    "Arrow in pandas": frame().convert_dtypes(dtype_backend="pyarrow"),
    "Arrow": pa.Table.from_pandas(frame()),
    "objects": frame().astype(object),
    "decimal numbers": pd.DataFrame([[decimal.Decimal(x) for x in row] for row in frame().values]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_are_taken_in_whatever_container(kind):
    vae = VAE(1, **SMALL).fit(NUMBERS[kind])
    expected = VAE(1, **SMALL).fit(frame().to_numpy())
    np.testing.assert_array_equal(vae.transform(NUMBERS[kind]), expected.transform(frame().values))


def test_truth_among_objects():
    table = frame(c=pd.Series([True, False, True, True], dtype=object))
    assert VAE(1, **SMALL).fit(table).n_features_in_ == 3


def test_tables_of_polars():
    vae = VAE(1, **SMALL).fit(pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1, 2, 3]}))
    assert list(vae.feature_names_in_) == ["a", "b"]
    numbers = [decimal.Decimal(1), decimal.Decimal(2)]
    VAE(1, **SMALL).fit(pl.DataFrame({"a": [True, False], "b": numbers}))
    with pytest.raises(TypeError, match="for column 'b' of `X`; got List"):
        VAE(1, **SMALL).fit(pl.DataFrame({"a": [1.0, 2.0], "b": [[1], [2]]}))
    with pytest.raises(TypeError, match=r"got a LazyFrame\. Call X\.collect\(\)"):
        VAE(1, **SMALL).fit(pl.DataFrame({"a": [1.0, 2.0]}).lazy())


# Divergence.


def test_divergence_says_where_and_what_to_try_and_keeps_the_last_good_epoch():
    def exploding(step):
        return jnp.where(step < 2, 1e-3, jnp.inf)

    options = {**SMALL, "optimizer": "sgd", "learning_rate": exploding}
    vae = VAE(2, **{**options, "epochs": 9})
    message = (
        r"in epoch 3, the parameter encoder.* was inf, although .* \(the model after epoch 2 is "
        r"kept\)\. Try a smaller `learning_rate`.*larger `batch_size`.*extreme values"
    )
    with pytest.warns(FitWarning), pytest.raises(TrainingDiverged, match=message) as caught:
        vae.fit(TABLE)  # one step per epoch
    assert caught.value.epoch == 3
    good = VAE(2, **{**options, "epochs": 2}).fit(TABLE)
    assert vae.n_epochs_ == 2
    # Of the attempts, from the beginning in smaller steps as well, the one with the best bound.
    assert vae.history_["elbo"][-1] >= good.history_["elbo"][-1]
    np.testing.assert_array_equal(
        vae.transform(TABLE), predict.latent_mean(caught.value.result.model, np.float32(TABLE))
    )
    assert np.isfinite(vae.explained_nats_).all()


def test_divergence_in_the_first_epoch_leaves_what_was_there(fitted):
    settings = fitted[0].get_params()
    for vae in (VAE(2, **SMALL), fitted[0]):
        vae.set_params(optimizer="sgd", learning_rate=1e30, epochs=5, batch_size=3)
        message = r"in epoch 1, .*no epoch was completed"
        with pytest.warns(FitWarning), pytest.raises(TrainingDiverged, match=message):
            vae.fit(TABLE[:, :3])
        if vae is not fitted[0]:
            assert not hasattr(vae, "model_")
    fitted[0].set_params(**settings)
    assert_untouched(fitted)


def test_training_diverged_can_be_sent_to_another_process():
    import pickle

    error = pickle.loads(pickle.dumps(TrainingDiverged("in epoch 3", 3, "elbo")))
    assert (str(error), error.epoch, error.quantity) == ("in epoch 3", 3, "elbo")


# Anything at all.

EXTREME = st.sampled_from(
    [
        *(0.0, -0.0, 1.0, -1.0, 0.5, 255.0, 1e7, 1.7e9, 1e19, 3e38, -3e38),  # of float32
        *(1e-45, 1e-38, 1e-30, 1e-7, 1e39, 1e300, np.nan, np.inf, -np.inf),
    ]
)
ANY_TABLE = hnp.arrays(np.float64, (6, 2), elements=EXTREME | st.floats(-100, 100))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(X=ANY_TABLE)
@example(X=np.zeros((6, 2)))
@example(X=np.full((6, 2), 1e38))
@example(X=np.array([[3e38, -3e38]] * 3 + [[-3e38, 3e38]] * 3))
@example(X=np.array([[1e-45, 0.0]] * 5 + [[0.0, 1e-30]]))
@example(X=np.array([[np.nan, 0.0]] + [[0.0, 0.0]] * 5))
@example(X=np.array([[0.0, np.nan]] + [[np.nan, np.nan]] * 5))
def test_any_numbers_are_fitted_well_or_refused_with_words(X):
    vae = VAE(1, **SMALL)
    is_infinite = np.isinf(X).any() or np.nanmax(abs(X), initial=0) > 3.5e38
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).* dwarfs the differences")
            warnings.filterwarnings("ignore", "No value in (columns|rows)")
            warnings.filterwarnings("ignore", "Training went back")
            vae.fit(X)
    except (ValueError, TrainingDiverged) as error:
        assert re.search(r"Expected .* got |Training diverged", str(error))
        if is_infinite or np.isnan(X).all():
            assert "Expected" in str(error)
        assert not hasattr(vae, "model_")
    else:
        assert not is_infinite
        assert np.isfinite(vae.transform(X)).all()
        assert np.isfinite(vae.elbo(X)).all()
        assert np.isfinite(vae.explained_nats_).all()
        has_values = ~np.isnan(X).all(axis=0)  # nothing is known of the others
        filled = vae.impute(X, n_draws=10) if np.isnan(X).any() else X
        assert (np.isfinite(filled) == has_values).all()


NOT_A_TABLE = st.one_of(
    st.text("ab0 ü\0", max_size=5),  # never a folder that is there
    st.binary(max_size=5),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.lists(st.text(max_size=2), max_size=3),
    st.lists(st.lists(st.integers(), max_size=2), max_size=1),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.builds(object),
    hnp.arrays(st.sampled_from(["U2", "S2", "c8", "M8[s]"]), hnp.array_shapes(max_dims=3)),
)


@settings(max_examples=60, deadline=None)
@given(X=NOT_A_TABLE)
def test_anything_else_is_refused(X):
    vae = VAE(1, **SMALL)
    refused = (ValueError, TypeError, FileNotFoundError)  # a text is a path
    with pytest.raises(refused, match=r"[Ee]xpected|required|supported|array"):
        vae.fit(X)
    assert not [name for name in vars(vae) if name.endswith("_")]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
def test_arrays_of_any_shape_are_taken_or_refused(shape, fitted):
    X = np.zeros(shape)
    if len(shape) == 2 and shape[0] and shape[1] == 4:
        assert fitted[0].transform(X).shape == (shape[0], 2)
    else:
        with pytest.raises(ValueError, match=r"[Ee]xpect|minimum"):
            fitted[0].transform(X)
