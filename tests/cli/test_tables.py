"""The commands on a table as people have it: semicolons, decimal commas, dates, empty cells."""

import numpy as np
import pandas as pd
import pytest

from aevb import VAE
from aevb.data.files import read_rows

TOWNS = ["Bonn", "Köln", "Ulm"]


def german(value):
    return "" if pd.isna(value) else f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


@pytest.fixture(scope="module")
def people(run, tmp_path_factory):
    """A folder with people.csv, in Windows-1252, and a model of it."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    lines = ["Größe;Einkommen;Stadt;seit;Kinder;Haus"]
    for _ in range(60):
        size, income = rng.normal(170, 10), rng.gamma(2, 1000)
        day = f"{rng.integers(1, 29)}.{rng.integers(1, 13)}.{rng.integers(1990, 2020)}"
        cells = [german(size), german(income), rng.choice(TOWNS), day, str(rng.poisson(2)), "true"]
        cells[5] = rng.choice(["true", "false"])
        lines.append(";".join("" if rng.random() < 0.1 else cell for cell in cells))
    (folder / "people.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    fit = ("fit", folder / "people.csv", "--hidden", 8, "--epochs", 2)
    assert run(*fit, "--kind", "Einkommen=gamma", "-o", folder / "model.aevb").code == 0
    return folder


def test_inspect_says_what_was_understood(run, people):
    said = run("inspect", people / "people.csv", "--kind", "Einkommen=gamma")
    assert said.code == 0
    assert "cp1252, cells separated by semicolons, decimal commas, thousands" in said.out
    for expected in ("Einkommen number gamma", "Stadt category categorical", "seit date gaussian"):
        assert expected in said.out
    assert "Kinder integer" in said.out
    assert "Haus boolean bernoulli" in said.out
    assert not list(people.glob("*.npy"))


def test_inspect_arrays(run, folder):
    assert "Bernoulli" in run("inspect", folder / "images.npy").out


def test_the_model_is_told(people):
    vae = VAE.load(people / "model.aevb")
    assert vae.likelihood_["Einkommen"].name == "gamma"
    assert vae.schema_.holes


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".feather"])
def test_every_command_writes_the_same_kind_of_table(run, people, ending, tmp_path):
    data, model = people / "people.csv", people / "model.aevb"
    rows, vae = read_rows(data), VAE.load(model)
    names = list(rows.columns)
    fast = ("--n-draws", 20)
    for command, expected in {
        "impute": vae.impute(rows, 20),
        "surprise": vae.surprise(rows, 20),
        "reconstruct": vae.reconstruct(rows),
    }.items():
        out = tmp_path / f"{command}{ending}"
        options = () if command == "reconstruct" else fast
        assert run(command, model, data, "-o", out, *options) == (0, "", "")
        back = read_rows(out)
        assert list(back.columns) == names
        for name in names:
            assert back[name].isna().tolist() == expected[name].isna().tolist()
            if name in ("Größe", "Einkommen") or command == "surprise":
                np.testing.assert_allclose(back[name], expected[name], rtol=1e-6)
            else:
                assert back[name].astype(str).tolist() == expected[name].astype(str).tolist()
    out = tmp_path / f"latent{ending}"
    assert run("encode", model, data, "-o", out).code == 0
    assert list(read_rows(out).columns) == ["vae0", "vae1"]


def test_several_tables_are_drawn(run, people, tmp_path):
    command = ("impute", people / "model.aevb", people / "people.csv", "--n-draws", 20)
    assert run(*command, "-n", 2, "-o", tmp_path / "full.csv").code == 0
    one, other = (read_rows(tmp_path / f"full-{j}.csv") for j in (1, 2))
    assert not one.isna().any(axis=None)
    assert not one.equals(other)


def test_cells_are_given(run, people, tmp_path):
    given = ("--given", "Stadt=Ulm", "--given", "Kinder=3", "--given", "Haus=true")
    out = tmp_path / "new.csv"
    assert run("sample", people / "model.aevb", "-n", 5, *given, "-o", out).code == 0
    new = read_rows(out)
    assert new["Stadt"].tolist() == ["Ulm"] * 5
    assert new["Kinder"].tolist() == [3] * 5
    assert new["Haus"].tolist() == [True] * 5


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("inspect", "--kind", "Stad=gamma"), "'Stad', which is not one of"),
        (("inspect", "--kind", "Stadt=gamma"), "'Stadt'; got 'gamma'"),
        (("inspect", "--kind", "Kinder=gama"), "Did you mean 'gamma'?"),
    ],
)
def test_mistakes(refused, people, command, message):
    assert message in refused(command[0], people / "people.csv", *command[1:])


def test_usage(refused, people, tmp_path):
    data, out = people / "people.csv", ("-o", tmp_path / "x.aevb")
    assert "age=gamma" in refused("inspect", data, "--kind", "gamma", code=2)
    both = ("--likelihood", "gaussian", "--kind", "Kinder=poisson")
    assert "not both" in refused("fit", data, *out, *both, code=2)
    new = ("-o", tmp_path / "x.csv")
    said = refused("sample", people / "model.aevb", "--given", "Stadt=Genf", *new)
    assert "'Genf'" in said
    assert not list(tmp_path.iterdir())
