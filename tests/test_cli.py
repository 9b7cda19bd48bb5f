"""The command, end to end: what it writes, what it says, and how it refuses."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import aevb
from aevb import VAE, Bernoulli, DivergenceError, Gaussian
from aevb.cli import app
from aevb.cli.commands import _layers
from aevb.cli.report import meaning
from aevb.data.files import read_rows, write_rows

# Small and quick; the same wherever it can be, so that little is compiled.
FIT = ("--hidden", "8", "--epochs", "2")
DRAWS = ("--n-draws", "5")


class Run(NamedTuple):
    """What a command left: exit code, and its two outputs without colours and line breaks."""

    code: int
    out: str
    err: str


def run(*arguments: object) -> Run:
    """Run ``aevb`` with some arguments; an internal error fails the test with its traceback."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Run(result.exit_code, *(_plain(text) for text in (result.stdout, result.stderr)))


def _plain(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def refused(*arguments: object, code: int = 1) -> str:
    """Run ``aevb`` and return what it says on stderr; nothing else may be said."""
    result = run(*arguments)
    assert result.code == code
    assert result.out == ""
    assert "Traceback" not in result.err
    if code == 1:
        assert result.err.startswith("Error: ")
    return result.err


def gray(n=40, seed=0):
    """Draw images of 4 × 4 gray levels, most of them black or white: Bernoulli is chosen."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(0.5, 0.8, (n, 4, 4)), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table with named columns, gray images, and a model of each."""
    folder = tmp_path_factory.mktemp("cli")
    rows = np.random.default_rng(0).normal([0, 10, -5], [1, 2, 3], (60, 3))
    write_rows(folder / "table.csv", rows, columns=["a", "b", "c"])
    write_rows(folder / "images.npy", gray())
    for data, model in [("table.csv", "table.aevb"), ("images.npy", "images.aevb")]:
        assert run("fit", folder / data, "-o", folder / model, *FIT).code == 0
    return folder


def test_version():
    assert run("--version") == Run(0, f"aevb {aevb.__version__}", "")


@pytest.mark.parametrize(
    "command", [(), ("demo",), ("fit",), ("encode",), ("reconstruct",), ("sample",), ("evaluate",)]
)
def test_help_has_examples(command):
    result = run(*command, "--help")
    assert result.code == 0
    assert f"Examples aevb {' '.join(command)}" in result.out
    assert run(*command, "-h") == result


def test_nothing_asked_shows_the_help():
    assert "Commands" in run().out


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".parquet", ".idx", ".idx.gz"])
def test_every_format_goes_in_and_comes_out(ending, tmp_path):
    data, model = tmp_path / f"data{ending}", tmp_path / "model.aevb"
    write_rows(data, np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
    assert run("fit", data, "-o", model, *FIT).code == 0
    vae, rows = VAE.load(model), read_rows(data)
    for command, expected in {
        "encode": vae.transform(rows),
        "reconstruct": vae.reconstruct(rows),
    }.items():
        out = tmp_path / f"{command}{ending}"
        assert run(command, model, data, "-o", out) == Run(0, "", "")
        np.testing.assert_array_equal(
            np.asarray(read_rows(out)).astype(expected.dtype), expected, strict=True
        )


def test_fit_says_what_was_fitted(folder, tmp_path):
    model = tmp_path / "new.aevb"
    result = run("fit", folder / "table.csv", "-o", model, *FIT)
    assert result.code == 0
    history = VAE.load(model).history_
    for said in (
        "data 60 cases of 3 values",
        "likelihood gaussian (chosen for these data)",
        "epochs 2 in ",
        f"ELBO, training {history['elbo'][-1]:.2f} nats per case",
        "KL by latent dimension",
        "of 2 (KL below 0.1 nats)",
        "lower bound on the log-density log p(x). A density depends on the units",
        f"The model is in {model}",
    ):
        assert said in result.out
    assert result.err == ""


def test_fit_labels_gray_levels_for_what_they_are(folder, tmp_path):
    result = run("fit", folder / "images.npy", "-o", tmp_path / "x.aevb", *FIT)
    assert "data 40 images of 4 × 4 values" in result.out
    assert "likelihood bernoulli (chosen" in result.out
    assert "lower bound on the expected log-likelihood under stochastic binarisation" in result.out


def test_fit_passes_every_option_on(folder, tmp_path, monkeypatch):
    def fit(vae, X):
        raise ValueError(f"{vae.get_params()}")

    monkeypatch.setattr(VAE, "fit", fit)
    options = {
        **{"latent-dim": 3, "likelihood": "gaussian", "hidden": "9,7", "activation": "relu"},
        **{"epochs": 3, "learning-rate": 0.01, "optimizer": "adam", "batch-size": 16},
        **{"validation-fraction": 0.25, "patience": 2, "weight-prior": 1.5, "bound": "A"},
        **{"n-draws": 2, "seed": 11},
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    command = ("fit", folder / "table.csv", "-o", tmp_path / "x.aevb")
    expected = {name.replace("-", "_"): value for name, value in options.items() if name != "seed"}
    expected |= {"hidden": (9, 7), "random_state": 11}
    assert refused(*command, *arguments) == f"Error: {VAE(**expected).get_params()}"
    assert refused(*command) == f"Error: {VAE(random_state=0).get_params()}"  # the same defaults


@pytest.mark.parametrize(
    ("text", "layers"), [("500", (500,)), ("9,7", (9, 7)), (" 9, 7 ", (9, 7)), ("", ()), (" ", ())]
)
def test_hidden_layers(text, layers):
    assert _layers(text) == layers


def test_fit_says_which_epoch_patience_kept(folder, tmp_path):
    model = tmp_path / "x.aevb"
    result = run(
        *("fit", folder / "table.csv", "-o", model, "--hidden", 8, "--epochs", 40),
        *("--validation-fraction", 0.5, "--patience", 2, "--learning-rate", 0.3),
    )
    elbo = VAE.load(model).history_["validation_elbo"]
    best = int(np.argmax(elbo))
    assert best < len(elbo) - 1, "these settings no longer stop early"
    assert f"epochs {len(elbo)} in " in result.out
    assert f"the model of epoch {best + 1}, the best, is kept" in result.out
    assert f"ELBO, held out {elbo[best]:.2f} nats" in result.out


def test_quiet_says_nothing(folder, tmp_path):
    model = tmp_path / "x.aevb"
    assert run("fit", folder / "table.csv", "-o", model, "--quiet", *FIT) == Run(0, "", "")
    assert model.exists()


def test_the_same_seed_gives_the_same_model(folder, tmp_path):
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        run("fit", folder / "table.csv", "-o", tmp_path / name, "--seed", seed, *FIT)
    rows = read_rows(folder / "table.csv")
    a, b, c = (VAE.load(tmp_path / name).transform(rows) for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (DivergenceError("Training diverged: ...", 4), 1, "Error: Training diverged: ..."),
    ],
    ids=["Ctrl-C", "divergence"],
)
def test_a_fit_cut_short_keeps_the_last_epoch(error, code, said, folder, tmp_path, monkeypatch):
    def cut_short(bar, epoch):
        if epoch.number == 3:
            raise error

    monkeypatch.setattr("aevb.progress.ProgressBar.__call__", cut_short)
    model = tmp_path / "x.aevb"
    result = run("fit", folder / "table.csv", "-o", model, "--hidden", 8, "--epochs", 9)
    assert result == Run(code, "", f"Kept: epoch 3's model, in {model} {said}")
    assert VAE.load(model).n_epochs_ == 3


def test_a_fit_interrupted_before_its_first_epoch_leaves_nothing(folder, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("aevb.vae.proceed", interrupt)
    model = tmp_path / "x.aevb"
    assert run("fit", folder / "table.csv", "-o", model, *FIT) == Run(130, "", "Interrupted.")
    assert not model.exists()


def test_a_diverging_fit_says_what_to_try(folder, tmp_path):
    command = ("fit", folder / "table.csv", "-o", tmp_path / "x.aevb", "--hidden", 8)
    result = run(*command, "--epochs", 50, "--learning-rate", 1e30, "--optimizer", "sgd")
    assert (result.code, result.out) == (1, "")
    assert "Error: Training diverged" in result.err
    assert "smaller `learning_rate`" in result.err


def test_encode_names_its_columns(folder, tmp_path):
    out = tmp_path / "latent.csv"
    run("encode", folder / "table.aevb", folder / "table.csv", "-o", out)
    assert list(pd.read_csv(out).columns) == ["vae0", "vae1"]


@pytest.mark.parametrize("command", ["reconstruct", "sample"])
def test_cases_have_the_columns_of_the_data(command, folder, tmp_path):
    out = tmp_path / "out.csv"
    data = [folder / "table.csv"] if command == "reconstruct" else []
    assert run(command, folder / "table.aevb", *data, "-o", out).code == 0
    assert list(pd.read_csv(out).columns) == ["a", "b", "c"]


def test_columns_of_another_name_are_refused(folder, tmp_path):
    write_rows(tmp_path / "other.csv", np.zeros((2, 3)), columns=["a", "b", "d"])
    said = refused(
        "encode", folder / "table.aevb", tmp_path / "other.csv", "-o", tmp_path / "z.csv"
    )
    assert "feature names" in said and "- d" in said and "- c" in said


def test_warnings_are_one_line(folder, tmp_path, recwarn):
    write_rows(tmp_path / "nameless.npy", np.zeros((2, 3)))
    result = run(
        "encode", folder / "table.aevb", tmp_path / "nameless.npy", "-o", tmp_path / "z.csv"
    )
    assert result.code == 0
    assert result.err == (
        "Warning: X does not have valid feature names, but VAE was fitted with feature names"
    )


def test_sample(folder, tmp_path):
    outs = {}
    for name, options in {
        "a": [],
        "b": [],
        "seeded": ["--seed", 5],
        "mean": ["--mean"],
    }.items():
        out = tmp_path / f"{name}.npy"
        assert run("sample", folder / "images.aevb", "-n", 6, *options, "-o", out).code == 0
        outs[name] = np.load(out)
        assert outs[name].shape == (6, 4, 4)
    vae = VAE.load(folder / "images.aevb")
    np.testing.assert_array_equal(outs["a"], outs["b"])
    np.testing.assert_array_equal(outs["seeded"], vae.sample(6, random_state=5))
    np.testing.assert_array_equal(outs["mean"], vae.sample(6, mean=True))
    assert set(np.unique(outs["a"])) <= {0, 1}


def test_evaluate_gray_levels(folder, tmp_path):
    scores = tmp_path / "scores.csv"
    model, data = folder / "images.aevb", folder / "images.npy"
    result = run("evaluate", model, data, *DRAWS, "-o", scores)
    assert result.code == 0
    vae = VAE.load(model)
    expected = {"elbo": vae.elbo(gray()), "log_likelihood": vae.log_likelihood(gray(), 5)}
    table = pd.read_csv(scores)
    assert list(table.columns) == list(expected)
    for name, label in {"elbo": "ELBO", "log_likelihood": "importance-sampled, 5 draws"}.items():
        values = expected[name]
        np.testing.assert_array_equal(table[name].to_numpy().astype(np.float32), values)
        error = values.std(ddof=1) / np.sqrt(40)
        assert f"{label} {values.mean():.2f} ± {error:.2f}" in result.out
    assert "Expected log-likelihood under stochastic binarisation (gray levels)" in result.out
    assert "nats per image 40 cases" in result.out
    assert "not comparable with binarised data" in result.out
    assert f"The numbers of each case are in {scores}" in result.out


@pytest.mark.parametrize(
    ("likelihood", "dtype", "values", "quantity", "note"),
    [
        (Bernoulli(), "float32", [0, 1], "Log-likelihood log p(x)", "The data are binary."),
        (Bernoulli(), "float32", [0, 0.5], "Expected log-likelihood under", "not comparable"),
        (Bernoulli(), "uint8", [0, 255], "Log-likelihood log p(x)", "The data are binary."),
        (Bernoulli(), "uint8", [0, 1], "Expected log-likelihood under", "not comparable"),
        (Bernoulli(), "bool", [False, True], "Log-likelihood log p(x)", "The data are binary."),
        (Gaussian(), "float32", [0, 1], "Log-density log p(x)", "depends on the units"),
    ],
)
def test_numbers_are_named_for_what_they_are(likelihood, dtype, values, quantity, note):
    vae = SimpleNamespace(likelihood_=likelihood, feature_dtype_=np.dtype(dtype))
    said = meaning(vae, np.array([values], dtype))
    assert said[0].startswith(quantity)
    assert note in said[1]


def test_evaluate_densities(folder):
    out = run("evaluate", folder / "table.aevb", folder / "table.csv", *DRAWS).out
    assert out.startswith("Log-density log p(x) nats per case 60 cases")
    assert out.endswith("A density depends on the units of the data.")


def test_evaluate_many_cases_in_parts_and_a_single_one(folder, tmp_path, monkeypatch):
    model, rows = folder / "table.aevb", read_rows(folder / "table.csv")
    monkeypatch.setattr("aevb.cli.commands._CHUNK", 7)
    out = tmp_path / "scores.npy"
    run("evaluate", model, folder / "table.csv", *DRAWS, "-o", out)
    vae = VAE.load(model)
    np.testing.assert_array_equal(
        np.load(out), np.column_stack([vae.elbo(rows), vae.log_likelihood(rows, 5)])
    )
    write_rows(tmp_path / "one.csv", rows[:1], columns=["a", "b", "c"])
    one = run("evaluate", model, tmp_path / "one.csv", *DRAWS)
    assert f"ELBO {vae.elbo(rows[:1])[0]:.2f} importance" in one.out  # no standard error of one


COMMANDS = {
    "fit": ["fit", "table.csv"],
    "encode": ["encode", "table.aevb", "table.csv"],
    "reconstruct": ["reconstruct", "table.aevb", "table.csv"],
    "sample": ["sample", "table.aevb"],
    "evaluate": ["evaluate", "table.aevb", "table.csv", *DRAWS],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_an_existing_output_needs_force(arguments, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    out = tmp_path / "out.npy"
    out.write_text("precious")
    fit = FIT if arguments[0] == "fit" else ()
    with monkeypatch.context() as patch:  # it is refused before anything is read
        patch.setattr("aevb.data.files.read_rows", None)
        patch.setattr(VAE, "load", None)
        said = refused(*arguments, "-o", out, *fit)
    assert f"{out} exists" in said and "--force" in said
    assert out.read_text() == "precious"
    assert run(*arguments, "-o", out, "--force", *fit).code == 0
    assert out.read_bytes() != b"precious"


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_output_into_a_folder_that_does_not_exist(arguments, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    said = refused(*arguments, "-o", tmp_path / "nowhere" / "x.npy")
    assert "Expected an existing folder" in said and "nowhere" in said


@pytest.mark.parametrize("command", ["encode", "reconstruct", "sample", "evaluate"])
def test_output_of_an_unknown_format(command, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    assert "ends in one of .npy" in refused(*COMMANDS[command], "-o", tmp_path / "x.xlsx")


@pytest.mark.parametrize("command", ["fit", "encode", "reconstruct", "sample"])
def test_output_is_required(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "Missing option" in refused(*COMMANDS[command], code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "table.csv", "-o", "new.aevb", "--hidden", "5a"], "whole numbers separated"),
        (["fit", "table.csv", "-o", "new.aevb", "--epochs", "few"], "valid integer"),
        (["fit", "table.csv", "-o", "new.aevb", "--epoch-number", "3"], "No such option"),
        (["fit", "-o", "new.aevb"], "Missing argument"),
        (["guess"], "No such command"),
    ],
)
def test_usage_errors(arguments, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert message in refused(*arguments, code=2)
    assert not (folder / "new.aevb").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--latent-dim", "0"], "integer of at least 1 for `latent_dim`; got 0"),
        (["--likelihood", "gausian"], "for `likelihood`; got 'gausian'. Did you mean 'gaussian'?"),
        (["--likelihood", "bernoulli"], "Expected values from 0 to 1 for likelihood 'bernoulli'"),
        (["--activation", "thanh"], "got 'thanh'. Did you mean 'tanh'?"),
        (["--optimizer", "adamaxx"], "got 'adamaxx'. Did you mean 'adamax'?"),
        (["--bound", "C"], "for `bound`; got 'C'"),
        (["--epochs", "0"], "for `epochs`; got 0"),
        (["--hidden", "5,0"], "for `hidden`; got 0"),
        (["--validation-fraction", "1.5"], "for `validation_fraction`; got 1.5"),
    ],
)
def test_parameters_that_do_not_fit(options, message, folder, tmp_path):
    model = tmp_path / "x.aevb"
    assert message in refused("fit", folder / "table.csv", "-o", model, *options)
    assert not model.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n3,\n", "NaN in 1 cell: rows [1], columns ['b']"),
        ("x.csv", "a,b\n1,cat\n2,dog\n", "got others in b (such as 'cat')"),
        ("x.csv", "a,b\n1,2\n", "minimum of 2 is required"),
        ("x.csv", "", "empty"),
        ("x.csv", "a,b\n1,2\n3\n", "got 1 in line 3"),
        ("x.npy", "no array", "Expected a NumPy file"),
        ("x.parquet", "no table", "Expected a Parquet file"),
        ("x.idx.gz", "no images", "Expected an IDX file"),
        ("x.xlsx", "a sheet", "ends in one of .npy, .npz, .csv"),
        ("x.csv", None, "none at "),
    ],
)
def test_data_that_do_not_fit(name, content, message, tmp_path):
    data, model = tmp_path / name, tmp_path / "x.aevb"
    if content is not None:
        data.write_text(content)
    assert message in refused("fit", data, "-o", model, *FIT)
    assert not model.exists()


@pytest.mark.parametrize("command", ["encode", "reconstruct", "evaluate"])
def test_data_of_another_shape_than_the_model_s(command, folder, tmp_path):
    out = tmp_path / "x.npy"
    write_rows(tmp_path / "narrow.npy", np.zeros((2, 3)))
    for data, model, message in [
        (tmp_path / "narrow.npy", "images.aevb", "X has 3 features, but VAE is expecting 16"),
        (folder / "images.npy", "table.aevb", "Expected cases of shape (n, 3) for `X`; got (40, 4"),
    ]:
        assert message in refused(command, folder / model, data, "-o", out)
        assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Expected a model file for `path`; there is none at"),
        (b"", "Expected a model file of aevb"),
        (b"something else, and long enough to be one", "Expected a model file of aevb"),
        ("truncated", "is damaged or of another kind"),
    ],
)
def test_files_that_are_no_models(content, message, folder, tmp_path):
    model = tmp_path / "x.aevb"
    if content is not None:
        whole = (folder / "table.aevb").read_bytes()
        model.write_bytes(whole[:-9] if content == "truncated" else content)
    out = tmp_path / "new.npy"
    assert message in refused("sample", model, "-o", out)
    assert not out.exists()


@pytest.mark.parametrize("number", [0, -3])
def test_a_number_of_samples_below_one(number, folder, tmp_path):
    said = refused("sample", folder / "table.aevb", "-n", number, "-o", tmp_path / "x.npy")
    assert f"`n_samples`; got {number}" in said


def test_an_internal_error_keeps_its_traceback(folder, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a defect of the package")

    monkeypatch.setattr(VAE, "sample", broken)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        run("sample", folder / "table.aevb", "-o", tmp_path / "x.npy")


def test_demo_leaves_model_and_pictures_and_may_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr("aevb.cli.demo.N_DRAWS", 20)
    folder = tmp_path / "a" / "demo"
    result = run("demo", "--output", folder, "--epochs", 2)
    assert result.code == 0
    for said in (
        "Expected log-likelihood under stochastic binarisation (gray levels)",
        "nats per image train (1437) test (360)",
        "importance-sampled, 20 draws -",
        "not comparable with binarised data",
        f"In {folder}: digits.aevb the model; loaded back, it predicts the same, bit by bit",
    ):
        assert said in result.out
    vae = VAE.load(folder / "digits.aevb")
    test = aevb.datasets.load_digits().test
    elbo = vae.elbo(test.images)
    assert f"{elbo.mean():.2f} ± {elbo.std(ddof=1) / np.sqrt(360):.2f} importance" in result.out
    assert vae.n_epochs_ == 2
    pictures = ["latent.png", "learning_curve.png", "manifold.png", "reconstructions.png"]
    assert sorted(path.name for path in folder.iterdir()) == ["digits.aevb", *pictures]
    for name in pictures:
        assert name in result.out
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert (folder / name).stat().st_size > 10_000

    (folder / "latent.png").write_text("old")
    (folder / "mine.txt").write_text("mine")
    assert run("demo", "--output", folder, "--epochs", 2).code == 0
    assert (folder / "latent.png").stat().st_size > 10_000
    assert (folder / "mine.txt").read_text() == "mine"


def test_demo_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delattr(aevb, "plotting", raising=False)
    monkeypatch.delitem(sys.modules, "aevb.plotting", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("aevb.cli.demo.N_DRAWS", 20)
    result = run("demo", "--output", tmp_path, "--epochs", 2)
    assert result.code == 0
    assert (
        'No pictures: Pictures need matplotlib, which is not installed: pip install "aevb[plot]"'
        in (result.out)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["digits.aevb"]


def test_demo_into_a_file_is_refused(tmp_path):
    (tmp_path / "demo").write_text("a file")
    assert "exists" in refused("demo", "--output", tmp_path / "demo").lower()
