"""The README's examples run as they stand."""

import itertools
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
    document = json.loads((ROOT / "benchmarks/results/mnist_quality.json").read_text())
    text = " ".join(README.split())
    assert document["machine"]["cores"] == 2
    run = document["details"]["`VAE(20)`"]
    clock = list(itertools.accumulate(run["seconds"]))
    there = next(epoch for epoch, bound in enumerate(run["bounds"]) if bound >= -100)
    samples = (there + 1) * 60_000 / 1e6
    after = f"after {clock[there]:.0f} seconds on two CPU cores, or {samples:g} million"
    assert f"passes a test bound of −100 nats per image {after}" in text
    assert f"ends at −{-run['bounds'][-1]:.1f} after {clock[-1]:.0f} seconds" in text
