"""`aevb report`: the file of `VAE.report`, with labels from a column or a file."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from aevb.data.files import read_rows, write_rows

QUICK = ("--n-draws", "5")


def test_it_writes_the_file_and_keeps_an_existing_one(run, refused, folder, tmp_path):
    out = tmp_path / "report.html"
    command = ("report", folder / "table.aevb", folder / "table.csv", "-o", out, *QUICK)
    assert run(*command) == (0, f"The report is in {out}", "")
    assert "60 cases were given to this report" in out.read_text("utf-8")
    assert "exists" in refused(*command)
    assert run(*command, "--force").code == 0


def test_labels_are_a_column(run, folder, tmp_path):
    table = read_rows(folder / "table.csv").assign(group=["red", "blue"] * 30)
    table.to_csv(tmp_path / "table.csv", index=False)
    out, model = tmp_path / "report.html", folder / "table.aevb"
    command = ("report", model, tmp_path / "table.csv", "--labels", "group", *QUICK)
    assert run(*command, "-o", out).code == 0
    assert "blue" in out.read_text("utf-8")


@pytest.mark.slow
def test_labels_are_a_file(run, folder, tmp_path):
    write_rows(tmp_path / "labels.npy", np.arange(40)[:, None] % 4)
    command = ("report", folder / "images.aevb", folder / "images.npy", *QUICK)
    out = tmp_path / "report.html"
    assert run(*command, "--labels", tmp_path / "labels.npy", "-o", out).code == 0
    named = re.findall(r"Case (\d+), (\d):", out.read_text("utf-8"))
    assert len(named) == 12
    assert all(int(row) % 4 == int(label) for row, label in named)


def test_training_cases_are_compared_with(run, folder, tmp_path):
    out = tmp_path / "report.html"
    command = ("report", folder / "table.aevb", folder / "table.csv", "-o", out, *QUICK)
    train = read_rows(folder / "table.csv") + 0.1
    write_rows(tmp_path / "train.csv", train.to_numpy(), list(train.columns))
    assert run(*command, "--train", tmp_path / "train.csv").code == 0
    assert "minus VAE" in out.read_text("utf-8")


def test_training_cases_may_have_the_labels_too(run, folder, tmp_path):
    table = read_rows(folder / "table.csv").assign(group=["red", "blue"] * 30)
    table.to_csv(tmp_path / "table.csv", index=False)
    table.assign(a=table["a"] + 0.1).to_csv(tmp_path / "train.csv", index=False)
    out = tmp_path / "report.html"
    command = ("report", folder / "table.aevb", tmp_path / "table.csv", "--labels", "group", *QUICK)
    assert run(*command, "--train", tmp_path / "train.csv", "-o", out).code == 0
    assert "minus VAE" in out.read_text("utf-8")


def test_labels_that_are_not_there(refused, folder, tmp_path):
    out = ("-o", tmp_path / "report.html")
    model, data = folder / "table.aevb", folder / "table.csv"
    assert "--labels" in refused("report", model, data, "--labels", "nowhere", *out, code=2)
    assert "--labels" in refused("report", model, "--labels", "a", *out, code=2)
    pd.DataFrame({"label": [1, 2]}).to_csv(tmp_path / "few.csv", index=False)
    said = refused("report", model, data, "--labels", tmp_path / "few.csv", *out)
    assert "Expected a label for each of the 60 cases" in said
    assert not (tmp_path / "report.html").exists()


def test_a_model_alone_has_a_report(run, folder, tmp_path):
    out = tmp_path / "report.html"
    assert run("report", folder / "images.aevb", "-o", out).code == 0
    assert "No cases were given" in out.read_text("utf-8")
