"""The IDX format, in which MNIST and Fashion-MNIST are published.

Two zero bytes, one for the type of the numbers, one for the number of dimensions; then the
size of each dimension as a big-endian uint32; then the numbers, big-endian, in C order.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["read_idx", "write_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def read_idx(path: str | os.PathLike[str]) -> NDArray[np.number]:
    """Read an array from a file in the IDX format, the format of MNIST.

    Parameters
    ----------
    path : path-like
        The file; it is decompressed if its name ends in ``.gz``.

    Returns
    -------
    ndarray
        Of the file's shape and type (uint8, int8, int16, int32, float32 or float64), in the
        machine's byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the content is not IDX, is truncated, or is longer than its header says.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from aevb.data.idx import read_idx, write_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "labels.idx.gz")
    ...     write_idx(path, np.array([3, 1, 4], dtype=np.uint8))
    ...     read_idx(path)
    array([3, 1, 4], dtype=uint8)
    """
    try:
        return parse_idx(uncompressed(Path(path)))
    except ValueError as error:
        raise ValueError(f"Expected an IDX file for `path`; got {path}: {error}.") from error


def write_idx(path: str | os.PathLike[str], array: ArrayLike) -> None:
    """Write an array to a file in the IDX format, the format of MNIST.

    Parameters
    ----------
    path : path-like
        The file, overwritten if it exists; it is compressed if its name ends in ``.gz``.
    array : array-like
        Of type uint8, int8, int16, int32, float32 or float64, and any shape.

    Raises
    ------
    TypeError
        If the format has no such type of number.

    Examples
    --------
    See `read_idx`.
    """
    array = np.asarray(array)
    codes = {name: code for code, name in _TYPES.items()}
    name = array.dtype.str[1:]
    if name not in codes:
        raise TypeError(
            "Expected uint8, int8, int16, int32, float32 or float64 for `array`, the types of the "
            f"IDX format; got {array.dtype}. Convert it first with `array.astype`."
        )
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, codes[name], array.ndim, *array.shape)
    content = header + array.astype(">" + name).tobytes()
    if Path(path).suffix.lower() == ".gz":
        # No time stamp: the same array gives the same file.
        content = gzip.compress(content, compresslevel=6, mtime=0)
    Path(path).write_bytes(content)


def uncompressed(path: Path) -> bytes:
    """Return the content of a file, decompressed if its name ends in ``.gz``."""
    stored = path.read_bytes()
    if path.suffix.lower() != ".gz":
        return stored
    try:
        return gzip.decompress(stored)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"it cannot be decompressed ({error})") from error


def parse_idx(content: bytes) -> NDArray[np.number]:
    """Return the array in an IDX file: 0, 0, type, dimensions, sizes (uint32), numbers."""
    magic = content[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise ValueError(
            f"it starts with the bytes {magic.hex(' ') or '(none)'}, which is not the IDX format"
        )
    dtype = np.dtype(">" + _TYPES[magic[2]])
    ndim = magic[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"it ends after {len(content)} bytes, within its header of {start}")
    shape = struct.unpack_from(f">{ndim}I", content, offset=4)
    end = start + math.prod(shape) * dtype.itemsize
    if len(content) != end:
        raise ValueError(
            f"its header announces shape {shape} of {dtype.newbyteorder('=')}, {end} bytes in all "
            f"without compression, and it has {len(content)}"
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))
