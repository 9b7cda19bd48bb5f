"""Rows in the files that users have: NumPy, CSV, Parquet, Feather, Excel and IDX, in and out.

The ending of a file's name says its format: ``.npy``, ``.npz``, ``.csv``, ``.tsv``, ``.parquet``,
``.feather``, ``.xlsx``, and for the format of MNIST ``.idx``, ``.idx.gz``, ``-ubyte``,
``-ubyte.gz``. Tables of more than numbers need the extra ``aevb[data]``, and Excel openpyxl too.
"""

from __future__ import annotations

import csv
import os
import secrets
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from aevb.data.idx import read_idx, write_idx
from aevb.data.text import counts, read_text

_NPZ_NAMES = ("X", "images", "arr_0")  # in this order, when an .npz file holds several arrays
_DAMAGED_NUMPY = (  # what NumPy and zipfile raise
    *(ValueError, EOFError, OSError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)

Names = Sequence[str] | None  # of the columns
Rows = Any  # an array, or a DataFrame of pandas, which is optional
Reader = Callable[[Path], Rows]
Writer = Callable[[Path, Rows, Names], None]
_OF_PANDAS = {".tsv", ".parquet", ".feather", ".xlsx"}  # what is read and written by pandas alone


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Read cases from a file: a table of numbers, or images.

    A CSV file may be separated by commas, semicolons, tabs or bars, have decimal commas and
    separated thousands, and be written in UTF-8, UTF-16 or Windows-1252; see `aevb.data.text`. Its
    first row is a header if one of its cells is not a number, or if it counts 0, 1, 2, ..., which
    is what pandas writes for columns without names. Columns may be numbers, truth values, texts and
    dates. Empty cells, NA, null, ? and the like are missing.

    Parameters
    ----------
    path : path-like
        The file. An ``.npz`` file holds one array, or one named X, images or arr_0.

    Returns
    -------
    ndarray of shape (n, ...), or DataFrame of shape (n, d)
        A DataFrame when the columns have names and pandas is there to keep them. CSV without names
        gives float64, other formats their own type.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the format is unknown, the file is damaged, or it holds anything but rows of numbers.
    ImportError
        If the format needs a library that is not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> from aevb.data.files import read_rows, write_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "latent.csv")
    ...     write_rows(path, [[0.5, 1.5], [-1.0, 2.0]], columns=["z1", "z2"])
    ...     read_rows(path)
        z1   z2
    0  0.5  1.5
    1 -1.0  2.0
    """
    path = Path(path)
    read, _ = _format(path)
    if not path.exists():
        raise FileNotFoundError(f"Expected an existing file for `path`; there is none at {path}.")
    rows = read(path)
    if rows.ndim < 2:
        raise ValueError(
            f"Expected rows of numbers, (n, d) or (n, h, w[, c]), in {path}; got an array of shape "
            f"{rows.shape}. Does it hold labels instead of data? A single column is (n, 1)."
        )
    if rows.size == 0:
        raise ValueError(f"Expected rows of numbers in {path}; it is empty, of shape {rows.shape}.")
    return rows


def write_rows(
    path: str | os.PathLike[str],
    rows: Rows,
    columns: Names = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write rows to a file, in one step: all of it or nothing.

    Parameters
    ----------
    path : path-like
        Where to; its ending says the format.
    rows : array-like of shape (n, ...), or DataFrame
        Numbers, or a table, which CSV, TSV, Parquet, Feather and Excel files hold. Images become
        one row each there. IDX has no boolean (they become uint8), half precision (float32) or
        other integers (int32).
    columns : sequence of str, optional
        Names of a table's columns, for CSV and Parquet.
    overwrite : bool, default=False
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError, FileNotFoundError
        If the file exists and may not be replaced, or its folder does not exist.
    ValueError
        If the format is unknown or cannot hold these numbers.
    ImportError
        If the format needs a library that is not installed.

    Examples
    --------
    See `read_rows`.
    """
    path = Path(path)
    check_rows_target(path, overwrite=overwrite)
    _, write = _format(path)
    if hasattr(rows, "iloc"):  # a table of pandas
        if path.suffix.lower() not in _OF_PANDAS | {".csv"}:
            columns, rows = list(rows.columns), rows.to_numpy()
            if rows.dtype == object:
                raise ValueError(
                    f"Expected a file for tables, {', '.join(sorted(_OF_PANDAS | {'.csv'}))}, for "
                    f"columns that are not all numbers; got {path.name}."
                )
    else:
        rows = _checked(np.asarray(rows), columns)
    with replacing(path) as temporary:
        write(temporary, rows, columns)


def _checked(array: np.ndarray, columns: Names) -> np.ndarray:
    """Return rows of numbers whose columns have as many names, if any."""
    array = _numeric(array, "`rows`")
    if array.ndim == 0:
        raise ValueError("Expected an array of shape (n, ...) for `rows`; got a single number.")
    width = array[0].size if len(array) else 0
    if columns is not None and len(array) and len(columns) != width:
        raise ValueError(f"Expected {width} names for `columns`; got {len(columns)}.")
    return array


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise OSError, before any work is done, if no file can or may be written at `path`."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"Expected an existing folder to write to; got {path.parent}.")
    if path.is_dir():
        raise IsADirectoryError(f"Expected a file to write to; got the folder {path}.")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"Expected a new file to write to; {path} exists. "
            "Replace it by overwrite=True, on the command line by --force."
        )


def check_rows_target(path: Path, *, overwrite: bool) -> None:
    """Raise as `check_target`, or if the format is unknown or its library is missing."""
    _format(path)
    check_target(path, overwrite=overwrite)
    if path.suffix.lower() in _OF_PANDAS:
        _pandas(path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move its file there if nothing goes wrong.

    The path is new at every call: threads and processes may write to one `path`, the last one wins.
    The file is the caller's to create, so that its permissions are those of any other.
    """
    # The ending says the format; a long name has no room for more letters.
    temporary = path.with_name(f".{secrets.token_hex(8)}-{path.name[-100:]}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _format(path: Path) -> tuple[Reader, Writer]:
    for ending, functions in _FORMATS.items():
        if path.name.lower().endswith(ending):
            return functions
    raise ValueError(
        f"Expected a file name that ends in one of {', '.join(_FORMATS)} for `path`; "
        f"got {path.name}."
    )


def _numeric(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Expected real numbers for {what}; got an array of type {array.dtype}.")
    return array


def _damaged(expected: str, path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"Expected {expected} for `path`; {path} is damaged or of another kind ({error})."
    )


def _read_numpy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        try:
            array, names = _load_numpy(file)
        except _DAMAGED_NUMPY as error:
            if "Object arrays" in str(error):
                raise ValueError(
                    f"Expected numbers in {path}; got an array of Python objects, which is not "
                    "loaded, as that could run code. Convert it by array.astype(float) and save "
                    "it again."
                ) from error
            raise _damaged("a NumPy file", path, error) from error
    if array is None:
        raise ValueError(
            f"Expected one array, or one named {', '.join(_NPZ_NAMES)}, in {path}; "
            f"got {', '.join(names) or 'none'}. Save the one you mean to a file of its own."
        )
    return _numeric(array, str(path))


def _load_numpy(file: BinaryIO) -> tuple[np.ndarray | None, list[str]]:
    if file.read(4) not in (b"\x93NUM", b"PK\x03\x04", b"PK\x05\x06"):
        raise ValueError("it does not begin like one")
    file.seek(0)
    content = np.load(file, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content, []
    names = list(content)
    wanted = names if len(names) == 1 else [name for name in _NPZ_NAMES if name in names]
    return content[wanted[0]] if wanted else None, names


def _write_npy(path: Path, array: Rows, columns: Names) -> None:
    np.save(path, array)


def _write_npz(path: Path, array: Rows, columns: Names) -> None:
    np.savez_compressed(path, X=array)


def _read_csv(path: Path) -> Rows:
    table = read_text(path)
    if table.is_numeric and (not table.dialect.header or counts(table.names)):
        return np.stack(table.columns, axis=1) if table.columns else np.empty((0, 0))
    try:
        import pandas as pd
    except ImportError as error:
        if table.is_numeric:
            return np.stack(table.columns, axis=1)
        raise _needs_pandas(path) from error
    cells = zip(table.columns, table.whole, table.truth, strict=True)
    series = [_series(pd, *each) for each in cells]
    return pd.DataFrame(dict(enumerate(series))).set_axis(table.names, axis=1)


def _series(pd: ModuleType, column: np.ndarray, whole: bool, truth: bool) -> Any:
    """Return a column of pandas in the type in which it is written."""
    if not (whole or truth):
        return pd.Series(column)
    complete = not np.isnan(column).any()
    if truth:
        return pd.Series(column).astype(bool if complete else "boolean")
    return pd.Series(column).astype(np.int64 if complete else "Int64")


def _write_csv(path: Path, rows: Rows, columns: Names) -> None:
    if not isinstance(rows, np.ndarray):
        rows.to_csv(path, index=False)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if columns is not None:
            writer.writerow(columns)
        writer.writerows(rows.reshape(len(rows), -1))


def _write_tsv(path: Path, rows: Rows, columns: Names) -> None:
    _frame(path, rows, columns).to_csv(path, index=False, sep="\t")


def _pandas(path: Path) -> ModuleType:
    try:
        import pandas as pd
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise _needs_pandas(path) from error
    if path.suffix.lower() == ".xlsx":
        try:
            import openpyxl  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"{path.name} needs openpyxl, which is not installed: pip install openpyxl"
            ) from error
    return pd


def _needs_pandas(path: Path) -> ImportError:
    return ImportError(
        f'{path.name} needs pandas and pyarrow, which are not installed: pip install "aevb[data]"'
    )


def _reader(name: str, what: str) -> Reader:
    """Return what reads a format by the function of pandas with this name."""

    def read(path: Path) -> Rows:
        pd = _pandas(path)
        try:
            frame = getattr(pd, name)(path)
        except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise _damaged(what, path, error) from error
        names = [str(name) for name in frame.columns]
        numeric = all(pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes)
        if not (numeric and counts(names)):
            return frame.set_axis(names, axis=1)
        table = frame.to_numpy()
        if table.dtype == object:  # booleans beside numbers, or missing integers
            table = frame.to_numpy(np.float64, na_value=np.nan)
        return table

    return read


def _writer(name: str, **options: Any) -> Writer:
    """Return what writes a format by the method of a DataFrame with this name."""

    def write(path: Path, rows: Rows, columns: Names) -> None:
        getattr(_frame(path, rows, columns), name)(path, **options)

    return write


def _frame(path: Path, rows: Rows, columns: Names) -> Any:
    """Return rows as a table of pandas."""
    if not isinstance(rows, np.ndarray):
        return rows.reset_index(drop=True)
    table = rows.reshape(len(rows), -1)
    names = [str(j) for j in range(table.shape[1])] if columns is None else list(columns)
    return _pandas(path).DataFrame(table, columns=names)


def _write_idx(path: Path, array: Rows, columns: Names) -> None:
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype.kind in "iu" and array.dtype.itemsize > 1 and array.dtype != np.int16:
        limits = np.iinfo(np.int32)
        if array.size and not limits.min <= array.min() <= array.max() <= limits.max:
            raise ValueError(
                f"Expected integers of at most 32 bits for the IDX format of {path.name}; "
                f"got {array.min()} to {array.max()}."
            )
        array = array.astype(np.int32)
    write_idx(path, array)


_IDX = (read_idx, _write_idx)
_FORMATS: dict[str, tuple[Reader, Writer]] = {
    ".npy": (_read_numpy, _write_npy),
    ".npz": (_read_numpy, _write_npz),
    ".csv": (_read_csv, _write_csv),
    ".tsv": (_read_csv, _write_tsv),
    ".parquet": (_reader("read_parquet", "a Parquet file"), _writer("to_parquet", index=False)),
    ".feather": (_reader("read_feather", "a Feather file"), _writer("to_feather")),
    ".xlsx": (_reader("read_excel", "an Excel file"), _writer("to_excel", index=False)),
    ".idx": _IDX,
    ".idx.gz": _IDX,
    "-ubyte": _IDX,
    "-ubyte.gz": _IDX,
}
