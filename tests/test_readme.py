"""The README's examples run as they stand."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_examples():
    assert len(EXAMPLES) == 2


@pytest.mark.slow  # the first one fits with the default number of epochs
@pytest.mark.parametrize("code", EXAMPLES, ids=["VAE", "a model of one's own"])
def test_example(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    if "vae" in names:
        assert (tmp_path / "digits.aevb").is_file()
        assert names["vae"].transform(names["test"].images).shape == (360, 2)
    else:
        history = names["result"].history["elbo"]
        assert history[-1] > history[0]


def test_the_headline_is_what_was_measured():
    document = json.loads((ROOT / "experiments/results/optimizers.json").read_text())
    text = " ".join(README.split())
    assert "1 core" in document["machine"]
    assert '`VAE(20, epochs=100, init="random", hidden=500, activation="tanh")`' in text
    run = [row for row in document["rows"] if row["settings"]["epochs"] == 100]
    assert {(row["method"], row["seed"]) for row in run} == {("VAE defaults", 0)}
    there, end = next(row for row in run if row["test"] >= -100), run[-1]
    assert f"takes {end['seconds']:.0f} seconds on one CPU core" in text
    reached = f"after {there['samples'] / 1e6:g} million training samples"
    assert f"{reached} ({there['seconds']:.0f} seconds)" in text
    assert f"ends at −{-end['test']:.1f} after {end['samples'] / 1e6:g} million" in text
