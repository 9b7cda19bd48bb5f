"""A fitted estimator is closed: what it learned does not depend on its parameters afterwards."""

import pickle

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from matplotlib.figure import Figure

from aevb import VAE, Gaussian, posteriors, priors

rng = np.random.default_rng(0)
TABLE = pd.DataFrame(rng.normal(size=(40, 3)) * [1, 10, 100], columns=["a", "b", "c"])
QUICK = {"hidden": (5,), "epochs": 2, "random_state": 0, "verbose": False}

# Another value for every parameter.
CHANGES = {
    "latent_dim": 4,
    "likelihood": Gaussian(3.0),
    "unseen": "missing",
    "prior": dist.Laplace(0.0, 2.0),
    "posterior": posteriors.FullNormal(),
    "architecture": "conv",
    "hidden": (9, 9),
    "activation": "relu",
    "encoder": lambda x: x[:2],
    "decoder": lambda z: z,
    "init": "random",
    "estimator": "iw",
    "n_draws": 7,
    "optimizer": "sgd",
    "learning_rate": 0.5,
    "batch_size": 3,
    "epochs": 99,
    "weight_prior": 2.0,
    "kl_weight": 0.1,
    "free_bits": 1.0,
    "validation_fraction": 0.5,
    "patience": 1,
    "tol": 3.0,
    "tol_params": 0.5,
    "time_limit": 0.1,
    "n_init": 3,
    "clip_norm": 1.0,
    "devices": "all",
    "checkpoint": "nowhere",
    "callbacks": [print],
    "random_state": 123,
    "verbose": True,
}


def predictions(vae):
    figure = Figure()
    ax = vae.plot.column_effects(TABLE, ax=figure.subplots())
    return {
        "transform": vae.transform(TABLE),
        "reconstruct": vae.reconstruct(TABLE),
        "inverse_transform": vae.inverse_transform(np.eye(2)),
        "elbo": vae.elbo(TABLE),
        "log_likelihood": vae.log_likelihood(TABLE[:3], n_draws=10),
        "sample": vae.sample(5),
        "distances": vae.distances(TABLE[:4]),
        "names": vae.get_feature_names_out(),
        "columns": vae.feature_names_in_,
        "picture": np.asarray(ax.images[0].get_array()) if ax.images else ax.collections[0],
        "labels": np.array([text.get_text() for text in ax.get_xticklabels()]),
        "explained": vae.explained_nats_,
        "said": np.array([vae.schema_.describe(), str(vae.likelihood_), str(vae.best_epoch_)]),
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture
def fitted():
    vae = VAE(2, prior="learned-normal", posterior="laplace", **QUICK).fit(TABLE)
    return vae, predictions(vae)


def test_there_is_a_change_for_every_parameter():
    assert CHANGES.keys() == VAE().get_params().keys()


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", CHANGES)
def test_set_params_changes_no_prediction(fitted, name):
    vae, before = fitted
    vae.set_params(**{name: CHANGES[name]})
    assert_same(predictions(vae), before)


def test_set_params_of_everything_then_a_copy_then_a_file(fitted, tmp_path):
    vae, before = fitted
    vae.set_params(**{**CHANGES, "encoder": None, "decoder": None, "callbacks": ()})
    assert_same(predictions(pickle.loads(pickle.dumps(vae))), before)
    path = tmp_path / "model.aevb"
    vae.save(path)
    loaded = VAE.load(path)
    assert_same(predictions(loaded), before)
    loaded.set_params(activation="gelu", latent_dim=7)
    loaded.save(path)
    again = VAE.load(path)
    assert_same(predictions(again), before)
    assert again.get_params()["activation"] == "gelu"


def test_a_failed_refit_leaves_everything(fitted):
    vae, before = fitted
    broken = TABLE.rename(columns={"a": "z"}).assign(b=np.inf)
    with pytest.raises(ValueError, match="infinity"):
        vae.set_params(latent_dim=5, likelihood="bernoulli").fit(broken)
    with pytest.raises(ValueError, match="bernoulli"):
        vae.fit(TABLE.rename(columns={"a": "z"}))
    assert_same(predictions(vae), before)


def test_training_goes_on_with_the_model_that_was_fitted(fitted):
    vae, _ = fitted
    vae.set_params(latent_dim=6, activation="relu", hidden=(50,)).partial_fit(TABLE)
    assert vae.transform(TABLE).shape == (40, 2)
    assert vae.n_epochs_ == 3


@pytest.mark.slow
def test_a_list_that_the_user_changes_later_changes_nothing(tmp_path):
    hidden = [5, 4]
    vae = VAE(2, **{**QUICK, "hidden": hidden}).fit(TABLE)
    before = predictions(vae)
    hidden.append(3)
    vae.save(tmp_path / "model.aevb")
    assert_same(predictions(VAE.load(tmp_path / "model.aevb")), before)


def test_the_prior_named_in_messages_is_the_one_that_was_fitted():
    vae = VAE(2, prior=priors.Mixture(3), **QUICK).fit(TABLE)
    vae.set_params(prior="normal")
    with pytest.raises(ValueError, match=r"prior=Mixture\(n_components=3\)"):
        vae.plot.manifold(image_shape=(1, 3))
