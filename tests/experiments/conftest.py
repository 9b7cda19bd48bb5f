"""The scripts of experiments/, imported as they run, and made-up images for them."""

from __future__ import annotations

import importlib
from pathlib import Path

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def script(monkeypatch):
    """Import a script as it is when it runs: with its own folder on the path."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


@pytest.fixture(scope="session")
def images():
    """A function that makes images up."""

    def draw(n, size=784, seed=0):
        return np.random.default_rng(seed).uniform(size=(n, size)).astype(np.float32)

    return draw


@pytest.fixture
def few(script, images, monkeypatch):
    """A function that imports a script, with made-up rows in place of what its `load` reads."""

    def load(name):
        size = 784 if name == "mnist" else 560
        data = images(150, size), images(20, size, seed=1)
        return script("paper").Data(*data, hidden=4, gaussian=name == "frey")

    def prepare(name):
        module = script(name)
        monkeypatch.setattr(module, "load", load)
        return module

    return prepare
