"""A file that was changed is the same model, or a clear error: never another model, nor a crash."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from aevb import VAE, ModelFileError, likelihoods
from aevb.storage import checksum as _checksum

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
QUICK = {"hidden": (5,), "epochs": 2, "random_state": 0, "verbose": False}


@pytest.fixture(scope="module")
def fitted():
    return VAE(2, **QUICK).fit(X)


@pytest.fixture(scope="module")
def whole(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.aevb"
    fitted.save(path)
    return path.read_bytes()


def read(content, path):
    path.write_bytes(content)
    return VAE.load(path)


def test_a_flipped_bit_is_found(fitted, whole, tmp_path):
    codes = fitted.transform(X)
    refused = 0
    for position in np.random.default_rng(1).integers(0, 8 * len(whole), 400):
        content = bytearray(whole)
        content[position // 8] ^= 1 << position % 8
        try:
            vae = read(bytes(content), tmp_path / "flipped.aevb")
        except ModelFileError:
            refused += 1
        else:
            np.testing.assert_array_equal(vae.transform(X), codes)
    assert refused > 380


def test_a_cut_or_grown_file_is_refused(whole, tmp_path):
    for length in np.linspace(0, len(whole) - 1, 60).astype(int):
        with pytest.raises(ModelFileError):
            read(whole[:length], tmp_path / "cut.aevb")
    for more in (b"\0", b"\0" * 4096, whole):
        with pytest.raises(ModelFileError):
            read(whole + more, tmp_path / "grown.aevb")


def test_two_files_are_not_mixed(fitted, whole, tmp_path):
    other = tmp_path / "other.aevb"
    VAE(2, **QUICK | {"random_state": 1}).fit(X).save(other)
    arrays = opened(other)[1]
    header = opened(write(whole, tmp_path / "one.aevb"))[0]
    metadata = {"aevb": header, "sha256": _checksum(header, opened(tmp_path / "one.aevb")[1])}
    save_file(arrays, other, metadata)
    with pytest.raises(ModelFileError, match="checksum"):
        VAE.load(other)


def write(content, path):
    path.write_bytes(content)
    return path


def opened(path):
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return file.metadata()["aevb"], arrays


def deep(depth):
    return "[" * depth + "]" * depth


HOSTILE = {
    "many latents": lambda h: h["config"].update(latent_dim=10**12),
    "no latents": lambda h: h["config"].update(latent_dim=-3),
    "latents in words": lambda h: h["config"].update(latent_dim="two"),
    "a wide layer": lambda h: h["config"].update(hidden=[10**10]),
    "many layers": lambda h: h["config"].update(hidden=[1] * 10**6),
    "a mixture of many": lambda h: h["config"].update(
        prior={"prior": "mixture", "n_components": 10**12}
    ),
    "examples of many": lambda h: h["config"].update(
        prior={"prior": "vamp", "n_components": 10**12}
    ),
    "a huge shape": lambda h: h["schema"].update(shape=[10**9, 10**9]),
    "a shape of nothing": lambda h: h["schema"].update(shape=None),
    "no parts": lambda h: h["schema"].update(parts=[]),
    "a part of another kind": lambda h: h["schema"]["parts"][0].update(kind="angle"),
    "a part of another type": lambda h: h["schema"]["parts"][0].update(dtype="O"),
    "columns elsewhere": lambda h: h["schema"]["parts"][0].update(columns=[10**9]),
    "a condition in words": lambda h: h.update(condition="yes"),
    "an exposure in words": lambda h: h.update(exposure=[1, 2]),
    "history in words": lambda h: h.update(history="none"),
    "a file elsewhere": lambda h: h["schema"]["parts"][0].update(name="../../etc/passwd"),
    "a module": lambda h: h["config"].update(
        prior={"distribution": "os.system", "parameters": {}, "event_dims": 0}
    ),
    "an activation of ours": lambda h: h["config"].update(activation="__import__"),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_refused(change, whole, tmp_path):
    """Even where its checksum is right."""
    path = write(whole, tmp_path / "hostile.aevb")
    text, arrays = opened(path)
    header = json.loads(text)
    change(header)
    text = json.dumps(header)
    save_file(arrays, path, {"aevb": text, "sha256": _checksum(text, arrays)})
    with pytest.raises(ModelFileError):
        VAE.load(path)


@pytest.mark.parametrize("text", [deep(100_000), "{" * 1000, '{"a": 1e999}', "null", "", "[1]"])
def test_odd_json_is_refused(text, whole, tmp_path):
    path = write(whole, tmp_path / "odd.aevb")
    _, arrays = opened(path)
    save_file(arrays, path, {"aevb": text, "sha256": _checksum(text, arrays)})
    with pytest.raises(ModelFileError):
        VAE.load(path)


def test_the_format_before_has_no_checksum_and_is_read(fitted, whole, tmp_path):
    path = write(whole, tmp_path / "older.aevb")
    text, arrays = opened(path)
    text = json.dumps(json.loads(text) | {"format_version": 4})
    save_file(arrays, path, {"aevb": text})
    np.testing.assert_array_equal(VAE.load(path).transform(X), fitted.transform(X))
    text = json.dumps(json.loads(text) | {"format_version": 5})
    save_file(arrays, path, {"aevb": text})
    with pytest.raises(ModelFileError, match="checksum"):
        VAE.load(path)


def test_numbers_that_are_no_sizes_may_be_large(tmp_path):
    counts = np.random.default_rng(0).integers(0, 10, size=(30, 2))
    settings = QUICK | {"likelihood": likelihoods.BetaBinomial(total=10**6), "random_state": 2**31}
    vae = VAE(2, **settings).fit(counts)
    vae.save(tmp_path / "model.aevb")
    again = VAE.load(tmp_path / "model.aevb")
    np.testing.assert_array_equal(again.transform(counts), vae.transform(counts))
