"""Unusual cases, and the cells that make them so, as scikit-learn's users know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import Tags, _safe_indexing
from sklearn.utils.validation import check_is_fitted

from aevb.errors import number
from aevb.models.kinds.rows import is_sparse
from aevb.vae import VAE, Rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_COMPARED = 500  # training cases whose cells say what is usual in a column


class OutlierDetector(OutlierMixin, BaseEstimator):
    """Find cases that are unlikely under a VAE.

    A case is an outlier if its bound on log p(x) is below that of all but a share of the training
    cases: ``contamination``.

    Parameters
    ----------
    vae : VAE, optional
        The model, which is copied and fitted; None: ``VAE(10)``.
    contamination : float, default=0.1
        The share of the training cases to call outliers, above 0 and at most 0.5.

    Attributes
    ----------
    vae_ : VAE
        The fitted model.
    offset_ : float
        The bound, in nats, below which a case is an outlier.
    n_features_in_ : int
        Number of values of one case.
    feature_names_in_ : ndarray of str
        Names of the columns, when fitted to a table with names.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb import VAE, OutlierDetector
    >>> X = np.random.default_rng(0).normal(size=(80, 1)) + np.zeros(3)
    >>> X += 0.1 * np.random.default_rng(1).normal(size=X.shape)
    >>> X[5, 1] += 3
    >>> vae = VAE(1, hidden=(4,), epochs=50, random_state=0)
    >>> detector = OutlierDetector(vae, contamination=0.0125).fit(X)
    >>> np.flatnonzero(detector.predict(X) == -1), detector.surprise(X[5:6]).argmax()
    (array([5]), np.int64(1))
    """

    def __init__(self, vae: VAE | None = None, *, contamination: float = 0.1):
        self.vae = vae
        self.contamination = contamination

    def fit(self, X: Rows, y: ArrayLike | None = None) -> OutlierDetector:
        """Fit the model, and take the threshold from the training cases.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c]), table, sparse array
            Training cases, as for `VAE.fit`.
        y : Ignored
            For scikit-learn's pipelines.

        Returns
        -------
        OutlierDetector
            self.

        Raises
        ------
        ValueError, TypeError
            For data or parameters that do not fit, before the first step.
        """
        expected = "a number above 0 and at most 0.5"
        share = number(self.contamination, "contamination", expected, lambda c: 0 < c <= 0.5)
        if self.vae is not None and not isinstance(self.vae, VAE):
            raise TypeError(f"Expected a VAE for `vae`; got {type(self.vae).__name__}.")
        vae = VAE(10) if self.vae is None else clone(self.vae)
        self.vae_ = vae.fit(X)
        scores = vae.score_samples(X)
        self.offset_ = float(np.percentile(scores.astype(np.float64), 100 * share))
        self.n_features_in_ = vae.n_features_in_
        if hasattr(vae, "feature_names_in_"):
            self.feature_names_in_ = vae.feature_names_in_
        self._seen, self._usual = _some(X, len(scores)), None
        return self

    def score_samples(self, X: Rows) -> np.ndarray:
        """Return the bound on log p(x) of each case, nats: low for unusual cases.

        Parameters
        ----------
        X : array-like, table or sparse array
            Cases.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case.
        """
        check_is_fitted(self)
        return self.vae_.score_samples(X).astype(np.float64)

    def decision_function(self, X: Rows) -> np.ndarray:
        """Return by how many nats each case is above the threshold: negative for outliers.

        Parameters
        ----------
        X : array-like, table or sparse array
            Cases.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Rows) -> np.ndarray:
        """Return 1 for cases like those of the training, and -1 for outliers.

        Parameters
        ----------
        X : array-like, table or sparse array
            Cases.

        Returns
        -------
        ndarray of int, shape (n,)
            1 or -1.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def surprise(self, X: Rows) -> np.ndarray:
        """Return which cells make a case unusual: how surprising each is, for its column.

        See `VAE.surprise`: minus the log-probability of a cell given the others of its case, here
        less the median of (at most 500) training cases in the same column.

        Parameters
        ----------
        X : array-like, table or sparse array
            Cases.

        Returns
        -------
        ndarray of the shape of X
            Nats above what is usual in the column; NaN where a value is missing.
        """
        check_is_fitted(self)
        if self._usual is None:
            self._usual = np.nanmedian(_nats(self.vae_, self._seen), axis=0)
        return _nats(self.vae_, X) - self._usual

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.sparse = True
        return tags


def _nats(vae: VAE, X: Rows) -> np.ndarray:
    return np.asarray(vae.surprise(X), dtype=np.float64)


def _some(X: Any, n: int) -> Any:
    """Return at most 500 rows, evenly spaced."""
    if is_sparse(X):
        X = X.tocsr()
    elif not (hasattr(X, "shape") or isinstance(X, list)):
        X = np.asarray(X)
    rows = np.unique(np.linspace(0, n - 1, min(n, _COMPARED)).astype(int))
    return _safe_indexing(X, rows)
