"""How good codes of images are: for finding neighbours, and for telling what is new."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from aevb import VAE


def flat(images: np.ndarray) -> np.ndarray:
    """Turn gray levels, 0 to 255, into rows of pixels in [0, 1]."""
    return images.reshape(len(images), -1) / np.float32(255)


def neighbours(
    spaces: Mapping[str, tuple[np.ndarray, np.ndarray]],
    train_labels: np.ndarray,
    test_labels: np.ndarray,
    pixels: np.ndarray,
) -> pd.DataFrame:
    """Judge the neighbours of test images in several spaces.

    Parameters
    ----------
    spaces : mapping
        For each space its name, the training images in it, and the test images in it.
    train_labels, test_labels : ndarray
        Their classes.
    pixels : ndarray of shape (n, d)
        Pixels of the first n test images, for the trustworthiness.

    Returns
    -------
    DataFrame
        A row for each space: the share of test images whose class is the majority's among the 15
        nearest training images; and the trustworthiness, 1 if all of the 15 nearest of n test
        images in the space are near in pixels too.
    """
    rows = {}
    for name, (train, test) in spaces.items():
        classifier = KNeighborsClassifier(15, algorithm="brute").fit(train, train_labels)
        rows[name] = {
            "15-nearest-neighbour accuracy": classifier.score(test, test_labels),
            "trustworthiness": trustworthiness(pixels, test[: len(pixels)], n_neighbors=15),
        }
    return pd.DataFrame(rows).T


def novelty(model: VAE, pca: PCA, familiar: np.ndarray, novel: np.ndarray) -> dict[str, float]:
    """Judge three scores of novelty by the area under the ROC curve (AUC).

    Parameters
    ----------
    model, pca
        Fitted to images of the familiar kind only; `pca` to their pixels in [0, 1].
    familiar, novel : ndarray of shape (n, h, w)
        Test images of the familiar kind, and of another.

    Returns
    -------
    dict
        The AUC of the negative ELBO, and of the share of the image that is lost by either model:
        squared error over the sum of squared pixels. And the mean gray of the novel images over
        that of the familiar ones, as "ink".
    """
    images = np.concatenate([familiar, novel])
    pixels = flat(images)
    is_novel = np.repeat([0, 1], [len(familiar), len(novel)])

    def share_lost(made: np.ndarray) -> np.ndarray:
        return ((made - pixels) ** 2).sum(axis=1) / (pixels**2).sum(axis=1)

    scores = {
        "−ELBO": -model.elbo(images),
        "share lost, VAE": share_lost(flat(model.reconstruct(images))),
        "share lost, PCA": share_lost(through(pca, images)),
    }
    auc = {name: roc_auc_score(is_novel, score) for name, score in scores.items()}
    return auc | {"ink": novel.mean() / familiar.mean()}


def print_alarms(auc: pd.DataFrame) -> None:
    """Say for which novel kinds (rows) each score (columns) is worse than a coin, and the best."""

    def kinds(chosen: pd.Series) -> str:
        return ", ".join(str(kind) for kind in auc.index[chosen]) or "none"

    for score in auc:
        print(f"{score}, below 1/2 for: {kinds(auc[score] < 0.5)}")
    for score in auc:
        print(f"{score}, the best for: {kinds(auc.idxmax(axis=1) == score)}")


def through(pca: PCA, images: np.ndarray) -> np.ndarray:
    """Send images through their scores and back, to rows of pixels in [0, 1]."""
    return pca.inverse_transform(pca.transform(flat(images))).clip(0, 1)
