"""Monte Carlo EM: its chains against exact posteriors, its optimum against probabilistic PCA."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from scipy import stats

import aevb
from aevb import Joint, LatentVariableModel, MonteCarloEM
from aevb.data.placement import OneDevice
from aevb.data.source import Chunk
from aevb.inference.clipping import Clipping
from aevb.inference.mcem import Chains
from aevb.inference.sgvb import log_weight_prior
from aevb.inference.training import Batch, TrainState, step
from aevb.models.base import trainable

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32) + 1
STILL = {"optimizer": "sgd", "learning_rate": 1e-12}


def batch_of(x, rows, weight=None, n_total=100.0):
    keys = jax.random.split(jax.random.key(2), len(rows))
    weight = jnp.ones(len(rows)) if weight is None else jnp.asarray(weight)
    rows = jnp.asarray(rows)
    return Batch(x[rows], None, weight, keys, jnp.asarray(n_total), rows, jnp.asarray(0))


@pytest.mark.slow
def test_chains_reach_the_exact_posteriors_at_the_acceptance_wanted(x64, linear_gaussian):
    model = linear_gaussian.random(4, 2, seed=2)
    x = np.random.default_rng(0).normal(size=(3, 4)) * 2
    n_chains = 400  # of each row
    data = jnp.repeat(jnp.asarray(x), n_chains, axis=0)
    objective = MonteCarloEM()
    batch = batch_of(data, np.arange(len(data)))

    @jax.jit
    def run(key):
        def move(chains, key):
            chains = objective.expect(model, batch, key, chains)
            return chains, (chains.acceptance, chains.step_size)

        first_key, key = jax.random.split(key)
        start = objective.init(model, Chunk(data, None, np.arange(len(data))), first_key)
        return jax.lax.scan(move, start, jax.random.split(key, 300))

    chains, (acceptance, step_size) = run(jax.random.key(1))
    assert abs(np.mean(acceptance[-200:]) - 0.9) < 0.005
    assert np.std(step_size[-200:]) < 0.05 * step_size[-1]
    for row, z in zip(x, np.split(np.asarray(chains.z), 3), strict=True):
        exact = model.exact_posterior(jnp.asarray(row))
        covariance = np.asarray(exact.covariance_matrix)
        variance = np.diag(covariance)
        standard_error = np.sqrt(variance / n_chains)
        np.testing.assert_array_less(np.abs(z.mean(axis=0) - exact.mean), 4 * standard_error)
        spread = np.sqrt((covariance**2 + np.outer(variance, variance)) / n_chains)
        np.testing.assert_array_less(np.abs(np.cov(z.T) - covariance), 4 * spread)


@pytest.mark.slow
def test_learns_probabilistic_pca(linear_gaussian):
    rng = np.random.default_rng(3)
    W = np.array([[1.5, -1.0, 0.5, 0.0], [0.3, 0.6, 0.0, 1.0]])
    X = rng.normal(size=(500, 2)) @ W + 0.6 * rng.normal(size=(500, 4))
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, bias=True))
    s2 = eigenvalues[:2].mean()
    kept = np.log(eigenvalues[2:]).sum()
    maximum = -0.5 * (4 * np.log(2 * np.pi) + kept + 2 * np.log(s2) + 4)

    start = linear_gaussian.random(4, 2, seed=1)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), start)
    result = aevb.train(
        start,
        X.astype(np.float32),
        objective=MonteCarloEM(),
        optimizer="adam",
        learning_rate=optax.cosine_decay_schedule(0.02, 5 * 5 * 300),
        epochs=300,
    )
    evidence = np.mean(jax.vmap(result.model.log_evidence)(X))
    assert maximum - 0.02 < evidence <= maximum + 1e-5
    assert abs(np.mean(result.history["acceptance"][-100:]) - 0.9) < 0.01
    # No recognition model is used, nor moved.
    for name in ("V", "d"):
        np.testing.assert_array_equal(getattr(result.model, name), getattr(start, name))
    # At latents drawn from the posterior, log p(x, z) averages log p(x) - H[p(z|x)].
    entropy = result.model.exact_posterior(X[0]).entropy()
    np.testing.assert_allclose(
        np.mean(result.history["log_joint"][-50:]), evidence - entropy, atol=0.06
    )


def test_only_the_chains_of_the_rows_that_count_move(line):
    objective, x = MonteCarloEM(), jnp.asarray(DATA)
    move = eqx.filter_jit(objective.expect)
    start = eqx.filter_jit(objective.init)(line(), Chunk(x, None, np.arange(23)), jax.random.key(0))
    assert start.z.shape == (23, 1)
    # Padding repeats rows that have a place of their own in the batch, and one that has none.
    batch = batch_of(x, [2, 5, 2, 0], [1.0, 1.0, 0.0, 0.0])
    moved = move(line(), batch, jax.random.key(1), start)
    changed = np.flatnonzero(np.any(moved.z != start.z, axis=1))
    assert set(changed) <= {2, 5}
    assert len(changed) >= 1
    # What stands in the padding changes nothing, not even the step size.
    other = batch._replace(x=batch.x.at[2:].set(9.0), rows=jnp.array([2, 5, 7, 7]))
    for one, two in zip(
        jax.tree.leaves(moved),
        jax.tree.leaves(move(line(), other, jax.random.key(1), start)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_chains_go_on_from_epoch_to_epoch(line):
    # So small a step that no chain gets anywhere: what stands there is the draw of the start.
    objective = MonteCarloEM(step_size=1e-6)

    def positions(epochs):
        result = aevb.train(line(), DATA, objective=objective, **STILL, batch_size=5, epochs=epochs)
        return np.asarray(result.state.objective_state.z)

    first, third = positions(1), positions(3)
    np.testing.assert_allclose(third, first, atol=1e-3)
    assert (third[:23] != first[:23]).all()  # every row's chain was moved on
    assert 0.5 < first.std() < 1.5


def test_several_updates_are_made_with_the_same_latents(x64, linear_gaussian):
    model = linear_gaussian.random(3, 2)
    x, rate = jnp.asarray(DATA, float), 0.01
    objective, optimizer = MonteCarloEM(n_updates=3), optax.sgd(rate)
    chains = eqx.filter_jit(objective.init)(model, Chunk(x, None, np.arange(23)), jax.random.key(0))
    batch = batch_of(x, [4, 1, 8, 0], [1.0, 1.0, 1.0, 0.0])
    marks = trainable(model)
    state = TrainState(
        model,
        optimizer.init(eqx.filter(model, marks)),
        chains,
        jax.random.key(1),
        jnp.array(7),
        jnp.zeros(len(jax.tree.leaves(eqx.filter(model, marks)))),
    )
    new, metrics = eqx.filter_jit(step)(
        state, batch, objective, optimizer, marks, OneDevice(), Clipping(None)
    )
    assert int(new.step) == 8

    z = np.asarray(new.objective_state.z)[[4, 1, 8]]
    W, m, s, data = *map(np.asarray, (model.W, model.m, model.s)), DATA[[4, 1, 8]]
    log_joint = stats.norm(z @ W.T + m, s).logpdf(data).sum(axis=1)
    log_joint += stats.norm.logpdf(z).sum(axis=1)
    np.testing.assert_allclose(metrics["log_joint"], np.mean(log_joint), rtol=1e-6)
    for _ in range(3):
        residual = data - z @ W.T - m
        slopes = (
            residual.T @ z / s**2 / 3,
            residual.mean(axis=0) / s**2,
            np.mean((residual**2).sum(axis=1) / s**3 - 3 / s),
        )
        W, m, s = (old + rate * slope for old, slope in zip((W, m, s), slopes, strict=True))
    for name, expected in (("W", W), ("m", m), ("s", s), ("V", model.V), ("d", model.d)):
        np.testing.assert_allclose(getattr(new.model, name), expected, rtol=1e-6)


def test_weight_prior_counts_once_for_the_whole_data_set(x64, linear_gaussian):
    model, x = linear_gaussian.random(3, 2), jnp.asarray(DATA, float)
    chains = Chains(jnp.ones((23, 2)), jnp.array(0.1), jnp.array(0.9))
    plain, pulled = (
        objective(model, batch_of(x, [1, 2]), jax.random.key(0), chains)[0]
        for objective in (MonteCarloEM(), MonteCarloEM(weight_prior=0.7))
    )
    np.testing.assert_allclose(pulled - plain, log_weight_prior(model, 0.7) / 100, rtol=1e-8)


def test_the_same_seed_gives_the_same_result_bit_by_bit(line):
    options = {"objective": MonteCarloEM(), "batch_size": 5, "epochs": 2}
    one, same, other = (aevb.train(line(), DATA, **options, key=key) for key in (3, 3, 4))
    columns = ("log_joint", "acceptance", "step_size")
    for column in columns:
        assert one.history[column] == same.history[column]
    for a, b in zip(jax.tree.leaves(one.model), jax.tree.leaves(same.model), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.state.objective_state.z, same.state.objective_state.z)
    assert (one.state.objective_state.z != other.state.objective_state.z).any()
    assert "elbo" not in one.history


class Layers(LatentVariableModel):
    """Two layers of latents, and a context."""

    top: object = eqx.field(static=True)
    weight: jax.Array

    def prior(self, c):
        return Joint(top=self.top, bottom=lambda top: dist.Normal(top + c, 0.5))

    def likelihood(self, z, c):
        return dist.Normal(self.weight * z["bottom"], 0.5)

    def posterior(self, x, c):
        return Joint(bottom=dist.Normal(x, 0.5), top=self.top)


def test_latents_may_be_joint_and_have_a_context():
    c = np.linspace(-1, 1, 8, dtype=np.float32)
    model = Layers(dist.Normal(0.0, 1.0), jnp.array(1.0))
    result = aevb.train(
        model, 2 * c, context=c, objective=MonteCarloEM(), **STILL, epochs=300, batch_size=8
    )
    z = result.state.objective_state.z
    assert {name: draws.shape for name, draws in z.items()} == {"top": (8,), "bottom": (8,)}
    # bottom given x = 2c: N(c, 1.25) and a measurement 2c with variance 1/4.
    miss = z["bottom"] - (c / 1.25 + 2 * c / 0.25) / (1 / 1.25 + 1 / 0.25)
    assert np.abs(miss).max() < 4 * (1 / 1.25 + 1 / 0.25) ** -0.5


class Positive(LatentVariableModel):
    scale: jax.Array

    def prior(self):
        return dist.Exponential(1.0)

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x):
        return dist.LogNormal(0.0, self.scale)


def test_latents_with_bounds_are_refused():
    with pytest.raises(ValueError, match=r"without bounds from `Positive\.prior`.*got Exponential"):
        aevb.train(Positive(jnp.array(1.0)), np.ones(4), objective=MonteCarloEM())
    layers = Layers(dist.Gamma(2.0), jnp.array(1.0))
    with pytest.raises(ValueError, match=r"without bounds from `Layers\.prior`.*got Gamma"):
        aevb.train(layers, np.ones(4), context=np.ones(4), objective=MonteCarloEM())


def first_name(options):
    return next(iter(options)) if isinstance(options, dict) else None


@pytest.mark.parametrize("options", [{"validation_data": DATA}, {"patience": 1}], ids=first_name)
def test_there_is_no_bound_to_stop_by(line, options):
    with pytest.raises(ValueError, match=r"metric 'elbo' of `objective`.*got .*'log_joint'"):
        aevb.train(line(), DATA, objective=MonteCarloEM(), **options)


@pytest.mark.usefixtures("own_messages")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_leapfrog": 0}, ValueError, "at least 1 for `n_leapfrog`; got 0"),
        ({"n_leapfrog": 2.5}, TypeError, r"at least 1 for `n_leapfrog`; got 2\.5"),
        ({"n_updates": 0}, ValueError, "at least 1 for `n_updates`; got 0"),
        ({"target_acceptance": 1.0}, ValueError, r"0 and 1 for `target_acceptance`; got 1\.0"),
        ({"target_acceptance": 0}, ValueError, "0 and 1 for `target_acceptance`; got 0"),
        ({"step_size": -0.1}, ValueError, r"positive number for `step_size`; got -0\.1"),
        ({"weight_prior": 0}, ValueError, "`weight_prior`; got 0"),
    ],
    ids=first_name,
)
def test_wrong_settings_are_named(options, error, message):
    with pytest.raises(error, match=message):
        MonteCarloEM(**options)


def test_the_extra_is_named_where_it_is_missing(line, monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(ImportError, match=r'BlackJAX.*pip install "aevb\[mcmc\]"'):
        aevb.train(line(), DATA, objective=MonteCarloEM())
