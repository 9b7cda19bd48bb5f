"""Optax optimizers by name, as objects, with a number or a schedule for the learning rate."""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import optax.contrib
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from aevb.errors import nearest, number

#: Where the rate that `"auto"` stands for begins; benchmarks/defaults.py measures others beside it.
DEFAULT_LEARNING_RATES = {"adamax": 1e-2, "adam": 2e-3, "sgd": 1e-4, "adagrad": 2e-2}
OTHERWISE = 1e-3

# What users give for an optimizer and for its learning rate: a name or "auto" are strings.
Optimizer = str | optax.GradientTransformation
LearningRate = str | float | Callable[[Array], ArrayLike]

Rate = Callable[[float], float]  # of the share of the training that is done, from 0 to 1

_SCHEDULE_FREE = "schedule_free_"  # how the names of those that need no falling rate begin

#: Functions that do not make an optimizer alone, or one that needs more than gradients.
_NOT_BY_NAME = {"lbfgs", "noisy_sgd", "galore", "momo", "momo_adam", "sophia"}


def make_optimizer(
    optimizer: Any, learning_rate: Any
) -> tuple[optax.GradientTransformation, Rate | None]:
    """Return an Optax optimizer, and the learning rate to put into its state (None: its own).

    A named optimizer with a number for a learning rate reads the number from its state, so that
    another number compiles nothing anew.

    Parameters
    ----------
    optimizer : str or optax.GradientTransformation
        A function of `optax` or `optax.contrib` that takes a learning rate, by name; or a ready
        optimizer.
    learning_rate : "auto", float or callable
        A number above 0; an Optax schedule (step -> rate); or ``"auto"``: the optimizer's default,
        falling to 0 along half a cosine over the epochs. That of schedule-free ones stays.

    Raises
    ------
    TypeError, ValueError
        When either is of another kind, or a rate is given beside a ready optimizer.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        if learning_rate != "auto":
            raise ValueError(
                "Expected `learning_rate` left at 'auto' beside an optimizer object, which has "
                f"its own; got {learning_rate!r}. Set it where the optimizer is made."
            )
        return optimizer, None
    if not isinstance(optimizer, str):
        raise TypeError(
            "Expected the name of an Optax optimizer or an optax.GradientTransformation for "
            f"`optimizer`; got {optimizer!r}."
        )
    if not _takes_learning_rate(optimizer):
        raise ValueError(
            f"Expected the name of an Optax optimizer for `optimizer`; got {optimizer!r}."
            f"{nearest(optimizer, _names())}"
        )
    if callable(learning_rate):
        return _scheduled(optimizer, learning_rate), None
    if isinstance(learning_rate, str):
        if learning_rate != "auto":
            raise ValueError(
                "Expected a positive number, an Optax schedule or 'auto' for `learning_rate`; "
                f"got {learning_rate!r}."
            )
        peak = DEFAULT_LEARNING_RATES.get(optimizer, _own_rate(optimizer))
        if optimizer.startswith(_SCHEDULE_FREE):
            return _injected(optimizer), lambda done: peak
        return _injected(optimizer), lambda done: peak * 0.5 * (1 + math.cos(math.pi * done))
    expected = "a positive number, an Optax schedule or 'auto'"
    rate = number(learning_rate, "learning_rate", expected, lambda r: 0 < r < math.inf)
    return _injected(optimizer), lambda done: rate


def set_learning_rate(state: PyTree, rate: Rate | None, done: float, scale: float) -> PyTree:
    """Put a learning rate, times a scale, into the state of an optimizer that reads it there."""
    if rate is None:
        return state
    value = np.float32(scale * rate(done))
    return state._replace(hyperparams={**state.hyperparams, "learning_rate": value})


@functools.lru_cache(maxsize=32)
def with_smaller_steps(
    optimizer: optax.GradientTransformation, scale: float
) -> optax.GradientTransformation:
    """Return an optimizer whose updates are scaled, with a state of the same form."""

    def update(gradient: PyTree, state: PyTree, parameters: PyTree = None) -> tuple:
        updates, state = optimizer.update(gradient, state, parameters)
        return jax.tree.map(lambda leaf: scale * leaf, updates), state

    return optax.GradientTransformation(optimizer.init, update)


def averaging(state: PyTree) -> optax.contrib.ScheduleFreeState | None:
    """Return the state of a schedule-free optimizer within an optimizer's state, if there is one.

    These train at a point beside the average of the weights, which is what predicts (Defazio et
    al., 2024, https://arxiv.org/abs/2405.15682).
    """

    def is_one(node: PyTree) -> bool:
        return isinstance(node, optax.contrib.ScheduleFreeState)

    return next(filter(is_one, jax.tree.leaves(state, is_leaf=is_one)), None)


def _maker(name: str) -> Any:
    return vars(optax).get(name) or vars(optax.contrib).get(name)


def _own_rate(name: str) -> float:
    rate = inspect.signature(_maker(name)).parameters["learning_rate"].default
    return rate if isinstance(rate, float) else OTHERWISE


# One object per name: compiled loops are keyed on it.
@functools.cache
def _injected(name: str) -> optax.GradientTransformation:
    maker = _maker(name)
    others = [p for p in inspect.signature(maker).parameters if p != "learning_rate"]
    return optax.inject_hyperparams(maker, static_args=others)(learning_rate=1.0)


@functools.lru_cache(maxsize=32)
def _scheduled(name: str, schedule: Callable[[Array], ArrayLike]) -> optax.GradientTransformation:
    return _maker(name)(schedule)


@functools.cache
def _names() -> list[str]:
    return [name for name in {*dir(optax), *dir(optax.contrib)} if _takes_learning_rate(name)]


def _takes_learning_rate(name: str) -> bool:
    maker = _maker(name)
    makers = (types.FunctionType, functools.partial)
    if name in _NOT_BY_NAME or name.startswith("scale_by_") or not isinstance(maker, makers):
        return False
    parameters = list(inspect.signature(maker).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return bool(parameters) and parameters[0].name == "learning_rate" and len(required) <= 1
