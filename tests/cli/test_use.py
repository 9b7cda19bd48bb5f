"""`aevb encode`, `reconstruct`, `sample` and `evaluate`, against the estimator's own methods."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from aevb import VAE, Bernoulli, Gaussian
from aevb.cli.report import meaning
from aevb.data.files import read_rows, write_rows
from aevb.schema import Schema

DRAWS = ("--n-draws", "5")


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv", ".parquet", ".idx", ".idx.gz"])
def test_every_format_goes_in_and_comes_out(run, fit, ending, tmp_path):
    data, model = tmp_path / f"data{ending}", tmp_path / "model.aevb"
    write_rows(data, np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
    assert fit(data, model).code == 0
    vae, rows = VAE.load(model), read_rows(data)
    for command, expected in {
        "encode": vae.transform(rows),
        "reconstruct": vae.reconstruct(rows),
    }.items():
        out = tmp_path / f"{command}{ending}"
        assert run(command, model, data, "-o", out) == (0, "", "")
        np.testing.assert_array_equal(
            np.asarray(read_rows(out)).astype(expected.dtype), expected, strict=True
        )


def test_a_folder_beyond_memory_is_fitted_and_encoded(run, fit, tmp_path, monkeypatch):
    monkeypatch.setattr("aevb.data.sources.IN_MEMORY", 0)
    (tmp_path / "in").mkdir()
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(600, 3)), columns=list("abc"))
    for k in range(3):
        part = table[k * 200 : (k + 1) * 200]
        part.to_parquet(tmp_path / "in" / f"{k}.parquet", row_group_size=70)
    model, out = tmp_path / "model.aevb", tmp_path / "z.parquet"
    done = fit(tmp_path / "in", model)
    assert done.code == 0 and "600 cases of 3 values" in done.out
    assert run("encode", model, tmp_path / "in", "-o", out) == (0, "", "")
    vae = VAE.load(model)
    written = pd.read_parquet(out)
    assert [*written.columns] == [*vae.get_feature_names_out()]
    np.testing.assert_array_equal(written.to_numpy(), vae.transform(table))
    assert run("reconstruct", model, tmp_path / "in", "-o", tmp_path / "x.csv").code == 0
    assert [*pd.read_csv(tmp_path / "x.csv").columns] == list("abc")


def test_encode_names_its_columns(run, folder, tmp_path):
    out = tmp_path / "latent.csv"
    run("encode", folder / "table.aevb", folder / "table.csv", "-o", out)
    assert list(pd.read_csv(out).columns) == ["vae0", "vae1"]


@pytest.mark.parametrize("command", ["reconstruct", "sample"])
def test_cases_have_the_columns_of_the_data(run, command, folder, tmp_path):
    out = tmp_path / "out.csv"
    data = [folder / "table.csv"] if command == "reconstruct" else []
    assert run(command, folder / "table.aevb", *data, "-o", out).code == 0
    assert list(pd.read_csv(out).columns) == ["a", "b", "c"]


def test_columns_of_another_name_are_refused(refused, folder, tmp_path):
    write_rows(tmp_path / "other.csv", np.zeros((2, 3)), columns=["a", "b", "d"])
    said = refused(
        "encode", folder / "table.aevb", tmp_path / "other.csv", "-o", tmp_path / "z.csv"
    )
    assert "feature names" in said and "- d" in said and "- c" in said


def test_warnings_are_one_line(run, folder, tmp_path, recwarn):
    write_rows(tmp_path / "nameless.npy", np.zeros((2, 3)))
    result = run(
        "encode", folder / "table.aevb", tmp_path / "nameless.npy", "-o", tmp_path / "z.csv"
    )
    assert result.code == 0
    assert result.err == (
        "Warning: X does not have valid feature names, but VAE was fitted with feature names"
    )


def test_sample(run, folder, tmp_path):
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


def test_sample_from_the_aggregate_posterior(fit, run, refused, folder, tmp_path):
    model, out = tmp_path / "model.aevb", tmp_path / "new.csv"
    said = refused("sample", folder / "table.aevb", "--from", "posterior", "-o", out)
    assert "fit_aggregate_posterior" in said
    assert fit(folder / "table.csv", model, "--aggregate-posterior", "mixture").code == 0
    assert run("sample", model, "-n", 5, "--from", "posterior", "-o", out).code == 0
    expected = VAE.load(model).sample(5, from_="posterior")
    pd.testing.assert_frame_equal(pd.read_csv(out), expected, check_dtype=False)
    wrong = ("--aggregate-posterior", "kde", "-o", model, "--force")
    assert "--aggregate-posterior" in refused("fit", folder / "table.csv", *wrong)


def test_evaluate_gray_levels(run, folder, tmp_path):
    scores = tmp_path / "scores.csv"
    model, data = folder / "images.aevb", folder / "images.npy"
    result = run("evaluate", model, data, *DRAWS, "-o", scores)
    assert result.code == 0
    vae, images = VAE.load(model), read_rows(data)
    expected = {"elbo": vae.elbo(images), "log_likelihood": vae.log_likelihood(images, 5)}
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
    schema = Schema.fit(np.zeros((2, 2), dtype), likelihood)
    vae = SimpleNamespace(likelihood_=likelihood, schema_=schema)
    said = meaning(vae, np.array([values], dtype))
    assert said[0].startswith(quantity)
    assert note in said[1]


def test_evaluate_densities(run, folder):
    out = run("evaluate", folder / "table.aevb", folder / "table.csv", *DRAWS).out
    assert out.startswith("Log-density log p(x) nats per case 60 cases")
    assert out.endswith("A density depends on the units of the data.")


def test_evaluate_many_cases_in_parts_and_a_single_one(run, folder, tmp_path, monkeypatch):
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


def test_diagnose_prints_the_report(run, folder):
    said = run("diagnose", folder / "table.aevb", folder / "table.csv", "--n-draws", 5)
    vae, rows = VAE.load(folder / "table.aevb"), read_rows(folder / "table.csv")
    report = vae.diagnose(rows, n_draws=5, random_state=0)
    assert said == (0, " ".join(re.sub("[│╭╮╰╯─]", " ", str(report)).split()), "")


def test_diagnose_refuses_the_training_rows(refused, folder):
    data = folder / "table.csv"
    assert "held-out" in refused("diagnose", folder / "table.aevb", data, "--train", data)


def test_export(run, refused, folder, tmp_path):
    import jax

    path = tmp_path / "bound.stablehlo"
    model, options = folder / "images.aevb", ("--what", "elbo", "--n-draws", 3)
    assert run("export", model, path, *options) == (0, "", "")
    function = jax.export.deserialize(bytearray(path.read_bytes()))
    assert function.call(np.zeros((5, 4, 4), np.float32))["elbo"].shape == (5,)
    assert "--force" in refused("export", model, path)
    assert run("export", model, path, "--force").code == 0
    assert "reconstruct" in refused("export", model, tmp_path / "it.onnx", "--what", "impute")
