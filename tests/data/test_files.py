"""Files of rows: what is written is read back, and what is not rows of numbers is refused."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from aevb.data.files import check_target, read_rows, replacing, write_rows

ENDINGS = [".npy", ".npz", ".csv", ".parquet", ".idx", ".idx.gz", "-ubyte", "-ubyte.gz"]
TABLES = [".csv", ".parquet"]


def table(dtype=np.float32, shape=(4, 3)):
    return np.random.default_rng(0).uniform(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64, bool])
def test_numbers_come_back(ending, dtype, tmp_path):
    path = tmp_path / f"rows{ending}"
    rows = table(dtype)
    write_rows(path, rows)
    back = read_rows(path)
    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back.astype(dtype), rows)
    if ending in (".npy", ".npz", ".parquet"):
        assert back.dtype == dtype
    elif ending == ".csv":
        assert back.dtype == np.float64


@pytest.mark.parametrize("ending", ENDINGS)
def test_images_come_back_but_as_rows_in_tables(ending, tmp_path):
    path, images = tmp_path / f"images{ending}", table(np.uint8, (5, 4, 3))
    write_rows(path, images)
    np.testing.assert_array_equal(
        read_rows(path), images.reshape(5, 12) if ending in TABLES else images
    )


@pytest.mark.parametrize("ending", TABLES)
def test_names_of_columns_come_back(ending, tmp_path):
    path = tmp_path / f"named{ending}"
    write_rows(path, table(np.float64), columns=["height, cm", "größe", "w"])
    back = read_rows(path)
    assert list(back.columns) == ["height, cm", "größe", "w"]
    np.testing.assert_array_equal(back.to_numpy(), table(np.float64))


@pytest.mark.parametrize("ending", TABLES)
def test_one_column(ending, tmp_path):
    path = tmp_path / f"column{ending}"
    write_rows(path, np.array([1.5, -2.0]), columns=["score"])
    back = read_rows(path)
    assert list(back.columns) == ["score"]
    np.testing.assert_array_equal(back.to_numpy(), [[1.5], [-2.0]])


def test_float32_is_written_to_csv_in_its_own_digits(tmp_path):
    write_rows(tmp_path / "x.csv", np.array([[0.1, 1e-7]], np.float32))
    assert (tmp_path / "x.csv").read_text() == "0.1,1e-07\n"


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]], None),
        ("a,b\n1,2\n", [[1, 2]], ["a", "b"]),
        ("a,2\n1,2\n", [[1, 2]], ["a", "2"]),
        ("a;b\n1;2\n", [[1, 2]], ["a", "b"]),
        ("a\tb\n1\t2\n", [[1, 2]], ["a", "b"]),
        ('"a, b",c\n"1","2"\n', [[1, 2]], ["a, b", "c"]),
        ("\ufeffa,b\r\n1,2\r\n", [[1, 2]], ["a", "b"]),
        (" a , b \n 1 , 2 \n\n", [[1, 2]], ["a", "b"]),
        ("0,1,2\n5,6,7\n", [[5, 6, 7]], None),  # as pandas names columns without names
        ("0,1\n5,6\n", [[0, 1], [5, 6]], None),  # too short to tell from binary data
        ("a,b\n1,\nNA,nan\n", [[1, np.nan], [np.nan, np.nan]], ["a", "b"]),
        ("a,b\nTrue,FALSE\n", [[1, 0]], ["a", "b"]),
        ("7\n8", [[7], [8]], None),
    ],
)
def test_csv(text, expected, names, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8", newline="")
    rows = read_rows(path)
    numbers = rows if isinstance(rows, np.ndarray) else rows.to_numpy(float, na_value=np.nan)
    np.testing.assert_array_equal(numbers, expected)
    assert (list(rows.columns) if isinstance(rows, pd.DataFrame) else None) == names


@pytest.mark.parametrize("ending", TABLES)
def test_tables_of_pandas(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    frame = pd.DataFrame({"a": [1.5, 2.5], "b": [True, False], "c": [1, 2]})
    frame.to_csv(path, index=False) if ending == ".csv" else frame.to_parquet(path)
    np.testing.assert_array_equal(read_rows(path).to_numpy(), [[1.5, 1, 1], [2.5, 0, 2]])


def test_parquet_with_missing_integers(tmp_path):
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [3, 4]})
    frame.to_parquet(tmp_path / "x.parquet")
    rows = read_rows(tmp_path / "x.parquet")
    np.testing.assert_array_equal(rows.to_numpy(float), [[1, 3], [np.nan, 4]])


def test_csv_without_pandas_is_an_array(tmp_path, monkeypatch):
    write_rows(tmp_path / "x.csv", [[1.0, 2.0]], columns=["a", "b"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    np.testing.assert_array_equal(read_rows(tmp_path / "x.csv"), [[1.0, 2.0]])


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_parquet_names_the_extra_to_install(library, tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    write_rows(path, [[1.0, 2.0]], columns=["a", "b"])
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r'pandas and pyarrow.*pip install "aevb\[data\]"'):
        read_rows(path)
    with pytest.raises(ImportError, match=r'pip install "aevb\[data\]"'):
        write_rows(tmp_path / "new.parquet", [[1.0, 2.0]])
    assert not (tmp_path / "new.parquet").exists()


@pytest.mark.parametrize(
    ("arrays", "chosen"),
    [
        ({"faces": 1}, "faces"),
        ({"X": 1, "y": 2}, "X"),
        ({"labels": 2, "images": 1}, "images"),
        ({"arr_1": 2, "arr_0": 1}, "arr_0"),
        ({"arr_0": 3, "images": 2, "X": 1}, "X"),
    ],
)
def test_npz_with_one_array_or_a_known_name(arrays, chosen, tmp_path):
    arrays = {name: table() * value for name, value in arrays.items()}
    np.savez(tmp_path / "x.npz", **arrays)
    np.testing.assert_array_equal(read_rows(tmp_path / "x.npz"), arrays[chosen])


def test_npz_with_other_names_lists_them(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=table(), x_test=table())
    with pytest.raises(
        ValueError,
        match=r"^Expected one array, or one named X, images, arr_0.*got x_train, x_test\. Save",
    ):
        read_rows(tmp_path / "x.npz")


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_objects_are_not_loaded(ending, tmp_path):
    array = np.array([[1, None]], dtype=object)
    (np.save if ending == ".npy" else np.savez)(tmp_path / f"x{ending}", array)
    with pytest.raises(
        ValueError, match=r"^Expected numbers in .*array of Python objects.*could run code.*astype"
    ):
        read_rows(tmp_path / f"x{ending}")


@pytest.mark.parametrize("array", [np.array([["a"]]), np.array([[1j]]), np.array([["2020"]], "M8")])
def test_other_than_real_numbers_are_refused(array, tmp_path):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=r"^Expected real numbers for .*x\.npy; got .* of type"):
        read_rows(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"^Expected real numbers for `rows`; got"):
        write_rows(tmp_path / "y.npy", array)


def test_labels_are_no_rows(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(9))
    with pytest.raises(ValueError, match=r"Expected rows of numbers.*\(9,\).*labels"):
        read_rows(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.csv.gz", "rows.npy.bak"])
def test_unknown_endings_are_answered_with_the_known_ones(name, tmp_path):
    with pytest.raises(ValueError, match=rf"\.npy, \.npz, \.csv, .*-ubyte\.gz.*; got {name}\."):
        read_rows(tmp_path / name)
    with pytest.raises(ValueError, match=rf"\.npy, \.npz, \.csv, .*-ubyte\.gz.*; got {name}\."):
        write_rows(tmp_path / name, table())


def test_endings_in_capitals(tmp_path):
    write_rows(tmp_path / "X.CSV", [[1, 2], [3, 4]])
    np.testing.assert_array_equal(read_rows(tmp_path / "X.CSV"), [[1, 2], [3, 4]])


@pytest.mark.parametrize("ending", ENDINGS)
def test_missing_file(ending, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"an existing file.*none at .*x{ending}"):
        read_rows(tmp_path / f"x{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff\xfe\x00\x01junk\x00\x9d" * 9])
def test_foreign_and_empty_files(ending, content, tmp_path):
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected .*x.*(damaged|empty|decompressed|not the IDX)"):
        read_rows(path)


@pytest.mark.parametrize("ending", [".npy", ".npz", ".parquet", ".idx", ".idx.gz"])
def test_every_truncation_is_noticed(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    write_rows(path, table())
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="Expected"):
            read_rows(path)


@pytest.mark.parametrize("seed", range(100))
def test_damaged_zip_files_are_called_damaged(seed, tmp_path):
    path, rng = tmp_path / "x.npz", np.random.default_rng(seed)
    write_rows(path, table())
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    content[rng.integers(len(content), size=3)] = rng.integers(256, size=3)
    path.write_bytes(content.tobytes())
    try:
        rows = read_rows(path)
    except ValueError as error:
        assert "Expected" in str(error)
    else:
        assert rows.shape == (4, 3)  # the damage was to what nothing depends on, such as a date


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,4\n5,x\n", r"numbers in all cells of column 2.*got 'x' in row 3\."),
        ("1,2\n3,4\nx,4\ny,2\n5,6\n", r"column 1 of .*got 'x' in row 3, and 1 more"),
        ("a,b\n1,2\n3\n", "Expected 2 cells in each line.*got 1 in line 3"),
        (",a,b\n0,1,2\n", "column 0 has none.*index=False.*row.names=FALSE"),
        (",0,1,2\n0,5,6,7\n", "column 0 has none"),
        ("a,b\n", r"Expected rows of numbers.*empty.*\(0, 2\)"),
        ("\n\n", "Expected rows of numbers.*empty"),
        ('a,b\n"1,2\n' + "3," * 100_000, "Expected a text file"),
    ],
)
def test_csv_that_is_no_table_of_numbers(text, message, tmp_path):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "x.csv")


MIXED = pd.DataFrame(
    {
        "a": pd.array([1, None, 3], dtype="Int64"),
        "kind": ["cat", None, "dog"],
        "when": pd.to_datetime(["2020-01-01", "2021-05-05", None]).astype("M8[us]"),
        "size": [1.5, None, 2.0],
        "good": pd.array([True, None, False], dtype="boolean"),
    }
)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".feather"])
def test_mixed_tables_come_back(ending, tmp_path):
    write_rows(tmp_path / f"x{ending}", MIXED)
    pd.testing.assert_frame_equal(read_rows(tmp_path / f"x{ending}"), MIXED, check_dtype=False)
    back = read_rows(tmp_path / f"x{ending}")
    assert [back.dtypes[n] for n in ["a", "when", "size", "good"]] == [
        MIXED.dtypes[n] for n in ["a", "when", "size", "good"]
    ]


def test_mixed_tables_are_not_for_files_of_numbers(tmp_path):
    with pytest.raises(ValueError, match=r"file for tables, \.csv, \.feather.*got x\.npy"):
        write_rows(tmp_path / "x.npy", MIXED)
    write_rows(tmp_path / "x.npy", pd.DataFrame({"a": [1, 2]}))
    assert read_rows(tmp_path / "x.npy").tolist() == [[1], [2]]


def test_excel_names_the_library_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ImportError, match="openpyxl"):
        write_rows(tmp_path / "x.xlsx", MIXED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_existing_file_is_kept_unless_told_otherwise(ending, tmp_path):
    path = tmp_path / f"x{ending}"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=rf"x{ending} exists.*overwrite=True.*--force"):
        write_rows(path, table())
    assert path.read_text() == "precious"
    write_rows(path, table(), overwrite=True)
    np.testing.assert_array_equal(read_rows(path).astype(np.float32), table())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_folder_in_the_way_or_missing(tmp_path):
    with pytest.raises(IsADirectoryError, match="got the folder"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(FileNotFoundError, match=r"an existing folder.*got .*nowhere"):
        check_target(tmp_path / "nowhere" / "x.csv", overwrite=True)


def test_failed_writing_leaves_everything_as_it_was(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("precious")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_may_write_to_one_path(tmp_path):
    # One name for all threads of a process had one of them fail, or write into the other's file.
    path, both = tmp_path / "x.npy", threading.Barrier(2, timeout=10)
    rows = [np.full((3, 2), number) for number in (1.0, 2.0)]

    def write(own):
        with replacing(path) as temporary:
            both.wait()
            np.save(temporary, own)
            both.wait()
            np.testing.assert_array_equal(np.load(temporary), own)
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, rows))  # raises what a thread raised
    assert any(np.array_equal(read_rows(path), own) for own in rows)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    path = tmp_path / ("x" * 240 + ".npy")
    with replacing(path) as temporary:
        left = temporary
        left.write_bytes(b"half")
        with replacing(path) as temporary:
            assert temporary != left
            assert temporary.suffix == ".npy"
            np.save(temporary, table())
        assert left.read_bytes() == b"half"
        np.testing.assert_array_equal(read_rows(path), table())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_rows(tmp_path / "x.csv", table())
        (tmp_path / "other").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "x.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [(bool, np.uint8), (np.float16, np.float32), (np.int64, np.int32), (np.uint16, np.int32)],
)
def test_idx_takes_the_nearest_type_that_it_has(dtype, stored, tmp_path):
    write_rows(tmp_path / "x.idx", table(dtype))
    back = read_rows(tmp_path / "x.idx")
    assert back.dtype == stored
    np.testing.assert_array_equal(back, table(dtype))


def test_idx_refuses_integers_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"at most 32 bits.*x\.idx; got 0 to 4294967296"):
        write_rows(tmp_path / "x.idx", np.array([[0, 2**32]]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", [["a"], ["a", "b", "c", "d"]])
def test_number_of_names_must_fit(columns, tmp_path):
    with pytest.raises(ValueError, match=f"Expected 3 names for `columns`; got {len(columns)}"):
        write_rows(tmp_path / "x.csv", table(), columns=columns)


def test_a_single_number_is_no_array(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(n, \.\.\.\) for `rows`; got a single number"):
        write_rows(tmp_path / "x.npy", 3.0)
