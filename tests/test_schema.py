"""What is learned of the data: in chunks as in one piece, and true of every later case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aevb import VAE, Bernoulli, Gaussian
from aevb.inference.objective import Objective
from aevb.models import Conditional, Kind, LatentVariableModel, Likelihood
from aevb.models.kinds.summary import merge, summarise, summarise_all
from aevb.models.posteriors import Parametric, Posterior
from aevb.models.priors import Prior
from aevb.schema import Schema

rng = np.random.default_rng(0)
TABLE = (rng.normal(size=(200, 4)) * [1, 10, 0.01, 1000]).astype(np.float32)
SMALL = {"hidden": (8,), "epochs": 30, "random_state": 0, "verbose": False}

NUMBERS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(2, 40), st.integers(1, 3)),
    elements=st.floats(-(2**20), 2**20, width=32) | st.sampled_from([0.0, 1.0, 1e12]),
)


@settings(max_examples=100, deadline=None)
@given(X=NUMBERS, data=st.data())
def test_summaries_of_chunks_merge_to_that_of_the_whole(X, data):
    cuts = sorted(data.draw(st.lists(st.integers(1, len(X) - 1), max_size=5, unique=True)))
    chunks = np.split(X, cuts)
    merged = summarise_all(chunks)
    assert merged.n == len(X)
    scale = np.abs(X).max(axis=0) + 1e-300
    np.testing.assert_allclose(merged.mean / scale, X.mean(axis=0) / scale, atol=1e-12)
    np.testing.assert_allclose(merged.spread / scale, X.std(axis=0) / scale, atol=1e-7)
    np.testing.assert_array_equal(merged.low, X.min(axis=0))
    np.testing.assert_array_equal(merged.high, X.max(axis=0))
    np.testing.assert_array_equal(merged.constant, np.ptp(X, axis=0) == 0)
    assert (merged.n_zero, merged.n_one) == ((X == 0).sum(), (X == 1).sum())
    np.testing.assert_array_equal(merged.resolution, summarise(X).resolution)
    expected = []  # by the definition
    for j, column in enumerate(X.T):
        ordered = np.sort(column)
        for value, rest in ((ordered[0], ordered[1:]), (ordered[-1], ordered[:-1])):
            gap = abs(value - (rest[0] if value == ordered[0] else rest[-1]))
            if np.ptp(rest) > 0 and gap > 1e4 * np.ptp(rest):
                expected.append((j, int(np.argmax(column == value)), value))
    assert merged.lone_values() == sorted(expected)


def test_merging_is_associative():
    a, b, c = (
        summarise(part, first)
        for part, first in ((TABLE[:50], 0), (TABLE[50:51], 50), (TABLE[51:], 51))
    )
    for left, right in zip(merge(merge(a, b), c), merge(a, merge(b, c)), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12)


def test_a_schema_of_many_rows_is_that_of_the_moments():
    X = rng.normal(size=(5000, 3)) * [1, 2, 3] + [0, 100, -5]
    measured = Schema.fit(X.astype(np.float32)).measured
    np.testing.assert_allclose(measured.shift, X.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(measured.scale, X.std(axis=0), rtol=1e-5)


# The digits of a column.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [-20, -3, -1, 0, 2, 20])
def test_the_resolution_is_a_unit_of_the_last_digit(exponent, dtype):
    steps = np.random.default_rng(1).integers(-999, 999, 300)
    X = np.array([[float(f"{step}e{exponent}")] for step in steps], dtype)
    np.testing.assert_allclose(summarise(X).resolution, 10.0**exponent, rtol=1e-12)


def test_numbers_with_all_their_digits_are_resolved_as_their_type_is():
    X = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) * [1, 1e-8]
    resolution = summarise(X.astype(np.float32)).resolution / np.abs(X).max(axis=0)
    assert (resolution < 1e-6).all()
    assert summarise(np.array([[0], [255]], np.uint8)).resolution == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [1, 3])
def test_a_copied_column_is_scored_at_its_own_digits(decimals):
    rows = np.random.default_rng(0).normal(size=(500, 1)).round(decimals)
    vae = VAE(1, epochs=200, random_state=0).fit(np.repeat(rows, 4, axis=1))
    scale = np.sqrt(vae.model_.likelihood(np.zeros(1, np.float32)).variance)
    rounding = 10.0**-decimals / np.sqrt(12)
    assert (scale >= rounding * (1 - 1e-5)).all()
    most = -4 * np.log(rounding * np.sqrt(2 * np.pi))  # nats of four columns at that scale
    assert (vae.log_likelihood(np.repeat(rows[:50], 4, axis=1)) < most).all()


# Columns that do not vary.


def test_another_value_in_a_constant_column_is_as_surprising_as_it_is():
    X = TABLE.copy()
    X[:, 1] = 7.0
    vae = VAE(2, **SMALL).fit(X)
    other = X.copy()
    other[:, 1] = 8.0
    surprise = vae.elbo(X, n_draws=500) - vae.elbo(other, n_draws=500)
    # By Laplace's rule of succession: (n + 1) / (n + 2) against 1 / (n + 2). The rest is noise.
    np.testing.assert_allclose(surprise.mean(), np.log(201), atol=0.1)
    far = X.copy()
    far[:, 1] = 1e6
    np.testing.assert_allclose(vae.transform(far), vae.transform(X), atol=1e-6)
    assert np.isfinite(vae.elbo(far)).all()
    np.testing.assert_array_equal(vae.sample(20)[:, 1], 7.0)
    np.testing.assert_array_equal(vae.reconstruct(other)[:, 1], 7.0)


@pytest.mark.slow
def test_a_constant_column_adds_nothing_to_the_score():
    more = np.column_stack([TABLE, np.full(200, 3.0, np.float32)])
    one, other = (VAE(2, **SMALL).fit(X).score(X) for X in (TABLE, more))
    assert abs(one - other) < 0.5


def test_constant_data_are_no_information():
    vae = VAE(1, **SMALL).fit(np.full((50, 3), 2.5))
    np.testing.assert_allclose(vae.elbo(np.full((2, 3), 2.5)), 3 * np.log(51 / 52), atol=1e-3)


def test_gray_images_keep_their_constant_pixels_open():
    images = (rng.random((60, 4, 4)) < 0.5).astype(np.float32)
    images[:, 0] = 0
    lit = images.copy()
    lit[:, 0, 0] = 1
    assert np.isfinite(VAE(2, **SMALL).fit(images).elbo(lit)).all()


# Values that dwarf all others, and scales.


def test_a_value_that_sets_the_scale_alone_is_named_and_the_rest_holds():
    X = TABLE.astype(np.float64)
    X[17, 2] = 1e12
    with pytest.warns(UserWarning, match=r"1e\+12 in row 17, column 2 of `X` dwarfs"):
        vae = VAE(2, **SMALL).fit(X)
    assert np.isfinite(vae.elbo(X)).all()
    clean = VAE(2, **SMALL).fit(TABLE)
    others = [0, 1, 3]
    back, expected = (
        np.delete(v.reconstruct(x), 17, 0)[:, others] for v, x in ((vae, X), (clean, TABLE))
    )
    spread = TABLE.std(axis=0)[others]
    error = np.sqrt(np.mean(((back - np.delete(TABLE, 17, 0)[:, others]) / spread) ** 2))
    usual = np.sqrt(np.mean(((expected - np.delete(TABLE, 17, 0)[:, others]) / spread) ** 2))
    assert error < usual + 0.1  # other columns are learned as without it


def test_named_columns_are_named():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(TABLE.astype(np.float64), columns=["a", "b", "c", "d"])
    frame.loc[3, "b"] = -1e15
    with pytest.warns(UserWarning, match=r"row 3, column 'b'"):
        VAE(2, **SMALL).fit(frame)


@pytest.mark.parametrize("X", [TABLE, np.eye(30), rng.exponential(size=(300, 3)) ** 3])
def test_ordinary_data_give_no_warning(X):
    Schema.fit(X.astype(np.float32), "gaussian")


def test_a_spread_below_the_smallest_normal_number_is_refused():
    X = np.array([[1e-40, 1.0], [3e-40, 2.0], [2e-40, 0.0]], np.float32)
    with pytest.raises(ValueError, match=r"column 0 of standard deviation"):
        VAE(1, **SMALL).fit(X)


# What is said.


def test_fewer_rows_than_features_is_said():
    said = Schema.fit(rng.normal(size=(6, 50)).astype(np.float32)).describe()
    assert "fewer cases (6) than values in each (50)" in said
    assert "fewer" not in Schema.fit(TABLE).describe()


def test_constant_columns_are_said_by_name():
    X = TABLE.copy()
    X[:, 2] = 0
    assert "column ['c'] does not vary" in Schema.fit(X, names=list("abcd")).describe()


def test_columns_that_others_determine_are_said_by_name():
    a, b, c = rng.normal(size=(3, 300)).round(3)
    X = np.column_stack([a, b, a, c, a - 3 * b, (a / 2.54).round(2), a * b])
    columns = ["a", "b", "again", "c", "difference", "inches", "product"]
    said = Schema.fit(X, names=columns).describe()
    assert (
        "columns ['again', 'difference', 'inches'] are linear functions of columns before" in said
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_column_is_determined_at_the_precision_of_its_type(scale, dtype):
    Z = rng.normal(size=(300, 4)) * scale
    noise = scale * np.array([0.0, 1e-4])[:, None] * rng.normal(size=(2, 300))
    X = np.column_stack([Z, Z @ [1, -2, 3, 1] + noise[0], Z @ [1, 1, 1, 1] + noise[1]])
    assert Schema.fit(X.astype(dtype)).dependent == (4,)


def test_no_column_is_determined_by_chance_or_by_coarse_digits():
    coarse = rng.integers(0, 2, size=(500, 10)).astype(float)
    assert Schema.fit(coarse, "gaussian").dependent == ()
    few = rng.normal(size=(9, 5)).round(1)
    assert Schema.fit(few[:, [0, 0, 1, 2, 3]]).dependent == ()  # too few rows to tell
    assert Schema.fit(np.zeros((100, 8, 8)) + rng.normal(size=(100, 1, 1))).dependent == ()


# Abstract, or final.


@pytest.mark.parametrize(
    "cls",
    [Likelihood, Kind, Posterior, Parametric, Prior, Objective, Conditional, LatentVariableModel],
)
def test_abstract_classes_cannot_be_made(cls):
    with pytest.raises(TypeError, match="abstract"):
        cls()


def test_kinds_belong_to_their_likelihoods():
    assert Schema.fit(TABLE, Gaussian()).kind.name == "real"
    assert Schema.fit((TABLE > 0).astype(np.uint8), Bernoulli()).kind.name == "binary"
    with pytest.raises(ValueError, match="bernoulli"):
        Schema.fit(TABLE, "bernoulli")
