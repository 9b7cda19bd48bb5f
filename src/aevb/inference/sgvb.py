"""Stochastic gradient variational Bayes: estimators of the evidence lower bound for one datapoint.

Every estimator has the signature ``(model, x, key, c, n_draws) -> Bound`` and sees one datapoint,
as the paper's equations do. `SGVB` lifts one of them to the minibatch objective of equation (8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from numpyro.distributions import Distribution

from aevb.errors import choose, integer
from aevb.models.base import LatentVariableModel, trainable, with_context
from aevb.probability.divergences import has_closed_form, kl_divergence


class Bound(NamedTuple):
    """A bound for one datapoint, and its two terms; nats.

    Attributes
    ----------
    elbo : Array
        ``reconstruction - kl``, an unbiased estimate of equation (2).
    kl : Array
        KL(q(z|x)‖p(z)), exact under estimator B, estimated under A.
    reconstruction : Array
        E_q log p(x|z), estimated from the draws.
    """

    elbo: Array
    kl: Array
    reconstruction: Array


class Draws(NamedTuple):
    """What every estimator starts from: q(z|x), p(z), and log p(x|z) at the draws."""

    posterior: Distribution
    prior: Distribution
    z: Array
    log_likelihood: Array


def draw(model: LatentVariableModel, x: Any, key: Array, c: Any, n_draws: int) -> Draws:
    """Draw z ~ q(z|x) `n_draws` times and evaluate log p(x|z) at each."""
    posterior = with_context(model.posterior, x, c=c)
    prior = with_context(model.prior, c=c)
    if not posterior.has_rsample:
        raise ValueError(
            f"Expected a reparameterised distribution from `{type(model).__name__}.posterior`; "
            f"got {type(posterior).__name__}, whose draws carry no gradient."
        )
    z = posterior.sample(key, (n_draws,))
    log_likelihood = over_draws(lambda z: with_context(model.likelihood, z, c=c).log_prob(x), z)
    _check_single(model, posterior.batch_shape, prior.batch_shape, log_likelihood.shape[1:])
    return Draws(posterior, prior, z, log_likelihood)


def over_draws(function: Callable[[Any], Array], z: Any) -> Array:
    """Map a function over the leading axis of the draws."""
    if jax.tree.leaves(z)[0].shape[0] > 1:
        return jax.vmap(function)(z)
    # An axis of length 1 would have every matrix of the decoder transposed: a tenth of a step.
    return function(jax.tree.map(lambda leaf: leaf[0], z))[None]


def _check_single(model: LatentVariableModel, *batch_shapes: tuple[int, ...]) -> None:
    # A bound that is no scalar could be broadcast against the rows' weights, and be plainly wrong.
    for method, shape in zip(("posterior", "prior", "likelihood"), batch_shapes, strict=True):
        if shape:
            raise ValueError(
                f"Expected one joint distribution of the whole datapoint from "
                f"`{type(model).__name__}.{method}`; got independent ones of batch shape {shape}. "
                f"Join them with `.to_event({len(shape)})`."
            )


def estimator_a(model: LatentVariableModel, x: Any, key: Array, c: Any, n_draws: int) -> Bound:
    """Equation (6): the mean over draws of log p(x, z) - log q(z|x)."""
    q, p, z, log_likelihood = draw(model, x, key, c, n_draws)
    kl = jnp.mean(over_draws(q.log_prob, z) - over_draws(p.log_prob, z))
    reconstruction = jnp.mean(log_likelihood)
    return Bound(reconstruction - kl, kl, reconstruction)


def estimator_b(model: LatentVariableModel, x: Any, key: Array, c: Any, n_draws: int) -> Bound:
    """Equation (7): -KL(q(z|x)‖p(z)) in closed form, plus the mean of log p(x|z) over draws."""
    q, p, _, log_likelihood = draw(model, x, key, c, n_draws)
    kl = kl_divergence(q, p)
    reconstruction = jnp.mean(log_likelihood)
    return Bound(reconstruction - kl, kl, reconstruction)


def estimator_auto(model: LatentVariableModel, x: Any, key: Array, c: Any, n_draws: int) -> Bound:
    """Estimator B where the divergence has a closed form for the pair of families, else A."""
    q, p = with_context(model.posterior, x, c=c), with_context(model.prior, c=c)
    estimator = estimator_b if has_closed_form(q, p) else estimator_a
    return estimator(model, x, key, c, n_draws)


BOUNDS: dict[str, Callable[..., Bound]] = {
    "auto": estimator_auto,
    "A": estimator_a,
    "B": estimator_b,
}


def sgvb(
    model: LatentVariableModel,
    x: Any,
    key: Array,
    *,
    c: Any = None,
    bound: str = "auto",
    n_draws: int = 1,
) -> Array:
    r"""Estimate the evidence lower bound of one datapoint by stochastic gradient VB.

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
    bound : {"auto", "A", "B"}
        ``"A"``: equation (6). ``"B"``: equation (7), with KL(q‖p) in closed form. ``"auto"``: B
        where such a form exists for the pair of families, else A.
    n_draws : int
        Number of draws of z, the paper's L.

    Returns
    -------
    Array
        Scalar, nats: an unbiased estimate of the bound, differentiable in the model.

    Raises
    ------
    ValueError
        When `bound` is unknown or `n_draws` is below 1.
    NotImplementedError
        When ``bound="B"`` and no closed form is known.

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
    estimator = choose(bound, BOUNDS, "bound")
    n_draws = integer(n_draws, "n_draws", minimum=1)
    return estimator(model, x, key, c, n_draws).elbo


class SGVB(eqx.Module):
    r"""Minibatch objective: the mean of an estimator over the rows, plus log p(θ) / N.

    .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \tilde{\mathcal{L}}(x_i) + \frac{1}{N} \log p(\theta)

    which is equation (8) divided by N. The metrics never include log p(θ).

    Parameters
    ----------
    bound : {"auto", "A", "B"}
        The estimator.
    n_draws : int
        Draws of z per datapoint, the paper's L.
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the weights, N(0, weight_prior² I); None: flat.
        Biases (arrays of one dimension or none, or of that name) have a flat prior.
    """

    bound: str = eqx.field(static=True, default="auto")
    n_draws: int = eqx.field(static=True, default=1)
    weight_prior: Any = None

    def __call__(
        self, model: LatentVariableModel, batch: Any, key: Array, state: Any
    ) -> tuple[Array, dict[str, Array], Any]:
        """Return the objective to maximise, the metrics (means over the rows), and the state."""
        estimator = BOUNDS[self.bound]

        def row(x: Any, c: Any, key: Array) -> Bound:
            return estimator(model, x, key, c, self.n_draws)

        bounds = jax.vmap(row)(batch.x, batch.c, batch.keys)
        weight = batch.weight / jnp.sum(batch.weight)
        mean = jax.tree.map(lambda b: jnp.sum(weight * b), bounds)
        surrogate = mean.elbo
        if self.weight_prior is not None:
            surrogate += log_weight_prior(model, self.weight_prior) / batch.n_total
        return surrogate, mean._asdict(), state


def log_weight_prior(model: Any, scale: Any) -> Array:
    """Evaluate log N(θ; 0, scale² I) up to a constant, over the trainable weights of `model`.

    Weights are arrays of two dimensions or more whose name is not "bias".
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(model, trainable(model)))
    weights = [leaf for path, leaf in leaves if leaf.ndim > 1 and "bias" not in str(path[-1])]
    squares = [jnp.sum((leaf / scale) ** 2) for leaf in weights]
    return -0.5 * jnp.sum(jnp.stack(squares)) if squares else jnp.zeros(())
