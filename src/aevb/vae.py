"""`VAE`: the variational auto-encoder as a scikit-learn estimator."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike
from numpyro.distributions import Distribution
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_array, check_is_fitted

from aevb import predict
from aevb.aggregate import (
    POSTERIOR,
    PRIOR,
    AggregatePosterior,
    SamplerComparison,
    as_family,
    compare_samplers,
    fit_aggregate,
    with_density,
)
from aevb.algorithm import check_callbacks
from aevb.bins import BinWidth, bins_of
from aevb.columns import Columns, check_likelihood, check_unseen
from aevb.comparison import Comparison, compare
from aevb.condition import read_condition
from aevb.config import hidden_layers
from aevb.data.arrays import as_rows, check_finite, check_table
from aevb.data.cells import with_nan
from aevb.data.devices import placement_for
from aevb.data.lazy import Lazy
from aevb.data.sources import is_source, opened
from aevb.data.sparse import array_of, is_annotated
from aevb.data.stored import Stored
from aevb.data.tables import is_table
from aevb.diagnosis import Diagnosis, Fitted, diagnose, doubts
from aevb.errors import FitWarning, choose, integer, number
from aevb.evaluation.annealed import Sandwich
from aevb.evaluation.bits import bits_per_dimension, densities
from aevb.evaluation.importance import Evidence, Method
from aevb.evaluation.methods import find_method
from aevb.fitting import Fitting, nothing_lost, random_key
from aevb.inference.clipping import Clipping
from aevb.inference.estimators import Estimator
from aevb.inference.optimizers import LearningRate, Optimizer, make_optimizer
from aevb.inference.run import Callback
from aevb.inference.sgvb import SGVB, Schedule, make_objective
from aevb.inference.stopping import EarlyStopping, TimeLimit
from aevb.interruption import Interruption
from aevb.learned import Data, Learned, weighted
from aevb.models.architectures import Architecture, make_architecture
from aevb.models.kinds import Likelihood
from aevb.models.kinds.case import Case
from aevb.models.kinds.rows import dense, is_sparse, take
from aevb.models.networks import Activation, Body, activation_function
from aevb.models.posteriors import Posterior, make_posterior
from aevb.models.priors import Prior, make_prior
from aevb.probability.distributions import Batched
from aevb.schema import Schema
from aevb.streaming import by_pieces, learn_stored, stream

if TYPE_CHECKING:
    from aevb.explorer.widget import Explorer
    from aevb.plotting.accessor import PlotAccessor

_STREAMED = ("transform", "reconstruct", "elbo", "log_likelihood")  # what `VAE.stream` writes

# What users hand over as rows: an array, or a table of pandas, Polars or PyArrow.
Rows = ArrayLike | Any
RandomState = int | np.random.RandomState | None
# Of counts: "total", a number for each case, or one for all.
Exposures = Any


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Variational auto-encoder, trained by Auto-Encoding Variational Bayes.

    Reduces the dimension of data, generates new cases, maps a case to its nearest representation,
    and says how likely it is.

    Parameters
    ----------
    latent_dim : int, default=2
        Number of latent dimensions.
    likelihood : str or Likelihood, default="auto"
        Decoder p(x|z). ``"auto"`` is Bernoulli if the data are in [0, 1], or 8-bit (uint8), and at
        least a quarter of the values are at the two ends of that range; otherwise it is the
        discretised logistic for 8-bit data, the negative binomial for counts in a sparse array, and
        Gaussian for others. Real numbers: ``"gaussian"``,
        ``"student-t"``, ``"laplace"``; amounts: ``"log-normal"``, ``"gamma"``; proportions:
        ``"beta"``, ``"continuous-bernoulli"``; counts: ``"poisson"``, ``"negative-binomial"``,
        ``"zero-inflated-negative-binomial"``, ``"beta-binomial"``; numbers of levels:
        ``"categorical"``, ``"ordinal"``. `aevb.likelihoods` has them with options. Of a table each
        column has its own, as `aevb.columns.Columns.learn` says: Bernoulli for truth values,
        categorical for texts, ordinal for ordered categories, negative binomial for counts, and
        Gaussian for the rest. ``{"age": "gamma"}`` names some of them.
    unseen : {"error", "missing"}, default="error"
        What a category is, in later tables, that did not occur in the training data: an error, or a
        missing value.
    prior : str, Prior or Distribution, default="normal"
        p(z). ``"normal"`` is the standard normal; ``"learned-normal"``, ``"mixture"``, ``"vamp"``
        and ``"flow"`` are learned. `aevb.priors` has them with options. A distribution of NumPyro,
        over numbers (independent latents) or vectors, stays fixed: ``dist.Gamma(2, 1)``.
    posterior : str or Posterior, default="normal"
        q(z|x). Gaussian with diagonal (``"normal"``), full (``"full-normal"``) or low-rank
        covariance (``"low-rank-normal"``), ``"mixture"`` of Gaussians, normalising flows ``"iaf"``
        and ``"coupling"``; independent ``"laplace"``, ``"student-t"``, ``"gamma"`` or any other of
        `aevb.probability.FAMILIES`. `aevb.posteriors` has them with options.
    architecture : {"dense", "conv"} or Architecture, default="dense"
        Both networks: fully connected layers, or residual convolutions for pictures, `X` of shape
        (n, height, width) or (n, height, width, channels). `aevb.architectures` has them with
        options.
    hidden : "auto", int or sequence of int, default="auto"
        Units of the encoder's fully connected layers; the decoder has them in reverse. ``()`` is
        linear. ``"auto"`` is one layer of 500 for fewer than 1000 cases, and otherwise
        (500, 250, 100); beside convolutions there is none.
    activation : str or callable, default="gelu"
        Elementwise function of the hidden layers: a name (gelu, relu, tanh, silu, ...) or a
        function of `jax.numpy`. The paper's experiments have tanh.
    encoder, decoder : callable PyTree, optional
        Your own networks, instead of `architecture`, `hidden` and `activation`: Equinox modules,
        stateless Flax NNX modules or any callable PyTree, written for one case. The encoder maps a
        case (scaled as for the built-in network, in the data's shape) to a vector of features. The
        decoder maps a latent vector to a vector of features or, for images, directly to logits
        (Bernoulli) or standardised means (Gaussian) in the images' shape. An affine map follows a
        vector of features. Training starts from the weights that the networks have.
    init : {"linear", "random"}, default="linear"
        Where training starts. ``"linear"``: both networks have a linear path beside them, and start
        at the optimum of the linear model: factor analysis for Gaussian columns, its analogue for
        Bernoulli ones. That needs a Gaussian posterior or a mixture of Gaussians, and a prior that
        is learned or standard normal; elsewhere, and with your own networks, the start
        is random. ``"random"``: random weights and no linear path, as in the paper, whose
        architecture is ``init="random", hidden=500, activation="tanh"``.
        ``config_.init`` says which it was.
    estimator : str or callable, default="auto"
        Estimator of the bound to maximise: "auto", "A", "B", "stl", "iw", "dreg", "score" or
        "vimco"; see `sgvb`. No posterior here is discrete. For discrete latents write your own
        model, and use `train` with ``"score"`` or ``"vimco"``.
    n_draws : int, default=1
        Draws of z per case and step: the paper's L, or k of an importance-weighted bound.
    optimizer : str or optax.GradientTransformation, default="adamax"
        An Optax optimizer, or the name of one. ``"schedule_free_adamw"`` is the fastest on MNIST
        and overfits small tables sooner; its model is an average of the weights gone through.
    learning_rate : "auto", float or callable, default="auto"
        A number, or an Optax schedule over steps. ``"auto"`` starts at the optimizer's default here
        (1e-2 for Adamax) and falls to 0 along half a cosine over the epochs.
    batch_size : int, default=100
        Cases per step.
    epochs : int or "auto", default="auto"
        Passes over the data. ``"auto"`` makes as many as fit into 10,000 steps, but at least 10 and
        at most 500. Of 20 to 5000 cases it holds out a tenth at first. If their log-likelihood is
        lower after all of these epochs than at the epoch of their best bound, then all cases are
        fitted anew, for so many epochs. Otherwise training goes on with all cases, for a fifth
        more epochs. Nothing is held out for this beside `validation_fraction`, `validation_data`,
        `patience`, `tol` or `tol_params`.
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the networks' weights, without the biases and a
        learned prior; the paper's experiments have 1.0. None: a flat prior. See `SGVB`.
    kl_weight : float or callable, default=1.0
        Factor before the KL, or a schedule of it over steps (warm-up). With any value but 1, what
        is maximised is not the bound. The steps go on in `partial_fit`, but start from 0 after
        `load` or a change of `optimizer`. See `SGVB`.
    free_bits : float, default=0.0
        Nats of KL that cost nothing in each latent dimension; see `SGVB`.
    validation_fraction : float, default=0.0
        Share of the cases to hold out. Their bound is computed after each epoch.
    patience, tol : int, float, optional
        Stop when the bound has not risen by more than `tol` nats (default 0) for `patience` epochs
        (default 10), and keep the best epoch's model. With neither, training does not stop early.
        The bound is the importance-weighted one if `estimator` has one, otherwise the ELBO. It is
        that of the held-out cases, if there are any; otherwise it is that of the training cases,
        averaged over about `patience` epochs. Epochs of a warm-up of `kl_weight` do not count.
    tol_params : float, optional
        Stop after an epoch that has moved the parameters by a smaller share of their size (‖Δθ‖ /
        ‖θ‖): the paper's "until convergence of the parameters".
    time_limit : float, optional
        Stop after the first epoch that ends more than this many seconds after `fit` began.
    n_init : int, default=1
        Number of starts. The model of the best is kept, by the bound that `patience` goes by.
    clip_norm : "auto", float or None, default="auto"
        Largest norm of the gradient, which is shortened to it. ``"auto"``: for each array of
        parameters, ten times what is typical of the steps before, from the hundredth step on: it
        spares all but spikes.
        None: none.
    devices : "all", int or None, default=None
        Devices that share every batch: all that JAX has, in all processes of a run of several; or
        so many. None: one. With the same seed any number of them, from 1 up, sees the same batches
        and draws, and the losses agree but for rounding; None draws others. The number must divide
        `batch_size`, and 960. Predictions are made on one device. See the guide to several devices.
    checkpoint : path-like, optional
        A directory to keep the training in. If it is killed, the same call goes on where it was,
        and ends at the same model, bit for bit; once it has ended, the same call returns its model
        at once. What is written takes at most a fiftieth of the time. `partial_fit` writes none.
    callbacks : sequence of callables, default=()
        Each is called with an `Epoch` after every epoch, and returns True, or the reason, to stop
        the training.
        Where ``epochs="auto"`` fits all cases anew, the epochs begin at 1 again.
    random_state : int, RandomState or None, default=None
        Seed. The same seed, data, machine and number of cores give the same model, bit for bit.
    verbose : bool or "auto", default="auto"
        Whether to show a progress bar. ``"auto"`` shows it in a terminal or a notebook.

    Attributes
    ----------
    model_ : AutoEncoder
        The fitted model: ``prior()``, ``likelihood(z)``, ``posterior(x)`` of one case, in the
        data's own units. ``model_.estimator`` says which estimator ``"auto"`` is.
    schema_ : Schema
        What was learned about the data. ``schema_.describe()`` says it in a line.
    likelihood_ : Likelihood or Columns
        The likelihood in use; of a table, that of each column, and why.
    condition_ : Condition or None
        What was learned about the condition.
    exposure_ : Exposure or None
        Whether exposures are totals, and the typical one: the geometric mean of the training cases.
    config_ : Config
        What the model was built with. Predictions depend on it, not on the parameters, which
        `set_params` may change.
    history_ : dict of list
        One entry per epoch: epoch; elbo, kl, reconstruction, iw_bound of importance-weighted
        bounds (nats per case, averaged over the epoch); validation_elbo and validation_iw_bound (if
        cases are held out; NaN once they are not); seconds, datapoints_per_second; stopped, of the
        last epoch: why training ended there ("epochs", "patience", "tol", "tol_params",
        "time_limit", "interrupted", "callback"); recoveries, if there were any.
        ``pandas.DataFrame(vae.history_)`` reads it.
    n_epochs_ : int
        Epochs trained.
    best_epoch_ : int
        The epoch whose model is kept: the last one, unless training stops early.
    explained_nats_ : ndarray of shape (latent_dim,)
        KL of each latent's own q(z_j|x) from p(z_j) in nats, averaged over (at most 4096) training
        cases. An inactive dimension has a KL near 0. They sum to the KL of the bound if the latents
        are independent under q and p (see `aevb.evaluation.latent`). They are NaN under a flow.
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
        likelihood: str | Likelihood | Mapping[str, str | Likelihood] = "auto",
        unseen: str = "error",
        prior: str | Prior | Distribution = "normal",
        posterior: str | Posterior = "normal",
        architecture: str | Architecture = "dense",
        hidden: str | int | Sequence[int] = "auto",
        activation: Activation = "gelu",
        encoder: Body | None = None,
        decoder: Body | None = None,
        init: str = "linear",
        estimator: str | Estimator = "auto",
        n_draws: int = 1,
        optimizer: Optimizer = "adamax",
        learning_rate: LearningRate = "auto",
        batch_size: int = 100,
        epochs: int | str = "auto",
        weight_prior: float | None = None,
        kl_weight: float | Schedule = 1.0,
        free_bits: float = 0.0,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        tol: float | None = None,
        tol_params: float | None = None,
        time_limit: float | None = None,
        n_init: int = 1,
        clip_norm: str | float | None = "auto",
        devices: str | int | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Callback] = (),
        random_state: RandomState = None,
        verbose: bool | str = "auto",
    ):
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.unseen = unseen
        self.prior = prior
        self.posterior = posterior
        self.architecture = architecture
        self.hidden = hidden
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.init = init
        self.estimator = estimator
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
        self.tol_params = tol_params
        self.time_limit = time_limit
        self.n_init = n_init
        self.clip_norm = clip_norm
        self.devices = devices
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Rows,
        y: ArrayLike | None = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        sample_weight: ArrayLike | None = None,
        validation_data: Rows | None = None,
        validation_condition: Rows | None = None,
        validation_exposure: Exposures = None,
    ) -> VAE:
        """Fit the model to X by Algorithm 1.

        Parameters
        ----------
        X : array-like of shape (n, d), images of shape (n, h, w[, c]), table, or sparse array
            Training cases: numbers, and NaN where a value is missing. A table of pandas, Polars or
            PyArrow may hold texts, categories, truth values and dates as well, and empty cells. A
            sparse array of SciPy, or an AnnData for its ``.X``, becomes dense a few rows at a time.
            A path, or a data set of Grain, stands for rows beyond memory: see `aevb.sources`.
        y : Ignored
            For scikit-learn's pipelines.
        condition : array-like of shape (n,) or (n, k), table or dict, optional
            Class labels or covariates, which encoder and decoder read beside the case: the model is
            p(x|z, c) p(z), with q(z|x, c). They are known, not generated, in every later use.
        exposure : "total" or array-like of shape (n,), optional
            Of counts: how much of each case was looked at (time, people at risk, the size of a
            library). Their means are proportional to it, and the latents are those of counts per
            exposure. ``"total"``: the sum of the case's own counts. Its logarithm is the offset of
            a generalised linear model.
        sample_weight : array-like of shape (n,), optional
            How much each case counts: the objective is Σᵢ wᵢ L̃ᵢ / Σᵢ wᵢ. A case of weight 2 counts
            as two, one of weight 0 is left out.
        validation_data : array-like, optional
            Held-out cases, in place of `validation_fraction`.
        validation_condition, validation_exposure : optional
            Their condition and exposure.

        Returns
        -------
        VAE
            self.

        Raises
        ------
        ValueError, TypeError
            For data or parameters that do not fit, before the first step.
        TrainingDiverged
            When the numbers stop being finite. The last good epoch's model is kept.

        Warns
        -----
        FitWarning
            Once, at the end, after 1000 steps or more: when fewer than half of the latent
            dimensions are active (see `explained_nats_`; of as many as a case has values, if these
            are fewer), or when the bound of held-out cases has fallen since its best epoch, while
            that of the training cases rose, by more than a tenth of the KL and by more than it
            usually wavers. `diagnose` says more.
        """
        objective = self._check_parameters()
        limit = TimeLimit(self.time_limit)
        with nothing_lost(self), Interruption() as interruption:
            random = check_random_state(self.random_state)
            learned, data, weight = self._learn(X, condition, exposure, sample_weight)
            held = None
            if validation_data is not None:
                rows = self._validated(opened(validation_data), learned.schema)
                told = learned.context(rows, validation_condition, validation_exposure)
                held = Data(rows, told)
            elif validation_condition is not None or validation_exposure is not None:
                raise ValueError(
                    "Expected `validation_data` with their condition or exposure; got None."
                )
            Fitting(self, objective, (limit, interruption)).fit(learned, data, weight, held, random)
        self._warn()
        return self

    def partial_fit(
        self,
        X: Rows,
        y: ArrayLike | None = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        sample_weight: ArrayLike | None = None,
    ) -> VAE:
        """Train on with one pass over X; the first call decides shapes, likelihood and scaling.

        The automatic learning rate does not fall here: every pass is made at its beginning. After
        a change of `optimizer`, or of the schedule, the optimizer starts anew from the same model.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        y : Ignored
            For scikit-learn's pipelines.
        condition, exposure, sample_weight : array-like, optional
            As in `fit`.

        Returns
        -------
        VAE
            self. `history_` grows by one entry.
        """
        objective = self._check_parameters()
        with nothing_lost(self):  # Ctrl-C ends the user's loop over this, not only the pass
            random = check_random_state(self.random_state)
            learned = None
            if hasattr(self, "model_"):
                X, told, weight = weighted(X, (condition, exposure), sample_weight)
                data = self._cases(X, *told)
            else:
                learned, data, weight = self._learn(X, condition, exposure, sample_weight)
                data = data.encoded(learned.schema)
            Fitting(self, objective).pass_over(learned, data, weight, random)
        return self

    def fit_transform(
        self,
        X: Rows,
        y: ArrayLike | None = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        **fit_params: Any,
    ) -> np.ndarray:
        """Fit the model, and map the same cases to their latent representation.

        Parameters
        ----------
        X : array-like, table or sparse array
            Cases.
        y : Ignored
            For scikit-learn's pipelines.
        condition, exposure : optional
            As in `fit`.
        **fit_params
            Further arguments of `fit`.

        Returns
        -------
        ndarray of shape (n, latent_dim)
            Posterior means, as in `transform`.
        """
        self.fit(X, y, condition=condition, exposure=exposure, **fit_params)
        return self.transform(X, condition=condition, exposure=exposure)

    @by_pieces
    def transform(
        self, X: Rows, *, condition: Rows | None = None, exposure: Exposures = None
    ) -> np.ndarray:
        """Map cases to their latent representation, the mean of q(z|x) (median: "cauchy").

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        ndarray of shape (n, latent_dim)
            Posterior means; float32, or float64 for float64 input. Those of a flow are averages
            over 256 draws, the same every time.
        """
        dtype = np.float64 if getattr(X, "dtype", None) == np.float64 else np.float32
        data = self._cases(X, condition, exposure)
        mean = predict.latent_mean(self.model_, data.x, context=data.c)
        return mean.astype(dtype, copy=False)

    def encode(
        self, X: Rows, *, condition: Rows | None = None, exposure: Exposures = None
    ) -> Batched:
        """Return q(z|x) itself for each case.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        Batched
            One distribution per case: ``mean``, ``variance``, ``sample(key)``, ``log_prob(z)``.
        """
        data = self._cases(X, condition, exposure)
        return predict.encode(self.model_, data.x, context=data.c)

    def inverse_transform(
        self, Z: Rows, *, condition: Rows | None = None, exposure: Exposures = None
    ) -> Any:
        """Map latent points to the expected case, E[x|z].

        Parameters
        ----------
        Z : array-like of shape (n, latent_dim)
            Latent points.
        condition : array-like, table or dict, optional
            Labels or covariates of each point, of a model that was fitted with some. A single one
            is that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each point, of a model of counts that was fitted with some. None: the
            typical one.

        Returns
        -------
        ndarray of shape (n, d) or (n, h, w[, c]), or table
            Expectations in the data's own units and shape, unrounded float32. Of categories the
            most probable one, of ordered levels the median. Of a table in its own columns and
            types.
        """
        Z = self._points(Z)
        context = self._learned.context_of_new(condition, exposure, len(Z))
        return self.schema_.decode(predict.decode(self.model_, Z, context=context))

    @by_pieces
    def reconstruct(
        self, X: Rows, *, condition: Rows | None = None, exposure: Exposures = None
    ) -> Any:
        """Map cases to their nearest representation: ``inverse_transform(transform(X))``.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        ndarray of the shape of X, or table
            Expectations E[x|z] at the mean of q(z|x), as in `inverse_transform`.
        """
        data = self._cases(X, condition, exposure)
        made = predict.reconstruct(self.model_, data.x, context=data.c)
        return self.schema_.decode(made, _index(X))

    def impute(
        self,
        X: Rows,
        n_draws: int = 1000,
        *,
        n_imputations: int | None = None,
        condition: Rows | None = None,
        exposure: Exposures = None,
        random_state: RandomState = None,
    ) -> Any:
        r"""Fill holes by what the other values of a case let expect.

        The posterior expectation E[x_m | x_o] of what is missing given what is observed, by
        importance sampling; see `aevb.predict.impute`. It takes a model of complete data as well,
        whose encoder is handed expectations in the place of what is missing. One that was fitted to
        data with holes has learned to do without, and fills better with the same number of draws.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases, with NaN for what is missing.
        n_draws : int, default=1000
            Draws of z.
        n_imputations : int, optional
            Draw so many values for each hole, whose differences show how uncertain they are. None:
            the expectation; of categories the most probable one, of ordered levels the median, of
            counts a whole number.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.
        random_state : int, RandomState or None
            Seed of the draws; None: 0.

        Returns
        -------
        ndarray of the shape of X, or (n_imputations, *X.shape); or table, or list of tables
            Cases without holes. What was observed is as it was, bit for bit.

        Examples
        --------
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 1)) + np.zeros(3)
        >>> X[::3, 1] = np.nan
        >>> filled = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X).impute(X)
        >>> bool(np.isfinite(filled).all()), bool((filled[1::3] == X[1::3]).all())
        (True, True)
        """
        check_is_fitted(self)
        rows = self._rows(X, self.schema_, holes=True)
        if is_sparse(rows):
            raise TypeError(
                "Expected an array or a table for `X`, in which NaN marks what is missing; got a "
                "sparse array, in which nothing is."
            )
        context = self._learned.context(rows, condition, exposure)
        filled = self._filled(rows, context, n_draws, n_imputations, random_state)
        if not is_table(X) or self.schema_.columns is None:
            floats = [np.float64, np.float32]
            X = array_of(X) if is_annotated(X) else with_nan(X)
            X = check_array(X, dtype=floats, ensure_all_finite=False, allow_nd=True)
        if n_imputations is None:
            return self.schema_.fill(X, filled)
        draws = jax.tree.map(lambda leaf: np.moveaxis(leaf, 1, 0), filled)
        completed = [self.schema_.fill(X, take(draws, j)) for j in range(n_imputations)]
        return completed if is_table(X) else np.stack(completed)

    def surprise(
        self,
        X: Rows,
        n_draws: int = 1000,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        random_state: RandomState = None,
    ) -> Any:
        r"""Return how surprising each cell is, given the others: :math:`-\log p(x_j | x_{-j})`.

        It finds the wrong cell, not only the odd case: the larger, the odder. Densities depend on
        the units of their columns: compare a number with others of its column (subtract the
        column's median), or cells of categories and counts with one another.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c]), or table
            Cases.
        n_draws : int, default=1000
            Draws of z.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.
        random_state : int, RandomState or None
            Seed of the draws; None: 0.

        Returns
        -------
        ndarray of the shape of X, or table of numbers with its columns
            Nats per cell, of densities in the data's own units; NaN where a value is missing.

        Examples
        --------
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 1)) + np.zeros(3)
        >>> X += 0.1 * np.random.default_rng(1).normal(size=X.shape)
        >>> vae = VAE(1, hidden=(4,), epochs=50, random_state=0).fit(X)
        >>> X[5, 1] += 3
        >>> vae.surprise(X[:9]).argmax(axis=0)[1]
        np.int64(5)
        """
        check_is_fitted(self)
        data, rows = self._encoded(X, condition, exposure)
        key = random_key(check_random_state(0 if random_state is None else random_state))
        nats = predict.surprise(self.model_, data.x, key, context=data.c, n_draws=n_draws)
        values = self.schema_.values(Case(nats) if isinstance(nats, dict) else nats)
        if self.schema_.holes:
            values = np.where(np.isnan(rows), np.nan, values)
        columns = self.schema_.columns
        return values if columns is None else columns.numbers(values, _index(X))

    def sample(
        self,
        n_samples: int | None = None,
        random_state: RandomState = None,
        *,
        from_: str = PRIOR,
        mean: bool = False,
        condition: Rows | None = None,
        exposure: Exposures = None,
        given: Mapping[Any, Any] | None = None,
    ) -> Any:
        """Generate new cases: z ~ p(z), then x ~ p(x|z).

        Parameters
        ----------
        n_samples : int, optional
            Number of cases; None: as many as there are conditions, or 1.
        random_state : int, RandomState or None
            Seed; None: the one that the estimator was fitted with.
        from_ : {"prior", "posterior"}, default="prior"
            Where z is drawn from: the prior p(z), or the density that `fit_aggregate_posterior` has
            fitted to the codes of cases.
        mean : bool, default=False
            Return E[x|z] instead of a draw from p(x|z).
        condition : array-like, table or dict, optional
            Condition of each case, or a single one for all.
        exposure : array-like of shape (n_samples,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the typical
            one.
        given : dict, optional
            Values of some columns, by name (of an array by position): the others are drawn given
            these, by importance resampling of 10,000 draws of z, or 20 for each case.

        Returns
        -------
        ndarray of shape (n_samples, d) or (n_samples, h, w[, c]), or table
            New cases in the data's own units, float32; in a table's own columns and types.
        """
        check_is_fitted(self)
        choose(from_, {PRIOR: None, POSTERIOR: None}, "from_")
        model = self.model_
        if from_ == POSTERIOR:
            model = with_density(model, self._aggregate.density)
        if n_samples is not None:
            n_samples = integer(n_samples, "n_samples", minimum=1)
        n = n_samples
        if n is None:
            covariates = read_condition(self.condition_, condition, None)
            n = max(1 if covariates is None else len(covariates), np.size(exposure))
        if given is not None:
            return self._sample_given(model, given, n, random_state, mean, condition, exposure)
        context = self._learned.context_of_new(condition, exposure, n)
        seed = self.config_.random_state if random_state is None else random_state
        key = random_key(check_random_state(seed))
        made = predict.sample(model, n, key, context=context, mean=mean)
        return self.schema_.decode(made)

    def fit_aggregate_posterior(
        self,
        X: Rows,
        family: str | Prior = "mixture",
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        random_state: RandomState = None,
    ) -> VAE:
        r"""Fit a density to the codes of cases, from which `sample` then draws.

        .. math:: s(z) \approx \frac1n \sum_i q(z|x_i)

        Encoder, decoder and prior stay as they are. Use it where samples look less like the data
        than reconstructions do: the codes then lie elsewhere than the prior's draws. Whether it is
        so, `compare_samplers` tells. The density is saved with the model, and falls away with the
        next training.

        Parameters
        ----------
        X : array-like, table or sparse array
            Training cases, 20 or more; at most 20,000 of them are looked at.
        family : {"mixture", "flow"} or Prior, default="mixture"
            ``"mixture"``: of diagonal Gaussians, by expectation maximisation; of 1, 2, 5, ... 50
            the number that suits the codes of held-out cases best. ``"flow"``: a normalising flow
            (the extra ``aevb[flows]``). With options: ``priors.Mixture(n_components=30)``,
            ``priors.Flow(n_layers=2)``.
        condition, exposure : optional
            As in `fit`. The density is one for all conditions.
        random_state : int, RandomState or None
            Seed; None: 0.

        Returns
        -------
        VAE
            self, with ``aggregate_posterior_``: its ``family``, and ``density()``, s(z).

        Raises
        ------
        ValueError, TypeError
            For few cases, a family that codes do not decide, or latents that are not real numbers.

        References
        ----------
        Ghosh et al. (2020), "From variational to deterministic autoencoders",
        https://arxiv.org/abs/1903.12436

        Examples
        --------
        >>> from aevb import VAE, datasets
        >>> images = datasets.load_digits().train.images
        >>> vae = VAE(2, epochs=5, random_state=0, verbose=False).fit(images)
        >>> vae.fit_aggregate_posterior(images).sample(3, from_="posterior").shape
        (3, 8, 8)
        """
        check_is_fitted(self)
        chosen = as_family(family)
        data = self._cases(X, condition, exposure)
        key = random_key(check_random_state(0 if random_state is None else random_state))
        self.aggregate_posterior_ = fit_aggregate(self.model_, data, chosen, key)
        return self

    def compare_samplers(
        self,
        X: Rows,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        random_state: RandomState = None,
    ) -> SamplerComparison:
        r"""Say whether new cases are better drawn from the prior or from the aggregate posterior.

        .. math:: \frac1n \sum_i E_{q(z|x_i)} [\log s(z) - \log p(z)]

        is by how much the ELBO of the cases would rise if the fitted density s(z) were the prior,
        nats per case. Beside it stands how well a classifier tells decoded draws from decoded codes
        of the cases.

        Parameters
        ----------
        X : array-like, table or sparse array
            Held-out cases: on training cases the fitted density looks better than it is.
        condition, exposure : optional
            As in `fit`.
        random_state : int, RandomState or None
            Seed; None: 0.

        Returns
        -------
        SamplerComparison
            It prints as a table.
        """
        check_is_fitted(self)
        aggregate = self._aggregate
        data = self._cases(X, condition, exposure)
        key = random_key(check_random_state(0 if random_state is None else random_state))
        return compare_samplers(self.model_, aggregate, data, self.schema_, key)

    @property
    def _aggregate(self) -> AggregatePosterior:
        found = getattr(self, "aggregate_posterior_", None)
        if found is None:
            raise ValueError(
                "Expected a model with a density of its codes; got one without. Call "
                "fit_aggregate_posterior(X) with the training cases, or draw from the prior."
            )
        return found

    def distances(
        self,
        X: Rows,
        Y: Rows = None,
        metric: str = "mean",
        *,
        condition: Rows | None = None,
        other_condition: Rows | None = None,
        exposure: Exposures = None,
        other_exposure: Exposures = None,
    ) -> np.ndarray:
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
        condition, other_condition : array-like, table or dict, optional
            Conditions of the cases, of a model that was fitted with some.
        exposure, other_exposure : array-like or float, optional
            Their exposures, likewise.

        Returns
        -------
        ndarray of shape (n, m)
            Distances.
        """
        from sklearn.metrics import pairwise_distances

        choose(metric, {"mean": None, "expected": None}, "metric")
        both = [(X, condition, exposure), (Y, other_condition, other_exposure)]
        moments = [
            predict.latent_moments(self.model_, data.x, context=data.c)
            for data in (self._cases(*each) for each in both[: 1 if Y is None else 2])
        ]
        (mean, variance), (other_mean, other_variance) = moments[0], moments[-1]
        between = pairwise_distances(mean, other_mean)
        if metric == "mean":
            return between
        spread = variance.sum(axis=1)[:, None] + other_variance.sum(axis=1)[None, :]
        return np.sqrt(between**2 + spread)

    @by_pieces
    def elbo(
        self,
        X: Rows,
        n_draws: int = 32,
        random_state: RandomState = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
    ) -> np.ndarray:
        """Estimate the evidence lower bound of each case.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        n_draws : int, default=32
            Draws of z to average over.
        random_state : int, RandomState or None
            Seed of the draws; None: 0. A case's draws depend on its values and the seed alone.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case; an unbiased estimate of a lower bound on log p(x).
        """
        return self._scores(predict.elbo, X, n_draws, random_state, condition, exposure)

    @by_pieces
    def log_likelihood(
        self,
        X: Rows,
        n_draws: int = 1000,
        random_state: RandomState = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
    ) -> np.ndarray:
        """Estimate log p(x) of each case by importance sampling from q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        n_draws : int, default=1000
            Importance samples; the estimate rises to log p(x) with their number.
        random_state : int, RandomState or None
            Seed of the draws; None: 0.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case, in the data's own units; on average between the bound and log p(x). On
            gray levels a Bernoulli likelihood is not a likelihood of the data (`GrayBernoulli`).
        """
        return self._scores(predict.log_likelihood, X, n_draws, random_state, condition, exposure)

    def evidence(
        self,
        X: Rows,
        n_draws: int | None = None,
        random_state: RandomState = None,
        *,
        method: str | Method = "importance",
        condition: Rows | None = None,
        exposure: Exposures = None,
    ) -> Evidence:
        """Estimate log p(x) of each case, with its standard error, its bias, and their reliability.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        n_draws : int, optional
            Importance samples, or chains; None: 1000 samples, or 16 chains.
        random_state : int, RandomState or None
            Seed of the draws; None: 0.
        method : str or Method, default="importance"
            ``"importance"``: importance sampling. ``"annealed"``: annealed importance sampling,
            whose error is smaller where q(z|x) is far from the exact posterior. ``"reciprocal"``:
            the paper's appendix D, for at most 4 latent dimensions, which is too high rather than
            too low on average. `aevb.evaluation` has them with options: `Importance`, `Annealed`,
            `Reciprocal`. The last two need BlackJAX, of the extra ``aevb[mcmc]``.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        Evidence
            ``log_likelihood``, of importance sampling the numbers of the method `log_likelihood`;
            ``standard_error``, ``bias``, ``n_effective``, ``pareto_k``, ``reliable``: arrays of
            shape (n,). Prints as a summary.

        Examples
        --------
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 1)) + np.zeros(3)
        >>> found = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X).evidence(X[:9])
        >>> found.log_likelihood.shape, found.standard_error.shape
        ((9,), (9,))
        """
        method = find_method(method)
        n_draws = method.n_draws if n_draws is None else n_draws
        function = partial(predict.evidence, method=method)
        return self._scores(function, X, n_draws, random_state, condition, exposure)

    def sandwich(
        self,
        n_samples: int = 100,
        n_chains: int = 16,
        random_state: RandomState = None,
        *,
        method: str | Method = "annealed",
        condition: Rows | None = None,
        exposure: Exposures = None,
    ) -> Sandwich:
        """Simulate cases, and bound log p(x) of each from both sides: bidirectional Monte Carlo.

        Annealed importance sampling is a lower bound on average, and backwards, from the latent
        that a case was simulated with, an upper one. Their gap says how far off ``evidence(X,
        method="annealed")`` is at most on average, on cases such as the model makes. See
        `aevb.evaluation.sandwich`. Needs BlackJAX, of the extra ``aevb[mcmc]``.

        Parameters
        ----------
        n_samples : int, default=100
            Number of cases.
        n_chains : int, default=16
            Number of chains in each direction.
        random_state : int, RandomState or None
            Seed of cases and draws; None: 0.
        method : str or Method, default="annealed"
            `aevb.evaluation.Annealed` has it with options.
        condition : array-like, table or dict, optional
            Condition of each case, or a single one for all.
        exposure : array-like of shape (n_samples,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the typical
            one.

        Returns
        -------
        Sandwich
            ``lower``, ``upper``, ``gap``: arrays of shape (n_samples,); ``mean_gap`` and its
            standard error ``mean_gap_se``. Nats. Prints as a summary.

        Examples
        --------
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 1)) + np.zeros(3)
        >>> found = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X).sandwich(4)
        >>> found.gap.shape
        (4,)
        """
        check_is_fitted(self)
        n = integer(n_samples, "n_samples", minimum=1)
        context = self._learned.context_of_new(condition, exposure, n)
        key = random_key(check_random_state(0 if random_state is None else random_state))
        return predict.sandwich(
            self.model_, n, key, context=context, n_chains=n_chains, method=method
        )

    def bits_per_dimension(
        self,
        X: Rows,
        n_draws: int = 1000,
        random_state: RandomState = None,
        *,
        bin_width: BinWidth = None,
        condition: Rows | None = None,
        exposure: Exposures = None,
    ) -> np.ndarray:
        r"""Estimate -log p(x) of each case in bits, divided by its number of values.

        .. math:: -\frac{\log p(x)}{D \log 2}

        by importance sampling, as in `log_likelihood`; so it is too high rather than too low, on
        average. A likelihood of real numbers is a density: its bits are those of the probability of
        a bin, the density times its width, if the bin is narrow beside the noise.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases. Missing values do not count in D.
        n_draws : int, default=1000
            Importance samples.
        random_state : int, RandomState or None
            Seed of the draws; None: 0.
        bin_width : float, array-like of the shape of a case, or dict, optional
            Where the likelihood is a density, the width of a bin in the data's own units: 1 for
            whole numbers, 0.1 for numbers with one decimal. In a table with columns of several
            kinds it is that of the columns with densities; a dictionary has one for each of these,
            by name. Columns that did not vary in training need none.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        ndarray of shape (n,)
            Bits per dimension; the lower, the more likely. NaN of a case without values.

        Raises
        ------
        ValueError, TypeError
            For gray levels under a Bernoulli likelihood, which is neither a probability nor a
            density of them; for a density without `bin_width`.

        Examples
        --------
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = (np.random.default_rng(0).random((80, 6)) < 0.5).astype(float)
        >>> vae = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X)
        >>> bool(abs(vae.bits_per_dimension(X).mean() - 1) < 0.1)  # a bit each
        True
        """
        check_is_fitted(self)
        rows = self._rows(X, self.schema_)
        data = self._cases(X, condition, exposure)
        first = jax.tree.map(lambda leaf: leaf[0], data.c)
        n_values, log_volume = bins_of(self.schema_, rows, densities(self.model_, first), bin_width)
        log_p = self.log_likelihood(
            X, n_draws, random_state, condition=condition, exposure=exposure
        )
        return bits_per_dimension(log_p, n_values, log_volume)

    @by_pieces
    def score_samples(
        self, X: Rows, *, condition: Rows | None = None, exposure: Exposures = None
    ) -> np.ndarray:
        """Return the evidence lower bound of each case: `elbo` with its defaults.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        ndarray of shape (n,)
            Nats per case.
        """
        return self.elbo(X, condition=condition, exposure=exposure)

    def score(
        self,
        X: Rows,
        y: ArrayLike | None = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
    ) -> float:
        """Return the mean evidence lower bound of X, for scikit-learn's model selection.

        It compares sizes and settings of a model, never two families of likelihood.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        y : Ignored
            For scikit-learn's pipelines.
        condition : array-like, table or dict, optional
            Labels or covariates of each case, of a model that was fitted with some. A single one is
            that of all.
        exposure : array-like of shape (n,) or float, optional
            Exposure of each case, of a model of counts that was fitted with some. None: the cases'
            totals, if it was fitted with these.

        Returns
        -------
        float
            Nats per case.
        """
        bounds = self.elbo(X, condition=condition, exposure=exposure)
        return float(np.mean(bounds, dtype=np.float64))

    def stream(
        self,
        X: Rows,
        path: str | os.PathLike[str],
        method: str = "transform",
        *,
        overwrite: bool = False,
        **told: Any,
    ) -> None:
        """Write what a method says of each case to a file, some cases at a time.

        Nothing has the name `path` before all of it is written.

        Parameters
        ----------
        X : path-like, source, array-like or table
            Cases: a ``.npy`` file, a Parquet file or a folder of them, a Zarr array, a data set of
            Grain, or rows in memory.
        path : path-like
            The file to write; its ending says the format. ``.npy``, ``.parquet`` and ``.csv`` files
            grow; of others the results are kept in memory until the end.
        method : {"transform", "reconstruct", "elbo", "log_likelihood"}
            What to write.
        overwrite : bool, default=False
            Whether an existing file may be replaced.
        **told
            Further arguments of the method: `condition`, one for each case, or `n_draws`.

        Raises
        ------
        FileExistsError, FileNotFoundError
            If the file exists and may not be replaced, or its folder does not exist.
        ValueError, TypeError
            For an unknown method, or cases that do not fit.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 3))
        >>> vae = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data, latent = os.path.join(folder, "X.npy"), os.path.join(folder, "z.npy")
        ...     np.save(data, X)
        ...     vae.stream(data, latent)
        ...     np.load(latent).shape
        (80, 1)
        """
        check_is_fitted(self)
        known = {name: getattr(self, name) for name in _STREAMED}
        function = choose(method, known, "method")
        names = {"transform": self.get_feature_names_out(), "reconstruct": None}
        stream(function, X, Path(path), names.get(method, [method]), told, overwrite=overwrite)

    def compare(
        self, X: Rows, *, train: Rows, n_draws: int = 1000, random_state: RandomState = None
    ) -> Comparison:
        r"""Compare log p(x) of held-out cases with that of classical models: what the network buys.

        .. math:: \frac1n \sum_i \big[ \log p_{\text{classical}}(x_i) - \log p(x_i) \big]

        with its standard error over the cases, which tells two models apart where the standard
        errors of their means do not.

        For a Gaussian likelihood: one Gaussian with Ledoit-Wolf covariance; probabilistic PCA and
        factor analysis with `latent_dim` components; and a mixture of up to 10 Gaussians, with full
        covariances (in at most 100 columns) or diagonal ones, chosen by BIC on `train`. They are
        fitted to columns scaled to unit variance and scored in the data's own units. A column that
        did not vary in training is an event of the same probability for all models. For a Bernoulli
        likelihood: independent columns, and a mixture of up to 10 components, each with independent
        columns.

        The standard errors are those of the held-out cases alone: another fit differs by more. The
        VAE's number is on average a little too low, and the best of the others is picked on the
        same cases. Both favour the classical models.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Held-out cases, two or more: neither fit nor choices of settings have seen them.
        train : array-like
            The cases that this model was fitted to. The classical models are fitted to them here.
        n_draws : int, default=1000
            Importance samples for the VAE, as in `log_likelihood`.
        random_state : int, RandomState or None
            Seed of the draws and of the mixtures; None: 0.

        Returns
        -------
        Comparison
            Prints as a table that ends with who is best. ``pandas.DataFrame(comparison.rows)``
            reads it.

        Raises
        ------
        ValueError, TypeError
            When `X` is `train`, cases do not fit, or the likelihood is your own.

        Examples
        --------
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 3))
        >>> vae = VAE(1, hidden=(4,), epochs=1, random_state=0).fit(X[:60])
        >>> comparison = vae.compare(X[60:], train=X[:60])
        >>> comparison.rows["model"]
        ['full Gaussian', 'probabilistic PCA', 'factor analysis', 'Gaussian mixture', 'VAE']
        """
        check_is_fitted(self)
        self._check_comparable()
        held_out = self._numbers(X)
        try:
            cases = self._numbers(train)
        except (TypeError, ValueError) as error:
            raise type(error)(f"In `train`: {error}") from error
        n_draws = integer(n_draws, "n_draws", minimum=1)
        return self._compared(
            held_out,
            cases,
            lambda: self.log_likelihood(X, n_draws, random_state),
            n_draws,
            random_state,
        )

    def diagnose(
        self,
        X: Rows,
        *,
        train: Rows | None = None,
        condition: Rows | None = None,
        exposure: Exposures = None,
        train_condition: Rows | None = None,
        train_exposure: Exposures = None,
        n_draws: int = 100,
        random_state: RandomState = None,
    ) -> Diagnosis:
        r"""Say what became of the fit, what that means, and what to try.

        .. math:: \frac1n \sum_i \mathcal{L}(x_i) = \frac1n \sum_i \Big[ \sum_j
            E_{q(z|x_i)} \log p(x_{ij}|z) - \mathrm{KL}(q(z|x_i) \| p(z)) \Big]

        by term, by column, by row and by latent dimension; the aggregate posterior beside the
        prior; scales at their floor; the gradient's norm and variance. With the training rows,
        also the gap between their bound and that of `X`, and the log-likelihood of `X` under
        classical models, as `compare` has it.

        At most 4096 rows, evenly spaced, are looked at, and as many of `train` for their bound.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c]), table, or sparse array
            Cases; held-out ones, if there are any.
        train : array-like, table or sparse array, optional
            The cases that this model was fitted to. None: classical models are left out, and the
            gap is that of `history_`, if cases were held out there.
        condition, exposure : optional
            Those of `X`, of a model that was fitted with some.
        train_condition, train_exposure : optional
            Those of `train`.
        n_draws : int, default=100
            Importance samples for log p(x), as in `log_likelihood`.
        random_state : int, RandomState or None
            Seed of all draws; None: 0.

        Returns
        -------
        Diagnosis
            Prints as a report. Its numbers are attributes, and its tables dicts of lists, which
            ``pandas.DataFrame`` reads.

        Raises
        ------
        ValueError, TypeError
            When cases do not fit, or `X` is `train`.

        References
        ----------
        Burda, Grosse and Salakhutdinov (2015), https://arxiv.org/abs/1509.00519, section 5.2;
        Hoffman and Johnson (2016),
        http://approximateinference.org/accepted/HoffmanJohnson2016.pdf

        Examples
        --------
        >>> import numpy as np
        >>> from aevb import VAE
        >>> z, noise = np.random.default_rng(0).normal(size=(2, 200, 4))
        >>> X = z[:, :1] + 0.3 * noise
        >>> vae = VAE(2, hidden=(4,), epochs=20, random_state=0).fit(X)
        >>> report = vae.diagnose(X)
        >>> len(report.latents["nats"]), sorted(report.columns["column"])
        (2, [0, 1, 2, 3])
        >>> abs(report.reconstruction - report.kl - report.elbo) < 1e-9
        True
        """
        check_is_fitted(self)
        n_draws = integer(n_draws, "n_draws", minimum=1)
        random = check_random_state(0 if random_state is None else random_state)
        if train is None and (train_condition is not None or train_exposure is not None):
            raise ValueError("Expected `train` with its condition or exposure; got None.")
        data, rows = self._encoded(X, condition, exposure)
        training, compared = None, None
        if train is not None:
            try:
                training, cases = self._encoded(train, train_condition, train_exposure)
            except (TypeError, ValueError) as error:
                raise type(error)(f"In `train`: {error}") from error
            if _are_equal(rows, cases):
                raise ValueError(
                    "Expected held-out rows for `X`; got those of `train`. Hold some rows out "
                    "before fitting, or leave `train` out."
                )

            def compared(some: Any, score: Callable[[], np.ndarray]) -> Comparison:
                self._check_comparable()
                return self._compared(some, cases, score, n_draws, random_state)

        fitted = Fitted(self.model_, self.schema_, self.history_, self.best_epoch_)
        seed = random.randint(2**31 - 1)
        return diagnose(fitted, data, rows, training, compared, n_draws=n_draws, seed=seed)

    def report(
        self,
        X: Rows = None,
        path: str | os.PathLike[str] = "report.html",
        labels: ArrayLike | None = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        train: Rows | None = None,
        train_condition: Rows | None = None,
        train_exposure: Exposures = None,
        image_shape: Sequence[int] | None = None,
        title: str | None = None,
        n_draws: int = 100,
        random_state: RandomState = None,
    ) -> None:
        """Write a report that one can send: one HTML file, which loads nothing from elsewhere.

        What was fitted and to what, the bounds with standard errors, the learning curve, the
        latent space, what each latent does, the oddest cases and cells, new cases beside real ones,
        and the diagnosis. Its numbers are those of `diagnose` and `surprise`; `aevb.report.facts`
        has them as plain data. The file shows some of the cases: do not send it to those who may
        not see them.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c]), table, or sparse array, optional
            Cases; held-out ones, if there are any. None: only what the estimator knows by itself.
        path : path-like, default="report.html"
            Where to; an existing file is replaced in one step.
        labels : array-like of shape (n,), optional
            What the cases are called, and coloured by.
        condition, exposure : optional
            Those of `X`, of a model that was fitted with some.
        train, train_condition, train_exposure : optional
            The cases that this model was fitted to, as in `diagnose`: for the gap to their bound,
            and for classical models beside this one.
        image_shape : sequence of int, optional
            (h, w) or (h, w, c) of images that were fitted as flat rows.
        title : str, optional
            Its headline; None: what was fitted.
        n_draws : int, default=100
            Importance samples for log p(x), as in `diagnose`.
        random_state : int, RandomState or None
            Seed of all draws; None: 0, and of new cases the one that the estimator was fitted with.

        Raises
        ------
        ImportError
            When matplotlib, of the extra ``aevb[plot]``, is not installed.
        ValueError, TypeError
            When cases, labels or the image shape do not fit.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 3))
        >>> vae = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     vae.report(X, os.path.join(folder, "report.html"))
        ...     os.listdir(folder)
        ['report.html']
        """
        from aevb.report.page import write

        write(
            self,
            path,
            X,
            labels,
            condition=condition,
            exposure=exposure,
            train=train,
            train_condition=train_condition,
            train_exposure=train_exposure,
            image_shape=image_shape,
            title=title,
            n_draws=n_draws,
            random_state=random_state,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
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
    def load(cls, path: str | os.PathLike[str], **parameters: Any) -> VAE:
        """Read a model from a file written by `save`; runs no code from the file.

        Parameters
        ----------
        path : str or path-like
            The file.
        **parameters
            Parameters that the file cannot hold, given again. Parts of the model must be:
            ``encoder=``, ``decoder=``, a function as ``activation=``, your own `Likelihood`,
            `Prior` or `Posterior`, and a distribution as ``prior=``, unless its class is one of
            NumPyro's or `aevb.probability`'s and its parameters are all of it (a mixture's are
            not). Only training needs functions and objects as ``estimator=``, ``kl_weight=``,
            ``optimizer=``, ``learning_rate=``, ``callbacks=`` and ``random_state=``: without them
            a warning says so, and the defaults replace them.

        Returns
        -------
        VAE
            The fitted model; its predictions are those of the model that was saved, bit for bit.

        Raises
        ------
        ModelFileError
            When the file is foreign, damaged, from a newer version, or does not fit `parameters`.
        """
        from aevb.persistence import load

        return load(cls, path, parameters)

    def export(
        self,
        path: str | os.PathLike[str],
        what: str = "encode",
        *,
        n_draws: int = 32,
        random_state: RandomState = None,
    ) -> None:
        r"""Write a function of the fitted model to a file that runs without aevb.

        The number of rows stays open, and all scaling is within. ONNX runs in other languages and
        in browsers; of a table it has an input for each column, texts among them. StableHLO runs
        in any JAX, on processors, GPUs and TPUs; its rows have the codes of categories, and a
        description stands beside it under ``path + ".json"``.

        A row gives NaN where a value is missing that the model needs, or a category is new. The
        file checks nothing else.

        Parameters
        ----------
        path : path-like
            Where to, ending in ``.onnx`` or ``.stablehlo``; an existing file is replaced.
        what : {"encode", "decode", "reconstruct", "elbo"}
            ``"encode"``: ``mean`` and ``variance`` of q(z|x). ``"decode"``: ``expected``, E[x|z],
            of latent points ``z``. ``"reconstruct"``: the same at the mean of q(z|x). ``"elbo"``:
            nats per case,

            .. math:: \frac1L \sum_l \log p(x|z_l) - \mathrm{KL}(q(z|x) \| p(z)),
                      \quad z_l = g_\phi(\epsilon_l, x)

            with L draws of the noise that are in the file, the same for all rows: unbiased for
            each row, but the errors of rows are not independent.
        n_draws : int, default=32
            The number L.
        random_state : int, RandomState or None
            Seed of that noise; None: 0.

        Raises
        ------
        ImportError
            When a library of the extra ``aevb[onnx]`` is not installed.
        ValueError, TypeError
            For another ending or function, or a model with an operation that ONNX lacks.

        Examples
        --------
        >>> import os, tempfile
        >>> import jax, numpy as np
        >>> from aevb import VAE
        >>> X = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
        >>> vae = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "encoder.stablehlo")
        ...     vae.export(path)
        ...     with open(path, "rb") as file:
        ...         encoder = jax.export.deserialize(bytearray(file.read()))
        >>> bool(np.allclose(encoder.call(X)["mean"], vae.transform(X), atol=1e-5))
        True
        """
        from aevb.export import export

        check_is_fitted(self)
        random = check_random_state(0 if random_state is None else random_state)
        export(
            path,
            self._learned,
            self.model_,
            what,
            latent_dim=self.config_.latent_dim,
            n_draws=n_draws,
            seed=random.randint(2**31 - 1),
        )

    def push_to_hub(
        self,
        repo_id: str,
        X: Rows | None = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        license: str | None = None,
        card: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> str:
        """Push the fitted model to the Hugging Face Hub, with a card that says what it is.

        The repository is made if it does not exist, and gets two files in one commit:
        ``model.aevb``, as `save` writes it, and the card as ``README.md``, in the place of an
        earlier one. The model's file holds names of columns and categories, and scales; a `Vamp`
        prior begins at training cases, and may still resemble them. Callbacks are left out.

        Parameters
        ----------
        repo_id : str
            Where to: ``"user/name"``.
        X : array-like or table, optional
            Held-out cases, whose bound and log-likelihood are in the card, but no case. None: only
            what is known of the training.
        condition, exposure : optional
            Those of `X`, of a model that was fitted with some.
        license : str, optional
            The licence under which it is shared, as the Hub calls it: ``"mit"``. None: the card
            names none.
        card : str, optional
            A card of your own, in Markdown; see `aevb.share.card`.
        private : bool, optional
            Whether a new repository is private. None: as the account has it.
        revision : str, optional
            The branch to commit to; None: main.
        token : str, optional
            Of the account. None: that of ``hf auth login``, or of ``HF_TOKEN``.

        Returns
        -------
        str
            The address of the repository.

        Raises
        ------
        ImportError
            When huggingface_hub, of the extra ``aevb[hub]``, is not installed.
        ValueError
            When `repo_id` cannot be the name of a repository, or cases do not fit.
        OSError
            When the Hub cannot be reached, or refuses.

        Examples
        --------
        >>> vae.push_to_hub("user/digits", test.images, license="mit")  # doctest: +SKIP
        'https://huggingface.co/user/digits'
        """
        from aevb.share.hub import push

        return push(
            self,
            repo_id,
            X,
            condition=condition,
            exposure=exposure,
            license=license,
            text=card,
            private=private,
            revision=revision,
            token=token,
        )

    @classmethod
    def from_hub(
        cls,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        **parameters: Any,
    ) -> VAE:
        """Read a model from the Hugging Face Hub; runs no code from there.

        Parameters
        ----------
        repo_id : str
            A repository that `push_to_hub` has written: ``"user/name"``.
        revision : str, optional
            A branch, a tag or a commit; None: main.
        token : str, optional
            Of an account that may read it. None: that of ``hf auth login``, or of ``HF_TOKEN``.
        **parameters
            Parameters that the file cannot hold, as in `load`.

        Returns
        -------
        VAE
            The fitted model; its predictions are those of the model that was pushed, bit for bit,
            on the same kind of machine and with the same versions.

        Raises
        ------
        ImportError
            When huggingface_hub, of the extra ``aevb[hub]``, is not installed.
        ValueError
            When there is no model of aevb in the repository; `ModelFileError`, a kind of it, when
            that is damaged or newer.
        OSError
            When the repository does not exist, or the Hub cannot be reached.

        Examples
        --------
        >>> vae = VAE.from_hub("user/digits")  # doctest: +SKIP
        """
        from aevb.share.hub import pull

        return pull(cls, repo_id, parameters, revision=revision, token=token)

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

    def explore(
        self,
        X: Rows | None = None,
        labels: ArrayLike | None = None,
        *,
        condition: Rows | None = None,
        exposure: Exposures = None,
        image_shape: Sequence[int] | None = None,
    ) -> Explorer:
        """Explore the latent space in a notebook: drag a point, and the decoded case follows.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c]), or table, optional
            Cases to show on the map; of more than 10,000 so many, evenly spaced.
        labels : array-like of shape (n,), optional
            A label, a number or a date of each case, to colour it by.
        condition, exposure : optional
            Those of `X`, of a model that was fitted with some.
        image_shape : sequence of int, optional
            Height and width, and channels if there are any, where pictures were fitted as flat
            rows.

        Returns
        -------
        Explorer
            A widget. ``widget.point`` is the latent point that is shown.

        Raises
        ------
        ImportError
            When anywidget, of the extra ``aevb[widget]``, is not installed.
        NotInAPage
            When the model needs something that a page does not have, such as a network that sorts.
        """
        from aevb.explorer.widget import Explorer

        check_is_fitted(self)
        return Explorer(
            self, X, labels, condition=condition, exposure=exposure, image_shape=image_shape
        )

    def _check_comparable(self) -> None:
        """Refuse models that classical ones cannot be compared with."""
        if self.condition_ is not None or self.exposure_ is not None:
            raise ValueError(
                "Expected a model without condition and exposure for `compare`, as the classical "
                "models know none; got one that was fitted with some."
            )
        _ = self.schema_.part
        if self.schema_.holes:
            raise ValueError(
                "Expected a model of data without missing values for `compare`, as the classical "
                "models need all of them; got one of data with some."
            )

    def _compared(
        self,
        held_out: np.ndarray,
        train: np.ndarray,
        score: Callable[[], np.ndarray],
        n_draws: int,
        random_state: RandomState,
    ) -> Comparison:
        """Compare rows of numbers with classical models; see `compare`."""
        part = self.schema_.part
        random = check_random_state(0 if random_state is None else random_state)
        return compare(
            self.schema_,
            part.values(dense(train)),
            part.values(dense(held_out)),
            score,
            latent_dim=self.config_.latent_dim,
            n_draws=n_draws,
            seed=random.randint(2**31 - 1),
        )

    def _encoded(self, X: Rows, condition: Rows | None, exposure: Exposures) -> tuple[Data, Any]:
        """Check cases as `_cases` does; return them with their rows of numbers."""
        rows = self._rows(X, self.schema_)
        context = self._learned.context(rows, condition, exposure)
        return Data(self.schema_.encode(rows), context), rows

    def _warn(self) -> None:
        """Warn, once, of a fit of which little may have come."""
        n_values = math.prod(self.feature_shape_)
        n_steps = int(self._run.state.step)
        history = {name: values[: self.best_epoch_] for name, values in self.history_.items()}
        said = doubts(self.explained_nats_, n_values, history, n_steps)
        if said:
            warnings.warn(said, FitWarning, stacklevel=3)

    def _check_parameters(self) -> SGVB:
        """Check every parameter that no data are needed for; return the objective."""
        integer(self.latent_dim, "latent_dim", minimum=1)
        integer(self.batch_size, "batch_size", minimum=1)
        if self.epochs != "auto":
            integer(self.epochs, "epochs", minimum=1)
        integer(self.n_init, "n_init", minimum=1)
        EarlyStopping(self.patience, self.tol, self.tol_params)
        Clipping(self.clip_norm)
        placement_for(self.devices, int(self.batch_size))
        if not isinstance(self.checkpoint, str | os.PathLike | None):
            raise TypeError(
                "Expected the path of a directory, or None, for `checkpoint`; got "
                f"{self.checkpoint!r}."
            )
        hidden_layers(self.hidden, make_architecture(self.architecture), 1)
        activation_function(self.activation)
        check_callbacks(self.callbacks)
        check_likelihood(self.likelihood)
        check_unseen(self.unseen)
        make_prior(self.prior)
        make_posterior(self.posterior)
        make_optimizer(self.optimizer, self.learning_rate)
        expected = "a number from 0 to below 1"
        number(self.validation_fraction, "validation_fraction", expected, lambda f: 0 <= f < 1)
        return make_objective(
            self.estimator, self.n_draws, self.weight_prior, self.kl_weight, self.free_bits
        )

    def _sample_given(
        self,
        model: PyTree,
        given: Mapping[Any, Any],
        n: int,
        random_state: RandomState,
        mean: bool,
        condition: Rows | None,
        exposure: Exposures,
    ) -> Any:
        """Return n cases of which some values are given."""
        covariates = read_condition(self.condition_, condition, None)
        if covariates is not None and len(covariates) > 1:
            raise ValueError("Expected a single `condition` with `given`; got several.")
        if exposure is not None and np.size(exposure) > 1:
            raise ValueError("Expected a single `exposure` with `given`; got several.")
        row = self.schema_.row_of(given)
        seed = self.config_.random_state if random_state is None else random_state
        n_draws, n_drawn = max(10_000, 20 * n), None if mean else n
        context = self._learned.context_of_new(condition, exposure, 1)
        made = self._filled(row, context, n_draws, n_drawn, seed, model=model, wide=True)
        values = self.schema_.values(made if mean else jax.tree.map(lambda leaf: leaf[0], made))
        values = np.where(np.isnan(row), values, row)
        return self.schema_.written(np.repeat(values, n, axis=0) if mean else values)

    def _filled(
        self,
        rows: np.ndarray,
        context: PyTree,
        n_draws: int,
        n_imputations: int | None,
        random_state: RandomState,
        *,
        model: PyTree = None,
        wide: bool = False,
    ) -> PyTree:
        """Return what the model expects, or draws, of rows of which some values are missing."""
        x, observed = self.schema_.encode_some(rows)
        return predict.impute(
            self.model_ if model is None else model,
            x,
            random_key(check_random_state(0 if random_state is None else random_state)),
            observed=observed,
            context=context,
            n_draws=n_draws,
            n_imputations=n_imputations,
            wide=wide,
        )

    def _learn(
        self,
        X: Rows,
        condition: Rows | None,
        exposure: Exposures,
        sample_weight: ArrayLike | None,
    ) -> tuple[Learned, Data, np.ndarray | None]:
        """Learn what training data are, and what is told of them; return rows and weights."""
        X = opened(X)
        if isinstance(X, Stored) and exposure is not None:
            raise ValueError(
                "Expected no `exposure` with data beyond memory; got one. Read `X` into memory."
            )
        X, told, weight = weighted(X, (condition, exposure), sample_weight)
        schema, rows = self._learn_schema(X)
        return *Learned.of(schema, rows, *told), weight

    def _learn_schema(self, X: Rows) -> tuple[Schema, Any]:
        """Learn the schema of training data, and return them as rows of numbers."""
        if isinstance(X, Stored):
            return learn_stored(self, X)
        if is_table(X):
            check_table(self, X, reset=True)
            columns, rows = Columns.learn(X, self.likelihood, self.unseen)
            return Schema.fit(rows, columns=columns), rows
        if isinstance(self.likelihood, Mapping):
            raise TypeError(
                "Expected a table for `X`, with names, as `likelihood` is by column; got "
                f"{type(X).__name__}. pandas.DataFrame(X) has 0, 1, 2 ... for names."
            )
        rows = as_rows(self, X)
        return Schema.fit(rows, self.likelihood), rows

    def _validated(self, X: Rows, schema: Schema) -> Any:
        """Return held-out cases as rows of numbers, which are stored if they are."""
        if isinstance(X, Stored):
            return Lazy(X, lambda piece: self._rows(piece, schema))
        return self._rows(X, schema)

    def _rows(self, X: Rows, schema: Schema, *, holes: bool = False) -> np.ndarray:
        """Return cases as rows of numbers, after a check of their type and shape."""
        if is_source(X):
            raise TypeError(
                "Expected rows in memory for `X`; got a path or a source. `fit`, `transform`, "
                "`reconstruct`, `elbo` and `log_likelihood` take those."
            )
        holes = holes or schema.holes
        if schema.columns is None:
            return as_rows(self, X, schema.shape, holes=holes)
        if is_table(X):
            check_table(self, X)
        else:
            X = as_rows(self, X, schema.shape, narrowed=False)
        rows = schema.columns.read(X)
        check_finite(rows, schema.names, missing=holes)
        return rows

    @property
    def likelihood_(self) -> Likelihood | Columns:
        """The likelihood in use; of a table, that of each column."""
        return self.schema_.likelihood

    @property
    def feature_shape_(self) -> tuple[int, ...]:
        """Shape of one case."""
        return self.schema_.shape

    def _cases(self, X: Rows, condition: Rows | None = None, exposure: Exposures = None) -> Data:
        """Check cases against what was learned: type, shape, finite, within the support."""
        check_is_fitted(self)
        return self._encoded(X, condition, exposure)[0]

    def _points(self, Z: Rows) -> np.ndarray:
        """Check latent points: type, shape, finite."""
        check_is_fitted(self)
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is refused
            Z = check_array(Z, dtype=np.float32, input_name="Z")
        latent_dim = self.config_.latent_dim
        if Z.shape[1] != latent_dim:
            raise ValueError(
                f"Expected latent points of shape (n, {latent_dim}) for `Z`; got {Z.shape}."
            )
        return Z

    @property
    def _learned(self) -> Learned:
        return Learned(self.schema_, self.condition_, self.exposure_)

    def _numbers(self, X: Rows) -> np.ndarray:
        """Return cases as an array; the values must be of one kind."""
        check_is_fitted(self)
        _ = self.schema_.part
        rows = self._rows(X, self.schema_)
        self.schema_.encode(rows)
        return dense(rows)

    def _scores(
        self,
        function: Callable,
        X: Rows,
        n_draws: int,
        random_state: RandomState,
        condition: Rows | None,
        exposure: Exposures,
    ) -> Any:
        data = self._cases(X, condition, exposure)
        n_draws = integer(n_draws, "n_draws", minimum=1)
        key = random_key(check_random_state(0 if random_state is None else random_state))
        return function(self.model_, data.x, key, context=data.c, n_draws=n_draws)

    @property
    def _n_features_out(self) -> int:
        return self.config_.latent_dim

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = tags.input_tags.sparse = True
        return tags


def _index(X: Any) -> Any:
    """Return the index of a table of pandas; None of anything else."""
    return X.index if is_table(X) and hasattr(X, "iloc") else None


def _are_equal(one: Any, other: Any) -> bool:
    """Whether rows of numbers, dense or sparse, are the same, with holes in the same places."""
    if one.shape != other.shape:
        return False
    if is_sparse(one) or is_sparse(other):
        return is_sparse(one) and is_sparse(other) and (one != other).nnz == 0
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
