"""The same seed and data: the same model, to the last bit on one machine, closely on others."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from aevb import VAE
from aevb.storage import Form

QUICK = {"hidden": (16,), "epochs": 5, "random_state": 0, "verbose": False}
X = np.random.default_rng(0).normal(size=(300, 2)) @ np.ones((2, 6)) + np.linspace(0, 1, 6)

FIT = """
import json
from aevb import VAE, datasets
train, test = datasets.load_digits()
vae = VAE(5, epochs=20, random_state=0, verbose=False).fit(train.images)
print(json.dumps([vae.score(test.images), vae.transform(test.images).tolist()]))
"""


def fit_elsewhere(**environment):
    done = subprocess.run(
        [sys.executable, "-c", FIT],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    score, codes = json.loads(done.stdout)
    return score, np.array(codes)


def test_a_second_fit_has_every_bit_of_the_first():
    first, second = (VAE(2, **QUICK).fit(X) for _ in range(2))
    assert first.history_["elbo"] == second.history_["elbo"]
    for one, other in zip(
        jax.tree.leaves(first.model_), jax.tree.leaves(second.model_), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    another = VAE(2, **{**QUICK, "random_state": 1}).fit(X)
    assert another.history_["elbo"] != first.history_["elbo"]


@pytest.mark.slow
def test_another_processor_has_the_same_bound_and_nearly_the_same_weights():
    # Instructions of older processors, and other code of the compiler, round sums differently.
    flags = ["", "--xla_cpu_max_isa=SSE4_2", "--xla_cpu_use_fusion_emitters=false"]
    (score, codes), *others = (fit_elsewhere(XLA_FLAGS=each) for each in flags)
    again = fit_elsewhere(XLA_FLAGS="")
    assert again[0] == score and (again[1] == codes).all()
    for other_score, other_codes in others:
        assert abs(other_score - score) < 1e-4  # nats
        np.testing.assert_allclose(other_codes, codes, atol=1e-3)


def test_a_file_says_versions_seed_and_schema(tmp_path):
    path = tmp_path / "model.aevb"
    VAE(2, **{**QUICK, "random_state": 17}).fit(X).save(path)
    header, _ = Form("model file", key="aevb", version=5).read(path)
    assert {"python", "aevb", "jax", "jaxlib", "equinox", "numpyro", "optax", "numpy"} <= (
        header["versions"].keys()
    )
    assert header["parameters"]["random_state"] == header["config"]["random_state"] == 17
    assert header["schema"]["parts"][0]["kind"] == "real"
