"""Tables are read as numbers and given back as they came, whatever library they are of."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pytest

from aevb.data.tables import (
    column_of,
    fill_columns,
    is_table,
    library_of,
    read_columns,
    write_columns,
)

PANDAS = pd.DataFrame(
    {
        "float": [1.5, 2.0, None],
        "int": [3, 4, 5],
        "Int64": pd.array([1, None, 3], dtype="Int64"),
        "int8": np.array([1, 2, 3], np.int8),
        "text": ["x", None, "y"],
        "category": pd.Categorical(["q", None, "r"], categories=["r", "q", "unused"]),
        "numbered": pd.Categorical([10, 9, 10]),
        "ordered": pd.Categorical(["lo", "hi", "lo"], categories=["lo", "mid", "hi"], ordered=True),
        "bool": [True, False, True],
        "boolean": pd.array([True, None, False], dtype="boolean"),
        "objects": [True, None, False],
        "moment": pd.to_datetime(["2020-01-01 06:00", None, "2020-01-05 00:00"]),
        "zoned": pd.to_datetime(["2020-01-01", None, "2020-07-05"]).tz_localize("Europe/Berlin"),
        "dates": [dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)],
        "span": pd.to_timedelta(["1 days", None, "36h"]),
    },
    index=[5, 6, 7],
)
ARROW = pa.table(
    {
        "a": [1, None, 3],
        "s": ["x", None, "y"],
        "d": pa.array(["v", "u", None]).dictionary_encode(),
        "t": pa.array([dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)]),
        "f": [1.5, None, 2.0],
        "b": [True, None, False],
    }
)


POLARS = pl.from_arrow(ARROW).with_columns(
    pl.Series("o", ["lo", "hi", None], pl.Enum(["lo", "mid", "hi"]))
)


def again(table, index=None):
    columns = list(read_columns(table))
    types, values = ([getattr(c, part) for c in columns] for part in ("type", "values"))
    return write_columns(types, values, library_of(table), index)


def test_pandas_gets_back_what_it_gave():
    pd.testing.assert_frame_equal(again(PANDAS, PANDAS.index), PANDAS)


@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
def test_dates_of_numpy_count_days_whatever_their_unit(unit):
    dates = np.array(["2024-01-01", "NaT", "2024-01-03"], f"datetime64[{unit}]")
    expected = [19723.0, np.nan, 19725.0]
    np.testing.assert_array_equal(column_of("day", dates).values, expected)
    with pytest.raises(TypeError, match="for column 'span'"):
        column_of("span", dates - dates)


def test_arrow_gets_back_what_it_gave():
    back = again(ARROW)
    assert back.to_pylist() == ARROW.to_pylist()
    assert [f.type for f in back.schema if f.name != "d"] == [
        f.type for f in ARROW.schema if f.name != "d"
    ]


def test_polars_gets_back_what_it_gave():
    polars.testing.assert_frame_equal(again(POLARS), POLARS)


def filled(table):
    columns = list(read_columns(table))
    values = [np.nan_to_num(column.values) for column in columns]
    return fill_columns(table, [column.type for column in columns], values)


def test_only_empty_cells_are_filled():
    back = filled(PANDAS)
    assert not back.isna().any(axis=None)
    pd.testing.assert_series_equal(back.dtypes, PANDAS.dtypes)
    pd.testing.assert_frame_equal(
        back.where(PANDAS.notna(), None), PANDAS.where(PANDAS.notna(), None)
    )
    assert back["text"].tolist() == ["x", "x", "y"]
    assert back["boolean"].tolist() == [True, False, False]


@pytest.mark.parametrize("table", [ARROW, POLARS], ids=["arrow", "polars"])
def test_only_empty_cells_of_other_libraries_are_filled(table):
    def rows(table):
        return table.to_pylist() if hasattr(table, "to_pylist") else table.to_dicts()

    back = filled(table)
    for before, after in zip(rows(table), rows(back), strict=True):
        assert None not in after.values()
        assert {k: v for k, v in after.items() if before[k] is not None} == {
            k: v for k, v in before.items() if v is not None
        }
    if not hasattr(table, "to_pylist"):
        assert back.schema == table.schema


def test_an_unknown_category_may_count_as_missing():
    known = [column.type for column in read_columns(PANDAS)]
    later = PANDAS.assign(text=["y", "new", None])
    text = [c.values for c in read_columns(later, known, unseen="missing") if c.type.name == "text"]
    np.testing.assert_array_equal(text[0], [1, np.nan, np.nan])


def kinds(table):
    return {column.type.name: column.type.kind for column in read_columns(table)}


def test_every_column_is_of_one_kind():
    assert kinds(PANDAS) == {
        **{"float": "number", "int": "integer", "Int64": "integer", "int8": "integer"},
        **{"text": "category", "category": "category", "numbered": "category"},
        **{"ordered": "ordered", "bool": "boolean", "boolean": "boolean", "objects": "boolean"},
        **{"moment": "date", "zoned": "date", "dates": "date", "span": "duration"},
    }
    assert kinds(ARROW) == {
        **{"a": "integer", "s": "category", "d": "category"},
        **{"t": "date", "f": "number", "b": "boolean"},
    }


def test_values_are_numbers_and_empty_cells_are_nan():
    columns = {column.type.name: column for column in read_columns(PANDAS)}
    nan = np.nan
    for name, expected in {
        "Int64": [1, nan, 3],
        "text": [0, nan, 1],
        "category": [0, nan, 1],  # sorted, without the one that does not occur
        "numbered": [1, 0, 1],
        "ordered": [0, 2, 0],  # in its order, with the one that does not occur
        "boolean": [1, nan, 0],
        "moment": [18262.25, nan, 18266],  # days since 1970
        "span": [1, nan, 1.5],
    }.items():
        np.testing.assert_array_equal(columns[name].values, expected)
    assert columns["numbered"].type.categories == (9, 10)
    assert columns["ordered"].type.categories == ("lo", "mid", "hi")


def test_later_tables_have_the_codes_of_the_first():
    known = [column.type for column in read_columns(PANDAS)]
    later = PANDAS.assign(text=["y", "y", "x"])[list(PANDAS.columns[::-1])].assign(more=1)
    columns = list(read_columns(later, known))
    assert [column.type.name for column in columns] == list(PANDAS.columns)
    text = next(column for column in columns if column.type.name == "text")
    np.testing.assert_array_equal(text.values, [1, 1, 0])


def test_dates_are_rounded_to_what_their_type_can_hold():
    known = [column.type for column in read_columns(ARROW.select(["t", "a"]))]
    back = write_columns(known, [np.array([18262.4]), np.array([2.6])], "pyarrow")
    assert back.to_pylist() == [{"t": dt.date(2020, 1, 1), "a": 3}]


def test_only_tables_are_tables():
    assert is_table(PANDAS)
    assert is_table(ARROW)
    for other in (np.ones((2, 2)), [[1, 2]], pd.Series([1, 2]), {"a": [1]}):
        assert not is_table(other)


REFUSED = {
    "mixed types": (
        {"g": [1, "x", None]},
        TypeError,
        r"'g'.*numbers \(row 0: 1\).*texts \(row 1: 'x'\)",
    ),
    "infinity": ({"g": [1, np.inf]}, ValueError, r"column 'g'.*got infinity \(inf\) in rows \[1\]"),
    "complex numbers": ({"g": [1j, 2]}, TypeError, "column 'g'"),
    "objects": ({"g": [object(), None]}, TypeError, r"column 'g'.*object.*row 0"),
}


@pytest.mark.parametrize(("data", "error", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_not_a_column_is_refused_by_name_and_row(data, error, message):
    with pytest.raises(error, match=message):
        list(read_columns(pd.DataFrame(data)))


def test_columns_have_different_names():
    with pytest.raises(ValueError, match=r"got \['a'\] more than once"):
        list(read_columns(pd.DataFrame([[1, 2]], columns=["a", "a"])))


LATER = {
    "a new category": ({"text": ["x", "new", None]}, ValueError, r"'x', 'y'.*'new' in row 1"),
    "another type": ({"int": ["a", "b", "c"]}, TypeError, "integer values.*column 'int'"),
}


@pytest.mark.parametrize(("change", "error", "message"), LATER.values(), ids=list(LATER))
def test_what_the_fit_did_not_see_is_refused(change, error, message):
    known = [column.type for column in read_columns(PANDAS)]
    with pytest.raises(error, match=message):
        list(read_columns(PANDAS.assign(**change), known))


def test_renamed_columns_are_told():
    known = [column.type for column in read_columns(PANDAS)]
    with pytest.raises(ValueError, match=r"missing are \['int'\]; unknown are \['Int'\]"):
        list(read_columns(PANDAS.rename(columns={"int": "Int"}), known))
