"""A VAE and rows beyond memory: the schema, the training and the predictions of rows in memory."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grain
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from numpy.testing import assert_allclose, assert_array_equal

from aevb import VAE, priors
from aevb.data import sources, streamed

rng = np.random.default_rng(0)
N = 6000
OPTIONS = {"hidden": (16,), "epochs": 2, "random_state": 0, "verbose": False}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Take all data for large, and several chunks an epoch."""
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    monkeypatch.setattr(streamed, "BYTES", 2**17)


LATENT = rng.normal(size=(N, 2))
NUMBERS = (LATENT @ rng.normal(size=(2, 12)) + 0.5 * rng.normal(size=(N, 12))).astype("float32")
WITH_HOLES = np.where(rng.random(NUMBERS.shape) < 0.1, np.nan, NUMBERS)
WITH_HOLES[:, 5] = np.where(np.arange(N) < 5000, np.nan, NUMBERS[:, 5])  # empty for a long time
COUNTS = rng.poisson(np.exp(0.5 * NUMBERS.clip(-4, 4))).astype("int64")
PICTURES = rng.integers(0, 256, (N, 4, 5)).astype("uint8")
BINARY = (NUMBERS > 0).astype("uint8")
ARRAYS = {
    "numbers": (NUMBERS, {}),
    "holes": (WITH_HOLES, {}),
    "counts": (COUNTS, {"likelihood": "negative-binomial"}),
    "pictures": (PICTURES, {}),
    "binary": (BINARY, {}),
    "levels": (COUNTS.clip(0, 3), {"likelihood": "ordinal"}),
}
TABLE = pd.DataFrame(
    {
        "size": WITH_HOLES[:, 0],
        "visits": COUNTS[:, 1],
        "city": np.where(np.arange(N) < 4000, "Ulm", rng.choice(["Bonn", "Aachen", "Zeitz"], N)),
        "day": pd.Timestamp("2024-02-28") + pd.to_timedelta(rng.integers(0, 900, N), "D"),
        "member": BINARY[:, 3].astype(bool),
        "empty until later": np.where(np.arange(N) < 5000, np.nan, NUMBERS[:, 5]),
    }
)
TABLE.loc[10:30, "city"] = None


def same_schema(one, other):
    """Hold two schemas against one another: the numbers to rounding, all else exactly."""
    described = [json.loads(json.dumps(each.to_json(), default=str)) for each in (one, other)]
    for each in described:
        for choice in (each["columns"] or {"choices": ()})["choices"]:
            choice["type"].pop("native", None)  # of pandas
            choice["type"].pop("dtype", None)  # large or small texts
    assert described[0] == described[1]
    for name, part in one.parts.items():
        for own, their in zip(part.measured, other.parts[name].measured, strict=True):
            assert_allclose(own, their, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_in_a_file_is_fitted_as_one_in_memory(name, tmp_path):
    X, options = ARRAYS[name]
    path = tmp_path / "x.npy"
    np.save(path, X)
    whole, own = (VAE(2, **options, **OPTIONS).fit(data) for data in (X, path))
    same_schema(whole.schema_, own.schema_)
    assert own._run.state.step == whole._run.state.step == 2 * N / 100
    (_, after), (_, own_after) = (vae.history_["elbo"] for vae in (whole, own))
    assert own_after == pytest.approx(after, abs=0.02 * abs(after))
    some = X[::7]
    assert_array_equal(own.transform(path)[::7], own.transform(some))
    assert_array_equal(own.elbo(path, 2)[::7], own.elbo(some, 2))
    assert_array_equal(own.reconstruct(path)[::7], own.reconstruct(some))
    assert own.score(path) == pytest.approx(own.score_samples(X).mean(), rel=1e-6)


def write_folder(folder):
    for k in range(3):
        TABLE[k * 2000 : (k + 1) * 2000].to_parquet(folder / f"{k}.parquet", row_group_size=300)
    return folder


def test_a_folder_of_tables_is_fitted_as_one_table(tmp_path):
    folder = write_folder(tmp_path)
    whole, own = (VAE(2, **OPTIONS).fit(data) for data in (TABLE, folder))
    same_schema(whole.schema_, own.schema_)
    assert own.schema_.columns["visits"].name == "negative-binomial"
    assert own.schema_.columns.choices[2].type.categories == ("Aachen", "Bonn", "Ulm", "Zeitz")
    (_, after), (_, own_after) = (vae.history_["elbo"] for vae in (whole, own))
    assert own_after == pytest.approx(after, abs=0.05 * abs(after))
    assert_array_equal(own.transform(folder), own.transform(TABLE))
    made = own.reconstruct(folder)
    assert isinstance(made, pd.DataFrame) and made.shape == TABLE.shape
    pd.testing.assert_frame_equal(made, own.reconstruct(TABLE))


@pytest.mark.parametrize("kind", ["zarr", "grain"])
def test_other_sources_are_fitted(kind, tmp_path):
    data = grain.MapDataset.source(NUMBERS)
    if kind == "zarr":
        data = zarr.create_array(store=tmp_path / "x", data=NUMBERS, chunks=(400, 12))
    np.save(tmp_path / "x.npy", NUMBERS)
    one, other = (VAE(2, **OPTIONS).fit(each) for each in (data, tmp_path / "x.npy"))
    assert_allclose(one.history_["elbo"], other.history_["elbo"], rtol=0.01)
    assert_array_equal(one.transform(data), one.transform(NUMBERS))


def test_conditions_weights_and_held_out_cases_are_those_of_their_rows(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)
    np.save(tmp_path / "held.npy", NUMBERS[:1000])
    told = {"condition": (LATENT[:, 0] > 0).astype(int), "sample_weight": rng.random(N) + 0.5}
    held = {"validation_condition": told["condition"][:1000]}
    vae = VAE(1, **OPTIONS)
    vae.fit(tmp_path / "x.npy", validation_data=tmp_path / "held.npy", **told, **held)
    whole = VAE(1, **OPTIONS).fit(NUMBERS, validation_data=NUMBERS[:1000], **told, **held)
    for bound in ("elbo", "validation_elbo"):
        assert_allclose(vae.history_[bound], whole.history_[bound], rtol=0.01)
    one = vae.transform(tmp_path / "x.npy", condition=told["condition"])
    assert_array_equal(one, vae.transform(NUMBERS, condition=told["condition"]))


def test_a_share_is_held_out_and_does_not_scale(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)
    vae = VAE(2, validation_fraction=0.25, **OPTIONS).fit(tmp_path / "x.npy")
    n = vae.schema_.n_rows
    assert abs(n - 0.75 * N) < 200
    assert len(vae.history_["validation_elbo"]) == 2
    assert vae._run.state.step == 2 * np.ceil(n / 100)


def test_the_prior_starts_from_cases_of_the_source(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)
    vae = VAE(2, prior=priors.Vamp(20), **OPTIONS).fit(tmp_path / "x.npy")
    assert np.isfinite(vae.history_["elbo"]).all()


def test_two_fits_are_the_same_bits(tmp_path):
    folder = write_folder(tmp_path)
    one, other = (VAE(2, **OPTIONS).fit(folder) for _ in range(2))
    assert_array_equal(one.transform(TABLE), other.transform(TABLE))


KILLED = """
import os, sys
import numpy as np
from aevb import VAE, checkpoint
from aevb.data import sources, streamed
sources.IN_MEMORY, streamed.BYTES, checkpoint._SHARE = 0, 2**17, 1e9
folder, last = sys.argv[1], int(sys.argv[2])
keep, count = checkpoint.Checkpoints.keep, 0
def counted(self, stage, run):
    global count
    keep(self, stage, run)
    count += 1
    if count == last:
        os.kill(os.getpid(), 9)
checkpoint.Checkpoints.keep = counted
options = dict(hidden=(16,), epochs=2, random_state=0, verbose=False)
vae = VAE(2, checkpoint=folder + "/fit", **options).fit(folder + "/x.npy")
np.save(folder + "/z.npy", vae.transform(folder + "/x.npy"))
print(vae.history_["elbo"])
"""


def test_a_fit_that_was_killed_within_an_epoch_goes_on_there(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)

    def run(last):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(last)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert run(2).returncode == -signal.SIGKILL
    kept = sorted((tmp_path / "fit").glob("*.checkpoint"))
    assert len(kept) == 2  # both within the first epoch
    done = run(-1)
    assert done.returncode == 0, done.stderr
    straight = VAE(2, **OPTIONS).fit(tmp_path / "x.npy")
    assert json.loads(done.stdout) == straight.history_["elbo"]
    assert_array_equal(np.load(tmp_path / "z.npy"), straight.transform(NUMBERS))


def test_a_checkpoint_of_another_file_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)
    options = {**OPTIONS, "checkpoint": tmp_path / "fit"}
    VAE(2, **options).fit(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", NUMBERS[::-1])
    with pytest.raises(ValueError, match="has other data"):
        VAE(2, **options).fit(tmp_path / "x.npy")


@pytest.fixture(scope="module")
def fitted():
    return VAE(2, **OPTIONS).fit(NUMBERS)


@pytest.mark.parametrize("ending", [".npy", ".csv", ".parquet", ".npz", ".feather"])
def test_predictions_are_streamed_to_files(ending, fitted, tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS)
    path = tmp_path / f"z{ending}"
    fitted.stream(tmp_path / "x.npy", path)
    read = sources.read_rows(path)
    expected = fitted.transform(NUMBERS)
    if isinstance(read, pd.DataFrame):
        assert [*read.columns] == [*fitted.get_feature_names_out()]
    assert_allclose(np.asarray(read), expected, rtol=1e-6)
    with pytest.raises(FileExistsError, match="overwrite"):
        fitted.stream(tmp_path / "x.npy", path)
    fitted.stream(tmp_path / "x.npy", path, "elbo" if ending == ".parquet" else "reconstruct",
                  overwrite=True)  # fmt: skip
    assert len(sources.read_rows(path)) == N


def test_tables_are_streamed_in_their_own_types(tmp_path):
    (tmp_path / "in").mkdir()
    folder = write_folder(tmp_path / "in")
    vae = VAE(2, **OPTIONS).fit(folder)
    vae.stream(folder, tmp_path / "out.parquet", "reconstruct")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), vae.reconstruct(TABLE))
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_row_groups > 5
    vae.stream(folder, tmp_path / "out.csv", "reconstruct")
    assert len(pd.read_csv(tmp_path / "out.csv")) == N


def test_a_full_disk_leaves_nothing_under_the_name(fitted, tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", NUMBERS)
    monkeypatch.setattr("aevb.data.stored._PIECE", 2**14)

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 20_000

        def write(self, content):
            self.left -= memoryview(content).nbytes
            if self.left < 0:
                raise OSError(28, "No space left on device")
            return self.file.write(content)

        def close(self):
            self.file.close()

    monkeypatch.setattr("aevb.data.appended.open", lambda *of: Full(open(*of)), raising=False)  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        fitted.stream(tmp_path / "x.npy", tmp_path / "z.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's own")
def test_a_device_that_is_full_is_an_error(fitted, tmp_path):
    target = tmp_path / "full"
    target.symlink_to("/dev/full")
    with pytest.raises((OSError, ValueError)):
        fitted.stream(NUMBERS, target / "z.npy")


BAD = {
    "exposure": ({"exposure": "total"}, ValueError, "no `exposure` with data beyond memory"),
    "weights": ({"sample_weight": np.ones(5)}, ValueError, "each of the 6000 rows"),
    "condition": ({"condition": [1, 2, 3]}, ValueError, "6000"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_a_source_is_refused(name, tmp_path):
    told, error, message = BAD[name]
    np.save(tmp_path / "x.npy", COUNTS)
    with pytest.raises(error, match=message):
        VAE(2, likelihood="poisson", **OPTIONS).fit(tmp_path / "x.npy", **told)


def test_values_outside_the_support_are_refused_before_training(tmp_path):
    X = COUNTS.copy()
    X[5555, 3] = -2
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match=r"poisson.*got -2\.0 in row 5555, column 3"):
        VAE(2, likelihood="poisson", **OPTIONS).fit(tmp_path / "x.npy")
    Y = NUMBERS.copy()
    Y[5999, 2] = np.inf
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(ValueError, match="infinity"):
        VAE(2, **OPTIONS).fit(tmp_path / "y.npy")


def test_a_number_that_is_not_finite_is_named_with_its_place(tmp_path):
    X = np.where(np.arange(N)[:, None] == 5432, np.inf, NUMBERS[:, :2])
    pd.DataFrame(X, columns=["a", "b"]).to_parquet(tmp_path / "x.parquet", row_group_size=1000)
    with pytest.raises(ValueError, match=r"From row 5000 on.*column 'a'.*inf.*rows \[432\]"):
        VAE(1, **OPTIONS).fit(tmp_path / "x.parquet")


def test_other_columns_are_refused_with_the_source(fitted, tmp_path):
    np.save(tmp_path / "x.npy", NUMBERS[:, :5])
    with pytest.raises(ValueError, match="5 features"):
        fitted.transform(tmp_path / "x.npy")
    with pytest.raises(TypeError, match="rows in memory for `X`; got a path"):
        fitted.surprise(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="Did you mean 'transform'"):
        fitted.stream(tmp_path / "x.npy", tmp_path / "z.npy", "transfrom")


def test_columns_without_a_value_are_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    TABLE.assign(nothing=np.nan).to_parquet(tmp_path / "in" / "x.parquet", row_group_size=1000)
    with pytest.warns(UserWarning, match="'nothing' of `X` has no value"):
        vae = VAE(2, **OPTIONS).fit(tmp_path / "in")
    assert vae.schema_.columns["nothing"] is None


def test_numbers_that_single_precision_rounds_are_warned_of(tmp_path):
    X = NUMBERS.astype("float64") + 1e9
    np.save(tmp_path / "x.npy", X)
    with pytest.warns(UserWarning, match="float32 rounds their differences"):
        VAE(2, **OPTIONS).fit(tmp_path / "x.npy")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Anonymous memory of fits to 160 and 480 MB, in processes of their own."""
    script = """
import sys, threading, time
from aevb import VAE
from aevb.data import sources, streamed
sources.IN_MEMORY, streamed.BYTES = 0, 40_000_000
most, stop = 0, False
def watch():
    global most
    while not stop:
        for line in open("/proc/self/status"):
            if line.startswith("RssAnon"):
                most = max(most, int(line.split()[1]))
        time.sleep(0.01)
thread = threading.Thread(target=watch); thread.start()
VAE(2, hidden=(16,), epochs=1, random_state=0, verbose=False, batch_size=1000).fit(sys.argv[1])
stop = True; thread.join(); print(most / 1000)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of a process is read from /proc, which this system does not have")
    peaks, block = [], rng.normal(size=(25_000, 100))
    for n in (400_000, 1_200_000):
        rows = np.lib.format.open_memmap(tmp_path / f"{n}.npy", "w+", "float32", (n, 100))
        for start in range(0, n, 25_000):
            rows[start : start + 25_000] = block + start
        rows.flush()
        del rows
        command = [sys.executable, "-c", script, str(tmp_path / f"{n}.npy")]
        peaks.append(float(subprocess.run(command, capture_output=True, check=True).stdout))
        os.unlink(tmp_path / f"{n}.npy")
    assert peaks[1] < peaks[0] + 80  # MB, two chunks; the file has 320 more


def test_an_error_says_so_before_the_fit_is_lost(fitted, tmp_path):
    before = fitted.model_
    np.save(tmp_path / "x.npy", np.full((50, 3), np.nan))
    with pytest.raises(ValueError, match="every cell is missing"):
        fitted.fit(tmp_path / "x.npy")
    assert fitted.model_ is before
