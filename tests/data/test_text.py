"""Text files as users have them: separators, commas, encodings, dates, and what is missing."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from aevb.data.files import read_rows
from aevb.data.text import read_text, understand

GERMAN = (
    "Größe;Preis;Datum;Stadt\n"
    "1,75;1.234,50;31.12.2020;Köln\n"
    "1,80;12.000,00;1.2.2021;Düsseldorf\n"
    ";999,00;;?\n"
)
ENGLISH = (
    'name,income,born,"likes, most"\n'
    'Ann,"1,234.50",12/31/1990,"tea, milk"\n'
    'Bob,"12,000.00",2/1/1991,n/a\n'
    "Cy,,NA,wine\n"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_german(encoding, tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(GERMAN.encode(encoding))
    table = read_text(path)
    assert table.dialect._replace(encoding="") == ("", ";", ",", ".", True)
    assert table.names == ["Größe", "Preis", "Datum", "Stadt"]
    np.testing.assert_array_equal(table.columns[0], [1.75, 1.8, np.nan])
    np.testing.assert_array_equal(table.columns[1], [1234.5, 12000, 999])
    assert table.columns[2].tolist() == [dt.datetime(2020, 12, 31), dt.datetime(2021, 2, 1), None]
    assert table.columns[3].tolist() == ["Köln", "Düsseldorf", None]
    assert "semicolons, decimal commas, thousands separated by '.'" in str(table.dialect)


def test_english(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(ENGLISH)
    frame = read_rows(path)
    assert list(frame.columns) == ["name", "income", "born", "likes, most"]
    np.testing.assert_array_equal(frame["income"], [1234.5, 12000, np.nan])
    assert frame["born"].tolist()[:2] == [pd.Timestamp("1990-12-31"), pd.Timestamp("1991-02-01")]
    assert frame["likes, most"][0] == "tea, milk"
    assert frame["likes, most"].isna().tolist() == [False, True, False]


# What the cells of a column are: one column each.
COLUMNS = {
    "whole numbers": (["1", "-20", "3"], [1, -20, 3], "int64"),
    "whole numbers, some missing": (["1", "", "3"], [1, None, 3], "Int64"),
    "numbers": (["1.5", "2", "1e3"], [1.5, 2, 1000], "float64"),
    "whole numbers with a point": (["1.0", "2.0", "3.0"], [1, 2, 3], "float64"),
    "truth": (["true", "False", "TRUE"], [True, False, True], "bool"),
    "truth, some missing": (["true", "NULL", "false"], [True, None, False], "boolean"),
    "texts": (["x", "y 1", "z"], ["x", "y 1", "z"], None),
    "codes": (["A1", "12", "B3"], ["A1", "12", "B3"], None),
    "dates": (["2020-01-31", "", "2021-02-01"], ["2020-01-31", None, "2021-02-01"], "M8"),
    "moments": (["2020-01-31 06:00", "2020-01-31T07:30:10", "2020-01-31 08:00:00.5"], None, "M8"),
    "days first": (["31/12/2020", "1/2/2021", "3/4/2021"], ["2020-12-31", "2021-02-01"], "M8"),
    "no days": (["2020-02-30", "2020-01-01", ""], ["2020-02-30", "2020-01-01", None], None),
    "no months": (["31/13/2020", "1/2/2020", "3/4/2020"], ["31/13/2020", "1/2/2020"], None),
    "versions": (["1.2.3", "1.2.4", "1.3.0"], ["1.2.3", "1.2.4", "1.3.0"], None),
    "underscores": (["1_000", "2_000", "x"], ["1_000", "2_000", "x"], None),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(name, tmp_path):
    cells, expected, dtype = COLUMNS[name]
    path = tmp_path / "x.csv"
    path.write_text("a;b\n" + "".join(f"{cell};k\n" for cell in cells))
    column = read_rows(path)["a"]
    assert dtype is None or str(column.dtype).startswith(dtype.replace("M8", "datetime64"))
    for got, want in zip(column, expected or [], strict=False):
        if want is None:
            assert pd.isna(got)
        else:
            assert got == (pd.Timestamp(want) if dtype == "M8" else want)


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (["1,5", "2,25"], ";", (",", "")),
        (["1,234", "2,345"], ";", (",", "")),  # where commas do not separate cells
        (['"1,234"', '"2,345"'], ",", (".", ",")),
        (['"1,5"', '"2,25"'], ",", (",", "")),
        (["1.234,5", "2"], ";", (",", ".")),
        (["1,234.5", "2"], ";", (".", ",")),
        (["1.234", "2.5"], ";", (".", "")),
        (["1 234,5", "2"], ";", (",", " ")),
        (["1'234.5", "2"], "\t", (".", "'")),
        (["7", "8"], "|", (".", "")),
    ],
)
def test_commas_and_points(cells, separator, expected, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"a{separator}b\n" + "".join(f"{cell}{separator}k\n" for cell in cells))
    dialect, _ = understand(path)
    assert (dialect.separator, dialect.decimal, dialect.thousands) == (separator, *expected)
    assert all(dialect.number(cell.strip('"')) is not None for cell in cells)


def test_texts_without_names_are_numbered(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n3,x\n4,y\n")
    frame = read_rows(tmp_path / "x.csv")
    assert list(frame.columns) == ["1", "2"]
    assert frame["2"].tolist() == ["2", "x", "y"]
