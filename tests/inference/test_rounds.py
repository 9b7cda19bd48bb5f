"""How long `train` goes on where the user does not say: in rounds, until it converges."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from jax import Array

import aevb
from aevb import SGVB, LatentVariableModel, MonteCarloEM
from aevb.data.source import InMemory
from aevb.inference.run import Plan, auto_rounds, round_ends
from aevb.inference.stopping import Converged, EarlyStopping, Seen, Watch

DATA = np.random.default_rng(0).normal(2.0, 1.5, size=(200, 1)).astype(np.float32)


class Mean(LatentVariableModel):
    """x = mean + z, with the exact posterior: the bound is log p(x) of every draw."""

    mean: Array

    def prior(self):
        return dist.Normal(jnp.zeros(1), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(self.mean + z, 1.0).to_event(1)

    def posterior(self, x):
        return dist.Normal((x - self.mean) / 2, 0.5**0.5).to_event(1)


class Slope(LatentVariableModel):
    """A bound that rises forever, with a parameter that has no best value."""

    slope: Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(0.0, jnp.exp(-self.slope))

    def posterior(self, x):
        return dist.Normal()


def plan(epochs, **options):
    return Plan(SGVB(), "adam", "auto", 10, epochs, EarlyStopping(None, None), **options)


def test_each_round_doubles_the_epochs_and_has_a_fall_of_its_own():
    rounds = plan(40, first_round=10)
    shares = [rounds.done(float(epoch)) for epoch in range(40)]
    assert round_ends(10, 40) == (10, 20, 40)
    np.testing.assert_allclose(
        shares, [*range(10), *range(10), *np.arange(20) / 2] / np.float64(10)
    )
    assert [plan(40).done(epoch) for epoch in (0.0, 10.0, 20.0)] == [0, 0.25, 0.5]
    assert plan(40, falls=False).done(30.0) == 0


@pytest.mark.parametrize("n_rows", [1, 50, 236, 5000, 60_000, 10**6])
def test_rounds_follow_the_documented_rule(n_rows):
    n_steps = -(-n_rows // 100)
    first, last = auto_rounds(n_rows, 100)
    assert first >= 5 and first * n_steps >= 300 and (first == 5 or (first - 1) * n_steps < 300)
    assert last >= 40 and (last * n_steps <= 20_000 or last < 80)


def seen(rule, bounds):
    watch = Watch()
    for epoch, bound in enumerate(bounds, start=1):
        watch = rule.after(watch, Seen(epoch, bound, f"after {epoch}"))
        if rule.reason(watch):
            break
    return epoch, watch


def test_rounds_end_when_one_has_brought_nothing():
    rising = [-100.0 / (1 + epoch) for epoch in range(40)]
    flat = [rising[-1]] * 280
    epoch, watch = seen(Converged(round_ends(10, 320)), rising + flat)
    assert (epoch, watch.waited) == (160, 1)  # the round before it began below
    epoch, watch = seen(Converged(round_ends(10, 80)), [float(epoch) for epoch in range(80)])
    assert (epoch, watch.waited, watch.best_state) == (80, 0, "after 80")


def test_the_first_three_rounds_are_not_judged_and_the_best_is_kept():
    falling = [-float(epoch) for epoch in range(160)]
    epoch, watch = seen(Converged(round_ends(10, 160)), falling)
    assert (epoch, watch.best_epoch, watch.best_state) == (80, 10, "after 10")


def test_noise_ends_rounds_before_long():
    ends = round_ends(20, 20 * 2**8)
    last = []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=ends[-1])
        last.append(seen(Converged(ends), noise)[0])
    assert np.median(last) <= ends[4]


def test_training_ends_at_the_optimum_and_says_nothing():
    result = aevb.train(Mean(jnp.zeros(1)), DATA, estimator="stl")
    assert len(result.history["epoch"]) < auto_rounds(len(DATA), 100)[1]
    np.testing.assert_allclose(result.model.mean, DATA.mean(axis=0), atol=2e-3)


def test_a_bound_that_still_rises_is_said_once():
    with pytest.warns(UserWarning, match="Not converged: .*epochs") as caught:
        aevb.train(Slope(jnp.array(0.0)), np.zeros(400, np.float32), batch_size=1,
                   optimizer="sgd", learning_rate=1e-4)  # fmt: skip
    assert len(caught) == 1


def test_rounds_taken_up_again_end_as_if_they_had_never_stopped():
    whole = aevb.train(Mean(jnp.zeros(1)), DATA, key=3)
    kept = []

    def stop(epoch):
        kept.append(epoch.run)
        return epoch.number == 200

    aevb.train(Mean(jnp.zeros(1)), DATA, key=3, callbacks=[stop])
    again = aevb.train(Mean(jnp.zeros(1)), DATA, resume=kept[-1])
    np.testing.assert_array_equal(again.model.mean, whole.model.mean)
    assert again.history["epoch"] == whole.history["epoch"]


def test_an_objective_without_a_bound_needs_a_number_of_epochs():
    with pytest.raises(ValueError, match=r"'elbo' of `objective`.*epochs='auto'"):
        aevb.train(Mean(jnp.zeros(1)), DATA, objective=MonteCarloEM())


def test_patience_takes_the_place_of_rounds():
    result = aevb.train(Mean(jnp.full(1, 2.0)), DATA, patience=3, learning_rate=0.5)
    smoothed = pd.Series(result.history["elbo"]).ewm(span=3, adjust=False).mean()
    assert len(result.history["epoch"]) == int(np.argmax(smoothed)) + 4
    assert result.history["stopped"][-1] == "patience"


def test_a_part_of_a_source_has_its_rows_and_no_others():
    source = InMemory(np.arange(20, dtype=np.float32))
    part = source.part(np.array([3, 5, 7], np.int32))
    (chunk,) = part.chunks((1, 2))
    assert part.n_rows == 3 and source.n_rows == 20
    assert sorted(np.asarray(chunk.x)[chunk.rows]) == [3, 5, 7]
