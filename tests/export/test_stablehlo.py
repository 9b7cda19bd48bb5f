"""Files of StableHLO, called where there is only JAX, against the model's own methods."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from exported_zoo import FIRST, LATENTS, MORE

ALONE = """
import sys, jax, numpy as np
path, arrays, out = sys.argv[1:]
function = jax.export.deserialize(bytearray(open(path, "rb").read()))
assert set(function.platforms) == {"cpu", "cuda", "tpu"}
arrays = np.load(arrays)
for n in (1, 7, 100):
    found = function.call(*(arrays[f"arr_{i}"][:n] for i in range(len(arrays.files))))
    np.savez(f"{out}-{n}.npz", **found)
assert not any(name.split(".")[0] in ("aevb", "numpyro", "equinox") for name in sys.modules)
"""


def check(model, what, path):
    model.export(path, what)
    function = jax.export.deserialize(bytearray(path.read_bytes()))
    inputs = list(model.arrays(what).values())
    for n in (1, 7, 100):
        found = function.call(*(each[:n] for each in inputs))
        compare(found, model.answers(what), n)


def compare(found, answers, n):
    assert set(found) == set(answers)
    for name, expected in answers.items():
        scale = np.abs(expected).max(axis=0) + np.std(expected, axis=0)
        error = abs(np.asarray(found[name]) - expected[:n])
        assert (error <= 1e-5 * scale).all()


def test_a_process_without_aevb_says_the_same(tmp_path):
    model, path = FIRST["mixed-holes"](), tmp_path / "reconstruct.stablehlo"
    model.export(path, "reconstruct")
    np.savez(tmp_path / "arrays.npz", *model.arrays("reconstruct").values())
    command = [sys.executable, "-c", ALONE, path, tmp_path / "arrays.npz", tmp_path / "out"]
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    for n in (1, 7, 100):
        compare(np.load(tmp_path / f"out-{n}.npz"), model.answers("reconstruct"), n)


def test_a_description_stands_beside_it(tmp_path):
    path = tmp_path / "encode.stablehlo"
    FIRST["mixed"]().export(path, "encode")
    said = json.loads((tmp_path / "encode.stablehlo.json").read_text("utf-8"))
    assert said["function"] == "encode"
    assert [each["name"] for each in said["outputs"]] == ["mean", "variance"]
    (port,) = said["inputs"]
    named = {each["name"]: each for each in port["columns"]}
    assert named["city"]["categories"] == ["Bonn", "Köln", "Ulm"]
    assert named["x"]["origin"] > 9e5


@pytest.mark.slow
@pytest.mark.parametrize("name", ("array-holes", "conv", "labels", "total"))
def test_files_say_what_models_say(name, tmp_path):
    check(MORE[name](), "reconstruct", tmp_path / "it.stablehlo")


@pytest.mark.slow
@pytest.mark.parametrize("name", LATENTS)
def test_the_bound_of_every_prior_and_posterior(name, tmp_path):
    check(LATENTS[name](), "elbo", tmp_path / "it.stablehlo")
