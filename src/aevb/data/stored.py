"""Rows that lie in files or behind an index, and are read some at a time."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

_UNIT = 2**20  # bytes that are read at one place: shuffling jumps from one to another
_PIECE = 2**24  # bytes that are read in one go where rows come in their own order
_ENDS = 2**16  # bytes at both ends of a file by which it is known again


class Stored(ABC):
    """Rows of a source, in units that are read one by one: runs of rows, or row groups.

    Attributes
    ----------
    name : str
        What messages call it.
    lengths : ndarray of int
        Rows of each unit, in order.
    n_bytes : int
        Size of all rows in memory, about.
    """

    name: str
    lengths: Int[np.ndarray, " n_units"]
    n_bytes: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.lengths.sum())

    def __len__(self) -> int:
        return self.n_rows

    @abstractmethod
    def read(self, unit: int) -> Iterator[Any]:
        """Yield the rows of a unit in order: arrays, or tables of PyArrow, of one or more rows."""

    def pieces(self) -> Iterator[Any]:
        """Yield all rows in their order."""
        for unit in range(len(self.lengths)):
            yield from self.read(unit)

    @abstractmethod
    def whole(self) -> Any:
        """Return all rows in memory: an array, or a table of pandas."""

    @property
    @abstractmethod
    def identity(self) -> tuple:
        """What tells it from other data: sizes, and a hash of some of the content."""


class _Array(Stored):
    """Rows of an array of known shape and type, in units of about a megabyte."""

    def __init__(self, name: str, shape: Sequence[int], dtype: np.dtype):
        if len(shape) < 2 or not math.prod(shape):
            raise ValueError(
                "Expected rows of numbers, of shape (n, d) or (n, h, w[, c]) with n and d of at "
                f"least one, in {name}; got an array of shape {tuple(shape)}."
            )
        if dtype.kind not in "biuf":
            raise ValueError(f"Expected real numbers in {name}; got an array of type {dtype}.")
        self.name, self.shape, self.dtype = name, tuple(shape), dtype
        self.row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self.n_bytes = shape[0] * self.row_bytes
        self.lengths = _runs(shape[0], self._run_length())

    def _run_length(self) -> int:
        return max(_UNIT // self.row_bytes, 1)

    @abstractmethod
    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return some rows, in memory of their own."""

    def read(self, unit: int) -> Iterator[np.ndarray]:
        """Yield the rows of a unit."""
        start = unit * int(self.lengths[0])
        yield self.rows(start, start + int(self.lengths[unit]))

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield all rows in their order, in whole units."""
        length = int(self.lengths[0])
        step = max(_PIECE // (self.row_bytes * length), 1) * length
        for start in range(0, self.n_rows, step):
            yield self.rows(start, min(start + step, self.n_rows))

    def whole(self) -> np.ndarray:
        """Return all rows."""
        return self.rows(0, self.n_rows)


class NumpyFile(_Array):
    """An array in a ``.npy`` file, read into memory a run of rows at a time.

    Reading, not mapping: pages that are mapped count as the process's own where memory is limited.

    Raises
    ------
    ValueError
        For a file of another kind, of objects, or one that ends too early.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "X.npy")
    ...     np.save(path, np.arange(6.0).reshape(3, 2))
    ...     stored = NumpyFile(path)
    ...     stored.n_rows, stored.rows(1, 3).tolist()
    (3, [[2.0, 3.0], [4.0, 5.0]])
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)
        with open(path, "rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                reader = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    reader = np.lib.format.read_array_header_2_0
                shape, self._fortran, dtype = reader(file)
            except ValueError as error:
                raise ValueError(
                    f"Expected a NumPy file for `path`; {path} is damaged or of another kind "
                    f"({error})."
                ) from error
            self._offset = file.tell()
        if dtype.hasobject:
            raise ValueError(
                f"Expected numbers in {path}; got an array of Python objects, which is not "
                "loaded, as that could run code. Convert it by array.astype(float) and save it "
                "again."
            )
        super().__init__(str(path), shape, dtype)
        size, there = self._offset + self.n_bytes, self._path.stat().st_size
        if there < size:
            row = (there - self._offset) // self.row_bytes
            raise ValueError(
                f"Expected {size} bytes in {path}, for {self.n_rows} rows of shape "
                f"{self.shape[1:]}; got {there}: it ends in row {row}. Write or copy it again."
            )

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return some rows."""
        shape = (stop - start, *self.shape[1:])
        if self._fortran:  # whose rows lie apart
            mapped = np.load(self._path, mmap_mode="r", allow_pickle=False)
            return np.array(mapped[start:stop])
        offset = self._offset + start * self.row_bytes
        flat = np.fromfile(self._path, self.dtype, math.prod(shape), offset=offset)
        if len(flat) < math.prod(shape):
            raise ValueError(f"Expected {self.n_rows} rows in {self.name}; it has become shorter.")
        return flat.reshape(shape).astype(self.dtype.newbyteorder("="), copy=False)

    @property
    def identity(self) -> tuple:
        """Its size, and a hash of its ends."""
        return ("npy", *_of_file(self._path))


class Records(_Array):
    """Records behind an index: a Grain data source or data set, or anything with their methods.

    Parameters
    ----------
    source : object with ``__len__`` and ``__getitem__``
        Of which ``source[i]`` is an array of one case.

    Examples
    --------
    >>> stored = Records([np.zeros(3), np.ones(3)])
    >>> stored.n_rows, stored.rows(1, 2).tolist()
    (2, [[1.0, 1.0, 1.0]])
    """

    def __init__(self, source: Any):
        n = len(source)
        if not n:
            raise ValueError("Expected at least one record for `X`; got an empty source.")
        first = np.asarray(source[0])
        if first.dtype.kind not in "biuf" or not first.ndim:
            raise TypeError(
                "Expected a source whose records are arrays of numbers for `X`; got "
                f"{type(source[0]).__name__} of type {first.dtype}. Map its records to arrays "
                "first, for instance by MapDataset.map."
            )
        self._source = source
        super().__init__(f"the source {type(source).__name__}", (n, *first.shape), first.dtype)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return some rows."""
        if hasattr(self._source, "__getitems__"):
            records = self._source.__getitems__(range(start, stop))
        else:
            records = [self._source[i] for i in range(start, stop)]
        rows = np.empty((stop - start, *self.shape[1:]), self.dtype)
        for i, record in enumerate(map(np.asarray, records)):
            if record.shape != self.shape[1:]:
                raise ValueError(
                    f"Expected records of shape {self.shape[1:]}, that of the first one, in "
                    f"{self.name}; got {record.shape} in record {start + i}."
                )
            if not np.can_cast(record.dtype, self.dtype, "same_kind"):
                raise ValueError(
                    f"Expected records of type {self.dtype}, that of the first one, in "
                    f"{self.name}; got {record.dtype} in record {start + i}."
                )
            rows[i] = record
        return rows

    @property
    def identity(self) -> tuple:
        """The shape, and a hash of the first and the last rows."""
        n = min(64, self.n_rows)
        ends = self.rows(0, n).tobytes() + self.rows(self.n_rows - n, self.n_rows).tobytes()
        return ("records", *self.shape, hashlib.sha256(ends).hexdigest())


class ZarrArray(_Array):
    """An array in a Zarr store; a unit is a run of rows of about the size of its chunks.

    Raises
    ------
    ImportError
        When zarr, of the extra ``aevb[stream]``, is not installed.
    ValueError
        When there is no array of numbers.
    """

    def __init__(self, path: str | Path | Any):
        if isinstance(path, str | Path):
            array = _open_zarr(path)
            name = str(path)
        else:
            array, name = path, "the Zarr array"
        self._array = array
        super().__init__(name, array.shape, np.dtype(array.dtype))

    def _run_length(self) -> int:
        chunk = int(self._array.chunks[0])
        return chunk * max(_UNIT // (self.row_bytes * chunk), 1)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return some rows."""
        return np.asarray(self._array[start:stop])

    @property
    def identity(self) -> tuple:
        """Shape and type, and a hash of the first and the last unit."""
        digest = hashlib.sha256()
        for unit in (0, len(self.lengths) - 1):
            digest.update(next(self.read(unit)).tobytes())
        return ("zarr", *self.shape, str(self.dtype), digest.hexdigest())


def _open_zarr(path: str | Path) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f'{path} needs zarr, which is not installed: pip install "aevb[stream]"'
        ) from error
    try:
        found = zarr.open(str(path), mode="r")
    except Exception as error:  # of many kinds, of zarr and of the store
        raise ValueError(
            f"Expected a Zarr array for `path`; {path} is damaged or of another kind ({error})."
        ) from error
    if not isinstance(found, zarr.Array):
        names = ", ".join(sorted(found.array_keys())) or "none"
        raise ValueError(
            f"Expected a single Zarr array in {path}; got a group of arrays: {names}. Name one of "
            "them by its path within the store."
        )
    return found


def _runs(n: int, length: int) -> Int[np.ndarray, " n_units"]:
    """Return the lengths of runs of n rows: all the same but for the last one."""
    starts = np.arange(0, n, length)
    return np.diff([*starts, n])


def _of_file(path: Path) -> tuple:
    """Return a file's size, and a hash of its two ends."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(_ENDS)
        file.seek(max(size - _ENDS, 0))
        return size, hashlib.sha256(first + file.read()).hexdigest()
