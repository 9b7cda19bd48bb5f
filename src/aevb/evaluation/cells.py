"""What the entries of a datapoint say of one another: missing ones filled, odd ones found."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.evaluation.latent import location
from aevb.models.base import Given
from aevb.models.kinds.case import Case
from aevb.probability.averages import decision, evidence, expected
from aevb.probability.blocks import Blocks, log_prob_of_entries, log_prob_of_some
from aevb.probability.joint import AnyDistribution

_ROUNDS = 3  # in which a datapoint of which some is missing is filled, for an encoder of all


def fill(
    view: Given,
    x: PyTree,
    observed: PyTree,
    key: Key,
    n_draws: int,
    n_imputations: int | None = None,
    *,
    wide: bool = False,
) -> PyTree:
    r"""Return what is to be expected of one datapoint, given what is observed of it.

    Draws of z are weighed by :math:`p(x_o | z) p(z) / r(z)`. An encoder that reads which entries
    are there proposes them, r = q(z|x_o). One that reads complete datapoints is handed x with
    what has been expected so far in the place of what is missing, three times, beginning with draws
    of p(z); r is then the mean of that q and p. In both cases the weights make the result right
    as the draws become many.

    Parameters
    ----------
    view : Given
        The model under the datapoint's context.
    x : PyTree
        The datapoint, with any values in the place of what is missing.
    observed : PyTree of bool, or None
        Which entries are there; None: x says it.
    key : Array
        JAX random key.
    n_draws : int
        Draws of z.
    n_imputations : int, optional
        Draw so many datapoints; None: the expectation.
    wide : bool
        Whether half of the draws are of p(z), also of an encoder that reads what is there.
    """
    key_z, key_k, key_x = jax.random.split(key, 3)
    if observed is None:
        observed = x.observed
        draws, weights = _weighed(view, x, observed, x, key_z, n_draws, wide=wide)
    else:
        known = observed

        def again(j: Array, found: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            filled = _with(x, known, _decided(view, *found))
            key_round = jax.random.fold_in(key_z, j)
            return _weighed(view, x, known, filled, key_round, n_draws, wide=True)

        first = _prior_draws(view, x, known, key_z, n_draws)
        draws, weights = jax.lax.fori_loop(0, _ROUNDS, again, first)
    if n_imputations is None:
        return _decided(view, draws, weights)
    shares = jax.random.uniform(key_k, (n_imputations,))
    chosen = jnp.searchsorted(jnp.cumsum(weights), shares).clip(0, len(weights) - 1)
    latents = jax.tree.map(lambda leaf: leaf[chosen], draws)
    keys = jax.random.split(key_x, n_imputations)
    return jax.vmap(lambda z, key: view.likelihood(z).sample(key))(latents, keys)


def _prior_draws(
    view: Given, x: PyTree, observed: PyTree, key: Key, n_draws: int
) -> tuple[PyTree, Float[Array, " n"]]:
    draws = jax.vmap(view.prior().sample)(jax.random.split(key, n_draws))
    fits = jax.vmap(lambda z: log_prob_of_some(view.likelihood(z), x, observed))(draws)
    return draws, jax.nn.softmax(fits)


def _weighed(
    view: Given,
    x: PyTree,
    observed: PyTree,
    read: PyTree,
    key: Key,
    n_draws: int,
    *,
    wide: bool,
) -> tuple[PyTree, Float[Array, " n"]]:
    """Return draws of q(z|read), if `wide` half of them of p(z) instead, and their weights."""
    q, p = view.posterior(read), view.prior()
    n_wide = n_draws // 2 if wide else 0
    keys = jax.random.split(key, n_draws)
    draws = jax.vmap(q.sample)(keys[n_wide:])
    if n_wide:
        others = jax.vmap(p.sample)(keys[:n_wide])
        draws = jax.tree.map(lambda *both: jnp.concatenate(both), others, draws)
    share = n_wide / n_draws

    def log_weight(z: PyTree) -> Float[Array, ""]:
        log_p, log_q = p.log_prob(z), q.log_prob(z)
        proposed = log_q
        if n_wide:
            proposed = jnp.logaddexp(log_q + math.log1p(-share), log_p + math.log(share))
        return log_prob_of_some(view.likelihood(z), x, observed) + log_p - proposed

    return draws, jax.nn.softmax(jax.vmap(log_weight)(draws))


def _decided(view: Given, draws: PyTree, weights: Float[Array, " n"]) -> PyTree:
    each = jax.vmap(lambda z: evidence(view.likelihood(z)))(draws)
    average = jax.tree.map(lambda leaf: jnp.tensordot(weights, leaf, axes=1), each)
    return decision(view.likelihood(jax.tree.map(lambda leaf: leaf[0], draws)), average)


def _with(x: PyTree, observed: PyTree, other: PyTree) -> PyTree:
    """Return x with other values where it is not observed."""

    def one(here: Array, mine: Array, its: Array) -> Array:
        its = jnp.reshape(its, jnp.shape(mine))
        whole = jnp.issubdtype(mine.dtype, jnp.integer)
        return jnp.where(here, mine, (jnp.round(its) if whole else its).astype(mine.dtype))

    if isinstance(x, Case):
        return x._replace(blocks=jax.tree.map(one, observed, x.blocks, other.blocks))
    return one(observed, x, other)


def surprise(view: Given, x: PyTree, key: Key, n_draws: int) -> PyTree:
    r"""Return how surprising each entry of one datapoint is, given the others, nats.

    .. math:: -\log p(x_j | x_{-j}) = \log \sum_k \frac{w_k}{p(x_j | z_k)} - \log \sum_k w_k,
              \quad w_k = \frac{p(x | z_k) p(z_k)}{r(z_k)}

    The draws of z come in equal numbers from the posteriors without one entry each, and r is their
    mixture; so an odd entry does not keep them from where the others are. An encoder that reads
    complete datapoints is handed the entry's reconstruction in its place.

    Parameters
    ----------
    view : Given
        The model under the datapoint's context.
    x : PyTree
        The datapoint.
    key : Array
        JAX random key.
    n_draws : int
        Draws of z, at least; as many for each entry.

    Returns
    -------
    PyTree of Array
        Of the shapes of the entries; 0 where one is missing.
    """
    entries = x.blocks if isinstance(x, Case) else x
    leaves, structure = jax.tree.flatten(entries)
    size = sum(leaf.size for leaf in leaves)
    says = isinstance(x, Case) and x.observed is not None  # what is missing
    observed = (
        x.observed if says else jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), entries)
    )

    def split(flat: Array) -> PyTree:
        parts, at = [], 0
        for leaf in leaves:
            parts.append(flat[at : at + leaf.size].reshape(leaf.shape))
            at += leaf.size
        return jax.tree.unflatten(structure, parts)

    def of_entries(law: AnyDistribution) -> Float[Array, " size"]:
        laws: Any = law.parts if isinstance(law, Blocks) else law
        pairs = (
            [(laws[name], entries[name]) for name in entries] if isinstance(x, Case) else [(law, x)]
        )
        each = [log_prob_of_entries(part, value) for part, value in pairs]
        return jnp.where(there, jnp.concatenate(each), 0.0)

    there = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(observed)])
    usual = expected(view.likelihood(location(view.posterior(x))))

    def without(j: Array) -> AnyDistribution:
        kept: Bool[Array, " size"] = jnp.arange(size) != j
        if says:
            return view.posterior(x._replace(observed=split(there & kept)))
        return view.posterior(_with(x, split(kept), usual))

    posteriors = jax.vmap(without)(jnp.arange(size))
    n_each = -(-n_draws // size)
    keys = jax.random.split(key, (size, n_each))
    draws = jax.vmap(lambda q, keys: jax.vmap(q.sample)(keys))(posteriors, keys)
    draws = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    p = view.prior()

    def weigh(z: PyTree) -> tuple[Float[Array, ""], Float[Array, " size"]]:
        fits = of_entries(view.likelihood(z))
        proposed = jax.nn.logsumexp(jax.vmap(lambda q: q.log_prob(z))(posteriors))
        return jnp.sum(fits) + p.log_prob(z) - proposed, fits

    log_weight, fits = jax.lax.map(weigh, draws, batch_size=64)
    others = jax.nn.logsumexp(log_weight[:, None] - fits, axis=0)
    return split(jnp.where(there, others - jax.nn.logsumexp(log_weight), 0.0))
