"""Tables in text files: what separates cells, and which are numbers, dates, truth values, missing.

Nothing is asked and nothing is lost: what was understood is said, in a `Dialect` and in the types
of the columns.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from array import array as growing_array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_SAMPLE = 1000  # lines from which is learned how a file is written
_MISSING = {"", "na", "n/a", "#n/a", "null", "none", "nan", "<na>", "-", "--", "?", ".", "missing"}
_TRUTH = {"true": 1.0, "false": 0.0}
_WHOLE = re.compile(r"[-+]?\d+")
_GROUPED = {
    mark: re.compile(rf"[-+]?\d{{1,3}}({re.escape(mark)}\d{{3}})+") for mark in ",.' \u00a0"
}
_ISO = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?")
_DOTS = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")
_SLASHES = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")


class Dialect(NamedTuple):
    """How a text file is written.

    Attributes
    ----------
    encoding : str
        UTF-8 or 16, or else Windows-1252, of which Latin-1 is a part.
    separator : str
        Between cells: comma, semicolon, tab or bar.
    decimal : str
        The decimal point, or comma.
    thousands : str
        Between groups of three digits; empty if they are not separated.
    header : bool
        Whether the first line has the names of the columns.
    """

    encoding: str
    separator: str
    decimal: str = "."
    thousands: str = ""
    header: bool = True

    def number(self, cell: str) -> float | None:
        """Return the number that a cell is, NaN if it is missing; None if it is neither."""
        cell = cell.strip()
        low = cell.lower()
        if low in _MISSING:
            return np.nan
        if low in _TRUTH:
            return _TRUTH[low]
        if self.thousands and self.thousands in cell:
            whole = cell.partition(self.decimal)[0]
            if not _GROUPED[self.thousands].fullmatch(whole):
                return None
            cell = cell.replace(self.thousands, "")
        if self.decimal != ".":
            if "." in cell:
                return None
            cell = cell.replace(self.decimal, ".")
        try:
            return None if "_" in cell else float(cell)
        except ValueError:
            return None

    def __str__(self) -> str:
        names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
        said = f"{self.encoding}, cells separated by {names[self.separator]}"
        if self.decimal == ",":
            said += ", decimal commas"
        if self.thousands:
            said += f", thousands separated by {self.thousands!r}"
        return said + ("" if self.header else ", no names of columns")


class TextTable(NamedTuple):
    """What a text file holds.

    Attributes
    ----------
    dialect : Dialect
        How it is written.
    names : list of str
        Names of the columns; their numbers, from 1, where the file has none.
    columns : list of ndarray
        Of float64 (NaN for missing cells), of objects (texts, None), or of dates (NaT).
    whole : list of bool
        Which columns are written as whole numbers.
    truth : list of bool
        Which columns are written as truth values.
    """

    dialect: Dialect
    names: list[str]
    columns: list[np.ndarray]
    whole: list[bool]
    truth: list[bool]

    @property
    def is_numeric(self) -> bool:
        """Whether all columns are numbers or truth values."""
        return all(column.dtype == np.float64 for column in self.columns)


def read_text(path: Path) -> TextTable:
    """Read a table from a text file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ValueError
        For lines of different lengths, columns without names, or text that cannot be decoded.
    """
    dialect, sample = understand(path)
    with open(path, newline="", encoding=dialect.encoding) as file:
        lines = csv.reader(file, delimiter=dialect.separator)
        values, texts = _numbers(lines, dialect, path)
    width = len(sample[0]) if sample else 0
    table = np.frombuffer(values).reshape(-1, width) if width else np.empty((0, 0))
    columns: list[np.ndarray] = [np.array(column) for column in table.T]
    for j, cells in _cells(path, dialect, sorted(texts)).items():
        _check_one_type(columns[j], cells, j, path, dialect)
        dates = _dates(cells)
        columns[j] = _as_texts(cells) if dates is None else dates
    names = [cell.strip() for cell in sample[0]] if dialect.header else []
    below = sample[1:] if dialect.header else sample
    kinds = [[_kind(row[j], dialect) for row in below if len(row) == width] for j in range(width)]
    whole = [
        set(kind) <= {"whole", ""} and _is_whole(column)
        for kind, column in zip(kinds, columns, strict=True)
    ]
    truth = [set(kind) - {""} == {"truth"} and j not in texts for j, kind in enumerate(kinds)]
    truth = [set(kind) - {""} == {"truth"} and j not in texts for j, kind in enumerate(kinds)]
    return TextTable(dialect, names or [str(j + 1) for j in range(width)], columns, whole, truth)


def understand(path: Path) -> tuple[Dialect, list[list[str]]]:
    """Learn from the beginning of a file how it is written; return the cells there as well."""
    encoding = _encoding(path)
    try:
        with open(path, newline="", encoding=encoding) as file:
            lines = [*itertools.islice(file, _SAMPLE)]
        first = next((line for line in lines if line.strip()), "")
        separator = max(",;\t|", key=_outside_quotes(first).count)
        rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"Expected a text file of separated cells for `path`; {path} is damaged or of another "
            f"kind ({error})."
        ) from error
    cells = [cell.strip() for row in rows[1:] or rows for cell in row]
    decimal, thousands = _marks(cells, separator)
    dialect = Dialect(encoding, separator, decimal, thousands)
    head = [cell.strip() for cell in rows[0]] if rows else []
    header = any(dialect.number(cell) is None for cell in head) or counts(head)
    if header and "" in head:
        raise ValueError(
            f"Expected a name for each column of {path}; column {head.index('')} has none. If it "
            "numbers the rows, write the file without it (pandas: index=False, R: row.names=FALSE)."
        )
    return dialect._replace(header=header), rows


def counts(names: Sequence[str]) -> bool:
    """Whether names only number the columns, perhaps after an index, as pandas writes them."""
    names = list(names[1:] if names[:1] == [""] else names)
    return len(names) > 2 and names == [str(j) for j in range(len(names))]


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        begin = file.read(4)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        with open(path, encoding="utf-8-sig") as file:
            while file.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig" if begin.startswith(codecs.BOM_UTF8) else "utf-8"


def _outside_quotes(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _marks(cells: Iterable[str], separator: str) -> tuple[str, str]:
    """Return what stands before decimals, and between groups of three digits.

    1,234 may be either: where commas do not separate cells, they are taken for decimal commas.
    """
    cells = [cell for cell in cells if cell and not _WHOLE.fullmatch(cell)]

    def occurs(pattern: str, but: str = "$.") -> bool:
        return any(re.fullmatch(pattern, c) and not re.fullmatch(but, c) for c in cells)

    sign, groups = r"[-+]?", r"\d{{1,3}}({}\d{{3}})+"
    point = occurs(rf"{sign}\d*\.\d+(e.*)?", sign + groups.format(r"\."))
    point |= occurs(rf"{sign}{groups.format(',')}\.\d+")
    is_grouped = sign + groups.format(",") if separator == "," else "$."
    comma = occurs(rf"{sign}\d*,\d+", is_grouped) or occurs(rf"{sign}{groups.format('[. ]')},\d+")
    decimal = "," if comma and not point else "."
    rest = rf"({re.escape(decimal)}\d+)?"
    marks = (mark for mark in ",.' \u00a0" if mark != decimal)
    grouped = (m for m in marks if occurs(sign + groups.format(re.escape(m)) + rest))
    return decimal, next((m for m in grouped if m != "." or decimal == ","), "")


def _numbers(lines: Any, dialect: Dialect, path: Path) -> tuple[growing_array, set[int]]:
    """Return all cells as numbers, NaN where they are not, and the columns of the latter."""
    rows = (row for row in lines if row)
    first: list[str] = next(rows, [])
    width = len(first)
    values = growing_array("d")
    texts: set[int] = set()
    try:
        for row in rows if dialect.header else itertools.chain([first], rows):
            if len(row) != width:
                raise ValueError(
                    f"Expected {width} cells in each line of {path}, as in its first; "
                    f"got {len(row)} in line {lines.line_num}."
                )
            try:
                values.extend([float(cell) for cell in row])
            except ValueError:
                numbers = [dialect.number(cell) for cell in row]
                texts |= {j for j, number in enumerate(numbers) if number is None}
                values.extend([np.nan if number is None else number for number in numbers])
    except csv.Error as error:
        raise ValueError(
            f"Expected a text file of separated cells for `path`; {path} is damaged or of another "
            f"kind ({error})."
        ) from error
    return values, texts


def _cells(path: Path, dialect: Dialect, columns: Sequence[int]) -> dict[int, list[str | None]]:
    """Return the cells of some columns as texts, None where they are missing."""
    found: dict[int, list[str | None]] = {j: [] for j in columns}
    if not found:
        return found
    with open(path, newline="", encoding=dialect.encoding) as file:
        rows: Iterator[list[str]] = (
            row for row in csv.reader(file, delimiter=dialect.separator) if row
        )
        for row in itertools.islice(rows, int(dialect.header), None):
            for j, cells in found.items():
                cell = row[j].strip()
                cells.append(None if cell.lower() in _MISSING else cell)
    return found


def _check_one_type(
    numbers: np.ndarray, cells: list[str | None], column: int, path: Path, dialect: Dialect
) -> None:
    """Raise ValueError if most cells of a column are numbers, but some are texts."""
    is_text = np.isnan(numbers) & np.array([cell is not None for cell in cells])
    n_texts, n_numbers = np.count_nonzero(is_text), np.count_nonzero(~np.isnan(numbers))
    if n_numbers > n_texts:
        row = int(np.flatnonzero(is_text)[0])
        more = "" if n_texts == 1 else f", and {n_texts - 1} more"
        raise ValueError(
            f"Expected numbers in all cells of column {column + 1} of {path}, as in most; got "
            f"{cells[row]!r} in row {row + 1}{more}. Correct the cell, or leave it empty: then it "
            "is not observed."
        )


def _as_texts(cells: list[str | None]) -> np.ndarray:
    column = np.empty(len(cells), object)
    column[:] = cells
    return column


def _dates(cells: list[str | None]) -> np.ndarray | None:
    """Read dates: 2020-12-31, 31.12.2020, 12/31/2020; 31/12/2020 if the first is ever above 12.

    None if they are written otherwise, or are not in the calendar.
    """
    there = [cell for cell in cells if cell is not None]
    for pattern in (_ISO, _DOTS, _SLASHES):
        found = [pattern.fullmatch(cell) for cell in there]
        if there and all(found):
            break
    else:
        return None
    parts = [match.groups() for match in found if match]
    day_first = pattern is _DOTS or any(int(part[0]) > 12 for part in parts if pattern is _SLASHES)
    made: Iterator[str] = iter(there)
    if pattern is not _ISO:
        ordered = [(year, b, a) if day_first else (year, a, b) for a, b, year in parts]
        made = (f"{year}-{int(month):02d}-{int(day):02d}" for year, month, day in ordered)
    try:
        return np.array(["NaT" if cell is None else next(made) for cell in cells], "M8[us]")
    except ValueError:  # the 30th of February
        return None


def _kind(cell: str, dialect: Dialect) -> str:
    """Say whether a cell is a truth value, a whole number, missing (empty), or something else."""
    cell = cell.strip().lower()
    if cell in _MISSING:
        return ""
    if cell in _TRUTH:
        return "truth"
    plain = cell.replace(dialect.thousands, "") if dialect.thousands else cell
    return "whole" if _WHOLE.fullmatch(plain) else "other"


def _is_whole(column: np.ndarray) -> bool:
    if column.dtype != np.float64:
        return False
    there = column[~np.isnan(column)]
    return (
        len(there) > 0
        and bool((there == np.rint(there)).all())
        and bool((abs(there) < 2**53).all())
    )
