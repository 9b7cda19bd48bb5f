"""The Hub's own client against a hub on this machine: what is pushed comes back, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from typer.testing import CliRunner

from aevb import VAE, ModelFileError
from aevb.cli import app
from aevb.data.files import write_rows

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, of aevb[hub]")


def test_what_is_pushed_comes_back(hub, of_table, table):
    assert of_table.push_to_hub("ada/towns") == f"{hub.address}/ada/towns"
    ((_, files),) = hub.commits["ada/towns"]
    assert set(files) == {"README.md", "model.aevb"}  # in one commit
    again = VAE.from_hub("ada/towns")
    np.testing.assert_array_equal(again.transform(table), of_table.transform(table))
    np.testing.assert_array_equal(again.elbo(table), of_table.elbo(table))
    assert again.sample(3, random_state=1).equals(of_table.sample(3, random_state=1))


def test_the_same_repository_takes_another_commit_and_keeps_the_one_before(hub, of_table, of_array):
    of_table.push_to_hub("ada/towns")
    of_array.push_to_hub("ada/towns")
    first, _ = hub.commits["ada/towns"]
    assert VAE.from_hub("ada/towns").feature_shape_ == of_array.feature_shape_
    assert VAE.from_hub("ada/towns", revision=first[0]).feature_shape_ == of_table.feature_shape_


def test_the_card_says_what_it_is_told(hub, of_table):
    of_table.push_to_hub("ada/towns", license="mit")
    text = hub.files("ada/towns")[1]["README.md"].decode()
    assert "license: mit" in text.split("---")[1]
    of_table.push_to_hub("ada/towns", card="# Mine\n")
    assert hub.files("ada/towns")[1]["README.md"] == b"# Mine\n"
    with pytest.raises(ValueError, match="`license`"):
        of_table.push_to_hub("ada/towns", card="# Mine\n", license="mit")


def test_a_private_repository_is_read_with_a_token_only(hub, of_array, monkeypatch):
    of_array.push_to_hub("ada/secret", private=True)
    assert hub.private == {"ada/secret": True}
    monkeypatch.delenv("HF_TOKEN")
    assert VAE.from_hub("ada/secret", token=hub.token).feature_shape_ == (2,)
    with pytest.raises(OSError, match="ada/secret"):
        VAE.from_hub("ada/secret", revision="0" * 40)  # not in the cache


def test_callbacks_stay_at_home(hub, table):
    def watch(epoch):
        pass

    X = table[["size"]].to_numpy()
    vae = VAE(1, hidden=(5,), epochs=2, callbacks=[watch], random_state=0).fit(X)
    vae.push_to_hub("ada/watched")
    assert VAE.from_hub("ada/watched").callbacks == ()  # a warning would be an error
    assert b"watch" not in hub.files("ada/watched")[1]["model.aevb"]
    assert vae.callbacks == [watch]


@pytest.mark.parametrize("name", ["towns", "ada/b/c", "ada/a b"])
def test_a_name_that_cannot_be_is_refused_before_anything_is_sent(hub, of_array, name):
    with pytest.raises(ValueError, match=name):
        of_array.push_to_hub(name)
    assert hub.requests == []


def test_nothing_is_sent_of_a_model_that_is_not_fitted(hub):
    with pytest.raises(NotFittedError):
        VAE().push_to_hub("ada/towns")
    assert hub.requests == []


def test_what_the_hub_refuses_is_an_error(hub, of_array, monkeypatch):
    hub.refuse_commits = True
    with pytest.raises(OSError, match="403"):
        of_array.push_to_hub("ada/full")
    assert hub.commits["ada/full"] == []
    with pytest.raises(OSError, match="401"):
        of_array.push_to_hub("ada/other", token="hf_wrong")
    assert "ada/other" not in hub.commits


def test_what_is_not_there_is_an_error(hub):
    hub.commits["ada/words"] = [("1" * 40, {"model.safetensors": b""})]
    with pytest.raises(ValueError, match=r"ada/words has none"):
        VAE.from_hub("ada/words")
    with pytest.raises(OSError, match="ada/nothing"):
        VAE.from_hub("ada/nothing")


def test_what_is_foreign_is_refused(hub):
    hub.commits["ada/bad"] = [("2" * 40, {"model.aevb": b"\x80\x04pickled"})]
    with pytest.raises(ModelFileError):
        VAE.from_hub("ada/bad")


def test_a_missing_library_is_named_with_its_extra(of_array, monkeypatch):
    monkeypatch.setattr("aevb.share.libraries.find_spec", lambda name: None)
    for use in (lambda: of_array.push_to_hub("ada/x"), lambda: VAE.from_hub("ada/x")):
        with pytest.raises(ImportError, match=r'huggingface_hub.*pip install "aevb\[hub\]"'):
            use()


def aevb(*arguments):
    """Run the command, and return its exit code, and what it says on stdout and on stderr."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_pushes_and_pulls(hub, of_array, tmp_path):
    of_array.save(tmp_path / "model.aevb")
    code, out, err = aevb("push", tmp_path / "model.aevb", "ada/rows", "--private")
    assert (code, err) == (0, "") and f"{hub.address}/ada/rows" in out
    assert hub.private == {"ada/rows": True}
    again = tmp_path / "again.aevb"
    assert aevb("pull", "ada/rows", "-o", again)[0] == 0
    assert again.read_bytes() == hub.files("ada/rows")[1]["model.aevb"]
    code, _, err = aevb("pull", "ada/rows", "-o", again)
    assert code == 1 and "--force" in err
    code, out, err = aevb("pull", "ada/none", "-o", tmp_path / "none.aevb")
    assert (code, out) == (1, "") and "ada/none" in err
    assert not (tmp_path / "none.aevb").exists()


@pytest.mark.slow
def test_the_command_scores_held_out_cases_for_the_card(hub, of_array, tmp_path):
    of_array.save(tmp_path / "model.aevb")
    write_rows(tmp_path / "rows.csv", np.random.default_rng(1).normal(size=(9, 2)))
    arguments = ("--data", tmp_path / "rows.csv", "--license", "mit")
    assert aevb("push", tmp_path / "model.aevb", "ada/rows", *arguments)[0] == 0
    text = hub.files("ada/rows")[1]["README.md"].decode()
    assert "9 given cases" in text and "license: mit" in text


@pytest.mark.slow
def test_another_process_needs_nothing_but_the_settings_of_the_hub(hub, of_array, tmp_path):
    of_array.save(tmp_path / "model.aevb")
    code = (
        "from aevb import VAE\n"
        "vae = VAE.load('model.aevb')\n"
        "vae.push_to_hub('ada/rows')\n"
        "VAE.from_hub('ada/rows').save('again.aevb')\n"
    )
    settings = {"HF_ENDPOINT": hub.address, "HF_TOKEN": hub.token, "HF_HOME": str(tmp_path / "hf")}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    rows = np.random.default_rng(1).normal(size=(9, 2))
    again = VAE.load(tmp_path / "again.aevb")
    np.testing.assert_array_equal(again.transform(rows), of_array.transform(rows))
