"""Files that are written some rows at a time: NumPy, Parquet and CSV."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from aevb.data.files import check_rows_target, replacing, write_rows
from aevb.data.tables import is_table

Names = Sequence[str] | None


class _Growing(ABC):
    """A file under way.

    Parameters
    ----------
    path : Path
        Where to.
    n_rows : int
        Rows that it will have.
    names : sequence of str, optional
        Names of the columns of arrays.
    """

    def __init__(self, path: Path, n_rows: int, names: Names):
        self.path, self.n_rows, self.names = path, n_rows, names
        self.file: Any = None

    @abstractmethod
    def append(self, rows: Any) -> None:
        """Write some rows behind those before."""

    def close(self) -> None:
        """Write what is left, and end the file."""
        if self.file is not None:
            self.file.close()


class _Numpy(_Growing):
    def append(self, rows: Any) -> None:
        rows = np.ascontiguousarray(rows)
        if self.file is None:
            self.file = open(self.path, "wb")  # noqa: SIM115
            header = {
                "descr": np.lib.format.dtype_to_descr(rows.dtype),
                "fortran_order": False,
                "shape": (self.n_rows, *rows.shape[1:]),
            }
            np.lib.format.write_array_header_1_0(self.file, header)
        self.file.write(rows.data)


class _Csv(_Growing):
    def append(self, rows: Any) -> None:
        if self.file is None:
            self.file = open(self.path, "w", newline="", encoding="utf-8")  # noqa: SIM115
            if self.names is not None and not is_table(rows):
                csv.writer(self.file, lineterminator="\n").writerow(self.names)
            header = True
        else:
            header = False
        if is_table(rows):
            rows.to_csv(self.file, index=False, header=header)
        else:
            lines = rows.reshape(len(rows), -1)
            csv.writer(self.file, lineterminator="\n").writerows(lines)


class _Parquet(_Growing):
    def append(self, rows: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if hasattr(rows, "iloc"):
            table = pa.Table.from_pandas(rows, preserve_index=False)
        elif is_table(rows):
            table = rows
        else:
            columns = rows.reshape(len(rows), -1).T
            names = map(str, range(len(columns))) if self.names is None else self.names
            table = pa.table(dict(zip(names, columns, strict=True)))
        if self.file is None:
            self.file = pq.ParquetWriter(self.path, table.schema)
        self.file.write_table(table.cast(self.file.schema))


class _Collected(_Growing):
    """Of a format that is written at once."""

    def append(self, rows: Any) -> None:
        self.file = [*(self.file or ()), rows]

    def close(self) -> None:
        frames = self.file
        if is_table(frames[0]):
            import pandas as pd

            write_rows(self.path, pd.concat(frames, ignore_index=True))
        else:
            write_rows(self.path, np.concatenate(frames), self.names)


_GROWING: dict[str, type[_Growing]] = {".npy": _Numpy, ".csv": _Csv, ".parquet": _Parquet}


@contextmanager
def appending(
    path: Path, n_rows: int, names: Names = None, *, overwrite: bool = False
) -> Iterator[_Growing]:
    """Yield a file to append rows to, which has its name only when all of them are written.

    Parameters
    ----------
    path : Path
        Where to; its ending says the format. Only ``.npy``, ``.csv`` and ``.parquet`` files grow;
        of others the rows are kept in memory.
    n_rows : int
        Rows that it will have.
    names : sequence of str, optional
        Names of the columns of arrays.
    overwrite : bool
        Whether an existing file may be replaced.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "z.npy"
    ...     with appending(path, 3) as file:
    ...         file.append(np.zeros((2, 2)))
    ...         file.append(np.ones((1, 2)))
    ...     np.load(path)[:, 0].tolist()
    [0.0, 0.0, 1.0]
    """
    check_rows_target(path, overwrite=overwrite)
    with replacing(path) as temporary:
        file = _GROWING.get(path.suffix.lower(), _Collected)(temporary, n_rows, names)
        try:
            yield file
        except BaseException:
            if not isinstance(file, _Collected):
                file.close()
            raise
        file.close()
