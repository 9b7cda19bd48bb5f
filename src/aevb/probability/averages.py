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


def expected(d: Distribution | Blocks) -> PyTree[Array]:
    """Return the value to expect: the mean; the most probable category, the median of levels.

    Examples
    --------
    >>> import jax.numpy as jnp, numpyro.distributions as dist
    >>> float(expected(dist.Poisson(2.5)))
    2.5
    >>> int(expected(Categorical(jnp.log(jnp.array([0.2, 0.8])))))
    1
    """
    return decision(d, evidence(d), whole=False)


def decision(
    d: Distribution | Blocks, average: PyTree[Array], *, whole: bool = True
) -> PyTree[Array]:
    """Return the value that an average of `evidence` speaks for.

    The most probable category, the median of ordered levels, a whole number of what is counted; of
    other data the mean.

    Parameters
    ----------
    d : Distribution or Blocks
        One of the laws.
    average : PyTree of Array
        The average of `evidence`.
    whole : bool
        Whether the mean of what is counted is rounded to a whole number.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> law = Categorical(jnp.zeros(3))
    >>> int(decision(law, jnp.array([0.2, 0.5, 0.3])))
    1
    """
    if isinstance(d, Blocks):
        named = d.parts.items()
        return d.value({name: decision(p, average[name], whole=whole) for name, p in named})
    if isinstance(d, Reshaped):
        return jnp.reshape(decision(d.base, average, whole=whole), d.event_shape)
    if isinstance(d, dist.Independent):
        return decision(d.base_dist, average, whole=whole)
    if isinstance(d, Categorical):
        return jnp.argmax(average, axis=-1)
    if isinstance(d, Ordinal):
        return jnp.sum(jnp.cumsum(average, axis=-1)[..., :-1] < 0.5, axis=-1)
    is_counted = whole and getattr(d.support, "is_discrete", False)
    return jnp.round(average) if is_counted else average
