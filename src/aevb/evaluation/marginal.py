"""How likely a datapoint is: the evidence lower bound, and the evidence by importance sampling."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import integer
from aevb.inference.estimators import Draws, draw
from aevb.models.base import Given, LatentVariableModel, given
from aevb.models.kinds.case import Case
from aevb.probability.blocks import Blocks, log_prob_of_entries
from aevb.probability.divergences import has_closed_form, kl_divergence


def elbo(
    model: LatentVariableModel, x: PyTree, key: Key, *, c: PyTree = None, n_draws: int = 32
) -> Float[Array, ""]:
    """Estimate the evidence lower bound of one datapoint, nats.

    Unbiased for the bound, which is at most log p(x).

    Parameters
    ----------
    model : LatentVariableModel
        A model.
    x : PyTree
        One datapoint.
    key : Array
        JAX random key.
    c : PyTree, optional
        Context.
    n_draws : int
        Draws of z to average over.

    Returns
    -------
    Array
        Scalar, nats.

    Raises
    ------
    ValueError, TypeError
        When `n_draws` is not a positive integer.

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp
    >>> vae = aevb.VAE(latent_dim=2, epochs=1, random_state=0).fit(jnp.eye(8))
    >>> aevb.elbo(vae.model_, jnp.eye(8)[0], jax.random.key(0)).shape
    ()
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    draws = draw(given(model, c), x, key, n_draws, pathwise=False)
    return jnp.mean(draws.log_likelihood) - _kl(draws)


class Terms(NamedTuple):
    """The terms of the bound of one datapoint, nats.

    Attributes
    ----------
    reconstruction : Array
        E_q[log p(x|z)].
    kl : Array
        KL(q(z|x)‖p(z)); the bound is `reconstruction` minus it.
    entries : PyTree of Array, or None
        E_q[log p(x_j|z)] of each entry of x, which sum to `reconstruction`; 0 where an entry is
        missing. None where entries are not known to be independent given z.
    """

    reconstruction: Float[Array, ""]
    kl: Float[Array, ""]
    entries: PyTree


def elbo_terms(view: Given, x: PyTree, key: Key, n_draws: int) -> Terms:
    r"""Estimate the terms of the evidence lower bound of one datapoint, with the draws of `elbo`.

    .. math:: \mathcal{L}(x) = \sum_j E_q[\log p(x_j|z)] - \mathrm{KL}(q(z|x) \| p(z))

    Parameters
    ----------
    view : Given
        The model under the datapoint's context.
    x : PyTree
        One datapoint.
    key : Array
        JAX random key.
    n_draws : int
        Draws of z to average over.

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp
    >>> model = aevb.VAE(latent_dim=2, epochs=1, random_state=0).fit(jnp.eye(8)).model_
    >>> elbo_terms(aevb.given(model, None), jnp.eye(8)[0], jax.random.key(0), 32).entries.shape
    (8,)
    """
    draws = draw(view, x, key, n_draws, pathwise=False)
    try:
        each = jax.vmap(lambda z: _of_entries(view, x, z))(draws.z)
        entries = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)
    except TypeError:
        entries = None
    return Terms(jnp.mean(draws.log_likelihood), _kl(draws), entries)


def _kl(draws: Draws) -> Float[Array, ""]:
    q, p = draws.posterior, draws.prior
    if has_closed_form(q, p):
        return kl_divergence(q, p)
    return jnp.mean(draws.log_posterior() - draws.log_prior())


def _of_entries(view: Given, x: PyTree, z: PyTree) -> PyTree:
    """Return log p(x_j|z) of each entry, in the shape of x; 0 where it is missing."""
    law = view.likelihood(z)
    if not (isinstance(x, Case) and isinstance(law, Blocks)):
        return jnp.reshape(log_prob_of_entries(law, x), jnp.shape(x))
    found = {}
    for name, part in law.parts.items():
        each = jnp.reshape(log_prob_of_entries(part, x.blocks[name]), jnp.shape(x.blocks[name]))
        found[name] = each if x.observed is None else jnp.where(x.observed[name], each, 0.0)
    return found


def log_likelihood(
    model: LatentVariableModel,
    x: PyTree,
    key: Key,
    *,
    c: PyTree = None,
    n_draws: int = 1000,
    chunk: int = 50,
) -> Float[Array, ""]:
    r"""Estimate log p(x) of one datapoint by importance sampling from q(z|x), nats.

    .. math:: \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k|x)}, \qquad z_k \sim q(z|x)

    Its expectation lies between the evidence lower bound and log p(x), and rises with K: to
    log p(x), if q(z|x) is positive wherever p(x, z) is. Where q's support is smaller (a uniform q
    under a normal prior, say), it rises to the log of what p(x, z) integrates to on that support,
    which stays below log p(x) for every K. Under a likelihood on gray levels it is not
    a log-likelihood of the data (see `GrayBernoulli`).

    Parameters
    ----------
    model : LatentVariableModel
        A model.
    x : PyTree
        One datapoint.
    key : Array
        JAX random key.
    c : PyTree, optional
        Context.
    n_draws : int
        The number K of draws.
    chunk : int
        Draws evaluated at a time.

    Returns
    -------
    Array
        Scalar, nats.

    Raises
    ------
    ValueError, TypeError
        When `n_draws` or `chunk` is not a positive integer.

    References
    ----------
    Burda, Grosse and Salakhutdinov (2015), https://arxiv.org/abs/1509.00519

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp
    >>> vae = aevb.VAE(latent_dim=2, epochs=1, random_state=0).fit(jnp.eye(8))
    >>> aevb.log_likelihood(vae.model_, jnp.eye(8)[0], jax.random.key(0), n_draws=100).shape
    ()
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    chunk = min(integer(chunk, "chunk", minimum=1), n_draws)

    view = given(model, c)

    def accumulate(total: Array, i: Array) -> tuple[Array, None]:
        log_w = log_weights(view, x, key, i, chunk, n_draws)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_w)), None

    nothing = jnp.array(-jnp.inf, dtype=float)  # of JAX's widest enabled type, as the sum will be
    total, _ = lax.scan(accumulate, nothing, jnp.arange(math.ceil(n_draws / chunk)))
    return total - math.log(n_draws)


def log_weights(
    view: Given, x: PyTree, key: Key, i: Int[Array, ""], chunk: int, n_draws: int
) -> Float[Array, " chunk"]:
    """Draw the i-th chunk of importance weights, log p(x, z) / q(z|x); -inf beyond the last."""
    draws = draw(view, x, jax.random.fold_in(key, i), chunk, pathwise=False)
    log_w = draws.log_likelihood + draws.log_prior() - draws.log_posterior()
    return jnp.where(i * chunk + jnp.arange(chunk) < n_draws, log_w, -jnp.inf)
