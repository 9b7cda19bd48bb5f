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
    rows = json.loads((ROOT / "experiments/results/optimizers.json").read_text())["rows"]
    stated = re.search(r"after ([\d.]+) million\s+training samples: (\d+) seconds", README)
    run = [row for row in rows if row["settings"]["epochs"] == 100 and row["test"] >= -100]
    assert run[0]["method"] == "VAE defaults"
    assert float(stated[1]) * 1e6 == run[0]["samples"]
    assert int(stated[2]) == round(run[0]["seconds"])
