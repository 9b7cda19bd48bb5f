"""Algorithm 1 of the paper: minibatch gradient ascent, one compiled loop per chunk of an epoch.

Knows nothing of models, bounds or data sets: objective, optimizer, chunks and the mark of what is
trainable are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
from jax import Array, lax
from jaxtyping import Bool, Float, Int, PyTree, Shaped
from jaxtyping import PRNGKeyArray as Key

from aevb.compiling import jit
from aevb.inference.clipping import Clipping
from aevb.inference.objective import Batch, Metrics, Objective
from aevb.inference.optimizers import averaging

Count = int | Int[Array, ""]  # of steps or batches, traced or not


class TrainState(NamedTuple):
    """All that changes in training; a small PyTree."""

    model: PyTree
    optimizer_state: PyTree
    objective_state: PyTree
    key: Key
    step: Int[Array, ""]
    gradient_norms: Float[Array, " n"]  # the typical one of each array, of the steps before

    @property
    def estimate(self) -> PyTree:
        """The model to predict with: `model`, or the average that its optimizer keeps of it."""
        average = averaging(self.optimizer_state)
        return self.model if average is None else _averaged(self.model, average)


class Visit(NamedTuple):
    """The rows of a chunk to run over in one compiled call; arrays only, of fixed shapes.

    Attributes
    ----------
    x, c : PyTree
        Buffers on the devices; c may be None.
    rows, n : Array
        int32: the order in which the buffers' rows are visited, and their number, as laid out by
        `Placement.order`.
    n_total : Array
        int32, the paper's N: number of rows of the whole data set.
    weight : Array, optional
        Weight of each row of the buffers, on average 1; None: 1.
    """

    x: PyTree
    c: PyTree
    rows: Int[Array | np.ndarray, " *order"]
    n: Int[Array | np.ndarray, " *shards"] | np.int32
    n_total: Int[Array | np.ndarray, ""] | np.int32
    weight: Float[Array | np.ndarray, " n_buffer"] | None = None


_FIELDS: Any = {"x": True, "c": True, "rows": True, "n": False, "n_total": False, "weight": True}
_BY_ROW = Visit(**_FIELDS)


def initialise(
    model: PyTree,
    optimizer: optax.GradientTransformation,
    key: Key,
    trainable: PyTree[bool],
    objective_state: PyTree = None,
) -> TrainState:
    """Return the state before the first step."""
    # A weak type becomes a strong one in the first step, and all would be compiled again.
    model, objective_state = jax.tree.map(_strong, (model, objective_state))
    optimised = eqx.filter(model, trainable)
    optimizer_state = optimizer.init(as_reals(optimised))
    none, norms = jnp.zeros((), jnp.int32), jnp.zeros(len(jax.tree.leaves(optimised)))
    return TrainState(model, optimizer_state, objective_state, key, none, norms)


def _strong(leaf: PyTree) -> PyTree:
    return leaf.astype(leaf.dtype) if eqx.is_inexact_array(leaf) else leaf


def as_reals(tree: PyTree) -> PyTree:
    """Write each complex array as the two real ones that optimizers understand."""

    def split(leaf: Array) -> Array:
        return jnp.stack([leaf.real, leaf.imag]) if jnp.iscomplexobj(leaf) else leaf

    return jax.tree.map(split, tree)


def _like(parameters: PyTree, reals: PyTree) -> PyTree:
    """Undo `as_reals`, where `parameters` are complex."""

    def join(leaf: Array, parts: Array) -> Array:
        return lax.complex(parts[0], parts[1]) if jnp.iscomplexobj(leaf) else parts

    return jax.tree.map(join, parameters, reals)


@jit
def _averaged(model: PyTree, average: optax.contrib.ScheduleFreeState) -> PyTree:
    def of(z: Array | None, leaf: PyTree) -> PyTree:
        if z is None:  # not trained
            return leaf
        own = average._replace(z=z)
        return _like(leaf, optax.contrib.schedule_free_eval_params(own, as_reals(leaf)))

    return jax.tree.map(of, average.z, model, is_leaf=lambda node: node is None)


def step(
    state: TrainState,
    batch: Batch,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    trainable: PyTree[bool],
    placement: Any,
    clipping: Clipping,
) -> tuple[TrainState, Metrics]:
    """Take one step of gradient ascent on the objective; return the state and the metrics.

    A step is one batch: one update of the parameters, or the objective's `n_updates`.
    """
    key = jax.random.fold_in(state.key, state.step)
    own_key = jax.random.fold_in(key, 2**31)  # not computed where there is no E step
    expected = objective.expect(state.model, batch, own_key, state.objective_state)
    state = state._replace(objective_state=expected)

    def update(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        parameters, rest = eqx.partition(state.model, trainable)

        def loss(parameters: PyTree) -> tuple[Float[Array, ""], tuple[Metrics, PyTree]]:
            model = eqx.combine(parameters, rest)
            surrogate, metrics, objective_state = objective(
                model, batch, key, state.objective_state
            )
            return -surrogate, (metrics, objective_state)

        gradient, (metrics, objective_state) = jax.grad(loss, has_aux=True)(parameters)
        gradient = jax.tree.map(jnp.conj, gradient)  # of complex parameters, to go uphill
        gradient, metrics = placement.reduce((gradient, metrics))
        gradient, norms = clipping(gradient, state.gradient_norms, state.step)
        updates, optimizer_state = optimizer.update(
            as_reals(gradient), state.optimizer_state, as_reals(parameters)
        )
        moved = eqx.apply_updates(parameters, _like(parameters, updates))
        model = eqx.combine(moved, rest)
        state = TrainState(model, optimizer_state, objective_state, state.key, state.step, norms)
        return state, metrics

    if objective.n_updates == 1:
        state, metrics = update(state, batch, key)
    else:
        state, metrics = _repeat(update, state, batch, key, objective.n_updates)
    return state._replace(step=state.step + 1), metrics


def _repeat(
    update: Callable, state: TrainState, batch: Batch, key: Key, n_updates: int
) -> tuple[TrainState, Metrics]:
    """Update several times; return the metrics of the first, before the weights have moved."""
    arrays, static = eqx.partition(state, eqx.is_array)

    def body(arrays: PyTree, i: Count) -> tuple[PyTree, Metrics]:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, i))(batch.keys)
        new = batch._replace(keys=keys), jax.random.fold_in(key, i)
        state, metrics = update(eqx.combine(arrays, static), *new)
        return eqx.filter(state, eqx.is_array), metrics

    arrays, metrics = lax.scan(body, arrays, jnp.arange(n_updates))
    return eqx.combine(arrays, static), jax.tree.map(lambda each: each[0], metrics)


def batch_at(
    visit: Visit, i: Count, batch_size: int, key: Key, step: Count, placement: Any
) -> Batch:
    """Gather a device's rows of the i-th batch of a chunk, for a step of the training."""
    rows, position, weight, n = placement.share(visit.rows, visit.n, i, batch_size)
    if visit.weight is not None:
        weight = weight * visit.weight[rows]
    x, c = jax.tree.map(lambda buffer: buffer[rows], (visit.x, visit.c))
    keys = _counted_keys(key, step * batch_size + position)
    n_total = jnp.asarray(visit.n_total, jnp.float32)
    return Batch(x, c, weight, keys, n_total, rows, jnp.asarray(step, jnp.int32), n)


def _counted_keys(key: Key, counts: Int[Array, " B"]) -> Shaped[Array, " B"]:
    # Like seeds that count up, from a random start (hashed once, outside the loop). Hashing a key
    # for every row of every step, as `jax.random.split` does, costs a thirtieth of a step.
    words = jax.random.key_data(jax.random.fold_in(key, 2**31 + 1))  # no step has that number
    words = jnp.tile(words, (len(counts), 1)).at[:, -1].add(counts.astype(words.dtype))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key))


def _run_chunk(
    state: TrainState,
    visit: Visit,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    trainable: PyTree[bool],
    batch_size: int,
    placement: Any,
    clipping: Clipping,
) -> tuple[TrainState, Metrics, Bool[Array, ""]]:
    """Run ⌈n/B⌉ steps over a chunk, in one compiled loop on every device.

    Returns
    -------
    state : TrainState
        After the last step.
    totals : dict
        Metrics summed over the rows visited.
    finite : Array
        Whether the totals and the parameters are all finite.
    """
    arrays, static = eqx.partition((state, objective, optimizer), eqx.is_array)

    def loop(arrays: PyTree, visit: Visit) -> tuple[PyTree, Metrics]:
        state, objective, optimizer = eqx.combine(arrays, static)
        options = objective, optimizer, trainable, placement, clipping

        def body(i: Count, carry: tuple[PyTree, Metrics]) -> tuple[PyTree, Metrics]:
            arrays, totals = carry
            state = eqx.combine(arrays, static[0])
            batch = batch_at(visit, i, batch_size, state.key, state.step, placement)
            state, metrics = step(state, batch, *options)
            count = batch.n_real
            totals = jax.tree.map(lambda total, mean: total + count * mean, totals, metrics)
            return eqx.filter(state, eqx.is_array), totals

        n_steps = placement.n_steps(visit.n, batch_size)
        zeros = _zero_metrics(state, visit, objective, batch_size, placement)
        return lax.fori_loop(0, n_steps, body, (arrays[0], zeros))

    changed, totals = placement.map(loop, (False, _BY_ROW))(arrays, visit)
    state = eqx.combine(changed, static[0])
    # One sum tells if anything in it is infinite or NaN.
    leaves = jax.tree.leaves((totals, eqx.filter(state.model, trainable)))
    finite = jnp.isfinite(sum(jnp.sum(jnp.abs(leaf)) for leaf in leaves))
    return state, totals, finite


run_chunk = jit(_run_chunk)
run_chunk_in_place = jit(_run_chunk, in_place=True)  # whose argument is lost


@jit
def evaluate_chunk(
    state: TrainState, visit: Visit, objective: Objective, batch_size: int, placement: Any
) -> Metrics:
    """Sum the objective's metrics over a chunk, without training; the same draws every time."""
    arrays, static = eqx.partition((state, objective), eqx.is_array)

    def loop(arrays: PyTree, visit: Visit) -> Metrics:
        state, objective = eqx.combine(arrays, static)
        key = jax.random.fold_in(state.key, 2**31)  # between the keys of rows and those of steps

        def body(i: Count, totals: Metrics) -> Metrics:
            batch = batch_at(visit, i, batch_size, key, i, placement)
            key_i = jax.random.fold_in(key, i)
            _, metrics, _ = objective(state.model, batch, key_i, state.objective_state)
            metrics, count = placement.reduce(metrics), batch.n_real
            return jax.tree.map(lambda total, mean: total + count * mean, totals, metrics)

        zeros = _zero_metrics(state, visit, objective, batch_size, placement)
        return lax.fori_loop(0, placement.n_steps(visit.n, batch_size), body, zeros)

    return placement.map(loop, (False, _BY_ROW))(arrays, visit)


def _zero_metrics(
    state: TrainState, visit: Visit, objective: Objective, batch_size: int, placement: Any
) -> Metrics:
    def metrics() -> Metrics:
        batch = batch_at(visit, 0, batch_size, state.key, 0, placement)
        return objective(state.model, batch, state.key, state.objective_state)[1]

    shapes = eqx.filter_eval_shape(metrics)
    return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)


def mean_metrics(totals: Sequence[Metrics], n: int) -> dict[str, np.ndarray | np.generic]:
    """Turn the totals of some chunks into means per row, on the host."""
    host = jax.device_get(totals)
    return {name: sum(total[name] for total in host) / n for name in host[0]}
