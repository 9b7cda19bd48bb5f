"""Bodies of requests and responses: JSON, NumPy's .npy and Arrow's streams, read without trust.

Rows in JSON are lists in the order of the columns, or objects by the names of a table's columns. A
missing value is null, as is a number that is not finite in a response. Dates are texts as ISO 8601
has them, durations are seconds.
"""

from __future__ import annotations

import datetime
import io
import json
import math
import re
import struct
import threading
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aevb.columns import Columns
from aevb.data.cells import check_lengths
from aevb.data.tables import BOOLEAN, CATEGORY, DATE, DURATION, INTEGER, NUMBER, ORDERED
from aevb.errors import some
from aevb.serve.methods import Told
from aevb.serve.refusals import Refused

JSON, NPY, ARROW = "application/json", "application/x-npy", "application/vnd.apache.arrow.stream"
MEDIA = (JSON, NPY, ARROW)
_ONE_AT_A_TIME = threading.Lock()  # NumPy parses a header by `ast`, which is not for many threads
_LONGEST = 1000  # bytes of a text that a dictionary of Arrow may repeat in every row


class Expected(NamedTuple):
    """What the rows of a body may be.

    Attributes
    ----------
    columns : Columns or None
        Those of a table; None: numbers.
    width : int
        Number of columns.
    most : int
        Largest number of rows.
    condition : Condition or None
        That of the model, to read one that is in a table's form.
    """

    columns: Columns | None
    width: int
    most: int
    condition: Any = None


class Malformed(ValueError):
    """A body that is not of the type that its request says."""


def media_of(content_type: str | None, allowed: tuple[str, ...] = MEDIA) -> str:
    """Return the type of a body; refuse all but those that are read here."""
    media = (content_type or "").partition(";")[0].strip().lower()
    if media not in allowed:
        raise Refused(415, f"Expected a body of the type {_listed(allowed)}; got {media!r:.80}.")
    return media


def media_for(accept: str | None, offered: tuple[str, ...] = MEDIA) -> str:
    """Return the type of the response that a request asks for, JSON if it does not mind.

    Examples
    --------
    >>> media_for("*/*"), media_for("text/html, application/x-npy;q=0.5")
    ('application/json', 'application/x-npy')
    """
    quality = dict.fromkeys(offered, 0.0)
    specific = dict.fromkeys(offered, -1)
    for part in (accept or "*/*").split(","):
        name, *options = (each.strip().lower() for each in part.split(";"))
        given = [option[2:] for option in options if option.startswith("q=")]
        for media in offered:
            ranges = ("*/*", media.partition("/")[0] + "/*", media)
            if name in ranges and ranges.index(name) > specific[media]:
                specific[media] = ranges.index(name)
                quality[media] = _number(given[0]) if given else 1.0
    best = max(offered, key=quality.__getitem__)
    if not quality[best] > 0:
        raise Refused(406, f"Expected `Accept` to allow {_listed(offered)}; got {accept!r:.200}.")
    return best


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text) else 0.0


def _listed(media: tuple[str, ...] = MEDIA) -> str:
    return " or ".join(media)


# Requests.


def read(body: bytes, media: str, expected: Expected) -> Told:
    """Read the rows of a body, and what it says besides.

    Parameters
    ----------
    body : bytes
        The body.
    media : str
        Its type.
    expected : Expected
        What it may hold.

    Returns
    -------
    Told
        `X` is an array, or a table of PyArrow.

    Raises
    ------
    Malformed
        For a body that is not of its type.
    ValueError, TypeError
        For values that are not of the columns' types.
    """
    if media == NPY:
        array = _of_npy(body)
        check_rows(array.shape[0] if array.ndim else 1, expected.most)
        return Told(array)
    if media == ARROW:
        table = _of_arrow(body, expected)
        return Told(_stacked(table) if expected.columns is None else table)
    given = of_json(body)
    told = given if isinstance(given, dict) else {"rows": given}
    unknown = told.keys() - {"rows", "condition", "exposure"}
    if unknown or "rows" not in told:
        raise ValueError(
            "Expected a list of rows, or an object with `rows` and, if the model has them, "
            f"`condition` and `exposure`; got an object with {some(sorted(told))}."
        )
    rows = rows_of(told["rows"], expected.columns, expected.most)
    condition = condition_of(told.get("condition"), expected.condition)
    return Told(rows, condition, told.get("exposure"))


def of_json(body: bytes) -> Any:
    """Read JSON as its standard has it, without NaN and infinity."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise Malformed("Expected JSON; got lists within lists without end.") from error
    except ValueError as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"Expected JSON; got a body that is not: {error}.") from error


def check_rows(n: int, most: int) -> None:
    """Refuse more rows than are allowed."""
    if n > most:
        raise Refused(413, f"Expected {most} rows or fewer in a request; got {n}.")


def _refuse_constant(name: str) -> None:
    raise Malformed(f"Expected JSON, which has no {name}. A missing value is null.")


def rows_of(rows: Any, columns: Columns | None, most: int = 2**31) -> Any:
    """Return rows in JSON as an array, or as a table with the columns that are expected."""
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"Expected a list of one row or more; got {_shown(rows)}.")
    check_rows(len(rows), most)
    if columns is None:
        return _as_numbers(rows)
    names = list(columns.names)
    if all(isinstance(row, list) for row in rows):
        for i, row in enumerate(rows):
            if len(row) != len(names):
                raise ValueError(
                    f"Expected {len(names)} cells, {some(names)}, in each row; got {len(row)} in "
                    f"row {i}."
                )
        return table_of(dict(zip(names, zip(*rows, strict=True), strict=True)), columns)
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TypeError(
                f"Expected rows that are all objects or all lists; got {_shown(row)} in row {i}."
            )
    found = {name for row in rows for name in row}
    check_names(found, names)
    there = [name for name in names if name in found]
    return table_of({name: [row.get(name) for row in rows] for name in there}, columns)


def check_names(found: Iterable[str], names: Sequence[str]) -> None:
    """Refuse unknown columns at once: a body may name more of them than there is room for."""
    unknown = sorted({*found} - {*names})
    if unknown:
        raise ValueError(
            f"Expected the columns of the fit, {some(names)}; unknown are {some(unknown)}."
        )


def condition_of(given: Any, condition: Any) -> Any:
    """Return a condition in JSON in the form of the fit."""
    if condition is None or condition.is_labels or not isinstance(given, list):
        return given
    return rows_of(given, condition.schema.columns)


def _as_numbers(rows: list) -> np.ndarray:
    check_lengths(rows)
    array = np.asarray(rows)
    if array.dtype.kind in "biuf":
        return array
    cells = np.asarray(rows, object)
    for place, cell in zip(np.ndindex(cells.shape), cells.flat, strict=True):
        if cell is not None and not isinstance(cell, int | float):
            where = f" in row {place[0]}" if place else ""
            raise TypeError(
                f"Expected numbers, or null where one is missing; got {_shown(cell)}{where}."
            )
    try:
        return cells.astype(np.float64)
    except OverflowError as error:
        raise ValueError("Expected numbers within the range of float64.") from error


def table_of(values: Mapping[str, Sequence[Any]], columns: Columns) -> pa.Table:
    """Return columns of plain values as a table, of the types that are expected."""
    kinds = {choice.type.name: choice.type.kind for choice in columns.choices}
    return pa.table({name: _column(name, each, kinds[name]) for name, each in values.items()})


_TYPES = {
    **{NUMBER: pa.float64(), INTEGER: pa.float64(), BOOLEAN: pa.bool_()},
    **{CATEGORY: pa.string(), ORDERED: pa.string()},
    **{DATE: pa.timestamp("us"), DURATION: pa.duration("us")},
}


def _column(name: str, values: Sequence[Any], kind: str) -> pa.Array:
    try:
        if kind == DATE:
            values = [value if value is None else _moment(value) for value in values]
        elif kind == DURATION:
            values = [value if value is None else _duration(value) for value in values]
        return pa.array(values, _TYPES[kind])
    except (ValueError, TypeError, OverflowError) as error:  # Arrow's own are among them
        said = str(error).rstrip(".")
        raise ValueError(f"Expected {kind} values for column {name!r}; {said}.") from error


def _moment(text: Any) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return moment


def _duration(seconds: Any) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds)


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return f"{value!r:.80}"


def _of_npy(body: bytes) -> np.ndarray:
    """Read the one format of NumPy that holds no objects, where header and body agree."""
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        with _ONE_AT_A_TIME:
            shape, is_fortran, dtype = header(stream)
    except Exception as error:  # NumPy evaluates the header, which may be anything
        raise Malformed("Expected a .npy file; got a body without its header.") from error
    if dtype.hasobject or dtype.kind not in "biuf":
        raise TypeError(f"Expected a .npy file of numbers; got the type {dtype}.")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or size != len(body) - stream.tell():
        raise Malformed(
            f"Expected {size} bytes after the header of a .npy file of shape {shape!s:.80}; got "
            f"{len(body) - stream.tell()}."
        )
    flat = np.frombuffer(body, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C").astype(dtype.newbyteorder("="))


def _of_arrow(body: bytes, expected: Expected) -> pa.Table:
    """Read a stream of Arrow: of plain types, not compressed, so that it is as large as it says."""
    buffer = pa.py_buffer(body)
    try:
        for message in pa.ipc.MessageReader.open_stream(buffer):
            if _is_compressed(message.metadata.to_pybytes()):
                raise TypeError("Expected a stream of Arrow that is not compressed.")
        with pa.ipc.open_stream(buffer) as reader:
            if len(reader.schema) > expected.width:  # empty ones take no room until they are read
                raise ValueError(f"Expected {expected.width} columns; got {len(reader.schema)}.")
            for field in reader.schema:
                if not _is_plain(field.type):
                    raise TypeError(
                        "Expected columns of numbers, texts, truth values or dates; got "
                        f"{field.type!s:.80} in column {field.name!r:.80}."
                    )
            table = reader.read_all()
        check_rows(table.num_rows, expected.most)
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, struct.error, IndexError) as error:
        raise Malformed(
            f"Expected a stream of Arrow; got a body that is not: {error!s:.200}"
        ) from error
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type) and _longest(column) > _LONGEST:
            raise ValueError(
                f"Expected texts of {_LONGEST} bytes or less in the dictionary of column "
                f"{name!r:.80}."
            )
    return table


def _longest(column: pa.ChunkedArray) -> int:
    """Return the bytes of the longest text in the dictionaries of a column."""
    longest, last = 0, None
    for chunk in column.chunks:  # many of which have the same dictionary
        places = [buffer and buffer.address for buffer in chunk.dictionary.buffers()]
        if places != last:
            longest = max(longest, pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0)
        last = places
    return longest


def _is_plain(kind: pa.DataType) -> bool:
    of = pa.types
    if of.is_dictionary(kind):
        return of.is_string(kind.value_type) or of.is_large_string(kind.value_type)
    tests = (
        *(of.is_integer, of.is_floating, of.is_boolean, of.is_null, of.is_string),
        *(of.is_large_string, of.is_date, of.is_timestamp, of.is_duration, of.is_decimal),
    )
    return any(test(kind) for test in tests)


def _is_compressed(message: bytes) -> bool:
    """Whether the FlatBuffer of a message of Arrow says that its buffers are compressed.

    What they then expand to is in no header. PyArrow does not tell, and so its table is read here:
    Message.header (field 2), of a type (1) that is a DictionaryBatch (2), whose RecordBatch is
    field 1, or a RecordBatch (3); compression is field 3 of that.
    """

    def field(table: int, number: int) -> int | None:
        vtable = table - struct.unpack_from("<i", message, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", message, vtable)[0]:
            return None
        offset = struct.unpack_from("<H", message, vtable + 4 + 2 * number)[0]
        return table + offset if offset else None

    def follow(place: int) -> int:
        return place + struct.unpack_from("<I", message, place)[0]

    root = follow(0)
    kind, header = field(root, 1), field(root, 2)
    if kind is None or header is None or message[kind] not in (2, 3):
        return False
    batch: int | None = follow(header)
    if message[kind] == 2 and batch is not None:
        data = field(batch, 1)
        batch = None if data is None else follow(data)
    return batch is not None and field(batch, 3) is not None


def _stacked(table: pa.Table) -> np.ndarray:
    """Return the columns of a table side by side, as an array that the estimator checks."""
    if not table.num_columns:
        raise ValueError("Expected at least one column; got none.")
    return np.column_stack([column.to_numpy() for column in table.columns])


# Responses.


def write(result: Any, media: str, method: str) -> bytes:
    """Return an array or a table as a body.

    An array has the columns ``vae0``, ``vae1``, ... in Arrow if it is latent, the method's name if
    it has one number for each row, and otherwise ``x0``, ``x1``, ...
    """
    is_table = isinstance(result, pa.Table)
    if media == JSON:
        rows = records(result) if is_table else plain(result)
        return json.dumps(rows, allow_nan=False, separators=(",", ":")).encode("ascii")
    if media == NPY:
        stream = io.BytesIO()
        np.save(stream, result, allow_pickle=False)
        return stream.getvalue()
    table = result if is_table else _columns(result, method)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def plain(array: np.ndarray) -> list:
    """Return an array as lists, with None for what is not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        cells = array.astype(object)
        cells[~np.isfinite(array)] = None
        return cells.tolist()
    return array.tolist()


def records(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table as objects."""
    columns = {name: cells(table[name]) for name in table.column_names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def cells(column: pa.ChunkedArray) -> list:
    """Return the cells of a column as JSON has them."""
    return [_cell(value) for value in column.to_pylist()]


def _cell(value: Any) -> Any:
    if isinstance(value, datetime.date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _columns(array: np.ndarray, method: str) -> pa.Table:
    if array.ndim == 1:
        return pa.table({method: array})
    prefix = "vae" if method == "encode" else "x"
    flat: Iterable[np.ndarray] = array.reshape(len(array), -1).T
    return pa.table({f"{prefix}{j}": column for j, column in enumerate(flat)})
