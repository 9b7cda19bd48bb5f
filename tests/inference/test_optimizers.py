"""Optimizers have Optax's names; every one of them trains."""

import numpy as np
import optax
import pytest

import aevb
from aevb.inference.optimizers import make_optimizer

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32)


def _takes_name(name):
    try:
        make_optimizer(name, 1e-3)
    except (TypeError, ValueError):
        return False
    return True


NAMES = [name for name in dir(optax) if _takes_name(name)]


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
