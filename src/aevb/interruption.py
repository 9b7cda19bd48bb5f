"""Ctrl-C as the end of training after the epoch under way, with a model to use."""

from __future__ import annotations

import signal
import threading
import warnings
from types import FrameType
from typing import Any

from aevb.errors import FitWarning


class Interruption:
    """Takes the first Ctrl-C as a wish to stop; a context manager and a callback.

    The second one, and any in another thread or under a handler of one's own, is what it was
    before: a `KeyboardInterrupt`.

    Examples
    --------
    >>> with Interruption() as interruption:
    ...     interruption.wanted
    False
    """

    def __init__(self) -> None:
        self.wanted = False
        self._epoch = 0
        self._before: Any = None

    def __enter__(self) -> Interruption:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __call__(self, epoch: Any) -> str | None:
        """Return the reason to stop, if that is wanted."""
        if not self.wanted or epoch.number == epoch.n_epochs:  # then it ends in any case
            return None
        self._epoch = epoch.number
        return "interrupted"

    @property
    def due(self) -> bool:
        """Whether it is time to stop."""
        return self.wanted

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._epoch and kind is None:
            warnings.warn(
                f"Training was interrupted, and ended after epoch {self._epoch}. The model can be "
                "used as it is.",
                FitWarning,
                stacklevel=3,
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
