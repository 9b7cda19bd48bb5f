"""Laws of counts per unit of exposure: of time, of people at risk, of what was read."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.typing import ArrayLike
from numpyro.distributions import Distribution

from aevb.probability.blocks import Blocks
from aevb.probability.counts import NegativeBinomial, Poisson, ZeroInflated
from aevb.probability.distributions import Reshaped


def at_exposure(law: Distribution | Blocks, exposure: ArrayLike) -> Distribution | Blocks:
    r"""Return a law of counts whose means are multiplied by an exposure.

    .. math:: \log E[x] = \log \text{exposure} + \log m

    so that the logarithm of the exposure is what generalised linear models call an offset. Of
    several blocks, those that are not counts stay as they are.

    Parameters
    ----------
    law : Distribution or Blocks
        Of counts: Poisson, negative binomial, or either of them zero-inflated.
    exposure : float
        Positive.

    Raises
    ------
    TypeError
        For another law.

    Examples
    --------
    >>> float(at_exposure(Poisson(jnp.log(2.5)), 4.0).mean)
    10.0
    """
    if isinstance(law, Blocks):
        parts = {
            name: at_exposure(part, exposure) if is_of_counts(part) else part
            for name, part in law.parts.items()
        }
        return Blocks(parts, law.value)
    if isinstance(law, Reshaped):
        return Reshaped(at_exposure(law.base, exposure), law.event_shape)
    if isinstance(law, dist.Independent):
        inner: Any = at_exposure(law.base_dist, exposure)
        return inner.to_event(law.reinterpreted_batch_ndims)
    if isinstance(law, ZeroInflated):
        return ZeroInflated(at_exposure(law.base, exposure), law.logits, validate_args=False)
    if isinstance(law, NegativeBinomial):
        log_mean = law.log_mean + jnp.log(exposure)
        return NegativeBinomial(log_mean, law.log_concentration, validate_args=False)
    if isinstance(law, Poisson):
        return Poisson(law.log_rate + jnp.log(exposure), validate_args=False)
    raise TypeError(f"Expected a law of counts at an exposure; got {type(law).__name__}.")


def is_of_counts(law: Distribution) -> bool:
    """Whether `at_exposure` knows a law."""
    if isinstance(law, Reshaped):
        return is_of_counts(law.base)
    if isinstance(law, dist.Independent):
        return is_of_counts(law.base_dist)
    return isinstance(law, ZeroInflated | NegativeBinomial | Poisson)
