"""The gate of a server, in front of its routes: who may ask, and what is counted."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import time
from typing import Any

from aevb.serve.metrics import Metrics
from aevb.serve.refusals import Refused, refusal
from aevb.serve.settings import Settings

LOG = logging.getLogger("uvicorn.error")  # where the server's own messages go

_INTERNAL = Refused(500, "Internal error; the server's log says more.")
_OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")


class Gate:
    """ASGI middleware that refuses requests without the key, and counts all."""

    def __init__(self, app: Any, settings: Settings, metrics: Metrics):
        self._app = app
        self._key = None if settings.key is None else settings.key.encode()
        self._hosts = settings.hosts
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        headers = dict(scope["headers"])
        try:
            refused = self._refused(scope["path"], headers)
            app = self._app if refused is None else refusal(scope["path"], refused)
            await app(scope, receive, noting)
        except Exception:  # whatever it is: it goes to the log, and none of it to the caller
            LOG.exception("An error while %r was answered:", scope["path"])
            if status:
                raise  # the response has begun: all that is left is to end the connection
            await refusal(scope["path"], _INTERNAL)(scope, receive, noting)
        finally:
            # The route, not the path: there are as many paths as callers can think of.
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.answered(route, status, time.perf_counter() - began)

    def _refused(self, path: str, headers: dict[bytes, bytes]) -> Refused | None:
        if self._hosts and _name(headers.get(b"host", b"")) not in self._hosts:
            return Refused(421, "Expected a request to a name of this server.")
        if self._key is None or path in _OPEN:
            return None
        if hmac.compare_digest(_brought(headers.get(b"authorization", b"")), self._key):
            return None
        # Browsers ask for a password, which is the key.
        return Refused(
            401,
            "Expected the server's key, as in `Authorization: Bearer KEY`.",
            www_authenticate='Bearer, Basic realm="aevb"',
        )


def _name(host: bytes) -> str:
    """Return the name in a header such as ``localhost:8000`` or ``[::1]:8000``."""
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


def _brought(authorization: bytes) -> bytes:
    """Return the key that a request brings: a bearer's token, or a browser's password."""
    scheme, _, value = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""
