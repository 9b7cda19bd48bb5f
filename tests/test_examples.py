"""The scripts of examples/ run, and reach what they say, with shorter settings."""

import runpy
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # each trains for ten seconds or so

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, **settings):
    return list(runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**settings).values())


def test_every_example_is_tested():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_probabilistic_pca():
    found, best, _ = run("probabilistic_pca", epochs=1000)
    assert best - 0.01 < found < best + 0.01


def test_two_layers():
    log_likelihood, iw_bound, elbo, independent = run("two_layers", epochs=30)
    assert independent + 3 < elbo < iw_bound < log_likelihood


def test_gaussian_mixture():
    found, by_em, single, agreement, _ = run("gaussian_mixture", epochs=400)
    assert single + 2 < found < by_em + 0.01
    assert agreement > 0.8


def test_gamma_factors():
    log_likelihood, elbo, independent, _ = run("gamma_factors", epochs=60)
    assert independent + 10 < elbo < log_likelihood


def test_dirichlet_topics():
    worst, _, elbo, first = run("dirichlet_topics", epochs=300)
    assert worst < 0.2
    assert elbo > first + 20


def test_radon():
    full, independent, mean_field = np.reshape(run("radon", epochs=2000), (3, 4))
    np.testing.assert_allclose(full, 1.0, atol=0.1)
    assert (independent > 0.85).all()
    assert mean_field[0] < 0.8 and mean_field[3] < 0.75  # g and log t, which the a_j depend on


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_logistic_regression():
    error, narrower, accuracy, averaged, *_ = run("logistic_regression", epochs=400)
    assert error < 0.5
    assert 0.4 < narrower < 1.1  # a diagonal posterior is too narrow where columns correlate
    assert accuracy > 0.9
    assert averaged > -0.2


def test_mixed_table():
    figures = runpy.run_path(str(EXAMPLES / "mixed_table.py"))["main"](n=1500, epochs=80)
    for name in ("town", "education", "owner"):
        right, usual = figures[f"{name} filled rightly"], figures[f"{name} by the most frequent"]
        assert right > usual + 0.2
    for name in ("income", "height", "children", "moved"):
        assert figures[f"{name}, error of filled cells"] < 0.8
    assert abs(figures["owners, given a town"] - figures["owners in that town"]) < 0.1
    assert figures["wrong cells found"] > 0.9


def test_counts():
    exact, chosen, poisson, zero_inflated, nearest = run("counts", n=1500, epochs=30)
    assert poisson + 10 < chosen < exact
    assert abs(zero_inflated - chosen) < 1
    assert nearest > 0.98


def test_larger_than_memory():
    exact, elbo, n, megabytes, _ = run("larger_than_memory", gigabytes=0.3, epochs=1)
    assert exact - 0.5 < elbo < exact + 0.01
    assert n == 750_000 and megabytes > 290


@pytest.mark.usefixtures("real_data")
def test_fashion_mnist(tmp_path):
    path = tmp_path / "pictures.png"
    figures = run("fashion_mnist", n_train=1500, epochs=3, n_test=300, path=path)
    convolutional, dense, error, linear_error = figures
    assert min(convolutional, dense) > -280  # each pixel by itself: -385
    assert abs(convolutional - dense) < 5
    assert error < 1.1 * linear_error
    assert path.read_bytes().startswith(b"\x89PNG")
