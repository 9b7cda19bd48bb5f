"""Hamiltonian Monte Carlo towards p(z|x), by BlackJAX.

Monte Carlo EM, appendix D and annealed importance sampling move their latents by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import constraints

from aevb.models.base import Given, LatentVariableModel, name_of
from aevb.probability.joint import AnyDistribution, Joint
from aevb.probability.measures import VOLUME, measure_of, support_of

# How fast the step size follows the acceptance: log ε rises by this times the excess over the
# target, so that it settles where the mean is on target and goes along as the weights move.
_RATE = 0.5

LogDensity = Callable[[PyTree], Float[Array, ""]]  # of latents


def start_chain(log_density: LogDensity, z: PyTree) -> PyTree:
    """Return BlackJAX's state of a Hamiltonian chain at z: ``position`` and ``logdensity``."""
    return blackjax_hmc().init(z, log_density)


def move(
    log_density: LogDensity,
    state: PyTree,
    key: Key,
    step_size: Float[Array, ""],
    n_leapfrog: int,
    inverse_mass: Float[Array, " d"] | None = None,
) -> tuple[PyTree, Float[Array, ""]]:
    """Make one transition of Hamiltonian Monte Carlo; return the state and the acceptance.

    Parameters
    ----------
    log_density : callable
        What the transition leaves as it is, up to a constant.
    state : PyTree
        Of `start_chain`.
    key : Array
        JAX random key.
    step_size : Array
        Of the leapfrog steps.
    n_leapfrog : int
        Number of leapfrog steps.
    inverse_mass : Array, optional
        Shape (d,): about the variance of each dimension; None: 1.
    """
    if inverse_mass is None:
        inverse_mass = jnp.ones(sum(leaf.size for leaf in jax.tree.leaves(state.position)))
    kernel = blackjax_hmc().build_kernel()
    state, info = kernel(key, state, log_density, step_size, inverse_mass, n_leapfrog)
    return state, info.acceptance_rate


def adapt(
    step_size: Float[Array, ""], acceptance: Float[Array, ""], target: ArrayLike
) -> Float[Array, ""]:
    """Return the step size that follows an acceptance above or below the target."""
    return step_size * jnp.exp(_RATE * (acceptance - target))


def log_joint(model: Given, x: PyTree, z: PyTree) -> Float[Array, ""]:
    """Evaluate log p(x, z)."""
    return model.prior().log_prob(z) + model.likelihood(z).log_prob(x)


def require_unbounded(
    model: LatentVariableModel | Given,
    law: AnyDistribution,
    z: PyTree,
    purpose: str,
    method: str = "prior",
) -> None:
    """Raise ValueError for latents that are not known to be free to move anywhere.

    Parameters
    ----------
    model : LatentVariableModel or Given
        Whose latents they are.
    law : Distribution or Joint
        Their law.
    z : PyTree
        A draw of it.
    purpose : str
        What asks for it.
    method : str
        The model's method that returned the law.
    """
    if isinstance(law, Joint):
        for name, part in law.factors(z).items():
            require_unbounded(model, part, z[name], purpose, method)
        return
    support = support_of(law)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is not constraints.real or measure_of(law) != VOLUME:
        raise ValueError(
            f"Expected real latents without bounds from `{name_of(model)}.{method}` for {purpose}; "
            f"got {type(law).__name__} of support {support}. Let a normal latent "
            "take its place, transformed in the likelihood: jnp.exp(z) for a positive one."
        )


def blackjax_hmc() -> Any:
    """Return BlackJAX's Hamiltonian Monte Carlo, or say how to install it."""
    try:
        from blackjax import hmc
    except ImportError as error:
        raise ImportError(
            "Hamiltonian Monte Carlo needs BlackJAX, which is not installed: "
            'pip install "aevb[mcmc]"'
        ) from error
    return hmc
