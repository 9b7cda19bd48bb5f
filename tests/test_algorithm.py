"""`train`: what may go in, when it stops, what comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest

import aevb
from aevb import FitWarning, TrainingDiverged
from aevb.inference.estimators import Estimate
from aevb.inference.sgvb import SGVB
from aevb.inference.stopping import judged_column

pytestmark = pytest.mark.usefixtures("own_messages")

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32) + 1
OPTIONS = {"learning_rate": 0.01, "batch_size": 5, "epochs": 2, "key": 3}


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": "adammax"}, ValueError, r"`optimizer`; got 'adammax'\. Did you mean 'adam"),
        ({"optimizer": 1}, TypeError, r"optax\.GradientTransformation for `optimizer`; got 1"),
        ({"learning_rate": 0}, ValueError, r"positive number.* for `learning_rate`; got 0"),
        ({"learning_rate": "fast"}, ValueError, r"`learning_rate`; got 'fast'"),
        (
            {"optimizer": optax.sgd(0.1), "learning_rate": 0.1},
            ValueError,
            r"`learning_rate` left at 'auto' beside an optimizer object.*got 0\.1",
        ),
        (
            {"estimator": "elbo"},
            ValueError,
            r"'auto', 'A', 'B', .* or a function for `estimator`; got 'elbo'",
        ),
        ({"n_draws": 0}, ValueError, r"`n_draws`; got 0"),
        ({"batch_size": 0}, ValueError, r"`batch_size`; got 0"),
        ({"epochs": 0}, ValueError, r"`epochs`; got 0"),
        ({"epochs": 1.5}, TypeError, r"`epochs`; got 1\.5"),
        ({"patience": 0}, ValueError, r"`patience`; got 0"),
        ({"weight_prior": -1.0}, ValueError, r"`weight_prior`; got -1\.0"),
        ({"key": None}, TypeError, r"JAX random key, .* or a seed for `key`; got None"),
        ({"key": jax.random.split(jax.random.key(0))}, ValueError, r"`key`; got keys of shape \(2"),
        ({"verbose": "loud"}, ValueError, r"`verbose`; got 'loud'"),
        ({"context": DATA}, ValueError, r"`context` left at None for `Line`, none of whose method"),
        (
            {"validation_data": DATA[:, :2]},
            ValueError,
            r"rows of shape \(3,\), as in `data`, for `validation_data`; got \(2,\)",
        ),
        (
            {"validation_data": DATA, "validation_context": DATA},
            ValueError,
            r"rows of shape None, as in `context`, for `validation_context`; got \(3,\)",
        ),
        (
            {"estimator": lambda model, x, key, n_draws: jnp.zeros(())},
            TypeError,
            r"Expected an Estimate\(value, metrics\).* as `estimator`; got DynamicJaxprTracer",
        ),
        (
            {"estimator": lambda model, x, key, n_draws: Estimate(x, {})},
            TypeError,
            r"given as `estimator`; got a value of shape \(3,\)",
        ),
        (
            {"objective": lambda model, batch, key, state: (jnp.zeros(()), {})},
            TypeError,
            r"metrics, state\), with a dict of metrics, from `objective`; got",
        ),
        (
            {"objective": lambda model, batch, key, state: (batch.weight, {}, state)},
            ValueError,
            r"one number to maximise from `objective`; got an array of shape \(5,\)",
        ),
    ],
)
def test_wrong_arguments_are_named(line, options, error, message):
    with pytest.raises(error, match=message):
        aevb.train(line(), DATA, **{**OPTIONS, **options})


@pytest.mark.parametrize(
    "options",
    [{"estimator": "A"}, {"n_draws": 2}, {"weight_prior": 1.0}],
    ids=lambda o: next(iter(o)),
)
def test_an_objective_leaves_nothing_to_be_ignored(line, options):
    with pytest.raises(ValueError, match=r"left at their defaults beside an `objective`"):
        aevb.train(line(), DATA, **OPTIONS, objective=SGVB(), **options)


def test_the_objectives_own_estimator_is_checked(line):
    with pytest.raises(ValueError, match=r"`n_draws` of at least 2 for estimator 'vimco'"):
        aevb.train(line(), DATA, **OPTIONS, objective=SGVB("vimco"))


@pytest.mark.parametrize("options", [{"validation_data": DATA}, {"patience": 1}])
def test_an_objective_without_elbo_cannot_be_validated(line, options):
    def silent(model, batch, key, state):
        return SGVB()(model, batch, key, state)[0], {"loss": jnp.zeros(())}, state

    with pytest.raises(ValueError, match=r"metric 'elbo' of `objective`.*got 'loss'"):
        aevb.train(line(), DATA, **OPTIONS, objective=silent, **options)


def test_callbacks_see_every_epoch_and_may_stop(line):
    seen = []

    def watch(epoch):
        seen.append((epoch.number, epoch.n_epochs, epoch.metrics["elbo"], epoch.model))

    result = aevb.train(
        line(),
        DATA,
        **{**OPTIONS, "epochs": 9},
        callbacks=[watch, lambda epoch: epoch.number == 3, watch],
    )
    assert [number for number, *_ in seen] == [1, 1, 2, 2, 3, 3]
    assert {planned for _, planned, *_ in seen} == {9}
    assert [elbo for *_, elbo, _ in seen[::2]] == result.history["elbo"]
    assert_same(seen[-1][-1], result.model)
    assert result.history["epoch"] == [1, 2, 3]


STEPS = 5  # per epoch of DATA in batches of 5


def rising_then_ruined(step):
    """Learn for three epochs, then walk away."""
    return jnp.where(step < 3 * STEPS, 0.01, 0.3)


@pytest.mark.parametrize("validation", [None, DATA[:6]], ids=["training bound", "held out"])
def test_early_stopping_returns_the_best_epochs_model(line, validation):
    states = []
    result = aevb.train(
        line(),
        DATA,
        **{**OPTIONS, "epochs": 50, "learning_rate": rising_then_ruined},
        optimizer="sgd",
        objective=SGVB("B", 16),
        validation_data=validation,
        patience=3,
        callbacks=[lambda epoch: states.append(epoch.model)],
    )
    history = result.history["elbo" if validation is None else "validation_elbo"]
    best = int(np.argmax(history))
    assert len(history) == best + 1 + 3 < 50
    assert_same(result.model, states[best])
    assert_same(result.state.model, result.model)


def test_early_stopping_asks_for_more_than_the_tolerance(line):
    options = {**OPTIONS, "epochs": 50, "optimizer": "sgd", "learning_rate": 1e-6}
    result = aevb.train(line(), DATA, **options, tol=5.0)
    assert len(result.history["epoch"]) == 1 + 10  # `patience` is 10 unless it is said


def test_divergence_names_the_epoch_and_what_to_try(line):
    seen = []

    def exploding(step):
        return jnp.where(step < 2 * STEPS, 1e-3, jnp.inf)

    with (
        pytest.warns(FitWarning, match="went back to"),
        pytest.raises(TrainingDiverged) as caught,
    ):
        aevb.train(
            line(),
            DATA,
            **{**OPTIONS, "epochs": 9, "learning_rate": exploding},
            optimizer="sgd",
            callbacks=[seen.append],
        )
    assert caught.value.epoch == 3
    assert "in epoch 3, elbo was nan, although the steps had become smaller 3 times" in str(
        caught.value
    )
    assert caught.value.quantity == "elbo"
    assert "Try a smaller `learning_rate`" in str(caught.value)
    assert [epoch.number for epoch in seen] == [1, 2, 1, 2]  # from the beginning once
    result = caught.value.result
    assert result.history["elbo"][-1] == max(epoch.metrics["elbo"] for epoch in seen)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(seen[-1].model))


def test_data_that_are_not_finite_are_no_fit(line):
    message = r"in epoch 1, elbo was nan, .*no epoch was completed"
    with pytest.warns(FitWarning), pytest.raises(TrainingDiverged, match=message):
        aevb.train(line(), np.where(DATA > 2, np.nan, DATA), **OPTIONS)


def test_history_has_a_row_per_epoch_that_pandas_reads(line):
    history = aevb.train(line(), DATA, **OPTIONS, validation_data=DATA[:6]).history
    frame = pd.DataFrame(history)
    assert list(frame.columns) == [
        *("epoch", "elbo", "kl", "reconstruction", "validation_elbo"),
        *("seconds", "datapoints_per_second", "stopped"),
    ]
    assert list(frame["epoch"]) == [1, 2]
    assert set(frame.dtypes[1:-1]) == {np.dtype(float)}
    assert list(frame["stopped"]) == ["", "epochs"]
    np.testing.assert_allclose(frame["elbo"], frame["reconstruction"] - frame["kl"], rtol=1e-5)
    np.testing.assert_allclose(frame["datapoints_per_second"] * frame["seconds"], len(DATA))
    assert "validation_elbo" not in aevb.train(line(), DATA, **OPTIONS).history


def test_validation_elbo_is_the_bound_of_the_held_out_rows(linear_gaussian):
    # At the exact posterior estimator A has no noise: the bound is the evidence.
    model = linear_gaussian.random(3, 2, orthogonal=True).with_best_posterior()
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), model)
    options = {**OPTIONS, "optimizer": "sgd", "learning_rate": 1e-12, "estimator": "A"}
    history = aevb.train(model, DATA, **options, validation_data=DATA[:7]).history
    evidence = np.asarray(model.log_evidence(DATA))
    np.testing.assert_allclose(history["validation_elbo"], evidence[:7].mean(), rtol=1e-5)
    np.testing.assert_allclose(history["elbo"], evidence.mean(), rtol=1e-5)


class Slope(aevb.LatentVariableModel):
    slope: float

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(self.slope * z, 1.0).expand([3]).to_event(1)

    def posterior(self, x):
        return dist.Normal()


def test_a_model_without_parameters_is_no_fit():
    with pytest.raises(ValueError, match=r"train in `Slope`; got none; `slope` of type float"):
        aevb.train(Slope(0.5), DATA, **OPTIONS)
    frozen = Slope(aevb.Frozen(0.5))
    with pytest.raises(ValueError, match=r"to train in `Slope`; got none\. They are"):
        aevb.train(frozen, DATA, **OPTIONS)


def test_a_context_may_be_the_objectives_own(line):
    def with_offset(model, batch, key, state):
        surrogate, metrics, state = SGVB()(model, batch._replace(c=None), key, state)
        return surrogate, {**metrics, "offset": jnp.mean(batch.c)}, state

    result = aevb.train(line(), DATA, context=DATA * 0 + 2, objective=with_offset, **OPTIONS)
    assert result.history["offset"][0] > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_held_out_rows_without_a_finite_bound_are_named(line, bad):
    held_out = DATA[:6].copy()
    held_out[2, 1] = bad
    message = rf"in epoch 1, validation_elbo was -?{bad}.*held-out rows"
    with pytest.warns(FitWarning), pytest.raises(TrainingDiverged, match=message):
        aevb.train(line(), DATA, **OPTIONS, validation_data=held_out, patience=1)


def test_an_e_steps_state_is_not_used_on_other_rows(line):
    class WithExpectation(aevb.Objective):
        def expect(self, model, batch, key, state):
            return state

        def __call__(self, model, batch, key, state):
            return SGVB()(model, batch, key, state)

    options = {**OPTIONS, "objective": WithExpectation()}
    with pytest.raises(ValueError, match=r"no `validation_data` beside .* of WithExpectation"):
        aevb.train(line(), DATA, **options, validation_data=DATA[:6])
    assert len(aevb.train(line(), DATA, **options, patience=5).history["epoch"]) == 2


def test_the_bound_that_judges_is_the_tightest_of_held_out_rows():
    columns = ["epoch", "kl", "elbo", "iw_bound", "validation_elbo", "validation_iw_bound"]
    judges = [judged_column(columns[:n]) for n in range(2, 7)]
    assert judges == [None, "elbo", "iw_bound", "validation_elbo", "validation_iw_bound"]


def test_train_shows_its_progress_on_request(line, capfd):
    aevb.train(line(), DATA, **OPTIONS)
    assert capfd.readouterr().err == ""
    history = aevb.train(line(), DATA, **OPTIONS, estimator="iw", verbose=True).history
    last = capfd.readouterr().err.split("\r")[-1]
    assert f"IW bound={history['iw_bound'][-1]:.2f}" in last
    assert "2/2" in last
