"""Checks of what a user calls data, before any work is done with it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_array, validate_data

from aevb.data.cells import check_cells, check_lengths, holes, with_nan
from aevb.data.sparse import array_of, is_annotated, names_of_columns, sparse_rows
from aevb.data.tables import names_of
from aevb.errors import some

_KEPT = (np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.float32)  # exact in float32


def as_rows(
    estimator: Any,
    X: Any,
    shape: tuple[int, ...] | None = None,
    *,
    holes: bool = True,
    narrowed: bool = True,
) -> np.ndarray | sparse.csr_array:
    """Check cases at the border and return them as an array (n, *shape) of a type for training.

    A sparse array, also that of an AnnData, stays sparse, in single precision.

    Parameters
    ----------
    estimator : VAE
        Learns `n_features_in_` and `feature_names_in_` when `shape` is None; the cases are held to
        them otherwise.
    X : array-like of shape (n, d) or (n, h, w[, c]), sparse array or AnnData
        Cases. Images may also come flattened once the shape is known.
    shape : tuple of int, optional
        Shape of one case; None: X defines it.
    holes : bool
        Whether values may be missing (NaN).
    narrowed : bool
        Whether numbers are put into the narrowest type that training can use.

    Raises
    ------
    ValueError, TypeError
        For anything but finite real numbers (and NaN), too few rows, or another shape.
    """
    reset = shape is None
    names = None
    if is_annotated(X):
        X, names = array_of(X), names_of_columns(X)
    check_lengths(X)
    X = with_nan(X)
    check_cells(X)
    if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) > 2:
        X = check_array(X, dtype="numeric", allow_nd=True, ensure_all_finite=False)
        own = X.shape[1:]
        if len(own) > 3 or own != (shape or own):
            want = (
                "(n, h, w) or (n, h, w, c)" if reset else f"(n, {', '.join(map(str, shape or ()))})"
            )
            raise ValueError(f"Expected cases of shape {want} for `X`; got {X.shape}.")
        X, shape = X.reshape(len(X), math.prod(own)), own
    options: dict[str, Any] = {
        "accept_sparse": "csr",
        "dtype": "numeric",
        "ensure_all_finite": False,
        "ensure_min_samples": 2 if reset else 1,
    }
    if names is None:
        X = validate_data(estimator, X, reset=reset, **options)
    else:
        validate_data(estimator, names, reset=reset, skip_check_array=True)
        X = check_array(X, **options)
    if sparse.issparse(X):
        return sparse_rows(X, getattr(estimator, "feature_names_in_", None))
    if X.dtype.kind == "O":
        X = X.astype(np.float64)  # decimal numbers, of tables that are not of pandas
    columns = getattr(estimator, "feature_names_in_", None)
    check_finite(X, columns, missing=holes)
    if reset:
        _warn_of_rounding(X, columns)
    if narrowed:
        X = narrow(X)
    if reset and X.dtype == np.uint8 and X.max() <= 1:
        X = X.astype(np.bool_)  # zeros and ones, not nearly black images
    return X.reshape(-1, *(shape or X.shape[1:]))


def check_finite(
    X: np.ndarray,
    columns: Sequence[str] | np.ndarray | None = None,
    name: str = "X",
    *,
    missing: bool = False,
) -> None:
    """Raise ValueError, naming rows and columns, when X (n, d) holds NaN or infinity.

    NaN is allowed if values may be missing.
    """
    if X.dtype.kind != "f" or _all_finite(X):
        return
    bad = np.isinf(X) if missing else ~np.isfinite(X)
    if not bad.any():
        return
    rows, cols = np.nonzero(bad)
    kinds = {"NaN" if np.isnan(value) else "infinity (inf)" for value in X[rows, cols]}
    places = np.unique(rows), named(np.unique(cols), columns)
    raise ValueError(holes(" and ".join(sorted(kinds)), len(rows), *places, name=name))


def check_table(estimator: Any, X: Any, *, reset: bool = False) -> None:
    """Check the shape of a table, and the names of its columns against those of the fit.

    Parameters
    ----------
    estimator : VAE
        Learns `n_features_in_` and `feature_names_in_` on `reset`.
    X : table
        Of pandas, Polars or PyArrow.
    reset : bool
        Whether X defines the columns.

    Raises
    ------
    ValueError, TypeError
        For too few rows or columns, or other columns than those of the fit.
    """
    names_of(X)
    n, size = X.shape
    least = 2 if reset else 1
    if n < least or not size:
        raise ValueError(
            f"Expected at least {least} {'rows' if reset else 'row'} and one column for `X`; got a "
            f"table of shape {(n, size)}."
        )
    validate_data(estimator, X, reset=reset, skip_check_array=True)


def check_weights(weight: Any, n: int) -> np.ndarray:
    """Return the weights of n rows, float64.

    Raises
    ------
    ValueError
        For another number of them, values below 0 or not finite, or fewer than two above 0.
    """
    weight = np.asarray(weight, np.float64)
    if weight.shape != (n,):
        raise ValueError(
            f"Expected one number for each of the {n} rows of `X` for `sample_weight`; got an "
            f"array of shape {weight.shape}."
        )
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if len(bad):
        raise ValueError(
            "Expected finite numbers from 0 up for `sample_weight`; got "
            f"{weight[bad[0]]:g} in row {bad[0]}."
        )
    if np.count_nonzero(weight) < 2:
        raise ValueError(
            "Expected two weights or more above zero for `sample_weight`; got "
            f"{np.count_nonzero(weight)}."
        )
    return weight


def narrow(X: np.ndarray, columns: Sequence[str] | np.ndarray | None = None) -> np.ndarray:
    """Return X in the narrowest type that training can use: short types stay, others float32.

    Raises
    ------
    ValueError
        When a number is too large for float32.
    """
    if X.dtype in _KEPT:
        return X
    with np.errstate(over="ignore"):
        out = X.astype(np.float32)
    overflown = X.dtype.kind == "f" and not _all_finite(out)
    for row, column in np.argwhere(np.isinf(out.reshape(len(out), -1)))[:1] if overflown else ():
        raise ValueError(
            "Expected numbers within the range of float32 (3.4e38) for `X`; got "
            f"{X.reshape(len(X), -1)[row, column]} in row {row}, column "
            f"{named(np.array([column]), columns)[0]!r}, "
            "which would become infinity (inf). Rescale the data."
        )
    if X.dtype.kind == "f" and X.dtype.itemsize > 4:
        _check_not_vanished(X.reshape(len(X), -1), out.reshape(len(out), -1), columns)
    return out


def _check_not_vanished(
    X: np.ndarray, narrowed: np.ndarray, columns: Sequence[str] | np.ndarray | None
) -> None:
    """Raise ValueError for a column whose values are all too small for float32."""
    smallest = np.finfo(np.float32).tiny
    largest = np.fmax.reduce(np.abs(narrowed), axis=0)
    for column in np.flatnonzero(largest < smallest):
        size = np.fmax.reduce(np.abs(X[:, column]))
        if size > 0:
            raise ValueError(
                f"Expected numbers of {smallest:.2g} or more in size, the smallest normal float32, "
                f"for `X`; got {size:.2g} at most in column "
                f"{named(np.array([column]), columns)[0]!r}. "
                "Rescale the data."
            )


def _warn_of_rounding(X: np.ndarray, columns: Sequence[str] | np.ndarray | None) -> None:
    """Warn of columns whose spread float32 cannot hold beside their size (timestamps)."""
    if X.dtype in _KEPT:
        return
    low, high = (f.reduce(X, axis=0).astype(np.float64) for f in (np.fmin, np.fmax))
    step = np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high))
    coarse = (step > 1e-3 * (high - low)) & (high > low)
    if coarse.any():
        warnings.warn(
            f"Columns {some(named(np.flatnonzero(coarse), columns))} of `X` vary so little beside "
            "their size that float32 rounds their differences. Subtract an offset (their mean, a "
            "first date) before fitting.",
            stacklevel=4,
        )


def _all_finite(X: np.ndarray) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(X.sum(dtype=np.float64))) or bool(np.isfinite(X).all())


def named(indices: np.ndarray, columns: Sequence[str] | np.ndarray | None = None) -> list:
    """Return columns by their names where there are any, else by their positions."""
    return [int(i) if columns is None else str(columns[i]) for i in indices]
