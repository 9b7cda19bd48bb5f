"""Full variational Bayes, appendix F of the paper: a posterior over the parameters too."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, lax
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution

from aevb.errors import integer, number
from aevb.inference.objective import Batch, Metrics, Objective, as_objective
from aevb.inference.sgvb import SGVB
from aevb.models.base import Frozen, LatentVariableModel, trainable
from aevb.models.checks import family_of
from aevb.models.conditional import Conditional
from aevb.models.parameters import build_member, choose_family
from aevb.models.posteriors import Posterior
from aevb.probability.divergences import has_closed_form, kl_divergence
from aevb.probability.measures import VOLUME, measure_of

Where = Callable[[PyTree], PyTree]  # from a model to parts of it


class Layout(NamedTuple):
    """How the arrays of a PyTree lie in one vector.

    Attributes
    ----------
    structure : PyTreeDef
        Of the PyTree.
    shapes, dtypes : tuple
        Of its arrays.
    """

    structure: jax.tree_util.PyTreeDef
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype, ...]

    @classmethod
    def of(cls, tree: PyTree) -> Layout:
        """Return the layout of a PyTree of real arrays."""
        leaves, structure = jax.tree.flatten(tree)
        shapes, dtypes = tuple(a.shape for a in leaves), tuple(a.dtype for a in leaves)
        if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
            raise ValueError("Expected real arrays for `where`; got complex ones.")
        return cls(structure, shapes, dtypes)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(map(math.prod, self.shapes))

    def ravel(self, tree: PyTree) -> Float[Array, " size"]:
        """Return the arrays in one vector, of their common type."""
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    def unravel(self, vector: Float[Array, " size"]) -> PyTree:
        """Return the arrays of a vector, each of its own type."""
        ends = list(itertools.accumulate(map(math.prod, self.shapes)))
        parts = zip(jnp.split(vector, ends[:-1]), self.shapes, self.dtypes, strict=True)
        leaves = [jnp.reshape(part, shape).astype(dtype) for part, shape, dtype in parts]
        return jax.tree.unflatten(self.structure, leaves)


class Bayesian(LatentVariableModel):
    r"""A model whose parameters θ are uncertain, with a posterior q(θ) and a prior p(θ).

    `train` fits q(θ) along with everything else that is trainable, by `FullVB`. As a
    `LatentVariableModel` it stands for the model at the mean of q(θ); `posterior_predictive`
    averages over θ.

    The paper's :math:`q(\theta) = N(\mu_\theta, \mathrm{diag}\, \sigma_\theta^2)` (appendix F)
    knows nothing of correlations. Where the exact posterior has some, its means may be right, but
    its standard deviations are too small. The other families learn correlations.

    Parameters
    ----------
    model : LatentVariableModel
        The model; its parameters are the first mean of q(θ).
    where : callable or PyTree of bool, optional
        Which parameters θ is: a function from the model to one or several of its parts
        (``lambda model: model.decoder``, ``lambda model: (model.W, model.b)``), or a PyTree of
        bools in the model's shape. None: all that is trainable. Parameters not chosen are trained
        as points. Choose those of prior and likelihood: uncertainty in the parameters of a
        recognition model is not part of the paper's θ, and only loosens the bound.
    prior : Distribution, optional
        p(θ): a distribution of one real number, the same for every element of θ. None: N(0, 1).
    posterior : str or Posterior
        The family of q(θ), over the d numbers of θ in one vector, by its name or class in
        `aevb.posteriors`. ``"normal"`` (`Normal`): independent. ``"full-normal"``
        (`FullNormal`): any covariance, d (d + 3) / 2 numbers to learn. ``"low-rank-normal"``
        (``LowRankNormal(rank)``): covariance :math:`V V^T + \mathrm{diag}(s)`, d (rank + 2)
        numbers. ``"iaf"`` and ``"coupling"`` (`Flow`): normals bent by a flow, for d of at least
        2; needs the extra ``flows``.
    start_scale : float
        Standard deviation of each number in the first q(θ), where they are independent normals.

    Attributes
    ----------
    parameter_posterior : Conditional
        ``parameter_posterior()`` is q(θ), over vectors of shape (d,): the elements of θ in the
        order of ``jax.tree.leaves(mean)``. A normal one with correlations has a
        ``covariance_matrix``.
    mean, std : PyTree
        Mean and standard deviations of q(θ), in the shape of the model; None where nothing was
        chosen. Those of a flow are averages over 256 draws.
    rest : LatentVariableModel
        The model without the chosen parameters.
    parameter_prior : Frozen
        p(θ).
    layout : Layout
        How the elements of θ lie in the vector: ``layout.unravel(vector)`` has the model's shape.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit.
    ImportError
        For a flow, when FlowJAX is not installed.

    References
    ----------
    Kingma and Welling (2013), appendix F, https://arxiv.org/abs/1312.6114

    Examples
    --------
    The mean of three numbers with noise of scale 1, half of it a latent z, known exactly: its
    posterior is N(1.5, 1/4).

    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Mean(aevb.LatentVariableModel):
    ...     loc: jax.Array
    ...     def prior(self):
    ...         return dist.Normal(0.0, 0.5**0.5)
    ...     def likelihood(self, z):
    ...         return dist.Normal(self.loc + z, 0.5**0.5)
    ...     def posterior(self, x):
    ...         return dist.Normal((x - self.loc) / 2, 0.5)
    >>> data = jnp.array([1.0, 2.0, 3.0])
    >>> model = aevb.Bayesian(Mean(jnp.array(0.0)))
    >>> model = aevb.train(model, data, epochs=2000, learning_rate=0.01).model
    >>> round(float(model.mean.loc), 1), round(float(model.std.loc), 1)
    (1.5, 0.5)
    """

    parameter_posterior: Conditional
    rest: PyTree
    parameter_prior: Frozen
    layout: Layout = eqx.field(static=True)

    def __init__(
        self,
        model: LatentVariableModel,
        *,
        where: Where | PyTree = None,
        prior: Distribution | None = None,
        posterior: str | Posterior = "normal",
        start_scale: float = 0.01,
    ):
        if isinstance(model, Bayesian) or not isinstance(model, LatentVariableModel):
            raise TypeError(
                "Expected a LatentVariableModel that is not Bayesian yet for `model`; got "
                f"{type(model).__name__}."
            )
        expected = "a positive number"
        number(start_scale, "start_scale", expected, lambda scale: 0 < scale < math.inf)
        family = choose_family(posterior)
        theta, self.rest = eqx.partition(model, _chosen(model, where))
        self.layout = Layout.of(theta)
        mean = self.layout.ravel(theta)
        self.parameter_prior = Frozen(_checked(dist.Normal(0.0, 1.0) if prior is None else prior))
        log_scale = jnp.asarray(math.log(start_scale), mean.dtype)
        # Only the networks of a flow are drawn, and those do nothing yet: any key will do.
        key = jax.random.key(0)
        self.parameter_posterior = build_member(family, mean, log_scale, key=key)

    @property
    def mean(self) -> PyTree:
        """The mean of q(θ), in the shape of the model."""
        return self.layout.unravel(self.parameter_posterior().mean)

    @property
    def std(self) -> PyTree:
        """The standard deviations of q(θ), in the shape of the model."""
        return self.layout.unravel(jnp.sqrt(self.parameter_posterior().variance))

    def at_mean(self) -> LatentVariableModel:
        """Return the model at the mean of q(θ)."""
        return eqx.combine(self.mean, self.rest)

    def draw(self, key: Key) -> LatentVariableModel:
        """Return the model at a draw of θ ~ q(θ), reparameterised."""
        return self._at(self.parameter_posterior().sample(key))

    def draw_and_kl(self, key: Key) -> tuple[LatentVariableModel, Float[Array, ""]]:
        """Return what `draw` and `kl` return for a key, with θ drawn once."""
        q, p = self.parameter_posterior(), self._prior()
        if has_closed_form(q, p):
            return self._at(q.sample(key)), kl_divergence(q, p)
        if hasattr(q, "sample_and_log_prob"):  # of a flow: log_prob alone may be slow
            theta, log_q = q.sample_and_log_prob(key)
        else:
            theta = q.sample(key)
            log_q = q.log_prob(theta)
        return self._at(theta), log_q - p.log_prob(theta)

    def kl(self, key: Key | None = None) -> Float[Array, ""]:
        r"""KL(q(θ)‖p(θ)), once for the whole data set; nats.

        For independent normals and p(θ) = N(0, I) it is minus the second sum of the paper's
        equation (24), :math:`-\tfrac12 \sum (1 + \log \sigma_\theta^2 - \mu_\theta^2 -
        \sigma_\theta^2)`.

        Parameters
        ----------
        key : Array, optional
            Where no closed form is known for q(θ) and the prior, the divergence is estimated by
            log q(θ) - log p(θ) at the θ that `draw` returns for this key.
        """
        q, p = self.parameter_posterior(), self._prior()
        if has_closed_form(q, p):
            return kl_divergence(q, p)
        if key is None:
            raise ValueError(
                "Expected a `key`, since no closed form is known for the divergence of "
                f"{family_of(q)} from {family_of(p)}; got None."
            )
        return self.draw_and_kl(key)[1]

    def _at(self, theta: Float[Array, " d"]) -> LatentVariableModel:
        return eqx.combine(self.layout.unravel(theta), self.rest)

    def _prior(self) -> Distribution:
        return self.parameter_prior.value.expand((self.layout.size,)).to_event(1)

    @property
    def prior(self) -> Callable[..., Distribution]:
        """The method that returns p(z), at the mean of q(θ)."""
        return self.at_mean().prior

    @property
    def likelihood(self) -> Callable[..., Distribution]:
        """The method that returns p(x|z), at the mean of q(θ)."""
        return self.at_mean().likelihood

    @property
    def posterior(self) -> Callable[..., Distribution]:
        """The method that returns q(z|x), at the mean of q(θ)."""
        return self.at_mean().posterior


def _chosen(model: PyTree, where: Where | PyTree) -> PyTree[bool]:
    """Mark the trainable leaves that `where` chooses."""
    marks = trainable(model)
    if callable(where) and not isinstance(where, eqx.Module):
        nothing = jax.tree.map(lambda _: False, marks)
        marks = eqx.tree_at(where, nothing, where(marks))
    elif where is not None:
        marks = jax.tree.map(
            lambda chosen, part: jax.tree.map(lambda mark: bool(chosen) and mark, part),
            where,
            marks,
        )
    if not any(jax.tree.leaves(marks)):
        raise ValueError("Expected at least one trainable array for `where`; got none.")
    return marks


def _checked(prior: Any) -> Distribution:
    expected = "Expected a distribution of one number, over all real numbers, for `prior`"
    if not isinstance(prior, Distribution):
        raise TypeError(f"{expected}; got {prior!r}.")
    if prior.batch_shape or prior.event_shape:
        raise ValueError(f"{expected}; got shape {prior.batch_shape + prior.event_shape}.")
    if measure_of(prior) != VOLUME or not jnp.all(prior.support(jnp.array([-1e6, 1e6]))):
        raise ValueError(f"{expected}; got {type(prior).__name__}, of support {prior.support}.")
    return prior


class FullVB(Objective):
    r"""Minibatch objective of full variational Bayes, equation (24) divided by N.

    .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \tilde{\mathcal{L}}_\theta(x_i)
        - \frac{1}{N} \mathrm{KL}(q(\theta) \| p(\theta)), \quad \theta \sim q(\theta)

    with θ drawn once per minibatch, by reparameterisation. The metrics are those of the inner
    objective at that θ, without the divergence, and ``kl_parameters``, the divergence divided by N:
    ``elbo - kl_parameters`` is the bound on log p(X) / N.

    Parameters
    ----------
    objective : callable
        What is averaged over θ: `SGVB` with any estimator, for one. Not one with a state.

    References
    ----------
    Kingma and Welling (2013), algorithm 2, https://arxiv.org/abs/1312.6114
    """

    objective: Any = eqx.field(default_factory=SGVB)

    def __check_init__(self) -> None:
        if getattr(self.objective, "weight_prior", None) is not None:
            raise ValueError(
                "Expected `weight_prior` left at None for a Bayesian model, whose parameters have "
                f"a prior already, Bayesian(model, prior=...); got {self.objective.weight_prior}."
            )
        if as_objective(self.objective).has_state:
            raise TypeError(
                "Expected an objective without an E step or a state of its own for FullVB; got "
                f"{type(self.objective).__name__}."
            )

    @property
    def is_mean(self) -> bool:
        """Whether what is averaged over θ is a mean over rows."""
        return as_objective(self.objective).is_mean

    def counts(self, step: int, last: int) -> bool:
        """Whether the bound of what is averaged over θ counts."""
        return as_objective(self.objective).counts(step, last)

    def check(self, model: LatentVariableModel, x: PyTree, c: PyTree, key: Key) -> None:
        """Check what is averaged over θ, at the mean of q(θ)."""
        if isinstance(model, Bayesian):
            as_objective(self.objective).check(model.at_mean(), x, c, key)

    def __call__(
        self, model: LatentVariableModel, batch: Batch, key: Key, state: PyTree
    ) -> tuple[Float[Array, ""], Metrics, PyTree]:
        """Return the objective to maximise, the metrics (means over the rows), and the state."""
        if not isinstance(model, Bayesian):
            raise TypeError(
                f"Expected a Bayesian model for FullVB; got {type(model).__name__}. Write "
                "Bayesian(model)."
            )
        parameter_key, key = jax.random.split(key)
        drawn, kl = model.draw_and_kl(parameter_key)
        surrogate, metrics, state = self.objective(drawn, batch, key, state)
        kl = kl / batch.n_total
        return surrogate - kl, {**metrics, "kl_parameters": kl}, state


class Predictive(NamedTuple):
    """What `posterior_predictive` returns.

    Attributes
    ----------
    mean, std : PyTree
        Mean and standard deviation of the function over draws of θ.
    """

    mean: PyTree
    std: PyTree


def posterior_predictive(
    model: Bayesian,
    function: Callable[[LatentVariableModel], PyTree],
    key: Key,
    *,
    n_draws: int = 100,
) -> Predictive:
    """Average a function of the model over θ ~ q(θ), with the uncertainty that θ leaves.

    Parameters
    ----------
    model : Bayesian
        The fitted model.
    function : callable
        A function of a plain model that returns arrays: expected values for some rows, for
        instance. What it averages over or draws besides θ is its own affair.
    key : Array
        JAX random key, for the draws of θ.
    n_draws : int
        Number of draws of θ, at least 2.

    Returns
    -------
    Predictive
        ``mean`` and ``std`` over the draws, in the shape of what `function` returns. Of a
        likelihood's mean, ``std`` is the uncertainty about that mean, without the noise of x.

    Examples
    --------
    A line through the origin, of uncertain slope, at two points:

    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Line(aevb.LatentVariableModel):
    ...     slope: jax.Array
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z, c):
    ...         return dist.Normal(self.slope * c + z, 1.0)
    ...     def posterior(self, x, c):
    ...         return dist.Normal((x - self.slope * c) / 2, 0.5**0.5)
    >>> model = aevb.Bayesian(Line(jnp.array(2.0)), start_scale=0.1)
    >>> def expected(line):
    ...     return jax.vmap(lambda c: line.likelihood(0.0, c).mean)(jnp.array([0.0, 10.0]))
    >>> mean, std = aevb.posterior_predictive(model, expected, jax.random.key(0), n_draws=1000)
    >>> mean.round().tolist(), std.round().tolist()
    ([0.0, 20.0], [0.0, 1.0])
    """
    if not isinstance(model, Bayesian):
        raise TypeError(f"Expected a Bayesian model for `model`; got {type(model).__name__}.")
    keys = jax.random.split(key, integer(n_draws, "n_draws", minimum=2))
    values = lax.map(lambda key: function(model.draw(key)), keys)
    mean = jax.tree.map(lambda value: jnp.mean(value, axis=0), values)
    std = jax.tree.map(lambda value: jnp.std(value, axis=0, ddof=1), values)
    return Predictive(mean, std)
