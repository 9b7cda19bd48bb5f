"""The notebooks run with short settings and show what they say; their pages are of today's text."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "examples" / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
NAMES = [path.stem for path in NOTEBOOKS.glob("*.py") if "\n# %% tags=" in path.read_text("utf-8")]

SHORT = {"n_train": 5000, "n_test": 500, "epochs": 25, "n_rows": 200}
SHORT |= {"n_novel": 2000, "novel_epochs": 4}


def cells(name):
    """Return the head line and the text of each cell."""
    text = (NOTEBOOKS / f"{name}.py").read_text("utf-8")
    return [cell.partition("\n")[::2] for cell in re.split(r"(?m)^# %%", text)[1:]]


@pytest.fixture
def run(monkeypatch):
    """A function that executes a notebook with other settings and returns its variables."""
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

    return execute


def test_there_are_notebooks():
    assert set(NAMES) == {"mnist", "fashion_mnist", "own_model"}


def lines(text):
    """Return the lines of a text that are not blank."""
    return [line for line in text.splitlines() if line.strip()]


def shown_as(head, text):
    """Return what a page has for a cell, but for its output."""
    if "[markdown]" in head:
        return re.sub(r"(?m)^# ?", "", text)
    return f"```python\n{text.strip()}\n```"


OUTPUT = r"(?s)```text\n.*?\n```|<div>.*?</div>|!\[[^]]*\]\([^)]*\)|(?m:^)\*Executed on 20[^\n]*\*"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_page_is_of_this_text(name):
    """Cells, both of code and of prose, are those of the notebook: none stale, added or lost."""
    page = PAGES / f"{name}.md"
    again = f"make notebooks NOTEBOOKS={name}"
    assert page.exists(), f"not rendered: {again}"
    text = page.read_text("utf-8")
    expected = "\n".join(shown_as(*cell) for cell in cells(name))
    assert lines(re.sub(OUTPUT, "", text)) == lines(expected), f"of another text: {again}"
    assert "*Executed on 20" in text
    pictures = [PAGES / path for path in re.findall(r"!\[[^]]*\]\((images/[^)]+)\)", text)]
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 250_000


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


def test_components_decode_to_pixels(monkeypatch):
    """What is decoded has the range of pixels, however far the code; nothing lost, no error."""
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    from compression import component_code, rate_distortion
    from measures import flat
    from sklearn.decomposition import PCA

    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    code = component_code(PCA().fit(flat(images)), 16, images, images)
    far = code.decode(10 * code.test)
    assert (far.min(), far.max()) == (0, 1)
    fine, coarse = rate_distortion(code, images, [1e-4, 1])["mse"]
    assert fine < 1e-8 < coarse


def test_equal_length_is_read_between_the_points(monkeypatch):
    """Two codes in turns lie on the line between them; a point above that line is of no use."""
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    from compression import at_equal_length, envelope

    ours = pd.DataFrame({"bits": [20.0, 10.0], "mse": [0.2, 0.4]})
    baseline = pd.DataFrame({"bits": [30.0, 10.0, 20.0, 40.0], "mse": [0.1, 0.5, 0.4, 0.3]})
    assert envelope(baseline)["bits"].tolist() == [10, 30]
    table = at_equal_length(ours, baseline, [5, 15, 20, 50])
    np.testing.assert_allclose(table["error, VAE"], [np.nan, 0.3, 0.2, 0.2])
    np.testing.assert_allclose(table["error, PCA"], [np.nan, 0.4, 0.3, 0.1])
    np.testing.assert_allclose(table.iloc[:, -1], [np.nan, 20, 25, 25])
    assert at_equal_length(baseline, ours, [50]).iloc[0, -1:].isna().all()  # ours never gets there


def test_alarms_are_named(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(NOTEBOOKS))
    from measures import print_alarms

    print_alarms(pd.DataFrame({"a": [0.4, 0.9], "b": [0.6, 0.8]}, index=[7, "bag"]))
    said = ["a, below 1/2 for: 7", "b, below 1/2 for: none", "a, the best for: bag"]
    assert capsys.readouterr().out.splitlines() == [*said, "b, the best for: 7"]


def check_images(shown):
    """What holds of both notebooks on images, also with short settings."""
    code = shown["latent_code"](shown["vae"], shown["train"][:100], shown["test"][:100])
    far = code.decode(10 * code.test)
    assert 0 <= far.min() < far.max() <= 1
    for model in ("2 dimensions", "20 dimensions"):
        assert shown["scores"].loc["ELBO", model] < shown["scores"][model].iloc[1]
    assert (
        shown["scores"].loc["ELBO", "2 dimensions"] < shown["scores"].loc["ELBO", "20 dimensions"]
    )
    accuracy = shown["distances"]["15-nearest-neighbour accuracy"]
    assert accuracy["VAE, 20"] > max(accuracy["VAE, 2"], 0.6)
    novelty = shown["novel_auc"]
    assert len(novelty) == 11  # another data set, and each of the ten classes
    assert novelty["share lost, VAE"].mean() > 0.6
    assert novelty["share lost, PCA"].mean() > 0.6
    # little ink, few nats
    assert novelty["−ELBO"].corr(novelty["ink"], method="spearman") > 0.5
    errors = shown["errors"]
    assert errors.iloc[2] < errors.iloc[0]  # mended by the VAE, and damaged
    assert errors.iloc[1] < errors.iloc[0]  # by PCA
    for curve in shown["curves"].values():
        assert curve["bits"].is_monotonic_decreasing  # with the step
        assert curve["mse"].iloc[0] < curve["mse"].iloc[-1]
    comparison = shown["comparison"]
    assert comparison["error, VAE"].is_monotonic_decreasing
    assert comparison["error, PCA"].is_monotonic_decreasing
    # Somewhere PCA needs more bits for the VAE's error; where bits abound it loses less.
    assert (comparison["bits of PCA for the VAE's error"] > comparison.index).any()
    assert comparison["error, PCA"].iloc[-1] < comparison["error, VAE"].iloc[-1]
    for _, curve in shown["pca_curves"].groupby("dimensions"):
        assert curve["bits"].is_monotonic_decreasing


@pytest.mark.usefixtures("real_data")
@pytest.mark.slow
def test_mnist(run):
    shown = run("mnist", **SHORT)
    check_images(shown)
    trust = shown["distances"]["trustworthiness"]
    assert trust["VAE, 20"] > trust["VAE, 2"]
    by_elbo = shown["novel_auc"]["−ELBO"]
    assert by_elbo["clothes"] > 0.9
    assert by_elbo[0] > 0.7
    assert by_elbo[1] < 0.5


@pytest.mark.usefixtures("real_data")
@pytest.mark.slow
def test_fashion_mnist(run):
    shown = run("fashion_mnist", **SHORT)
    check_images(shown)
    novelty = shown["novel_auc"].loc["digits"]
    assert novelty["−ELBO"] < 0.5 < novelty["share lost, VAE"]


@pytest.mark.slow
def test_own_model(run):
    shown = run("own_model", epochs=100, n_draws=100, n_repeats=20, n_starts=2)
    noise = shown["noise"]
    assert noise["stl"] < noise["A"]
    assert shown["bound"] == noise.idxmin()
    by_fa, evidence = shown["by_fa"], shown["evidence"]
    assert evidence["robust, slips"].mean() > by_fa[10, "slips"].mean() + 10
    assert (shown["rising"].diff().iloc[1:] > 0).all(axis=None)  # with the number of draws
    found = shown["found"]
    by_t = found.loc["Student's t by AEVB"]
    assert found.index[found["AUC of finding slips"].argmax()] == by_t.name
    assert found.index[found["median error of a mended slip"].argmin()] == by_t.name
    assert by_t["median error of a mended slip"] < 0.2 * by_t["as it stands"]
    cost = shown["answers"]["mean difference"]
    assert cost["FactorAnalysis: slips − clean table"] < cost["Student's t: slips − clean table"]
    assert -5 < cost["3 factors, training rows: AEVB − FactorAnalysis"] < 1  # maxima differ by 1
    assert evidence["gaussian"].mean() < shown["exact"]["gaussian"].mean() + 0.1
