"""What a server allows: limits on body, rows, queue and time, and who may ask."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from aevb.errors import integer, number


@dataclass(frozen=True)
class Settings:
    """Limits of a server, and the key that requests must bring.

    Parameters
    ----------
    max_body : int, default=16,777,216
        Largest body of a request, bytes; beyond, 413.
    max_rows : int, default=10,000
        Largest number of rows of a request; beyond, 413.
    queue : int, default=256
        Largest number of requests that are read, waiting and computed at one time; beyond, 503.
    timeout : float, default=30.0
        Seconds until a request is given up: 408 while its body is read, 504 after that.
    batch_rows : int, default=2048
        Largest number of rows of several requests that are computed together; 1: one request at a
        time.
    window : float, default=0.002
        Seconds to wait for more requests, while several arrive at a time.
    key : str, optional
        What requests must bring as ``Authorization: Bearer KEY``; None: nothing.
    hosts : tuple of str, default=()
        Names of this server that requests may ask for, so that web pages from elsewhere cannot
        reach a server on loopback under a name of their own; (): any.

    Raises
    ------
    ValueError, TypeError
        For limits that are not positive, and an empty key.

    Examples
    --------
    >>> Settings(max_rows=100, key="secret")
    Settings(max_body=16777216, max_rows=100, queue=256, timeout=30.0, batch_rows=2048, \
window=0.002, hosts=())
    """

    max_body: int = 2**24
    max_rows: int = 10_000
    queue: int = 256
    timeout: float = 30.0
    batch_rows: int = 2048
    window: float = 0.002
    key: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_body", "max_rows", "queue", "batch_rows"):
            integer(getattr(self, name), name, minimum=1)
        expected = "a positive, finite number of seconds"
        number(self.timeout, "timeout", expected, lambda t: 0 < t < math.inf)
        number(self.window, "window", "a number of seconds from 0 up", lambda t: 0 <= t < math.inf)
        if self.key is not None and not self.key.strip():
            raise ValueError("Expected a key that is not empty for `key`; got an empty one.")
