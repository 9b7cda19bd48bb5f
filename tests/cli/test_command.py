"""The command itself: version, help, usage, and what becomes of a defect."""

from __future__ import annotations

import pytest

import aevb
from aevb import VAE


def test_version(run):
    assert run("--version") == (0, f"aevb {aevb.__version__}", "")


@pytest.mark.parametrize(
    "command", [(), ("demo",), ("fit",), ("encode",), ("reconstruct",), ("sample",), ("evaluate",)]
)
def test_help_has_examples(run, command):
    result = run(*command, "--help")
    assert result.code == 0
    assert f"Examples aevb {' '.join(command)}" in result.out
    assert run(*command, "-h") == result


def test_nothing_asked_shows_the_help(run):
    assert "Commands" in run().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "table.csv", "-o", "new.aevb", "--hidden", "5a"], "auto or whole numbers"),
        (["fit", "table.csv", "-o", "new.aevb", "--epochs", "few"], "valid integer"),
        (["fit", "table.csv", "-o", "new.aevb", "--epoch-number", "3"], "No such option"),
        (["fit", "-o", "new.aevb"], "Missing argument"),
        (["guess"], "No such command"),
    ],
)
def test_usage_errors(refused, arguments, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert message in refused(*arguments, code=2)
    assert not (folder / "new.aevb").exists()


def test_an_internal_error_keeps_its_traceback(run, folder, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a defect of the package")

    monkeypatch.setattr(VAE, "sample", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        run("sample", folder / "table.aevb", "-o", tmp_path / "x.npy")
