"""How aevb speaks of mistakes: the form of its messages, and its own exceptions."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class TrainingDiverged(ArithmeticError):
    """Training reached numbers that are not finite, time and again; the last good state is kept.

    Attributes
    ----------
    epoch : int
        Number of the epoch (from 1) in which it did so last.
    quantity : str
        What was infinite or NaN: a bound or another metric, or the path of a parameter.
    result : TrainResult or None
        Model, history and state after the last good epoch, before the first or a later attempt,
        whichever has the higher bound; None when it has been pickled.
    """

    def __init__(self, message: str, epoch: int, quantity: str, result: Any = None):
        super().__init__(message)
        self.epoch = epoch
        self.quantity = quantity
        self.result = result

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.epoch, self.quantity)


class FitWarning(UserWarning):
    """A model is fitted, but not as was to be expected: look before you use it."""


class ModelFileError(ValueError):
    """A file is not a model file of aevb, is damaged, or comes from a newer version."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to `name`, or nothing."""
    names = {each.lower(): each for each in known}
    matches = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f" Did you mean {names[matches[0]]!r}?" if matches else ""


def some(items: Iterable[Any], limit: int = 5) -> str:
    """List items for a message, not more than `limit` of them.

    Examples
    --------
    >>> some(["a", "b"]), some(range(9), limit=2)
    ("['a', 'b']", '[0, 1, … (9 in all)]')
    """
    items = [*map(_plain, items)]
    more = f", … ({len(items)} in all)" if len(items) > limit else ""
    return "[" + ", ".join(repr(item) for item in items[:limit]) + more + "]"


def _plain(item: Any) -> str | int | float:
    if isinstance(item, numbers.Integral):
        return int(item)
    return float(item) if isinstance(item, numbers.Real) else str(item)


def choose(name: Any, table: Mapping[str, Any], parameter: str, otherwise: str = "") -> Any:
    """Look `name` up in `table`; say what `parameter` may be when it is not there."""
    if isinstance(name, str) and name in table:
        return table[name]
    hint = nearest(name, table) if isinstance(name, str) else ""
    names = ", ".join(repr(known) for known in table)
    raise (ValueError if isinstance(name, str) else TypeError)(
        f"Expected one of {names}{otherwise} for `{parameter}`; got {name!r}.{hint}"
    )


def number(value: Any, parameter: str, expected: str, fits: Callable[[float], bool]) -> float:
    """Return `value` as a float that fits, or say what is `expected` of `parameter`."""
    wrong = f"Expected {expected} for `{parameter}`; got {value!r}."
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(wrong)
    if not fits(float(value)):
        raise ValueError(wrong)
    return float(value)


def integer(value: Any, parameter: str, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`, or say what `parameter` may be."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"Expected an integer of at least {minimum} for `{parameter}`; got {value!r}."
        )
    if value < minimum:
        raise ValueError(
            f"Expected an integer of at least {minimum} for `{parameter}`; got {value!r}."
        )
    return int(value)
