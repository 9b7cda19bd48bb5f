"""Bodies compute what their formula says, and start where theirs says."""

import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb import MLP
from aevb.inference.sgvb import log_weight_prior
from aevb.models.networks import ACTIVATIONS, Linear, applied_weights

make_mlp = eqx.filter_jit(MLP)
H = np.linspace(-3.0, 3.0, 13, dtype=np.float32)
# The functions that the names stand for, written out.
FORMULAS = {
    "tanh": np.tanh,
    "relu": lambda h: np.maximum(h, 0),
    "leaky_relu": lambda h: np.where(h > 0, h, 0.01 * h),
    "elu": lambda h: np.where(h > 0, h, np.expm1(h)),
    "selu": lambda h: 1.0507009873554805 * np.where(h > 0, h, 1.6732632423543772 * np.expm1(h)),
    "gelu": lambda h: 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3))),
    "silu": lambda h: h / (1 + np.exp(-h)),
    "swish": lambda h: h / (1 + np.exp(-h)),
    "mish": lambda h: h * np.tanh(np.log1p(np.exp(h))),
    "softplus": lambda h: np.log1p(np.exp(h)),
    "sigmoid": lambda h: 1 / (1 + np.exp(-h)),
    "identity": lambda h: h,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_the_function_of_its_name(name):
    body = MLP(1, (), name, key=jax.random.key(0))
    body = eqx.tree_at(lambda b: b.layers, body, (lambda x: x,), is_leaf=lambda x: x == ())
    np.testing.assert_allclose(body(H), FORMULAS[name](H), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "hidden", "features"),
    [((6,), (), 6), ((6,), (4,), 4), ((2, 3), (4, 5), 5), ((2, 3, 1), (), 6), ((6,), (5, 4, 3), 3)],
)
def test_turns_a_datum_of_any_shape_into_features(shape, hidden, features):
    body = make_mlp(6, hidden, "tanh", key=jax.random.key(0))
    assert len(body.layers) == len(hidden)
    assert body(jnp.ones(shape)).shape == (features,)


def test_is_affine_maps_each_followed_by_the_activation():
    body = make_mlp(4, (3, 2), jnp.sin, key=jax.random.key(1))
    x = np.linspace(-1, 1, 4)
    h = x
    for layer in body.layers:
        h = np.sin(np.asarray(layer.weight, np.float64) @ h + np.asarray(layer.bias))
    np.testing.assert_allclose(body(jnp.asarray(x)), h, rtol=1e-5)


def test_weights_start_as_glorots_and_biases_at_zero():
    layer = eqx.filter_jit(Linear)(300, 200, key=jax.random.key(0))
    weight = np.asarray(layer.weight)
    limit = np.sqrt(6 / 500)
    assert weight.shape == (200, 300)
    assert abs(weight).max() <= limit
    assert abs(weight).max() > 0.999 * limit
    # Uniform on ±limit: variance limit²/3; 60,000 weights.
    np.testing.assert_allclose(weight.var(), limit**2 / 3, rtol=0.02)
    assert abs(weight.mean()) < 4 * limit / np.sqrt(3 * weight.size)
    assert not np.asarray(layer.bias).any()


def test_layers_start_independent_of_each_other():
    body = make_mlp(50, (50, 50), "tanh", key=jax.random.key(0))
    first, second = (np.asarray(layer.weight).ravel() for layer in body.layers)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_a_named_activation_can_be_pickled():
    body = make_mlp(3, (2,), "leaky_relu", key=jax.random.key(0))
    again = pickle.loads(pickle.dumps(body))
    assert again.activation == "leaky_relu"
    np.testing.assert_array_equal(again(jnp.ones(3)), body(jnp.ones(3)))


def test_an_unknown_activation_is_answered_with_the_nearest_known():
    body = make_mlp(3, (2,), "rellu", key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"`activation`; got 'rellu'\. Did you mean 'relu'\?"):
        body(jnp.ones(3))


@pytest.mark.parametrize("in_size", [4, 1024, 4096])
def test_a_step_moves_wide_layers_no_further_than_others(in_size):
    layer = Linear(in_size, 3, key=jax.random.key(0))
    limit = np.sqrt(6 / (in_size + 3))
    applied = applied_weights(layer).weight
    assert 0.9 * limit < abs(applied).max() <= limit
    x = jnp.ones(in_size)
    np.testing.assert_allclose(layer(x), applied @ x, rtol=1e-5, atol=1e-5)
    moved = eqx.tree_at(lambda at: at.weight, layer, layer.weight + 0.01)
    np.testing.assert_allclose(moved(x) - layer(x), 0.01 * min(in_size, 1024), rtol=1e-3)


def test_a_weight_prior_is_that_of_the_weights_applied():
    layer = Linear(4096, 2, key=jax.random.key(0))
    applied = applied_weights(layer).weight
    np.testing.assert_allclose(
        log_weight_prior([layer], 1.0), -0.5 * jnp.sum(applied**2), rtol=1e-5
    )
