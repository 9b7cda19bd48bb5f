"""Parquet files, one or a folder of them, read a row group at a time."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from aevb.data.stored import Stored, _of_file

_BATCH = 2**25  # bytes of a batch, at eight a number; every column of a batch costs some calls
_BUFFER = 2**16  # bytes of each column that are read ahead of what is decoded


class ParquetFiles(Stored):
    """The rows of Parquet files of one schema; a unit is a row group.

    Row groups are visited in random order, and their rows are mixed with those of the row groups
    that are in the same chunk: smaller row groups are mixed better.

    Parameters
    ----------
    path : path-like
        A file, or a folder of ``.parquet`` files, also in folders within it; they come in the
        order of their names.

    Raises
    ------
    ImportError
        When pyarrow, of the extra ``aevb[data]``, is not installed.
    ValueError
        For a folder without such files, files whose columns differ, and damaged ones.

    Examples
    --------
    >>> import os, tempfile
    >>> import pandas as pd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k in range(2):
    ...         pd.DataFrame({"x": [k, k + 0.5]}).to_parquet(os.path.join(folder, f"{k}.parquet"))
    ...     stored = ParquetFiles(folder)
    ...     stored.n_rows, [piece["x"].to_pylist() for piece in stored.pieces()]
    (4, [[0.0, 0.5], [1.0, 1.5]])
    """

    def __init__(self, path: str | Path):
        self._paths = _files(Path(path))
        self.name = str(path)
        opened = _file(self._paths[0])
        own = opened.schema_arrow
        lengths: list[int] = []
        self._first: list[int] = []  # unit of each file
        self.n_bytes = 0
        for each in self._paths:
            metadata = _file(each).metadata
            _check_same(own, _file(each).schema_arrow, self._paths[0], each)
            self._first.append(len(lengths))
            for group in range(metadata.num_row_groups):
                lengths.append(metadata.row_group(group).num_rows)
                self.n_bytes += metadata.row_group(group).total_byte_size
        index = (own.pandas_metadata or {}).get("index_columns", [])
        self._columns = [name for name in own.names if name not in map(str, index)]
        self._batch = max(_BATCH // (8 * len(self._columns)), 1024)  # rows
        self.lengths = np.asarray(lengths, int)
        self.n_bytes = max(self.n_bytes, 8 * self.n_rows * len(self._columns))
        if not self.n_rows:
            raise ValueError(f"Expected at least one row in {path}; got none.")

    def read(self, unit: int) -> Iterator[Any]:
        """Yield tables of the rows of a unit."""
        import pyarrow as pa

        number = bisect.bisect_right(self._first, unit) - 1
        group = unit - self._first[number]
        file = _file(self._paths[number])
        try:
            batches = file.iter_batches(
                self._batch, row_groups=[group], columns=self._columns, use_threads=False
            )
            for batch in batches:
                yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self._paths[number], error) from error
        pa.default_memory_pool().release_unused()  # which would keep a few row groups

    def whole(self) -> Any:
        """Return all rows as a table of pandas."""
        import pyarrow as pa

        pieces = [*self.pieces()]
        return pa.concat_tables(pieces, promote_options="permissive").to_pandas()

    @property
    def identity(self) -> tuple:
        """Sizes of the files, and a hash of their ends."""
        each = (str(_of_file(path)) for path in self._paths)
        return ("parquet", self.n_rows, hashlib.sha256("".join(each).encode()).hexdigest())


def _files(path: Path) -> list[Path]:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{path.name} needs pyarrow, which is not installed: pip install "aevb[data]"'
        ) from error
    if not path.is_dir():
        return [path]
    files: list[Path] = []
    for folder, within, names in os.walk(path):
        within[:] = [name for name in within if name[0] not in "._"]  # what Spark and Hive leave
        seen = (name for name in names if name.endswith(".parquet") and name[0] not in "._")
        files += (Path(folder, name) for name in seen)
    files.sort()
    if not files:
        raise ValueError(f"Expected files that end in .parquet in the folder {path}; got none.")
    return files


def _file(path: Path) -> Any:
    """Return a file that stays open, unless it has changed."""
    try:
        stat = path.stat()
    except OSError as error:
        raise _damaged(path, error) from error
    return _opened(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _opened(path: Path, size: int, changed: int) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"Expected a Parquet file; {path} is damaged, cut off or of another kind ({error})."
    )


def _check_same(own: Any, other: Any, first: Path, path: Path) -> None:
    """Raise ValueError if the columns of two files differ."""
    one, two = ({field.name: field.type for field in schema} for schema in (own, other))
    for name in itertools.chain(one, two):
        here, there = one.get(name), two.get(name)
        if here != there:
            raise ValueError(
                f"Expected the same columns in all files of a folder; {name!r} is "
                f"{here or 'missing'} in {first.name} and {there or 'missing'} in {path.name}. "
                "Write them anew with one schema."
            )
