"""Lossy compression by a code of a few numbers: how many bits it takes, and what is lost.

The numbers of a code (a model's latent means, the scores of a principal component analysis) are
rounded to multiples of a step. An arithmetic coder then writes the integers with the frequencies
that the training cases had; both sides know the model and these frequencies, which are not counted.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from measures import flat
from sklearn.decomposition import PCA

from aevb import VAE


class Code(NamedTuple):
    """Images as a few numbers each, and the way back."""

    train: np.ndarray  # (n, k): codes of the images that the frequencies are learned from
    test: np.ndarray  # (m, k): of those to compress
    unit: np.ndarray  # (k,): the width that a step has by column, but for a factor
    decode: Callable[[np.ndarray], np.ndarray]  # codes to rows of pixels in [0, 1]


def latent_code(model: VAE, train: np.ndarray, test: np.ndarray) -> Code:
    """Encode images by a model's latent means, in units of its posterior standard deviation."""
    unit = np.sqrt(model.encode(train[:5000]).variance.mean(axis=0))

    def decode(means: np.ndarray) -> np.ndarray:
        return flat(model.inverse_transform(means)).clip(0, 1)

    return Code(model.transform(train), model.transform(test), unit, decode)


def component_code(pca: PCA, n_components: int, train: np.ndarray, test: np.ndarray) -> Code:
    """Encode images by their first scores on principal components, in units of a pixel."""
    components = pca.components_[:n_components]

    def decode(scores: np.ndarray) -> np.ndarray:
        # The pixels are known to be in [0, 1], also to the receiver.
        return (scores @ components + pca.mean_).clip(0, 1)

    scores = ((flat(images) - pca.mean_) @ components.T for images in (train, test))
    return Code(*scores, np.ones(n_components), decode)


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


def rate_distortion(code: Code, test: np.ndarray, multiples: Iterable[float]) -> pd.DataFrame:
    """Compress images with finer and coarser steps.

    Parameters
    ----------
    code : Code
        The code of `test`.
    test : ndarray
        The images to compress.
    multiples : iterable of float
        Steps, as multiples of the code's unit.

    Returns
    -------
    DataFrame
        A row for each step: bits per image and mean squared error per pixel.
    """
    pixels = flat(test)
    rows = []
    for multiple in multiples:
        received, bits = encode(code.train, code.test, multiple * code.unit)
        error = np.mean((code.decode(received) - pixels) ** 2)
        rows.append({"dimensions": len(code.unit), "step": multiple, "bits": bits, "mse": error})
    return pd.DataFrame(rows)


def principal_components(train: np.ndarray, test: np.ndarray) -> pd.DataFrame:
    """Compress images by 2 to 400 principal components, with fifteen steps each.

    Parameters
    ----------
    train, test : ndarray of shape (n, h, w)
        Images to learn the components and the frequencies from, and images to compress.

    Returns
    -------
    DataFrame
        As of `rate_distortion`. All scores of a line have the same step.
    """
    sizes = [2, 5, 10, 20, 35, 60, 100, 170, 280, 400]
    pca = PCA(sizes[-1], random_state=0).fit(flat(train))
    curves = [
        rate_distortion(component_code(pca, k, train, test), test, np.geomspace(0.2, 8, 15))
        for k in sizes
    ]
    return pd.concat(curves, ignore_index=True)


def envelope(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the corners of the lower convex hull of bits and error.

    Between two corners, some images coded by the one and some by the other have, on average, every
    number of bits and every error on the line from one to the other.

    Parameters
    ----------
    table : DataFrame
        As of `rate_distortion`, of one code or of several.

    Returns
    -------
    DataFrame
        Some of its rows: more bits and less error from each to the next, by a slope that falls.
    """

    def slope(a: pd.Series, b: pd.Series) -> float:
        return (b["mse"] - a["mse"]) / (b["bits"] - a["bits"])

    corners: list[pd.Series] = []
    for _, point in table.sort_values(["bits", "mse"]).iterrows():
        if corners and point["mse"] >= corners[-1]["mse"]:
            continue
        while len(corners) > 1 and slope(corners[-1], point) <= slope(corners[-2], corners[-1]):
            corners.pop()
        corners.append(point)
    return pd.DataFrame(corners)


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
        For each budget the least error within it on the `envelope` of both; and how many bits the
        baseline needs for our error (NaN: it cannot).
    """
    budgets = list(budgets)
    ours, baseline = envelope(ours), envelope(baseline)
    error, other = (
        np.interp(budgets, corners["bits"], corners["mse"], left=np.nan)
        for corners in (ours, baseline)
    )
    falling = baseline[::-1]
    return pd.DataFrame(
        {
            "error, VAE": error,
            "error, PCA": other,
            "PSNR, VAE": -10 * np.log10(error),
            "PSNR, PCA": -10 * np.log10(other),
            "bits of PCA for the VAE's error": np.interp(
                error, falling["mse"], falling["bits"], left=np.nan
            ),
        },
        index=pd.Index(budgets),
    ).rename_axis(columns="bits per image")


def draw(curves: Mapping[str, pd.DataFrame], pca_curves: pd.DataFrame) -> Axes:
    """Draw the error of each code over its bits, and the envelope of all numbers of components."""
    _, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for name, curve in curves.items():
        ax.plot(curve["bits"], curve["mse"], "o-", label=f"VAE, {name}")
    for _, curve in pca_curves.groupby("dimensions"):
        ax.plot(curve["bits"], curve["mse"], color="0.75", linewidth=0.8, zorder=0)
    best = envelope(pca_curves)
    ax.plot(best["bits"], best["mse"], "k--", label="PCA, the best of all (gray)")
    ax.set(xscale="log", yscale="log")
    ax.set(xlabel="bits per test image", ylabel="mean squared error per pixel")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
