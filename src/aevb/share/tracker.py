"""What the trackers of experiments share: names, steps, and that a fit outlives them."""

from __future__ import annotations

import math
import numbers
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from aevb.data.processes import is_first
from aevb.errors import FitWarning
from aevb.share.libraries import check_installed

_VALIDATION = "validation_"
_OF_THE_EPOCH = {
    "epoch": "epoch/number",
    "seconds": "epoch/seconds",
    "datapoints_per_second": "epoch/datapoints_per_second",
    "recoveries": "epoch/recoveries",
}


class Tracker(ABC):
    """A callback that hands the numbers of each epoch to a tracker of experiments.

    In a ``with`` statement it begins before the fit and ends with the block, and what is wrong with
    the tracker is an error before the first step. Elsewhere it begins with the first epoch. Once a
    fit has begun, it does not depend on the tracker any more: where that fails there is one
    warning, and training goes on without it.

    The step is the number of the epoch; a fit that is resumed goes on from there. Where training
    goes back, or begins anew (``n_init``, ``epochs="auto"``), steps go on, and
    ``epoch/number`` goes back. Of several processes the first one speaks.

    Parameters
    ----------
    library : str
        The module of the tracker's library.
    extra : str
        The extra of aevb that installs it.

    Raises
    ------
    ImportError
        When it is not installed.

    Examples
    --------
    A subclass says how a record begins, what becomes of a step's numbers, and how it ends. What it
    keeps under names with an underscore is of one record: a copy, or the next ``with`` statement,
    begins without.

    >>> class Lines(Tracker):
    ...     def __init__(self):
    ...         super().__init__("json", extra="none")
    ...
    ...     def _begin(self):
    ...         return []  # is self._handle from here on
    ...
    ...     def _log(self, values, step):
    ...         self._handle.append(f"{step}: {values['train/elbo']:.2f}")
    ...
    ...     def _end(self, *, failed):
    ...         print(*self._handle, sep="; ")
    >>> from types import SimpleNamespace
    >>> with Lines() as tracker:
    ...     for number in (1, 2):
    ...         tracker(SimpleNamespace(number=number, metrics={"elbo": -3.0 / number}))
    1: -3.00; 2: -1.50
    """

    _handle: Any = None
    _step = 0
    _is_lost = False

    def __init__(self, library: str, extra: str):
        check_installed(library, extra, type(self).__name__)

    def __enter__(self) -> Self:
        if is_first():
            self._handle = self._begin()
        return self

    def __call__(self, epoch: Any) -> None:
        """Hand an epoch on."""
        if self._is_lost or not is_first():
            return
        self._step = self._step + 1 if self._step else epoch.number
        with self._survived():
            if self._handle is None:
                self._handle = self._begin()
            self._log(named(epoch.metrics), self._step)

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        if self._handle is not None:
            with self._survived():
                self._end(failed=kind is not None)
        self.__dict__ = self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    @contextmanager
    def _survived(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a library raises: hours of training are worth more
            if not self._is_lost:
                warnings.warn(
                    f"{type(self).__name__} has failed, and is told no more of this fit, which "
                    "goes on. Its `history_` has every epoch. "
                    f"({type(error).__name__}: {error})",
                    FitWarning,
                    stacklevel=2,
                )
            self._is_lost = True

    @abstractmethod
    def _begin(self) -> Any:
        """Begin a record, and return what it is known by."""

    @abstractmethod
    def _log(self, values: Mapping[str, float], step: int) -> None:
        """Add the numbers of a step to the record."""

    @abstractmethod
    def _end(self, *, failed: bool) -> None:
        """End the record."""


def named(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of an epoch under the names that they have in all trackers.

    Bounds are in nats per case: ``train/elbo`` and the other terms of the training cases are
    averaged over the epoch while the parameters move, ``validation/elbo`` is that of held-out cases
    after it.

    Parameters
    ----------
    metrics : dict
        An epoch's row of the history.

    Examples
    --------
    >>> named({"epoch": 3, "elbo": -1.5, "validation_elbo": -1.75, "seconds": 0.5, "stopped": ""})
    {'epoch/number': 3.0, 'train/elbo': -1.5, 'validation/elbo': -1.75, 'epoch/seconds': 0.5}
    """
    found = {}
    for key, value in metrics.items():
        if isinstance(value, numbers.Real) and math.isfinite(value):
            name = _OF_THE_EPOCH.get(key) or (
                f"validation/{key.removeprefix(_VALIDATION)}"
                if key.startswith(_VALIDATION)
                else f"train/{key}"
            )
            found[name] = float(value)
    return found
