"""Factor analysis of the data, in one pass: where a variational auto-encoder may begin."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.extmath import randomized_svd

from aevb.compiling import jit
from aevb.incomplete import fit_incomplete
from aevb.models.kinds import Block
from aevb.models.kinds.case import CaseBlock
from aevb.models.kinds.rows import CHUNK, dense, n_cases, take
from aevb.models.linear import LinearStart, Start, Working

FEW_COLUMNS = 256  # up to here the products of all pairs are summed over all rows
N_ROWS = 4096  # rows that are used where there are more columns, or holes; or fewer:
MOST_VALUES, MOST_WITH_HOLES = 4_300_000, 2**20  # that are held at one time, in double precision
TOLERANCE = 1e-4  # nats per row; the fit ends with a step below it


class Moments(NamedTuple):
    """Weight, mean, and sums of products of the deviations of some rows; `merge` adds others."""

    n: float
    mean: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, weight: np.ndarray | None = None) -> Moments:
        """Take the moments of some rows, which count by their weights."""
        weight = np.ones(len(rows)) if weight is None else weight
        n = weight.sum()
        mean = weight @ rows / n
        deviations = rows - mean
        return cls(n, mean, (weight[:, None] * deviations).T @ deviations)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the rows of both."""
        n = self.n + other.n
        step = other.mean - self.mean
        between = np.outer(step, step) * (self.n * other.n / n)
        mean = self.mean + step * (other.n / n)
        return Moments(n, mean, self.products + other.products + between)

    def rows(self) -> np.ndarray:
        """Return a few rows of the same mean and covariance."""
        values, vectors = np.linalg.eigh(self.products / self.n)
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T * np.sqrt(len(values))
        return self.mean + np.concatenate([root, -root])


class FactorModel(NamedTuple):
    """N(t; mean + loadings z, diag noise²)."""

    mean: Float[np.ndarray, " size"]
    loadings: Float[np.ndarray, "size latent_dim"]
    noise: Float[np.ndarray, " size"]

    def recognise(self) -> tuple[FactorModel, np.ndarray, np.ndarray]:
        """Rotate z so that p(z|t) is diagonal; return the weights of its mean, and its scale."""
        scaled = self.loadings / self.noise[:, None] ** 2
        nats, rotation = np.linalg.eigh(self.loadings.T @ scaled)
        nats, rotation = np.maximum(nats[::-1], 0), rotation[:, ::-1]  # the strongest first
        loadings = self.loadings @ rotation
        largest = loadings[np.abs(loadings).argmax(axis=0), np.arange(len(nats))]
        signs = np.where(largest < 0, -1, 1)  # the same on every machine
        weights = (scaled @ rotation * signs).T / (1 + nats)[:, None]
        return self._replace(loadings=loadings * signs), weights, 1 / np.sqrt(1 + nats)


def fit_factors(rows: np.ndarray, latent_dim: int, noise: np.ndarray | None) -> FactorModel:
    """Fit factor analysis, or with known noise the closed form of probabilistic PCA.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Data.
    latent_dim : int
        Number of factors. With more factors than columns, the last loadings are zero.
    noise : ndarray of shape (d,), optional
        Standard deviation of the noise, if known.
    """
    mean = rows.mean(axis=0)
    n, size = rows.shape
    k = min(latent_dim, size, n)
    loadings = np.zeros((size, latent_dim))
    if noise is None:
        noise, varies = np.zeros(size), rows.std(axis=0) > 0
        if varies.any():
            k = min(k, int(varies.sum()))
            loadings[varies, :k], noise[varies] = _factor_analysis(rows[:, varies], k)
    else:
        # Tipping and Bishop (1999), https://doi.org/10.1111/1467-9868.00196, equation 7.
        values, vectors = _leading((rows - mean) / noise / np.sqrt(n), k)
        loadings[:, :k] = noise[:, None] * vectors.T * np.sqrt(np.maximum(values**2 - 1, 0))
    return FactorModel(mean, loadings, noise)


def _factor_analysis(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    options: dict[str, Any] = {"svd_method": "randomized", "max_iter": 50, "random_state": 0}
    if min(rows.shape) <= FEW_COLUMNS:
        options = {"svd_method": "lapack", "max_iter": 1000}
        options["noise_variance_init"] = first_noise(rows, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = FactorAnalysis(k, tol=TOLERANCE * len(rows), **options)
        model.fit(rows)
    return model.components_.T, np.sqrt(model.noise_variance_)


def first_noise(rows: np.ndarray, k: int) -> np.ndarray:
    """Return variances of the noise from which the search for the maximum may begin.

    A share of what regression on all other columns leaves unexplained (Jöreskog, 1967,
    https://doi.org/10.1007/BF02289658). From the columns' variances, the search stops at once
    where there are about as many factors as columns, far below the maximum.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Data whose columns vary.
    k : int
        Number of factors.
    """
    deviations = rows - rows.mean(axis=0)
    _, values, vectors = np.linalg.svd(deviations / np.sqrt(len(rows)), full_matrices=False)
    kept = values > values[0] * 1e-6
    precisions = np.sum((vectors[kept] / values[kept, None]) ** 2, axis=0)
    with np.errstate(divide="ignore"):  # of a column that nearly does not vary
        unexplained = 1 / precisions
    share = 1 - k / (2 * rows.shape[1])
    return np.minimum(share * unexplained, np.mean(deviations**2, axis=0))


def _leading(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest singular values, and the right singular vectors."""
    if min(matrix.shape) <= 2 * FEW_COLUMNS:
        _, values, vectors = np.linalg.svd(matrix, full_matrices=False)
    else:
        _, values, vectors = randomized_svd(matrix, k, random_state=0)
    return values[:k], vectors[:k]


def linear_start(
    block: Block | CaseBlock,
    working: Working,
    cases: PyTree,
    latent_dim: int,
    weight: np.ndarray | None = None,
    context: np.ndarray | None = None,
    *,
    inputs: Callable | None = None,
) -> LinearStart:
    """Find where decoder and encoder begin.

    Under a condition that is factor analysis of what regression on it leaves.

    Parameters
    ----------
    block : Block
        Tells what the encoder reads of the data.
    working : Working
        How the likelihood looks to the linear model.
    cases : ndarray of shape (n, ...), or Case of such
        Training cases.
    latent_dim : int
        Number of latent dimensions.
    weight : ndarray of shape (n,), optional
        Weights of the cases.
    context : ndarray of shape (n, k), optional
        What the networks read of a condition.
    inputs : callable, optional
        What the encoder reads of one of the cases; None: as the block says.
    """
    inputs = block.constants.inputs if inputs is None else inputs
    context = np.zeros((n_cases(cases), 0)) if context is None else np.asarray(context, np.float64)
    weight = np.ones(n_cases(cases)) if weight is None else np.asarray(weight, np.float64)
    size = len(working.gain)
    holes = block if isinstance(block, CaseBlock) and block.holes else None
    if holes or size > FEW_COLUMNS:
        most = MOST_VALUES // size
        if holes:
            most = MOST_WITH_HOLES // max(size, (latent_dim + context.shape[1] + 1) ** 2 // 16)
        most = min(N_ROWS, max(most, 256))
        if len(weight) > most:
            chosen = _some_of(weight, most)
            cases, context, weight = take(cases, chosen), context[chosen], np.ones(len(chosen))
    parts = [slice(at, at + CHUNK) for at in range(0, n_cases(cases), CHUNK)]

    def read(part: slice) -> np.ndarray:
        chunk = dense(take(cases, part))
        n = n_cases(chunk)
        padded = jax.tree.map(lambda array: _padded(array, CHUNK), chunk)  # of one shape, always
        return np.asarray(_read(inputs, padded), np.float64)[:n].reshape(n, -1)

    if holes:
        rows = np.concatenate([*map(read, parts)])
        return _start_with_holes(rows, holes, working, latent_dim, weight, context)

    def values(part: slice) -> np.ndarray:
        return np.concatenate([working.gain * read(part) + working.offset, context[part]], axis=1)

    if size <= FEW_COLUMNS:
        each = (Moments.of(values(part), weight[part]) for part in parts)
        some = functools.reduce(Moments.merge, each).rows()
    else:
        some = np.concatenate([*map(values, parts)])
    some, slopes, centre = _without(some[:, :size], some[:, size:])
    model = fit_factors(some, latent_dim, working.noise)
    model = model._replace(noise=np.maximum(model.noise, working.least_noise))
    model, weights, scale = model.recognise()
    mean = model.mean - slopes @ centre
    encoder = Start(
        _single(np.concatenate([weights * working.gain, -weights @ slopes], axis=1)),
        _single(weights @ (working.offset - mean)),
        _single(scale),
    )
    return LinearStart(_decoder(working, model._replace(mean=mean), slopes), encoder)


def _decoder(working: Working, model: FactorModel, slopes: np.ndarray) -> Start:
    """Return where the decoder begins: the model on the scale of the likelihood's locations."""
    return Start(
        _single(np.concatenate([model.loadings, slopes], axis=1) / working.slope[:, None]),
        _single(model.mean / working.slope + working.centre),
        _single(model.noise / working.slope),
    )


def _start_with_holes(
    read: np.ndarray,
    block: CaseBlock,
    working: Working,
    latent_dim: int,
    weight: np.ndarray,
    context: np.ndarray,
) -> LinearStart:
    """Find where decoder and encoder of rows with holes begin.

    The decoder: at the maximum of the likelihood of what is observed. The encoder: at the linear
    function of all that it reads which is nearest to the exact posterior means.

    Parameters
    ----------
    read : ndarray of shape (n, size + d)
        What the encoder reads of each row: values, 0 where they are missing, and which are there.
    block : CaseBlock
        Tells how many of the first each value has.
    """
    size = len(working.gain)
    rows = working.gain * read[:, :size] + working.offset
    observed = np.repeat(read[:, size:] > 0, block.widths, axis=1)
    fit = fit_incomplete(rows, observed, latent_dim, working.noise, weight, context)
    noise = np.maximum(fit.noise, working.least_noise)
    model, _, _ = FactorModel(fit.mean, fit.loadings, noise).recognise()
    rotated = fit._replace(loadings=model.loadings, noise=noise)
    z, covariance = rotated.posterior(rows, observed, context)
    # What the bound loses by another mean goes by the precision. The scale of the mean precision
    # would be the best for it; this one is wider, and safer to draw from.
    precision = np.diagonal(np.linalg.inv(covariance), axis1=1, axis2=2)
    known = np.concatenate([read, context], axis=1)
    each = [_regression(known, *pair) for pair in zip(z.T, weight * precision.T, strict=True)]
    weights, bias = map(np.stack, zip(*each, strict=True))
    scale = np.sqrt(weight @ np.diagonal(covariance, axis1=1, axis2=2) / weight.sum())
    encoder = Start(_single(weights), _single(bias), _single(scale))
    return LinearStart(_decoder(working, model, fit.slopes), encoder)


def _regression(
    known: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and intercept of ridge regression."""
    weight = weight / weight.mean()
    share = weight / weight.sum()
    centre, mean = share @ known, share @ target
    rows = np.sqrt(weight)[:, None] * (known - centre)
    left = np.sqrt(weight) * (target - mean)
    n, size = rows.shape
    if n < size:  # the same numbers, from a system of n equations
        slopes = rows.T @ np.linalg.solve(rows @ rows.T + np.eye(n), left)
    else:
        slopes = np.linalg.solve(rows.T @ rows + np.eye(size), rows.T @ left)
    return slopes, mean - slopes @ centre


def _some_of(weight: np.ndarray, n: int) -> np.ndarray:
    """Choose about n rows, evenly spaced, as often as their weights say."""
    if len(np.unique(weight)) == 1:
        return np.arange(0, len(weight), -(-len(weight) // n))
    ends = np.cumsum(weight)
    return np.searchsorted(ends, (np.arange(n) + 0.5) / n * ends[-1])


def _padded(array: np.ndarray, n: int) -> np.ndarray:
    return np.pad(array, [(0, n - len(array)), *[(0, 0)] * (array.ndim - 1)])


def _without(rows: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows without what regression on a context explains, the slopes, and its centre."""
    centre = context.mean(axis=0)
    if not context.shape[1]:
        return rows, np.zeros((rows.shape[1], 0)), centre
    deviations = context - centre
    slopes = np.linalg.lstsq(deviations, rows - rows.mean(axis=0), rcond=1e-6)[0]
    return rows - deviations @ slopes, slopes.T, centre


@jit
def _read(inputs: Callable, chunk: PyTree) -> Array:
    return jax.vmap(inputs)(chunk)


def _single(values: np.ndarray) -> Array:
    return jnp.asarray(values, jnp.float32)
