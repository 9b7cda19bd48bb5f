"""What users can get wrong: one line that says so, an exit code, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest

from aevb import VAE
from aevb.data.files import write_rows

COMMANDS = {
    "fit": ["fit", "table.csv", "--hidden", "8", "--epochs", "2"],
    "encode": ["encode", "table.aevb", "table.csv"],
    "reconstruct": ["reconstruct", "table.aevb", "table.csv"],
    "sample": ["sample", "table.aevb"],
    "evaluate": ["evaluate", "table.aevb", "table.csv", "--n-draws", "5"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_an_existing_output_needs_force(run, refused, arguments, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    out = tmp_path / "out.npy"
    out.write_text("precious")
    with monkeypatch.context() as patch:  # it is refused before anything is read
        patch.setattr("aevb.data.files.read_rows", None)
        patch.setattr(VAE, "load", None)
        said = refused(*arguments, "-o", out)
    assert f"{out} exists" in said and "--force" in said
    assert out.read_text() == "precious"
    assert run(*arguments, "-o", out, "--force").code == 0
    assert out.read_bytes() != b"precious"


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_output_into_a_folder_that_does_not_exist(
    refused, arguments, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(folder)
    said = refused(*arguments, "-o", tmp_path / "nowhere" / "x.npy")
    assert "Expected an existing folder" in said and "nowhere" in said


@pytest.mark.parametrize("command", ["encode", "reconstruct", "sample", "evaluate"])
def test_output_of_an_unknown_format(refused, command, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    assert "ends in one of .npy" in refused(*COMMANDS[command], "-o", tmp_path / "x.ods")


@pytest.mark.parametrize("command", ["fit", "encode", "reconstruct", "sample"])
def test_output_is_required(refused, command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert "Missing option" in refused(*COMMANDS[command], code=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--latent-dim", "0"], "integer of at least 1 for `latent_dim`; got 0"),
        (["--likelihood", "gausian"], "for `likelihood`; got 'gausian'. Did you mean 'gaussian'?"),
        (["--likelihood", "bernoulli"], "Expected values from 0 to 1 for likelihood 'bernoulli'"),
        (["--activation", "thanh"], "got 'thanh'. Did you mean 'tanh'?"),
        (["--optimizer", "adamaxx"], "got 'adamaxx'. Did you mean 'adamax'?"),
        (["--estimator", "C"], "for `estimator`; got 'C'"),
        (["--estimator", "B", "--posterior", "mixture"], "No closed form is known for KL("),
        (["--prior", "vam"], "for `prior`; got 'vam'. Did you mean 'vamp'?"),
        (["--posterior", "laplac"], "for `posterior`; got 'laplac'. Did you mean 'laplace'?"),
        (["--kl-weight", "-1"], "for `kl_weight`; got -1"),
        (["--free-bits", "-1"], "for `free_bits`; got -1"),
        (["--tol", "-1"], "for `tol`; got -1"),
        (["--epochs", "0"], "for `epochs`; got 0"),
        (["--hidden", "5,0"], "for `hidden`; got 0"),
        (["--validation-fraction", "1.5"], "for `validation_fraction`; got 1.5"),
    ],
)
def test_parameters_that_do_not_fit(refused, options, message, folder, tmp_path):
    model = tmp_path / "x.aevb"
    assert message in refused("fit", folder / "table.csv", "-o", model, *options)
    assert not model.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "a,b\n1,2\n3,inf\n", "column 'b' of `X`; got infinity (inf) in rows [1]"),
        ("x.csv", "a,b\n1,2\n2,3\n4,x\n", "got 'x' in row 3"),
        ("x.csv", "a,b\n1,2\n", "at least 2 rows"),
        ("x.csv", "", "empty"),
        ("x.csv", "a,b\n1,2\n3\n", "got 1 in line 3"),
        ("x.npy", "no array", "Expected a NumPy file"),
        ("x.parquet", "no table", "Expected a Parquet file"),
        ("x.idx.gz", "no images", "Expected an IDX file"),
        ("x.ods", "a sheet", "ends in one of .npy, .npz, .csv"),
        ("x.csv", None, "none at "),
    ],
)
def test_data_that_do_not_fit(refused, name, content, message, tmp_path):
    data, model = tmp_path / name, tmp_path / "x.aevb"
    if content is not None:
        data.write_text(content)
    assert message in refused("fit", data, "-o", model)
    assert not model.exists()


@pytest.mark.parametrize("command", ["encode", "reconstruct", "evaluate"])
def test_data_of_another_shape_than_the_model_s(refused, command, folder, tmp_path):
    out = tmp_path / "x.npy"
    write_rows(tmp_path / "narrow.npy", np.zeros((2, 3)))
    for data, model, message in [
        (tmp_path / "narrow.npy", "images.aevb", "X has 3 features, but VAE is expecting 16"),
        (folder / "images.npy", "table.aevb", "Expected cases of shape (n, 3) for `X`; got (40, 4"),
    ]:
        assert message in refused(command, folder / model, data, "-o", out)
        assert not out.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Expected a model file for `path`; there is none at"),
        (b"", "Expected a model file of aevb"),
        (b"something else, and long enough to be one", "Expected a model file of aevb"),
        ("truncated", "is damaged or of another kind"),
    ],
)
def test_files_that_are_no_models(refused, content, message, folder, tmp_path):
    model = tmp_path / "x.aevb"
    if content is not None:
        whole = (folder / "table.aevb").read_bytes()
        model.write_bytes(whole[:-9] if content == "truncated" else content)
    out = tmp_path / "new.npy"
    assert message in refused("sample", model, "-o", out)
    assert not out.exists()


@pytest.mark.parametrize("number", [0, -3])
def test_a_number_of_samples_below_one(refused, number, folder, tmp_path):
    said = refused("sample", folder / "table.aevb", "-n", number, "-o", tmp_path / "x.npy")
    assert f"`n_samples`; got {number}" in said
