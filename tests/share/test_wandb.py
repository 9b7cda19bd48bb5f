"""W&B's own library, offline: the run's file has the history."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from aevb import VAE
from aevb.share import WandB

wandb = pytest.importorskip("wandb", reason="needs wandb, of aevb[wandb]")
pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(size=(60, 3))
QUICK = {"hidden": (4,), "epochs": 3, "random_state": 0, "verbose": False}


@pytest.fixture(autouse=True, scope="module")
def offline(tmp_path_factory):
    """No network, and nothing outside of a folder of the tests; it is read once in a process."""
    folder = str(tmp_path_factory.mktemp("wandb"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, folder)
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        yield


def records(folder):
    """Return what is in the file of the only run below a folder, which is a log as of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # its own process has written all of it when it has ended
    (path,) = folder.rglob("run-*.wandb")
    content, at, whole, found = path.read_bytes(), 7, b"", []
    while at < len(content):
        if 32_768 - at % 32_768 < 7:  # no room for a header in a block
            at += 32_768 - at % 32_768
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # all of a record, or its end
            found.append(Record.FromString(whole))
            whole = b""
    return found


def rows(folder):
    """Return the rows of the history of the only run."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in each.item}
        for each in (record.history for record in records(folder))
        if each.item
    ]


def test_a_run_of_its_own_has_the_history_and_ends(tmp_path):
    with WandB(project="tests", mode="offline", dir=tmp_path) as tracker:
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
    with wandb.init(project="tests", mode="offline", dir=tmp_path) as run:
        run.log({"mine": 1})
        vae = VAE(1, callbacks=[WandB()], **QUICK).fit(X)
        assert wandb.run is run
        run.log({"mine": 2})
    found = rows(tmp_path)
    assert [row["train/elbo"] for row in found if "train/elbo" in row] == vae.history_["elbo"]
    assert [row["mine"] for row in found if "mine" in row] == [1, 2]
