"""Requests that are refused: a status code and one sentence, as the caller expects them."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

V2 = "/v2"  # where the Open Inference Protocol lives


class Refused(Exception):
    """A request that is not answered, with the status code that says why."""

    def __init__(self, status: int, message: str, **headers: str):
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return plain content as a response; in ASCII, as texts may hold half a character."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(body, status, headers, "application/json")


def refusal(path: str, refused: Refused) -> Response:
    """Return the response to a refused request: ``detail``, or the protocol's ``error``."""
    is_v2 = path == V2 or path.startswith(f"{V2}/")
    content = {"error" if is_v2 else "detail": str(refused)}
    return as_json(content, refused.status, refused.headers)


async def on_refused(request: Request, error: Exception) -> Response:
    """Answer a request that was refused."""
    assert isinstance(error, Refused)
    return refusal(request.url.path, error)


async def on_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose parameters are not what the OpenAPI page says."""
    assert isinstance(error, RequestValidationError)
    said = [f"`{each['loc'][-1]}`: {each['msg']}" for each in error.errors()]
    return refusal(request.url.path, Refused(422, "; ".join(said)))


async def on_http(request: Request, error: Exception) -> Response:
    """Answer a request to a path or by a method that is not there."""
    assert isinstance(error, HTTPException)
    refused = Refused(error.status_code, str(error.detail))
    refused.headers = dict(error.headers or {})
    return refusal(request.url.path, refused)


async def on_gone(request: Request, error: Exception) -> Response:
    """Answer a client that went away while its body was read, for the metrics alone."""
    return refusal(request.url.path, Refused(400, "The body ended early."))


HANDLERS: dict[int | type[Exception], Any] = {
    Refused: on_refused,
    RequestValidationError: on_invalid,
    HTTPException: on_http,
    ClientDisconnect: on_gone,
}
