"""Fits with checkpoints that are killed at random moments, and what they end at."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IN_TRAINING, BEFORE, AFTER = "killed in training", "killed before the first epoch", "over by then"
KILLS_PER_FIT = 10
EPOCHS = 1500

# A table of several kinds of columns, with holes, of which a part is held out; the fit may end
# early, so that the best epoch is in the checkpoints as well.
FIT = f"""
import sys
import numpy as np
import pandas as pd
from aevb import VAE

rng = np.random.default_rng(0)
z = rng.normal(size=(600, 2))
table = pd.DataFrame(z @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(600, 6)))
table = table.add_prefix("x").assign(
    kind=np.where(z[:, 0] > 0, "one", "other"), count=rng.poisson(np.exp(z[:, 1]))
)
table.loc[::5, "x1"] = np.nan
begun = []

def note(epoch):
    if not begun:
        begun.append(print("begun", flush=True))

vae = VAE(2, hidden=(64,), validation_fraction=0.2, patience={EPOCHS}, epochs={EPOCHS},
          random_state=0, verbose=False, callbacks=[note], checkpoint=sys.argv[1])
vae.fit(table).save(sys.argv[2])
"""


def fit(folder: Path, kill_after: float | None = None, training: bool = True) -> str:
    """Fit in a process of its own; kill it some seconds after it began, or began to train."""
    command = [sys.executable, "-W", "error", "-c", FIT, folder / "kept", folder / "model.aevb"]
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    if kill_after is None:
        _, said = process.communicate()
        if process.returncode:
            raise RuntimeError(said)
        return AFTER
    begun = bool(process.stdout.readline()) if training else False
    time.sleep(kill_after)
    if process.poll() is not None:
        if process.returncode:
            raise RuntimeError(process.communicate()[1])
        return AFTER
    process.kill()
    begun = bool(process.communicate()[0]) or begun
    return IN_TRAINING if begun else BEFORE


def leaves(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a model file."""
    from safetensors.numpy import load_file

    return load_file(path)


def outcomes(numbers: list[int]) -> Iterator[list[tuple[int, str]]]:
    """Kill a fit as often as there are numbers; yield what came of each, several at a time.

    Raises
    ------
    AssertionError, RuntimeError
        When a fit ends at another model than one that was never killed, or at an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        fit(whole)
        expected = leaves(whole / "model.aevb")
        for first in range(0, len(numbers), KILLS_PER_FIT):
            killed = Path(folder) / f"killed-{first}"
            killed.mkdir()
            found = []
            for number in numbers[first : first + KILLS_PER_FIT]:
                random = np.random.default_rng(number)
                training = random.uniform() < 0.8
                seconds = random.uniform(0, 1.5 if training else 5)
                found.append((number, fit(killed, seconds, training)))
            fit(killed)
            ended = leaves(killed / "model.aevb")
            assert expected.keys() == ended.keys()
            for name, array in expected.items():
                assert array.tobytes() == ended[name].tobytes(), name
            yield found
