"""A linear VAE finds the optimum of probabilistic PCA, which is known in closed form.

Tipping and Bishop (1999), Probabilistic principal component analysis: with λ the eigenvalues of
the covariance of the data, the best s² is the mean of the discarded ones.
"""

from typing import NamedTuple

import numpy as np
import optax
import pytest

from aevb import VAE, Gaussian

D, K, N = 6, 2, 1000


class PPCA(NamedTuple):
    """Maximum-likelihood solution."""

    mean: np.ndarray
    W: np.ndarray
    s: float
    eigenvalues: np.ndarray

    @classmethod
    def fit(cls, X):
        mean = X.mean(axis=0)
        eigenvalues, U = np.linalg.eigh(np.cov(X.T, bias=True))
        eigenvalues, U = eigenvalues[::-1], U[:, ::-1]
        s2 = eigenvalues[K:].mean()
        return cls(mean, U[:, :K] * np.sqrt(eigenvalues[:K] - s2), s2**0.5, eigenvalues)

    def log_likelihood(self, X):
        C = self.W @ self.W.T + self.s**2 * np.eye(D)
        quadratic = np.einsum("nd,nd->n", X - self.mean, np.linalg.solve(C, (X - self.mean).T).T)
        return -0.5 * (D * np.log(2 * np.pi) + np.linalg.slogdet(C)[1] + quadratic)

    def reconstruct(self, X):
        M = self.W.T @ self.W + self.s**2 * np.eye(K)
        return self.mean + (X - self.mean) @ self.W @ np.linalg.solve(M, self.W.T)


@pytest.fixture(scope="module")
def data():
    """Training and test data with two directions that stand out of isotropic noise."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(D, K)) * [2.0, 1.0]
    X = rng.normal(size=(2 * N, K)) @ W.T + 0.5 * rng.normal(size=(2 * N, D)) + rng.normal(size=D)
    return X[:N], X[N:]


@pytest.fixture(scope="module")
def ppca(data):
    return PPCA.fit(data[0])


def linear(latent_dim, scale):
    """Make a linear VAE that trains until nothing moves any more."""
    return VAE(
        latent_dim,
        hidden=(),
        init="random",  # the optimum is to be found
        likelihood=Gaussian(scale),
        optimizer="adam",
        learning_rate=optax.cosine_decay_schedule(0.03, 300 * N // 100),
        epochs=300,
        random_state=0,
    )


@pytest.fixture(scope="module")
def vae(data, ppca):
    return linear(K, ppca.s).fit(data[0])


def test_closed_form_of_the_maximum(data, ppca):
    discarded = (D - K) * np.log(ppca.s**2)
    maximum = -0.5 * (D * np.log(2 * np.pi) + np.log(ppca.eigenvalues[:K]).sum() + discarded + D)
    np.testing.assert_allclose(ppca.log_likelihood(data[0]).mean(), maximum, rtol=1e-12)


def test_bound_reaches_the_maximum_likelihood(data, ppca, vae):
    maximum = ppca.log_likelihood(data[0]).mean()
    bound = vae.elbo(data[0], n_draws=256).mean()  # with a standard error below 0.005 nats
    assert maximum - 0.02 < bound < maximum + 0.01
    last = np.mean(vae.history_["elbo"][-30:])  # with a standard error of 0.005 nats
    np.testing.assert_allclose(last, maximum, atol=0.02)


def test_held_out_rows_are_as_likely_as_under_ppca(data, ppca, vae):
    expected = ppca.log_likelihood(data[1])
    estimated = vae.log_likelihood(data[1], n_draws=200)
    assert abs(estimated.mean() - expected.mean()) < 0.01
    np.testing.assert_allclose(estimated, expected, atol=0.2)
    assert abs(vae.elbo(data[1], n_draws=256).mean() - expected.mean()) < 0.02


def test_reconstructions_are_ppcas(data, ppca, vae):
    ours, theirs = vae.reconstruct(data[1]), ppca.reconstruct(data[1])
    error = np.sqrt(np.mean((ours - theirs) ** 2))
    assert error < 0.01 * np.std(theirs)


def test_no_dimension_is_idle(vae):
    assert (vae.explained_nats_ > 0.5).all()


@pytest.mark.slow
def test_a_third_dimension_stays_idle(data, ppca):
    # With s² fixed, directions of the data below it are not worth a latent dimension.
    noise = float(np.sqrt(1.2 * ppca.eigenvalues[K]))
    explained = np.sort(linear(3, noise).fit(data[0]).explained_nats_)
    assert explained[0] < 0.01
    assert explained[1] > 0.5
