"""A function made simpler before it is converted: constants computed, calls opened.

Converters read the elementary operations that JAX has noted down, as they stand. What depends on no
input is computed here once, random numbers among it. Functions that ONNX lacks are written in those
that it has, exact in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.export import is_symbolic_dim
from jax.extend import core

from aevb.probability.special import HALF_LOG_2PI

_BODIES = ("jaxpr", "call_jaxpr")  # where a call keeps what it calls
_BRANCHING = ("while", "scan", "cond")


def folded(function: Callable, specs: Sequence[jax.ShapeDtypeStruct]) -> Callable[..., Any]:
    """Return a function of the same values, whose operations all depend on its arguments.

    Parameters
    ----------
    function : callable
        Of arrays.
    specs : sequence of jax.ShapeDtypeStruct
        Their shapes and types; a length may be a symbol.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> spec = jax.ShapeDtypeStruct((3,), "float32")
    >>> simple = folded(lambda x: x * jax.nn.softplus(jnp.ones(3)), [spec])
    >>> [eqn.primitive.name for eqn in jax.make_jaxpr(simple)(spec).eqns]
    ['mul']
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*specs)
    simple = jax.make_jaxpr(lambda *arrays: _run(traced, arrays))(*specs)
    structure = jax.tree.structure(shapes)
    return lambda *arrays: jax.tree.unflatten(structure, _run(simple, arrays))


def _run(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """Go through those operations whose results are needed."""
    jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in _needed(jaxpr):
        results = _apply(eqn, [read(atom) for atom in eqn.invars])
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _needed(jaxpr: Any) -> list[Any]:
    wanted = {atom for atom in jaxpr.outvars if not isinstance(atom, core.Literal)}
    found = []
    for eqn in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(eqn.outvars):
            found.append(eqn)
            wanted |= {atom for atom in eqn.invars if not isinstance(atom, core.Literal)}
    return found[::-1]


def _apply(eqn: Any, arguments: list[Any]) -> Sequence[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name == "platform_index":  # the branch for any platform
        return [params["platforms"].index(None)]
    if name == "cond" and not isinstance(arguments[0], jax.core.Tracer):
        return _run(params["branches"][int(arguments[0])], arguments[1:])
    body = next((params[each] for each in _BODIES if each in params), None)
    if body is not None and name not in _BRANCHING:
        return _run(body, arguments)
    if _is_constant(eqn, arguments):
        with jax.ensure_compile_time_eval():
            return _bound(eqn, arguments)
    if name.startswith("random"):
        raise NotImplementedError(f"{name!r} (its noise depends on the data)")
    return [_written(eqn, arguments)] if name in _WRITTEN else _bound(eqn, arguments)


def _written(eqn: Any, arguments: list[Any]) -> Array:
    """Apply what stands for an operation, in elementary ones; constants stay constants."""
    places = [i for i, each in enumerate(arguments) if isinstance(each, jax.core.Tracer)]

    def call(*arrays: Array) -> Array:
        some = dict(zip(places, arrays, strict=True))
        filled = [some.get(i, each) for i, each in enumerate(arguments)]
        return _WRITTEN[eqn.primitive.name](*filled, **eqn.params)

    arrays = [arguments[i] for i in places]
    return folded(call, [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in arrays])(*arrays)


def _bound(eqn: Any, arguments: list[Any]) -> Sequence[Any]:
    results = eqn.primitive.bind(*arguments, **eqn.params)
    return results if eqn.primitive.multiple_results else [results]


def _is_constant(eqn: Any, arguments: list[Any]) -> bool:
    """Whether an operation depends on no argument, nor on the number of rows."""
    lengths = [length for var in eqn.outvars for length in getattr(var.aval, "shape", ())]
    symbolic = eqn.primitive.name == "dim_as_value" or any(map(is_symbolic_dim, lengths))
    return not symbolic and not any(isinstance(each, jax.core.Tracer) for each in arguments)


# Kahan's: the error of the rounded sum, or exponential, cancels in the ratio.


def _log1p(x: Array, **_: Any) -> Array:
    rounded = 1 + x
    change = rounded - 1
    is_plain = (change == 0) | jnp.isinf(rounded)
    ratio = x / jnp.where(is_plain, 1.0, change)
    exact = jnp.log(rounded) * jnp.where(is_plain, 1.0, ratio)
    return jnp.where(change == 0, x, exact)


def _expm1(x: Array, **_: Any) -> Array:
    rounded = jnp.exp(x)
    change = rounded - 1
    is_plain = (rounded == 0) | (rounded == 1) | jnp.isinf(rounded)
    ratio = x / jnp.log(jnp.where(is_plain, 2.0, rounded))
    exact = change * jnp.where(is_plain, 1.0, ratio)
    return jnp.where(rounded == 1, x, exact)


def _lgamma(x: Array) -> Array:
    """Return log Γ(x) for x > 0, of small x by Stirling's series four places further."""
    is_small = x < 4
    few = jnp.where(is_small, x, 1.0)
    product = few * (few + 1) * (few + 2) * (few + 3)
    far = jnp.where(is_small, x + 4, x)
    square = 1 / (far * far)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))) / far
    further = (far - 0.5) * jnp.log(far) - far + HALF_LOG_2PI + series
    return further - jnp.where(is_small, jnp.log(product), 0.0)


def _pad(x: Array, value: Array, padding_config: Sequence[tuple[int, int, int]]) -> Array:
    """Put edges around an array, whose number of rows is open."""
    for axis, (before, behind, between) in enumerate(padding_config):
        if between or min(before, behind) < 0:
            raise NotImplementedError("pad, with entries between others or less than none")
        lengths = [
            (*x.shape[:axis], int(width), *x.shape[axis + 1 :]) for width in (before, behind)
        ]
        first, last = (jnp.broadcast_to(value, shape) for shape in lengths)
        pieces = [first] * bool(before) + [x] + [last] * bool(behind)
        x = jnp.concatenate(pieces, axis) if len(pieces) > 1 else x
    return x


def _scatter(x: Array, indices: Array, updates: Array, **params: Any) -> Array:
    """Put the entries of each row of updates into fixed places of each row of x."""
    in_rows = params["dimension_numbers"].update_window_dims == (0,) and updates.ndim == 2
    if isinstance(indices, jax.core.Tracer) or not in_rows:
        raise NotImplementedError("scatter, to places that depend on the data")
    n_updates, shape = updates.shape[1], x.shape[1:]
    one_each = jnp.eye(n_updates), jnp.zeros((n_updates, *shape))
    goes_to = lax.scatter_p.bind(one_each[1], indices, one_each[0], **params)
    put = updates @ jnp.reshape(goes_to, (n_updates, -1))
    return jnp.where(jnp.any(goes_to != 0, axis=0), jnp.reshape(put, x.shape), x)


_WRITTEN: dict[str, Callable[..., Array]] = {
    "expm1": _expm1,
    "lgamma": _lgamma,
    "log1p": _log1p,
    "pad": _pad,
    "scatter": _scatter,
}
