"""Categories in a file: texts and numbers as they are, dates, periods and intervals by name."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np


def is_category(value: Any) -> bool:
    """Whether a value may be a category: a text, a number, a date, a period or an interval.

    Examples
    --------
    >>> is_category("a"), is_category(datetime.date(2020, 2, 29)), is_category(("a", 1))
    (True, True, False)
    """
    try:
        described(value)
    except TypeError:
        return False
    return True


def described(value: Any) -> Any:
    """Return what JSON can say of a category.

    Raises
    ------
    TypeError
        For a value that is not a category.

    Examples
    --------
    >>> described(3), described(datetime.date(2020, 2, 29))
    (3, {'date': ['2020-02-29']})
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bool | int | float):
        return value
    name = type(value).__name__
    if name == "Timestamp":
        zone = None if value.tz is None else str(value.tz)
        return {name: [*_counted(value.asm8), zone]}
    if name == "Timedelta":
        return {name: list(_counted(value.asm8))}
    if name == "Period":
        return {name: [value.ordinal, value.freqstr]}
    if name == "Interval":
        return {name: [described(value.left), described(value.right), value.closed]}
    if name == "date":
        return {name: [value.isoformat()]}
    raise TypeError(f"not a category: {value!r:.80}")


def restored(value: Any) -> Any:
    """Undo `described`.

    Raises
    ------
    TypeError, ValueError
        For what `described` does not return.

    Examples
    --------
    >>> restored({"date": ["2020-02-29"]})
    datetime.date(2020, 2, 29)
    """
    if not isinstance(value, dict):
        return value
    (name, fields), *others = value.items()
    if others or name not in _MAKERS or not isinstance(fields, list | tuple):
        raise TypeError(f"not a category: {value!s:.80}")
    try:
        return _MAKERS[name](*fields)
    except (OverflowError, AttributeError, KeyError) as error:
        raise ValueError(f"not a category: {value!s:.80}") from error


def _counted(value: np.datetime64 | np.timedelta64) -> tuple[int, str]:
    return int(value.astype(np.int64)), np.datetime_data(value.dtype)[0]


def _timestamp(count: int, unit: Any, zone: str | None) -> Any:
    import pandas as pd

    if not isinstance(zone, str | None):
        raise TypeError(f"not a time zone: {zone!r:.80}")
    moment = pd.Timestamp(np.datetime64(count, unit))
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)


def _timedelta(count: int, unit: Any) -> Any:
    import pandas as pd

    return pd.Timedelta(np.timedelta64(count, unit))


def _period(ordinal: int, frequency: str) -> Any:
    import pandas as pd

    return pd.Period(ordinal=ordinal, freq=frequency)


def _interval(left: Any, right: Any, closed: Any) -> Any:
    import pandas as pd

    return pd.Interval(restored(left), restored(right), closed)


_MAKERS: dict[str, Callable[..., Any]] = {
    "Timestamp": _timestamp,
    "Timedelta": _timedelta,
    "Period": _period,
    "Interval": _interval,
    "date": datetime.date.fromisoformat,
}
