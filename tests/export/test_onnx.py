"""Files of ONNX, run by onnxruntime, against the model's own methods."""

from __future__ import annotations

import functools
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from exported_zoo import FAMILIES, FIRST, LATENTS, MORE, REAL, REFUSED, Model, columns_of

FUNCTIONS = ("encode", "decode", "reconstruct", "elbo")
ZOO = {**FIRST, **MORE, **FAMILIES, **LATENTS}


@functools.cache
def model_of(name):
    return ZOO[name]()


@functools.cache
def session_of(folder, name, what):
    path = folder / f"{name}-{what}.onnx"
    model_of(name).export(path, what)
    onnx.checker.check_model(str(path), full_check=True)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def run(folder):
    """Run an exported function on some of the rows."""

    def run(name, what, rows=slice(None), **other):
        function = model_of(name).function(what)
        session = session_of(folder, name, what)
        arrays = {**model_of(name).arrays(what), **other}
        fed = {}
        for port in function.inputs:
            fed |= columns_of(port, arrays[port.name][rows])
        names = [each.name for each in session.get_outputs()]
        return dict(zip(names, session.run(None, fed), strict=True))

    return run


def check(name, what, run, sizes=(1, 7, 100)):
    function = model_of(name).function(what)
    answers = model_of(name).answers(what)
    for size in sizes:
        found = run(name, what, slice(size))
        for port in function.outputs:
            columns = columns_of(port, answers[port.name])
            assert set(columns) <= set(found)
            for each, expected in columns.items():
                got, expected = found[each], expected[:size]
                assert got.shape == expected.shape
                if expected.dtype == object:
                    assert (got == expected).all()
                    continue
                scale = np.abs(columns[each]).max(axis=0, initial=0) + np.std(columns[each], axis=0)
                assert (abs(got - expected) <= 1e-5 * scale).all()


@pytest.mark.quick(4)
@pytest.mark.parametrize("what", FUNCTIONS)
@pytest.mark.parametrize("name", FIRST)
def test_a_file_says_what_the_model_says(name, what, run):
    check(name, what, run)


@pytest.mark.slow
@pytest.mark.parametrize("what", ("reconstruct", "elbo"))
@pytest.mark.parametrize("name", MORE)
def test_networks_conditions_and_exposures(name, what, run):
    check(name, what, run)


@pytest.mark.slow
@pytest.mark.parametrize("what", ("reconstruct", "elbo"))
@pytest.mark.parametrize("name", FAMILIES)
def test_likelihoods(name, what, run):
    check(name, what, run, sizes=(7,))


@pytest.mark.slow
def test_totals_are_told_only_to_decode(run):
    check("total", "decode", run)


@pytest.mark.slow
@pytest.mark.parametrize("what", ("encode", "elbo"))
@pytest.mark.parametrize("name", LATENTS)
def test_priors_and_posteriors(name, what, run):
    check(name, what, run, sizes=(7,))


@pytest.mark.slow
@pytest.mark.parametrize(("posterior", "operation"), REFUSED.items())
def test_what_onnx_cannot_draw_is_refused_by_name(posterior, operation, tmp_path):
    model = Model.of(REAL, posterior=posterior)
    model.export(tmp_path / "encode.onnx", "encode")
    with pytest.raises(ValueError, match=rf"'{operation}'.*\.stablehlo"):
        model.export(tmp_path / "elbo.onnx", "elbo")
    model.export(tmp_path / "elbo.stablehlo", "elbo")


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", FIRST)
def test_decoding_what_was_encoded_is_reconstructing(name, run):
    mean = run(name, "encode")["mean"]
    decoded, reconstructed = run(name, "decode", z=mean), run(name, "reconstruct")
    assert decoded.keys() == reconstructed.keys()
    for each, expected in reconstructed.items():
        if expected.dtype == object:
            assert (decoded[each] == expected).all()
        else:
            np.testing.assert_allclose(decoded[each], expected, rtol=1e-5)


def test_a_row_without_an_answer_is_nan_and_leaves_the_others(run):
    rows = model_of("mixed").arrays("encode")["x"]
    spoilt = rows.copy()
    spoilt[0, 0] = np.nan  # a number
    spoilt[1, 2] = np.nan  # a text that is not a category
    spoilt[2, 6] = 2.5  # a number that is not a level
    mean, before = run("mixed", "encode", x=spoilt)["mean"], run("mixed", "encode")["mean"]
    assert np.isnan(mean[:3]).all()
    np.testing.assert_array_equal(mean[3:], before[3:])


def test_metadata_say_what_goes_in_and_comes_out(folder):
    session = session_of(folder, "mixed", "reconstruct")
    said = json.loads(session.get_modelmeta().custom_metadata_map["aevb"])
    (port,) = said["inputs"]
    assert [each["port"] for each in port["columns"]] == [v.name for v in session.get_inputs()]
    city, stars = port["columns"][2], port["columns"][6]
    assert city["categories"] == ["Bonn", "Köln", "Ulm"]
    assert stars["levels"] == [1, 2, 3, 4, 5]
    assert said["left_out"] == ["unit"]
    assert session.get_outputs()[0].name == "expected.age"
