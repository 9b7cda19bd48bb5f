"""`aevb fit`: what it passes on, what it says, and what it leaves when it is cut short."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.main import get_command

from aevb import VAE, TrainingDiverged
from aevb.cli import app, report
from aevb.cli.commands import _layers
from aevb.data.files import read_rows
from aevb.inference.estimators import ESTIMATORS
from aevb.models.posteriors import POSTERIORS
from aevb.models.priors import PRIORS
from aevb.plotting import kl_per_dimension


def test_fit_says_what_was_fitted(fit, folder, tmp_path):
    model = tmp_path / "new.aevb"
    result = fit(folder / "table.csv", model)
    assert result.code == 0
    history = VAE.load(model).history_
    for said in (
        "data 60 cases of 3 values",
        "likelihood gaussian (chosen for these data)",
        "epochs 2 in ",
        f"ELBO, training {history['elbo'][-1]:.2f} nats per case",
        "KL by latent dimension",
        "of 2 (KL below 0.01 nats)",
        "lower bound on the log-density log p(x). A density depends on the units",
        f"The model is in {model}",
    ):
        assert said in result.out
    assert result.err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nats", "said"),
    [
        # 0.05 nats were "unused" here and in use in pictures.
        ([2.0, 0.05, 0.001], "inactive dimensions 1 of 3 (KL below 0.01 nats)"),
        ([np.nan, np.nan], "inactive dimensions not known"),
    ],
)
def test_reports_and_pictures_agree_on_inactive_dimensions(nats, said, capsys):
    X = np.random.default_rng(0).normal(size=(20, 3))
    vae = VAE(len(nats), hidden=(3,), epochs=1, random_state=0).fit(X)
    vae.explained_nats_ = np.array(nats)
    report.show_fit(vae, X)
    assert said in " ".join(capsys.readouterr().out.split())
    if np.isfinite(nats).all():
        ax = kl_per_dimension(nats, ax=Figure().subplots())
        assert ax.get_title() == "2 of 3 latent dimensions active"


def test_fit_labels_gray_levels_for_what_they_are(fit, folder, tmp_path):
    result = fit(folder / "images.npy", tmp_path / "x.aevb")
    assert "data 40 images of 4 × 4 values" in result.out
    assert "likelihood bernoulli (chosen" in result.out
    assert "lower bound on the expected log-likelihood under stochastic binarisation" in result.out


# No number or name could stand for these.
NOT_OPTIONS = {"encoder", "decoder", "callbacks"}
OTHER_NAMES = {"random_state": "--seed", "verbose": "--quiet"}


def test_fit_has_an_option_for_every_parameter_of_vae():
    given = {
        name
        for option in get_command(app).commands["fit"].params
        for name in (*option.opts, *option.secondary_opts)
    }
    expected = {
        OTHER_NAMES.get(name, f"--{name.replace('_', '-')}")
        for name in VAE().get_params()
        if name not in NOT_OPTIONS
    }
    assert expected <= given


def test_fit_passes_every_option_on(refused, folder, tmp_path, monkeypatch):
    def fit(vae, X):
        raise ValueError(f"{vae.get_params()}")

    monkeypatch.setattr(VAE, "fit", fit)
    options = {
        **{
            "latent-dim": 3,
            "likelihood": "gaussian",
            "unseen": "missing",
            "prior": "vamp",
            "posterior": "iaf",
        },
        **{
            "architecture": "conv",
            "hidden": "9,7",
            "activation": "relu",
            "init": "random",
            "epochs": 3,
            "learning-rate": 0.01,
        },
        **{"optimizer": "adam", "batch-size": 16, "validation-fraction": 0.25, "patience": 2},
        **{"tol-params": 0.25, "time-limit": 60.0, "n-init": 2, "clip-norm": 1.5},
        **{"devices": 1, "checkpoint": tmp_path / "kept"},
        **{"tol": 0.125, "weight-prior": 1.5, "kl-weight": 0.5, "free-bits": 0.75},
        **{"estimator": "A", "n-draws": 2, "seed": 11},
    }
    assert {name.replace("-", "_") for name in options} - {"seed"} == (
        VAE().get_params().keys() - NOT_OPTIONS - OTHER_NAMES.keys()
    )
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    command = ("fit", folder / "table.csv", "-o", tmp_path / "x.aevb")
    expected = {name.replace("-", "_"): value for name, value in options.items() if name != "seed"}
    expected |= {"hidden": (9, 7), "random_state": 11}
    assert refused(*command, *arguments) == f"Error: {VAE(**expected).get_params()}"
    assert refused(*command) == f"Error: {VAE(random_state=0).get_params()}"  # the same defaults


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--devices", "many"), "--devices: expected all or a number; got 'many'"),
        (("--process-id", 1), "--distributed: expected --distributed beside --coordinator"),
    ],
)
def test_devices_and_processes_that_cannot_be_meant(refused, folder, tmp_path, options, said):
    command = ("fit", folder / "table.csv", "-o", tmp_path / "x.aevb", *options)
    assert said in refused(*command, code=2)


@pytest.mark.parametrize(
    ("option", "known"), [("prior", PRIORS), ("posterior", POSTERIORS), (("estimator", ESTIMATORS))]
)
def test_help_lists_the_names_that_an_option_knows(option, known):
    (parameter,) = (each for each in get_command(app).commands["fit"].params if each.name == option)
    listed = re.split(", | or ", parameter.help.partition(": ")[2].removesuffix("."))
    assert sorted(listed) == sorted(known)


@pytest.mark.slow
def test_fit_takes_other_families_by_name(fit, folder, tmp_path):
    model = tmp_path / "x.aevb"
    options = ("--posterior", "full-normal", "--prior", "mixture", "--kl-weight", 0.5)
    assert fit(folder / "table.csv", model, *options).code == 0
    loaded = VAE.load(model)
    assert (loaded.posterior, loaded.prior, loaded.kl_weight) == ("full-normal", "mixture", 0.5)


@pytest.mark.parametrize(
    ("text", "layers"),
    [("500", (500,)), ("auto", "auto"), ("9,7", (9, 7)), (" 9, 7 ", (9, 7)), ("", ()), (" ", ())],
)
def test_hidden_layers(text, layers):
    assert _layers(text) == layers


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("bound", "judge", "name"),
    [
        (("--estimator", "auto"), "validation_elbo", "ELBO"),
        (("--estimator", "iw", "--n-draws", 5), "validation_iw_bound", "importance-weighted bound"),
    ],
    ids=["ELBO", "importance-weighted"],
)
def test_fit_says_which_epoch_patience_kept(fit, bound, judge, name, folder, tmp_path):
    model = tmp_path / "x.aevb"
    options = ("--validation-fraction", 0.5, "--patience", 2, "--learning-rate", 0.3)
    result = fit(folder / "table.csv", model, "--epochs", 40, *options, *bound)
    values = VAE.load(model).history_[judge]
    best = int(np.argmax(values))
    assert best < len(values) - 1, "these settings no longer stop early"
    assert f"epochs {len(values)} in " in result.out
    assert f"the model of epoch {best + 1}, the best, is kept" in result.out
    assert f"{name}, held out {values[best]:.2f} nats" in result.out


@pytest.mark.parametrize("settings", [{"patience": 2}, {"tol": 0.5}], ids=str)
def test_the_kept_epoch_is_the_best_by_the_bound_that_early_stopping_judges(
    settings, folder, capsys
):
    vae = VAE.load(folder / "table.aevb").set_params(**settings)
    vae.n_epochs_ = 3
    vae.history_ = {
        **{"epoch": [1, 2, 3], "seconds": [1.0] * 3},
        **{"elbo": [-9.0, -8.0, -7.0], "iw_bound": [-6.0, -5.0, -4.0]},
        **{"validation_elbo": [-11.0, -13.0, -12.0], "validation_iw_bound": [-8.9, -8.1, -8.5]},
    }
    report.show_fit(vae, read_rows(folder / "table.csv"))
    said = " ".join(capsys.readouterr().out.split())
    assert "the model of epoch 2, the best, is kept" in said
    for line in (
        "importance-weighted bound, training -5.00 nats",
        "ELBO, training -8.00 nats",
        "importance-weighted bound, held out -8.10 nats",
        "ELBO, held out -13.00 nats",
    ):
        assert line in said


def test_quiet_says_nothing(fit, folder, tmp_path):
    model = tmp_path / "x.aevb"
    assert fit(folder / "table.csv", model, "--quiet") == (0, "", "")
    assert model.exists()


def test_the_same_seed_gives_the_same_model(fit, folder, tmp_path):
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        fit(folder / "table.csv", tmp_path / name, "--seed", seed)
    rows = read_rows(folder / "table.csv")
    a, b, c = (VAE.load(tmp_path / name).transform(rows) for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (TrainingDiverged("Training diverged: ...", 4, "elbo"), 1, "Error: Training diverged: ..."),
    ],
    ids=["Ctrl-C", "divergence"],
)
def test_a_fit_cut_short_keeps_the_last_epoch(
    fit, error, code, said, folder, tmp_path, monkeypatch
):
    def cut_short(bar, epoch):
        if epoch.number == 3:
            raise error

    monkeypatch.setattr("aevb.progress.ProgressBar.__call__", cut_short)
    model = tmp_path / "x.aevb"
    result = fit(folder / "table.csv", model, "--epochs", 9)
    assert result == (code, "", f"Kept: epoch 3's model, in {model} {said}")
    assert VAE.load(model).n_epochs_ == 3


def test_a_fit_interrupted_before_its_first_epoch_leaves_nothing(
    fit, folder, tmp_path, monkeypatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("aevb.fitting.advance", interrupt)
    model = tmp_path / "x.aevb"
    assert fit(folder / "table.csv", model) == (130, "", "Interrupted.")
    assert not model.exists()


@pytest.mark.filterwarnings("ignore:Training went back")
def test_a_diverging_fit_says_what_to_try(fit, folder, tmp_path):
    options = ("--epochs", 50, "--learning-rate", 1e30, "--optimizer", "sgd")
    result = fit(folder / "table.csv", tmp_path / "x.aevb", *options)
    assert (result.code, result.out) == (1, "")
    assert "Error: Training diverged" in result.err
    assert "smaller `learning_rate`" in result.err
