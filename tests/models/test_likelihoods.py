"""Decoders are densities in the data's own units, whatever those are."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb import Bernoulli, Gaussian, datasets
from aevb.models.autoencoder import build_autoencoder
from aevb.schema import Schema

_build = eqx.filter_jit(build_autoencoder)


def build(X, likelihood, latent_dim=2, **options):
    """Build an auto-encoder for data, as `VAE.fit` does before its first step."""
    return _build(
        Schema.fit(X, likelihood).block,
        latent_dim,
        key=jax.random.key(3),
        **{"hidden": (5,), **options},
    )


@eqx.filter_jit
def log_probs(model, X, Z):
    """Evaluate log p(x|z), row by row."""
    return jax.vmap(lambda x, z: model.likelihood(z).log_prob(x))(X, Z)


@eqx.filter_jit
def moments(model, z):
    """Return mean and variance of p(x|z)."""
    p = model.likelihood(z)
    return p.mean, p.variance


@eqx.filter_jit
def encoded(model, x):
    """Return the mean of q(z|x)."""
    return model.posterior(x).mean


def table(n=40, d=3):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) * [0.01, 1.0, 300.0] + [5.0, 0.0, -1e4]).astype(np.float32)


Z = np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
GAUSSIANS = {
    "learned": Gaussian(),
    "per-datapoint": Gaussian("per-datapoint"),
    "fixed": Gaussian(2.5),
}


@pytest.mark.parametrize("likelihood", GAUSSIANS.values(), ids=list(GAUSSIANS))
class TestGaussian:
    @pytest.mark.parametrize("column", [0, 1, 2])
    def test_density_integrates_to_one_in_the_data_units(self, likelihood, column):
        X = table()[:, [column]]
        model = build(X, likelihood)
        mean, variance = (float(moment[0]) for moment in moments(model, Z[0]))
        scale = variance**0.5
        grid = np.linspace(mean - 9 * scale, mean + 9 * scale, 2001)
        points = grid[:, None].astype(np.float32)
        density = np.exp(log_probs(model, points, np.broadcast_to(Z[0], (2001, 2))))
        total = np.trapezoid(density.astype(np.float64), grid)
        # float32 resolves the axis to a 6e-8th of its values.
        np.testing.assert_allclose(total, 1.0, atol=1e-4 + 1e-6 * abs(mean) / scale)

    def test_units_of_the_data_shift_the_log_density_alone(self, likelihood):
        X, c = table(), 2.0**10  # a power of two: exact in floating point
        scaled = likelihood
        if not isinstance(likelihood.scale, str):
            scaled = Gaussian(likelihood.scale * c)
        one, other = build(X, likelihood), build(X * c, scaled)
        before, after = log_probs(one, X, Z), log_probs(other, X * c, Z)
        rounding = 1e-6 * np.abs(before).max()
        np.testing.assert_allclose(after - before, -3 * np.log(c), rtol=1e-5, atol=rounding)
        np.testing.assert_array_equal(encoded(other, X[0] * c), encoded(one, X[0]))

    def test_constant_columns_are_no_trouble(self, likelihood):
        X = table()
        X[:, 1] = 7.25
        model = build(X, likelihood)
        assert np.isfinite(log_probs(model, X, Z)).all()
        assert abs(moments(model, Z[0])[0][1] - 7.25) < 5
        assert np.isfinite(encoded(model, X[0])).all()

    def test_images_keep_their_shape(self, likelihood):
        X = table().reshape(40, 3, 1)
        assert moments(build(X, likelihood), Z[0])[0].shape == (3, 1)


def scales(model):
    return np.sqrt([moments(model, z)[1] for z in Z])


def test_gaussian_fixed_scale_is_the_standard_deviation_in_the_data_units():
    np.testing.assert_allclose(scales(build(table(), Gaussian(2.5))), 2.5, rtol=1e-6)


def test_gaussian_learned_scale_is_shared_by_all_data_and_starts_at_the_features_own():
    X = table()
    learned = scales(build(X, Gaussian()))
    np.testing.assert_array_equal(learned, np.broadcast_to(learned[0], learned.shape))
    np.testing.assert_allclose(learned[0], X.astype(np.float64).std(axis=0), rtol=0.01)


def test_gaussian_per_datapoint_scale_is_a_function_of_z():
    X = table()
    model = build(X, Gaussian("per-datapoint"), hidden=())
    relative = np.log(scales(model) / X.astype(np.float64).std(axis=0))
    assert (relative.std(axis=0) > 0.1).all()
    # Appendix C: log σ² is affine in the features, which are z itself here.
    design = np.column_stack([Z, np.ones(len(Z))])
    residual = relative - design @ np.linalg.lstsq(design, relative, rcond=None)[0]
    assert abs(residual).max() < 0.05


@pytest.mark.parametrize("scale", ["learned", "per-datapoint"])
def test_learned_scales_have_a_floor(scale):
    X = table()
    model = build(X, Gaussian(scale))
    head = model.decoder.head
    if scale == "learned":
        head = eqx.tree_at(lambda h: h.log_scale, head, jnp.full(3, -100.0))
    else:
        head = eqx.tree_at(lambda h: h.log_scale.linear.bias, head, jnp.full(3, -100.0))
    model = eqx.tree_at(lambda m: m.decoder.head, model, head)
    np.testing.assert_allclose(scales(model) / X.astype(np.float64).std(axis=0), np.exp(-9.0), 1e-3)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (0.0, r"positive number for `scale`; got 0\.0"),
        (float("nan"), "positive number for `scale`; got nan"),
        ("lerned", r"`scale`; got 'lerned'\. Did you mean 'learned'\?"),
    ],
)
def test_gaussian_says_which_scales_there_are(scale, message):
    with pytest.raises(ValueError, match=message):
        Gaussian(scale)


def test_bernoulli_of_8_bit_images_is_that_of_the_same_images_from_0_to_1():
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 3)).astype(np.uint8)
    unit = images.astype(np.float32) / 255
    bits, gray = build(images, Bernoulli()), build(unit, Bernoulli())
    of_bits, of_gray = log_probs(bits, images, Z), log_probs(gray, unit, Z)
    np.testing.assert_allclose(of_bits, of_gray, rtol=1e-5)
    means = [moments(model, Z[0])[0] for model in (bits, gray)]
    np.testing.assert_allclose(means[0], 255 * np.asarray(means[1]), rtol=1e-5)
    drawn = eqx.filter_jit(lambda model, key: model.likelihood(Z[0]).sample(key))
    assert set(np.unique(drawn(bits, jax.random.key(0)))) <= {0.0, 255.0}


def test_bernoulli_of_booleans_is_that_of_zeros_and_ones():
    bits = np.random.default_rng(0).random((40, 5)) < 0.3
    one, other = build(bits, Bernoulli()), build(bits.astype(np.float32), Bernoulli())
    np.testing.assert_array_equal(
        log_probs(one, bits, Z), log_probs(other, bits.astype(np.float32), Z)
    )


def gray_digits(n=200):
    """Images like MNIST's: 81 % of the pixels at the two ends."""
    rng = np.random.default_rng(0)
    ends = rng.choice([0, 255], (n, 8, 8), p=[0.9, 0.1])
    return np.where(rng.random((n, 8, 8)) < 0.81, ends, rng.integers(1, 255, (n, 8, 8)))


def chosen(X):
    """Return the likelihood that is chosen for data, and why."""
    schema = Schema.fit(X)
    return schema.likelihood, schema.why


CHOICES = {
    "zeros and ones": (lambda rng: (rng.random((50, 6)) < 0.3).astype(np.float32), "bernoulli"),
    "booleans": (lambda rng: rng.random((50, 6)) < 0.3, "bernoulli"),
    "gray digits, 8 bit": (lambda rng: gray_digits().astype(np.uint8), "bernoulli"),
    "gray digits, 0 to 1": (lambda rng: gray_digits().astype(np.float32) / 255, "bernoulli"),
    "faces, 8 bit": (
        lambda rng: rng.integers(20, 240, (50, 6)).astype(np.uint8),
        "discretised-logistic",
    ),
    "shares between 0 and 1": (lambda rng: rng.random((50, 6)).astype(np.float32), "gaussian"),
    "real numbers": (lambda rng: rng.normal(size=(50, 6)).astype(np.float32), "gaussian"),
    "zeros and minus ones": (
        lambda rng: -(rng.random((50, 6)) < 0.3).astype(np.float32),
        "gaussian",
    ),
    "counts": (lambda rng: rng.poisson(0.5, (50, 6)).astype(np.float32), "gaussian"),
}


@pytest.mark.parametrize(("make", "expected"), CHOICES.values(), ids=list(CHOICES))
def test_likelihood_is_chosen_by_the_share_of_extreme_values(make, expected):
    likelihood, why = chosen(make(np.random.default_rng(0)))
    assert likelihood.name == expected
    assert "values" in why


def test_a_quarter_of_extreme_values_is_where_bernoulli_begins():
    X = np.full((10, 10), 0.5, np.float32)
    X.flat[:25] = 1.0
    likelihood, why = chosen(X)
    assert isinstance(likelihood, Bernoulli)
    assert "25%" in why
    X.flat[0] = 0.5
    assert isinstance(chosen(X)[0], Gaussian)


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (datasets.load_mnist, "bernoulli"),
        (datasets.load_fashion_mnist, "bernoulli"),
        (datasets.load_frey_faces, "discretised-logistic"),
    ],
)
def test_likelihood_chosen_for_the_public_data_sets(load, expected):
    assert chosen(load().train.images)[0].name == expected


def test_likelihood_chosen_for_the_digits():
    assert chosen(datasets.load_digits().train.images)[0].name == "bernoulli"
