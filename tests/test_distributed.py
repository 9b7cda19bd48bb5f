"""Two real processes train one model: the same one, written once; and what if one is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from aevb import VAE
from aevb.checkpoint import FORM
from aevb.data.files import read_rows
from aevb.data.processes import check_same, gathered

pytestmark = pytest.mark.slow

AEVB = [sys.executable, "-c", "from aevb.cli.commands import main; main()"]
LIMIT = 120  # seconds after which a test gives a process up

rng = np.random.default_rng(0)
X = rng.normal(size=(201, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(201, 6))
TABLE = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 0, "yes", "no"), "c": X[:, 2]})
TABLE.loc[::7, "a"] = np.nan


def free_port(of=range(61440, 65536)):
    """Return a port that nobody listens on, where JAX looks for one under SLURM."""
    for port in np.random.default_rng().permutation(of):
        with socket.socket() as taken:
            try:
                taken.bind(("localhost", int(port)))
            except OSError:
                continue
            return int(port)
    raise AssertionError("no port is free")


def slurm(port, i, n=2):
    """Return the variables by which SLURM tells a process which of two it is."""
    return {
        **{"SLURM_JOB_ID": str(port - 61440), "SLURM_STEP_NODELIST": "localhost"},
        **{"SLURM_NTASKS": str(n), "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
    }


def started(folder, *commands):
    """Start one process for each command, as SLURM would."""
    port = free_port()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={**os.environ, **slurm(port, i)},
            **pipes,
        )
        for i, command in enumerate(commands)
    ]


def ended(processes):
    """Return exit code, stdout and stderr of each; none may hang."""
    try:
        outputs = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, out, err) for p, (out, err) in zip(processes, outputs, strict=True)]


def fit(*options):
    return [*AEVB, "fit", *options, "--hidden", "5"]


BEYOND_MEMORY = (
    "from aevb.data import sources, streamed; sources.IN_MEMORY, streamed.BYTES = 0, 4096"
)


def test_two_processes_read_chunks_of_a_file_beyond_memory(folder, monkeypatch):
    command = [sys.executable, "-c", f"{BEYOND_MEMORY}; {AEVB[-1]}", *fit("X.npy")[3:]]
    command += ["-o", "model.aevb", "--epochs", 4, "--distributed", "--validation-fraction", 0.2]
    (code, _, err), (other_code, *_) = ended(started(folder, command, command))
    assert (code, other_code) == (0, 0), err
    two = VAE.load(folder / "model.aevb")
    monkeypatch.setattr("aevb.data.sources.IN_MEMORY", 0)
    monkeypatch.setattr("aevb.data.streamed.BYTES", 4096)
    options = {"hidden": (5,), "epochs": 4, "random_state": 0, "verbose": False}
    one = VAE(2, devices=1, validation_fraction=0.2, **options).fit(folder / "X.npy")
    for column in ("elbo", "validation_elbo"):
        np.testing.assert_allclose(two.history_[column], one.history_[column], rtol=1e-4)


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "X.npy", X)
    TABLE.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


@pytest.mark.parametrize(
    ("data", "options", "parameters"),
    [
        ("X.npy", ["--validation-fraction", 0.2], {"validation_fraction": 0.2}),
        ("table.csv", ["--n-init", 2, "--init", "random"], {"n_init": 2, "init": "random"}),
    ],
    ids=["held-out rows", "a table with holes, two starts"],
)
def test_two_processes_train_the_model_of_one(folder, data, options, parameters):
    command = fit(data, "-o", "model.aevb", "--epochs", 4, "--distributed", *options)
    (code, out, err), (other_code, other_out, other_err) = ended(started(folder, command, command))
    assert (code, other_code) == (0, 0), err + other_err
    assert "The model is in model.aevb" in out and "ELBO, training" in out
    assert "ELBO" not in other_out and "model" not in other_out + other_err
    two = VAE.load(folder / "model.aevb")
    parameters = {"hidden": (5,), "epochs": 4, "random_state": 0, "verbose": False, **parameters}
    one = VAE(2, devices=1, **parameters).fit(read_rows(folder / data))
    for column in one.history_.keys() - {"seconds", "datapoints_per_second", "stopped"}:
        np.testing.assert_allclose(two.history_[column], one.history_[column], rtol=1e-4)
    for a, b in zip(jax.tree.leaves(two.model_), jax.tree.leaves(one.model_), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_processes_that_disagree_name_what_differs_and_both_values(folder):
    np.save(folder / "other.npy", X + 1)
    options = ("-o", "model.aevb", "--epochs", 2, "--distributed")
    one = fit("X.npy", *options, "--latent-dim", 3)
    other = fit("other.npy", *options, "--learning-rate", 0.5)
    for code, _, err in ended(started(folder, one, other)):
        assert code == 1
        assert "Expected the same parameters and data in all 2 processes" in err
        for difference in (
            "`latent_dim` (3 in process 0, 2 in process 1)",
            "`learning_rate` (auto in process 0, 0.5 in process 1)",
            "values (by their hash)",
        ):
            assert difference in err
        assert "`batch_size`" not in err and "the number of cases" not in err
    assert not (folder / "model.aevb").exists()


def wait_for_checkpoints(folder, processes):
    until = time.monotonic() + LIMIT
    while not list(folder.glob("kept/*.checkpoint")):
        assert time.monotonic() < until and all(each.poll() is None for each in processes)
        time.sleep(0.1)


@pytest.mark.parametrize("killed", [1, 0])
def test_if_a_process_is_killed_the_other_ends_and_the_checkpoint_goes_on(folder, killed):
    options = ("X.npy", "-o", "model.aevb", "--checkpoint", "kept")
    command = fit(*options, "--epochs", 3000, "--distributed")
    processes = started(folder, command, command)
    wait_for_checkpoints(folder, processes)
    processes[killed].send_signal(signal.SIGKILL)
    began = time.monotonic()
    code, _, err = ended(processes)[1 - killed]
    assert time.monotonic() - began < 60
    assert code != 0
    assert not (folder / "model.aevb").exists()
    if killed == 1:
        assert "Another process of this run has ended or cannot be reached" in err
        assert "the same command goes on from there" in err and "Traceback" not in err
    else:  # JAX itself ends who cannot reach process 0
        assert "another task died" in err or "Another process of this run has ended" in err
    # One process goes on where two have been.
    header, _ = FORM.read(max(folder.glob("kept/*.checkpoint")))
    begun = header["epoch"]
    assert 0 < begun < 3000
    seen = []
    whole = {"hidden": (5,), "epochs": 3000, "random_state": 0, "verbose": False}
    resumed = VAE(
        2,
        **whole,
        devices=1,
        checkpoint=folder / "kept",
        callbacks=[lambda epoch: seen.append(epoch.number) or epoch.number == begun + 5],
    ).fit(X)
    assert seen == list(range(begun + 1, begun + 6))
    assert len(resumed.history_["elbo"]) == begun + 5


API = """
import sys
import jax
import numpy as np
jax.distributed.initialize()
from aevb import VAE
number, what = jax.process_index(), sys.argv[1]
def stop(epoch):
    if what == "one of them stops" and epoch.number == 2 and number == 1:
        return "enough"
np.random.seed(number)
options = {"hidden": (5,), "epochs": 4, "devices": "all", "verbose": False, "callbacks": [stop]}
if what == "folders of their own":
    options |= {"random_state": 0, "checkpoint": f"kept-{number}"}
vae = VAE(2, **options).fit(np.load("X.npy"))
numbers = [float(np.sum(np.abs(leaf))) for leaf in jax.tree.leaves(vae.model_)]
print(vae.history_["stopped"][-1], vae.n_epochs_, sum(numbers))
"""


@pytest.mark.parametrize("what", ["seeds of their own", "one of them stops"])
def test_processes_have_one_generator_and_one_reason_to_stop(folder, what):
    script = [sys.executable, "-c", API, what]
    results = ended(started(folder, script, script))
    assert [code for code, *_ in results] == [0, 0], results
    said = [out.splitlines()[-1] for _, out, _ in results]
    assert said[0] == said[1]
    expected = "epochs 4 " if what == "seeds of their own" else "enough 2 "
    assert said[0].startswith(expected)


FAILS = """
import jax
import aevb.fitting
from aevb.cli.commands import main
class Bar(aevb.fitting.ProgressBar):
    def __call__(self, epoch):
        if epoch.number == 2 and jax.process_index() == 1:
            raise ValueError("of one's own")
aevb.fitting.ProgressBar = Bar
main()
"""


def test_a_process_that_fails_by_itself_ends_the_other(folder):
    script = [sys.executable, "-c", FAILS, *fit("X.npy", "-o", "x.aevb", "--distributed")[3:]]
    (code, _, err), (other_code, _, other_err) = ended(started(folder, script, script))
    assert (code, other_code) == (1, 1)
    assert "Error: of one's own" in other_err
    assert VAE.load(folder / "x.aevb").n_epochs_ in (1, 2)  # there is no checkpoint to go on from
    assert "Another process of this run has ended" in err


def test_checkpoints_must_be_where_all_processes_see_them(folder):
    script = [sys.executable, "-c", API, "folders of their own"]
    assert [code for code, *_ in ended(started(folder, script, script))] == [0, 0]
    assert list(folder.glob("kept-*/*.checkpoint")) == list(folder.glob("kept-0/*.checkpoint"))
    for code, _, err in ended(started(folder, script, script)):
        assert code != 0
        assert "Expected a directory that all processes share for `checkpoint`" in err
        assert "newest checkpoints are of epoch 4, none" in err


def test_without_a_cluster_the_options_are_named(folder):
    command = [str(part) for part in fit("X.npy", "-o", "x.aevb", "--distributed")]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI", "JAX_COO"))}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Expected SLURM, Open MPI, Kubernetes or a TPU pod" in done.stderr
    assert "--coordinator host:port, --num-processes and --process-id" in done.stderr


def test_the_options_join_two_processes(folder):
    where = ("--coordinator", f"localhost:{free_port()}", "--num-processes", 2)
    command = fit("X.npy", "-o", "model.aevb", "--epochs", 1, "--quiet", "--distributed", *where)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([*map(str, command), "--process-id", f"{i}"], cwd=folder, **pipes)
        for i in (0, 1)
    ]
    assert [code for code, *_ in ended(processes)] == [0, 0]
    assert Path(folder / "model.aevb").exists()


def test_one_process_agrees_with_itself():
    assert gathered("é") == ["é"]
    check_same({"`epochs`": "3"})
