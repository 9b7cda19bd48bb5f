"""Optimizers have Optax's names; every one of them trains."""

import equinox as eqx
import jax
import numpy as np
import optax
import optax.contrib
import pytest

import aevb
from aevb.inference.optimizers import make_optimizer
from aevb.inference.run import Epoch

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32)


def _takes_name(name):
    try:
        make_optimizer(name, 1e-3)
    except (TypeError, ValueError):
        return False
    return True


NAMES = sorted(filter(_takes_name, {*dir(optax), *dir(optax.contrib)}))


def test_the_usual_optimizers_have_names():
    usual = {"adagrad", "adam", "adamax", "adamw", "lion", "nadam", "nadamw", "rmsprop", "sgd"}
    assert usual <= set(NAMES)


def distance(model, batch, key, state):
    """Pull the weights towards the data's mean: an objective that compiles fast."""
    mean = batch.weight @ batch.x / batch.weight.sum()
    elbo = -sum(((leaf - mean.sum()) ** 2).sum() for leaf in (model.weight, model.shift))
    return elbo, {"elbo": elbo}, state


@pytest.mark.quick(8)
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # by Optax, in its time
@pytest.mark.parametrize("name", NAMES)
def test_optimizer_of_every_name_takes_a_step(name, line):
    options = {"optimizer": name, "objective": distance, "batch_size": 5, "epochs": 1}
    result = aevb.train(line(), DATA, **options)
    assert np.isfinite(result.history["elbo"]).all()
    assert (result.model.weight != line().weight).any()


class TestAveraging:
    """Schedule-free optimizers train at one point and predict at another, the average."""

    def train(self, model, optimizer="schedule_free_adamw", **options):
        options = {"objective": distance, "batch_size": 23, "epochs": 5} | options
        return aevb.train(model, DATA, optimizer=optimizer, **options)

    def test_the_result_is_the_mean_of_the_weights_that_sgd_went_through(self, line):
        """With b1 = 1 gradients are taken at the average itself, and z takes SGD's steps."""
        rate, model = 0.02, line()
        optimizer = optax.contrib.schedule_free_sgd(rate, b1=1.0)
        goal, mean, z = DATA.mean(axis=0).sum(), model.shift, model.shift
        for step in range(5):
            z = z - rate * 2 * (mean - goal)
            mean = mean + (z - mean) / (step + 1)
        result = self.train(model, optimizer)
        np.testing.assert_allclose(result.model.shift, mean, rtol=1e-4)

    def test_training_goes_on_where_it_was_not_where_it_predicts(self, line):
        whole, half = self.train(line()), self.train(line(), epochs=3)
        assert (half.model.weight != half.state.model.weight).any()
        resumed = self.train(line(), resume=half.run)
        np.testing.assert_array_equal(resumed.model.weight, whole.model.weight)
        np.testing.assert_array_equal(resumed.state.model.weight, whole.state.model.weight)

    def test_what_is_not_trained_stays(self, line):
        model = self.train(line()).model
        assert jax.tree.structure(model) == jax.tree.structure(line())
        assert int(model.count) == 7
        np.testing.assert_array_equal(model.constant.value, 1)

    def test_held_out_rows_and_callbacks_see_what_predicts(self, line):
        seen: list[Epoch] = []
        result = self.train(line(), validation_data=DATA, callbacks=[seen.append])
        np.testing.assert_array_equal(seen[-1].model.weight, result.model.weight)
        goal = DATA.mean(axis=0).sum()
        expected = -sum(((w - goal) ** 2).sum() for w in (result.model.weight, result.model.shift))
        assert result.history["validation_elbo"][-1] == pytest.approx(float(expected), rel=1e-4)

    def test_a_vae_predicts_by_the_average_and_trains_on_from_elsewhere(self):
        vae = aevb.VAE(2, optimizer="schedule_free_adamw", hidden=5, random_state=0)
        states = []
        vae.callbacks = [lambda epoch: states.append(epoch.state)]
        for _ in range(3):
            vae.partial_fit(DATA)
        trained, predicts = states[-1].model, vae.model_
        assert eqx.tree_equal(predicts, states[-1].estimate)
        assert not eqx.tree_equal(predicts, trained)
        assert [int(state.step) for state in states] == [1, 2, 3]
        own = states[-1].optimizer_state.inner_state
        bias, z = (each.decoder.head.location.linear.linear.bias for each in (trained, own.z))
        average = predicts.decoder.head.location.linear.linear.bias
        np.testing.assert_allclose(0.9 * average + 0.1 * z, bias, rtol=1e-4, atol=1e-7)

    def test_its_rate_stays_and_any_other_falls(self):
        for name, last in (("schedule_free_adamw", 0.0025), ("prodigy", 0.0), ("adam", 0.0)):
            _, rate = make_optimizer(name, "auto")
            assert rate is not None
            assert rate(1.0) == pytest.approx(last, abs=1e-12)

    def test_the_rate_that_optax_gives_is_where_auto_begins(self):
        for name, first in (("prodigy", 1.0), ("schedule_free_sgd", 1.0), ("adam", 2e-3)):
            _, rate = make_optimizer(name, "auto")
            assert rate is not None
            assert rate(0.0) == first
