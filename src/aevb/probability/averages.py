"""What to say of a value whose law is uncertain: averages over several laws, and what they mean."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jaxtyping import PyTree
from numpyro.distributions import Distribution

from aevb.probability.blocks import Blocks
from aevb.probability.distributions import Reshaped
from aevb.probability.levels import Categorical, Ordinal


def evidence(d: Distribution | Blocks) -> PyTree[Array]:
    """Return what may be averaged over several laws: means, or the probabilities of levels.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> float(evidence(dist.Normal(2.0, 1.0)))
    2.0
    """
    if isinstance(d, Blocks):
        return {name: evidence(part) for name, part in d.parts.items()}
    if isinstance(d, Reshaped):
        return evidence(d.base)
    if isinstance(d, dist.Independent):
        return evidence(d.base_dist)
    return jnp.exp(d.log_probs) if isinstance(d, Categorical | Ordinal) else d.mean


def decision(d: Distribution | Blocks, average: PyTree[Array]) -> PyTree[Array]:
    """Return the value that an average of `evidence` speaks for.

    The most probable category, the median of ordered levels, a whole number of what is counted; of
    other data the mean.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = Categorical(jnp.zeros(3))
    >>> int(decision(law, jnp.array([0.2, 0.5, 0.3])))
    1
    """
    if isinstance(d, Blocks):
        return d.value({name: decision(part, average[name]) for name, part in d.parts.items()})
    if isinstance(d, Reshaped):
        return jnp.reshape(decision(d.base, average), d.event_shape)
    if isinstance(d, dist.Independent):
        return decision(d.base_dist, average)
    if isinstance(d, Categorical):
        return jnp.argmax(average, axis=-1)
    if isinstance(d, Ordinal):
        return jnp.sum(jnp.cumsum(average, axis=-1)[..., :-1] < 0.5, axis=-1)
    return jnp.round(average) if getattr(d.support, "is_discrete", False) else average
