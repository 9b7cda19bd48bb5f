"""Stochastic gradient variational Bayes: `sgvb` for one datapoint, `SGVB` for a minibatch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import choose, integer, number
from aevb.inference.estimators import ESTIMATORS, Estimate, Estimator
from aevb.inference.objective import Batch, Metrics, Objective
from aevb.models.base import LatentVariableModel, given, name_of, trainable
from aevb.models.checks import family_of
from aevb.models.networks import applied_weights
from aevb.probability.divergences import has_closed_form, kl_per_dimension

# Estimators of equation (2) with a KL term to weigh; the others have none, or a bound of their own.
WITH_KL = ("auto", "A", "B", "stl")
WITH_PLAIN_KL = ("auto", "A", "B")  # whose KL another estimate of it may replace


# Numbers that users give; arrays where other values are to compile nothing anew.
Setting = float | Float[Array, ""]
Schedule = Callable[[Int[Array, ""]], Float[Array, ""] | float]  # of the number of steps taken


def _from_zero_up(value: float) -> bool:
    return 0 <= value < math.inf


_SETTINGS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "weight_prior": ("a positive standard deviation or None", lambda scale: 0 < scale < math.inf),
    "kl_weight": ("a number from 0 up, or a schedule", _from_zero_up),
    "free_bits": ("a number of nats from 0 up", _from_zero_up),
}


def check_setting(name: str, value: Any) -> None:
    """Raise ValueError or TypeError for a value that does not fit; None leaves the setting out."""
    if value is not None and not isinstance(value, (jax.Array, np.ndarray)):  # maybe traced
        number(value, name, *_SETTINGS[name])


def find_estimator(estimator: Any) -> Estimator:
    """Return the estimator that a name stands for, or the function itself."""
    if callable(estimator):
        return estimator
    return choose(estimator, ESTIMATORS, "estimator", " or a function")


def sgvb(
    model: LatentVariableModel,
    x: PyTree,
    key: Key,
    *,
    c: PyTree = None,
    estimator: str | Estimator = "auto",
    n_draws: int = 1,
) -> Float[Array, ""]:
    r"""Estimate a lower bound on the evidence of one datapoint by stochastic gradient VB.

    .. math:: \mathcal{L}(x) = E_{q(z|x)}[\log p(x, z) - \log q(z|x)] \le \log p(x)

    Parameters
    ----------
    model : LatentVariableModel
        The model: prior, likelihood and posterior of one datapoint.
    x : PyTree
        One datapoint.
    key : Array
        JAX random key, for the draws of z.
    c : PyTree, optional
        Context of the datapoint, for models that take one.
    estimator : str or callable
        The estimator. Of the evidence lower bound: ``"A"``, equation (6); ``"B"``, equation (7),
        with KL(q‖p) in closed form; ``"auto"``, B where such a form exists for the pair of
        families, else A; ``"stl"``, A with the gradient that sticks the landing; ``"score"``, by
        the score function, for latents that cannot be reparameterised (`n_draws` ≥ 2). Of the
        importance-weighted bound: ``"iw"``; ``"dreg"``, with the doubly reparameterised gradient;
        ``"vimco"``, for latents that cannot be reparameterised (`n_draws` ≥ 2). Or a function with
        the signature of those in `aevb.inference.estimators`.
    n_draws : int
        Number of draws of z: the paper's L, or k of an importance-weighted bound. From a mixture
        of K components as posterior it is drawn in strata, `n_draws` from each, whose share is the
        component's weight; ``"iw"`` then averages over K `n_draws` importance weights. ``"score"``
        and ``"vimco"`` draw from the mixture itself, ``"dreg"`` refuses mixtures.

    Returns
    -------
    Array
        Scalar, nats: an unbiased estimate of the bound, differentiable in the model.

    Raises
    ------
    ValueError
        When `estimator` is unknown, `n_draws` too small, or the model cannot be served, as by
        ``"B"`` where no closed form is known.

    References
    ----------
    Kingma and Welling (2013), section 2.3, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp
    >>> vae = aevb.VAE(latent_dim=2, epochs=1, random_state=0).fit(jnp.eye(8))
    >>> bound = aevb.sgvb(vae.model_, jnp.eye(8)[0], jax.random.key(0), n_draws=16)
    >>> bound.shape, bool(bound < 0)
    ((), True)
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    return find_estimator(estimator)(given(model, c), x, key, n_draws).value


class SGVB(Objective):
    r"""Minibatch objective: the mean of an estimator over the rows, plus log p(θ) / N.

    .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \tilde{\mathcal{L}}(x_i) + \frac{1}{N} \log p(\theta)

    which is equation (8) divided by N. The metrics are those of the estimator: they include neither
    log p(θ) nor the weight of the KL nor free bits, with which the objective is not a bound.

    Parameters
    ----------
    estimator : str or callable
        The estimator; see `sgvb`.
    n_draws : int
        Draws of z per datapoint, the paper's L.
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the weights, N(0, weight_prior² I); None: flat.
        Weights are arrays of two dimensions or more, tables of variational parameters among them,
        but not those called ``bias`` and what is under ``latent_prior``: these, and vectors, have a
        flat prior. Write coefficients of shape (p,) as (p, 1) to have them pulled.
    kl_weight : float or callable, optional
        Factor β before the KL; or a function of the number of steps taken (an Optax schedule), to
        warm up. Below 1 the objective exceeds the bound; above 1 it is a looser one
        (Higgins et al. 2017). None: 1.
    free_bits : float, optional
        Nats of KL that each latent dimension has free, on average over the minibatch: the KL is
        replaced by Σ_j max(free_bits, mean_i KL_ij), which is not a bound below that floor
        (Kingma et al. 2016, https://arxiv.org/abs/1606.04934). The KL in closed form, which must
        be a sum over dimensions, takes the place of the estimator's own; ``"stl"`` would have no
        part in the gradient, and is refused.

    Raises
    ------
    ValueError, TypeError
        For settings that do not fit; arrays are taken as they are.
    """

    estimator: str | Estimator = eqx.field(static=True, default="auto")
    n_draws: int = eqx.field(static=True, default=1)
    weight_prior: Any = None  # a `Setting`, which is checked below with a message of its own
    kl_weight: Any = None  # a `Setting` or a `Schedule`
    free_bits: Any = None  # a `Setting`

    def __check_init__(self) -> None:
        estimator = find_estimator(self.estimator)
        integer(self.n_draws, "n_draws", minimum=1)
        for name in _SETTINGS:
            if not (name == "kl_weight" and callable(self.kl_weight)):
                check_setting(name, getattr(self, name))
        for name, names in (("kl_weight", WITH_KL), ("free_bits", WITH_PLAIN_KL)):
            if getattr(self, name) is None:
                continue
            if estimator not in [ESTIMATORS[known] for known in names]:
                raise ValueError(
                    f"Expected an `estimator` with a KL term beside `{name}`: one of "
                    f"{', '.join(map(repr, names))}; got {self.estimator!r}."
                )

    def __call__(
        self, model: LatentVariableModel, batch: Batch, key: Key, state: PyTree
    ) -> tuple[Float[Array, ""], Metrics, PyTree]:
        """Return the objective to maximise, the metrics (means over the rows), and the state."""
        estimator = find_estimator(self.estimator)

        def row(x: PyTree, c: PyTree, key: Key) -> Estimate:
            return estimator(given(model, c), x, key, self.n_draws)

        estimates = jax.vmap(row)(batch.x, batch.c, batch.keys)
        weight = batch.share
        surrogate, metrics = jax.tree.map(lambda rows: jnp.sum(weight * rows), estimates)
        if self.kl_weight is not None or self.free_bits is not None:
            surrogate += metrics["kl"] - self._penalty(metrics["kl"], model, batch, weight)
        if self.weight_prior is not None:
            surrogate += log_weight_prior(model, self.weight_prior) / batch.n_total
        return surrogate, metrics, state

    @property
    def serves_any_model(self) -> bool:
        """Whether it needs no check: the automatic estimator takes what there is."""
        plain_weight = not callable(self.kl_weight)
        return self.estimator == "auto" and self.free_bits is None and plain_weight

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over rows: free bits are those of the mean KL of a whole batch."""
        return self.free_bits is None

    def counts(self, step: int, last: int) -> bool:
        """Whether a scheduled `kl_weight` has come to 1, or to what it is at the end."""
        if not callable(self.kl_weight):
            return True
        now, end = (float(self.kl_weight(jnp.int32(at))) for at in (step, last))
        return now >= min(end, 1.0) - 1e-6

    def check(self, model: LatentVariableModel, x: PyTree, c: PyTree, key: Key) -> None:
        """Raise TypeError if a user's estimator does not return an `Estimate`."""
        if callable(self.estimator):
            eqx.filter_eval_shape(self._check_estimate, model, x, c, key)

    def _check_estimate(self, model: LatentVariableModel, x: PyTree, c: PyTree, key: Key) -> None:
        estimate: Any = find_estimator(self.estimator)(given(model, c), x, key, self.n_draws)
        if not (isinstance(estimate, Estimate) and isinstance(estimate.metrics, dict)):
            wrong = f"{type(estimate).__name__}"
        elif jnp.shape(estimate.value):
            wrong = f"a value of shape {jnp.shape(estimate.value)}"
        else:
            return
        raise TypeError(
            "Expected an Estimate(value, metrics), a number and a dict of numbers for one "
            f"datapoint, from the function given as `estimator`; got {wrong}. See "
            "aevb.inference.estimators.Estimate."
        )

    def _penalty(
        self,
        kl: Float[Array, ""],
        model: LatentVariableModel,
        batch: Batch,
        weight: Float[Array, " B"],
    ) -> Float[Array, ""]:
        """Return what replaces the mean KL: weighted, and with free bits."""
        if self.free_bits is not None:
            kl = self._kl_above(self.free_bits, model, batch, weight)
        if self.kl_weight is None:
            return kl
        return (self.kl_weight(batch.step) if callable(self.kl_weight) else self.kl_weight) * kl

    def _kl_above(
        self,
        floor: Setting,
        model: LatentVariableModel,
        batch: Batch,
        weight: Float[Array, " B"],
    ) -> Float[Array, ""]:
        def row(x: PyTree, c: PyTree) -> Float[Array, "*latent"]:
            view = given(model, c)
            q, p = view.posterior(x), view.prior()
            if not has_closed_form(q, p):
                raise ValueError(
                    "Expected a posterior and a prior with a divergence in closed form beside "
                    f"`free_bits`; got {family_of(q)} and {family_of(p)}."
                )
            try:
                return kl_per_dimension(q, p)
            except ValueError as error:
                raise ValueError(
                    "Expected a divergence that is a sum over dimensions, which `free_bits` are "
                    f"counted in, of `{name_of(model)}.posterior` and `{name_of(model)}.prior`; "
                    f"got {family_of(q)} and {family_of(p)}. Choose a family of independent "
                    "dimensions, or leave `free_bits` at 0."
                ) from error

        mean = jnp.tensordot(weight, jax.vmap(row)(batch.x, batch.c), 1)
        return jnp.sum(jnp.maximum(mean, floor))


def make_objective(
    estimator: Any,
    n_draws: Any = 1,
    weight_prior: Any = None,
    kl_weight: Any = 1.0,
    free_bits: Any = 0.0,
) -> SGVB:
    """Build the minibatch objective from a user's settings, and check them."""
    plain_kl = isinstance(kl_weight, float | int) and kl_weight == 1
    settings: dict[str, Any] = {
        "weight_prior": weight_prior,
        "kl_weight": None if plain_kl else kl_weight,
        "free_bits": free_bits or None,
    }
    SGVB(estimator, n_draws, **settings)
    # Traced, so that other numbers compile nothing.
    traced = {
        name: jnp.asarray(value, jnp.float32)
        for name, value in settings.items()
        if isinstance(value, numbers.Real)
    }
    return SGVB(estimator, n_draws, **{**settings, **traced})


def log_weight_prior(model: PyTree, scale: Setting) -> Float[Array, ""]:
    """Evaluate log N(θ; 0, scale² I) up to a constant, over the trainable weights of `model`.

    Weights are arrays of two dimensions or more whose name is not "bias", and which are not part
    of a ``latent_prior``. Raises ValueError where there are none.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        eqx.filter(applied_weights(model), trainable(model))
    )
    weights = [leaf for path, leaf in leaves if leaf.ndim > 1 and _is_of_weights(path)]
    if not weights:
        raise ValueError(
            f"Expected weights in `{name_of(model)}`, trainable arrays of two dimensions or more, "
            f"for `weight_prior`; got {', '.join(map(_described, leaves)) or 'none'}. Write a "
            "vector of coefficients, shape (p,), as a matrix, (p, 1); or leave `weight_prior` out."
        )
    return -0.5 * jnp.sum(jnp.stack([_sum_of_squares(leaf / scale) for leaf in weights]))


def _sum_of_squares(w: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.real(w * jnp.conj(w)))  # of complex numbers their absolute values


def _is_of_weights(path: tuple) -> bool:
    key = path[-1] if path else None
    name = getattr(key, "name", getattr(key, "key", None))  # of a field, of an entry
    return name != "bias" and ".latent_prior" not in map(str, path)


def _described(named: tuple[tuple, Array]) -> str:
    path, leaf = named
    return f"{jax.tree_util.keystr(path).lstrip('.')} of shape {leaf.shape}"
