"""What a user's table or array holds that is not a number: found, named, and refused."""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from aevb.errors import some

_DATES = "Turn dates and durations into numbers, for instance days since a date"
_CATEGORIES = "Turn categories into numbers, for instance by sklearn.preprocessing.OneHotEncoder"
_FILL = "Remove these rows or columns, or fill the holes, for instance by"


def check_lengths(X: Any) -> None:
    """Raise ValueError for a list of rows that are not of one length."""
    if not isinstance(X, list | tuple):
        return
    try:
        np.ndim(X)
    except ValueError:
        sizes = [len(row) if hasattr(row, "__len__") else 1 for row in X]
        other = next((row for row, size in enumerate(sizes) if size != sizes[0]), None)
        found = "cells that are sequences of different lengths"
        if other is not None:
            found = f"{sizes[0]} cells in row 0 and {sizes[other]} in row {other}"
        raise ValueError(
            f"Expected rows of the same length for `X`; got {found}. Fill up what is missing, by "
            "NaN for instance."
        ) from None


def check_cells(X: Any) -> None:
    """Raise ValueError or TypeError, naming column and row, for what is not a real number.

    NaN and infinity are left to later checks; `with_nan` has turned masked values into NaN.

    Parameters
    ----------
    X : array-like or table
        Of NumPy, lists, pandas, Polars, PyArrow.
    """
    for name, column in _columns(X):
        _check_column(name, column)


def holes(
    kinds: str, n: int, rows: Iterable[str | int], columns: Iterable[str | int], name: str = "X"
) -> str:
    """Return the message that names the cells without a number."""
    return (
        f"Expected finite numbers for `{name}`; got {kinds} in {n} "
        f"{'cell' if n == 1 else 'cells'}: rows {some(rows)}, columns {some(columns)}. "
        f"{_FILL} sklearn.impute.SimpleImputer."
    )


def with_nan(X: Any) -> Any:
    """Return X with NaN for masked values, and for pandas' NA among objects.

    Parameters
    ----------
    X : array-like or table
        Of NumPy, lists, pandas, Polars, PyArrow. What has neither is returned as it is.

    Examples
    --------
    >>> with_nan(np.ma.masked_equal([[1, 2], [3, 4]], 4)).tolist()
    [[1.0, 2.0], [3.0, nan]]
    """
    is_list = isinstance(X, list | tuple)
    if any(np.ma.is_masked(part) for part in (X if is_list else [X])):
        masked: Any = np.ma.stack([np.ma.asarray(part) for part in X]) if is_list else X
        kept = masked.dtype.kind in "fc"
        return (masked if kept else masked.astype(np.float64)).filled(np.nan)
    if not is_list and not (isinstance(X, np.ndarray) and X.dtype.kind == "O"):
        return X
    array = np.asarray(X, object) if is_list and np.ndim(X) > 1 else X
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O":
        return X
    missing = [type(value).__name__ in ("NAType", "NaTType") for value in array.flat]
    if not any(missing):
        return X
    array = array.copy()
    array[np.reshape(missing, array.shape)] = np.nan
    return array


def _columns(X: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield the columns that may hold anything but numbers, with their names or positions."""
    if type(X).__name__ == "LazyFrame":
        raise TypeError("Expected a table for `X`; got a LazyFrame. Call X.collect().")
    names = getattr(X, "column_names", getattr(X, "columns", None))
    if names is not None:
        yield from _named_columns(X, list(names))
        return
    kind = getattr(getattr(X, "dtype", None), "kind", None)
    if kind == "V":
        raise TypeError(
            f"Expected an array of numbers for `X`; got one of type {X.dtype}. Turn its fields "
            "into columns by numpy.lib.recfunctions.structured_to_unstructured."
        )
    if isinstance(X, list | tuple) or (kind is not None and kind not in "biuf"):
        array = np.asarray(X)
        if array.ndim > 1 and array.dtype.kind not in "biuf":
            rows = array.reshape(len(array), math.prod(array.shape[1:]))
            yield from enumerate(rows.T)


def _named_columns(X: Any, names: list) -> Iterator[tuple[str, Any]]:
    if not names:
        raise ValueError(f"Expected at least one column for `X`; got a table of shape {X.shape}.")
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"Expected a different name for each column of `X`; got {some(twice)} more than once. "
            "Rename the columns, or leave some out."
        )
    for name in names:
        column = X[name]
        if not hasattr(getattr(column, "dtype", None), "kind"):  # not of pandas
            column = np.asarray(column)
        yield str(name), column


def _check_column(name: str | int, column: Any) -> None:
    where = f"column {name!r}"
    dtype, kind = column.dtype, column.dtype.kind
    if str(dtype).startswith("Sparse"):
        raise TypeError(
            f"Expected dense data for `X`; got sparse data in {where}. Use X.sparse.to_dense()."
        )
    if kind in "biuf" or len(column) == 0:
        return
    if kind in "mM":
        what = "dates" if kind == "M" else "durations"
        raise TypeError(f"{_got(f'{what} ({dtype})', where)} {_DATES}, or leave the column out.")
    if kind == "c":
        raise ValueError(
            f"{_got(f'{dtype}', where)} Complex data not supported: give real and imaginary parts "
            "as columns of their own."
        )
    missing = _find_no_number(where, column)
    if missing:
        raise ValueError(holes("NA", len(missing), missing, [name]))
    if kind in "USTV":
        raise ValueError(
            f"{_got(f'text ({dtype})', where)} Convert it, by numpy.asarray(X, float) for instance."
        )


def _find_no_number(where: str, column: Any) -> list[int]:
    """Raise for the first value that is not a number; return the rows with pandas' NA."""
    missing = []
    for row, value in enumerate(column.tolist()):
        if type(value).__name__ in ("NAType", "NaTType"):
            missing.append(row)
            continue
        try:
            float(value)
        except (TypeError, ValueError) as error:
            if value is None:
                continue  # NaN, once scikit-learn has converted it
            is_text = isinstance(value, str | bytes)
            shown = repr(value[:40]) if is_text else reprlib.repr(value)
            got = _got(shown, f"{where}, row {row}, and {error}")
            if is_text:
                raise ValueError(f"{got} {_CATEGORIES}, or leave the column out.") from None
            is_time = hasattr(value, "day") or hasattr(value, "days")
            remedy = _DATES if is_time else "Turn it into numbers"
            raise TypeError(f"{got} {remedy}, or leave the column out.") from None
    return missing


def _got(what: str, where: str) -> str:
    return f"Expected numbers for `X`; got {what} in {where}."
