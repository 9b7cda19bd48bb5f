"""Trackers get every epoch's numbers under the same names, and never stop a fit."""

from __future__ import annotations

import copy
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

from aevb import VAE, FitWarning
from aevb.share import MLflow, TensorBoard, Tracker, WandB
from aevb.share.tracker import named

X = np.random.default_rng(0).normal(size=(60, 3))
QUICK = {"hidden": (4,), "random_state": 0, "verbose": False}
HISTORY = {"elbo": "train/elbo", "kl": "train/kl", "validation_elbo": "validation/elbo"}


class Kept(Tracker):
    """Keeps what it is told, and fails at a step if it is to."""

    def __init__(self, fails_at=None, records=None):
        super().__init__("numpy", "none")
        self.fails_at = fails_at
        self.records = [] if records is None else records

    def _begin(self):
        if self.fails_at == "begin":
            raise OSError("nobody there")
        self.records.append({"ended": None})
        return self.records[-1]

    def _log(self, values, step):
        if step == self.fails_at:
            raise OSError("gone away")
        self._handle[step] = values

    def _end(self, *, failed):
        if self.fails_at == "end":
            raise OSError("gone away")
        self._handle["ended"] = "failed" if failed else "finished"


def seen(number):
    """Return an epoch as a tracker sees it."""
    return SimpleNamespace(number=number, metrics={"epoch": number, "elbo": -1.0 / number})


def test_steps_are_epochs_and_numbers_are_those_of_the_history():
    tracker = Kept()
    with tracker:
        vae = VAE(1, epochs=4, validation_fraction=0.2, callbacks=[tracker], **QUICK).fit(X)
    (record,) = tracker.records
    assert record.pop("ended") == "finished"
    assert [*record] == [1, 2, 3, 4]
    for column, name in HISTORY.items():
        assert [values[name] for values in record.values()] == vae.history_[column]
    assert [values["epoch/number"] for values in record.values()] == [1, 2, 3, 4]


def test_only_finite_numbers_are_handed_on():
    metrics = {"epoch": 1, "elbo": np.float32(-2), "kl": np.nan, "stopped": "", "each": np.ones(3)}
    assert named(metrics) == {"epoch/number": 1.0, "train/elbo": -2.0}


def test_epochs_that_are_taken_back_are_steps_on():
    tracker = Kept()
    for number in (1, 2, 3, 2, 3):
        tracker(seen(number))
    (record,) = tracker.records
    assert [step for step in record if step != "ended"] == [1, 2, 3, 4, 5]
    assert [record[step]["epoch/number"] for step in range(1, 6)] == [1, 2, 3, 2, 3]


def test_every_start_is_in_the_record():
    tracker = Kept()
    VAE(1, epochs=2, n_init=2, init="random", callbacks=[tracker], **QUICK).fit(X)
    assert [tracker.records[0][step]["epoch/number"] for step in (1, 2, 3, 4)] == [1, 2, 1, 2]


class Killed(BaseException):
    """As sudden as a signal."""


def test_a_resumed_fit_goes_on_with_its_steps(tmp_path):
    def kill(epoch):
        if epoch.number == 3:
            raise Killed

    options = {"epochs": 5, "checkpoint": tmp_path, **QUICK}
    first, second = Kept(), Kept()
    with pytest.raises(Killed), first:
        VAE(1, callbacks=[first, kill], **options).fit(X)
    vae = VAE(1, callbacks=[second], **options).fit(X)
    (killed,), (resumed,) = first.records, second.records
    assert killed.pop("ended") == "failed"
    assert [*killed] == [1, 2, 3]
    assert resumed.pop("ended") is None
    assert max(resumed) == 5 and min(resumed) > 1
    whole = killed | resumed
    assert [whole[step]["train/elbo"] for step in range(1, 6)] == vae.history_["elbo"]


@pytest.mark.parametrize("fails_at", ["begin", 2, "end"])
def test_a_tracker_that_fails_is_said_once_and_the_fit_goes_on(fails_at):
    tracker = Kept(fails_at)
    alone = VAE(1, epochs=4, **QUICK).fit(X)
    with pytest.warns(FitWarning, match=r"Kept has failed.*OSError") as said:
        vae = VAE(1, epochs=4, callbacks=[tracker], **QUICK).fit(X)
        if fails_at == "end":
            tracker.__exit__(None, None, None)
    assert len(said) == 1
    assert vae.history_["elbo"] == alone.history_["elbo"]
    if fails_at == 2:
        assert [*tracker.records[0]] == ["ended", 1]


def test_what_is_wrong_is_an_error_before_the_fit_in_a_with_statement():
    with pytest.raises(OSError, match="nobody there"), Kept("begin"):
        pytest.fail("the block was entered")


def test_ctrl_c_in_a_tracker_is_not_swallowed(monkeypatch):
    def interrupted(self, values, step):
        raise KeyboardInterrupt

    monkeypatch.setattr(Kept, "_log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        VAE(1, epochs=2, callbacks=[Kept()], **QUICK).fit(X)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_begins_a_record_of_its_own(copied):
    tracker = Kept()
    tracker(seen(1))
    other = copied(tracker)
    other(seen(1))
    assert len(other.records) == 2 and len(tracker.records) == 1


def test_a_tracker_in_use_is_cloned_with_its_estimator(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX, of aevb[tensorboard]")
    tracker = TensorBoard(tmp_path / "log")
    with tracker:
        vae = VAE(1, epochs=1, callbacks=[tracker], **QUICK).fit(X)
        assert clone(vae).callbacks[0].logdir == tracker.logdir


def test_a_tracker_serves_one_fit_after_another():
    tracker = Kept()
    for _ in range(2):
        with tracker:
            tracker(seen(1))
    assert [record["ended"] for record in tracker.records] == ["finished", "finished"]
    assert [[*record] for record in tracker.records] == [["ended", 1]] * 2


def test_the_first_process_speaks_alone(monkeypatch):
    monkeypatch.setattr("aevb.share.tracker.is_first", lambda: False)
    tracker = Kept()
    with tracker:
        tracker(seen(1))
    assert tracker.records == []


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MLflow(), r'mlflow.*"aevb\[mlflow\]"'),
        (lambda: WandB(), r'wandb.*"aevb\[wandb\]"'),
        (lambda: TensorBoard("log"), r'tensorboardX.*"aevb\[tensorboard\]"'),
    ],
    ids=["MLflow", "WandB", "TensorBoard"],
)
def test_a_missing_library_is_named_with_its_extra(make, named, monkeypatch):
    monkeypatch.setattr("aevb.share.libraries.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=named):
        make()


def events(logdir):
    """Return the events of each file, in order, read by the format that TensorBoard reads."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(logdir.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, at, of_file = path.read_bytes(), 0, []
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            of_file.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 12 + length + 4  # length and its checksum, the event, its checksum
        found.append(of_file)
    return found


def test_tensorboard_has_the_history(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX, of aevb[tensorboard]")
    with TensorBoard(tmp_path / "new" / "log") as tracker:
        vae = VAE(1, epochs=3, validation_fraction=0.2, callbacks=[tracker], **QUICK).fit(X)
    (found,) = events(tmp_path / "new" / "log")
    scalars = {
        (value.tag, event.step): value.simple_value
        for event in found
        for value in event.summary.value
    }
    for column, name in HISTORY.items():
        written = [scalars[name, step] for step in (1, 2, 3)]
        np.testing.assert_array_equal(written, np.float32(vae.history_[column]))


def test_tensorboard_hides_the_steps_that_are_made_again(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX, of aevb[tensorboard]")
    for numbers in ((1, 2, 3), (3, 4)):
        with TensorBoard(tmp_path) as tracker:
            for number in numbers:
                tracker(seen(number))
    first, second = events(tmp_path)
    starts = [
        [event.step for event in of_file if event.session_log.status] for of_file in (first, second)
    ]
    assert starts == [[1], [3]]


def test_tensorboard_refuses_a_file_before_the_fit(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX, of aevb[tensorboard]")
    (tmp_path / "log").write_text("")
    with pytest.raises(FileExistsError), TensorBoard(tmp_path / "log"):
        pytest.fail("the block was entered")
