"""What a fitted model says of cases: representations, new cases, distances, likelihoods."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from aevb import VAE, Gaussian, datasets

IMAGES = (255 * datasets.load_digits().train.images[:200]).astype(np.uint8)
TABLE = np.random.default_rng(0).normal([0, 5, -5, 1], [1, 2, 3, 4], (200, 4)).astype(np.float32)
SMALL = {"hidden": (8,), "random_state": 0}


@pytest.fixture(scope="module")
def images():
    return VAE(2, epochs=20, **SMALL).fit(IMAGES), IMAGES


@pytest.fixture(scope="module")
def table():
    return VAE(2, epochs=20, **SMALL).fit(TABLE), TABLE


@pytest.fixture(params=["images", "table"])
def fitted(request):
    return request.getfixturevalue(request.param)


def test_transform_is_the_mean_of_the_posterior(fitted):
    vae, X = fitted
    q = vae.encode(X)
    assert len(q) == len(X)
    np.testing.assert_array_equal(q.mean, vae.transform(X))
    assert q.variance.shape == (200, 2)
    assert (np.asarray(q.variance) > 0).all()
    draws = np.asarray(q.sample(jax.random.key(0), (4000,)))
    standard_error = np.sqrt(np.asarray(q.variance) / 4000)
    assert (abs(draws.mean(axis=0) - q.mean) < 5 * standard_error).all()
    assert q.log_prob(q.mean).shape == (200,)


def test_explained_nats_are_equation_10_averaged_over_the_cases(fitted):
    vae, X = fitted
    q = vae.encode(X)
    mean, variance = (np.asarray(moment, np.float64) for moment in (q.mean, q.variance))
    kl = -0.5 * (1 + np.log(variance) - mean**2 - variance)
    np.testing.assert_allclose(vae.explained_nats_, kl.mean(axis=0), rtol=1e-3, atol=1e-4)


def test_reconstruction_is_the_way_there_and_back(fitted):
    vae, X = fitted
    np.testing.assert_array_equal(vae.reconstruct(X), vae.inverse_transform(vae.transform(X)))


def test_a_case_gets_the_same_numbers_in_every_company(fitted):
    vae, X = fitted
    for method in (vae.transform, vae.reconstruct, vae.elbo, vae.score_samples):
        whole = method(X)
        order = np.random.default_rng(0).permutation(200)
        np.testing.assert_array_equal(method(X[order]), whole[order])
        np.testing.assert_array_equal(method(X[:1]), whole[:1])
        np.testing.assert_array_equal(method(X[7:100]), whole[7:100])


class TestScores:
    def test_are_the_same_every_time(self, fitted):
        vae, X = fitted
        np.testing.assert_array_equal(vae.elbo(X), vae.elbo(X))
        np.testing.assert_array_equal(vae.elbo(X), vae.elbo(X, random_state=0))
        assert (vae.elbo(X) != vae.elbo(X, random_state=1)).any()

    def test_score_is_the_mean_bound(self, fitted):
        vae, X = fitted
        np.testing.assert_array_equal(vae.score_samples(X), vae.elbo(X))
        assert vae.elbo(X).shape == (200,)
        np.testing.assert_allclose(vae.score(X), vae.elbo(X).mean(), rtol=1e-6)

    def test_the_bound_is_below_the_likelihood(self, fitted):
        vae, X = fitted
        bound, likelihood = vae.elbo(X, n_draws=500), vae.log_likelihood(X, n_draws=500)
        gain = (likelihood - bound).astype(float)
        assert -2 * gain.std() / len(gain) ** 0.5 < gain.mean() < 10  # nearly exact on the table

    def test_one_importance_sample_is_a_noisy_bound(self, fitted):
        vae, X = fitted
        difference = vae.log_likelihood(X, n_draws=1) - vae.elbo(X, n_draws=256)
        assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(200)

    def test_more_draws_have_less_noise(self, fitted):
        vae, X = fitted
        few, many = (
            (vae.elbo(X, n_draws=n, random_state=1) - vae.elbo(X, n_draws=n, random_state=2)).std()
            for n in (4, 64)
        )
        np.testing.assert_allclose(few / many, 4.0, rtol=0.4)

    def test_agree_with_the_bound_seen_in_training(self, fitted):
        vae, X = fitted
        # The learning rate has fallen to nearly 0: the last epoch's model is the one we have.
        np.testing.assert_allclose(vae.score(X), vae.history_["elbo"][-1], atol=0.5)

    def test_are_densities_in_the_data_units(self, table):
        # One latent that says nothing, and a fixed scale: the bound is a product of normals'.
        vae, X = table
        x = X.astype(np.float64)
        independent = -0.5 * np.log(2 * np.pi * x.var(axis=0)).sum() - 0.5 * 4
        assert abs(vae.log_likelihood(X).mean() - independent) < 1.0


class TestSample:
    def test_is_reproducible(self, fitted):
        vae, _ = fitted
        np.testing.assert_array_equal(vae.sample(5, random_state=3), vae.sample(5, random_state=3))
        np.testing.assert_array_equal(vae.sample(5), vae.sample(5, random_state=0))
        assert (vae.sample(5) != vae.sample(5, random_state=4)).any()

    def test_has_the_shape_of_cases(self, fitted):
        vae, X = fitted
        assert vae.sample().shape == (1, *X.shape[1:])
        assert vae.sample(1500).shape == (1500, *X.shape[1:])
        assert vae.sample(3).dtype == np.float32

    def test_differs_from_case_to_case(self, fitted):
        vae, _ = fitted
        drawn = vae.sample(1500, mean=True).reshape(1500, -1)
        assert len(np.unique(drawn, axis=0)) == 1500

    def test_expectations_are_the_mean_of_draws(self, fitted):
        vae, _ = fitted
        draws, means = vae.sample(4000), vae.sample(4000, mean=True)
        standard_error = draws.std(axis=0) / np.sqrt(4000) + 1e-12
        assert (abs(draws.mean(axis=0) - means.mean(axis=0)) < 5 * standard_error).all()
        assert (means.std(axis=0) <= draws.std(axis=0) + 5 * standard_error).all()

    def test_draws_pixels_that_are_black_or_white(self, images):
        vae, _ = images
        assert set(np.unique(vae.sample(50))) == {0.0, 255.0}
        assert ((vae.sample(50, mean=True) >= 0) & (vae.sample(50, mean=True) <= 255)).all()

    def test_looks_like_the_data(self, table):
        vae, X = table
        drawn = vae.sample(4000)
        np.testing.assert_allclose(drawn.mean(axis=0), X.mean(axis=0), atol=0.3 * X.std())
        np.testing.assert_allclose(drawn.std(axis=0), X.std(axis=0), rtol=0.25)

    def test_without_a_seed_is_another_one_every_time(self):
        vae = VAE(2, hidden=(8,), epochs=1).fit(TABLE)
        assert (vae.sample(3) != vae.sample(3)).any()


class TestDistances:
    def test_between_means_are_euclidean(self, fitted):
        vae, X = fitted
        Z = vae.transform(X)
        np.testing.assert_allclose(vae.distances(X), cdist(Z, Z), atol=1e-3)
        np.testing.assert_allclose(vae.distances(X[:7], X[9:20]), cdist(Z[:7], Z[9:20]), atol=1e-3)

    def test_expected_ones_are_those_of_draws(self, fitted):
        vae, X = fitted
        X, Y = X[:3], X[3:7]
        keys = jax.random.split(jax.random.key(0))
        one, other = (
            np.asarray(vae.encode(rows).sample(key, (20_000,)))
            for rows, key in zip((X, Y), keys, strict=True)
        )
        squares = ((one[:, :, None] - other[:, None, :]) ** 2).sum(axis=-1)
        standard_error = squares.std(axis=0) / np.sqrt(len(squares))
        expected = vae.distances(X, Y, metric="expected") ** 2
        assert expected.shape == (3, 4)
        assert (abs(squares.mean(axis=0) - expected) < 5 * standard_error).all()

    def test_expected_ones_are_above_zero_from_a_case_to_itself(self, fitted):
        vae, X = fitted
        variance = np.asarray(vae.encode(X[:9]).variance).sum(axis=1)
        itself = np.diag(vae.distances(X[:9], metric="expected"))
        np.testing.assert_allclose(itself, np.sqrt(2 * variance), rtol=1e-5)

    def test_metric_has_a_name(self, table):
        vae, X = table
        with pytest.raises(ValueError, match=r"`metric`; got 'expcted'\. Did you mean 'expected'"):
            vae.distances(X, metric="expcted")


def test_a_fixed_scale_makes_the_exact_density(table):
    # Far from the data, log p(x|z) is all that counts: a normal of the scale that was fixed.
    _, X = table
    vae = VAE(1, likelihood=Gaussian(2.0), epochs=1, **SMALL).fit(X)
    z = np.zeros((1, 1))
    mean = vae.inverse_transform(z)[0].astype(np.float64)
    p = vae.model_.likelihood(z[0].astype(np.float32))
    expected = -2 * np.log(2 * np.pi * 4.0) - ((X[0] - mean) ** 2).sum() / 8
    np.testing.assert_allclose(p.log_prob(X[0]), expected, rtol=1e-5)
