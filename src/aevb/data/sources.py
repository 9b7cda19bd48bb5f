"""Sources of rows beyond memory, for ``VAE.fit`` and all that takes rows one by one.

A path says by itself what it is: a ``.npy`` file, a ``.parquet`` file or a folder of them, a Zarr
array. So does a data set of Grain. Others are wrapped::

    VAE(10).fit("rows.npy")
    VAE(10).fit("folder-of-parquet")
    VAE(10).fit(sources.Records(anything_with_len_and_getitem))

What takes less than 128 MB is read at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aevb.data.files import read_rows
from aevb.data.parquet import ParquetFiles
from aevb.data.stored import NumpyFile, Records, Stored, ZarrArray

__all__ = ["NumpyFile", "ParquetFiles", "Records", "Stored", "ZarrArray", "opened"]

IN_MEMORY = 2**27  # bytes up to which rows are read at once


def opened(X: Any) -> Any:
    """Return what a path or an object stands for: rows in memory, or a `Stored` source.

    Parameters
    ----------
    X : path-like, Stored, Zarr array, Grain data source or data set, or rows
        Rows in memory are returned as they are.

    Returns
    -------
    Stored, array or table
        Rows in memory if there are few.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ValueError, TypeError, ImportError
        If it holds anything else, or its library is not installed.
    """
    stored = _stored(X)
    if not isinstance(stored, Stored) or isinstance(X, Stored) or stored.n_bytes > IN_MEMORY:
        return stored
    is_file = isinstance(X, str | os.PathLike) and os.path.isfile(X)
    return read_rows(X) if is_file else stored.whole()


def is_source(X: Any) -> bool:
    """Whether something stands for rows that are not in memory yet."""
    return isinstance(X, str | os.PathLike | Stored) or _library(X) in ("grain", "zarr")


def _stored(X: Any) -> Any:
    if isinstance(X, Stored) or not is_source(X):
        return X
    if _library(X) == "zarr":
        return ZarrArray(X)
    if _library(X) == "grain":
        if not hasattr(X, "__len__"):
            raise TypeError(
                "Expected a Grain data source or MapDataset, whose records have numbers, for `X`; "
                f"got {type(X).__name__}."
            )
        return Records(X)
    if not os.path.exists(X):
        raise FileNotFoundError(
            f"Expected rows, or the path of a file or a folder, for `X`; there is none at {X!r}."
        )
    path = Path(X)
    if any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        return ZarrArray(path)
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return ParquetFiles(path)
    return NumpyFile(path) if path.suffix.lower() == ".npy" else read_rows(path)


def _library(X: Any) -> str:
    """Return the library that an object's class, or one that it is derived from, is of."""
    names = {cls.__module__.partition(".")[0] for cls in type(X).__mro__}
    return next((name for name in ("grain", "zarr") if name in names), "")
