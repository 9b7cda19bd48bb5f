"""`VAE`: the variational auto-encoder as a scikit-learn estimator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from aevb.algorithm import FAST, Epoch, TrainResult, proceed, start
from aevb.data.arrays import as_rows
from aevb.data.batches import InMemory
from aevb.fitted import FittedMixin, mean_kl, random_key
from aevb.models.autoencoder import build_autoencoder
from aevb.models.checks import check_model
from aevb.models.likelihoods import Likelihood, make_likelihood
from aevb.models.networks import layer_sizes
from aevb.models.posteriors import Posterior
from aevb.models.priors import examples_for
from aevb.parameters import auto_epochs, check_parameters
from aevb.preparation import check_objective
from aevb.progress import ProgressBar

_build = eqx.filter_jit(build_autoencoder)


class VAE(FittedMixin, BaseEstimator):
    """Variational auto-encoder, trained by Auto-Encoding Variational Bayes.

    Reduces the dimension of data, generates new cases, maps a case to its nearest representation,
    and says how likely it is.

    Parameters
    ----------
    latent_dim : int, default=2
        Number of latent dimensions.
    likelihood : {"auto", "bernoulli", "gaussian"} or Likelihood, default="auto"
        Decoder p(x|z). ``"auto"``: Bernoulli for data in [0, 1] or of 8 bits (uint8) a quarter of
        whose values are at the two ends of the range, else Gaussian. See `Bernoulli`, `Gaussian`.
    prior : str, Prior or Distribution, default="normal"
        p(z). By name: ``"normal"``, standard; ``"learned-normal"``, ``"mixture"``, ``"vamp"``,
        ``"flow"``, all learned; with options, one of `aevb.priors`. Or a distribution of NumPyro,
        over numbers (independent latents) or vectors, which stays as it is: ``dist.Gamma(2, 1)``.
    posterior : str or Posterior, default="normal"
        q(z|x). Gaussian with diagonal (``"normal"``), full (``"full-normal"``) or low-rank
        covariance (``"low-rank-normal"``), ``"mixture"`` of Gaussians, normalising flows ``"iaf"``
        and ``"coupling"``; independent ``"laplace"``, ``"student-t"``, ``"gamma"`` or any other of
        `aevb.probability.FAMILIES`. With options, one of `aevb.posteriors`.
    hidden : int or sequence of int, default=(500,)
        Units of the encoder's hidden layers; the decoder has them in reverse. ``()``: linear.
    activation : str or callable, default="tanh"
        Elementwise function of the hidden layers: a name (tanh, relu, gelu, silu, ...) or a
        function of `jax.numpy`.
    encoder, decoder : callable PyTree, optional
        Own networks in place of `hidden` and `activation`: Equinox modules, stateless Flax NNX
        modules, any callable PyTree, written for one case. The encoder maps a case (scaled as for
        the built-in network, in the data's shape) to a vector of features; the decoder maps a
        latent vector to a vector of features, or for image-shaped data directly to logits
        (Bernoulli) or standardised means (Gaussian) in the images' shape. Vectors of features pass
        one more affine map. They start from the weights that they come with.
    bound : {"auto", "A", "B", "stl", "iw", "dreg", "score", "vimco"} or callable, default="auto"
        Estimator of the bound to maximise; see `sgvb`. No posterior here is discrete: for discrete
        latents write the model, and give `train` the bound ``"score"`` or ``"vimco"``.
    n_draws : int, default=1
        Draws of z per case and step: the paper's L, or k of an importance-weighted bound.
    optimizer : str or optax.GradientTransformation, default="adamax"
        An Optax optimizer by name, or ready made.
    learning_rate : "auto", float or callable, default="auto"
        A number; an Optax schedule over steps; or ``"auto"``: the optimizer's default here (1e-2
        for Adamax), falling to 0 along half a cosine over the epochs.
    batch_size : int, default=100
        Cases per step.
    epochs : int or "auto", default="auto"
        Passes over the data; ``"auto"``: as many as fit into 10,000 steps, but at least 10 and at
        most 500.
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the weights of the networks (neither biases nor
        a learned prior; see `SGVB`), as in the paper's experiments with 1.0; None: flat.
    kl_weight : float or callable, default=1.0
        Factor before the KL, or a schedule of it over steps (warm-up); other than 1, what is
        maximised is not the bound. Steps count on in `partial_fit`, but from 0 after `load` or a
        change of `optimizer`. See `SGVB`.
    free_bits : float, default=0.0
        Nats of KL that each latent dimension has free; see `SGVB`.
    validation_fraction : float, default=0.0
        Share of the cases to hold out, to compute their bound after each epoch.
    patience, tol : int, float, optional
        Stop when the bound has not risen by more than `tol` nats (default 0) for `patience` epochs
        (default 10), and keep the best epoch's model. With neither, no early stop. The bound is the
        importance-weighted one if `bound` is one, else the ELBO; of held-out cases, if any.
    callbacks : sequence of callables, default=()
        Each is called with an `Epoch` after every epoch, and may return True to stop.
    random_state : int, RandomState or None, default=None
        Seed. The same seed, data, machine and number of cores give the same model, bit by bit.
    verbose : bool or "auto", default="auto"
        Progress bar; ``"auto"``: in a terminal or a notebook.

    Attributes
    ----------
    model_ : AutoEncoder
        The fitted model: ``prior()``, ``likelihood(z)``, ``posterior(x)`` of one case, in the
        data's own units; ``model_.bound`` says which estimator ``"auto"`` is.
    likelihood_ : Likelihood
        The likelihood in use.
    history_ : dict of list
        One entry per epoch: epoch; elbo, kl, reconstruction, iw_bound of importance-weighted
        bounds (nats per case, averaged over the epoch); validation_elbo and validation_iw_bound (if
        cases are held out); seconds, datapoints_per_second.
        ``pandas.DataFrame(vae.history_)`` reads it.
    n_epochs_ : int
        Epochs trained.
    explained_nats_ : ndarray of shape (latent_dim,)
        KL of each latent's own q(z_j|x) from p(z_j) in nats, averaged over (at most 4096) training
        cases; near 0: an inactive dimension. They sum to the KL of the bound if latents
        are independent under q and p (see `aevb.evaluation.latent`). NaN under a flow.
    feature_shape_ : tuple of int
        Shape of one case.
    n_features_in_ : int
        Number of values of one case.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, when fitted to a DataFrame with names.

    References
    ----------
    Kingma and Welling (2013), Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> from aevb import VAE, datasets
    >>> digits = datasets.load_digits()
    >>> vae = VAE(latent_dim=2, epochs=5, random_state=0).fit(digits.train.images)
    >>> vae.transform(digits.test.images).shape
    (360, 2)
    >>> vae.sample(3).shape
    (3, 8, 8)
    """

    def __init__(
        self,
        latent_dim: int = 2,
        *,
        likelihood: str | Likelihood = "auto",
        prior: Any = "normal",
        posterior: str | Posterior = "normal",
        hidden: int | Sequence[int] = (500,),
        activation: str | Callable = "tanh",
        encoder: Any = None,
        decoder: Any = None,
        bound: str | Callable = "auto",
        n_draws: int = 1,
        optimizer: Any = "adamax",
        learning_rate: Any = "auto",
        batch_size: int = 100,
        epochs: int | str = "auto",
        weight_prior: float | None = None,
        kl_weight: float | Callable = 1.0,
        free_bits: float = 0.0,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        tol: float | None = None,
        callbacks: Sequence[Callable[[Epoch], Any]] = (),
        random_state: Any = None,
        verbose: bool | str = "auto",
    ):
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.prior = prior
        self.posterior = posterior
        self.hidden = hidden
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.bound = bound
        self.n_draws = n_draws
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.weight_prior = weight_prior
        self.kl_weight = kl_weight
        self.free_bits = free_bits
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tol = tol
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, validation_data: Any = None) -> VAE:
        """Fit the model to X by Algorithm 1.

        Parameters
        ----------
        X : array-like of shape (n, d), or images of shape (n, h, w[, c])
            Training cases: numbers without holes.
        y : Ignored
            For scikit-learn's pipelines.
        validation_data : array-like, optional
            Held-out cases, in place of `validation_fraction`.

        Returns
        -------
        VAE
            self.

        Raises
        ------
        ValueError, TypeError
            For data or parameters that do not fit, before the first step.
        DivergenceError
            When the numbers stop being finite. The last good epoch's model is kept.
        """
        objective = check_parameters(self)
        with self._nothing_lost():
            X = as_rows(self, X, reset=True)
            likelihood, why = self._choose_likelihood(X)
            random = check_random_state(self.random_state)
            held = None
            if validation_data is not None:
                held = as_rows(self, validation_data, reset=False)
                likelihood.check(held, self.feature_dtype_, self._columns)
            elif self.validation_fraction:
                order = random.permutation(len(X))
                n_held = math.ceil(self.validation_fraction * len(X))
                if n_held > len(X) - 2:
                    raise ValueError(
                        "Expected a share that leaves two cases or more to train on for "
                        f"`validation_fraction`; got {self.validation_fraction} of {len(X)} cases."
                    )
                held, X = X[order[:n_held]], X[order[n_held:]]
            self._initialise(X, likelihood, random)
            headline = (
                f"VAE on {len(X)} cases of shape {X.shape[1:]}: {likelihood}{why}; bound "
                f"{self._state.model.bound if self.bound == 'auto' else self.bound!r}"
            )
            self._train(X, objective, self._n_epochs(len(X)), held=held, headline=headline)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> VAE:
        """Train on with one pass over X; the first call decides shapes, likelihood and scaling.

        The automatic learning rate does not fall here: every pass is made at its beginning. After
        a change of `optimizer`, or of the schedule, the optimizer starts anew from the same model.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        y : Ignored
            For scikit-learn's pipelines.

        Returns
        -------
        VAE
            self. `history_` grows by one entry.
        """
        objective = check_parameters(self)
        with self._nothing_lost():
            if hasattr(self, "model_"):
                X = self._rows(X)
                if getattr(self, "_optimizer", None) != self._new_optimizer():  # or from a file
                    key = random_key(check_random_state(self.random_state), FAST)
                    self._start(self.model_, key)
            else:
                X = as_rows(self, X, reset=True)
                likelihood, _ = self._choose_likelihood(X)
                self._initialise(X, likelihood, check_random_state(self.random_state))
            self._train(X, objective, n_epochs=1, past=getattr(self, "history_", {}))
        return self

    def _architecture(self) -> dict[str, Any]:
        return {
            "latent_dim": int(self.latent_dim),  # a NumPy integer would be traced
            "prior": self.prior,
            "posterior": self.posterior,
            "hidden": layer_sizes(self.hidden),
            "activation": self.activation,
            "encoder": self.encoder,
            "decoder": self.decoder,
        }

    def _n_epochs(self, n_rows: int) -> int:
        if isinstance(self.epochs, str):
            return auto_epochs(n_rows, self.batch_size)
        return self.epochs

    def _choose_likelihood(self, X: np.ndarray) -> tuple[Likelihood, str]:
        likelihood, why = make_likelihood(self.likelihood, X)
        likelihood.check(X, X.dtype, self._columns)
        return likelihood, why

    def _initialise(self, X: np.ndarray, likelihood: Likelihood, random: Any) -> None:
        key_model, key_training = random_key(random, FAST), random_key(random, FAST)
        model = _build(
            X.shape[1:],
            likelihood=likelihood,
            measured=likelihood.measure(X),
            dtype=X.dtype,
            examples=examples_for(self.prior, X),
            key=key_model,
            **self._architecture(),
        )
        if (self.posterior, self.prior) != ("normal", "normal"):
            check_model(model, jax.ShapeDtypeStruct(X.shape[1:], X.dtype))
        self.likelihood_ = likelihood
        self._start(model, key_training)

    def _start(self, model: Any, key: Any) -> None:
        self._state = start(model, self.optimizer, self.learning_rate, key)
        self._optimizer = self._new_optimizer()

    def _new_optimizer(self) -> tuple:
        """Return what the form of the optimizer's state depends on: numbers only sit in it."""
        schedule = self.learning_rate if callable(self.learning_rate) else None
        return self.optimizer, schedule

    def _train(
        self,
        X: np.ndarray,
        objective: Any,
        n_epochs: int,
        *,
        held: np.ndarray | None = None,
        headline: str = "",
        past: dict[str, list] | None = None,
    ) -> None:
        if (self.bound, self.free_bits) != ("auto", 0) or callable(self.kl_weight):  # else it fits
            check_objective(
                objective,
                self._state.model,
                (jax.ShapeDtypeStruct(X.shape[1:], X.dtype), None),
                self.batch_size,
                self._state.key,
                validated=held is not None,
                stopped_early=(self.patience, self.tol) != (None, None),
            )
        kept = past or {}
        before = getattr(self, "history_", None)

        def keep(now: TrainResult | Epoch) -> None:
            self._state, self.model_ = now.state, now.model
            n_old, n_new = len(kept.get("epoch", [])), len(now.history["epoch"])
            self.n_epochs_ = n_old + n_new
            self.history_ = {
                name: kept.get(name, [np.nan] * n_old) + now.history.get(name, [np.nan] * n_new)
                for name in {**kept, **now.history}
            }
            self.history_["epoch"] = list(range(1, self.n_epochs_ + 1))

        try:
            with ProgressBar(n_epochs, self.verbose, headline) as bar:
                result = proceed(
                    self._state,
                    InMemory(X, batch_size=self.batch_size),
                    objective=objective,
                    optimizer=self.optimizer,
                    learning_rate=self.learning_rate,
                    epochs=n_epochs,
                    validation=None if held is None else InMemory(held, batch_size=self.batch_size),
                    patience=self.patience,
                    tol=self.tol,
                    callbacks=(keep, bar, *self.callbacks),  # whatever comes, the epoch is kept
                )
            keep(result)
        finally:
            if getattr(self, "history_", None) is not before:
                rows = X[:: math.ceil(len(X) / 4096)]
                self.explained_nats_ = mean_kl(self.model_, rows)

    @contextmanager
    def _nothing_lost(self) -> Iterator[None]:
        """Undo everything if an error comes before the first epoch is complete."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            if getattr(self, "history_", None) is before.get("history_"):
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
