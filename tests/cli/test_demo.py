"""`aevb demo`: the model, the pictures, and what is there without matplotlib."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import aevb
from aevb import VAE


@pytest.mark.slow
def test_demo_leaves_model_and_pictures_and_may_run_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr("aevb.cli.demo.N_DRAWS", 20)
    folder = tmp_path / "a" / "demo"
    result = run("demo", "--output", folder, "--epochs", 2)
    assert result.code == 0
    for said in (
        "Expected log-likelihood under stochastic binarisation (gray levels)",
        "nats per image train (1437) test (360)",
        "importance-sampled, 20 draws -",
        "not comparable with binarised data",
        f"In {folder}: digits.aevb the model; loaded back, it predicts the same, bit for bit",
    ):
        assert said in result.out
    vae = VAE.load(folder / "digits.aevb")
    test = aevb.datasets.load_digits().test
    elbo = vae.elbo(test.images)
    assert f"{elbo.mean():.2f} ± {elbo.std(ddof=1) / np.sqrt(360):.2f} importance" in result.out
    assert vae.n_epochs_ == 2
    pictures = ["latent.png", "learning_curve.png", "manifold.png", "reconstructions.png"]
    assert sorted(path.name for path in folder.iterdir()) == ["digits.aevb", *pictures]
    for name in pictures:
        assert name in result.out
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert (folder / name).stat().st_size > 10_000

    (folder / "latent.png").write_text("old")
    (folder / "mine.txt").write_text("mine")
    assert run("demo", "--output", folder, "--epochs", 2).code == 0
    assert (folder / "latent.png").stat().st_size > 10_000
    assert (folder / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_demo_without_matplotlib_names_the_extra(run, tmp_path, monkeypatch):
    monkeypatch.delattr(aevb, "plotting", raising=False)
    monkeypatch.delitem(sys.modules, "aevb.plotting", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("aevb.cli.demo.N_DRAWS", 20)
    result = run("demo", "--output", tmp_path, "--epochs", 2)
    assert result.code == 0
    assert (
        'No pictures: Pictures need matplotlib, which is not installed: pip install "aevb[plot]"'
        in (result.out)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["digits.aevb"]


def test_demo_into_a_file_is_refused(refused, tmp_path):
    (tmp_path / "demo").write_text("a file")
    assert "exists" in refused("demo", "--output", tmp_path / "demo").lower()
