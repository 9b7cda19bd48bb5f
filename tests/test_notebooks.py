"""The notebooks run with short settings and show what they say; their pages are of today's text."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "examples" / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
NAMES = [path.stem for path in NOTEBOOKS.glob("*.py") if "\n# %% tags=" in path.read_text("utf-8")]

needs_data = pytest.mark.skipif(
    not os.environ.get("AEVB_DATA"), reason="AEVB_DATA names no folder with the real data"
)
SHORT = {"n_train": 5000, "n_test": 500, "epochs": 6, "n_rows": 200}
SHORT |= {"n_novel": 2000, "novel_epochs": 4}


def cells(name):
    """Return the head line and the text of each cell."""
    text = (NOTEBOOKS / f"{name}.py").read_text("utf-8")
    return [cell.partition("\n")[::2] for cell in re.split(r"(?m)^# %%", text)[1:]]


@pytest.fixture
def run(monkeypatch):
    """A function that executes a notebook with other settings and returns its variables."""
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs the extra plot")
    monkeypatch.syspath_prepend(str(NOTEBOOKS))

    def execute(name, **settings):
        variables = {"__name__": name}
        for head, code in cells(name):
            if "[markdown]" not in head:
                exec(compile(code, f"{name}.py", "exec"), variables)
            if "parameters" in head:
                assert settings.keys() <= variables.keys()
                variables |= settings
        return variables

    yield execute
    pyplot.close("all")


def test_there_are_notebooks():
    assert set(NAMES) == {"mnist", "fashion_mnist", "own_model"}


@pytest.mark.parametrize("name", sorted(path.stem for path in PAGES.glob("*.md")))
def test_page_is_of_this_text(name):
    page = (PAGES / f"{name}.md").read_text("utf-8")
    for head, text in cells(name):
        if "[markdown]" not in head:
            assert f"```python\n{text.strip()}\n```" in page, "render it anew: make notebooks"
    assert "Executed on 20" in page
    pictures = [PAGES / path for path in re.findall(r"!\[[^]]*\]\((images/[^)]+)\)", page)]
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 150_000


def test_code_length_of_known_symbols(monkeypatch):
    """Of two fair bits and a constant: two bits, and nothing that the decoder gets is lost."""
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    from compression import encode

    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(0, 2, (20_000, 2)) * 0.5, np.full(20_000, 3.0)])
    received, bits = encode(codes[:10_000], codes[10_000:], np.array([0.5, 0.5, 1.0]))
    np.testing.assert_array_equal(received, codes[10_000:])
    assert 2 < bits < 2.002


def test_code_length_of_a_gaussian(monkeypatch):
    """h(N(0, 1)) - log2(step) bits with a fine step, whose error is step² / 12."""
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    from compression import encode

    z = np.random.default_rng(0).normal(size=(200_000, 1))
    step = 0.1
    received, bits = encode(z[:100_000], z[100_000:], np.array([step]))
    exact = 0.5 * np.log2(2 * np.pi * np.e) - np.log2(step)
    assert exact - 0.02 < bits < exact + 0.02
    error = np.mean((received - z[100_000:]) ** 2)
    np.testing.assert_allclose(error, step**2 / 12, rtol=0.03)


def check_images(shown):
    """What holds of both notebooks on images, also with short settings."""
    for model in ("2 dimensions", "20 dimensions"):
        assert shown["scores"].loc["ELBO", model] < shown["scores"][model].iloc[1]
    assert (
        shown["scores"].loc["ELBO", "2 dimensions"] < shown["scores"].loc["ELBO", "20 dimensions"]
    )
    distances = shown["distances"]
    accuracy = distances["15-nearest-neighbour accuracy"]
    assert accuracy["VAE, 20"] > max(accuracy["VAE, 2"], 0.6)
    assert distances["trustworthiness"]["VAE, 20"] > distances["trustworthiness"]["VAE, 2"]
    novelty = pd.DataFrame(shown["novel_auc"])
    assert novelty.shape == (2, 11)  # another data set, and each of the ten classes
    assert novelty.loc["share lost"].mean() > 0.6
    for curve in shown["curves"].values():
        assert curve["bits"].is_monotonic_decreasing  # with the step
        assert curve["mse"].iloc[0] < curve["mse"].iloc[-1]
    comparison = shown["comparison"]
    assert comparison["error, VAE"].is_monotonic_decreasing
    assert comparison["error, PCA"].is_monotonic_decreasing
    reached = shown["pca_curves"]["bits"] < 6272  # the image as it is
    assert reached.all()


@needs_data
@pytest.mark.slow
def test_mnist(run):
    shown = run("mnist", **SHORT)
    check_images(shown)
    assert shown["novel_auc"]["clothes"]["−ELBO"] > 0.9
    assert shown["novel_auc"][0]["−ELBO"] > 0.7
    assert shown["novel_auc"][1]["−ELBO"] < 0.5  # little ink, few nats


@needs_data
@pytest.mark.slow
def test_fashion_mnist(run):
    shown = run("fashion_mnist", **SHORT)
    check_images(shown)
    assert shown["novel_auc"]["digits"]["−ELBO"] < 0.5  # as the text says
    assert shown["novel_auc"]["digits"]["share lost"] > 0.5


@pytest.mark.slow
def test_own_model(run):
    shown = run("own_model", epochs=100, n_draws=100, n_repeats=20)
    noise = shown["noise"]
    assert noise["stl"] < noise["A"]
    assert shown["bound"] == noise.idxmin()
    by_fa, evidence = shown["by_fa"], shown["evidence"]
    assert evidence["gaussian"].mean() < by_fa[3, "clean"].mean() + 0.5  # the optimum, nearly
    assert evidence["robust, slips"].mean() > by_fa[10, "slips"].mean() + 10
    assert (shown["rising"].diff().iloc[1:] > 0).all(axis=None)  # with the number of draws
    found = shown["found"]
    assert found["AUC of finding slips"]["Student's t by AEVB"] > 0.9
    mended = found["median error of a mended cell"]["Student's t by AEVB"]
    assert mended < 0.2 * found["median error as it stands"].iloc[0]
