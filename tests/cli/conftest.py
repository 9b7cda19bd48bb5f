"""What the tests of the command share: ways to run it, and files for it to work on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from aevb.cli import app
from aevb.data.files import write_rows


class Run(NamedTuple):
    """What a command left: exit code, and its two outputs without colours and line breaks."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def run() -> Callable[..., Run]:
    """Run ``aevb`` with some arguments; an internal error fails the test with its traceback."""

    def run(*arguments: object) -> Run:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Run(result.exit_code, *(_plain(text) for text in (result.stdout, result.stderr)))

    return run


def _plain(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


@pytest.fixture(scope="session")
def refused(run) -> Callable[..., str]:
    """Run ``aevb`` and return what it says on stderr; nothing else may be said."""

    def refused(*arguments: object, code: int = 1) -> str:
        result = run(*arguments)
        assert result.code == code
        assert result.out == ""
        assert "Traceback" not in result.err
        if code == 1:
            assert result.err.startswith("Error: ")
        return result.err

    return refused


@pytest.fixture(scope="session")
def fit(run) -> Callable[..., Run]:
    """Run ``aevb fit``, small and quick; the same wherever it can be, so that little is compiled.

    Options may be given again: the last one counts.
    """

    def fit(data: Path, model: Path, *options: object) -> Run:
        return run("fit", data, "-o", model, "--hidden", 8, "--epochs", 2, *options)

    return fit


@pytest.fixture(scope="session")
def folder(fit, tmp_path_factory) -> Path:
    """A table with named columns, gray images, and a model of each; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    rows = rng.normal([0, 10, -5], [1, 2, 3], (60, 3))
    # Most of the levels are black or white, so that Bernoulli is chosen.
    gray = np.clip(rng.normal(0.5, 0.8, (40, 4, 4)), 0, 1).astype(np.float32)
    write_rows(folder / "table.csv", rows, columns=["a", "b", "c"])
    write_rows(folder / "images.npy", gray)
    for data, model in [("table.csv", "table.aevb"), ("images.npy", "images.aevb")]:
        assert fit(folder / data, folder / model).code == 0
    return folder
