"""What every model is: three distributions over one datapoint."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
from numpyro.distributions import Distribution


class LatentVariableModel(eqx.Module):
    """A latent-variable model p(z) p(x|z) with its recognition model q(z|x), for one datapoint.

    Subclasses are final and write the three methods for a single datapoint, without a batch axis;
    `jax.vmap` does the batching. A datum `x` is an array or any PyTree of arrays. A method that
    needs a context (covariates, a condition, the row's index) takes a further argument ``c``; one
    that does not may leave it out.

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shift(aevb.LatentVariableModel):
    ...     weight: jax.Array
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal(self.weight * x, 0.5**0.5)
    >>> exact = Shift(weight=jnp.array(0.5))
    >>> bound = aevb.sgvb(exact, jnp.array(2.0), jax.random.key(0), bound="A")
    >>> round(float(bound), 4)  # the evidence, log N(2; 0, 2), since the posterior is exact
    -2.2655
    """

    @abstractmethod
    def prior(self, c: Any = None) -> Distribution:
        """Return p(z)."""

    @abstractmethod
    def likelihood(self, z: Any, c: Any = None) -> Distribution:
        """Return p(x|z)."""

    @abstractmethod
    def posterior(self, x: Any, c: Any = None) -> Distribution:
        """Return q(z|x)."""


class Frozen(eqx.Module):
    """Part of a model that training leaves as it is: constants of the data, fixed scales.

    Parameters
    ----------
    value : PyTree
        Any arrays. Read them as ``frozen.value``.
    """

    value: Any


def trainable(model: Any) -> Any:
    """Mark the leaves of `model` that training may move: floating arrays outside `Frozen`."""

    def mark(node: Any) -> Any:
        if isinstance(node, Frozen):
            return jax.tree.map(lambda _: False, node)
        return eqx.is_inexact_array(node)

    return jax.tree.map(mark, model, is_leaf=lambda node: isinstance(node, Frozen))


def name_of(model: Any) -> str:
    """Return the name of a model's class, for messages."""
    return type(model).__name__


def with_context(method: Any, *arguments: Any, c: Any = None) -> Distribution:
    """Call a model's method, with the context if its signature has one."""
    if "c" in inspect.signature(method).parameters:
        return method(*arguments, c=c)
    return method(*arguments)
