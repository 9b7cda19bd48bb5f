"""The small pieces of the scripts of experiments/: results on disk, the paper's setting, tables."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy import stats

import aevb

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


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


def test_rows_of_a_gpu_are_shown_beside_those_of_the_cpu(script, tmp_path, monkeypatch):
    results, figure2 = script("results"), script("figure2")
    settings = {"adagrad_step": 0.01}
    key = {"dataset": "mnist", "method": "AEVB", "n_z": 3, "seed": 0, "settings": settings}
    row = {"samples": 10**6, "train": -160.0, "test": -161.0, "seconds": 42.0}
    own = results.Results(tmp_path / "figure2.json")
    own.put(key, [row])
    assert own.together().machine == results.machine()
    assert results.line_of(own.rows[0], own.together().rows) == {}
    other = "Linux x86_64, Some GPU, JAX 1"
    monkeypatch.setattr(results, "machine", lambda: other)
    gpu = results.Results(tmp_path / "figure2-gpu.json")
    gpu.put(key, [row, {**row, "samples": 10**7}])
    assert len(own.rows) == 1
    for one in (own, gpu):
        both = one.together()
        assert both.path == own.path
        assert [results.device_of(row) for row in both.rows[1:]] == ["Some GPU"] * 2
        assert both.machine == f"{own.machine}; {other}"
    of_cpu, of_gpu = (results.line_of(row, both.rows) for row in both.rows[:2])
    assert of_cpu != of_gpu == {}
    lines = figure2.table(both, "mnist").splitlines()[4:]
    assert [line.split("|")[-2].strip() for line in lines][1:] == ["Some GPU"] * 2
    figure2.draw(both)
    assert (tmp_path / "figure2.png").exists()


def test_tables_of_the_results_kept_go_into_the_readme(script, tmp_path, monkeypatch, capsys):
    results = script("results")
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- one:begin -->old<!-- one:end -->\nb\n")
    results.show(results.Results(tmp_path / "results" / "one.json"), "| x |", "| y |")
    text = "| x |\n\n| y |\n\nMeasured on: None."
    assert readme.read_text() == f"a\n<!-- one:begin -->\n\n{text}\n\n<!-- one:end -->\nb\n"
    assert capsys.readouterr().out == f"{text}\n"
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one-more.png").touch()
    results.show(results.Results(tmp_path / "results" / "one.json"), "| x |")
    picture = "![one-more](results/one-more.png)"
    assert f"None.\n\n{picture}\n\n<!-- one:end -->" in readme.read_text()
    results.show(results.Results(tmp_path / "elsewhere" / "one.json"), "| z |")
    assert "z" not in readme.read_text()
    monkeypatch.chdir(tmp_path)
    results.show(results.Results(Path("results/one.json")), "| w |")  # a relative path is the same
    assert "| w |" in readme.read_text()


def test_every_experiment_has_its_place_in_the_readme():
    readme = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for path in EXPERIMENTS.glob("*.py"):
        if "def main(" in path.read_text(encoding="utf-8"):
            assert f"`{path.name}`" in readme
            assert readme.count(f"<!-- {path.stem}:begin -->") == 1
            assert readme.count(f"<!-- {path.stem}:end -->") == 1


class Training:
    """Stand in for a training: epochs of one second, until one diverges."""

    def __init__(self, diverges_at=99):
        self.epochs, self.diverges_at = 0, diverges_at

    def __call__(self, epochs, callback):
        for number in range(1, epochs + 1):
            if number == self.diverges_at:
                raise aevb.TrainingDiverged("It diverged.", number, "elbo")
            self.epochs = number
            callback(SimpleNamespace(number=number, history={"seconds": [1.0] * number}))


def test_a_run_that_is_stopped_keeps_its_rows_and_measures_the_rest(script, tmp_path):
    results = script("results")
    kept, key, stop = results.Results(tmp_path / "r.json"), {"method": "a"}, 4
    measured = []

    def measure(epoch):
        if epoch.number == stop:
            raise KeyboardInterrupt
        measured.append(epoch.number)
        return {"test": -epoch.number}

    marks = [results.reached(samples, 10) for samples in (5, 21, 40, 60)]
    assert marks == [10, 30, 40, 60]
    with pytest.raises(KeyboardInterrupt):
        results.follow(kept, key, marks, 10, measure, Training())
    assert [row["samples"] for row in results.Results(kept.path).rows] == [10, 30]
    stop, training = None, Training()
    results.follow(results.Results(kept.path), key, marks, 10, measure, training)
    assert measured == [1, 3, 4, 6]
    assert training.epochs == 6
    rows = results.Results(kept.path).rows
    fields = ("method", "samples", "test", "seconds")
    assert [tuple(row[name] for name in fields) for row in rows] == [
        *(("a", 10, -1, 1.0), ("a", 30, -3, 3.0), ("a", 40, -4, 4.0), ("a", 60, -6, 6.0))
    ]
    results.follow(results.Results(kept.path), key, marks, 10, None, None)  # nothing is left


def test_a_run_that_diverges_says_so_and_is_not_tried_again(script, tmp_path, capsys):
    results = script("results")
    kept = results.Results(tmp_path / "r.json")
    results.follow(kept, {"method": "a"}, [10, 50], 10, lambda epoch: {"test": 0}, Training(3))
    assert [row["samples"] for row in kept.rows] == [10, 30]
    expected = {"method": "a", "samples": 30, "diverged": True, "machine": results.machine()}
    assert kept.rows[1] == expected
    results.follow(kept, {"method": "a"}, [10, 50], 10, None, None)


def test_the_step_is_the_kept_one_or_the_one_wanted_or_the_best(script, capsys):
    paper = script("paper")
    kept = [{"settings": {"adagrad_step": 0.02}}]
    assert paper.step_for(kept, None, None) == paper.step_for(kept, 0.02, None) == 0.02
    with pytest.raises(ValueError, match=r"--step 0\.02.*got 0\.1\. Give another file"):
        paper.step_for(kept, 0.1, None)
    assert paper.step_for([], 0.3, None) == 0.3
    assert paper.step_for([], None, {0.01: -3.0, 0.02: -2.0, 0.1: np.nan}.get) == 0.02

    def trial(step):
        if step != 0.01:
            raise aevb.TrainingDiverged("It diverged.", 1, "elbo")
        return -1e9

    assert paper.step_for([], None, trial) == 0.01


def test_adagrad_is_the_first_authors(script):
    paper, rng = script("paper"), np.random.default_rng(0)
    optimizer = paper.adagrad(0.1, batch=20)
    gradients = rng.normal(size=(104, 3)).astype(np.float32)
    state, total = optimizer.init(jax.numpy.zeros(3)), np.zeros(3)
    update = jax.jit(optimizer.update)
    for i, gradient in enumerate(gradients):  # of means over 20 rows
        step, state = update(gradient, state)
        total += (20 * gradient) ** 2
        expected = -0.1 * 20 * gradient / np.sqrt(total) if i >= 100 else np.zeros(3)
        np.testing.assert_allclose(step, expected, rtol=1e-4)


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_papers_model_starts_as_it_says(script, gaussian, images):
    paper = script("paper")
    data = paper.Data(images(2), images(1), hidden=300, gaussian=gaussian)
    model = paper.PaperVAE.start(data, 40, seed=1)
    shapes = {"W3": (300, 784), "W4": (80, 300), "W1": (300, 40), "W2": (784 * (1 + gaussian), 300)}
    for name, shape in shapes.items():
        weights, bias = np.asarray(getattr(model, name)), getattr(model, name.replace("W", "b"))
        assert weights.shape == shape
        assert bias.shape == shape[:1]
        assert not bias.any()
        drawn = weights[:40] if name == "W4" else weights
        error = 0.01 / np.sqrt(drawn.size)
        assert abs(drawn.mean()) < 4 * error
        assert abs(drawn.std() - 0.01) < 4 * error
    assert not model.W4[40:].any()
    np.testing.assert_array_equal(model.posterior(data.train[0]).base_dist.scale, np.ones(40))
    other = paper.PaperVAE.start(data, 40, seed=2)
    assert (model.W1 != other.W1).all()


@pytest.mark.usefixtures("real_data")
def test_the_papers_data_are_split_and_scaled_as_it_says(script):
    paper = script("paper")
    mnist, frey = paper.load("mnist"), paper.load("frey")
    assert mnist.train.shape == (50_000, 784)
    assert mnist.test.shape == (10_000, 784)
    assert (mnist.hidden, mnist.gaussian, mnist.train.max()) == (500, False, 1.0)
    raw = aevb.datasets.load_mnist()[1].images[7].reshape(-1)
    np.testing.assert_allclose(mnist.test[7] * 255, raw, rtol=1e-6)
    assert (frey.train.shape, frey.test.shape) == ((1600, 560), (365, 560))
    assert (frey.hidden, frey.gaussian) == (200, True)
    levels = aevb.datasets.load_frey_faces()[1].images.reshape(-1, 560)
    np.testing.assert_array_equal(frey.test * 256, levels)


def test_optimizers_choose_by_training_bounds_and_show_when_the_mark_was_reached(script, tmp_path):
    optimizers, results = script("optimizers"), script("results").Results(tmp_path / "o.json")

    def put(step, tests, train):
        rows = [
            {"samples": n * 500_000, "test": test, "seconds": 1000 * n, "cpu_seconds": 9 * n}
            for n, test in enumerate(tests, start=1)
        ]
        rows[1]["train"] = train
        results.put(optimizers.key_of(optimizers.Run("adam", step, "paper"), 0), rows)

    put(0.001, [-120.0, -101.0, -99.9, -99.0], -98.5)
    put(0.002, [-110.0, -98.0, -97.0, -97.5], -98.6)  # better on test data, which choose nothing
    diverged = [{"samples": 50_000, "diverged": True}]
    results.put(optimizers.key_of(optimizers.Run("adam", 9.0, "paper"), 0), diverged)
    lines = optimizers.table(results).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0][:5] == ["Adam 0.001", "paper", "0", "-98.5", "yes"]
    assert cells[0][5:] == ["1,500,000", "3,000", "27", "-99.0 at 2,000,000"]
    assert cells[1][3:6] == ["-98.6", "", "1,000,000"]
    assert cells[2][3:] == ["–", "", "–", "–", "–", "diverged"]
    assert {len(line) for line in cells} == {9}


def test_figure_3_draws_from_a_mixture_of_the_shares_it_says(script, line):
    model, x, z = line(), np.float32([0.2, 1.0, -1.0]), np.float32([0.3])
    wide = script("figure3").Wide(model)
    seen = np.ones(1, np.float32), np.full((1, 1), 0.5, np.float32)
    log_prob = jax.jit(lambda x, z: wide.posterior(x, seen).log_prob(z))(x, z)
    parts = [
        stats.t(5, 1.0, 0.5).pdf(0.3),
        stats.norm((model.encoder @ x).item(), 0.7).pdf(0.3),
        stats.norm.pdf(0.3),
    ]
    np.testing.assert_allclose(log_prob, np.log(np.dot([0.5, 0.25, 0.25], parts)), rtol=1e-4)


def test_figure_3_counts_a_row_once_for_each_update(script, images):
    figure3 = script("figure3")
    data = script("paper").Data(images(120), images(1), hidden=4, gaussian=False)
    counts = {method: figure3.samples_per_epoch(data, method) for method in figure3.METHODS}
    assert counts == {"AEVB": 120, "wake-sleep": 120, "MCEM": 600}


@pytest.mark.slow
def test_likelihoods_and_active_units_of_the_importance_weighted_table(script, linear_gaussian):
    iw = script("importance_weighted")
    model = linear_gaussian.random(5, 3, seed=1, orthogonal=True).with_best_posterior()
    X = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    model = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model)
    nats = iw.log_likelihood(model, X, 10)  # exact, as q is the posterior
    np.testing.assert_allclose(nats, jax.jit(jax.vmap(model.log_evidence))(X), rtol=1e-4)
    # Latents whose means vary by 4 and 0.04 are active; by 0.004, or not at all, they are not.
    spread = np.sqrt([4, 0.04, 0.004, 0.0])
    rows = np.random.default_rng(1).normal(size=(1000, 4))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    encoder = linear_gaussian(*(np.zeros((4, 4)), np.zeros(4), 1.0, np.diag(spread), np.ones(4)))
    assert iw.active_units(encoder, rows.astype(np.float32)) == 2


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


def test_figure_2_table_lies_beside_the_paper(script, tmp_path):
    figure2, results = script("figure2"), script("results").Results(tmp_path / "r.json")
    key = {"dataset": "mnist", "method": "AEVB", "n_z": 20, "settings": {"adagrad_step": 0.01}}
    measured = {"train": -104.0, "test": -104.3, "seconds": 1234.5}
    for seed in (0, 1):
        rows = [{"samples": samples, **measured} for samples in (5_000_000, 10_000_000)]
        results.put({**key, "seed": seed}, rows)
    results.put({**key, "seed": 2, "samples": 10_000_000}, [{"diverged": True}])
    *_, first, second = figure2.table(results, "mnist").splitlines()
    device = script("results").device_of(results.rows[0])
    for seed, line in enumerate((first, second)):
        assert [cell.strip() for cell in line.split("|")[1:-1]] == [
            *("20", "AEVB", "1e+07", "0.01", str(seed), "-104.3", "-104.8", "+0.5"),
            *("-104.0", "-104.2", "+0.2", "1,234", device),
        ]
    assert figure2.table(results, "frey") == ""
