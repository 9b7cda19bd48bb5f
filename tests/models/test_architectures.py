"""Convolutional networks: the laws of their layers, pictures of any shape, and a VAE of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from aevb import VAE, architectures, priors
from aevb.models.convolutions import (
    ConvDecoder,
    ConvEncoder,
    Convolution,
    Residual,
    _by_convolution,
    _doubled,
    _on_processor,
    sizes,
)

rng = np.random.default_rng(0)
SMALL = {"epochs": 1, "batch_size": 20, "random_state": 0, "verbose": False}
TINY = architectures.Convolutional((3, 4))
KEY = jax.random.key(0)
PICTURES = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 72)) + rng.normal(size=(60, 72))
PICTURES = PICTURES.reshape(60, 8, 9)


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 15, 2), (10, 7, 3)])
@pytest.mark.parametrize(
    ("width", "stride"), [(3, 1), (5, 1), (3, 2), (1, 1), (4, 1), (4, 2), (5, 3)]
)
def test_a_processor_convolves_and_has_the_gradient_of_a_convolution(shape, width, stride):
    x, weight = rng.normal(size=shape), rng.normal(size=(width, width, shape[2], 5))
    x, weight = jnp.asarray(x, jnp.float32), jnp.asarray(weight, jnp.float32)

    def gradient(convolve):
        return jax.grad(lambda *of: jnp.sum(convolve(*of, stride) ** 2), argnums=(0, 1))(x, weight)

    one, other = (convolve(x, weight, stride) for convolve in (_on_processor, _by_convolution))
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, atol=1e-4)
    for a, b in zip(gradient(_on_processor), gradient(_by_convolution), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2)


def test_gradients_of_each_picture_sum_to_that_of_all():
    """By rows, or of the sum over rows: the weight's is a product over all places and pictures."""
    X = jnp.asarray(rng.normal(size=(4, 6, 5, 2)), jnp.float32)
    layer = Convolution(2, 3, key=KEY)

    def gradient(x):
        return jax.grad(lambda weight: jnp.sum(_on_processor(x, weight, 1) ** 2))(layer.weight)

    def of_all(weight):
        return jnp.sum(jax.vmap(lambda x: _on_processor(x, weight, 1))(X) ** 2)

    each = jax.vmap(gradient)(X)
    np.testing.assert_allclose(each.sum(0), jax.grad(of_all)(layer.weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 10), (7, 9), (7, 10)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_doubled_picture_is_convolved_without_it(size, channels):
    layer = Convolution(4, channels, key=KEY)
    layer = eqx.tree_at(lambda at: at.bias, layer, jnp.arange(1.0, channels + 1))
    x = jnp.asarray(rng.normal(size=(4, 5, 4)), jnp.float32)
    doubled = _doubled(x, size)
    assert doubled.shape == (*size, 4)
    np.testing.assert_array_equal(doubled[2:4, 6:8], jnp.broadcast_to(x[1, 3], (2, 2, 4)))
    np.testing.assert_allclose(layer.of_doubled(x, size), layer(doubled), atol=1e-5)


def test_a_picture_has_its_own_numbers_wherever_it_stands():
    X = (rng.random((40, 8, 9)) < 0.4) * 1.0
    vae = VAE(2, architecture=TINY, **SMALL).fit(X)
    order = rng.permutation(40)
    for method in (vae.transform, vae.reconstruct, vae.elbo):
        whole = method(X)
        np.testing.assert_array_equal(method(X[order]), whole[order])
        np.testing.assert_array_equal(method(X[7:9]), whole[7:9])


def test_a_window_is_summed_by_hand():
    layer = Convolution(2, 1, key=KEY)
    x = jnp.asarray(rng.normal(size=(5, 6, 2)), jnp.float32)
    expected = jnp.sum(x[1:4, 2:5] * layer.weight[..., 0]) + layer.bias[0]
    np.testing.assert_allclose(layer(x)[2, 3, 0], expected, rtol=1e-4)


def test_a_shifted_picture_has_shifted_features():
    layer = Convolution(1, 3, key=KEY)
    x = jnp.zeros((12, 12, 1)).at[4:7, 4:7].set(1.0)
    shifted = jnp.roll(x, (2, 3), (0, 1))
    np.testing.assert_allclose(layer(shifted), jnp.roll(layer(x), (2, 3), (0, 1)), atol=1e-6)


def test_a_residual_block_begins_at_the_identity_and_has_a_gradient():
    block = Residual(3, "gelu", key=KEY)
    x = jnp.asarray(rng.normal(size=(5, 4, 3)), jnp.float32)
    np.testing.assert_array_equal(block(x), x)
    gradient = eqx.filter_grad(lambda block: jnp.sum(block(x) ** 2))(block)
    assert float(jnp.abs(gradient.second.weight).max()) > 0


SHAPES = [(8, 8), (9, 15), (28, 28), (8, 31, 3), (17, 11, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape_is_read_and_returned(shape):
    channels = architectures.Convolutional().stages(shape)
    assert min(sizes(shape, len(channels))[-1]) >= 4
    n = int(np.prod(shape))
    encoder = ConvEncoder(shape, n, channels, (), "gelu", key=KEY)
    decoder = ConvDecoder(2, shape, channels, (), "gelu", key=KEY)
    places = np.prod(sizes(shape, len(channels))[-1])
    assert jax.eval_shape(encoder, jnp.zeros(shape)).shape == (places * channels[-1],)
    assert jax.eval_shape(decoder, jnp.zeros(2)).shape == shape


def test_what_stands_behind_a_picture_and_a_second_one_are_read():
    encoder = ConvEncoder((8, 8), 2 * 64 + 3, (4,), (), "gelu", key=KEY)
    x = jnp.asarray(rng.normal(size=131), jnp.float32)
    features = encoder(x)
    np.testing.assert_array_equal(features[-3:], x[-3:])
    other = encoder(x.at[64 + 9].add(1.0))  # of the second picture
    assert not jnp.array_equal(features, other)
    np.testing.assert_array_equal(encoder(x.at[-1].add(1.0))[:-3], features[:-3])


def test_every_pixel_depends_on_every_latent_and_reaches_every_feature():
    decoder = ConvDecoder(2, (9, 13), (3, 4), (), "gelu", key=KEY)
    last = jax.random.normal(KEY, decoder.last.weight.shape)  # zero at the beginning
    decoder = eqx.tree_at(lambda at: at.last.weight, decoder, last)
    slopes = jax.jacobian(decoder)(jnp.array([0.3, -0.2]))
    assert slopes.shape == (9, 13, 2) and bool((slopes != 0).all())
    encoder = ConvEncoder((9, 13), 117, (3, 4), (5,), "gelu", key=KEY)
    slopes = jax.jacobian(encoder)(jnp.asarray(rng.normal(size=(9, 13)), jnp.float32))
    assert bool((slopes != 0).any(axis=0).all())


def test_a_random_start_of_the_decoder_is_the_mean_of_each_pixel():
    X = rng.integers(0, 2, (50, 8, 9)) * (np.arange(9) > 3)
    block = VAE(2, **SMALL).fit(X).schema_.block
    decoder = TINY.decoder(block, 2, (), "gelu", key=KEY)
    logits = jnp.ravel(block.constants.start)
    assert float(jnp.ptp(logits)) > 1
    np.testing.assert_array_equal(jnp.ravel(decoder(jnp.array([3.0, -2.0]))), logits)
    learned = VAE(2, architecture=TINY, init="random", **SMALL).fit(X).model_.decoder
    assert learned.head.location.linear is None  # what the body returns is the location


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_start_is_that_of_fully_connected_layers(likelihood):
    """Both begin at the linear model, from which they depart."""
    X = (rng.random((60, 8, 9)) < 0.4) * 1.0 if likelihood == "bernoulli" else PICTURES
    options = {"likelihood": likelihood, "learning_rate": 1e-12, **SMALL}
    one, other = (VAE(2, architecture=a, **options).fit(X) for a in (TINY, "dense"))
    assert one.config_.init == "linear"
    np.testing.assert_allclose(one.transform(X), other.transform(X), atol=1e-4)
    np.testing.assert_allclose(one.score_samples(X), other.score_samples(X), rtol=1e-4)


CASES = {
    "gray": (rng.random((30, 9, 11)), {}, {}),
    "colour": (rng.integers(0, 256, (30, 8, 15, 3)).astype(np.uint8), {}, {}),
    "binary": ((rng.random((30, 28, 28)) < 0.3) * 1.0, {"hidden": (7,)}, {}),
    "condition": (rng.random((30, 8, 8)), {}, {"condition": list("abc" * 10)}),
    "vamp": (rng.random((30, 8, 8)), {"prior": priors.Vamp(10)}, {}),
}


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", CASES)
def test_a_model_of_pictures_does_all_that_others_do(name, tmp_path):
    X, options, told = CASES[name]
    vae = VAE(2, architecture=TINY, **SMALL, **options).fit(X, **told)
    assert vae.transform(X, **told).shape == (30, 2)
    assert vae.reconstruct(X, **told).shape == X.shape
    assert np.isfinite(vae.score_samples(X, **told)).all()
    assert vae.config_.init == "linear"
    vae.save(tmp_path / "model")
    again = VAE.load(tmp_path / "model")
    assert again.config_.architecture == TINY
    np.testing.assert_array_equal(again.transform(X, **told), vae.transform(X, **told))


def test_holes_in_pictures_are_seen_and_filled():
    X = rng.random((30, 8, 8))
    X[::2, 2, 3] = np.nan
    vae = VAE(2, architecture=TINY, **SMALL).fit(X)
    assert vae.model_.encoder.body.body.stages[0][0].weight.shape[2] == 2  # also which are there
    filled = vae.impute(X, 5)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[1::2], X[1::2])


@pytest.mark.slow
def test_structure_of_pictures_is_learned():
    """A bright square anywhere: two numbers say where, which no linear model can."""
    place = rng.integers(0, 9, (1500, 2))
    X = np.zeros((1500, 12, 12), np.float32)
    for picture, (i, j) in zip(X, place, strict=True):
        picture[i : i + 4, j : j + 4] = 1
    options = {"epochs": 20, "random_state": 0, "verbose": False}
    own = VAE(3, architecture=architectures.Convolutional((8, 16)), **options).fit(X[:1200])
    linear = VAE(3, hidden=(), **options).fit(X[:1200])
    assert own.score(X[1200:]) > linear.score(X[1200:]) + 10


BAD = {
    "rows": (np.zeros((30, 5)), {}, "pictures.*got rows of shape \\(5,\\).*dense"),
    "too small": (np.zeros((30, 7, 9)), {}, "8 x 8 pixels or more.*\\(7, 9\\)"),
    "a table": (pd.DataFrame({"a": [1.0, 2.0], "b": list("xy")}), {}, "pictures.*Reshape `X`"),
    "levels": (
        rng.integers(0, 3, (30, 8, 8)),
        {"likelihood": "categorical"},
        "one number from the decoder.*got 'categorical'",
    ),
    "an unknown name": (np.zeros((30, 8, 8)), {"architecture": "convs"}, "Did you mean 'conv'"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", BAD)
def test_what_is_not_a_picture_is_refused(name):
    X, options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        VAE(2, **{"architecture": "conv"} | options, **SMALL).fit(X)


@pytest.mark.parametrize(
    ("channels", "message"),
    [((), "at least one stage"), ((3, 0), "channels.*got 0"), ("many", "'auto'.*got 'many'")],
)
def test_impossible_channels_are_refused(channels, message):
    with pytest.raises(ValueError, match=message):
        architectures.Convolutional(channels)


def test_a_processor_has_products_and_other_devices_the_convolutions_of_xla():
    layer = Convolution(2, 3, stride=2, key=KEY)
    traced = jax.jit(lambda x: layer(x)).trace(jnp.zeros((8, 8, 2)))
    has_convolution = [
        "stablehlo.convolution" in traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cuda", "cpu")
    ]
    assert has_convolution == [True, False]
