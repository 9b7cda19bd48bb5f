"""When training stops, and that it says why."""

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import SGVB, VAE, Bayesian, FitWarning
from aevb.inference.stopping import EarlyStopping, Seen, Watch
from aevb.interruption import Interruption

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32) + 1
OPTIONS = {"batch_size": 5, "key": 3, "verbose": False, "learning_rate": 0.01}
QUICK = {"hidden": (5,), "random_state": 0, "verbose": False}


def reasons(result):
    history = result.history if hasattr(result, "history") else result.history_
    assert not any(history["stopped"][:-1])
    return history["stopped"][-1]


def watched(rule, bounds, **seen):
    watch = Watch()
    for epoch, bound in enumerate(bounds, start=1):
        watch = rule.after(watch, Seen(epoch, bound, f"after {epoch}", **seen))
        if rule.reason(watch):
            break
    return epoch, watch


# The rules by themselves.


def test_held_out_bounds_are_judged_as_they_are():
    bounds = [-5.0, -4.0, -3.0, -3.5, -3.2, -3.1, -2.0]
    epoch, watch = watched(EarlyStopping(3, None), bounds, held_out=True)
    assert (epoch, watch.best, watch.best_state, watch.best_epoch) == (6, -3.0, "after 3", 3)


def test_bounds_of_training_rows_are_smoothed():
    rising = -0.1 * (100 - np.minimum(np.arange(400), 100))  # 0.1 an epoch, under noise of 1
    ends: dict[bool, list[int]] = {True: [], False: []}
    luck = []
    for seed in range(40):
        bounds = rising + np.random.default_rng(seed).normal(size=400)
        for held_out, stopped in ends.items():
            epoch, watch = watched(EarlyStopping(10, None), bounds, held_out=held_out)
            stopped.append(epoch)
        luck.append(watch.best - rising[watch.best_epoch - 1])
    assert np.median(ends[True]) < 50  # one lucky draw stops it on its way
    assert 100 < np.median(ends[False]) < 200
    assert np.mean(luck) < 0.6  # nor is luck what is kept: of 100 draws, the best has 2.5


def test_smoothing_is_an_exponential_average_about_as_long_as_the_patience():
    _, watch = watched(EarlyStopping(3, None), [1.0, 2.0, 4.0])
    assert watch.smoothed == (1.0 / 2 + 2.0 / 2) / 2 + 4.0 / 2


def test_tol_is_what_has_to_be_gained():
    bounds = [0.0, 0.3, 0.6, 0.9, 1.2, 1.5]
    rule = EarlyStopping(2, 0.5)
    epoch, _ = watched(rule, bounds, held_out=True)
    assert epoch == 6 and rule.reason(watched(rule, [0.0, 0.4, 0.4], held_out=True)[1]) == "tol"


def test_parameters_at_rest_stop_it_and_nan_does_not():
    rule = EarlyStopping(None, None, 1e-3)
    for moved, reason in (
        (1e-2, None),
        (1e-3, "tol_params"),
        (math.nan, None),
        (0.0, "tol_params"),
    ):
        assert rule.reason(rule.after(Watch(), Seen(1, -1.0, None, moved=moved))) == reason
    assert rule.after(Watch(), Seen(1, -1.0, "state", moved=1.0)).best_state is None


# In training.


def test_all_epochs_is_a_reason(line):
    assert reasons(aevb.train(line(), DATA, **OPTIONS, epochs=3)) == "epochs"
    assert reasons(VAE(2, epochs=3, **QUICK).fit(DATA)) == "epochs"


def test_a_callback_is_a_reason_or_gives_one(line):
    for returned, reason in ((True, "callback"), ("enough", "enough"), (np.True_, "callback")):
        result = aevb.train(line(), DATA, **OPTIONS, epochs=9, callbacks=[lambda epoch: returned])  # noqa: B023
        assert len(result.history["epoch"]) == 1 and reasons(result) == reason


def test_a_run_taken_up_again_has_no_old_reason(line):
    first = aevb.train(line(), DATA, **OPTIONS, epochs=3, callbacks=[lambda e: e.number == 2])
    assert reasons(first) == "callback"
    again = aevb.train(line(), DATA, **OPTIONS, epochs=3, resume=first.run)
    assert again.history["stopped"] == ["", "", "epochs"]


def test_the_relative_change_of_the_parameters_is_what_it_says(line):
    models = []
    see = [lambda epoch: models.append(epoch.model)]
    options = {**OPTIONS, "optimizer": "sgd", "learning_rate": 1e-3, "epochs": 6}
    aevb.train(line(), DATA, **options, callbacks=see)
    parameters = [
        np.concatenate([np.ravel(each) for each in (m.weight, m.shift, m.encoder)]) for m in models
    ]
    moved = [
        np.linalg.norm(after - before) / np.linalg.norm(before)
        for before, after in itertools.pairwise(parameters)
    ]
    at = 3  # stops after the first epoch that moves less than the third did
    assert min(moved[:at]) == moved[at - 1]
    result = aevb.train(line(), DATA, **options, tol_params=1.001 * float(moved[at - 1]))
    assert len(result.history["epoch"]) == at + 1 and reasons(result) == "tol_params"


def test_the_papers_rule_ends_a_falling_rate(line):
    result = aevb.train(line(), DATA, batch_size=5, epochs=200, key=3, tol_params=1e-4)
    assert 20 < len(result.history["epoch"]) < 200 and reasons(result) == "tol_params"
    result = aevb.train(line(), DATA, batch_size=5, key=3, tol_params=0.02)  # in rounds as well
    assert reasons(result) == "tol_params"
    vae = VAE(2, tol_params=1e9, **QUICK).fit(DATA)  # nor does a search come before
    assert vae.n_epochs_ == 1 and reasons(vae) == "tol_params"


def test_nothing_counts_before_a_warm_up_is_over(line):
    warm_up = optax.linear_schedule(0.0, 1.0, 40 * 5)  # 40 epochs of 5 steps
    options = {**OPTIONS, "epochs": 200, "kl_weight": warm_up, "patience": 2, "tol": 10.0}
    result = aevb.train(line(), DATA, **options)
    # The first that counts is the 40th, two more bring no gain.
    assert len(result.history["epoch"]) == 42 and reasons(result) == "tol"
    assert result.run.watch.best_epoch >= 40
    options |= {"patience": None, "tol": None, "tol_params": 10.0}
    assert len(aevb.train(line(), DATA, **options).history["epoch"]) == 40


def test_a_schedule_that_ends_below_one_counts_when_it_has_come_there():
    objective = SGVB(kl_weight=optax.linear_schedule(0.0, 0.3, 100))
    assert [objective.counts(step, 1000) for step in (0, 50, 99, 100, 500)] == [
        *[False] * 3,
        True,
        True,
    ]
    above = SGVB(kl_weight=optax.linear_schedule(0.0, 4.0, 100))
    assert [above.counts(step, 1000) for step in (20, 25, 100)] == [False, True, True]
    assert SGVB(kl_weight=0.1).counts(0, 100) and SGVB().counts(0, 100)
    assert not aevb.FullVB(objective).counts(0, 100)


def test_full_variational_bayes_and_wake_sleep_stop_as_well(line):
    bayesian = aevb.train(Bayesian(line()), DATA, **OPTIONS, epochs=50, patience=2, tol=100.0)
    assert reasons(bayesian) == "tol"
    wake_sleep = aevb.train(
        line(), DATA, **OPTIONS, epochs=50, objective=aevb.WakeSleep(), tol_params=1.0
    )
    assert reasons(wake_sleep) == "tol_params" and len(wake_sleep.history["epoch"]) == 1


def test_a_time_limit_ends_the_training_at_an_epochs_end(line):
    wait = [lambda epoch: time.sleep(0.05)]
    result = aevb.train(line(), DATA, **OPTIONS, epochs=10_000, time_limit=0.3, callbacks=wait)
    assert 1 <= len(result.history["epoch"]) <= 7 and reasons(result) == "time_limit"
    vae = VAE(2, **QUICK, epochs=10_000, time_limit=0.01).fit(DATA)
    assert vae.n_epochs_ == 1 and reasons(vae) == "time_limit"
    assert np.isfinite(vae.transform(DATA)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        *({"time_limit": 0}, {"time_limit": "1"}, {"time_limit": np.inf}, {"tol_params": -1.0}),
        *({"tol_params": np.nan}, {"n_init": 0}, {"n_init": 1.5}, {"checkpoint": 3}),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_said_before_anything_is_done(wrong, own_messages):
    (name,) = wrong
    with pytest.raises((ValueError, TypeError), match=rf"Expected .*for `{name}`; got"):
        VAE(2, **QUICK, **wrong).fit(DATA)


# Several starts.


def test_the_best_of_several_starts_is_kept():
    X = np.random.default_rng(1).normal(size=(60, 5))
    options = {"epochs": 5, "init": "random", "hidden": (5,), "verbose": False}
    several = VAE(2, n_init=4, random_state=0, **options).fit(X)
    first = VAE(2, random_state=0, **options).fit(X)
    seeds = np.random.RandomState(0).randint(2**31 - 1, size=3)
    each = [first, *(VAE(2, random_state=int(seed), **options).fit(X) for seed in seeds)]
    bounds = [vae.history_["elbo"][-1] for vae in each]
    best = each[int(np.argmax(bounds))]
    assert len(set(bounds)) == 4 and several.history_["elbo"][-1] == max(bounds)
    for one, other in zip(
        jax.tree.leaves(several.model_), jax.tree.leaves(best.model_), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(several.explained_nats_, best.explained_nats_)


@pytest.mark.slow
def test_the_best_of_several_starts_is_kept_after_a_search_as_well():
    X = np.random.default_rng(1).normal(size=(60, 5))
    options = {"init": "random", "hidden": (5,), "batch_size": 60, "verbose": False}
    seeds = np.random.RandomState(0).randint(2**31 - 1, size=1)
    each = [VAE(2, random_state=int(seed), **options).fit(X) for seed in (0, *seeds)]
    best = max(each, key=lambda vae: vae.history_["elbo"][-1])
    assert best is each[1]  # or this shows nothing
    several = VAE(2, n_init=2, random_state=0, **options).fit(X)
    assert several.history_["elbo"] == best.history_["elbo"]


def test_starts_that_were_not_made_are_said():
    X = np.random.default_rng(1).normal(size=(60, 5))
    vae = VAE(2, n_init=5, epochs=2, time_limit=1e-3, **QUICK)
    with pytest.warns(FitWarning, match=r"stopped after 1 of 5 starts"):
        vae.fit(X)
    vae = VAE(2, n_init=5, epochs=1, time_limit=1e-3, **QUICK)  # its last epoch is its first
    with pytest.warns(FitWarning, match=r"stopped after 1 of 5 starts"):
        assert reasons(vae.fit(X)) == "epochs"


def test_held_out_cases_choose_among_starts():
    X = np.random.default_rng(1).normal(size=(60, 5))
    options = {"epochs": 4, "init": "random", "validation_fraction": 0.3, "patience": 9, **QUICK}
    several = VAE(2, n_init=3, **options).fit(X)
    reached = several.history_["validation_elbo"][several.best_epoch_ - 1]
    assert reached >= max(VAE(2, **options).fit(X).history_["validation_elbo"])


def test_a_start_that_diverges_is_left_out_of_the_choice(monkeypatch):
    from aevb import fitting

    fit_once = fitting.Fitting._fit_once

    def diverging(self, start, *others):
        if start == 0:
            raise aevb.TrainingDiverged("It diverged.", 1, "elbo")
        fit_once(self, start, *others)

    monkeypatch.setattr(fitting.Fitting, "_fit_once", diverging)
    with pytest.warns(FitWarning, match=r"left out of the choice: It diverged\."):
        vae = VAE(2, epochs=2, n_init=2, **QUICK).fit(DATA)
    assert np.isfinite(vae.transform(DATA)).all()
    with pytest.raises(aevb.TrainingDiverged):
        VAE(2, epochs=2, n_init=1, **QUICK).fit(DATA)


def test_an_interrupted_later_start_leaves_the_best_so_far():
    calls = []

    def interrupt(epoch):
        calls.append(epoch.number)
        if len(calls) == 5:
            raise KeyboardInterrupt

    vae = VAE(2, epochs=3, n_init=3, callbacks=[interrupt], **QUICK)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(DATA)
    first = VAE(2, epochs=3, **QUICK).fit(DATA)
    assert vae.history_["elbo"] == first.history_["elbo"]


# Ctrl-C.


def test_ctrl_c_ends_the_epoch_and_leaves_a_fitted_estimator():
    def press(epoch):
        if epoch.number == 3:
            os.kill(os.getpid(), signal.SIGINT)

    vae = VAE(2, epochs=50, callbacks=[press], **QUICK)
    with pytest.warns(FitWarning, match="was interrupted, and ended after epoch 3"):
        vae.fit(DATA)
    assert vae.n_epochs_ == 3 and reasons(vae) == "interrupted"
    whole = VAE(2, epochs=50, callbacks=[lambda epoch: epoch.number == 3], **QUICK).fit(DATA)
    np.testing.assert_array_equal(vae.transform(DATA), whole.transform(DATA))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_ends_train_as_well(line):
    def press(epoch):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.warns(FitWarning, match="ended after epoch 1"):
        result = aevb.train(line(), DATA, **OPTIONS, epochs=9, callbacks=[press])
    assert reasons(result) == "interrupted" and len(result.history["epoch"]) == 1


@pytest.mark.filterwarnings("error")
def test_ctrl_c_in_the_last_epoch_changes_nothing():
    vae = VAE(2, epochs=1, callbacks=[lambda e: os.kill(os.getpid(), signal.SIGINT)], **QUICK)
    assert reasons(vae.fit(DATA)) == "epochs"


def test_ctrl_c_ends_a_loop_over_passes():
    def press(epoch):
        os.kill(os.getpid(), signal.SIGINT)

    vae = VAE(2, callbacks=[press], **QUICK)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(3):
            vae.partial_fit(DATA)
    assert vae.n_epochs_ == 1  # which was complete


def test_ctrl_c_twice_is_at_once():
    def press(epoch):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    vae = VAE(2, epochs=50, callbacks=[press], **QUICK)
    with pytest.raises(KeyboardInterrupt):
        vae.fit(DATA)
    assert vae.n_epochs_ == 1  # which was complete
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_left_alone_in_other_threads_and_under_other_handlers():
    wanted = []

    def enter():
        with Interruption():
            wanted.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        enter()
    finally:
        signal.signal(signal.SIGINT, before)
    assert wanted == [signal.default_int_handler, signal.SIG_IGN]


@pytest.mark.slow
def test_the_command_keeps_the_model_after_ctrl_c(tmp_path):
    np.save(tmp_path / "data.npy", np.random.default_rng(0).normal(size=(5000, 20)))
    command = [Path(sys.executable).with_name("aevb"), "fit", "data.npy", "-o", "model.aevb"]
    process = subprocess.Popen(
        [*command, "--epochs", "100000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    time.sleep(25)  # until it trains
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "was interrupted, and ended after epoch" in said
    vae = VAE.load(tmp_path / "model.aevb")
    assert reasons(vae) == "interrupted" and vae.n_epochs_ < 100_000
    assert jnp.isfinite(vae.sample(2)).all()
