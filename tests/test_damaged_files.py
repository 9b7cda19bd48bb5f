"""A file that was changed is the same model, or a clear error: never another model, nor a crash."""

import json
import os
import sys

import numpy as np
import pytest
from damaged_files import (
    HOSTILE,
    IDENTICAL,
    OTHER,
    QUICK,
    REFUSED,
    damage,
    deep,
    forged,
    opened,
    outcome,
    save_models,
)
from safetensors.numpy import save

from aevb import VAE, ModelFileError, likelihoods

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))


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
    header, _ = opened(whole)
    mixed = forged(header, opened(other.read_bytes())[1])
    assert mixed != whole  # with the arrays' own checksum it would be the other model
    with pytest.raises(ModelFileError, match="checksum"):
        read(mixed.replace(checksum_of(mixed), checksum_of(whole)), other)


def checksum_of(content):
    return content.partition(b'"sha256":"')[2][:64]


def write(content, path):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_refused(change, whole, tmp_path):
    """Even where its checksum is right."""
    text, arrays = opened(whole)
    header = json.loads(text)
    change(header)
    with pytest.raises(ModelFileError):
        read(forged(json.dumps(header), arrays), tmp_path / "hostile.aevb")


@pytest.mark.parametrize("text", [deep(100_000), "{" * 1000, '{"a": 1e999}', "null", "", "[1]"])
def test_odd_json_is_refused(text, whole, tmp_path):
    with pytest.raises(ModelFileError):
        read(forged(text, opened(whole)[1]), tmp_path / "odd.aevb")


def test_the_format_before_has_no_checksum_and_is_read(fitted, whole, tmp_path):
    text, arrays = opened(whole)
    for version, message in ((4, None), (5, "checksum")):
        text = json.dumps(json.loads(text) | {"format_version": version})
        path = write(save(arrays, {"aevb": text}), tmp_path / "older.aevb")
        if message is None:
            np.testing.assert_array_equal(VAE.load(path).transform(X), fitted.transform(X))
            continue
        with pytest.raises(ModelFileError, match=message):
            VAE.load(path)


# Of tables and of every prior, damaged and forged in many ways.


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


# Those after the first have once led to errors of others, or to a hang.
SOME = {
    "the first": range(150),
    "found before": (
        *(53, 117, 153, 172, 334, 339, 366, 551, 667, 708, 813, 1499),
        *(3501, 4220, 4807, 5875, 6994, 7459, 7913, 7948, 9990),
    ),
}
FORGED = {
    "a table's columns elsewhere": lambda h: h["schema"]["parts"][0].update(columns=[10**9]),
    "a huge shape": lambda h: h["schema"].update(shape=[10**9, 10**9]),
    "another name": lambda h: h["schema"]["names"].__setitem__(0, "other"),
    "a column of no type": lambda h: type_of(h, 0).update(kind=None),
    "a type that is not pandas'": lambda h: type_of(h, 0).update(native="os.system"),
    "categories in words": lambda h: type_of(h, 1).update(categories="abc"),
    "categories of dictionaries": lambda h: type_of(h, 1).update(categories=[{}, {}, {}]),
    "a category twice": lambda h: type_of(h, 1).update(categories=["Ulm", "Ulm", "Ulm"]),
    "levels in words": lambda h: levels_of(h).update(n_levels=["a"]),
    "levels of other columns": lambda h: levels_of(h).update(n_levels=[3, 3]),
    "a part of no shape": lambda h: h["schema"]["parts"][0].update(shape=[]),
    "parts on one another": lambda h: h["schema"]["parts"].append(h["schema"]["parts"][0]),
    "other names than the table's": lambda h: h["feature_names"].reverse(),
    "labels in words": lambda h: h["condition"].update(is_labels="yes"),
    "a distribution for an activation": lambda h: h["config"].update(
        activation={"distribution": "Normal", "parameters": {}, "event_dims": 0}
    ),
    "an origin in words": lambda h: h["schema"]["columns"]["choices"][4].update(origin="1970"),
    "an origin of categories": lambda h: h["schema"]["columns"]["choices"][1].update(origin=6),
    "levels of a number": lambda h: h["schema"]["columns"]["choices"][0].update(levels=3.0),
    "a library of no one's": lambda h: h["schema"]["columns"].update(library="os"),
    "holes in words": lambda h: h["schema"].update(holes="yes"),
    "dependent columns elsewhere": lambda h: h["schema"].update(dependent=[7]),
    "nothing left out": lambda h: h.update(left_out={}),
    "left out in numbers": lambda h: h.update(left_out={"parameters": {"a": 1}, "config": {}}),
    "no epochs": lambda h: h["history"].update(epoch=None),
    "epochs of two lengths": lambda h: h["history"]["epoch"].append(3),
    "no best epoch": lambda h: h.pop("best_epoch"),
    "a name for each letter": lambda h: h.update(feature_names="abcdefg"),
    "a name too few": lambda h: h["feature_names"].pop(),
    "a seed in words": lambda h: h["config"].update(random_state="a"),
    "no number of a format": lambda h: h.update(format_version="5"),
    "no typical exposure": lambda h: h.update(exposure={"by_total": True, "typical": 0.0}),
    "an exposure of nothing": lambda h: h.update(exposure={"by_total": True, "typical": {}}),
}


def type_of(header, column):
    return header["schema"]["columns"]["choices"][column]["type"]


def levels_of(header):
    return next(p["settings"] for p in header["schema"]["parts"] if "n_levels" in p["settings"])


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED.keys())
def test_a_forged_header_of_a_table_is_refused(change, models, tmp_path):
    text, arrays = opened(models[1].content)
    header = json.loads(text)
    change(header)
    with pytest.raises(ModelFileError):
        read(forged(json.dumps(header), arrays), tmp_path / "forged.aevb")


@pytest.mark.parametrize("place", ["condition", "config"])
def test_a_text_in_the_place_of_a_likelihood_is_refused(place, models, tmp_path):
    headers = [(json.loads(text), arrays) for text, arrays in (opened(m.content) for m in models)]
    header, arrays = next(each for each in headers if each[0]["condition"] is not None)
    if place == "condition":
        header["condition"]["likelihoods"] = ["gaussian"] * len(header["condition"]["likelihoods"])
    else:
        header["config"]["likelihood"] = ["gaussian"] * len(header["config"]["likelihood"])
    with pytest.raises(ModelFileError, match="Expected a likelihood for each part"):
        read(forged(json.dumps(header), arrays), tmp_path / "forged.aevb")


@pytest.mark.parametrize("numbers", SOME.values(), ids=SOME.keys())
def test_drawn_damage_is_refused_or_harmless(numbers, models, tmp_path):
    found = {REFUSED: 0, IDENTICAL: 0, OTHER: 0}
    for number in numbers:
        saved, what, content = damage(models, number)
        came = outcome(saved, content, tmp_path / "model.aevb")
        assert came != OTHER or "forged" in what
        found[came] += 1
    assert found[REFUSED] > 0.7 * len(numbers)


LEADS_TO = {
    "much memory": (
        lambda path: np.ones(50_000_000).sum() and None,
        AssertionError,
        "MB were taken",
    ),
    "a program": (lambda path: os.system("true"), SystemExit, "led to os.system"),
    "another file": (lambda path: path.with_name("x").write_text("x"), SystemExit, "led to open"),
    "other words": (lambda path: {}["config"], KeyError, "config"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most memory in use")
@pytest.mark.parametrize(("load", "error", "said"), LEADS_TO.values(), ids=LEADS_TO.keys())
def test_the_judge_sees_what_loading_leads_to(load, error, said, models, tmp_path, monkeypatch):
    def misled(path):
        load(path)
        raise ModelFileError("Expected a model file.")

    monkeypatch.setattr(VAE, "load", misled)
    with pytest.raises(error, match=said):
        outcome(models[0], b"", tmp_path / "model.aevb")


def test_numbers_that_are_no_sizes_may_be_large(tmp_path):
    counts = np.random.default_rng(0).integers(0, 10, size=(30, 2))
    settings = QUICK | {"likelihood": likelihoods.BetaBinomial(total=10**6), "random_state": 2**31}
    vae = VAE(2, **settings).fit(counts)
    vae.save(tmp_path / "model.aevb")
    again = VAE.load(tmp_path / "model.aevb")
    np.testing.assert_array_equal(again.transform(counts), vae.transform(counts))
