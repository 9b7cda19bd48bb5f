"""Whatever array or table is drawn, it is fitted with finite results, or refused in our words."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from drawn_inputs import ARRAYS, FITTED, REFUSED, TABLES, is_ours, outcome
from hypothesis import HealthCheck, given, seed, settings

from aevb import VAE

pytestmark = pytest.mark.usefixtures("own_messages")


def drawn(n, number):
    """Draw n cases, the same ones always."""

    def decorate(function):
        options = {"deadline": None, "database": None}
        checks = list(HealthCheck)
        return seed(number)(
            settings(max_examples=n, suppress_health_check=checks, **options)(function)
        )

    return decorate


@drawn(50, 0)
@given(X=ARRAYS)
def test_some_arrays(X):
    assert outcome(X) in (FITTED, REFUSED)


@drawn(30, 1)
@given(X=TABLES)
def test_some_tables(X):
    assert outcome(X) in (FITTED, REFUSED)


@pytest.mark.slow
@drawn(220, 2)
@given(X=ARRAYS)
def test_many_arrays(X):
    assert outcome(X) in (FITTED, REFUSED)


@pytest.mark.slow
@drawn(200, 3)
@given(X=TABLES)
def test_many_tables(X):
    assert outcome(X) in (FITTED, REFUSED)


def frame(values, dtype=None):
    return pd.DataFrame({"a": pd.Series(values, dtype=dtype), "b": [0.0, 1.0, 3.0]})


DAY = datetime.date
# What once led to errors in words of others, or to warnings.
FOUND = {
    "rows of different lengths": ([[1.0, 2.0], [3.0]], REFUSED),
    "columns that vary by rounding alone": (
        np.array(
            [
                [0, 2, 0, 0, 4, 0, 0, 1, 0, 0, 6, 0, 0, 4, 0, 0, 0, 0, 0, 1],
                [0, 2, 0, 0, 3, 0, 0, 3, 0, 0, 2, 0, 0, 2, 0, 0, 5, 0, 0, 3],
            ],
            np.int8,
        ),
        FITTED,
    ),
    "dates in no row": (np.zeros((0, 4, 0), "M8[M]"), REFUSED),
    "numbers too small to be written": (frame([1e-321, -2e-321, 5e-321]), REFUSED),
    "numbers beyond float32": (frame([1e39, 2e38, 3e38]), REFUSED),
    "dates that float64 rounds": (
        pa.table({"a": [DAY(6793, 8, 15), DAY(3455, 10, 20), DAY(562, 5, 29)], "b": [1, 2, 4]}),
        FITTED,
    ),
    "dates at the ends of the calendar": (
        frame([DAY(4756, 4, 10), DAY(1, 1, 1), DAY(9999, 12, 31)]),
        FITTED,
    ),
    "dates at the ends of nanoseconds": (
        frame(["1677-10-01", "2262-04-01", "2000-01-01"], "datetime64[ns]"),
        FITTED,
    ),
    "durations beyond 64 bits": (frame(np.array([86_295, -(2**63) + 9, 5], "m8[s]")), REFUSED),
    "moments beyond 64 bits": (frame(np.array([2**61, 7, 5], "M8[s]")), REFUSED),
    "integers up to the end of 64 bits": (frame([40, 2**64 - 4, 3], "uint64"), FITTED),
    "integers up to the end of 8 bits": (frame([-128, 127, 127], "int8"), FITTED),
    "integers of 128 bits": (
        pl.DataFrame({"a": pl.Series([2**70, 5, 7], dtype=pl.Int128), "b": [0.0, 1.0, 3.0]}),
        FITTED,
    ),
    "categories of bytes": (
        pa.table({"a": pa.array([b"\xab", b"O%", b"\x15"]).dictionary_encode(), "b": [1, 2, 4]}),
        REFUSED,
    ),
    "categories of several types": (frame([DAY(2020, 1, 1), "a", 3], "category"), REFUSED),
    "categories of dates": (frame([DAY(2020, 1, 1), DAY(2020, 1, 2), None], "category"), FITTED),
    "decimal numbers": (frame([decimal.Decimal("1.5"), decimal.Decimal("NaN"), None]), FITTED),
    "decimal numbers of Arrow": (
        pa.table({"a": [decimal.Decimal("-2.11"), decimal.Decimal("5.47"), None], "b": [1, 2, 4]}),
        FITTED,
    ),
    "decimal numbers of Polars": (
        pl.DataFrame(
            {"a": [decimal.Decimal("9.99"), decimal.Decimal("-9.99"), None], "b": [1, 2, 4]}
        ),
        FITTED,
    ),
    "decimal numbers of Arrow in pandas": (
        frame(["9.99", "-9.99", None], pd.ArrowDtype(pa.decimal128(3, 2))),
        FITTED,
    ),
    "NaN in a table of Polars": (pl.DataFrame({"a": [1.5, float("nan"), 2.5]}), FITTED),
    "NaN in a table of Arrow": (pa.table({"a": [1.5, float("nan"), 2.5]}), FITTED),
}


@pytest.mark.parametrize(("X", "expected"), FOUND.values(), ids=list(FOUND))
def test_what_was_found(X, expected):
    assert outcome(X) == expected


@pytest.mark.parametrize("beside", [1.0, None], ids=["beside 1", "all"])
@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e30, 1e37])
def test_every_scale_of_float32_is_fitted(scale, beside):
    X = np.random.default_rng(0).normal(size=(16, 2))
    assert outcome(X * [scale, beside or scale]) == FITTED


def test_the_judge_knows_our_words_from_others():
    assert is_ours(ValueError("Expected numbers for `X`; got 'a' in column 0, row 0."))
    assert not is_ours(ValueError("could not convert string to float: 'a'"))
    assert not is_ours(RuntimeError("Expected numbers for `X`; got none."))
    assert not is_ours(ValueError("Invalid UTF8 payload"))


def test_the_judge_sees_what_is_not_finite_and_other_words(monkeypatch):
    X = np.random.default_rng(0).normal(size=(16, 2))
    monkeypatch.setattr(VAE, "transform", lambda self, X: np.full((len(X), 1), np.nan))
    with pytest.raises(AssertionError, match="transform is not finite"):
        outcome(X)
    monkeypatch.setattr(VAE, "fit", lambda self, X: float("a"))
    with pytest.raises(ValueError, match="could not convert"):
        outcome(X)
