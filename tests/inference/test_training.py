"""Algorithm 1: the compiled loop does what a loop written by hand does, and nothing else."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import aevb
from aevb import LatentVariableModel
from aevb.inference.sgvb import SGVB, sgvb

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32) + 1
OPTIONS = {"learning_rate": 0.01, "batch_size": 5, "epochs": 2, "key": 3}


def assert_same(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if tolerance:
            np.testing.assert_allclose(a, b, **tolerance)
        else:
            np.testing.assert_array_equal(a, b)


class Recorder:
    """An objective that writes down every batch it is run on."""

    def __init__(self):
        self.objective = SGVB("A", 2)
        self.batches = []
        self.noise = []
        self.own_keys = []

    def __call__(self, model, batch, key, state):
        keys = jax.random.key_data(batch.keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, (16,)))(batch.keys)
        own = jax.random.key_data(key)
        jax.debug.callback(self.write, batch.x, batch.weight, keys, noise, own, ordered=True)
        return self.objective(model, batch, key, state)

    def write(self, x, weight, keys, noise, own):
        real = np.asarray(weight) == 1
        assert set(np.asarray(weight)) <= {0.0, 1.0}
        self.batches.append((np.asarray(x)[real], np.asarray(keys)[real]))
        self.noise.append(np.asarray(noise)[real])
        self.own_keys.append(np.asarray(own))


OPTIMIZERS = {
    "sgd": ({"optimizer": "sgd"}, optax.sgd(0.01)),
    "adam by name": ({"optimizer": "adam"}, optax.adam(0.01)),
    "adam as object": (
        {"optimizer": optax.adam(0.01), "learning_rate": "auto"},
        optax.adam(0.01),
    ),
    "adamax on a schedule": (
        {"optimizer": "adamax", "learning_rate": optax.linear_schedule(0.02, 0.0, 10)},
        optax.adamax(optax.linear_schedule(0.02, 0.0, 10)),
    ),
    "chained": (
        {
            "optimizer": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
            "learning_rate": "auto",
        },
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)),
    ),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "batch_size"), [*((name, 5) for name in OPTIMIZERS), ("sgd", 23), ("sgd", 1000)]
)
def test_equals_the_loop_by_hand(line, name, batch_size):
    options, optimizer = OPTIMIZERS[name]
    recorder = Recorder()
    # JAX's default generator: its numbers do not depend on how many keys are drawn from at once.
    key = jax.random.key(0)
    options = {**OPTIONS, **options, "batch_size": batch_size, "key": key}
    result = aevb.train(line(), DATA, objective=recorder, **options)
    jax.effects_barrier()

    @eqx.filter_jit
    def gradient(parameters, rest, x, keys):
        def loss(parameters):
            model = eqx.combine(parameters, rest)
            draws = jax.random.wrap_key_data(keys)
            each = jax.vmap(lambda x, key: sgvb(model, x, key, estimator="A", n_draws=2))
            return -jnp.sum(each(x, draws)) / len(x)

        return jax.value_and_grad(loss)(parameters)

    model = line()
    moving = eqx.tree_at(lambda m: (m.constant, m.count), model, (None, None))
    constant = eqx.tree_at(lambda m: (m.weight, m.shift, m.encoder), model, (None, None, None))
    state = optimizer.init(moving)
    bounds = []
    for x, keys in recorder.batches:
        loss, slope = gradient(moving, constant, x, keys)
        updates, state = optimizer.update(slope, state, moving)
        moving = optax.apply_updates(moving, updates)
        bounds.append(-float(loss) * len(x))
    assert_same(result.model, eqx.combine(moving, constant), rtol=2e-5, atol=1e-6)
    per_epoch = np.array(bounds).reshape(2, -1).sum(axis=1) / len(DATA)
    np.testing.assert_allclose(result.history["elbo"], per_epoch, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5, 24])
def test_every_row_is_visited_once_per_epoch_in_a_new_order(line, batch_size):
    recorder = Recorder()
    aevb.train(line(), DATA, objective=recorder, **{**OPTIONS, "batch_size": batch_size})
    jax.effects_barrier()
    per_epoch = -(-len(DATA) // batch_size)
    assert len(recorder.batches) == 2 * per_epoch
    sizes = [len(x) for x, _ in recorder.batches]
    assert sizes[:per_epoch] == [batch_size] * (len(DATA) // batch_size) + [
        rest for rest in [len(DATA) % batch_size] if rest
    ]
    order = np.argsort(DATA[:, 0])
    epochs = [
        np.concatenate([x for x, _ in recorder.batches[start : start + per_epoch]])
        for start in (0, per_epoch)
    ]
    for epoch in epochs:
        np.testing.assert_array_equal(epoch[np.argsort(epoch[:, 0])], DATA[order])
    assert not np.array_equal(*epochs)
    keys = np.concatenate([keys for _, keys in recorder.batches])
    assert len(np.unique(keys, axis=0)) == 2 * len(DATA)  # every row, every time: its own noise


@pytest.mark.quick(1)
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_rows_and_steps_have_independent_noise(impl, line):
    recorder = Recorder()
    key = jax.random.key(0, impl=impl)
    options = {**OPTIONS, "batch_size": 23, "epochs": 100, "key": key}
    aevb.train(line(), DATA, objective=recorder, **options)
    jax.effects_barrier()
    noise = np.array(recorder.noise)  # (steps, rows, numbers)
    n = noise.size
    assert len(np.unique(noise)) > 0.98 * n  # float32 repeats itself now and then
    assert abs(noise.mean()) < 4 / np.sqrt(n)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / n)
    flat = noise.ravel()
    for lag in (1, 16, 23 * 16):  # the next number, the next row, the same row's place next time
        correlation = np.mean(flat[lag:] * flat[:-lag])
        assert abs(correlation) < 4 / np.sqrt(n), lag
    rows = {bytes(key) for _, keys in recorder.batches for key in keys}
    assert rows.isdisjoint(bytes(key) for key in recorder.own_keys)


@pytest.mark.slow
def test_jit_equals_eager(line):
    options = {**OPTIONS, "optimizer": "sgd", "epochs": 1}
    compiled = aevb.train(line(), DATA[:7], **options)
    with jax.disable_jit():
        eager = aevb.train(line(), DATA[:7], **options)
    assert_same(compiled.model, eager.model, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(compiled.history["elbo"], eager.history["elbo"], rtol=1e-5)


def test_frozen_parts_and_integers_do_not_move(line):
    model = aevb.train(line(), DATA, **OPTIONS, weight_prior=1.0).model
    np.testing.assert_array_equal(model.constant.value, 1.0)
    assert int(model.count) == 7
    assert (model.weight != line().weight).all()


def test_weight_prior_pulls_each_step_by_its_gradient_over_the_number_of_rows(line):
    scale, rate = 0.5, 0.1
    options = {**OPTIONS, "optimizer": "sgd", "learning_rate": rate, "epochs": 1}
    start = line()
    plain = aevb.train(start, DATA, **{**options, "batch_size": 23}).model
    pulled = aevb.train(start, DATA, **{**options, "batch_size": 23}, weight_prior=scale).model
    for name in ("weight", "encoder"):
        pull = getattr(pulled, name) - getattr(plain, name)
        expected = -rate * getattr(start, name) / scale**2 / len(DATA)
        np.testing.assert_allclose(pull, expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(pulled.shift, plain.shift)


class Ridge(LatentVariableModel):
    """Linear regression on the context; the latent is the noise's half, known exactly."""

    weight: jax.Array

    def prior(self):
        return dist.Normal(0.0, 0.5**0.5)

    def likelihood(self, z, c):
        return dist.Normal(self.weight[0] @ c + z, 0.5**0.5)

    def posterior(self, x, c):
        return dist.Normal((x - self.weight[0] @ c) / 2, 0.5)


def test_maximum_a_posteriori_is_ridge_regression():
    # Batches of 7, 7, 7 and 2: each counts with its own rows, the prior with 1/N at every step.
    rng = np.random.default_rng(0)
    c = rng.normal(size=(23, 2)).astype(np.float32)
    x = (c @ [1.0, -2.0] + rng.normal(size=23)).astype(np.float32)
    scale = 0.3
    model = aevb.train(
        Ridge(jnp.zeros((1, 2))),
        x,
        context=c,
        weight_prior=scale,
        optimizer=optax.sgd(lambda step: 0.3 / (1 + step / 20)),
        batch_size=7,
        epochs=2000,
    ).model
    np.testing.assert_allclose(
        model.weight[0], np.linalg.solve(c.T @ c + np.eye(2) / scale**2, c.T @ x), atol=0.02
    )


def test_printed_elbo_leaves_out_the_weight_prior(line):
    options = {**OPTIONS, "learning_rate": 1e-12, "optimizer": "sgd"}
    plain = aevb.train(line(), DATA, **options).history
    with_prior = aevb.train(line(), DATA, **options, weight_prior=0.01).history
    np.testing.assert_allclose(with_prior["elbo"], plain["elbo"], rtol=1e-5)


# The same again, and compiled once.


def test_the_same_seed_gives_the_same_model_bit_by_bit(line):
    one, same, other = (aevb.train(line(), DATA, **{**OPTIONS, "key": key}) for key in (3, 3, 4))
    assert_same(one.model, same.model)
    assert one.history["elbo"] == same.history["elbo"]
    assert (one.model.weight != other.model.weight).all()
    typed = aevb.train(line(), DATA, **{**OPTIONS, "key": jax.random.key(3, impl="rbg")})
    assert_same(one.model, typed.model)


class Counting:
    """An objective that counts how often it is traced."""

    def __init__(self):
        self.traces = 0

    def __call__(self, model, batch, key, state):
        self.traces += 1
        return SGVB()(model, batch, key, state)


def test_nothing_is_traced_again_that_has_been_compiled(line):
    counting = Counting()
    options = {**OPTIONS, "objective": counting}
    aevb.train(line(), DATA, **{**options, "epochs": 1})
    first = counting.traces
    assert first > 0
    for name, change in {
        "more epochs": {"epochs": 4},
        "another learning rate": {"learning_rate": 0.5},
        "the automatic learning rate": {"learning_rate": "auto"},
        "another seed": {"key": 4},
    }.items():
        aevb.train(line(), DATA, **{**options, **change})
        assert counting.traces == first, name
    aevb.train(line(1), DATA[:22], **options)  # 21 to 22 rows: the same bucket of 22
    within_bucket = counting.traces
    aevb.train(line(1), DATA[:21], **options)
    assert counting.traces == within_bucket


class Offset(LatentVariableModel):
    """A datapoint of two named parts, with an offset of its own for one of them."""

    weight: jax.Array

    def prior(self):
        return dist.Normal(0.0, 1.0)

    def likelihood(self, z, c):
        return Parts(dist.Normal(z + c, 1.0), dist.Normal(z, 0.5))

    def posterior(self, x, c):
        return dist.Normal(self.weight * (x["a"] - c + x["b"]), 0.5)


class Parts:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def log_prob(self, x):
        return self.a.log_prob(x["a"]) + self.b.log_prob(x["b"])


def test_rows_may_be_pytrees_with_a_context():
    rng = np.random.default_rng(0)
    z, c = rng.normal(size=200), rng.normal(size=200)
    data = {"a": z + c + rng.normal(size=200), "b": z + 0.5 * rng.normal(size=200)}
    data = {name: column.astype(np.float32) for name, column in data.items()}
    recorder = []
    aevb.train(
        Offset(jnp.array(0.0)),
        data,
        context=c.astype(np.float32),
        epochs=60,
        learning_rate=0.02,
        callbacks=[lambda epoch: recorder.append(float(epoch.model.weight))],
    )
    # E[z|x] = (a - c + 4 b) / 6; the best common weight of a - c and b is what least squares gives.
    total = data["a"] - c + data["b"]
    target = (data["a"] - c + 4 * data["b"]) / 6
    assert abs(recorder[-1] - total @ target / (total @ total)) < 0.02


def test_held_out_rows_have_their_own_context():
    c = np.arange(4, dtype=np.float32)
    data, options = {"a": c, "b": 0 * c}, {"context": c, "epochs": 1, "batch_size": 4, "key": 0}
    model = Offset(jnp.array(0.3))

    def validation_elbo(context):
        result = aevb.train(
            model, data, **options, validation_data=data, validation_context=context
        )
        return result.history["validation_elbo"][0]

    # Under c = 0 the datum a = c is further from what the model expects.
    assert validation_elbo(c) > validation_elbo(0 * c) + 0.1


def test_an_objective_of_ones_own_keeps_a_state_and_its_metrics(line):
    def running_mean(model, batch, key, state):
        count = jnp.sum(batch.weight)
        surrogate, metrics, _ = SGVB()(model, batch, key, None)
        return surrogate, {**metrics, "rows": count, "vector": jnp.ones(2)}, state

    result = aevb.train(line(), DATA, objective=running_mean, **OPTIONS)
    # Metrics are averaged over rows: batches of 5, 5, 5, 5 and 3.
    np.testing.assert_allclose(result.history["rows"], (4 * 25 + 9) / 23, rtol=1e-6)
    np.testing.assert_allclose(result.history["vector"], np.ones((2, 2)), rtol=1e-6)


class Number(LatentVariableModel):
    weight: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x):
        return dist.Normal(self.weight * x, 1.0)


TRACES = []


class Diary(aevb.Objective):
    """Expectation-maximisation that writes into its state which rows it saw, and how often."""

    n_updates = 3

    def init(self, model, chunk, key):
        assert chunk.c is None
        return {"seen": jnp.zeros(len(chunk.x)), "updates": jnp.array(0.0)}  # weakly typed

    def expect(self, model, batch, key, state):
        return {**state, "seen": state["seen"].at[batch.rows].add(batch.weight)}

    def __call__(self, model, batch, key, state):
        TRACES.append(1)
        metrics = {"seen": jnp.min(state["seen"][batch.rows]), "updates": state["updates"]}
        surrogate = -0.5 * (model.weight - 1.0) ** 2
        return surrogate, metrics, {**state, "updates": state["updates"] + 1}


def test_an_objective_may_have_an_expectation_step_and_several_updates():
    diary, weight = Diary(), jnp.array(0.0)  # a weakly typed number
    options = {**OPTIONS, "optimizer": "sgd", "learning_rate": 0.1, "objective": diary}
    result = aevb.train(Number(weight), DATA[:, 0], **{**options, "epochs": 1})
    once = len(TRACES)
    assert float(result.model.weight) == pytest.approx(1 - 0.9 ** (3 * 5))  # 5 batches
    np.testing.assert_array_equal(result.state.objective_state["seen"][:23], 1)
    assert int(result.state.step) == 5
    assert result.state.objective_state["updates"] == 15
    # Metrics are those of the first update of each batch, after its expectation.
    assert result.history["seen"] == [1.0]
    np.testing.assert_allclose(result.history["updates"], (5 * (0 + 3 + 6 + 9) + 3 * 12) / 23)
    three = aevb.train(Number(weight), DATA[:, 0], **{**options, "epochs": 3})
    np.testing.assert_array_equal(three.state.objective_state["seen"][:23], 3)
    assert len(TRACES) == once  # compiled once, and for weakly typed numbers too


class Draws(aevb.Objective):
    """Several updates that write down the numbers their keys gave."""

    n_updates = 3

    def init(self, model, chunk, key):
        return {"own": jnp.zeros(3), "row": jnp.zeros(3), "i": jnp.zeros((), jnp.int32)}

    def __call__(self, model, batch, key, state):
        own, row = jax.random.normal(key), jax.random.normal(batch.keys[0])
        i = state["i"]
        state = {"own": state["own"].at[i].set(own), "row": state["row"].at[i].set(row), "i": i + 1}
        return -(model.weight**2), {}, state


def test_each_of_several_updates_has_keys_of_its_own():
    options = {**OPTIONS, "batch_size": 24, "epochs": 1, "objective": Draws()}
    state = aevb.train(Number(jnp.array(0.0)), DATA[:, 0], **options).state.objective_state
    assert state["i"] == 3
    assert len(np.unique(np.concatenate([state["own"], state["row"]]))) == 6
