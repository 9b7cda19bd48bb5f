"""What the tests of the server share: small models, and a client of an application with them."""

from __future__ import annotations

import datetime
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import uvicorn

from aevb import VAE
from aevb.serve import Settings, create_app

N = 60
SMALL: dict[str, Any] = {"hidden": (4,), "epochs": 2, "random_state": 0, "verbose": False}


def numbers() -> np.ndarray:
    """Rows of three numbers, of which some are missing."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(N, 1)) + 0.3 * rng.normal(size=(N, 3))).astype(np.float32)
    rows[::7, 1] = np.nan
    return rows


def table() -> pd.DataFrame:
    """A table of most kinds of columns, with empty cells."""
    rng = np.random.default_rng(1)
    size = rng.normal(170, 10, N)
    size[5] = np.nan
    first = datetime.datetime(2020, 1, 1)
    return pd.DataFrame(
        {
            "size": size,
            "visits": rng.poisson(4, N) * rng.integers(1, 4, N),
            "city": rng.choice(["Ulm", "Bonn", "Köln"], N),
            "member": rng.random(N) < 0.4,
            "since": [first + datetime.timedelta(days=int(d)) for d in rng.integers(0, 900, N)],
        }
    )


@pytest.fixture(scope="session")
def people() -> pd.DataFrame:
    """The rows of the table."""
    return table()


@pytest.fixture(scope="session")
def vaes() -> dict[str, VAE]:
    """Models by name: of numbers, of a table, of counts with labels and exposures."""
    rng = np.random.default_rng(2)
    told = {"condition": np.array(["cat", "dog"])[np.arange(N) % 2], "exposure": np.full(N, 2.0)}
    counts = rng.poisson(3.0, (N, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few epochs are not a fit
        return {
            "numbers": VAE(2, **SMALL).fit(numbers()),
            "people": VAE(2, **SMALL).fit(table()),
            "counts": VAE(1, likelihood="poisson", **SMALL).fit(counts, **told),
        }


@contextmanager
def listening(app: Any) -> Iterator[httpx.Client]:
    """Give a client of an application that a server in another thread of this process runs."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    limits = httpx.Limits(max_connections=None)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=60, limits=limits) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(60)


@contextmanager
def served(models: Any, **limits: Any) -> Iterator[httpx.Client]:
    """Give a client of models that are ready."""
    with listening(create_app(models, Settings(**limits))) as client:
        wait_until_ready(lambda: client.get("/health/ready").status_code)
        yield client


def wait_until_ready(status: Callable[[], int]) -> None:
    """Wait for a server, for a minute at most."""
    until = time.monotonic() + 60
    while status() != 200:
        assert time.monotonic() < until, "the server did not get ready"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def client(vaes) -> Iterator[httpx.Client]:
    """A client of an application with all models, and the usual limits."""
    with served(vaes) as client:
        yield client


@pytest.fixture(scope="session")
def limited() -> Callable[..., Any]:
    """Serve models under other limits: `served`."""
    return served


@pytest.fixture(scope="session")
def listens() -> Callable[..., Any]:
    """Run an application, ready or not: `listening`."""
    return listening
