"""A training that was killed goes on where it was, and ends at the same model, bit for bit."""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from aevb import VAE, FitWarning, ModelFileError
from aevb.checkpoint import Checkpoints, Stage

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 5)) + 0.3 * rng.normal(size=(60, 5))
QUICK = {"hidden": (5,), "random_state": 0, "verbose": False}
CLOCK = {"seconds", "datapoints_per_second"}


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one.model_), jax.tree.leaves(other.model_), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.explained_nats_, other.explained_nats_)
    assert one.best_epoch_ == other.best_epoch_
    assert one.history_.keys() == other.history_.keys()
    for name in one.history_.keys() - CLOCK:
        np.testing.assert_array_equal(one.history_[name], other.history_[name], err_msg=name)


class Killed(BaseException):
    """As sudden as a signal."""


def killed_at(*numbers):
    """Return a callback that ends everything in the epochs seen as number so and so."""
    seen = itertools.count(1)

    def kill(epoch):
        if next(seen) in numbers:
            raise Killed

    return kill


def fit_through_kills(directory, data, kills, **options):
    """Fit, killed after some numbers of epochs, each time in an estimator of its own."""
    for n_epochs in kills:
        with pytest.raises(Killed):
            VAE(checkpoint=directory, callbacks=[killed_at(n_epochs)], **options).fit(**data)
    return VAE(checkpoint=directory, **options).fit(**data)


counts = rng.poisson(rng.gamma(2.0, 2.0, size=(60, 1)) * np.ones(4)) + 1
TABLE = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 0, "yes", "no"), "c": counts[:, 0]})
TABLE.loc[::7, "a"] = np.nan

SETTINGS = {
    "epochs": ({"epochs": 12}, {"X": X}),
    "early stopping": ({"epochs": 60, "patience": 2, "validation_fraction": 0.2}, {"X": X}),
    "a search that goes on": ({}, {"X": X}),
    "tol_params": ({"epochs": 60, "tol_params": 0.01}, {"X": X}),
    "several starts": ({"epochs": 5, "n_init": 3, "init": "random"}, {"X": X}),
    "a schedule": ({"epochs": 12, "learning_rate": lambda step: 0.01 / (1 + step)}, {"X": X}),
    "an average": ({"epochs": 12, "optimizer": "schedule_free_adamw"}, {"X": X}),
    "parts with arrays": ({"epochs": 12, "prior": "vamp", "posterior": "iaf"}, {"X": X}),
    "a table with holes": ({"epochs": 12}, {"X": TABLE}),
    "a condition": ({"epochs": 12}, {"X": X, "condition": TABLE["b"]}),
    "an exposure": ({"epochs": 12, "likelihood": "poisson"}, {"X": counts, "exposure": "total"}),
    "weights": ({"epochs": 12}, {"X": X, "sample_weight": np.arange(60) % 3}),
}


@pytest.mark.quick(3)
@pytest.mark.parametrize(("options", "data"), SETTINGS.values(), ids=list(SETTINGS))
def test_a_killed_fit_ends_as_one_that_was_not(options, data, tmp_path):
    options = {**QUICK, "batch_size": 20, **options}
    whole = VAE(**options).fit(**data)
    assert_same(fit_through_kills(tmp_path / "kept", data, (2, 1, 3), **options), whole)


@pytest.mark.slow
def test_the_search_for_the_number_of_epochs_is_not_begun_anew(tmp_path):
    options = {**QUICK, "batch_size": 20}
    whole = VAE(**options).fit(X)
    seen = []
    callbacks = [lambda epoch: seen.append(epoch.number), killed_at(400)]
    with pytest.raises(Killed):
        VAE(checkpoint=tmp_path, callbacks=callbacks, **options).fit(X)
    first = len(seen)
    assert_same(VAE(checkpoint=tmp_path, callbacks=callbacks, **options).fit(X), whole)
    again = np.diff(seen[first - 1 :])
    assert (seen[first] > 200) and set(again[again > 0]) == {1}


def test_a_finished_fit_returns_at_once(tmp_path):
    options = {**QUICK, "epochs": 9, "patience": 3, "checkpoint": tmp_path}
    whole = VAE(**options).fit(X)
    seen = []
    again = VAE(**options, callbacks=[seen.append]).fit(X)
    assert not seen
    assert_same(again, whole)
    np.testing.assert_array_equal(again.transform(X), whole.transform(X))
    assert np.isfinite(again.partial_fit(X).score(X))  # and goes on from there


def test_an_unseeded_fit_goes_on_with_the_seed_that_it_had(tmp_path):
    options = {**QUICK, "random_state": None, "epochs": 30, "validation_fraction": 0.3}
    bounds = {}

    def note(name):
        return lambda epoch: bounds.setdefault(name, []).append(epoch.metrics["validation_elbo"])

    callbacks = [note("first"), killed_at(20)]
    with pytest.raises(Killed):
        VAE(checkpoint=tmp_path, callbacks=callbacks, **options).fit(X)
    vae = VAE(checkpoint=tmp_path, **options).fit(X)
    assert vae.history_["validation_elbo"][:20] == bounds["first"]  # of the same held-out cases


def test_a_pause_is_not_an_end(tmp_path):
    options = {**QUICK, "epochs": 12, "batch_size": 20}
    whole = VAE(**options).fit(X)
    for _ in range(3):
        paused = VAE(checkpoint=tmp_path, time_limit=1e-6, **options).fit(X)
        assert paused.history_["stopped"][-1] == "time_limit"
    assert paused.n_epochs_ == 3
    assert_same(VAE(checkpoint=tmp_path, **options).fit(X), whole)


OTHERS = {
    "latent_dim": ({"latent_dim": 3}, {"X": X}, r"`latent_dim` \(2 there, 3 here\)"),
    "epochs": ({"epochs": 5}, {"X": X}, r"`epochs` \(4 there, 5 here\)"),
    "seed": ({"random_state": 1}, {"X": X}, r"`random_state`"),
    "activation": ({"activation": np.tanh}, {"X": X}, r"`activation`"),
    "one number": ({}, {"X": np.where(np.arange(60)[:, None] == 31, X + 1e-3, X)}, "data"),
    "fewer cases": ({}, {"X": X[1:]}, "data"),
    "a weight": ({}, {"X": X, "sample_weight": np.arange(60) + 1}, "data"),
    "held-out cases": ({}, {"X": X, "validation_data": X}, "data"),
    "a condition": ({}, {"X": X, "condition": X[:, 0] > 0}, "data"),
    "names": ({}, {"X": pd.DataFrame(X, columns=list("abcde"))}, "columns or categories"),
}


@pytest.mark.parametrize(("options", "data", "named"), OTHERS.values(), ids=list(OTHERS))
def test_a_checkpoint_of_another_fit_is_an_error(options, data, named, kept):
    before = {path: path.read_bytes() for path in kept.iterdir()}
    vae = VAE(**{**QUICK, "epochs": 4, "checkpoint": kept, **options})
    with pytest.raises(
        ValueError, match=rf"same fit for `checkpoint`.*other .*{named}.*Name another"
    ):
        vae.fit(**data)
    assert not hasattr(vae, "model_")
    assert {path: path.read_bytes() for path in kept.iterdir()} == before


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kept")
    VAE(2, **QUICK, epochs=4, checkpoint=directory).fit(X)
    return directory


def test_functions_and_networks_are_told_apart(tmp_path):
    key = jax.random.key(0)
    networks = [eqx.nn.MLP(5, 4, 3, 1, key=each) for each in jax.random.split(key)]
    options = {**QUICK, "epochs": 2, "checkpoint": tmp_path}
    VAE(**options, encoder=networks[0]).fit(X)
    VAE(**options, encoder=jax.tree.map(lambda leaf: leaf, networks[0])).fit(X)
    with pytest.raises(ValueError, match="other `encoder`"):
        VAE(**options, encoder=networks[1]).fit(X)


SAME_NAMES = {
    "optimizer": (lambda rate: {"optimizer": optax.adam(rate)}),
    "learning_rate": (lambda rate: {"learning_rate": optax.constant_schedule(rate)}),
    "kl_weight": (lambda rate: {"kl_weight": lambda step: rate}),
    "activation": (lambda rate: {"activation": functools.partial(leaky, slope=rate)}),
}


def leaky(x, slope):
    return jnp.where(x > 0, x, slope * x)


@pytest.mark.parametrize("name", SAME_NAMES)
def test_functions_are_what_is_bound_to_them(name, tmp_path):
    options = {**QUICK, "epochs": 2, "checkpoint": tmp_path}
    VAE(2, **options, **SAME_NAMES[name](1e-3)).fit(X)
    VAE(2, **options, **SAME_NAMES[name](1e-3)).fit(X)  # another object of the same kind
    with pytest.raises(ValueError, match=f"other `{name}`"):
        VAE(2, **options, **SAME_NAMES[name](1e-2)).fit(X)


def test_checkpoints_of_another_fit_in_the_directory_are_passed_over(tmp_path):
    options = {**QUICK, "epochs": 4, "checkpoint": tmp_path}
    VAE(2, **options).fit(X)
    (tmp_path / "fit.json").unlink()  # as if another process had been first
    assert_same(VAE(2, **options).fit(2 * X), VAE(2, **QUICK, epochs=4).fit(2 * X))


def test_the_generator_of_all_is_not_set_back(tmp_path):
    options = {**QUICK, "random_state": None, "epochs": 1, "checkpoint": tmp_path}
    np.random.seed(1)
    VAE(2, **options).fit(X)
    np.random.seed(2)
    expected = np.random.RandomState(2)
    VAE(2, **options).fit(X)
    expected.randint(2**31 - 1)
    assert np.random.rand() == expected.rand()


def test_any_generator_can_be_given(tmp_path):
    whole = VAE(2, **{**QUICK, "random_state": np.random.RandomState(np.random.PCG64(3))}, epochs=4)
    whole.fit(X)
    for _ in range(2):
        own = np.random.RandomState(np.random.PCG64(3))
        options = {**QUICK, "random_state": own, "epochs": 4, "checkpoint": tmp_path}
        assert_same(VAE(2, **options).fit(X), whole)


def test_a_pause_in_the_last_epoch_of_a_start_is_not_the_end(tmp_path):
    options = {**QUICK, "epochs": 1, "n_init": 3, "init": "random"}
    whole = VAE(2, **options).fit(X)
    with pytest.warns(FitWarning, match="1 of 3 starts"):
        VAE(2, **options, checkpoint=tmp_path, time_limit=1e-6).fit(X)
    assert_same(VAE(2, **options, checkpoint=tmp_path).fit(X), whole)


def test_a_resumed_fit_has_its_model_at_once(tmp_path):
    options = {**QUICK, "epochs": 9, "checkpoint": tmp_path}
    with pytest.raises(Killed):
        VAE(2, **options, callbacks=[killed_at(3)]).fit(X)
    vae = VAE(2, **options, callbacks=[killed_at(1)])
    with pytest.raises(Killed):
        vae.fit(X)
    assert np.isfinite(vae.transform(X)).all() and vae.n_epochs_ >= 2


def test_a_file_is_not_a_directory(tmp_path):
    (tmp_path / "kept").write_text("")
    with pytest.raises(ValueError, match=r"Expected a directory for `checkpoint`; .* is a file"):
        VAE(2, **QUICK, epochs=1, checkpoint=tmp_path / "kept").fit(X)


def test_what_does_not_matter_may_change(kept, tmp_path):
    options = {**QUICK, "epochs": 4, "checkpoint": str(kept), "verbose": False}
    again = VAE(2, **options, time_limit=100.0, callbacks=[print]).fit(X)
    assert again.n_epochs_ == 4


def test_a_saved_model_does_not_speak_of_the_directory(kept, tmp_path):
    VAE(2, **QUICK, epochs=4, checkpoint=kept).fit(X).save(tmp_path / "model.aevb")
    assert VAE.load(tmp_path / "model.aevb").checkpoint is None
    assert str(kept).encode() not in (tmp_path / "model.aevb").read_bytes()


# Rotation, damage, full disks.


def names(directory):
    return sorted(path.name for path in Path(directory).iterdir())


def test_two_checkpoints_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("aevb.checkpoint._SHARE", np.inf)
    VAE(2, **QUICK, epochs=7, checkpoint=tmp_path).fit(X)
    assert names(tmp_path) == ["0-000006.checkpoint", "0-000007.checkpoint", "fit.json"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_the_newest_whole_one_wins(damage, tmp_path, monkeypatch):
    monkeypatch.setattr("aevb.checkpoint._SHARE", np.inf)
    options = {**QUICK, "epochs": 12, "batch_size": 20}
    whole = VAE(2, **options).fit(X)
    with pytest.raises(Killed):
        VAE(2, **options, checkpoint=tmp_path, callbacks=[killed_at(6)]).fit(X)
    newest = tmp_path / names(tmp_path)[1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(
        {"cut": content[:-9], "flipped": content, "empty": b"", "foreign": b"{}"}[damage]
    )
    seen = []
    again = VAE(2, **options, checkpoint=tmp_path, callbacks=[lambda e: seen.append(e.number)])
    with pytest.warns(FitWarning, match=r"cannot be read, and the one before it is taken"):
        again.fit(X)
    assert seen[0] == 5  # the sixth was not complete, the fifth was damaged
    assert_same(again, whole)


def test_without_a_whole_one_the_fit_begins_anew(tmp_path):
    options = {**QUICK, "epochs": 4, "checkpoint": tmp_path}
    whole = VAE(2, **options).fit(X)
    for path in tmp_path.glob("*.checkpoint"):
        path.write_bytes(b"")
    with pytest.warns(FitWarning, match="cannot be read"):
        assert_same(VAE(2, **options).fit(X), whole)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"parameters": 3}', '{"generator": []}'])
def test_a_damaged_description_is_an_error(content, tmp_path):
    options = {**QUICK, "epochs": 2, "checkpoint": tmp_path}
    VAE(2, **options).fit(X)
    (tmp_path / "fit.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"fit\.json is damaged or of another kind"):
        VAE(2, **options).fit(X)


def test_another_version_is_said(tmp_path):
    options = {**QUICK, "epochs": 2, "checkpoint": tmp_path}
    VAE(2, **options).fit(X)
    path = tmp_path / "fit.json"
    description = json.loads(path.read_text())
    assert {"aevb", "jax", "numpy", "python"} <= description["versions"].keys()
    description["versions"]["jax"] = "0.1"
    path.write_text(json.dumps(description))
    with pytest.warns(FitWarning, match=r"written under .*jax 0\.1.*slightly other numbers"):
        VAE(2, **options).fit(X)


FULL_DISK = """
import resource, sys, warnings
import numpy as np
from aevb import VAE, FitWarning
X = np.load("X.npy")
seen = []
def fill_up(epoch):
    if epoch.number == 3:  # no file may be larger from now on; the rest of one fails to be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    if epoch.number == 6:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        sys.exit(f"{seen}")
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import aevb.checkpoint
aevb.checkpoint._SHARE = float("inf")
warnings.showwarning = lambda message, category, *others: seen.append((category, str(message)))
VAE(2, hidden=(5,), random_state=0, verbose=False, epochs=12, checkpoint="kept",
    callbacks=[fill_up]).fit(X)
"""


def test_a_full_disk_leaves_the_earlier_files_whole(tmp_path):
    np.save(tmp_path / "X.npy", X)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.count("could not be written") == 1, done.stderr
    assert (
        "File too large" in done.stderr and "earlier checkpoints in kept are whole" in done.stderr
    )
    assert names(tmp_path / "kept") == ["0-000001.checkpoint", "0-000002.checkpoint", "fit.json"]
    options = {**QUICK, "epochs": 12}
    again = VAE(2, **options, checkpoint=tmp_path / "kept").fit(X)
    assert_same(again, VAE(2, **options).fit(X))


def test_writing_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    vae = VAE(2, **QUICK, epochs=2).fit(X)
    run = vae._run.stopped_for("")
    checkpoints = Checkpoints(tmp_path, {}, X, {}, np.random.RandomState(0))
    now, written = [0.0], []
    monkeypatch.setattr("aevb.checkpoint.time.perf_counter", lambda: now[0])

    def write(*_):
        now[0] += 3.0  # so long does it take
        written.append(now[0])

    monkeypatch.setattr("aevb.storage.Form.write", write)
    for _ in range(1000):
        now[0] += 1.0
        checkpoints.keep(Stage(0, False, 9, None), run)
    assert 5 <= len(written) <= 8  # each after 150 seconds of training
    checkpoints.keep(Stage(0, False, 9, None), run.stopped_for("epochs"))
    assert written[-1] == now[0]  # the end is always written


# Killed by a signal.

FIT = """
import sys
import numpy as np
import aevb.checkpoint
from aevb import VAE
aevb.checkpoint._SHARE = float("inf")
def note(epoch):
    print(epoch.number, flush=True)
vae = VAE(2, hidden=(50,), random_state=0, verbose=False, epochs=300, checkpoint="kept",
          callbacks=[note])
vae.fit(np.load("X.npy")).save("model.aevb")
"""


@pytest.mark.slow
def test_a_fit_survives_sigkill(tmp_path):
    np.save(tmp_path / "X.npy", X)
    whole = VAE(2, **{**QUICK, "hidden": (50,)}, epochs=300).fit(X)
    moments = np.random.default_rng(0)
    n_kills = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", FIT], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()  # an epoch is complete
        time.sleep(moments.uniform(0, 0.3))
        n_kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert n_kills >= 2
    subprocess.run([sys.executable, "-c", FIT], cwd=tmp_path, check=True, capture_output=True)
    loaded = VAE.load(tmp_path / "model.aevb", callbacks=())
    for a, b in zip(jax.tree.leaves(loaded.model_), jax.tree.leaves(whole.model_), strict=True):
        np.testing.assert_array_equal(a, b)


OTHER_PROCESS = """
import jax.numpy as jnp, numpyro.distributions as dist, optax
from aevb.checkpoint import _hash_of
weights, means = jnp.array([0.5, 0.5]), jnp.array([0.0, 1.0])
mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.Normal(means, 1.0))
print(_hash_of([optax.adam(1e-3), optax.linear_schedule(0, 1, 5), mixture, lambda x: x + 1, max]))
"""


@pytest.mark.slow
def test_what_a_fit_is_of_is_the_same_in_another_process():
    seen = set()
    for seed in "12":
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", OTHER_PROCESS]
        seen.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(seen) == 1 and len(seen.pop()) == 65
