"""What importing the package and asking its command for help cost: next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import aevb


def imported_by(*command: str) -> set[str]:
    """Run `command`, a Python program, and return the top-level modules that it imported."""
    run = subprocess.run(
        command,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    reports = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in reports}


def test_import_aevb_loads_only_the_standard_library_and_lazy_loader():
    at_start = imported_by(sys.executable, "-c", "pass")  # what editable installs bring along
    loaded = imported_by(sys.executable, "-c", "import aevb") - at_start
    assert "aevb" in loaded
    assert loaded - sys.stdlib_module_names <= {"aevb", "lazy_loader"}


def test_rooms_are_found_through_the_package():
    # In a process of its own: any import of a room would make it an attribute of the package.
    rooms = ("evaluation", "inference", "models", "probability")
    code = "import aevb; " + "; ".join(f"aevb.{room}" for room in rooms)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr


def test_help_works_without_the_engine():
    command = Path(sysconfig.get_path("scripts")) / "aevb"
    loaded = imported_by(sys.executable, str(command), "--help")
    assert {"aevb", "typer"} <= loaded
    assert loaded.isdisjoint({"jax", "sklearn", "numpyro", "scipy", "pandas", "matplotlib"})


@pytest.mark.slow
def test_pictures_are_drawn_without_the_engine():
    loaded = imported_by(sys.executable, "-c", "import aevb.plotting")
    assert "matplotlib" in loaded
    assert loaded.isdisjoint({"jax", "numpyro", "equinox"})


@pytest.mark.parametrize("name", aevb.__all__)
def test_public_name_resolves_and_is_documented(name):
    value = getattr(aevb, name)
    assert value.__doc__
    assert value.__doc__.strip()
    assert name in dir(aevb)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        aevb.no_such_name  # noqa: B018
