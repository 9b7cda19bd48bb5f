"""``aevb serve``: where a server listens, to whom, and until when."""

from __future__ import annotations

import ipaddress
import math
from pathlib import Path
from typing import Any

from aevb.serve import Settings, create_app


def run(path: Path, host: str, port: int, key: str | None, no_key: bool, **limits: Any) -> None:
    """Serve models until the process is told to end; requests that are inside are answered first.

    Parameters
    ----------
    path : Path
        A model's file, or a folder of them.
    host, port
        Where to listen.
    key : str or None
        What requests must bring.
    no_key : bool
        Whether other machines are let in without a key.
    **limits
        Of `Settings`.

    Raises
    ------
    ImportError
        When the extra ``aevb[serve]`` is not installed.
    ValueError
        For an address that other machines reach, without a key.
    """
    is_local = _is_loopback(host)
    if key is None and not is_local and not no_key:
        raise ValueError(
            f"Expected a key in the environment variable AEVB_API_KEY to listen at {host}, where "
            "other machines reach this server; got none. Set it, leave --host at 127.0.0.1, or "
            "let everybody in by --no-key."
        )
    hosts = tuple({"localhost", "127.0.0.1", "::1", host.lower()}) if is_local else ()
    settings = Settings(key=key, hosts=hosts, **limits)
    try:
        import uvicorn
    except ImportError as error:
        raise ImportError(
            'aevb serve needs uvicorn, which is not installed: pip install "aevb[serve]"'
        ) from error
    uvicorn.run(
        create_app(path, settings),
        host=host,
        port=port,
        access_log=False,  # the metrics have it
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.timeout) + 1,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
