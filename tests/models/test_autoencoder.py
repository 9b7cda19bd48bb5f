"""Auto-encoders put together from parts: ours, the user's, and parts that do not fit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aevb import VAE, Frozen, Gaussian, sgvb
from aevb.models.autoencoder import build_autoencoder
from aevb.models.base import trainable
from aevb.schema import Schema

X = np.random.default_rng(0).normal(size=(30, 2, 3)).astype(np.float32)
LATENT = 2

_build = eqx.filter_jit(build_autoencoder)


def build(likelihood="gaussian", latent_dim=LATENT, data=X, **options):
    return _build(
        Schema.fit(data, likelihood).block,
        latent_dim,
        key=jax.random.key(0),
        **{"hidden": (4,), **options},
    )


@eqx.filter_jit
def distributions(model, x, z):
    """Return mean and variance of p(z), p(x|z), q(z|x)."""
    parts = model.prior(), model.likelihood(z), model.posterior(x)
    return [(np.array(part.event_shape), part.mean, part.variance) for part in parts]


def test_parts_are_distributions_of_one_datapoint():
    prior, likelihood, posterior = distributions(build(), X[0], np.zeros(2, np.float32))
    np.testing.assert_array_equal(prior[1], [0.0, 0.0])
    np.testing.assert_array_equal(prior[2], [1.0, 1.0])
    assert likelihood[0].tolist() == [2, 3]
    assert posterior[0].tolist() == [2]


def test_posterior_is_equation_10s_gaussian_with_a_log_variance_from_the_network():
    model = build(hidden=())
    (_, _, (_, mean, variance)) = distributions(model, X[0], np.zeros(2, np.float32))
    linear = model.encoder.head.linear
    standardised = (X[0] - X.mean(axis=0)) / X.std(axis=0)
    output = np.asarray(linear.weight) @ standardised.ravel() + np.asarray(linear.bias)
    np.testing.assert_allclose(mean, output[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.log(variance), output[2:], rtol=1e-4, atol=1e-5)


def test_no_hidden_layer_makes_a_linear_decoder():
    model = build(hidden=())
    zero, one, two = (
        distributions(model, X[0], np.array([z, -z], np.float32))[1][1] for z in (0.0, 1.0, 2.0)
    )
    np.testing.assert_allclose(two - zero, 2 * (one - zero), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(zero, X.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_decoder_has_the_hidden_layers_in_reverse():
    model = build(hidden=(7, 5))
    assert [layer.weight.shape for layer in model.encoder.body.layers] == [(7, 6), (5, 7)]
    assert [layer.weight.shape for layer in model.decoder.body.layers] == [(5, 2), (7, 5)]


# Users' own networks, as encoder from (2, 3) to 5 features and as decoder from 2 to 5.


class Network(nnx.Module):
    """A Flax network, with a layer that may have state."""

    def __init__(self, n_inputs, layer=None, rngs=None):
        rngs = rngs or nnx.Rngs(0)
        self.linear = nnx.Linear(n_inputs, 5, rngs=rngs)
        self.layer = layer

    def __call__(self, x):
        h = self.linear(jnp.ravel(x))
        return jnp.tanh(h if self.layer is None else self.layer(h))


def batch_norm():
    return nnx.BatchNorm(5, rngs=nnx.Rngs(0))


def dropout():
    return nnx.Dropout(0.5, rngs=nnx.Rngs(0))


def evaluating(module):
    module.eval()
    return module


class Flat(eqx.Module):
    """An Equinox layer behind a flattening."""

    layer: eqx.Module

    def __call__(self, x):
        return self.layer(jnp.ravel(x))


def equinox_mlp(n_inputs):
    return Flat(eqx.nn.MLP(n_inputs, 5, 8, 1, key=jax.random.key(0)))


def equinox_dropout(n_inputs, **options):
    linear = eqx.nn.Linear(n_inputs, 5, key=jax.random.key(0))
    return Flat(eqx.nn.Sequential([linear, eqx.nn.Dropout(0.5, **options)]))


def equinox_batch_norm(n_inputs):
    return Flat(eqx.nn.BatchNorm(n_inputs, axis_name="batch", mode="ema"))


FITTING = {
    "Equinox": equinox_mlp,
    "Equinox, dropout in inference mode": lambda n: equinox_dropout(n, inference=True),
    "Flax NNX": Network,
    "Flax NNX, batch norm evaluating": lambda n: evaluating(Network(n, batch_norm())),
    "Flax NNX, dropout evaluating": lambda n: evaluating(Network(n, dropout())),
    "a function": lambda n: lambda x: jnp.concatenate([jnp.ravel(x), jnp.ones(1)]),
}
STATEFUL = {
    "Equinox dropout": equinox_dropout,
    "Equinox batch norm": equinox_batch_norm,
    "Flax NNX batch norm": lambda n: Network(n, batch_norm()),
    "Flax NNX dropout": lambda n: Network(n, dropout()),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("make", FITTING.values(), ids=list(FITTING))
def test_users_own_networks_train(make):
    vae = VAE(LATENT, encoder=make(6), decoder=make(2), epochs=1, batch_size=30, random_state=0)
    vae.fit(X)
    assert vae.transform(X).shape == (30, 2)
    assert vae.reconstruct(X).shape == X.shape
    before, after = (
        jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array))
        for module in (make(6), vae.model_.encoder.body)
    )
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True) if a.ndim > 1)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("make", STATEFUL.values(), ids=list(STATEFUL))
def test_networks_with_state_or_randomness_are_refused_before_training(make, part):
    n_inputs, shape = (6, r"\(2, 3\)") if part == "encoder" else (2, r"\(2,\)")
    vae = VAE(LATENT, **{part: make(n_inputs)}, epochs=1)
    message = (
        rf"Expected a stateless map of one float32 array of shape {shape} \(no batch axis\) for "
        rf"`{part}`; got (?s:.+)Layers with state or randomness \(batch normalisation, dropout\)"
    )
    with pytest.raises(ValueError, match=message):
        vae.fit(X)


WRONG = {
    "a matrix of features": ("encoder", lambda x: x, r"shape \(k,\), as output of `encoder`; got"),
    "a scalar": ("encoder", lambda x: jnp.sum(x), r"output of `encoder`; got shape \(\)"),
    "two outputs": (
        "encoder",
        lambda x: (x, x),
        r"for `encoder`; got \('float32\[2, 3\]', 'float32\[2, 3\]'\)",
    ),
    "integers": ("encoder", lambda x: jnp.ravel(x).astype(int), r"floating array .* got .*int32"),
    "another input size": (
        "encoder",
        Flat(eqx.nn.Linear(7, 5, key=jax.random.key(0))),
        r"shape \(2, 3\) \(no batch axis\) for `encoder`; got TypeError",
    ),
    "no function": ("encoder", 3, r"Expected a callable PyTree .* for `encoder`; got int"),
    "another image": (
        "decoder",
        lambda z: jnp.zeros((3, 2)),
        r"\(k,\), or an array of the shape of the data, \(2, 3\), as output of `decoder`; "
        r"got shape \(3, 2\)",
    ),
}


@pytest.mark.parametrize(("part", "network", "message"), WRONG.values(), ids=list(WRONG))
def test_networks_that_do_not_fit_are_told_what_was_expected_and_got(part, network, message):
    error = TypeError if part == "encoder" and network == 3 else ValueError
    with pytest.raises(error, match=message):
        VAE(LATENT, **{part: network}, epochs=1).fit(X)


def test_a_decoder_may_give_images_directly():
    model = build(decoder=lambda z: jnp.ones((2, 3)) * z[0])
    _, (_, mean, _), _ = distributions(model, X[0], np.array([2.0, 0.0], np.float32))
    np.testing.assert_allclose(mean, X.mean(axis=0) + 2 * X.std(axis=0), rtol=1e-5)


def test_images_without_features_leave_no_scale_per_datapoint():
    with pytest.raises(ValueError, match=r"returns a vector of features .*got .*shape \(2, 3\)"):
        build(Gaussian("per-datapoint"), decoder=lambda z: jnp.ones((2, 3)))


def test_training_may_move_floating_arrays_outside_frozen():
    model = {
        "weight": jnp.ones(2),
        "count": jnp.ones(2, jnp.int32),
        "name": "tanh",
        "frozen": Frozen({"shift": jnp.ones(2)}),
    }
    marks = trainable(model)
    assert jax.tree.leaves(marks["frozen"]) == [False]
    assert (marks["weight"], marks["count"], marks["name"]) == (True, False, False)


LAYERS = (4 * 6 + 4) + (4 * 4 + 4) + (4 * 2 + 4) + (6 * 4 + 6)  # of 6-4-2·2 and of 2-4-6


@pytest.mark.parametrize(
    ("likelihood", "n_parameters"),
    [("bernoulli", LAYERS), (Gaussian(), LAYERS + 6), (Gaussian(0.5), LAYERS)],
    ids=str,
)
def test_weights_are_trained_and_constants_of_the_data_are_not(likelihood, n_parameters):
    data = np.random.default_rng(0).random((30, 6)).astype(np.float32)
    model = build(likelihood, data=data)
    moving = jax.tree.leaves(eqx.filter(model, trainable(model)))
    assert sum(leaf.size for leaf in moving) == n_parameters
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: sgvb(m, data[0], jax.random.key(0))))(model)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(eqx.filter(gradient, trainable(model))))
