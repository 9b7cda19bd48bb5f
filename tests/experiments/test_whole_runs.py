"""A tiny run of each script on made-up images; figure 3's estimators where log p(x) is known."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow


def tables_of(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


def test_importance_sampling_of_figure_3_knows_the_evidence(script, linear_gaussian, monkeypatch):
    figure3 = script("figure3")
    monkeypatch.setattr(figure3, "CHAIN", {"n_draws": 100, "n_starts": 20})
    model = linear_gaussian.random(5, 3, seed=3)
    model = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model)
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    exact = float(jax.jit(jax.vmap(model.log_evidence))(X).mean())
    assert abs(figure3.log_p_importance(model, X) - exact) < 0.01
    assert abs(figure3.log_p(model, X) - exact) < 0.06


def test_optimizers_run_and_go_on_where_they_were(few, tmp_path, monkeypatch, capsys):
    optimizers = few("optimizers")
    runs = [("VAE", None, "package", 2), ("adagrad", 0.1, "paper")]
    runs += [("adam", step, "paper") for step in (1e-9, 0.01)]
    monkeypatch.setattr(optimizers, "RUNS", [optimizers.Run(*run) for run in runs])
    monkeypatch.setattr(optimizers, "TRIAL", 150)
    path = tmp_path / "o.json"
    arguments = ["--samples", "300", "--results", str(path)]
    optimizers.main(arguments)
    rows = json.loads(path.read_text())["rows"]
    runs = [(row["method"], row["settings"]["step"], row["samples"]) for row in rows]
    assert runs == [
        *(("VAE defaults", None, 150), ("VAE defaults", None, 300)),
        *(("adagrad", 0.1, 150), ("adam", 1e-9, 150), ("adam", 0.01, 150)),
        *(("adagrad", 0.1, 300), ("adam", 0.01, 300)),  # the better step alone goes on
    ]
    assert all(np.isfinite([row["train"], row["test"]]).all() for row in rows)
    assert path.with_suffix(".png").exists()
    assert len(tables_of(capsys)) == 7
    monkeypatch.setattr(optimizers, "train", None)  # nothing is left to run
    optimizers.main(arguments)
    optimizers.main([*arguments, "--draw"])


def test_importance_weighted_runs(script, tmp_path, monkeypatch, capsys, images):
    iw = script("importance_weighted")
    binary = (images(30, seed=1) > 0.5).astype(np.float32)
    monkeypatch.setattr(iw, "load", lambda: (images(60), binary))
    path = tmp_path / "iw.json"
    arguments = ["--stages", "2", "--draws", "30", "--test-rows", "20", "--results", str(path)]
    iw.main([*arguments, "--only", "VAE-1", "IWAE-5", "DReG-5"])
    rows = json.loads(path.read_text())["rows"]
    assert [row["passes"] for row in rows] == [4, 4, 4]
    assert all(np.isfinite([row["train_bound"], row["test"], row["test_se"]]).all() for row in rows)
    assert path.with_suffix(".png").exists()
    assert len(tables_of(capsys)) == 5


def test_figures_4_and_5_run_and_draw_again(few, tmp_path, monkeypatch, capsys):
    figures = few("figures4_5")
    path = tmp_path / "f.json"
    arguments = ["--samples", "150", "--results", str(path), "--only", "frey-2", "mnist-5"]
    figures.main(arguments)
    monkeypatch.setattr(figures, "train", None)
    figures.main(arguments)
    figures.main(["--results", str(path), "--draw"])
    figures.main(["--results", str(path), "--draw", "--seed", "1"])  # whose models are others
    assert "No models of seed 1 beside f.json" in capsys.readouterr().out
    assert len(json.loads(path.read_text())["rows"]) == 2
    assert (tmp_path / "f-manifolds.png").exists()
    assert (tmp_path / "f-samples.png").exists()


def test_estimators_run(few, tmp_path, monkeypatch, capsys):
    estimators = few("estimators")
    monkeypatch.setattr(estimators, "MARKS", (0, 150))
    path = tmp_path / "e.json"
    arguments = ["--samples", "300", "--results", str(path), "--n-z", "3", "--repeats", "5"]
    estimators.main([*arguments, "--seeds", "0"])
    rows = json.loads(path.read_text())["rows"]
    curves = [(row["method"], row["samples"]) for row in rows if "test" in row]
    assert curves == [("B", 150), ("B", 300), ("A", 150), ("A", 300)]
    noise = [row for row in rows if row["of"] == "gradients"]
    assert {row["group"] for row in noise} == {"encoder", "decoder", "all"}
    assert len(noise) == 2 * len(estimators.CANDIDATES) * 3
    assert path.with_suffix(".png").exists()
    assert len(tables_of(capsys)) == 3 + 4


def test_figure_2_runs_with_the_step_that_its_trial_chooses(few, script, tmp_path, monkeypatch):
    figure2 = few("figure2")
    monkeypatch.setattr(script("paper"), "STEPS", (1e-6, 0.05))
    monkeypatch.setattr(figure2, "TRIAL", 150)
    path = tmp_path / "figure2.json"
    arguments = ["--only", "frey", "--n-z", "2", "--samples", "15000", "--results", str(path)]
    figure2.main(arguments)
    rows = json.loads(path.read_text())["rows"]
    assert [row["samples"] for row in rows] == [10_050, 15_000] * 2
    assert {row["settings"]["adagrad_step"] for row in rows} == {0.05}
    assert all(np.isfinite([row["train"], row["test"]]).all() for row in rows)
    assert path.with_suffix(".png").exists()
    monkeypatch.setattr(figure2, "train", None)  # nothing is left to run
    figure2.main(arguments)


def test_figure_3_goes_on_after_a_stop_to_the_same_numbers(few, script, tmp_path, monkeypatch):
    figure3 = few("figure3")
    small = {"HIDDEN": 4, "CHAIN": {"n_draws": 16, "n_burn_in": 8, "n_starts": 4}, "TRIAL": 2}
    small |= {"MARKS": (750, 1500), "N_EVALUATED": 20, "N_TRIAL": 20}
    for name, value in small.items():
        monkeypatch.setattr(figure3, name, value)
    monkeypatch.setattr(script("paper"), "STEPS", (0.1,))  # tried, although there is no other
    whole, stopped = tmp_path / "whole.json", tmp_path / "stopped.json"

    def run(path):
        options = ["--methods", "AEVB", "MCEM", "--n-train", "1000", "--samples", "1500"]
        figure3.main([*options, "--results", str(path)])
        return json.loads(path.read_text())["rows"]

    def stop(model, X):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(figure3, "log_p_importance", stop)
        with pytest.raises(KeyboardInterrupt):
            run(stopped)
    rows = json.loads(stopped.read_text())["rows"]
    assert [(row["method"], row["samples"]) for row in rows] == [("AEVB", 750)]
    rows, expected = run(stopped), run(whole)
    there = [(method, samples) for method in ("AEVB", "MCEM") for samples in (750, 1500)]
    assert [(row["method"], row["samples"]) for row in rows] == there
    for one, other in zip(rows, expected, strict=True):
        for name in ("train", "test", "train_importance", "test_importance"):
            assert one.get(name) == other.get(name)
    assert all(np.isfinite([row["train"], row["test"]]).all() for row in rows)
    assert [row["n_train"] for row in rows] == [150] * 4
    assert stopped.with_suffix(".png").exists()
