"""Any number of devices sees the same batches and draws, and comes to the same model."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb import VAE, WakeSleep, train
from aevb.data.devices import Devices, placement_for
from aevb.data.lazy import Lazy
from aevb.data.placement import OneDevice
from aevb.data.source import InMemory
from aevb.data.stored import Records
from aevb.data.streamed import Streamed
from aevb.inference.mcem import MonteCarloEM

DATA = np.random.default_rng(0).normal(size=(23, 3)).astype(np.float32)


def shared(n_shards):
    return Devices((jax.devices()[0],), n_shards)


def batches(placement, source, order, batch_size):
    """Return rows, positions, weights and n of each batch of the only chunk."""
    (chunk,) = source.chunks(order)
    laid_out, n = placement.order(chunk.rows, len(chunk.x), batch_size)

    def share(laid_out, n, i):
        return placement.share(laid_out, n, i, batch_size)

    every = jax.jit(placement.map(share, (True, False, False)))
    steps = range(int(placement.n_steps(n, batch_size)))
    return [every(laid_out, n, jnp.int32(i)) for i in steps], chunk


@pytest.mark.parametrize(
    ("n", "n_shards", "batch_size"), [(23, 4, 8), (24, 4, 8), (5, 4, 4), (3, 4, 8), (40, 1, 7)]
)
def test_every_row_is_in_one_batch_and_every_shard_gives_its_part(n, n_shards, batch_size):
    placement = shared(n_shards)
    source = InMemory(np.arange(n), placement=placement)
    found, chunk = batches(placement, source, (1, 2), batch_size)
    assert len(found) == -(-n // batch_size)
    seen = []
    for rows, position, weight, n_real in found:
        np.testing.assert_array_equal(position, np.arange(batch_size))
        real = np.asarray(weight) > 0
        assert real.sum() == n_real
        values = np.asarray(chunk.x)[np.asarray(rows)]
        shard = np.asarray(position) // (batch_size // n_shards)
        np.testing.assert_array_equal(values[real] % n_shards, shard[real])
        seen += list(values[real])
    assert sorted(seen) == list(range(n))
    assert [int(n_real) for *_, n_real in found[:-1]] == [batch_size] * (len(found) - 1)


def test_a_part_of_the_rows_may_lie_unevenly_in_the_shards():
    placement = shared(4)
    part = InMemory(np.arange(40), placement=placement).part(np.r_[0:24:4, 1, 2, 3])
    found, chunk = batches(placement, part, None, 8)
    seen = [np.asarray(chunk.x)[np.asarray(rows)[np.asarray(w) > 0]] for rows, _, w, _ in found]
    assert sorted(np.concatenate(seen)) == [0, 1, 2, 3, 4, 8, 12, 16, 20]
    assert [int(n_real) for *_, n_real in found] == [5, 2, 2]


def test_another_epoch_has_another_order_within_the_shards():
    placement = shared(4)
    source = InMemory(np.arange(40), placement=placement)
    one, other = (batches(placement, source, order, 8)[0][0].rows for order in [(1,), (2,)])
    assert not np.array_equal(one, other)


class Half(Devices):
    """Four shards of two processes, of which this one has two."""

    first = 0

    @property
    def own_shards(self):
        return range(self.first, self.first + 2)

    def put(self, rows, *, given=False):
        return rows


class Other(Half):
    first = 2


@pytest.mark.parametrize("n", [960, 1000, 1003, 30])
def test_each_process_reads_its_share_of_a_source(n):
    """The chunks are those of one process; a process has the rows of its own shards."""
    rows = np.stack([np.arange(n), -np.arange(n)], axis=1).astype(np.float32)
    device = (jax.devices()[0],)
    read = {}

    def chunks(placement):
        read[placement] = 0

        def counted(some):
            read[placement] += len(some)
            return some

        stored = Records(rows)
        stored.lengths = np.diff([*range(0, n, 10), n])  # small units
        x = Lazy(stored, counted)
        source = Streamed(x, rows, batch_size=8, placement=placement, n_bytes=8 * 320)
        read[placement] = 0
        return [(np.asarray(c.x), np.asarray(c.c), c.rows) for c in source.chunks((3,))]

    whole = chunks(Devices(device, 4))
    halves = [chunks(kind(device, 4)) for kind in (Half, Other)]
    seen = []
    for (x, c, order), *others in zip(whole, *halves, strict=True):
        laid_out = x.reshape(4, -1, 2)  # `put` has each shard's rows side by side
        for shard in range(4):
            own_x, own_c, own_order = others[shard // 2]
            np.testing.assert_array_equal(own_order, order)
            np.testing.assert_array_equal(own_x[shard::4], laid_out[shard])
            np.testing.assert_array_equal(own_c[shard::4], laid_out[shard])
        assert np.array_equal(x, c) and np.isfinite(x).all()
        values = others[0][0].copy()
        for shard in (2, 3):
            values[shard::4] = others[1][0][shard::4]
        seen += values[order, 0].tolist()
    assert sorted(seen) == [*range(n)]
    if n >= 960:
        assert max(read[each] for each in read if isinstance(each, Half)) < 0.6 * n + 100


def squares(model, batch, key, state):
    """A mean over rows, and a term of the parameters, without noise."""
    rows = jax.vmap(lambda x: -jnp.sum((x - model.shift) ** 2))(batch.x)
    mean = jnp.sum(batch.share * rows)
    return mean - 0.1 * jnp.sum(model.shift**2), {"elbo": mean}, state


@pytest.mark.parametrize("weight", [None, 1.0 + np.arange(23) % 3], ids=["plain", "weights"])
def test_whole_data_as_one_batch_train_as_on_one_device(line, weight):
    results = []
    for placement in (OneDevice(), shared(4)):
        source, options = InMemory(DATA, weight=weight, placement=placement), {"key": 0}
        options |= {"optimizer": "sgd", "learning_rate": 0.05, "verbose": False}
        results.append(train(line(), source, objective=squares, batch_size=24, epochs=5, **options))
    one, other = results
    np.testing.assert_allclose(one.history["elbo"], other.history["elbo"], rtol=1e-6)
    np.testing.assert_allclose(one.model.shift, other.model.shift, rtol=1e-5)
    assert not np.allclose(line().shift, other.model.shift, rtol=1e-2)


# What is refused, before anything is computed.


def test_a_batch_that_cannot_be_shared_out(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices() * 3)
    with pytest.raises(ValueError, match=r"`batch_size=100` is one of 1, 2, 4, 5, 10, 20; got 3"):
        placement_for(3, 100)
    assert placement_for(3, 96).n_shards == 96
    assert placement_for("all", 4096 * 3).n_shards == 64 * 3


@pytest.mark.parametrize("name", ["free bits", "chains"])
def test_objectives_that_are_no_means_over_rows_are_refused(line, name):
    options = {"free bits": {"free_bits": 0.5}, "chains": {"objective": MonteCarloEM()}}[name]
    with pytest.raises(ValueError, match="a mean over the rows beside `devices`"):
        train(line(), DATA, devices=1, epochs=1, verbose=False, **options)


def test_wake_sleep_is_a_mean_over_rows(line):
    options = {"devices": 1, "epochs": 1, "verbose": False}
    result = train(line(), DATA, objective=WakeSleep(), **options)
    assert np.isfinite(result.history["elbo"]).all()


def test_a_generator_whose_numbers_depend_on_the_batch_is_refused(line):
    key = jax.random.key(0, impl="rbg")
    with pytest.raises(ValueError, match=r"generator 'threefry2x32', for `key`.*got one of 'rbg'"):
        train(line(), DATA, devices=1, key=key, epochs=1, verbose=False)


def test_a_source_has_its_own_devices(line):
    with pytest.raises(ValueError, match=r"`devices` left at None beside a source.*got 1"):
        train(line(), InMemory(DATA), devices=1, epochs=1, verbose=False)


# Four devices of one process.

FOUR = """
import json, re, sys
import jax, numpy as np
import jax.numpy as jnp
import scipy.sparse
from aevb import VAE, FitWarning, LatentVariableModel, train
import aevb.compiling
import aevb.fitting
import warnings
warnings.simplefilter("error")
warnings.simplefilter("ignore", FitWarning)
rng = np.random.default_rng(0)
X = rng.normal(size=(201, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(201, 6))
holes = X.copy()
holes[::5, 2] = np.nan
counts = rng.poisson(3.0, size=(201, 5))
weight = 1.0 + np.arange(201) % 3
CASES = {
    "plain": ({}, {"X": X}),
    "holes, weights, a condition, held-out rows": (
        {"validation_fraction": 0.2},
        {"X": holes, "sample_weight": weight, "condition": np.arange(201) % 2},
    ),
    "sparse counts and exposure, in chunks": (
        {"likelihood": "poisson"}, {"X": scipy.sparse.csr_array(counts), "exposure": "total"}
    ),
    "a search": ({"epochs": "auto"}, {"X": X[:60]}),
    "several draws, an average": (
        {"estimator": "iw", "n_draws": 3, "optimizer": "schedule_free_adamw"}, {"X": X}
    ),
}
programs = []
def watched(function, in_place):
    program = original(function, in_place)
    if function.__name__ == "_run_chunk":
        def call(*arguments):
            programs.append(program.lower(*arguments).as_text())
            return program(*arguments)
        call.clear_cache = program.clear_cache
        return call
    return program
original, aevb.compiling._program = aevb.compiling._program, watched
aevb.data.sparse._BYTES = 2000
aevb.fitting.most_epochs = lambda n, batch_size: 40  # that a search makes
found = {}
for name in sys.argv[1:]:
    options, data = CASES[name]
    options = {"hidden": (5,), "epochs": 3, "random_state": 0, "verbose": False, **options}
    for devices in (None, 1, 2, 4):
        programs.clear()
        vae = VAE(2, devices=devices, **options).fit(**data)
        found[f"{name} {devices}"] = {
            "history": {k: np.asarray(v, float).tolist() for k, v in vae.history_.items()
                        if k not in ("stopped", "seconds", "datapoints_per_second")},
            "stopped": vae.history_["stopped"][-1],
            "explained": np.sort(vae.explained_nats_).tolist(),
            "reductions": [len(re.findall("stablehlo.all_reduce", p)) for p in programs[:1]],
            "collectives": [len(re.findall("all_gather|collective|all_to_all", p))
                            for p in programs[:1]],
        }
try:
    VAE(2, devices=4, **options).fit(X[:3])
except ValueError as error:
    found["fewer rows"] = str(error)
json.dump(found, sys.stdout)
"""


def on_four_devices(*names):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [sys.executable, "-c", FOUR, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found, name):
    one = found[f"{name} 1"]
    for devices in (2, 4):
        other = found[f"{name} {devices}"]
        assert other["stopped"] == one["stopped"]
        assert other["history"].keys() == one["history"].keys()
        for column, values in one["history"].items():
            np.testing.assert_allclose(other["history"][column], values, rtol=1e-4, err_msg=column)
        np.testing.assert_allclose(other["explained"], one["explained"], rtol=1e-3)


def test_one_two_and_four_devices_give_the_same_losses_by_one_reduction_a_step():
    found = on_four_devices("plain")
    check(found, "plain")
    assert found["plain None"]["reductions"] == [0]
    for devices in (1, 2, 4):
        assert found[f"plain {devices}"]["reductions"] == [1]
        assert found[f"plain {devices}"]["collectives"] == [0]
    few = "Expected at least one row for each of 4 devices, in all processes; got 3 in all."
    assert found["fewer rows"].startswith(few)
    # Other batches and draws of the same distribution.
    bounds = [found[f"plain {devices}"]["history"]["elbo"] for devices in (None, 4)]
    assert bounds[0] != bounds[1]
    np.testing.assert_allclose(*bounds, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "holes, weights, a condition, held-out rows",
        "sparse counts and exposure, in chunks",
        "a search",
        "several draws, an average",
    ],
)
def test_so_does_whatever_else_a_fit_is_given(name):
    check(on_four_devices(name), name)


# The estimator.

QUICK = {"hidden": (5,), "random_state": 0, "verbose": False}


@pytest.mark.slow
def test_a_fit_on_devices_is_kept_saved_and_continued(tmp_path):
    X = np.concatenate([DATA] * 2)
    options = {**QUICK, "epochs": 6, "devices": 1}
    whole = VAE(2, **options).fit(X)

    class Killed(BaseException):
        pass

    def kill(epoch):
        if epoch.number == 4:
            raise Killed

    kept = {**options, "checkpoint": tmp_path / "kept"}
    with pytest.raises(Killed):
        VAE(2, callbacks=[kill], **kept).fit(X)
    resumed = VAE(2, **kept).fit(X)
    for a, b in zip(jax.tree.leaves(resumed.model_), jax.tree.leaves(whole.model_), strict=True):
        np.testing.assert_array_equal(a, b)
    whole.save(tmp_path / "model.aevb")
    loaded = VAE.load(tmp_path / "model.aevb")
    assert loaded.devices is None
    np.testing.assert_array_equal(loaded.transform(X), whole.transform(X))
    whole.partial_fit(X)
    assert whole.n_epochs_ == 7
    # On from a model that one device has trained, and back.
    single = VAE(2, **QUICK, epochs=1).fit(X).set_params(devices=1).partial_fit(X)
    assert single.set_params(devices=None).partial_fit(X).n_epochs_ == 3
    assert np.isfinite(single.history_["elbo"]).all()


def test_one_device_is_asked_for_no_more_than_before():
    placement = OneDevice()

    def share(rows, n, i):
        return placement.share(rows, n, i, 4)

    assert placement.map(share, (True, False, False)) is share
    text = str(jax.make_jaxpr(placement.reduce)({"a": jnp.ones(3), "b": jnp.ones(())}))
    assert re.fullmatch(r"\{ lambda ; a:f32\[3\] b:f32\[\]\. let\s+in \(a, b\) \}", text.strip())
