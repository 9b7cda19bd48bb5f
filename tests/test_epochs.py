"""How many epochs `VAE` makes where the user does not say."""

import jax
import numpy as np
import pytest

import aevb
from aevb import VAE, predict
from aevb.epochs import most_epochs


def curve(n):
    t = np.random.default_rng(1).uniform(-2, 2, size=n)
    noise = 0.1 * np.random.default_rng(2).normal(size=(n, 3))
    return np.column_stack([t, t**2, np.sin(3 * t)]) + noise


@pytest.mark.parametrize(
    ("rows", "batch_size", "expected"),
    [(60_000, 100, 16), (1437, 100, 500), (150, 100, 500), (10**7, 100, 10), (60_000, 6000, 500)],
)
def test_the_most_epochs_follow_the_documented_rule(rows, batch_size, expected):
    assert most_epochs(rows, batch_size) == expected


def overfitted():
    """Noise in twenty columns, which five latents learn by heart."""
    return np.random.default_rng(0).normal(size=(60, 20))


@pytest.mark.slow
def test_what_goes_on_for_too_long_is_fitted_anew_for_the_number_of_epochs_that_was_found():
    options = {"latent_dim": 5, "hidden": 20, "random_state": 0}
    found = VAE(**options).fit(overfitted())
    said = VAE(**options, epochs=found.n_epochs_).fit(overfitted())
    assert found.n_epochs_ < 500
    np.testing.assert_array_equal(found.transform(overfitted()), said.transform(overfitted()))
    assert found.history_["elbo"] == said.history_["elbo"]
    assert not any(name.startswith("validation") for name in found.history_)


@pytest.mark.slow
def test_what_does_not_goes_on_with_all_cases_for_a_fifth_more():
    epochs = []
    vae = VAE(1, hidden=7, random_state=0, callbacks=[lambda epoch: epochs.append(epoch.number)])
    history = vae.fit(curve(300)).history_
    assert epochs == history["epoch"] == list(range(1, 601))
    np.testing.assert_array_equal(np.isfinite(history["validation_elbo"]), np.arange(1, 601) <= 500)
    n_seen = np.multiply(history["seconds"], history["datapoints_per_second"])
    np.testing.assert_allclose(n_seen, np.where(np.arange(600) < 500, 270, 300))
    assert vae.n_epochs_ == vae.best_epoch_ == 600


def test_a_callback_that_stops_the_search_stops_the_training():
    vae = VAE(1, hidden=7, callbacks=[lambda epoch: epoch.number == 4]).fit(curve(60))
    assert vae.n_epochs_ == vae.best_epoch_ == len(vae.history_["elbo"]) == 4


def test_a_generator_moves_on():
    generator = np.random.RandomState(0)
    vae = VAE(1, hidden=7, callbacks=[lambda epoch: True], random_state=generator)
    first, second = (vae.fit(curve(60)).transform(curve(60)) for _ in range(2))
    assert not np.array_equal(first, second)


def test_an_interrupted_search_keeps_what_there_is():
    def interrupt(epoch):
        if epoch.number == 3:
            raise KeyboardInterrupt

    vae = VAE(1, hidden=7, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        vae.fit(curve(60))
    assert vae.n_epochs_ == 3 and np.isfinite(vae.score(curve(60)))


@pytest.mark.slow
def test_the_model_of_the_search_is_kept_if_the_fit_of_all_cases_ends_early():
    seen = []

    def stop(epoch):
        seen.append(epoch.metrics.get("validation_elbo"))
        return "seen enough" if seen[-1] is None and epoch.number == 2 else None

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 20)) + rng.normal(size=(60, 20))
    options = {"hidden": 20, "init": "random", "learning_rate": 0.01, "random_state": 0}
    vae = VAE(5, **options, callbacks=[stop]).fit(X)
    best = int(np.nanargmax(np.array(seen[:-2], float))) + 1
    assert 2 < vae.n_epochs_ == vae.best_epoch_ == best < len(seen) - 2
    assert vae.history_["stopped"] == [""] * (best - 1) + ["seen enough"]
    nats = predict.latent_kl(vae.model_, vae.schema_.encode(X)).mean(axis=0)
    np.testing.assert_allclose(vae.explained_nats_, nats, rtol=1e-5)
    assert vae.partial_fit(X).n_epochs_ == best + 1


@pytest.mark.slow
def test_a_search_compiles_the_loop_once(caplog):
    with jax.log_compiles():
        VAE(1, hidden=9, random_state=0).fit(curve(300))  # of a size that no other test has
    compiled = [record.message for record in caplog.records if "Compiling" in record.message]
    assert sum("run_chunk" in message for message in compiled) == 1


@pytest.mark.slow
def test_noise_ends_the_training_early_and_structure_does_not():
    noise = np.random.default_rng(0).normal(size=(100, 30))
    options = {"hidden": 50, "random_state": 0}
    epochs = [VAE(10, **options).fit(X).n_epochs_ for X in (noise, curve(100))]
    assert epochs[0] < 250 and epochs[1] == 600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_rows", "options"),
    [(19, {}), (100, {"validation_fraction": 0.1}), (100, {"patience": 600})],
    ids=["too few cases", "others are held out", "early stopping"],
)
def test_nothing_is_searched(n_rows, options):
    noise = np.random.default_rng(0).normal(size=(n_rows, 30))
    assert VAE(10, hidden=50, random_state=0, **options).fit(noise).n_epochs_ == 500


def test_a_search_that_diverges_leaves_it_to_the_fit_to_say_so():
    with pytest.warns(aevb.FitWarning), pytest.raises(aevb.TrainingDiverged, match="in epoch"):
        VAE(1, hidden=3, learning_rate=1e30).fit(curve(60))
