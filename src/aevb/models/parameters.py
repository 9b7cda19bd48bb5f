"""Posteriors over a model's parameters: members of the families in `posteriors` that see nothing.

Each has a mean and log-scales of its own, and begins as independent normals.
"""

from __future__ import annotations

from typing import Any, final

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from equinox import field
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import choose
from aevb.models.conditional import Conditional
from aevb.models.flows import Bijection, FlowDistribution, affine
from aevb.models.posteriors import POSTERIORS, Flow, FullNormal, LowRankNormal, Normal
from aevb.probability.special import scale_of

FAMILIES = (Normal, FullNormal, LowRankNormal, Flow)
NAMES = ("normal", "full-normal", "low-rank-normal", "iaf", "coupling")  # of POSTERIORS

Family = Normal | FullNormal | LowRankNormal | Flow


@final
class GaussianMember(Conditional):
    """A member of a Gaussian family; `others` are its parameters beside mean and scales."""

    mean: Float[jax.Array, " d"]
    log_scale: Float[jax.Array, " d"]
    others: Float[jax.Array, " n_others"]
    family: Normal | FullNormal | LowRankNormal = field(static=True)

    def __call__(self, *given: PyTree) -> dist.Distribution:
        """Return the distribution."""
        reals = jnp.concatenate([self.mean, 2 * self.log_scale, self.others])
        return self.family.member(reals, len(self.mean))


@final
class FlowMember(Conditional):
    """Standard normals, bent by a flow, then scaled and moved."""

    mean: Float[jax.Array, " d"]
    log_scale: Float[jax.Array, " d"]
    bijection: Bijection

    def __call__(self, *given: PyTree) -> dist.Distribution:
        """Return the distribution."""
        from flowjax.bijections import Chain

        # In this order, the networks of the flow read numbers of one size, whatever the scales.
        bend = Chain([self.bijection(), affine(self.mean, scale_of(self.log_scale))])
        base = dist.Normal(jnp.zeros_like(self.mean), 1.0, validate_args=False)
        return FlowDistribution(base.to_event(1), bend)


def choose_family(posterior: Any) -> Family:
    """Return the family that a user's `posterior` stands for."""
    if isinstance(posterior, FAMILIES):
        return posterior
    table = {name: POSTERIORS[name] for name in NAMES}
    classes = ", ".join(family.__name__ for family in FAMILIES)
    return choose(posterior, table, "posterior", f" or, of `aevb.posteriors`, one of {classes}")()


def build_member(
    family: Family, mean: Float[jax.Array, " d"], log_scale: Float[jax.Array, ""], *, key: Key
) -> Conditional:
    """Build the member of a family that is N(mean, exp(log_scale)² I): of a flow, too.

    Parameters
    ----------
    family : Normal, FullNormal, LowRankNormal or Flow
        The family.
    mean, log_scale : Array
        Of shapes (d,) and ().
    key : Array
        JAX random key: for the networks of a flow, whose effect is none at first.

    Returns
    -------
    Conditional
        Called without arguments, it returns the distribution over vectors of shape (d,).

    Raises
    ------
    ImportError
        For a flow, when FlowJAX is not installed.
    ValueError
        For a flow over a single number.
    """
    log_scales = jnp.broadcast_to(log_scale, mean.shape)
    if not isinstance(family, Flow):
        # At V = 0 the gradient of a low rank's V is 0 on average, but not at a draw: V moves on.
        n_others = family.n_parameters(mean.size) - 2 * mean.size
        return GaussianMember(mean, log_scales, jnp.zeros(n_others, mean.dtype), family)
    if mean.size < 2:
        raise ValueError(
            "Expected one of the normal families for `posterior` over a single number; got a "
            "flow, whose layers would be affine."
        )
    options = (family.layer, mean.size, None, family.n_layers, family.width)
    bijection = Bijection(*options, fast_sample=True, at_identity=True, key=key)
    return FlowMember(mean, log_scales, bijection)
