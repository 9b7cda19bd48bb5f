"""What training maximises: one number for a minibatch."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, ShapeDtypeStruct
from jaxtyping import Float, Int, PyTree, Shaped
from jaxtyping import PRNGKeyArray as Key

from aevb.compiling import jit
from aevb.inference.stopping import judged_column
from aevb.models.base import LatentVariableModel

Metrics = dict[str, Array]  # means over rows, or their sums; by name


class Batch(NamedTuple):
    """A minibatch of fixed shape: rows with weight 0 are padding.

    Where devices share a batch, each has its own rows of it. Sums by `share` then have the mean
    over the whole batch as their average over the devices.

    Attributes
    ----------
    x : PyTree
        Data, leading axis B.
    c : PyTree
        Context, leading axis B, or None.
    weight : Array
        Shape (B,): 0 for padding; of a real row 1, or its own weight, of which the mean over the
        data set is 1; times the number of devices that share the batch.
    keys : Array
        Shape (B,): a random key of each row's own.
    n_total : Array
        The paper's N: number of training rows of the whole data set.
    rows : Array
        Shape (B,): the position of each row in the buffer of its chunk.
    step : Array
        Number of steps taken before this one.
    n : Array, optional
        Number of real rows of the whole batch; None: the sum of their weights.
    """

    x: PyTree
    c: PyTree
    weight: Float[Array, " B"]
    keys: Shaped[Array, " B"]
    n_total: Float[Array, ""]
    rows: Int[Array, " B"]
    step: Int[Array, ""]
    n: Float[Array, ""] | None = None

    @property
    def n_real(self) -> Float[Array, ""]:
        """Number of real rows."""
        return jnp.sum(self.weight) if self.n is None else self.n

    @property
    def share(self) -> Float[Array, " B"]:
        """Shape (B,): what each row counts in a mean over the batch.

        Such a mean is an unbiased estimate of the weighted mean over the data set.
        """
        return self.weight / self.n_real


class Objective(eqx.Module):
    """A function of model and minibatch that training maximises. Subclass it to write your own.

    Subclasses write ``__call__``. An objective of expectation-maximisation also has a state of
    its own, made by `init` and renewed by `expect` on each batch before its updates.

    Examples
    --------
    Maximum likelihood of a model that has no latents to speak of:

    >>> import aevb, jax, jax.numpy as jnp
    >>> class LogLikelihood(aevb.Objective):
    ...     def __call__(self, model, batch, key, state):
    ...         rows = jax.vmap(lambda x: model.likelihood(0.0).log_prob(x))(batch.x)
    ...         mean = jnp.sum(batch.share * rows)
    ...         return mean, {"log_likelihood": mean}, state
    """

    @property
    def n_updates(self) -> int:
        """Number of updates of the parameters per batch."""
        return 1

    def init(self, model: LatentVariableModel, chunk: PyTree, key: Key) -> PyTree:
        """Return the state before the first step.

        Parameters
        ----------
        model : LatentVariableModel
            The model before the first step.
        chunk : Chunk
            The first chunk of the data, ``x`` and ``c``, to whose rows `Batch.rows` points.
        key : Array
            JAX random key.
        """
        return None

    def expect(self, model: LatentVariableModel, batch: Batch, key: Key, state: PyTree) -> PyTree:
        """Return the state for a batch, from that before it: the E step."""
        return state

    @abstractmethod
    def __call__(
        self, model: LatentVariableModel, batch: Batch, key: Key, state: PyTree
    ) -> tuple[Float[Array, ""], Metrics, PyTree]:
        """Return the number to maximise, the metrics (means over the rows), and the state.

        Parameters
        ----------
        model : LatentVariableModel
            The model.
        batch : Batch
            The minibatch.
        key : Array
            JAX random key of the step; ``batch.keys`` has one for each row.
        state : PyTree
            The state from `init`, `expect` or the step before.
        """

    @property
    def serves_any_model(self) -> bool:
        """Whether it needs no check beside a model whose distributions agree."""
        return False

    def check(self, model: LatentVariableModel, x: PyTree, c: PyTree, key: Key) -> None:
        """Raise ValueError or TypeError if it cannot serve a model, of which it sees shapes."""

    def counts(self, step: int, last: int) -> bool:
        """Whether the bound after `step` steps, of `last` in all, counts for stopping early.

        It does not while a weight is being warmed up.
        """
        return True

    @property
    def is_mean(self) -> bool:
        """Whether it is a mean over rows, and terms of the parameters: several devices share it."""
        return not self.has_state

    @property
    def has_e_step(self) -> bool:
        """Whether the state belongs to the rows that were trained on."""
        return type(self).expect is not Objective.expect

    @property
    def has_state(self) -> bool:
        """Whether there is a state at all."""
        return self.has_e_step or type(self).init is not Objective.init


ObjectiveFunction = Callable[
    [LatentVariableModel, Batch, Key, PyTree], tuple[Float[Array, ""], Metrics, PyTree]
]


class FunctionObjective(Objective):
    """An objective without a state of its own, from a plain function.

    Parameters
    ----------
    function : callable
        ``(model, batch, key, state) -> (number to maximise, metrics, state)``.
    """

    function: ObjectiveFunction

    def __call__(
        self, model: LatentVariableModel, batch: Batch, key: Key, state: PyTree
    ) -> Any:  # of a user's function, as yet unchecked
        """Call the function."""
        return self.function(model, batch, key, state)


def as_objective(objective: Any) -> Objective:
    """Return an objective as it is, or made of a function."""
    if isinstance(objective, Objective):
        return objective
    has_more = any(hasattr(objective, name) for name in ("init", "expect", "expectation"))
    if callable(objective) and not (has_more or isinstance(objective, type)):
        return FunctionObjective(objective)
    raise TypeError(
        "Expected an aevb.Objective, or a function (model, batch, key, state) -> (number, metrics, "
        f"state), for `objective`; got {objective!r}. One with a state is a subclass."
    )


def check_objective(
    objective: Objective,
    model: LatentVariableModel,
    source: Any,
    batch_size: int,
    key: Key,
    *,
    validated: bool = False,
    stops_early: bool = False,
) -> None:
    """Check an objective against a model and the shapes of one batch; nothing is computed.

    Parameters
    ----------
    objective, model, source, batch_size, key
        As in training.
    validated, stops_early : bool
        Whether there are held-out rows; whether training may stop by a bound.

    Raises
    ------
    ValueError, TypeError
        When the objective cannot serve the model, or does not report what is asked of it.
    """
    if objective.serves_any_model and not (validated or stops_early):
        return  # tracing it once more would take as long as a tenth of all compilation
    x, c = source.example()
    objective.check(model, x, c, key)
    state = None
    if objective.has_state:
        first = next(source.chunks(None))
        if len(first.rows) < source.n_rows:
            raise ValueError(
                f"Expected all rows in one chunk for {type(objective).__name__}, whose state "
                f"belongs to them; got a source of {source.n_rows} rows, {len(first.rows)} of them "
                "in the first chunk. Give the data as arrays."
            )
        state = eqx.filter_eval_shape(objective.init, model, first, key)
    batch = _batch_of_shapes(x, c, batch_size, key)
    metrics = eqx.filter_eval_shape(_checked_metrics, objective, model, batch, key, state)
    if (validated or stops_early) and judged_column(metrics) is None:
        raise ValueError(
            "Expected a metric 'elbo' of `objective`, or 'iw_bound', by which validation, early "
            f"stopping and epochs='auto' judge; got {', '.join(map(repr, metrics)) or 'none'}."
        )
    if validated and objective.has_e_step:
        raise ValueError(
            "Expected no `validation_data` beside an objective with an E step, whose state "
            f"belongs to the rows trained on; got both, of {type(objective).__name__}."
        )


# So that the same objective is not traced again for the next fit; nothing is compiled.
@functools.partial(jit, most=64)
def _checked_metrics(
    objective: Objective, model: LatentVariableModel, batch: Batch, key: Key, state: PyTree
) -> Metrics:
    state = objective.expect(model, batch, key, state)
    result = objective(model, batch, key, state)
    if not (isinstance(result, tuple) and len(result) == 3 and isinstance(result[1], dict)):
        raise TypeError(
            "Expected (number to maximise, metrics, state), with a dict of metrics, from "
            f"`objective`; got {eqx.tree_pformat(result, width=1000)}."
        )
    if jnp.shape(result[0]):
        raise ValueError(
            "Expected one number to maximise from `objective`; got an array of shape "
            f"{jnp.shape(result[0])}."
        )
    return result[1]


def _batch_of_shapes(x: PyTree, c: PyTree, n: int, key: Key) -> Batch:
    def rows(row: ShapeDtypeStruct) -> ShapeDtypeStruct:
        return ShapeDtypeStruct((n, *row.shape), row.dtype)

    one, count = ShapeDtypeStruct((), jnp.float32), ShapeDtypeStruct((), jnp.int32)
    own_key = ShapeDtypeStruct((), key.dtype)
    fields: Any = (*jax.tree.map(rows, (x, c)), rows(one), rows(own_key), one, rows(count), count)
    return Batch(*fields)
