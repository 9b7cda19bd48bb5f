"""What the tests of the server share: small models, and a client of an application with them."""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi", reason="the server needs the extra aevb[serve]")

from starlette.testclient import TestClient  # noqa: E402

from aevb import VAE  # noqa: E402
from aevb.serve import Settings, create_app  # noqa: E402

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
    """Models by name: of numbers, of a table, of labelled rows, of counts under an exposure."""
    rng = np.random.default_rng(2)
    labels = np.array(["cat", "dog"])[np.arange(N) % 2]
    counts = rng.poisson(3.0, (N, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few epochs are not a fit
        return {
            "numbers": VAE(2, **SMALL).fit(numbers()),
            "people": VAE(2, **SMALL).fit(table()),
            "labelled": VAE(1, **SMALL).fit(np.nan_to_num(numbers()), condition=labels),
            "counts": VAE(1, likelihood="poisson", **SMALL).fit(counts, exposure=np.full(N, 2.0)),
        }


@contextmanager
def served(models: Any, **limits: Any) -> Iterator[TestClient]:
    """Give a client of an application that is ready."""
    app = create_app(models, Settings(**limits))
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(lambda: client.get("/health/ready").status_code)
        yield client


def wait_until_ready(status: Callable[[], int]) -> None:
    """Wait for a server, for a minute at most."""
    until = time.monotonic() + 60
    while status() != 200:
        assert time.monotonic() < until, "the server did not get ready"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def client(vaes) -> Iterator[TestClient]:
    """A client of an application with all models, and the usual limits."""
    with served(vaes) as client:
        yield client


@pytest.fixture(scope="session")
def limited() -> Callable[..., Any]:
    """Return an application with other limits: `served`."""
    return served
