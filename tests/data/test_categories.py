"""Categories come back from a file as they were, and nothing else comes out of one."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest

from aevb import VAE
from aevb.data.categories import described, is_category, restored

DAY = pd.Timestamp("2020-02-29 12:00:00.000000001")
CATEGORIES = {
    "text": "a",
    "number": 1.5,
    "whole number of NumPy": np.int64(2**60 + 1),
    "truth value": True,
    "date": dt.date(2020, 2, 29),
    "moment": DAY,
    "moment in seconds, far away": pd.Timestamp("0001-01-01").as_unit("s"),
    "moment of a zone": DAY.tz_localize("Europe/Berlin"),
    "moment of an offset": DAY.tz_localize(dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
    "duration": pd.Timedelta(1, "ns"),
    "month": pd.Period("2020-02", "M"),
    "business quarter": pd.Period("2020Q1", "Q-JAN"),
    "interval": pd.Interval(0.1, 0.3, "left"),
    "interval of moments": pd.Interval(DAY, DAY + pd.Timedelta(1, "D")),
}


@pytest.mark.parametrize("category", CATEGORIES.values(), ids=CATEGORIES)
def test_a_category_comes_back_from_json(category):
    again = restored(json.loads(json.dumps(described(category))))
    assert again == category and hash(again) == hash(category)
    assert type(again) is type(category.item() if isinstance(category, np.generic) else category)
    assert getattr(again, "unit", None) == getattr(category, "unit", None)


@pytest.mark.parametrize("value", [(1, 2), b"a", 1j, [1], {"date": ["2020-01-01"]}, object()])
def test_other_values_are_not_categories(value):
    assert not is_category(value)


@pytest.mark.parametrize(
    "value",
    [
        {"date": ["tomorrow"]},
        {"date": "2020-01-01"},
        {"date": []},
        {"date": ["2020-01-01"], "Period": [1, "M"]},
        {"Timestamp": [1, "parsec", None]},
        {"Timestamp": [2**80, "ns", None]},
        {"Timestamp": [0, "ns", "Nowhere/City"]},
        {"Timestamp": [0, "ns", 3]},
        {"Period": [1, "eon"]},
        {"Period": [2**90, "M"]},
        {"Interval": [0, {"Interval": [0, 1, "left"]}, "left"]},
        {"Interval": [0, 1, "ajar"]},
        {"Interval": [1, 0, "left"]},
        {"eval": ["1"]},
        {},
    ],
    ids=str,
)
def test_nothing_else_comes_out_of_a_file(value):
    with pytest.raises((TypeError, ValueError)):
        restored(value)


COLUMNS = {
    "age groups": pd.cut(np.arange(40.0), [-1, 10, 25, 40]),
    "months": pd.Categorical(pd.period_range("2020-01", periods=4, freq="M").repeat(10)),
    "days": pd.Categorical(pd.date_range("2020-01-01", periods=4, tz="UTC").repeat(10)),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_a_model_of_them_is_saved(column, tmp_path):
    table = pd.DataFrame({"x": np.linspace(-1, 1, 40), "c": column})
    vae = VAE(1, epochs=1, random_state=0).fit(table)
    vae.save(tmp_path / "model")
    drawn = VAE.load(tmp_path / "model").sample(30, random_state=0)
    assert drawn["c"].dtype == table["c"].dtype
    pd.testing.assert_frame_equal(drawn, vae.sample(30, random_state=0))


def test_categories_that_no_file_can_hold_are_refused():
    pairs = pd.Index([(1, 2), (3, 4)], tupleize_cols=False)
    table = pd.DataFrame({"x": [0.0, 1.0], "c": pd.Categorical.from_codes([0, 1], pairs)})
    with pytest.raises(TypeError, match=r"categories that are texts.*'c'.*\(1, 2\).*astype"):
        VAE(1).fit(table)
