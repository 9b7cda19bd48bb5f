"""What every model is: three distributions over one datapoint."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from aevb.probability.joint import AnyDistribution


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
    >>> bound = aevb.sgvb(exact, jnp.array(2.0), jax.random.key(0), estimator="A")
    >>> round(float(bound), 4)  # the evidence, log N(2; 0, 2), since the posterior is exact
    -2.2655
    """

    @abstractmethod
    def prior(self, *c: PyTree, **named: Any) -> AnyDistribution:
        """Return p(z)."""

    @abstractmethod
    def likelihood(self, z: PyTree, *c: PyTree, **named: Any) -> AnyDistribution:
        """Return p(x|z)."""

    @abstractmethod
    def posterior(self, x: PyTree, *c: PyTree, **named: Any) -> AnyDistribution:
        """Return q(z|x)."""


class Given(eqx.Module):
    """A model under the context of one datapoint: what estimators see. `given` makes it.

    Attributes
    ----------
    model : LatentVariableModel
        The model.
    context : PyTree
        The datapoint's context c, passed to the methods that take one; None without.
    """

    model: LatentVariableModel
    context: PyTree = None

    def prior(self) -> AnyDistribution:
        """Return p(z) under the context."""
        return self._call(self.model.prior)

    def likelihood(self, z: PyTree) -> AnyDistribution:
        """Return p(x|z) under the context."""
        return self._call(self.model.likelihood, z)

    def posterior(self, x: PyTree) -> AnyDistribution:
        """Return q(z|x) under the context."""
        return self._call(self.model.posterior, x)

    def _call(self, method: Callable, *arguments: PyTree) -> AnyDistribution:
        return method(*arguments, c=self.context) if _reads(method) else method(*arguments)


def given(model: LatentVariableModel, c: PyTree = None) -> Given:
    """Return the view of a model under a context, whose methods take no ``c`` any more.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    c : PyTree of arrays, optional
        Context of one datapoint.

    Returns
    -------
    Given
        With ``prior()``, ``likelihood(z)`` and ``posterior(x)``.

    Raises
    ------
    ValueError
        For a context that none of the model's methods would read.

    Examples
    --------
    >>> import aevb, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shifted(aevb.LatentVariableModel):
    ...     def prior(self, c):
    ...         return dist.Normal(c, 1.0)
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x, c):
    ...         return dist.Normal((x + c) / 2, 0.5**0.5)
    >>> view = given(Shifted(), jnp.array(3.0))
    >>> float(view.prior().mean)
    3.0
    """
    methods: tuple[Callable, ...] = (model.prior, model.likelihood, model.posterior)
    if jax.tree.leaves(c) and not any(map(_reads, methods)):
        raise ValueError(
            f"Expected `context` left at None for `{name_of(model)}`, none of whose methods has "
            "an argument `c`; got one. Write `def likelihood(self, z, c)`, for instance."
        )
    return Given(model, c)


def _reads(method: Callable) -> bool:
    return "c" in inspect.signature(method).parameters


class Frozen(eqx.Module):
    """Part of a model that training leaves as it is: constants of the data, fixed scales.

    Parameters
    ----------
    value : PyTree
        Any arrays. Read them as ``frozen.value``.
    """

    value: PyTree


def trainable(model: PyTree) -> PyTree[bool]:
    """Mark the leaves of `model` that training may move: floating arrays outside `Frozen`."""

    def mark(node: PyTree) -> PyTree[bool]:
        if isinstance(node, Frozen):
            return jax.tree.map(lambda _: False, node)
        return eqx.is_inexact_array(node)

    return jax.tree.map(mark, model, is_leaf=lambda node: isinstance(node, Frozen))


def name_of(model: LatentVariableModel | Given) -> str:
    """Return the name of a model's class, for messages."""
    return type(model.model if isinstance(model, Given) else model).__name__
