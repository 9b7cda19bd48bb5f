"""Monte Carlo EM, the other of the two algorithms that the paper compares itself with."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import integer, number
from aevb.inference.hmc import (
    adapt,
    blackjax_hmc,
    log_joint,
    move,
    require_unbounded,
    start_chain,
)
from aevb.inference.objective import Batch, Metrics, Objective
from aevb.inference.sgvb import check_setting, log_weight_prior
from aevb.models.base import LatentVariableModel, given


class Chains(NamedTuple):
    """State of `MonteCarloEM`.

    Attributes
    ----------
    z : PyTree
        Position of each training row's chain: leading axis as the buffer of the data, whose rows
        after the last one are not used.
    step_size : Array
        Of the leapfrog steps, for all chains.
    acceptance : Array
        Mean probability of acceptance in the last batch.
    """

    z: PyTree
    step_size: Float[Array, ""]
    acceptance: Float[Array, ""]


class MonteCarloEM(Objective):
    r"""Minibatch objective of Monte Carlo expectation-maximisation, without a recognition model.

    *E step:* one transition of Hamiltonian Monte Carlo towards
    :math:`p_\theta(z|x) \propto p_\theta(z) p_\theta(x|z)` for each row of the batch. Every
    training row has a chain of its own, which starts from the prior and goes on from epoch to
    epoch. *M step:* `n_updates` steps of the optimizer on log p(x, z) at the latents drawn:

    .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \log p_\theta(x_i, z_i)

    Latents are arrays of real numbers without bounds. The chains end up in the
    ``state.objective_state`` that `train` returns. The metrics are the mean ``log_joint``,
    log p(x, z) before the updates; ``acceptance`` and ``step_size``. None of them
    is a bound, so there is no validation and no early stopping. Needs BlackJAX, from the extra
    ``aevb[mcmc]``.

    Parameters
    ----------
    n_leapfrog : int
        Leapfrog steps per transition.
    target_acceptance : float
        Towards which the step size is adapted, by a factor after every batch.
    n_updates : int
        Updates of the weights per batch.
    step_size : float
        The first step size.
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the weights (not the biases), as in `SGVB`;
        None: flat. A recognition model's weights, which nothing else moves, are pulled as well.

    References
    ----------
    Kingma and Welling (2013), appendix E, https://arxiv.org/abs/1312.6114

    Examples
    --------
    The scale of z, given data of variance 5 and noise of variance 1:

    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Scale(aevb.LatentVariableModel):
    ...     weight: jax.Array
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(self.weight * z, 1.0)
    ...     def posterior(self, x):  # has to be there; is not used
    ...         return dist.Normal()
    >>> x = jax.random.normal(jax.random.key(0), (1000,)) * 5**0.5
    >>> result = aevb.train(Scale(jnp.array(1.0)), x, objective=aevb.MonteCarloEM(), epochs=100)
    >>> bool(abs(result.model.weight - 2.0) < 0.1)
    True
    """

    n_leapfrog: int = eqx.field(static=True, default=10)
    target_acceptance: float = 0.9
    n_updates: int = eqx.field(static=True, default=5)
    step_size: float = 0.1
    weight_prior: float | None = None

    def __check_init__(self) -> None:
        integer(self.n_leapfrog, "n_leapfrog", minimum=1)
        integer(self.n_updates, "n_updates", minimum=1)
        expected = "a number between 0 and 1"
        number(self.target_acceptance, "target_acceptance", expected, lambda rate: 0 < rate < 1)
        expected = "a positive number"
        number(self.step_size, "step_size", expected, lambda size: 0 < size < float("inf"))
        check_setting("weight_prior", self.weight_prior)

    def init(self, model: LatentVariableModel, chunk: PyTree, key: Key) -> Chains:
        """Return chains that start from the prior, one for each row of the data's buffer."""
        blackjax_hmc()  # say now that it is missing
        keys = jax.random.split(key, len(jax.tree.leaves(chunk.x)[0]))

        def row(c: PyTree, key: Key) -> PyTree:
            prior = given(model, c).prior()
            z = prior.sample(key)
            require_unbounded(model, prior, z, "MonteCarloEM")
            return z

        return Chains(jax.vmap(row)(chunk.c, keys), jnp.array(self.step_size), jnp.zeros(()))

    def expect(self, model: LatentVariableModel, batch: Batch, key: Key, state: Chains) -> Chains:
        """Move the chains of the batch's rows, and adapt the step size."""

        def row(z: PyTree, x: PyTree, c: PyTree, key: Key) -> tuple[PyTree, Float[Array, ""]]:
            def log_density(z: PyTree) -> Float[Array, ""]:
                return log_joint(given(model, c), x, z)

            start = start_chain(log_density, z)
            end, acceptance = move(log_density, start, key, state.step_size, self.n_leapfrog)
            return end.position, acceptance

        keys = jax.random.split(key, len(batch.rows))
        z, accepted = jax.vmap(row)(_at(state.z, batch.rows), batch.x, batch.c, keys)
        acceptance = jnp.sum(batch.share * accepted)
        step_size = adapt(state.step_size, acceptance, self.target_acceptance)

        def moved(chains: Array, z: Array) -> Array:
            # Padding points to rows that others may own: send it out of bounds, where it is lost.
            rows = jnp.where(batch.weight > 0, batch.rows, len(chains))
            return chains.at[rows].set(z.astype(chains.dtype), mode="drop")

        return Chains(
            jax.tree.map(moved, state.z, z),
            step_size.astype(state.step_size.dtype),
            acceptance.astype(state.acceptance.dtype),
        )

    def __call__(
        self, model: LatentVariableModel, batch: Batch, key: Key, state: Chains
    ) -> tuple[Float[Array, ""], Metrics, Chains]:
        """Return the objective to maximise, the metrics (means over the rows), and the state."""

        def row(x: PyTree, z: PyTree, c: PyTree) -> Float[Array, ""]:
            return log_joint(given(model, c), x, z)

        rows = jax.vmap(row)(batch.x, _at(state.z, batch.rows), batch.c)
        mean = jnp.sum(batch.share * rows)
        surrogate = mean
        if self.weight_prior is not None:
            surrogate += log_weight_prior(model, self.weight_prior) / batch.n_total
        metrics = {
            "log_joint": mean,
            "acceptance": state.acceptance,
            "step_size": state.step_size,
        }
        return surrogate, metrics, state


def _at(chains: PyTree, rows: Int[Array, " B"]) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[rows], chains)
