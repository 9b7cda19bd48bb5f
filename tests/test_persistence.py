"""A model that comes back from its file is the model that went in, or the error says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save_file

import aevb.probability as probability
from aevb import VAE, Gaussian, ModelFileError
from aevb.inference.estimators import ESTIMATORS
from aevb.models import Conditional, Likelihood
from aevb.models.kinds.base import Location
from aevb.probability.rescaled import Rescaled
from aevb.storage import checksum as _checksum

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 2, (40, 4, 3), dtype=np.uint8) * 255
TABLE = pd.DataFrame(rng.normal(size=(40, 3)) * [1, 10, 100], columns=["a", "b", "c"])
QUICK = {"latent_dim": 2, "hidden": (5,), "epochs": 2, "random_state": 0, "verbose": False}


class Features(eqx.Module):
    """An encoder's body written with Equinox."""

    linear: eqx.nn.Linear

    def __init__(self, n_in: int, n_out: int = 6, seed: int = 0):
        self.linear = eqx.nn.Linear(n_in, n_out, key=jax.random.key(seed))

    def __call__(self, x):
        return jnp.tanh(self.linear(jnp.ravel(x)))


class StudentT(Likelihood):
    """A user's own likelihood of real numbers: one heavy tail for all columns."""

    name = "student-t"
    kind = "real"

    def build(self, features, shape, constants, *, key):
        location = Location(features, shape[0], constants.start, key=key)
        return StudentTHead(location, jnp.zeros(shape), constants.standardise)


class StudentTHead(Conditional):
    location: Location
    log_scale: jax.Array
    standardise: eqx.Module

    def __call__(self, h):
        entries = dist.StudentT(4.0, self.location(h), jnp.exp(self.log_scale))
        return Rescaled(entries, self.standardise)


class Wrapped(eqx.Module):
    """The same function in another structure."""

    inner: Features

    def __call__(self, x):
        return self.inner(x)


CASES = {
    "images": (VAE(**QUICK), IMAGES, {}),
    "images, two layers": (VAE(**QUICK | {"hidden": [6, 4], "activation": "relu"}), IMAGES, {}),
    "table": (VAE(**QUICK), TABLE, {}),
    "fixed scale": (VAE(likelihood=Gaussian(scale=0.5), **QUICK), TABLE, {}),
    "per datapoint": (VAE(likelihood=Gaussian("per-datapoint"), **QUICK), TABLE, {}),
    "NumPy numbers": (VAE(**QUICK | {"latent_dim": np.int64(3)}), TABLE, {}),
    "own Equinox encoder": (
        VAE(encoder=Features(12), **QUICK),
        IMAGES,
        {"encoder": Features(12, seed=1)},
    ),
    "own NNX decoder": (
        VAE(decoder=nnx.Linear(2, 7, rngs=nnx.Rngs(0)), **QUICK),
        IMAGES,
        {"decoder": nnx.Linear(2, 7, rngs=nnx.Rngs(1))},
    ),
    "own likelihood": (
        VAE(likelihood=StudentT(), **QUICK),
        TABLE,
        {"likelihood": StudentT()},
    ),
    "own activation": (VAE(**QUICK | {"activation": jnp.sin}), TABLE, {"activation": jnp.sin}),
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.aevb"


@pytest.mark.quick(2)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_loaded_model_predicts_the_same_bit_by_bit(case, file):
    vae, X, again = case
    vae.fit(X).save(file)
    loaded = VAE.load(file, **again)
    Z = vae.transform(X)
    np.testing.assert_array_equal(loaded.transform(X), Z)
    np.testing.assert_array_equal(loaded.inverse_transform(Z), vae.inverse_transform(Z))
    np.testing.assert_array_equal(loaded.elbo(X), vae.elbo(X))
    np.testing.assert_array_equal(loaded.log_likelihood(X[:3]), vae.log_likelihood(X[:3]))
    np.testing.assert_array_equal(loaded.sample(5), vae.sample(5))


def test_a_users_own_likelihood_is_asked_for_by_name(file):
    VAE(likelihood=StudentT(), **QUICK).fit(TABLE).save(file)
    with pytest.raises(ModelFileError, match=r"own likelihood again.* likelihood=\.\.\..*StudentT"):
        VAE.load(file)


def test_everything_learned_comes_back(file):
    vae = VAE(**QUICK).fit(TABLE)
    vae.save(file)
    loaded = VAE.load(file)
    assert loaded.get_params() == vae.get_params()
    assert loaded.history_ == vae.history_
    assert loaded.likelihood_ == vae.likelihood_
    assert (loaded.n_epochs_, loaded.n_features_in_, loaded.feature_shape_) == (2, 3, (3,))
    np.testing.assert_array_equal(loaded.feature_names_in_, ["a", "b", "c"])
    np.testing.assert_array_equal(loaded.explained_nats_, vae.explained_nats_)
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(TABLE.rename(columns={"a": "z"}))


def test_training_goes_on_after_loading(file):
    vae = VAE(**QUICK).fit(TABLE)
    vae.save(file)
    assert VAE.load(file).partial_fit(TABLE).n_epochs_ == 3


def test_the_file_is_arrays_and_readable_text(file):
    VAE(**QUICK).fit(TABLE).save(file)
    with safe_open(file, framework="numpy") as tensors:
        header = json.loads(tensors.metadata()["aevb"])
        assert tensors.get_tensor("encoder.body.body.layers.0.weight").shape == (5, 3)
    assert header["format_version"] == 5
    assert header["schema"]["names"] == ["a", "b", "c"]
    assert {"aevb", "jax", "numpy", "python"} <= header["versions"].keys()


def test_what_predictions_do_not_need_is_left_out_with_a_warning(file):
    vae = VAE(**QUICK | {"optimizer": optax.adam(1e-3)}).fit(TABLE)
    vae.save(file)
    with pytest.warns(UserWarning, match="does not hold optimizer"):
        loaded = VAE.load(file)
    assert loaded.optimizer == "adamax"
    np.testing.assert_array_equal(loaded.transform(TABLE), vae.transform(TABLE))


def test_an_own_encoder_is_asked_for_again(file):
    VAE(encoder=Features(12), **QUICK).fit(IMAGES).save(file)
    with pytest.raises(ModelFileError, match=r"VAE\.load\(path, encoder=\.\.\.\)"):
        VAE.load(file)


PRIORS = {
    "number": dist.Normal(0.5, 2.0),
    "vector": dist.Laplace(jnp.array([0.0, 1.0]), 2.0).to_event(1),
    "joint": dist.MultivariateNormal(jnp.zeros(2), jnp.array([[2.0, 1.0], [1.0, 2.0]])),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("prior", PRIORS.values(), ids=list(PRIORS))
def test_a_prior_of_numpyro_is_saved_with_its_numbers(prior, file):
    vae = VAE(prior=prior, **QUICK).fit(TABLE)
    vae.save(file)
    loaded = VAE.load(file)
    assert type(loaded.prior) is type(prior)
    np.testing.assert_array_equal(loaded.elbo(TABLE), vae.elbo(TABLE))


OWN_FAMILIES = {
    "rayleigh": probability.Rayleigh(1.5),
    # These have the name of one of NumPyro's.
    "gamma": probability.Gamma(jnp.array([2.0, 3.0]), 1.0).to_event(1),
    "exponential": probability.Exponential(0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("posterior", OWN_FAMILIES)
def test_a_prior_of_aevb_s_own_families_is_saved_with_its_numbers(posterior, file):
    prior = OWN_FAMILIES[posterior]
    vae = VAE(prior=prior, posterior=posterior, **QUICK).fit(TABLE)
    vae.save(file)
    loaded = VAE.load(file)
    assert type(loaded.prior) is type(prior)
    core = loaded.prior.base_dist if isinstance(prior, dist.Independent) else loaded.prior
    assert type(core).__module__.startswith("aevb.probability")
    np.testing.assert_array_equal(loaded.elbo(TABLE), vae.elbo(TABLE))
    np.testing.assert_array_equal(loaded.sample(4), vae.sample(4))


def warm_up(step):
    return jnp.minimum(step / 10, 1.0)


def plain(model, x, key, n_draws):
    return ESTIMATORS["A"](model, x, key, n_draws)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "function", "default"), [("kl_weight", warm_up, 1.0), ("estimator", plain, "auto")]
)
def test_a_function_that_only_training_needs_may_be_given_again(name, function, default, file):
    vae = VAE(**{name: function}, **QUICK).fit(TABLE)
    vae.save(file)
    with pytest.warns(UserWarning, match=f"does not hold {name}"):
        loaded = VAE.load(file)
    assert getattr(loaded, name) == default
    np.testing.assert_array_equal(loaded.transform(TABLE), vae.transform(TABLE))
    assert getattr(VAE.load(file, **{name: function}), name) is function


@pytest.mark.slow
def test_a_prior_of_many_parts_is_asked_for_again(file):
    prior = dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.zeros(3)), dist.Normal(jnp.array([-1.0, 0.0, 1.0]), 0.5)
    )
    vae = VAE(prior=prior, **QUICK).fit(TABLE)
    vae.save(file)
    with pytest.raises(ModelFileError, match=r"VAE\.load\(path, prior=\.\.\.\)"):
        VAE.load(file)
    np.testing.assert_array_equal(VAE.load(file, prior=prior).elbo(TABLE), vae.elbo(TABLE))
    with pytest.raises(ModelFileError, match="latent_prior"):
        VAE.load(file, prior="normal")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Features(12, 5), r"Expected float32\[5, 12\] for 'encoder\.body\.linear\.weight'"),
        (lambda x: jnp.ravel(x)[:6], "no place for: encoder.body.linear"),
        (Wrapped(Features(12)), "no such array"),
    ],
    ids=["shape", "too few arrays", "another structure"],
)
def test_another_encoder_is_refused_leaf_by_leaf(encoder, message, file):
    VAE(encoder=Features(12), **QUICK).fit(IMAGES).save(file)
    with pytest.raises(ModelFileError, match=message):
        VAE.load(file, encoder=encoder)


def test_a_missing_file(file):
    with pytest.raises(FileNotFoundError, match="Expected a model file for `path`; there is none"):
        VAE.load(file)


@pytest.mark.parametrize(
    "kept", [0, 4, 100, -1], ids=["empty", "4 bytes", "100 bytes", "all but 1"]
)
def test_a_truncated_file(kept, file):
    VAE(**QUICK).fit(TABLE).save(file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match="damaged or of another kind"):
        VAE.load(file)


def test_a_foreign_file(file):
    file.write_text("a,b\n1,2\n")
    with pytest.raises(ModelFileError, match="damaged or of another kind"):
        VAE.load(file)
    save_file({"weight": np.zeros(3)}, file)
    with pytest.raises(ModelFileError, match="a safetensors file from elsewhere"):
        VAE.load(file)


def without(header, name):
    return {key: value for key, value in header.items() if key != name}


def with_header(file, change):
    """Rewrite a model file with another header: what `change` returns, or the one it changed."""
    with safe_open(file, framework="numpy") as opened:
        header = json.loads(opened.metadata()["aevb"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    text = json.dumps(change(header) or header)
    save_file(tensors, file, {"aevb": text, "sha256": _checksum(text, tensors)})


def test_a_file_of_a_newer_format(file):
    VAE(**QUICK).fit(TABLE).save(file)
    with_header(file, lambda header: {**header, "format_version": 99})
    with pytest.raises(ModelFileError, match=r"has format 99\. Install a newer version of aevb"):
        VAE.load(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: without(header, "schema"),
        lambda header: without(header, "parameters"),
        lambda header: header["parameters"].update(unknown=1),
        lambda header: header["config"]["likelihood"][0].update(likelihood="cauchy"),
        lambda header: header["config"].update(posterior={"posterior": "cube"}),
        lambda header: header["config"].update(prior={"distribution": "Cube"}),
    ],
    ids=[
        *("no schema", "no parameters", "unknown parameter", "unknown likelihood"),
        *("unknown posterior", "unknown distribution"),
    ],
)
def test_a_header_that_makes_no_sense(change, file):
    VAE(**QUICK).fit(TABLE).save(file)
    with_header(file, change)
    with pytest.raises(ModelFileError, match="header"):
        VAE.load(file)


@pytest.mark.slow
def test_parameters_of_a_fixed_prior_keep_their_names_in_other_processes(file):
    # The order of a NumPyro distribution's leaves follows the hash seed of the process.
    vae = VAE(prior=dist.Normal(1.0, 3.0), **QUICK).fit(TABLE)
    vae.save(file)
    code = (
        f"from aevb import VAE; p = VAE.load({str(file)!r}).model_.prior(); print(p.mean.tolist())"
    )
    means = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert means == {f"{vae.model_.prior().mean.tolist()}\n"}


def test_a_header_that_is_no_object(file):
    VAE(**QUICK).fit(TABLE).save(file)
    with_header(file, list)
    with pytest.raises(ModelFileError, match="a safetensors file from elsewhere"):
        VAE.load(file)


def test_a_failed_save_leaves_the_old_file(file, monkeypatch):
    vae = VAE(**QUICK).fit(TABLE)
    vae.save(file)
    before = file.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        vae.save(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_only_a_fitted_model_is_saved(file):
    with pytest.raises(ValueError, match="not fitted"):
        VAE().save(file)
    assert not file.exists()
