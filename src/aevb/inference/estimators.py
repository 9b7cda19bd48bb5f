"""Estimators of a bound on log p(x) for one datapoint, and of its gradient: one function each.

Every estimator has the signature ``(model, x, key, n_draws) -> Estimate`` and sees one
datapoint, as the paper's equations do; `model` is the view of a model under the datapoint's
context (`aevb.models.given`). Its value is the bound that its name says; its derivative,
by `jax.grad`, is the gradient estimator that its name says. The two differ where a gradient is not
the plain derivative of the value (sticking the landing, DReG, score function, VIMCO).

Gradients are stopped on the distribution that ``posterior(x)`` returned, never on the module, so
that parameters which encoder and decoder share keep their gradient through the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution

from aevb.models.base import Given, name_of
from aevb.models.checks import family_of, require_likelihood, require_ratio
from aevb.probability.divergences import has_closed_form, kl_divergence
from aevb.probability.joint import AnyDistribution, Joint


class Estimate(NamedTuple):
    """An estimate for one datapoint, in nats.

    Attributes
    ----------
    value : Array
        The bound, with the derivative that the estimator stands for.
    metrics : dict
        ``elbo``, an unbiased estimate of equation (2); its two terms ``kl`` and
        ``reconstruction``, where ``elbo = reconstruction - kl``; and ``iw_bound`` of the estimators
        that have one.
    """

    value: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]


PerDraw = Float[Array, " S"]


class Draws(NamedTuple):
    """What every estimator starts from: q(z|x), p(z), and log p(x|z) at S draws of z.

    `log_share` (S,) is the logarithm of each draw's share in the average, None if all are equal;
    `log_q` (S,) is log q(z|x) where drawing gave it along the way, else None.
    """

    posterior: AnyDistribution
    prior: AnyDistribution
    z: PyTree
    log_likelihood: PerDraw
    log_share: PerDraw | None
    log_q: PerDraw | None

    def average(self, values: PerDraw) -> Float[Array, ""]:
        """Average over the draws."""
        if self.log_share is None:
            return jnp.mean(values)
        return jnp.sum(jnp.exp(self.log_share) * values)

    def log_mean_exp(self, values: PerDraw) -> Float[Array, ""]:
        """Evaluate log of the average of exp(values)."""
        if self.log_share is None:
            return jax.nn.logsumexp(values) - math.log(len(values))
        return jax.nn.logsumexp(values + self.log_share)

    def log_prior(self) -> PerDraw:
        """Evaluate log p(z) of each draw."""
        return over_draws(self.prior.log_prob, self.z)

    def log_posterior(self) -> PerDraw:
        """Evaluate log q(z|x) of each draw."""
        return over_draws(self.posterior.log_prob, self.z) if self.log_q is None else self.log_q

    def kl(self) -> Float[Array, ""]:
        """Estimate KL(q(z|x)‖p(z))."""
        return self.average(self.log_posterior() - self.log_prior())

    def exact_kl(self) -> Float[Array, ""]:
        """Evaluate KL(q(z|x)‖p(z)) in closed form."""
        return kl_divergence(self.posterior, self.prior)


def draw(
    model: Given,
    x: PyTree,
    key: Key,
    n_draws: int,
    *,
    pathwise: bool = True,
    at: Callable[[PyTree], PyTree] | None = None,
) -> Draws:
    """Draw z ~ q(z|x) `n_draws` times and evaluate log p(x|z) at each.

    A mixture has no reparameterised draw of its own. It is drawn from in strata, `n_draws` from
    each component, and each draw counts with its component's weight: E_q f = Σ_k π_k E_k f exactly.

    Parameters
    ----------
    model, x, key, n_draws
        As for every estimator.
    pathwise : bool
        Whether gradients go through z, which then must be reparameterised.
    at : callable, optional
        Applied to the draws before anything is evaluated at them. Without a path through z, log q
        is then evaluated at what it returns, not taken from the drawing.
    """
    posterior = model.posterior(x)
    prior = model.prior()
    require_ratio(model, posterior, prior)
    log_share, log_q = None, None
    if pathwise and isinstance(posterior, dist.MixtureSameFamily):
        components = posterior.component_distribution
        require_reparameterised(model, components)
        z = components.sample(key, (n_draws,))
        z = jnp.reshape(z, (-1, *posterior.event_shape))
        log_weight = jax.nn.log_softmax(posterior.mixing_distribution.logits)
        log_share = jnp.tile(log_weight - math.log(n_draws), n_draws)
    else:
        if pathwise:
            require_reparameterised(model, posterior)
        if (pathwise or at is None) and hasattr(posterior, "sample_and_log_prob"):
            z, log_q = posterior.sample_and_log_prob(key, (n_draws,))
        else:
            z = posterior.sample(key, (n_draws,))
    z = z if at is None else at(z)
    log_likelihood = over_draws(partial(_log_likelihood, model, x), z)
    batch_shapes = (getattr(d, "batch_shape", ()) for d in (posterior, prior))
    _check_single(model, *batch_shapes, log_likelihood.shape[1:])
    return Draws(posterior, prior, z, log_likelihood, log_share, log_q)


def _log_likelihood(model: Given, x: PyTree, z: PyTree) -> Array:
    likelihood = model.likelihood(z)
    require_likelihood(model, likelihood)
    return likelihood.log_prob(x)


def over_draws(function: Callable[[PyTree], Array], z: PyTree) -> Array:
    """Map a function over the leading axis of the draws."""
    if jax.tree.leaves(z)[0].shape[0] > 1:
        return jax.vmap(function)(z)
    # An axis of length 1 would have every matrix of the decoder transposed: a tenth of a step.
    return function(jax.tree.map(lambda leaf: leaf[0], z))[None]


def require_reparameterised(model: Given, posterior: AnyDistribution) -> None:
    """Raise ValueError for a posterior whose draws carry no gradient."""
    if not posterior.has_rsample:
        raise ValueError(
            f"Expected a reparameterised distribution from `{name_of(model)}.posterior`; "
            f"got {family_of(posterior)}, whose draws carry no gradient. The estimators "
            "'score' and 'vimco' need none (`estimator='score'`, `n_draws` of 2 or more)."
        )


def _check_single(model: Given, *batch_shapes: tuple[int, ...]) -> None:
    # A bound that is not a scalar would be broadcast against the rows' weights, and be wrong.
    for method, shape in zip(("posterior", "prior", "likelihood"), batch_shapes, strict=True):
        if shape:
            raise ValueError(
                f"Expected one joint distribution of the whole datapoint from "
                f"`{name_of(model)}.{method}`; got independent ones of batch shape {shape}. "
                f"Join them with `.to_event({len(shape)})`."
            )


def _require_fixed_support(model: Given, draws: Draws, estimator: str) -> None:
    # Where the ends of q move with its parameters, its score does not average to zero.
    z = jax.tree.map(lambda leaf: leaf[0], draws.z)
    for q in _factors(draws.posterior, z):
        if any(map(eqx.is_inexact_array, jax.tree.leaves(getattr(q, "support", None)))):
            raise ValueError(
                f"Expected a posterior of `{name_of(model)}` whose support does not depend on its "
                f"parameters for estimator {estimator!r}, whose gradient would be biased; got "
                f"{family_of(q)}. Use 'A' or 'iw', or write ends that are constants as numbers."
            )


def _factors(q: AnyDistribution, z: PyTree) -> Iterator[Distribution]:
    if not isinstance(q, Joint):
        yield q
        return
    for name, part in q.factors(z).items():
        yield from _factors(part, z[name])


def _log_prob_through_z(q: AnyDistribution, z: PyTree) -> Float[Array, ""]:
    """Evaluate log q(z) with its gradient in z alone: what q is made of passes none on."""
    # What log q closes over becomes leaves of the function, and these can be stopped, of whatever
    # kind q is: no distribution need be a PyTree, or know all arrays that its functions use.
    return _stopped(eqx.filter_closure_convert(q.log_prob, z))(z)


def _metrics(
    draws: Draws, kl: Float[Array, ""], **more: Float[Array, ""]
) -> dict[str, Float[Array, ""]]:
    reconstruction = draws.average(draws.log_likelihood)
    return {"elbo": reconstruction - kl, "kl": kl, "reconstruction": reconstruction, **more}


def _elbo(draws: Draws, kl: Float[Array, ""]) -> Estimate:
    metrics = _metrics(draws, kl)
    return Estimate(metrics["elbo"], metrics)


def estimator_a(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    """Equation (6): the mean over draws of log p(x, z) - log q(z|x)."""
    draws = draw(model, x, key, n_draws)
    return _elbo(draws, draws.kl())


def estimator_b(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    """Equation (7): -KL(q(z|x)‖p(z)) in closed form, plus the mean of log p(x|z) over draws."""
    draws = draw(model, x, key, n_draws)
    return _elbo(draws, draws.exact_kl())


def estimator_auto(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    """Estimator B where the divergence has a closed form for the pair of families, else A."""
    draws = draw(model, x, key, n_draws)
    exact = has_closed_form(draws.posterior, draws.prior)
    return _elbo(draws, draws.exact_kl() if exact else draws.kl())


def sticking_the_landing(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    """Estimator A without the score of q: log q(z|x) passes its gradient on through z alone.

    The score has expectation zero, so the gradient stays unbiased; at the exact posterior it is
    zero in φ for every draw. Roeder, Wu and Duvenaud (2017), https://arxiv.org/abs/1703.09194
    """
    draws = draw(model, x, key, n_draws)
    _require_fixed_support(model, draws, "stl")
    log_q = over_draws(partial(_log_prob_through_z, draws.posterior), draws.z)
    return _elbo(draws, draws.average(log_q - draws.log_prior()))


def importance_weighted(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    """Log of the mean over k draws of p(x, z) / q(z|x): at least the ELBO, at most log p(x).

    With k = 1 it is estimator A. Burda, Grosse and Salakhutdinov (2015),
    https://arxiv.org/abs/1509.00519
    """
    draws = draw(model, x, key, n_draws)
    log_ratio = draws.log_posterior() - draws.log_prior()
    bound = draws.log_mean_exp(draws.log_likelihood - log_ratio)
    return Estimate(bound, _metrics(draws, draws.average(log_ratio), iw_bound=bound))


def doubly_reparameterised(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    r"""Importance-weighted bound with the doubly reparameterised gradient (DReG) in φ.

    .. math:: \nabla_\phi L_k = E \sum_i \tilde w_i^2
        \frac{\partial \log w_i}{\partial z_i} \frac{\partial z_i}{\partial \phi}

    whose signal does not vanish as k grows. Tucker et al. (2019), https://arxiv.org/abs/1810.04152
    """
    carried: list[Array] = []

    def carry(z: PyTree) -> PyTree:
        z, share, one = _scale_cotangents(z)
        carried.extend((share, one))
        return z

    draws = draw(model, x, key, n_draws, at=carry)
    if draws.log_share is not None:
        raise ValueError(
            f"Expected a posterior of `{name_of(model)}` that is not a mixture for estimator "
            "'dreg', which does not take draws in strata. Use 'iw' or 'stl'."
        )
    _require_fixed_support(model, draws, "dreg")
    log_q = over_draws(partial(_log_prob_through_z, draws.posterior), draws.z)
    log_ratio = log_q - draws.log_prior()
    log_w = draws.log_likelihood - log_ratio
    bound = draws.log_mean_exp(log_w)
    share, one = carried
    share = jnp.sum(share * lax.stop_gradient(jax.nn.softmax(log_w)))  # both are zero
    return Estimate(bound + share + one, _metrics(draws, jnp.mean(log_ratio), iw_bound=bound))


@jax.custom_vjp
def _scale_cotangents(z: PyTree) -> tuple[PyTree, PerDraw, Float[Array, ""]]:
    """Return z, S zeros and a zero; on the way back z's cotangents are scaled.

    What comes back for the zeros, relative to what comes back for the one zero, is the factor. So
    the factors may be computed from z, in the same pass.
    """
    leaf = jax.tree.leaves(z)[0]
    # Made of z, for each row of a `vmap` to have zeros, and so a factor, of its own.
    zeros = jnp.sum(jnp.where(leaf == leaf, 0, 0), axis=range(1, leaf.ndim), dtype=leaf.dtype)
    return z, zeros, jnp.sum(zeros)


def _scale_forward(z: PyTree) -> tuple[PyTree, None]:
    return _scale_cotangents(z), None


def _scale_backward(_: None, cotangents: tuple) -> tuple:
    z, share, one = cotangents
    factor = share / jnp.where(one == 0, 1, one)  # 0 for rows that do not count

    def scale(g: Array) -> Array:
        return g * jnp.reshape(factor.astype(g.dtype), (-1,) + (1,) * (g.ndim - 1))

    return (jax.tree.map(scale, z),)


_scale_cotangents.defvjp(_scale_forward, _scale_backward)


def score_function(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    r"""Estimate the ELBO and its gradient without a path through z: any q, also a discrete one.

    .. math:: \frac1L \sum_l (f_l - \bar f_{-l}) \nabla_\phi \log q(z_l|x)
        + \nabla_\theta \log p(x, z_l), \quad f_l = \log p(x, z_l) - \log q(z_l|x)

    with the mean of the other draws as control variate, hence L ≥ 2. Mnih and Rezende (2016),
    https://arxiv.org/abs/1602.06725; Kool, van Hoof and Welling (2019).
    """
    _require_two(n_draws, "score")
    draws = draw(model, x, key, n_draws, pathwise=False, at=_stopped)
    _require_fixed_support(model, draws, "score")
    log_q, log_p = draws.log_posterior(), draws.log_likelihood + draws.log_prior()
    f = lax.stop_gradient(log_p - log_q)
    advantage = (f - jnp.mean(f)) * n_draws / (n_draws - 1)
    surrogate = jnp.mean(advantage * log_q + log_p)
    return _with_gradient_of(surrogate, jnp.mean(f), draws, log_q)


def vimco(model: Given, x: PyTree, key: Key, n_draws: int) -> Estimate:
    r"""Estimate the importance-weighted bound and its gradient without a path through z.

    .. math:: \sum_i (\hat L - \hat L_{-i}) \nabla \log q(z_i|x) + \sum_i \tilde w_i \nabla \log w_i

    where :math:`\hat L_{-i}` has :math:`w_i` replaced by the geometric mean of the others, hence
    k ≥ 2. Mnih and Rezende (2016), https://arxiv.org/abs/1602.06725
    """
    _require_two(n_draws, "vimco")
    draws = draw(model, x, key, n_draws, pathwise=False, at=_stopped)
    _require_fixed_support(model, draws, "vimco")
    log_q = draws.log_posterior()
    log_w = draws.log_likelihood + draws.log_prior() - log_q
    bound = draws.log_mean_exp(log_w)
    others = (jnp.sum(log_w) - log_w) / (n_draws - 1)
    replaced = jnp.where(jnp.eye(n_draws, dtype=bool), others[:, None], log_w[None, :])
    without = jax.nn.logsumexp(replaced, axis=1) - math.log(n_draws)
    surrogate = jnp.sum(lax.stop_gradient(bound - without) * log_q) + bound
    return _with_gradient_of(surrogate, bound, draws, log_q, iw_bound=bound)


def _stopped(tree: PyTree) -> PyTree:
    """Stop the gradient of every array in a PyTree."""
    return jax.tree.map(lambda leaf: lax.stop_gradient(leaf) if eqx.is_array(leaf) else leaf, tree)


def _with_gradient_of(
    surrogate: Float[Array, ""],
    value: Float[Array, ""],
    draws: Draws,
    log_q: PerDraw,
    **more: Float[Array, ""],
) -> Estimate:
    value = lax.stop_gradient(value) + surrogate - lax.stop_gradient(surrogate)
    return Estimate(value, _metrics(draws, jnp.mean(log_q - draws.log_prior()), **more))


def _require_two(n_draws: int, estimator: str) -> None:
    if n_draws < 2:
        raise ValueError(
            f"Expected `n_draws` of at least 2 for estimator {estimator!r}, whose draws are each "
            f"other's control variates; got {n_draws}."
        )


Estimator = Callable[[Given, PyTree, Key, int], Estimate]

ESTIMATORS: dict[str, Estimator] = {
    "auto": estimator_auto,
    "A": estimator_a,
    "B": estimator_b,
    "stl": sticking_the_landing,
    "iw": importance_weighted,
    "dreg": doubly_reparameterised,
    "score": score_function,
    "vimco": vimco,
}
