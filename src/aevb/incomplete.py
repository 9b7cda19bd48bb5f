r"""Factor analysis of rows of which some values are missing, by expectation maximisation.

The likelihood of what is observed,

.. math:: \sum_i \log N(t_{io};\ (W z + A c_i + m)_o, \Psi_o),

is the one at which the bound of a model of data with holes is tight: missing values are integrated
out, none is filled in (Rubin and Thayer, 1982, https://doi.org/10.1007/BF02293851, for complete
rows).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from sklearn.utils.extmath import randomized_svd

_STEPS = 50
_TOLERANCE = 1e-4  # nats per row; the fit ends with a step below it
_MOST = 0.9  # the largest share of a column's variance that the factors explain at the start
_SMALL = 1e-6  # of a column's variance; the least that is left to the noise


class IncompleteModel(NamedTuple):
    """N(t; mean + loadings z + slopes c, diag noise²)."""

    mean: Float[np.ndarray, " size"]
    loadings: Float[np.ndarray, "size latent_dim"]
    slopes: Float[np.ndarray, "size k"]
    noise: Float[np.ndarray, " size"]

    def posterior(
        self,
        rows: Float[np.ndarray, "n size"],
        observed: Bool[np.ndarray, "n size"],
        context: Float[np.ndarray, "n k"],
    ) -> tuple[Float[np.ndarray, "n latent_dim"], Float[np.ndarray, "n latent_dim latent_dim"]]:
        """Return mean and covariance of z given what is observed of each row."""
        k = self.loadings.shape[1]
        left = np.where(observed, rows - self.mean - context @ self.slopes.T, 0.0)
        weight = self.loadings / self.noise[:, None] ** 2
        pairs = (weight[:, :, None] * self.loadings[:, None, :]).reshape(len(weight), -1)
        covariance = np.linalg.inv((observed @ pairs).reshape(-1, k, k) + np.eye(k))
        return np.einsum("nab,nb->na", covariance, left @ weight), covariance


def fit_incomplete(
    rows: Float[np.ndarray, "n size"],
    observed: Bool[np.ndarray, "n size"],
    latent_dim: int,
    noise: Float[np.ndarray, " size"] | None,
    weight: Float[np.ndarray, " n"],
    context: Float[np.ndarray, "n k"],
) -> IncompleteModel:
    r"""Fit factor analysis to what is observed.

    The loadings of a column have the prior :math:`N(0, \psi_j I)`, without which many factors
    explain the noise of few values.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Data; any numbers where they are missing.
    observed : ndarray of bool, shape (n, d)
        Which values are there.
    latent_dim : int
        Number of factors. With more factors than rows or columns, the last loadings are zero.
    noise : ndarray of shape (d,), optional
        Standard deviation of the noise, if known.
    weight : ndarray of shape (n,)
        Weights of the rows.
    context : ndarray of shape (n, k)
        Numbers on which the mean depends.
    """
    n, size = rows.shape
    weight = weight / weight.mean()
    there = weight @ observed
    mean = weight @ np.where(observed, rows, 0.0) / np.maximum(there, 1e-12)
    centred = np.where(observed, rows - mean, 0.0)
    spread = np.sqrt(weight @ centred**2 / np.maximum(there, 1e-12))
    varies = spread > 0
    unit = np.where(varies, spread, 1.0)
    scaled = centred / unit
    known = None if noise is None else np.maximum(noise / unit, np.sqrt(_SMALL))

    k = min(latent_dim, n, int(varies.sum()))
    loadings = np.zeros((size, latent_dim))
    if k:
        root = scaled * np.sqrt(weight / weight.sum())[:, None]
        _, values, vectors = randomized_svd(root, k, random_state=0)
        share = np.maximum(there / weight.sum(), 0.05)
        loadings[:, :k] = vectors.T * values / share[:, None]
    explained = np.sum(loadings**2, axis=1)
    loadings *= np.sqrt(np.minimum(1, _MOST / np.maximum(explained, 1e-12)))[:, None]
    own = np.sqrt(1 - np.minimum(explained, _MOST)) if known is None else known
    zero = np.zeros((size, context.shape[1]))
    model = IncompleteModel(np.zeros(size), loadings, zero, own)

    before = -np.inf
    for _ in range(_STEPS):
        model, now = _step(model, scaled, observed, weight, context, known)
        if now - before < _TOLERANCE:
            break
        before = now
    return IncompleteModel(
        mean + unit * model.mean,
        unit[:, None] * model.loadings,
        unit[:, None] * model.slopes,
        np.where(varies, unit * model.noise, 0.0) if noise is None else noise,
    )


def _step(
    model: IncompleteModel,
    rows: np.ndarray,
    observed: np.ndarray,
    weight: np.ndarray,
    context: np.ndarray,
    known: np.ndarray | None,
) -> tuple[IncompleteModel, float]:
    """Make one step; return the model, and the log-likelihood before it, nats per row."""
    n, k = len(rows), model.loadings.shape[1]
    z, covariance = model.posterior(rows, observed, context)
    now = _log_likelihood(model, rows, observed, weight, context, z, covariance)

    # Each column's regression on factors, context and a constant, over the rows that have it.
    regressors = np.concatenate([z, context, np.ones((n, 1))], axis=1)
    squares = regressors[:, :, None] * regressors[:, None, :]
    squares[:, :k, :k] += covariance
    size = squares.shape[1]
    counts = weight[:, None] * observed
    sums = (counts.T @ squares.reshape(n, -1)).reshape(-1, size, size)
    sums += np.diag(np.r_[np.ones(k), np.full(size - k, 1e-9)])
    products = (counts * rows).T @ regressors
    slopes = np.linalg.solve(sums, products[:, :, None])[:, :, 0]
    noise = known
    if noise is None:
        total = np.einsum("nd,nd->d", counts, rows**2)
        left = total - np.einsum("da,da->d", slopes, products)
        noise = np.sqrt(np.maximum(left / np.maximum(counts.sum(axis=0), 1e-12), _SMALL))
    return IncompleteModel(slopes[:, -1], slopes[:, :k], slopes[:, k:-1], noise), now


def _log_likelihood(
    model: IncompleteModel,
    rows: np.ndarray,
    observed: np.ndarray,
    weight: np.ndarray,
    context: np.ndarray,
    z: np.ndarray,
    covariance: np.ndarray,
) -> float:
    left = np.where(observed, rows - model.mean - context @ model.slopes.T, 0.0) / model.noise
    explained = np.einsum("na,na->n", (left / model.noise) @ model.loadings, z)
    logs = observed @ (2 * np.log(model.noise) + np.log(2 * np.pi))
    each = logs - np.linalg.slogdet(covariance)[1] + np.sum(left**2, axis=1) - explained
    return float(-0.5 * (weight @ each) / weight.sum())
