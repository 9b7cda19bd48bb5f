"""Tables of pandas, Polars and PyArrow: read as columns of numbers, and given back as they came."""

from __future__ import annotations

import datetime
import numbers
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from aevb.data.categories import described, is_category, restored
from aevb.errors import choose, some

_DAY = 86_400_000_000.0  # microseconds
_FAR = 365.0 * 290_000  # days, of which 64 bits hold the microseconds
_ENDS = -719_162.0, 2_932_896.0  # days of Python's calendar, of the years 1 to 9999
_MIDNIGHT = datetime.time()

# What a column is, whatever library it comes from.
BOOLEAN, INTEGER, NUMBER = "boolean", "integer", "number"
CATEGORY, ORDERED, DATE, DURATION = "category", "ordered", "date", "duration"


class ColumnType(NamedTuple):
    """What a column is, beside its values: enough to give new values in its form.

    Attributes
    ----------
    name : str
        Its name.
    kind : str
        "boolean", "integer", "number", "category", "ordered", "date" or "duration".
    dtype : str
        Its type, by narwhals's name.
    categories : tuple, optional
        Of "category" (sorted) and "ordered" (in their order): what each code stands for.
    native : str, optional
        The name of its type in pandas.
    declared : tuple, optional
        The categories that its type declares in pandas, in their order.
    """

    name: str
    kind: str
    dtype: str
    categories: tuple[Any, ...] | None = None
    native: str | None = None
    declared: tuple[Any, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what a file's header says of the column."""
        return {
            name: list(map(described, value)) if isinstance(value, tuple) else value
            for name, value in self._asdict().items()
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ColumnType:
        """Undo `to_json`.

        Raises
        ------
        TypeError, ValueError
            For what `to_json` does not write.
        """
        own: dict[str, Any] = {
            name: tuple(map(restored, value)) if isinstance(value, list | tuple) else value
            for name, value in fields.items()
        }
        return cls(**own)


class Column(NamedTuple):
    """A column as numbers.

    Attributes
    ----------
    type : ColumnType
        What it is.
    values : ndarray of shape (n,)
        0 and 1, numbers, codes of categories, days since 1970 or days; NaN where there is no value.
        float32 where the table has that, else float64.
    """

    type: ColumnType
    values: np.ndarray


def is_table(X: Any) -> bool:
    """Whether something is a table with named columns, of a library that is understood.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> is_table(pd.DataFrame({"a": [1]})), is_table(np.ones((2, 2)))
    (True, False)
    """
    return nw.dependencies.is_into_dataframe(X) or type(X).__name__ == "LazyFrame"


def library_of(X: Any) -> str:
    """Return the name of a table's library: "pandas", "polars" or "pyarrow"."""
    return nw.from_native(X, eager_only=True).implementation.value


def names_of(X: Any) -> list[str]:
    """Return the names of a table's columns.

    Raises
    ------
    TypeError, ValueError
        For a table that is not there yet, or columns of the same name.
    """
    if type(X).__name__ == "LazyFrame":
        raise TypeError("Expected a table for `X`; got a LazyFrame. Call X.collect().")
    names = [str(name) for name in getattr(X, "column_names", X.columns)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"Expected a different name for each column of `X`; got {some(twice)} more than once. "
            "Rename the columns, or leave some out."
        )
    return names


def read_columns(
    X: Any, known: Sequence[ColumnType] | None = None, *, unseen: str = "error"
) -> Iterator[Column]:
    """Read a table's columns as numbers, one after the other.

    Parameters
    ----------
    X : table
        Of pandas, Polars or PyArrow.
    known : sequence of ColumnType, optional
        The columns of the training data; categories then have their codes, and columns are looked
        up by name.
    unseen : {"error", "missing"}
        What a category is that is not known.

    Yields
    ------
    Column
        The columns, in the table's order or that of `known`.

    Raises
    ------
    TypeError, ValueError
        For columns of the same name, without values of one type, or (if they are known) missing;
        for categories that are not known, by column, row and name.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"n": [3, None], "city": ["Ulm", "Bonn"]})
    >>> [(c.type.kind, c.values.tolist()) for c in read_columns(table)]
    [('number', [3.0, nan]), ('category', [1.0, 0.0])]
    """
    names = names_of(X)
    frame = nw.from_native(X, eager_only=True)
    if known is None:
        yield from (_read(name, frame.get_column(name), None) for name in frame.columns)
        return
    lacking = [each.name for each in known if each.name not in names]
    if lacking:
        more = [name for name in names if name not in {each.name for each in known}]
        unknown = f"; unknown are {some(more)}" if more else ""
        raise ValueError(
            f"Expected the columns of the fit for `X`; missing are {some(lacking)}{unknown}. "
            "Rename the columns, or add those that are missing: empty ones count as not observed."
        )
    originals = dict(zip(names, frame.columns, strict=True))
    for each in known:
        yield _read(each.name, frame.get_column(originals[each.name]), each, unseen)


def column_of(name: str, values: Any, known: ColumnType | None = None) -> Column:
    """Read values in one dimension as a column, without any table around them.

    Parameters
    ----------
    name : str
        Name of the column.
    values : array-like of shape (n,)
        Numbers, texts, truth values or dates; a single one counts as n = 1.
    known : ColumnType, optional
        What the column was before.

    Raises
    ------
    TypeError, ValueError
        For values of several types, or categories that are not known.

    Examples
    --------
    >>> column_of("city", ["Ulm", "Bonn", "Ulm"]).values.tolist()
    [1.0, 0.0, 1.0]
    """
    where = f"column {name!r}"
    cells = np.atleast_1d(np.asarray(values))
    if cells.dtype.kind in "mM" and np.datetime_data(cells.dtype)[0] in ("ns", "ps", "fs", "as"):
        values = cells.astype(f"{cells.dtype.kind}8[us]")  # finer ones become integers as objects
    if cells.dtype.kind in "biuf":
        kind = {"b": BOOLEAN, "f": NUMBER}.get(cells.dtype.kind, INTEGER)
        own = ColumnType(name, kind, {BOOLEAN: "Boolean", NUMBER: "Float64"}.get(kind, "Int64"))
        numbers_ = cells.astype(np.float64)
    else:
        listed = np.atleast_1d(np.asarray(values, object)).tolist()
        numbers_, missing, kind = _of_objects(listed, where)
        categories = None
        _check_alike(kind, known, where)
        if kind == CATEGORY:
            numbers_, categories = _coded_texts(listed, missing, known, where)
        own = ColumnType(name, kind, "Object", categories)
        numbers_ = np.where(missing, np.nan, numbers_)
    _check_alike(kind, known, where)
    return _finite(Column(known or own, numbers_), where)


def _check_alike(kind: str, known: ColumnType | None, where: str) -> None:
    """Raise TypeError if texts come where numbers were, or numbers where texts were."""
    if known is not None and (known.kind in (CATEGORY, ORDERED)) != (kind == CATEGORY):
        raise TypeError(f"Expected {known.kind} values, as in the fit, for {where}; got {kind}.")


def _coded_texts(
    cells: list, missing: np.ndarray, known: ColumnType | None, where: str
) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return a code for each text, and what the codes stand for."""
    present = sorted({cell for cell, gone in zip(cells, missing, strict=True) if not gone})
    categories = tuple(present) if known is None else known.categories or ()
    new = [each for each in present if each not in categories]
    if new:
        raise ValueError(
            f"Expected one of the categories of the fit, {some(categories)}, for {where}; got "
            f"{new[0]!r} in row {cells.index(new[0])}."
        )
    code = {each: float(position) for position, each in enumerate(categories)}
    return np.array([code.get(cell, 0.0) for cell in cells]), categories


def _read(name: Any, series: nw.Series, known: ColumnType | None, unseen: str = "error") -> Column:
    dtype = series.dtype
    missing = series.is_null().to_numpy().astype(bool)
    if known is not None and missing.all():
        return Column(known, np.full(len(missing), np.nan))
    native, declared = None, None
    if series.implementation.is_pandas():
        own_type = nw.to_native(series).dtype
        native = str(own_type)
        declared = tuple(own_type.categories) if native == "category" else None
    label, where = dtype.base_type().__name__, f"column {str(name)!r}"

    def check(kind: str) -> None:
        alike = ({INTEGER, NUMBER}, {CATEGORY, ORDERED})
        pair = {kind, kind if known is None else known.kind}
        if len(pair) > 1 and pair not in alike:
            raise TypeError(
                f"Expected {known and known.kind} values, as in the fit, for {where} of `X`; got "
                f"{dtype}."
            )

    def column(kind: str, values: Any, categories: tuple | None = None) -> Column:
        check(kind)
        numbers_ = np.asarray(values, np.float32 if dtype == nw.Float32 else np.float64)
        own = ColumnType(str(name), kind, _spell(dtype), categories, native, declared)
        if missing.any():
            numbers_ = np.where(missing, np.nan, numbers_)
        return Column(known or own, numbers_)

    if dtype == nw.Boolean or dtype.is_integer():
        kind = BOOLEAN if dtype == nw.Boolean else INTEGER
        return column(kind, _filled(series))
    if dtype.is_numeric():
        return _finite(column(NUMBER, _filled(series)), where)
    if dtype in (nw.Datetime, nw.Duration):
        _check_range(series, missing, where)
    if dtype in (nw.Date, nw.Datetime):
        moments = series.cast(nw.Datetime("us")) if dtype == nw.Date else series
        return column(DATE, _filled(moments.dt.timestamp("us")) / _DAY)
    if dtype == nw.Duration:
        return column(DURATION, _filled(series.dt.total_microseconds()) / _DAY)
    if dtype == nw.Object:
        values, missing, kind = _of_objects(series.to_list(), where)
        if kind != CATEGORY:
            return _finite(column(kind, values), where)
    elif label not in ("String", "Categorical", "Enum"):
        got = native or dtype
        remedy = "Use X.sparse.to_dense()" if "Sparse" in str(got) else "Convert it"
        raise TypeError(
            f"Expected numbers, texts, categories, truth values or dates for {where} of `X`; got "
            f"{got}. {remedy}, or leave the column out."
        )
    ordered = dtype == nw.Enum
    check(ORDERED if ordered else CATEGORY)
    codes, categories = _coded(series)
    present = np.unique(codes[~missing]).tolist()
    if known is None:
        kept = list(range(len(categories))) if ordered else present
        codes_of = {code: position for position, code in enumerate(kept)}
        own = tuple(categories[code] for code in kept)
    else:
        own = known.categories or ()
        codes_of = {
            code: own.index(categories[code]) for code in present if categories[code] in own
        }
        new = [code for code in present if code not in codes_of]
        if new and unseen == "missing":
            missing = missing | np.isin(codes, new)
        elif new:
            row = int(np.flatnonzero(np.isin(codes, new) & ~missing)[0])
            raise ValueError(
                f"Expected one of the categories of the fit, {some(own)}, for {where} of `X`; got "
                f"{categories[codes[row]]!r} in row {row}. Replace it, or leave the cell empty: it "
                "then counts as not observed."
            )
    lookup = np.zeros(max([*codes_of, 0]) + 1)
    for code, position in codes_of.items():
        lookup[code] = position
    kind = ORDERED if ordered else CATEGORY
    if known is not None and known.kind in (CATEGORY, ORDERED):
        kind = known.kind
    return column(kind, lookup[np.where(missing, 0, codes)], own)


def _coded(series: nw.Series) -> tuple[np.ndarray, list]:
    """Return a code for each cell, and what the codes stand for, sorted or in their own order."""
    if series.implementation.is_pandas() and hasattr(nw.to_native(series), "cat"):
        native = nw.to_native(series).cat
        names = native.categories.tolist()
        if not all(map(is_category, names)):
            raise TypeError(
                "Expected categories that are texts, numbers, dates, periods or intervals for "
                f"column {str(series.name)!r} of `X`; got {some(names)}. Convert them, for "
                "instance by .astype(str), or leave the column out."
            )
        if native.ordered:
            return native.codes.to_numpy(), names
        try:
            order = sorted(range(len(names)), key=names.__getitem__)
        except TypeError as error:
            raise TypeError(
                f"Expected categories of one type for column {str(series.name)!r} of `X`; got "
                f"{some(names)} ({error}). Convert them, for instance by .astype(str)."
            ) from error
        places = np.empty(len(names) + 1, int)  # the last one for -1, no value
        places[order] = np.arange(len(names))
        return places[native.codes.to_numpy()], [names[code] for code in order]
    try:
        texts = series.cast(nw.String)
    except ValueError as error:
        raise TypeError(
            f"Expected categories that are texts for column {series.name!r} of `X`; got "
            f"{getattr(nw.to_native(series), 'type', series.dtype)} ({error}). Convert it, or "
            "leave the column out."
        ) from error
    there = ~series.is_null()
    present = texts.filter(there)
    declared = series.dtype.categories if isinstance(series.dtype, nw.Enum) else None
    names = sorted(present.unique().to_list()) if declared is None else list(declared)
    codes = np.zeros(len(series), int)
    if len(present):
        numbers = present.replace_strict(names, list(range(len(names))), return_dtype=nw.Int64)
        codes[there.to_numpy()] = numbers.to_numpy()
    return codes, names


def _filled(series: nw.Series) -> np.ndarray:
    """Return a column as numbers, with something in the place of what is missing."""
    if series.implementation.is_pyarrow() and series.dtype.is_integer():
        # whose casts refuse integers that float64 rounds
        return series.fill_null(0).to_numpy().astype(np.float64)
    return (series if series.dtype == nw.Float32 else series.cast(nw.Float64)).to_numpy()


def _check_range(series: nw.Series, missing: np.ndarray, where: str) -> None:
    """Raise ValueError for times beyond what 64 bits hold in microseconds."""
    per_day = {"s": 86_400, "ms": 86_400_000}.get(getattr(series.dtype, "time_unit", ""))
    if per_day is None:
        return
    days = series.to_numpy().astype("M8" if series.dtype == nw.Datetime else "m8")
    far = ~missing & (abs(days.view(np.int64) / per_day) > _FAR)
    if far.any():
        rows = np.flatnonzero(far)
        raise ValueError(
            f"Expected dates within 290,000 years of 1970, and no longer durations, for {where} of "
            f"`X`; got others in rows {some(rows)}. Correct them, or leave these cells empty."
        )


def _spell(dtype: Any) -> str:
    """Name a type of narwhals such that `_typed` finds it again; categories are kept elsewhere."""
    if isinstance(dtype, nw.Datetime):
        return f"Datetime {dtype.time_unit} {dtype.time_zone or ''}".strip()
    if isinstance(dtype, nw.Duration):
        return f"Duration {dtype.time_unit}"
    if isinstance(dtype, nw.Decimal) and hasattr(dtype, "scale"):
        return f"Decimal {dtype.precision} {dtype.scale}"
    return dtype.base_type().__name__


def _typed(column: ColumnType, library: str) -> Any:
    name, *rest = column.dtype.split(" ", 2)
    if name == "Decimal":
        return nw.Decimal(*map(int, rest)) if rest else nw.Float64
    if name == "Enum":
        if library == "pyarrow":  # whose dictionaries are narwhals's Categorical
            return nw.Categorical()
        return nw.Enum(list(column.categories or ()))
    if name == "Object":
        kinds = {BOOLEAN: nw.Boolean, NUMBER: nw.Float64, DATE: nw.Datetime("us")}
        return kinds.get(column.kind, nw.String)
    return getattr(nw, name)(*rest)


def check_type(column: ColumnType, library: str) -> None:
    """Raise an error for a column that a table of some library could not have.

    Parameters
    ----------
    column : ColumnType
        As a file describes it.
    library : str
        "pandas", "polars", "pyarrow", or what stood for a table.

    Raises
    ------
    ValueError, TypeError, AttributeError
        When there is no such column.
    """
    kinds = BOOLEAN, INTEGER, NUMBER, CATEGORY, ORDERED, DATE, DURATION
    choose(column.kind, dict.fromkeys(kinds), "kind")
    has_levels, each = column.kind in (CATEGORY, ORDERED), column.categories
    are_distinct = isinstance(each, tuple) and all(
        is_category(name) and each.count(name) == 1 for name in each
    )
    if has_levels != are_distinct:
        raise TypeError(
            f"Expected categories of a {column.kind} column; got {column.categories!s:.80}."
        )
    if library in ("pandas", "polars", "pyarrow"):  # others are not written
        _write(column, np.full(2, np.nan), library)


def _finite(column: Column, where: str) -> Column:
    infinite = np.flatnonzero(np.isinf(column.values))
    if len(infinite):
        raise ValueError(
            f"Expected finite numbers for {where} of `X`; got infinity (inf) in rows "
            f"{some(infinite)}. Replace it, or leave the cell empty: then it is not observed."
        )
    return column


def _of_objects(cells: list, where: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the numbers of a column of Python's objects, which are missing, and what they are."""
    missing = np.array([cell is None or _is_nan(cell) for cell in cells], bool)
    found: dict[str, int] = {}
    for row in np.flatnonzero(~missing):
        found.setdefault(_kind_of(cells[row], where, int(row)), int(row))
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise TypeError(
            f"Expected values of one type for {where} of `X`; got {_plural(one)} (row {first}: "
            f"{cells[first]!r}) and {_plural(other)} (row {second}: {cells[second]!r}). Convert "
            "them, for instance by .astype(str)."
        )
    kind = next(iter(found), CATEGORY)
    if kind == CATEGORY:
        return np.zeros(len(cells)), missing, kind
    number = _days if kind == DATE else float
    here = zip(cells, missing, strict=True)
    return np.array([0.0 if gone else number(cell) for cell, gone in here]), missing, kind


def _days(date: datetime.date) -> float:
    """Return the days from 1970 to a date, or to a moment without a time zone."""
    return np.datetime64(date, "us").astype(np.int64) / _DAY


def _is_nan(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType") or (
        isinstance(value, numbers.Real) and value != value
    )


def _kind_of(value: Any, where: str, row: int) -> str:
    if isinstance(value, bool | np.bool_):
        return BOOLEAN
    if isinstance(value, str):
        return CATEGORY
    if isinstance(value, numbers.Number) and not isinstance(value, complex):
        return NUMBER
    if type(value).__name__ == "Decimal":
        return NUMBER
    if isinstance(value, datetime.date) and getattr(value, "tzinfo", None) is None:
        return DATE
    raise TypeError(
        f"Expected numbers, texts, truth values or dates for {where} of `X`; got {value!r} in row "
        f"{row}. Convert it, or leave the column out."
    )


def _plural(kind: str) -> str:
    return {BOOLEAN: "truth values", CATEGORY: "texts", DATE: "dates"}.get(kind, "numbers")


def write_columns(
    types: Iterable[ColumnType], values: Iterable[np.ndarray], library: str, index: Any = None
) -> Any:
    """Give numbers back in the form of the columns that they stand for.

    Parameters
    ----------
    types : iterable of ColumnType
        What the columns are.
    values : iterable of ndarray of shape (n,)
        Numbers as `read_columns` gives them; NaN becomes an empty cell. Whole numbers, codes and
        truth values are rounded.
    library : str
        "pandas", "polars" or "pyarrow".
    index : pandas.Index, optional
        Index of the rows, for pandas.

    Returns
    -------
    table
        Of that library.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> table = pd.DataFrame({"n": [3, 4], "city": ["Ulm", "Bonn"]})
    >>> types = [column.type for column in read_columns(table)]
    >>> write_columns(types, [np.array([2.6]), np.array([0.0])], "pandas").to_dict("list")
    {'n': [3], 'city': ['Bonn']}
    """
    series = [_write(t, v, library) for t, v in zip(types, values, strict=True)]
    frame = nw.concat([each.to_frame() for each in series], how="horizontal")
    table = nw.to_native(frame)
    if library == "pandas" and index is not None:
        table.index = index
    return table


def fill_columns(X: Any, types: Iterable[ColumnType], values: Iterable[np.ndarray]) -> Any:
    """Give a table back with numbers in the place of its empty cells, and nothing else changed.

    Parameters
    ----------
    X : table
        Of pandas, Polars or PyArrow.
    types : iterable of ColumnType
        What its columns are.
    values : iterable of ndarray of shape (n,)
        Numbers for every cell, as `read_columns` gives them.

    Returns
    -------
    table
        Of the same library. Whole columns are as they were, but in the order of the types.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> table = pd.DataFrame({"city": ["Ulm", None, "Bonn"]})
    >>> types = [column.type for column in read_columns(table)]
    >>> fill_columns(table, types, [np.array([0.0, 1.0, 0.0])])["city"].tolist()
    ['Ulm', 'Ulm', 'Bonn']
    """
    library = library_of(X)
    frame = nw.from_native(X, eager_only=True)
    originals = {str(name): name for name in frame.columns}
    filled = []
    for each, numbers_ in zip(types, values, strict=True):
        series = frame.get_column(originals[each.name])
        empty = series.is_null().to_numpy().astype(bool)
        if series.dtype.is_float():  # where Polars and Arrow tell NaN from nothing
            empty = empty | np.isnan(_filled(series))
        if empty.any():
            filled.append(_filled_up(series, empty, _write(each, numbers_, library)))
    return nw.to_native(frame.with_columns(*filled) if filled else frame)


def _filled_up(series: nw.Series, empty: np.ndarray, other: nw.Series) -> nw.Series:
    """Return a column with the cells of another in the place of empty ones."""
    name = series.name
    if series.implementation.is_pandas():
        native, cells = nw.to_native(series), nw.to_native(other)
        if isinstance(getattr(native.dtype, "categories", None), Iterable):
            native = native.cat.set_categories(cells.cat.categories)
        cells = cells.astype(native.dtype).set_axis(native.index)
        return nw.from_native(native.mask(empty, cells), series_only=True).alias(name)
    dtype = series.dtype
    if dtype in (nw.Categorical, nw.Enum):
        series, other = series.cast(nw.String), other.cast(nw.String)
    there = nw.new_series("there", ~empty, backend=series.implementation)
    return series.zip_with(there, other.cast(series.dtype)).cast(dtype).alias(name)


def _write(column: ColumnType, values: np.ndarray, library: str) -> nw.Series:
    values = np.asarray(values, np.float64)
    here = np.isfinite(values)
    if column.kind in (DATE, DURATION):
        return _written_days(column, values, here, library)
    if column.dtype.startswith("Decimal"):
        return _written_decimals(column, values, here, library)
    cells: Any = values
    if column.kind in (CATEGORY, ORDERED):
        names = np.array([*(column.categories or ()), None], object)
        cells = names[np.where(here, np.rint(values), -1).astype(int)]
    elif column.kind == BOOLEAN:
        cells = np.rint(np.where(here, values, 0)).astype(bool)
    elif column.kind == INTEGER:
        cells = _whole(np.where(here, values, 0), column.dtype)
    if not here.all():
        cells = cells.astype(object)
        cells[~here] = None
    if column.native is not None and library == "pandas":
        import pandas as pd

        native: Any = column.native
        if native == "category":
            native = pd.CategoricalDtype(list(column.declared or ()), column.kind == ORDERED)
        native = pd.api.types.pandas_dtype(native)
        if not here.all() and isinstance(native, np.dtype) and native.kind in "biu":
            native = {"b": "boolean"}.get(native.kind, "Int64")  # NumPy's have no empty cells
        return nw.from_native(
            pd.Series(cells, name=column.name, dtype=native), series_only=True, eager_only=True
        )
    cells = cells.tolist() if cells.dtype == object else cells
    dtype = _typed(column, library)
    # PyArrow cannot build categories from texts directly.
    first = nw.String if dtype == nw.Categorical else dtype
    return nw.new_series(column.name, cells, first, backend=_backend(library)).cast(dtype)


def _whole(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return the nearest whole numbers that a type has."""
    named = dtype.lower() if dtype.endswith(("Int8", "Int16", "Int32", "Int64")) else "int64"
    ends = np.iinfo(named)
    low, high = float(ends.min), float(ends.max)
    high = high if int(high) <= ends.max else float(np.nextafter(high, 0))  # above 2**53
    return np.rint(values).clip(low, high).astype(named)


def _written_decimals(
    column: ColumnType, values: np.ndarray, here: np.ndarray, library: str
) -> nw.Series:
    """Write decimal numbers, within what their type can hold."""
    dtype = _typed(column, library)
    if dtype != nw.Float64:
        most = float(10 ** (dtype.precision - dtype.scale)) - 10.0**-dtype.scale
        values = values.clip(-np.nextafter(most, 0), np.nextafter(most, 0))
    cells = [float(cell) if there else None for cell, there in zip(values, here, strict=True)]
    return nw.new_series(column.name, cells, nw.Float64, backend=_backend(library)).cast(dtype)


def _written_days(
    column: ColumnType, days: np.ndarray, here: np.ndarray, library: str
) -> nw.Series:
    low, high = _ends(column, library)
    micro = np.rint(np.where(here, days, 0).clip(low, high) * _DAY).astype(np.int64)
    unit = "m8[us]" if column.kind == DURATION else "M8[us]"
    if column.dtype == "Date":
        micro = (np.rint(micro / _DAY) * _DAY).astype(np.int64)
    stamps = micro.view(unit)
    if column.native is not None and library == "pandas" and column.native != "object":
        import pandas as pd

        native = pd.api.types.pandas_dtype(column.native)
        zone = getattr(native, "tz", None)
        made = pd.Series(np.where(here, stamps, np.array("NaT", unit)), name=column.name)
        if zone is not None:
            made = made.dt.tz_localize("UTC").dt.tz_convert(zone)
        return nw.from_native(made.astype(native), series_only=True, eager_only=True)
    cells = [stamp.item() if there else None for stamp, there in zip(stamps, here, strict=True)]
    if column.dtype == "Date":
        cells = [cell if cell is None else cell.date() for cell in cells]
    elif column.native is not None and library == "pandas":  # dates of Python's own
        import pandas as pd

        cells = [cell and (cell.date() if cell.time() == _MIDNIGHT else cell) for cell in cells]
        made = pd.Series(cells, name=column.name, dtype=object)
        return nw.from_native(made, series_only=True, eager_only=True)
    return nw.new_series(column.name, cells, _typed(column, library), backend=_backend(library))


def _ends(column: ColumnType, library: str) -> tuple[float, float]:
    """Return the first and the last day that a column can hold: draws beyond are put there."""
    if " ns" in column.dtype:
        return -106_751.0, 106_751.0
    is_python = library != "pandas" or column.native in (None, "object")
    return _ENDS if is_python and column.kind == DATE else (-_FAR, _FAR)


def _backend(library: str) -> Any:
    return getattr(nw.Implementation, library.upper())
