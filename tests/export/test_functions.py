"""What the functions in files are, and what is refused."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from exported_zoo import FIRST, Model
from scipy.special import gammaln

from aevb import VAE
from aevb.export.folding import folded
from aevb.export.functions import function_of
from aevb.learned import Learned
from aevb.schema import Schema

rng = np.random.default_rng(0)


def test_the_bound_is_unbiased_for_every_row(linear_gaussian):
    """Of a linear-Gaussian model the bound is known exactly; the files' noise comes from seeds."""
    model = linear_gaussian.random(3, 2)
    X = rng.normal(size=(5, 3)).astype(np.float32)
    learned = Learned(Schema.fit(X), None, None)
    exact = jax.vmap(model.exact_elbo)(X)

    def bound(seed):
        return function_of(learned, model, "elbo", 2, 500, seed).call(X)["elbo"]

    found = jax.jit(jax.vmap(bound))(jnp.arange(40))
    error = np.std(found, axis=0) / np.sqrt(len(found))
    assert (error < 0.05).all()
    assert (abs(np.mean(found, axis=0) - exact) < 4 * error).all()


def test_rows_share_their_noise():
    model = FIRST["dense"]()
    (x,) = model.arrays("elbo").values()
    twice = np.concatenate([x[:3], x[:3]])
    found = jax.jit(model.function("elbo").call)(twice)["elbo"]
    np.testing.assert_array_equal(found[:3], found[3:])


@pytest.mark.parametrize(
    ("function", "exact", "arguments"),
    [
        (jnp.log1p, np.log1p, [-0.999, -1e-3, -1e-8, 0, 1e-30, 1e-8, 1e-4, 0.5, 3, 1e9, np.inf]),
        (jnp.expm1, np.expm1, [-np.inf, -90, -3, -1e-3, -1e-8, 0, 1e-8, 1e-4, 0.3, 9, 80]),
        (jax.lax.lgamma, gammaln, [1e-6, 0.1, 0.5, 1.3, 2.5, 3.7, 3.99, 4.01, 30, 1e4, 1e8]),
    ],
)
def test_what_onnx_lacks_is_exact_in_single_precision(function, exact, arguments):
    x = np.asarray(arguments, np.float32)
    simple = folded(function, [jax.ShapeDtypeStruct(x.shape, x.dtype)])
    names = {eqn.primitive.name for eqn in jax.make_jaxpr(simple)(x).eqns}
    assert names.isdisjoint({"log1p", "expm1", "lgamma", "jit", "pjit"})
    # Logarithms of gamma functions are sums of greater terms, exact to their last digit.
    atol = 1.5e-6 if function is jax.lax.lgamma else 0
    np.testing.assert_allclose(simple(x), exact(x.astype(float)), rtol=1e-6, atol=atol)


def test_nothing_is_left_to_do_that_depends_on_no_row():
    """Noise, scales and pseudo-inputs are computed once, before the file is written."""
    model = Model.of(rng.normal(size=(100, 4)).astype(np.float32), prior="vamp")
    function = model.function("elbo")
    specs = function.specs(100)
    traced, simple = (
        jax.make_jaxpr(call)(*specs) for call in (function.call, folded(function.call, specs))
    )
    names = {eqn.primitive.name for eqn in simple.eqns}
    assert not any(name.startswith(("random", "threefry")) for name in names)
    assert "jit" not in names
    assert any("random" in str(eqn) for eqn in traced.eqns)
    x = model.arrays("elbo")["x"]
    np.testing.assert_allclose(
        folded(function.call, specs)(x)["elbo"], jax.jit(function.call)(x)["elbo"], rtol=1e-5
    )


@pytest.fixture(scope="module")
def vae():
    X = pd.DataFrame({"a": rng.normal(size=60), "b": rng.choice(["u", "v"], 60)})
    return VAE(1, hidden=(4,), epochs=1, random_state=0, verbose=False).fit(X)


def test_the_estimators_method(vae, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X = pd.DataFrame({"a": [0.5, -1.0], "b": ["v", "u"]})
    vae.export(tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    mean, variance = session.run(
        ["mean", "variance"], {"a": X["a"].to_numpy(np.float32), "b": X["b"].to_numpy(object)}
    )
    np.testing.assert_allclose(mean, vae.transform(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, vae.encode(X).variance, rtol=1e-5, atol=1e-6)


def test_refusals(vae, tmp_path, monkeypatch):
    for path, what, said in [
        ("model.tflite", "encode", "ends in .onnx or .stablehlo"),
        ("model.onnx", "impute", "'encode', 'decode', 'reconstruct', 'elbo'"),
        ("none/model.onnx", "encode", "existing folder"),
    ]:
        with pytest.raises((ValueError, OSError), match=said):
            vae.export(tmp_path / path, what)
    with pytest.raises(ValueError, match="n_draws"):
        vae.export(tmp_path / "model.onnx", "elbo", n_draws=0)
    with pytest.raises(ValueError, match="not fitted"):
        VAE().export(tmp_path / "model.onnx")
    for library, ending in [("jax2onnx", "onnx"), ("flatbuffers", "stablehlo")]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(ImportError, match=rf"{library}.*aevb\[onnx\]"):
                vae.export(tmp_path / f"model.{ending}")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_files_are_in_single_precision_whatever_is_set_around(tmp_path):
    model = Model.of(rng.normal(size=(100, 2)).astype(np.float32), hidden=())
    for ending in ("onnx", "stablehlo"):
        model.export(tmp_path / f"it.{ending}", "encode")
    function = jax.export.deserialize(bytearray((tmp_path / "it.stablehlo").read_bytes()))
    assert {aval.dtype for aval in (*function.in_avals, *function.out_avals)} == {
        np.dtype(np.float32)
    }


def test_columns_whose_names_clash_are_refused(tmp_path):
    X = pd.DataFrame({"mean": rng.normal(size=60), "b": rng.normal(size=60)})
    with pytest.raises(ValueError, match=r"'mean'.*Rename"):
        Model.of(X).export(tmp_path / "it.onnx", "encode")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    """Scales near the ends of single precision are read bit by bit."""
    X = (rng.normal(size=(60, 2)) * 1e-30).astype(np.float32)
    model = Model.of(X)
    with pytest.raises(ValueError, match=r"(?i)bitcast(.|\n)*\.stablehlo"):
        model.export(tmp_path / "it.onnx", "encode")
    assert not [*tmp_path.iterdir()]
    model.export(tmp_path / "it.stablehlo", "encode")


def test_levels_that_single_precision_confuses_are_refused():
    X = pd.DataFrame({"a": rng.choice([1e9, 1e9 + 1], 60), "b": rng.normal(size=60)})
    with pytest.raises(ValueError, match="single precision"):
        Model.of(X, {"a": "categorical"}).function("encode")
