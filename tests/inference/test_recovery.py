"""Numbers that are not finite: training goes back, and on in smaller steps; or it says why not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aevb
from aevb import SGVB, VAE, FitWarning, TrainingDiverged
from aevb.inference.clipping import Clipping
from aevb.inference.optimizers import make_optimizer, set_learning_rate, with_smaller_steps
from aevb.inference.run import MOST_RECOVERIES, SMALLER

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32) + 1
OPTIONS = {"batch_size": 5, "key": 3, "verbose": False, "learning_rate": 1e-3}
STEPS = 5  # per epoch


class Faulty(aevb.Objective):
    """The bound, with a NaN in the gradient at one step, as long as steps are large."""

    at: int
    largest: float

    def __call__(self, model, batch, key, state):
        value, metrics, _ = SGVB()(model, batch, key, None)
        moved = jnp.max(jnp.abs(model.weight - state))
        bad = (batch.step == self.at) & (moved > self.largest)
        return jnp.where(bad, jnp.nan, 1.0) * value, metrics, model.weight

    def init(self, model, chunk, key):
        return model.weight


def test_training_goes_on_from_the_last_good_epoch_in_smaller_steps(line):
    seen = []
    with pytest.warns(FitWarning, match="epoch 2, and on from there with steps 0.1 times") as said:
        result = aevb.train(
            line(),
            DATA,
            **OPTIONS,
            epochs=5,
            objective=Faulty(2 * STEPS + 1, 3e-4),
            callbacks=[seen.append],
        )
    assert len(said) == 1
    assert [epoch.number for epoch in seen] == [1, 2, 3, 4, 5] == result.history["epoch"]
    assert result.run.recoveries == 1
    np.testing.assert_array_equal(result.history["recoveries"], [np.nan, np.nan, 1, 1, 1])
    # Until then nothing is different; from then on, it is what a tenth of the rate makes.
    whole = aevb.train(line(), DATA, **OPTIONS, epochs=2, objective=Faulty(99, 1.0))
    assert (seen[1].model.weight == whole.model.weight).all()
    options = {**OPTIONS, "learning_rate": OPTIONS["learning_rate"] * SMALLER, "epochs": 5}
    slower = aevb.train(line(), DATA, **options, objective=Faulty(99, 1.0), resume=seen[1].run)
    assert (result.model.weight == slower.model.weight).all()


def test_it_gives_up_after_three_times_and_names_the_quantity(line):
    with pytest.warns(FitWarning) as said, pytest.raises(TrainingDiverged) as caught:
        aevb.train(line(), DATA, **OPTIONS, epochs=5, objective=Faulty(2 * STEPS + 1, -1.0))
    assert len(said) == MOST_RECOVERIES == 3
    places = [str(each.message).split(",")[0].split("back to ")[1] for each in said]
    assert places == ["epoch 2", "the beginning", "epoch 2"]
    error = caught.value
    assert error.epoch == 3 and error.quantity == "elbo"  # of the steps after it, in this epoch
    assert error.result.run.epoch == 2 == len(error.result.history["epoch"])
    assert np.isfinite(error.result.model.weight).all()


def test_a_parameter_is_named_if_nothing_else_shows_it(line):
    with pytest.warns(FitWarning), pytest.raises(TrainingDiverged) as caught:
        aevb.train(line(), DATA, **OPTIONS, epochs=5, objective=Faulty(3 * STEPS - 1, -1.0))
    assert caught.value.quantity == "the parameter weight"


def test_a_run_taken_up_again_remembers(line):
    runs = []
    options = {**OPTIONS, "epochs": 5, "objective": Faulty(2 * STEPS + 1, 3e-4)}
    with pytest.warns(FitWarning):
        whole = aevb.train(line(), DATA, **options, callbacks=[lambda e: runs.append(e.run)])
    again = aevb.train(line(), DATA, **options, resume=runs[3])
    assert (again.model.weight == whole.model.weight).all()
    assert again.history["recoveries"][-1] == 1


@pytest.mark.parametrize("optimizer", ["sgd", optax.sgd(0.5)], ids=["a name", "an object"])
def test_a_rate_far_too_large_is_made_smaller_until_it_works(line, optimizer):
    rate = 0.5 if optimizer == "sgd" else "auto"
    options = {**OPTIONS, "learning_rate": rate, "optimizer": optimizer, "clip_norm": None}
    with pytest.warns(FitWarning, match="went back"):
        result = aevb.train(line(), DATA, **options, epochs=60)
    assert 1 <= result.run.recoveries <= 3
    assert result.history["elbo"][-1] > result.history["elbo"][0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.model))


def test_the_best_epoch_that_patience_knows_is_not_lost(line):
    options = {**OPTIONS, "epochs": 30, "patience": 20, "objective": Faulty(6 * STEPS + 1, -1.0)}
    with pytest.warns(FitWarning) as said, pytest.raises(TrainingDiverged) as caught:
        aevb.train(line(), DATA, **options)
    run = caught.value.result.run
    assert "back to the beginning" not in " ".join(str(each.message) for each in said)
    assert run.epoch == len(run.history["epoch"]) == 6 >= run.watch.best_epoch > 1


def test_later_passes_have_steps_of_their_own_size():
    X = np.random.default_rng(5).normal(size=(200, 3)) + 1
    options = {"hidden": (5,), "epochs": 3, "optimizer": "sgd", "batch_size": 20}
    vae = VAE(2, **options, learning_rate=10.0, random_state=0)
    with pytest.warns(FitWarning):
        vae.fit(X)
    assert vae._run.recoveries > 0
    vae.set_params(learning_rate=1e-3).partial_fit(X)
    assert vae._run.recoveries == 0


def test_smaller_steps_are_smaller_updates_whatever_the_optimizer(line):
    gradient, parameters = {"w": jnp.arange(3.0)}, {"w": jnp.ones(3)}
    plain, rate = make_optimizer("adam", 0.01)
    state = plain.init(parameters)
    slower, _ = plain.update(gradient, set_learning_rate(state, rate, 0.0, 0.1), parameters)
    faster, _ = plain.update(gradient, set_learning_rate(state, rate, 0.0, 1.0), parameters)
    np.testing.assert_allclose(10 * slower["w"], faster["w"], rtol=1e-6)
    given = optax.chain(optax.clip(1.0), optax.adam(0.01))
    own = with_smaller_steps(given, 0.1)
    assert jax.tree.structure(own.init(parameters)) == jax.tree.structure(given.init(parameters))
    slower, _ = own.update(gradient, own.init(parameters), parameters)
    np.testing.assert_allclose(10 * slower["w"], faster["w"], rtol=1e-6)


def test_a_vae_recovers_as_well():
    X = np.random.default_rng(5).normal(size=(200, 3)) + 1
    options = {"hidden": (5,), "epochs": 30, "optimizer": "sgd", "batch_size": 20}
    vae = VAE(2, **options, learning_rate=10.0, random_state=0)
    with pytest.warns(FitWarning) as said:
        vae.fit(X)
    assert vae.n_epochs_ == 30
    # Its last epoch had finite numbers that were worse than those of the first.
    assert len(said) == 1 and "back to the beginning" in str(said[0].message)
    slower = VAE(2, **options, learning_rate=10.0 * SMALLER, random_state=0).fit(X)
    assert vae.score(X) == slower.score(X)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(vae.model_))


# Clipping.

LATER = jnp.array(1000)  # the number of steps before


def norm_of(tree):
    return np.sqrt(sum(np.sum(np.abs(leaf) ** 2) for leaf in jax.tree.leaves(tree)))


def norms_of(gradient):
    return jnp.array([norm_of(leaf) for leaf in jax.tree.leaves(gradient)])


def test_a_norm_within_the_limit_leaves_every_bit():
    gradient = {"w": jax.random.normal(jax.random.key(0), (50, 30)), "b": jnp.ones(3) * (1 + 2j)}
    unknown = jnp.zeros(2)
    for clipping, typical in (
        (Clipping(), norms_of(gradient) / 9.99),
        (Clipping(norm_of(gradient) * 1.01), unknown),
        (Clipping(), unknown),  # the first step
        (Clipping(None), unknown),
    ):
        clipped, _ = clipping(gradient, typical, LATER)
        assert all((clipped[name] == gradient[name]).all() for name in gradient)


def test_a_spike_has_the_limits_norm_and_the_same_direction():
    gradient = {"w": 1e4 * jax.random.normal(jax.random.key(0), (50, 30)), "b": jnp.ones(3) * 1j}
    # A number limits the norm of all of it, "auto" that of each array.
    clipped, _ = Clipping(70.0)(gradient, jnp.zeros(2), jnp.array(0))
    np.testing.assert_allclose(norm_of(clipped), 70.0, rtol=1e-5)
    for name in gradient:
        ratio = 70.0 / norm_of(gradient)
        np.testing.assert_allclose(clipped[name], ratio * gradient[name], rtol=1e-5)
    clipped, _ = Clipping()(gradient, jnp.array([1.0, 7.0]), LATER)  # of "b" and "w"
    assert (clipped["b"] == gradient["b"]).all()
    np.testing.assert_allclose(norm_of(clipped["w"]), 70.0, rtol=1e-5)
    ratio = 70.0 / norm_of(gradient["w"])
    np.testing.assert_allclose(clipped["w"], ratio * gradient["w"], rtol=1e-5)


def test_the_typical_norm_follows_what_norms_were_after_clipping():
    gradient, typical = {"w": jnp.array([3.0, 4.0])}, jnp.zeros(1)
    _, typical = Clipping()(gradient, typical, LATER)
    assert typical == 5  # of the first step
    _, after = Clipping()({"w": 1e6 * gradient["w"]}, typical, LATER)
    np.testing.assert_allclose(after, 5 + 0.1 * (50 - 5), rtol=1e-6)
    _, after = Clipping()({"w": 2 * gradient["w"]}, typical, LATER)
    np.testing.assert_allclose(after, 5 + 0.1 * (10 - 5), rtol=1e-6)
    assert Clipping(3.0)(gradient, typical, LATER)[1] == typical  # a limit of one's own needs none


def test_the_first_steps_are_left_as_they_are():
    gradient = {"w": jnp.array([300.0, 400.0])}
    for step, norm in ((0, 500.0), (99, 500.0), (100, 10.0)):
        clipped, typical = Clipping()(gradient, jnp.ones(1), jnp.array(step))
        np.testing.assert_allclose(norm_of(clipped), norm, rtol=1e-5)
        np.testing.assert_allclose(typical, 1 + 0.1 * (norm - 1), rtol=1e-5)


def test_one_outlying_row_does_not_undo_the_training(line):
    spoilt = DATA.copy()
    spoilt[7] = 100.0
    moved = {}
    for clip_norm in ("auto", None):
        options = {**OPTIONS, "optimizer": "sgd", "learning_rate": 1e-6, "clip_norm": clip_norm}
        before = aevb.train(line(), DATA, **options, epochs=30)
        after = aevb.train(line(), spoilt, **options, epochs=31, resume=before.run)
        moved[clip_norm] = norm_of(jax.tree.map(jnp.subtract, after.model, before.model))
    assert 0 < moved["auto"] < 0.05 * moved[None]


@pytest.mark.parametrize("wrong", [0, -1.0, np.inf, "ten", True])
def test_a_limit_that_is_none_is_refused(wrong, own_messages):
    with pytest.raises((ValueError, TypeError), match=r"Expected .*for `clip_norm`; got"):
        VAE(clip_norm=wrong).fit(DATA)
