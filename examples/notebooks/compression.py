"""Lossy compression by a code of a few numbers: how many bits it takes, and what is lost.

The numbers of a code (a model's latent means, the scores of a principal component analysis) are
rounded to multiples of a step. An arithmetic coder then writes the integers with the frequencies
that the training cases had; both sides know the model and these frequencies, which are not counted.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA


def encode(train: np.ndarray, cases: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, float]:
    """Round a code to steps and count the bits of an arithmetic coder.

    Parameters
    ----------
    train, cases : ndarray of shape (n, k)
        Codes of the cases that the frequencies are learned from, and of those to compress.
    steps : ndarray of shape (k,)
        Width of the intervals, by column.

    Returns
    -------
    ndarray of shape (n, k), float
        What the decoder gets to see, and the mean number of bits per case: the cross-entropy of
        `cases` under the frequencies in `train`, column by column. Integers beyond those of
        `train` are moved to the nearest that it has.
    """
    known, integers = (np.rint(codes / steps).astype(int) for codes in (train, cases))
    integers = integers.clip(known.min(axis=0), known.max(axis=0))
    bits = 0.0
    for old, new in zip(known.T, integers.T, strict=True):
        # Half a count for every integer in between, so that none is impossible.
        counts = np.bincount(old - old.min()) + 0.5
        bits -= np.log2(counts / counts.sum())[new - old.min()].mean()
    return integers * steps, bits


def rate_distortion(
    codec: tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]],
    images: np.ndarray,
    unit: np.ndarray,
    multiples: Iterable[float],
) -> pd.DataFrame:
    """Compress images with finer and coarser steps.

    Parameters
    ----------
    codec : tuple
        Codes of the training images, codes of `images`, and the function from codes to images.
    images : ndarray
        Test images, pixels in [0, 1].
    unit : ndarray of shape (k,)
        Step of each column, but for a factor.
    multiples : iterable of float
        These factors.

    Returns
    -------
    DataFrame
        A row for each factor: bits per image and mean squared error per pixel.
    """
    train, codes, decode = codec
    rows = []
    for multiple in multiples:
        received, bits = encode(train, codes, multiple * unit)
        error = np.mean((decode(received).reshape(images.shape) - images) ** 2)
        rows.append({"dimensions": len(unit), "step": multiple, "bits": bits, "mse": error})
    return pd.DataFrame(rows)


def principal_components(train: np.ndarray, images: np.ndarray) -> pd.DataFrame:
    """Compress images by their scores on principal components.

    Parameters
    ----------
    train : ndarray of shape (n, d)
        Training images as rows, pixels in [0, 1].
    images : ndarray of shape (n, h, w)
        Test images.

    Returns
    -------
    DataFrame
        As of `rate_distortion`, for numbers of components from 2 to 400 and one step for all
        scores, in pixels' units.
    """
    sizes = [k for k in (2, 5, 10, 20, 35, 60, 100, 170, 280, 400) if k <= min(train.shape)]
    pca = PCA(sizes[-1], random_state=0).fit(train)
    known, scores = pca.transform(train), pca.transform(images.reshape(len(images), -1))

    def decode(scores: np.ndarray) -> np.ndarray:
        return scores @ pca.components_[: scores.shape[1]] + pca.mean_

    return pd.concat(
        [
            rate_distortion(
                (known[:, :k], scores[:, :k], decode), images, np.ones(k), np.geomspace(0.2, 8, 15)
            )
            for k in sizes
        ],
        ignore_index=True,
    )


def at_equal_length(
    ours: pd.DataFrame, baseline: pd.DataFrame, budgets: Iterable[float]
) -> pd.DataFrame:
    """Compare two sets of codes at the same number of bits, and at the same error.

    Parameters
    ----------
    ours, baseline : DataFrame
        As of `rate_distortion`.
    budgets : iterable of float
        Bits per image.

    Returns
    -------
    DataFrame
        For each budget the least error within it, by both; and how many bits the baseline needs to
        reach our error (NaN: it cannot).
    """
    rows = {}
    for budget in budgets:
        least, other = (
            table.loc[table["bits"] <= budget, "mse"].min() for table in (ours, baseline)
        )
        rows[budget] = {
            "error, VAE": least,
            "error, PCA": other,
            "PSNR, VAE": -10 * np.log10(least),
            "PSNR, PCA": -10 * np.log10(other),
            "bits of PCA for the VAE's error": baseline.loc[baseline["mse"] <= least, "bits"].min(),
        }
    return pd.DataFrame(rows).T.rename_axis(columns="bits per image")
