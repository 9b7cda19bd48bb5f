"""W&B's own library, offline: the run's file has the history."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aevb import VAE
from aevb.share import WandB

wandb = pytest.importorskip("wandb", reason="needs wandb, of aevb[wandb]")
pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(size=(60, 3))
QUICK = {"hidden": (4,), "epochs": 3, "random_state": 0, "verbose": False}


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network, and nothing outside of the test's folder."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def records(folder):
    """Return what is in the file of the only run below a folder."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    (path,) = folder.rglob("run-*.wandb")
    store = DataStore()
    store.open_for_scan(str(path))
    found = []
    while (data := store.scan_data()) is not None:
        found.append(Record.FromString(data))
    return found


def rows(folder):
    """Return the rows of the history of the only run."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in each.item}
        for each in (record.history for record in records(folder))
        if each.item
    ]


def test_a_run_of_its_own_has_the_history_and_ends(tmp_path):
    with WandB(project="tests", config={"latent_dim": 1}) as tracker:
        vae = VAE(1, validation_fraction=0.2, callbacks=[tracker], **QUICK).fit(X)
        assert wandb.run is not None
    assert wandb.run is None
    found = rows(tmp_path)
    assert [row["epochs"] for row in found] == [1, 2, 3]
    for column, name in {"elbo": "train/elbo", "validation_elbo": "validation/elbo"}.items():
        assert [row[name] for row in found] == vae.history_[column]
    steps = {each.metric.glob_name: each.metric.step_metric for each in records(tmp_path)}
    assert steps["train/*"] == steps["validation/*"] == "epochs"


def test_the_run_under_way_stays_open(tmp_path):
    with wandb.init(project="tests") as run:
        run.log({"mine": 1})
        vae = VAE(1, callbacks=[WandB()], **QUICK).fit(X)
        assert wandb.run is run
        run.log({"mine": 2})
    found = rows(tmp_path)
    assert [row["train/elbo"] for row in found if "train/elbo" in row] == vae.history_["elbo"]
    assert [row["mine"] for row in found if "mine" in row] == [1, 2]
