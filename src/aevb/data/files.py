"""Rows of numbers in the files that users have: NumPy, CSV, Parquet and IDX, in and out.

The ending of a file's name says its format: ``.npy``, ``.npz``, ``.csv``, ``.parquet``, and for the
format of MNIST ``.idx``, ``.idx.gz``, ``-ubyte``, ``-ubyte.gz``. Only Parquet needs the extra
``aevb[data]``.
"""

from __future__ import annotations

import csv
import itertools
import os
import secrets
import tokenize
import zipfile
import zlib
from array import array as growing_array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from aevb.data.idx import read_idx, write_idx

_NPZ_NAMES = ("X", "images", "arr_0")  # in this order, when an .npz file holds several arrays
_DAMAGED_NUMPY = (  # what NumPy and zipfile raise
    *(ValueError, EOFError, OSError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_NO_NUMBER = {"", "na", "n/a", "null", "none"}  # besides "nan", which float() knows
_TRUTH = {"true": 1.0, "false": 0.0}

Names = Sequence[str] | None  # of the columns
Rows = Any  # an array, or a DataFrame of pandas, which is optional
Reader = Callable[[Path], Rows]
Writer = Callable[[Path, np.ndarray, Names], None]


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Read cases from a file: a table of numbers, or images.

    A CSV file may be separated by commas, semicolons or tabs. Its first row is a header if one of
    its cells is not a number, or if it counts 0, 1, 2, ..., which is what pandas writes for columns
    without names. Empty cells become NaN, which models then refuse by row and column.

    Parameters
    ----------
    path : path-like
        The file. An ``.npz`` file holds one array, or one named X, images or arr_0.

    Returns
    -------
    ndarray of shape (n, ...), or DataFrame of shape (n, d)
        A DataFrame when the columns have names and pandas is there to keep them. CSV gives
        float64, other formats their own type.

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
    array: ArrayLike,
    columns: Names = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write rows of numbers to a file, in one step: all of it or nothing.

    Parameters
    ----------
    path : path-like
        Where to; its ending says the format.
    array : array-like of shape (n, ...)
        Numbers. CSV and Parquet are tables, so images become one row each; IDX has no boolean
        (they become uint8), half precision (float32) or other integers (int32).
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
    array = _numeric(np.asarray(array), "`array`")
    if array.ndim == 0:
        raise ValueError("Expected an array of shape (n, ...) for `array`; got a single number.")
    width = array[0].size if len(array) else 0
    if columns is not None and len(array) and len(columns) != width:
        raise ValueError(f"Expected {width} names for `columns`; got {len(columns)}.")
    with replacing(path) as temporary:
        write(temporary, array, columns)


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
    read, _ = _format(path)
    check_target(path, overwrite=overwrite)
    if read is _read_parquet:
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


def _write_npy(path: Path, array: np.ndarray, columns: Names) -> None:
    np.save(path, array)


def _write_npz(path: Path, array: np.ndarray, columns: Names) -> None:
    np.savez_compressed(path, X=array)


def _read_csv(path: Path) -> Rows:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first_line = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first_line.count)
            return _parse_csv(csv.reader(file, delimiter=separator), path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _damaged("a text file (UTF-8) of separated numbers", path, error) from error


def _parse_csv(lines: Any, path: Path) -> Rows:
    rows = (row for row in lines if row)
    first = [cell.strip() for cell in next(rows, [])]
    width = len(first)
    header = any(_number(cell) is None for cell in first) or _counts(first)
    if header and "" in first:
        raise ValueError(
            f"Expected a name for each column of {path}; column {first.index('')} has none. If it "
            "numbers the rows, write the file without it (pandas: index=False, R: row.names=FALSE)."
        )
    values = growing_array("d")
    text: dict[int, str] = {}  # of the columns that are not numeric, a cell each
    for row in rows if header else itertools.chain([first], rows):
        if len(row) != width:
            raise ValueError(
                f"Expected {width} cells in each line of {path}, as in its first; "
                f"got {len(row)} in line {lines.line_num}."
            )
        try:
            values.extend([float(cell) for cell in row])
        except ValueError:
            numbers = [_number(cell) for cell in row]
            text = {j: row[j] for j in range(width) if numbers[j] is None} | text
            values.extend([np.nan if number is None else number for number in numbers])
    if text:
        named = {first[j] if header else f"number {j}": cell for j, cell in sorted(text.items())}
        raise _not_numeric(path, [f"{name} (such as {cell!r})" for name, cell in named.items()])
    table = np.frombuffer(values).reshape(-1, width) if width else np.empty((0, 0))
    return _with_names(table, first if header else None)


def _number(cell: str) -> float | None:
    cell = cell.strip().lower()
    if cell in _NO_NUMBER:
        return np.nan
    try:
        return _TRUTH[cell] if cell in _TRUTH else float(cell)
    except ValueError:
        return None


def _counts(names: Sequence[str]) -> bool:
    """Whether names only number the columns, perhaps after an index, as pandas writes them."""
    names = list(names[1:] if names[:1] == [""] else names)
    return len(names) > 2 and names == [str(j) for j in range(len(names))]


def _not_numeric(path: Path, columns: Sequence[str]) -> ValueError:
    return ValueError(
        f"Expected numbers in all columns of {path}; got others in {', '.join(columns)}. "
        "Leave these columns out, or encode them as numbers."
    )


def _with_names(table: np.ndarray, names: Names) -> Rows:
    if names is None or _counts(names):
        return table
    try:
        import pandas as pd
    except ImportError:
        return table
    return pd.DataFrame(table, columns=list(names))


def _write_csv(path: Path, array: np.ndarray, columns: Names) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if columns is not None:
            writer.writerow(columns)
        writer.writerows(array.reshape(len(array), -1))


def _pandas(path: Path) -> ModuleType:
    try:
        import pandas as pd
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{path.name} needs pandas and pyarrow, which are not installed: "
            'pip install "aevb[data]"'
        ) from error
    return pd


def _read_parquet(path: Path) -> Rows:
    pd = _pandas(path)
    try:
        frame = pd.read_parquet(path)
    except (ValueError, OSError, KeyError, TypeError) as error:  # the latter from its metadata
        raise _damaged("a Parquet file", path, error) from error
    names = [str(name) for name in frame.columns]
    is_numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    if not all(is_numeric):
        raise _not_numeric(path, [n for n, good in zip(names, is_numeric, strict=True) if not good])
    table = frame.to_numpy()
    if table.dtype == object:  # booleans beside numbers, or missing integers
        table = frame.to_numpy(np.float64, na_value=np.nan)
    return _with_names(table, names)


def _write_parquet(path: Path, array: np.ndarray, columns: Names) -> None:
    table = array.reshape(len(array), -1)
    names = [str(j) for j in range(table.shape[1])] if columns is None else list(columns)
    _pandas(path).DataFrame(table, columns=names).to_parquet(path, index=False)


def _write_idx(path: Path, array: np.ndarray, columns: Names) -> None:
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
    ".parquet": (_read_parquet, _write_parquet),
    ".idx": _IDX,
    ".idx.gz": _IDX,
    "-ubyte": _IDX,
    "-ubyte.gz": _IDX,
}
