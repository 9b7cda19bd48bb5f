"""The scripts of experiments/: their small pieces, and a tiny run of each on made-up images."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture
def script(monkeypatch):
    """Import a script as it is when it runs: with its own folder on the path."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module


def images(n, size=784, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, size)).astype(np.float32)


def test_results_are_kept_found_and_replaced(script, tmp_path):
    results = script("results")
    path = tmp_path / "new" / "some.json"
    kept = results.Results(path)
    kept.put({"method": "a", "settings": {"k": (1, 2)}}, [{"test": 1.0}, {"test": 2.0}])
    results.Results(path).put({"method": "b", "settings": {}}, [{"test": 3.0}])  # another process
    kept.put({"method": "a", "settings": {"k": (1, 2)}}, [{"test": 4.0}])
    again = results.Results(path)
    assert [row["test"] for row in again.rows] == [3.0, 4.0]
    assert again.where(settings={"k": (1, 2)}) == again.where(method="a") == again.rows[1:]
    assert again.where(method="c") == []
    assert json.loads(path.read_text())["machine"] == results.machine()


def test_results_of_two_machines_are_not_mixed(script, tmp_path, monkeypatch):
    results = script("results")
    kept = results.Results(tmp_path / "some.json")
    kept.put({"method": "a"}, [{"seconds": 1.0}])
    monkeypatch.setattr(results, "machine", lambda: "another")
    with pytest.raises(ValueError, match=r"one machine in some\.json"):
        kept.put({"method": "b"}, [{"seconds": 1.0}])
    assert len(results.Results(kept.path).rows) == 1


def test_tables_of_the_results_kept_go_into_the_readme(script, tmp_path, monkeypatch, capsys):
    results = script("results")
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- one:begin -->old<!-- one:end -->\nb\n")
    results.show(results.Results(tmp_path / "results" / "one.json"), "| x |", "| y |")
    assert readme.read_text() == (
        "a\n<!-- one:begin -->\n\n| x |\n\n| y |\n\n<!-- one:end -->\nb\n"
    )
    results.show(results.Results(tmp_path / "elsewhere" / "one.json"), "| z |")
    assert "z" not in readme.read_text()
    assert capsys.readouterr().out == "| x |\n\n| y |\n| z |\n"


def test_every_experiment_has_its_place_in_the_readme():
    readme = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for path in EXPERIMENTS.glob("*.py"):
        if "def main(" in path.read_text(encoding="utf-8"):
            assert f"`{path.name}`" in readme
            assert readme.count(f"<!-- {path.stem}:begin -->") == 1
            assert readme.count(f"<!-- {path.stem}:end -->") == 1


def test_optimizers_table_shows_when_the_mark_was_reached(script, tmp_path):
    optimizers, results = script("optimizers"), script("results").Results(tmp_path / "o.json")
    tests = [-120.0, -99.9, -98.0, -99.0]
    rows = [
        {"samples": 50_000 * n, "train": -90.0, "test": t, "seconds": 10 * n, "cpu_seconds": 9 * n}
        for n, t in enumerate(tests, start=1)
    ]
    results.put(optimizers.key_of(optimizers.Run("adam", 0.001, "paper"), 0), rows)
    diverged = [{"samples": 50_000, "diverged": True}]
    results.put(optimizers.key_of(optimizers.Run("adam", 9.0, "paper"), 0), diverged)
    lines = optimizers.table(results).splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells[:5] == ["Adam 0.001", "paper", "1e+05", "20", "18"]
    assert cells[5:] == ["-98.0", "1.5e+05", "8.0", "-99.0 at 2e+05"]
    assert lines[3].startswith("| Adam 9 | paper | – | – | – | diverged")


def test_importance_weighted_schedule_is_the_published_one(script):
    iw = script("importance_weighted")
    assert iw.passes(iw.STAGES) == 3280
    schedule = iw.schedule(3000)
    for i in range(8):
        for step in (3000 * iw.passes(i), 3000 * iw.passes(i + 1) - 1):
            np.testing.assert_allclose(schedule(step), 1e-3 * 10 ** (-i / 7), rtol=1e-5)


def test_every_visit_draws_the_pixels_anew(script):
    iw = script("importance_weighted")
    seen = []

    def record(model, batch, key, state):
        seen.append(np.asarray(batch.x))
        return 0.0, {}, state

    gray = np.tile(np.float32([0.0, 0.25, 0.5, 1.0]), (4000, 1))
    batch = SimpleNamespace(x=gray, _replace=lambda x: SimpleNamespace(x=x))
    for seed in range(2):
        iw.Binarised(record)(None, batch, jax.random.key(seed), None)
    first, second = seen
    assert set(np.unique(first)) == {0.0, 1.0}
    np.testing.assert_allclose(first.mean(axis=0), [0, 0.25, 0.5, 1], atol=0.04)
    agree = (first == second).mean(axis=0)
    np.testing.assert_allclose(agree, [1, 0.625, 0.5, 1], atol=0.04)  # p² + (1 − p)²


# From here on, whole scripts: each compiles a few loops.


@pytest.fixture
def few(script, monkeypatch):
    """Put made-up rows in the place of `paper.load`, in the script of that name."""

    def load(name):
        size = 784 if name == "mnist" else 560
        data = images(150, size), images(20, size, seed=1)
        return script("paper").Data(*data, hidden=4, gaussian=name == "frey")

    def prepare(name):
        module = script(name)
        monkeypatch.setattr(module, "load", load)
        return module

    return prepare


def tables_of(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


@pytest.mark.slow
def test_optimizers_run_and_go_on_where_they_were(few, tmp_path, monkeypatch, capsys):
    optimizers = few("optimizers")
    runs = [("VAE", None, "package", 2), ("adam", 0.01, "paper"), ("adagrad", 0.1, "paper")]
    monkeypatch.setattr(optimizers, "RUNS", [optimizers.Run(*run) for run in runs])
    path = tmp_path / "o.json"
    arguments = ["--samples", "300", "--results", str(path)]
    optimizers.main(arguments)
    rows = json.loads(path.read_text())["rows"]
    assert [row["samples"] for row in rows] == [150, 300] * 3
    assert all(np.isfinite([row["train"], row["test"]]).all() for row in rows)
    assert path.with_suffix(".png").exists()
    assert len(tables_of(capsys)) == 6
    monkeypatch.setattr(optimizers, "curve", None)  # nothing is left to run
    optimizers.main(arguments)
    optimizers.main([*arguments, "--draw"])


@pytest.mark.slow
def test_importance_weighted_runs(script, tmp_path, monkeypatch, capsys):
    iw = script("importance_weighted")
    binary = (images(30, seed=1) > 0.5).astype(np.float32)
    monkeypatch.setattr(iw, "load", lambda: (images(60), binary))
    path = tmp_path / "iw.json"
    arguments = ["--stages", "2", "--draws", "30", "--test-rows", "20", "--results", str(path)]
    iw.main([*arguments, "--only", "VAE-1", "IWAE-5", "DReG-5"])
    rows = json.loads(path.read_text())["rows"]
    assert [row["passes"] for row in rows] == [4, 4, 4]
    assert all(row["test"] < 0 and 0 <= row["active_units"] <= 50 for row in rows)
    assert path.with_suffix(".png").exists()
    assert len(tables_of(capsys)) == 5


@pytest.mark.slow
def test_figures_4_and_5_run_and_draw_again(few, tmp_path, monkeypatch, capsys):
    figures = few("figures4_5")
    path = tmp_path / "f.json"
    arguments = ["--samples", "150", "--results", str(path), "--only", "frey-2", "mnist-5"]
    figures.main(arguments)
    monkeypatch.setattr(figures, "train", None)
    figures.main(arguments)
    figures.main(["--results", str(path), "--draw"])
    assert len(json.loads(path.read_text())["rows"]) == 2
    assert (tmp_path / "f-manifolds.png").exists()
    assert (tmp_path / "f-samples.png").exists()
    assert len(tables_of(capsys)) == 3 * 4


@pytest.mark.slow
def test_estimators_run(few, tmp_path, monkeypatch, capsys):
    estimators = few("estimators")
    monkeypatch.setattr(estimators, "MARKS", (0, 150))
    path = tmp_path / "e.json"
    arguments = ["--samples", "300", "--results", str(path), "--n-z", "3", "--repeats", "5"]
    estimators.main([*arguments, "--seeds", "0"])
    rows = json.loads(path.read_text())["rows"]
    curves = [(row["method"], row["samples"]) for row in rows if "test" in row]
    assert curves == [("B", 150), ("B", 300), ("A", 150), ("A", 300)]
    noise = [row for row in rows if "variance" in row]
    assert {row["group"] for row in noise} == {"encoder", "decoder", "all"}
    assert len(noise) == 2 * len(estimators.CANDIDATES) * 3
    assert path.with_suffix(".png").exists()
    assert len(tables_of(capsys)) == 3 + 4


@pytest.mark.slow
def test_figure_2_runs_with_the_step_that_its_trial_chooses(few, tmp_path, monkeypatch):
    figure2 = few("figure2")
    monkeypatch.setattr(figure2, "TRIAL", 10_000)
    monkeypatch.setattr(figure2, "STEPS", (1e-6, 0.05))
    path = tmp_path / "figure2.json"
    arguments = ["--samples", "15000", "--results", str(path)]
    figure2.main(["--only", "frey", "--n-z", "2", *arguments])
    rows = json.loads(path.read_text())["rows"]
    assert [row["samples"] for row in rows] == [10_050, 15_000] * 2
    assert {row["settings"]["adagrad_step"] for row in rows} == {0.05}
    assert all(np.isfinite([row["train"], row["test"]]).all() for row in rows)
    assert path.with_suffix(".png").exists()
    monkeypatch.setattr(figure2, "run", None)  # nothing is left to run
    figure2.main(["--only", "frey", "--n-z", "2", *arguments])


def test_figure_2_table_lies_beside_the_paper(script):
    figure2 = script("figure2")
    row = {"dataset": "mnist", "method": "AEVB", "n_z": 20, "train": -104.0, "test": -104.3}
    *_, line = figure2.table([{**row, "samples": s} for s in (5e6, 1e7)]).splitlines()
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        *("mnist", "20", "AEVB", "1e+07", "-104.3", "-104.8", "+0.5", "-104.0")
    ]
