"""What a fitted auto-encoder can do: represent, reconstruct, generate, and say how likely."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted

from aevb.data.arrays import as_rows
from aevb.errors import choose, integer
from aevb.evaluation import latent, marginal
from aevb.evaluation.rows import map_rows, row_key
from aevb.models.flows import FlowDistribution
from aevb.models.likelihoods import Likelihood
from aevb.probability.distributions import Batched

if TYPE_CHECKING:
    from aevb.plotting.accessor import PlotAccessor

ENCODE_BLOCK = 2048  # rows of one pass through a network
SCORE_BLOCK = 16  # rows at a time, with many draws each


class FittedMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Methods of an estimator that holds a fitted `model_` and knows its `feature_shape_`."""

    latent_dim: int
    random_state: Any
    model_: Any
    likelihood_: Likelihood
    feature_dtype_: np.dtype

    def transform(self, X: Any) -> np.ndarray:
        """Map cases to their latent representation, the mean of q(z|x) (median: "cauchy").

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.

        Returns
        -------
        ndarray of shape (n, latent_dim)
            Posterior means; float32, or float64 for float64 input. Those of a flow are averages
            over 256 draws, the same every time.
        """
        dtype = np.float64 if getattr(X, "dtype", None) == np.float64 else np.float32
        rows = self._rows(X)
        return map_rows(_posterior_mean, self.model_, rows, ENCODE_BLOCK).astype(dtype, copy=False)

    def encode(self, X: Any) -> Batched:
        """Return q(z|x) itself for each case.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.

        Returns
        -------
        Batched
            One distribution per case: ``mean``, ``variance``, ``sample(key)``, ``log_prob(z)``.
        """
        rows = self._rows(X)
        q = map_rows(_posterior, self.model_, rows, ENCODE_BLOCK)
        if isinstance(q, FlowDistribution):
            q = q.sharing(_one_posterior(self.model_, rows[0]))
        return Batched(q)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Map latent points to the expected case, E[x|z].

        Parameters
        ----------
        Z : array-like of shape (n, latent_dim)
            Latent points.

        Returns
        -------
        ndarray of shape (n, d) or (n, h, w[, c])
            Expectations in the data's own units and shape, unrounded float32.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float32, input_name="Z")
        if Z.shape[1] != self.latent_dim:
            raise ValueError(
                f"Expected latent points of shape (n, {self.latent_dim}) for `Z`; got {Z.shape}."
            )
        return map_rows(_expectation, self.model_, Z, ENCODE_BLOCK)

    def reconstruct(self, X: Any) -> np.ndarray:
        """Map cases to their nearest representation: ``inverse_transform(transform(X))``.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.

        Returns
        -------
        ndarray of the shape of X
            Expectations E[x|z] at the mean of q(z|x), in the data's own units, float32.
        """
        rows = self._rows(X)
        return map_rows(_reconstruction, self.model_, rows, ENCODE_BLOCK)

    def sample(
        self, n_samples: int = 1, random_state: Any = None, *, mean: bool = False
    ) -> np.ndarray:
        """Generate new cases: z ~ p(z), then x ~ p(x|z).

        Parameters
        ----------
        n_samples : int, default=1
            Number of cases.
        random_state : int, RandomState or None
            Seed; None: the estimator's own.
        mean : bool, default=False
            Return E[x|z] instead of a draw from p(x|z).

        Returns
        -------
        ndarray of shape (n_samples, d) or (n_samples, h, w[, c])
            New cases in the data's own units, float32.
        """
        check_is_fitted(self)
        n_samples = integer(n_samples, "n_samples", minimum=1)
        seed = self.random_state if random_state is None else random_state
        keys = jax.random.split(random_key(check_random_state(seed)), n_samples)
        data = np.asarray(jax.random.key_data(keys))
        return map_rows(_new_case, self.model_, data, ENCODE_BLOCK, bool(mean))

    def distances(self, X: Any, Y: Any = None, metric: str = "mean") -> np.ndarray:
        r"""Distances between cases in the latent space.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        Y : array-like, optional
            Cases to measure the distance to; None: X.
        metric : {"mean", "expected"}, default="mean"
            ``"mean"``: Euclidean between posterior means, :math:`\|\mu - \mu'\|`. ``"expected"``:
            root of the expected square for independent draws from both posteriors,
            :math:`(\|\mu - \mu'\|^2 + \mathrm{tr}(\Sigma + \Sigma'))^{1/2}`, which is above 0
            also between a case and itself.

        Returns
        -------
        ndarray of shape (n, m)
            Distances.
        """
        from sklearn.metrics import pairwise_distances

        choose(metric, {"mean": None, "expected": None}, "metric")
        both = [
            map_rows(_posterior_moments, self.model_, self._rows(rows), ENCODE_BLOCK)
            for rows in (X, Y)[: 1 if Y is None else 2]
        ]
        (mean, variance), (other_mean, other_variance) = both[0], both[-1]
        between = pairwise_distances(mean, other_mean)
        if metric == "mean":
            return between
        spread = variance.sum(axis=1)[:, None] + other_variance.sum(axis=1)[None, :]
        return np.sqrt(between**2 + spread)

    def elbo(self, X: Any, n_draws: int = 32, random_state: Any = None) -> np.ndarray:
        """Estimate the evidence lower bound of each case.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        n_draws : int, default=32
            Draws of z to average over.
        random_state : int, RandomState or None
            Seed of the draws; None: 0. A case's draws depend on its values and the seed alone.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case; an unbiased estimate of a lower bound on log p(x).
        """
        return self._scores(_elbo, X, n_draws, random_state)

    def log_likelihood(self, X: Any, n_draws: int = 1000, random_state: Any = None) -> np.ndarray:
        """Estimate log p(x) of each case by importance sampling from q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        n_draws : int, default=1000
            Importance samples; the estimate rises to log p(x) with their number.
        random_state : int, RandomState or None
            Seed of the draws; None: 0.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case, in the data's own units; on average between the bound and log p(x). Under
            a Bernoulli likelihood on gray levels it is no likelihood of the data (`GrayBernoulli`).
        """
        return self._scores(_log_likelihood, X, n_draws, random_state)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the evidence lower bound of each case: `elbo` with its defaults.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case.
        """
        return self.elbo(X)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean evidence lower bound of X, for scikit-learn's model selection.

        It compares sizes and settings of a model, never two families of likelihood.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        y : Ignored
            For scikit-learn's pipelines.

        Returns
        -------
        float
            Nats per case.
        """
        return float(np.mean(self.elbo(X), dtype=np.float64))

    def save(self, path: Any) -> None:
        """Write the fitted model to one file; see `aevb.persistence.save`.

        Parameters
        ----------
        path : str or path-like
            Where to; an existing file is replaced in one step.
        """
        from aevb.persistence import save

        check_is_fitted(self)
        save(self, path)

    @classmethod
    def load(cls, path: Any, **parameters: Any) -> Any:
        """Read a model from a file written by `save`; runs no code from the file.

        Parameters
        ----------
        path : str or path-like
            The file.
        **parameters
            Parameters that the file cannot hold, given again. Parts of the model must be:
            ``encoder=``, ``decoder=``, a function as ``activation=``, a `Prior` or `Posterior` of
            one's own, and a distribution as ``prior=`` unless its class is one of NumPyro's or
            `aevb.probability`'s and its parameters are all of it (a mixture's are not). Training
            alone needs functions and objects as ``bound=``, ``kl_weight=``, ``optimizer=``,
            ``learning_rate=``, ``callbacks=`` and ``random_state=``: without them a warning says
            so, and the defaults stand in.

        Returns
        -------
        VAE
            The fitted model; its predictions are those of the model that was saved, bit by bit.

        Raises
        ------
        ModelFileError
            When the file is foreign, damaged, from a newer version, or does not fit `parameters`.
        """
        from aevb.persistence import load

        return load(cls, path, parameters)

    @property
    def plot(self) -> PlotAccessor:
        """Pictures of this estimator's predictions: ``vae.plot.samples()``; see `PlotAccessor`.

        Raises
        ------
        ImportError
            When matplotlib, of the extra ``aevb[plot]``, is not installed.
        """
        from aevb.plotting import PlotAccessor

        return PlotAccessor(self)

    @property
    def _columns(self) -> Any:
        return getattr(self, "feature_names_in_", None)

    def _rows(self, X: Any) -> np.ndarray:
        """Check cases against what was learned: type, shape, finite, within the support."""
        check_is_fitted(self)
        X = as_rows(self, X, reset=False)
        self.likelihood_.check(X, self.feature_dtype_, self._columns)
        return X

    def _scores(self, function: Callable, X: Any, n_draws: int, random_state: Any) -> np.ndarray:
        rows = self._rows(X)
        n_draws = integer(n_draws, "n_draws", minimum=1)
        key = random_key(check_random_state(0 if random_state is None else random_state))
        return map_rows(function, self.model_, rows, SCORE_BLOCK, key, n_draws)


def _posterior(model: Any, x: Any) -> Any:
    q = model.posterior(x)
    return q.of_row() if isinstance(q, FlowDistribution) else q


@eqx.filter_jit
def _one_posterior(model: Any, x: Any) -> Any:
    return model.posterior(x)


def _posterior_mean(model: Any, x: Any) -> jax.Array:
    return latent.location(model.posterior(x))


def _posterior_moments(model: Any, x: Any) -> tuple[jax.Array, jax.Array]:
    q = model.posterior(x)
    return latent.location(q), latent.spread(q)


def _expectation(model: Any, z: Any) -> jax.Array:
    return model.likelihood(z).mean


def _reconstruction(model: Any, x: Any) -> jax.Array:
    return _expectation(model, _posterior_mean(model, x))


def _kl(model: Any, x: Any) -> jax.Array:
    key = row_key(jax.random.key(0), x)
    return latent.marginal_kl(model.posterior(x), model.prior(), key)


def _new_case(model: Any, key_data: Any, mean: bool) -> jax.Array:
    key_z, key_x = jax.random.split(jax.random.wrap_key_data(key_data))
    likelihood = model.likelihood(model.prior().sample(key_z))
    return likelihood.mean if mean else likelihood.sample(key_x)


def _elbo(model: Any, x: Any, key: jax.Array, n_draws: int) -> jax.Array:
    return marginal.elbo(model, x, row_key(key, x), n_draws=n_draws)


def _log_likelihood(model: Any, x: Any, key: jax.Array, n_draws: int) -> jax.Array:
    return marginal.log_likelihood(model, x, row_key(key, x), n_draws=n_draws)


def random_key(random: np.random.RandomState, impl: str | None = None) -> jax.Array:
    """Draw a JAX key from a NumPy generator."""
    return jax.random.key(random.randint(2**31 - 1), impl=impl)


def mean_kl(model: Any, rows: np.ndarray) -> np.ndarray:
    """Average the KL of each latent dimension over some rows; nats. See `latent.marginal_kl`."""
    return map_rows(_kl, model, rows, ENCODE_BLOCK).mean(axis=0)
