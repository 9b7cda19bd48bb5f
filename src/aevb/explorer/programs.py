"""A JAX function of one datum as a small program, which runs where there is no Python.

JAX writes down what a function computes (`jax.make_jaxpr`). What does not depend on the input is
computed here, once. Of the rest, whatever moves numbers is one operation, ``take``: where JAX
moves the numbers 0, 1, 2 ..., it shows where each number comes from. So broadcasts, slices, pads,
gathers and the windows of convolutions need nothing of their own, and a network of any form is
left with elementwise functions, matrix products, reductions and ``take``. ``static/program.js``
runs them.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal
from jaxtyping import PyTree

_ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type cbrt ceil "
    "clamp convert_element_type cos cosh div eq erf erfc exp exp2 expm1 floor ge gt integer_pow "
    "is_finite le log log1p logistic lt max min mul ne neg not or pow rem round rsqrt select_n "
    "shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square sub tan tanh "
    "xor"
)
#: Functions of single numbers, by the names of JAX; program.js has the same.
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
_SETTINGS = ("y", "rounding_method")  # of these functions

# Primitives that only hold a function of their own.
_CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
)
# Primitives that move numbers, and which of their operands these are; the others say where.
_MOVES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("broadcast_in_dim", "dynamic_slice", "gather", "rev", "slice"), (0,)),
    **dict.fromkeys(("split", "tile", "transpose"), (0,)),
    **dict.fromkeys(("dynamic_update_slice", "pad"), (0, 1)),
    "scatter": (0, 2),
}
_RESHAPES = ("expand_dims", "reshape", "squeeze")
_JOINS = ("concatenate", "stack")  # all of their operands move
_SAME = ("copy", "copy_p", "optimization_barrier", "reduce_precision", "stop_gradient")
_LARGE = 2**14  # entries, from which on weights are rounded
_LONGEST = 64  # steps of a loop
_TYPES = {"float16": "float32", "bfloat16": "float32", "int64": "float64"}
_ALLOWED = {"bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64"}


class NotInAPage(ValueError):
    """A model needs something that the explorer does not have; the message says what."""


_serial = itertools.count()


@dataclass(frozen=True, eq=False)
class Node:
    """A value that depends on the input: an input, or what an operation makes of other values."""

    name: str
    of: tuple[Value, ...]
    shape: tuple[int, ...]
    dtype: str
    settings: dict[str, Any] = field(default_factory=dict)
    serial: int = field(default_factory=lambda: next(_serial))


Value = Node | Any  # what is known is an array


def program(function: Callable[..., PyTree], *examples: PyTree, n_bytes: int = 3) -> dict[str, Any]:
    """Write a function of one datum as a program.

    Parameters
    ----------
    function : callable
        A function that JAX can trace; what it holds, such as weights, becomes constants.
    *examples : PyTree of arrays
        Its arguments, of which only shapes and types count.
    n_bytes : {2, 3}
        Of each weight of a matrix of 16,384 or more. A row is rounded to even steps: with 3 to its
        largest weight / 8,388,607, which is as good as single precision, with 2 to / 32,767.

    Returns
    -------
    dict
        ``inputs``, ``constants``, ``operations`` and ``outputs``, which JSON can hold. Inputs and
        outputs are the leaves of arguments and results, in JAX's order.

    Raises
    ------
    NotInAPage
        When the function needs something that a program does not have.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> made = program(lambda x: jnp.tanh(2 * x), jnp.zeros(3))
    >>> [operation["name"] for operation in made["operations"]]
    ['mul', 'tanh']
    """
    leaves, form = jax.tree.flatten(examples)

    def flat(*leaves: Any) -> list:
        return jax.tree.leaves(function(*jax.tree.unflatten(form, leaves)))

    closed = jax.make_jaxpr(flat)(*leaves)
    inputs = [_input(variable.aval) for variable in closed.jaxpr.invars]
    return _written(inputs, _evaluated(closed, inputs), n_bytes)


def _input(aval: Any) -> Node:
    return Node("input", (), aval.shape, aval.dtype.name)


def _evaluated(body: Any, arguments: Sequence[Value]) -> list[Value]:
    """Go through what JAX wrote down, and return the results."""
    jaxpr, constants = (body.jaxpr, body.consts) if isinstance(body, ClosedJaxpr) else (body, [])
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, constants, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Value:
        if not isinstance(atom, Literal):
            return values[atom]
        aval: Any = atom.aval
        return np.asarray(atom.val, aval.dtype)

    for equation in jaxpr.eqns:
        found = _applied(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _applied(equation: Any, values: list[Value]) -> list[Value]:
    """Return the results of one primitive."""
    name, params = equation.primitive.name, equation.params
    if name == "platform_index":  # what is written for any platform
        return [np.int32(params["platforms"].index(None))]
    if name in _CALLS:
        body = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
        return _evaluated(body, values)
    if not any(isinstance(value, Node) for value in values):
        found = equation.primitive.bind(*values, **params)
        return list(found) if equation.primitive.multiple_results else [found]
    if name == "cond" and not isinstance(values[0], Node):
        return _evaluated(params["branches"][int(values[0])], values[1:])
    if name == "scan" and params["length"] <= _LONGEST:
        return _unrolled(equation, values)
    if name in _SAME:
        return values
    if name in ELEMENTWISE:
        settings = {key: _plain(params[key]) for key in _SETTINGS if key in params}
        aval = equation.outvars[0].aval
        operands = tuple(_broadcast(value, aval.shape) for value in values)
        return [Node(name, operands, aval.shape, aval.dtype.name, settings)]
    if name in _RESHAPES:
        return [_taken(_places(values[0]).reshape(equation.outvars[0].aval.shape), values[0])]
    if name in _MOVES or name in _JOINS:
        return _moved(equation, values)
    if name in _RULES:
        return [_RULES[name](equation, *values)]
    return _missing(
        equation,
        f"Expected a model of operations that run in a page; got one that needs {name!r}, which "
        "the explorer does not have.",
    )


def _unrolled(equation: Any, values: list[Value]) -> list[Value]:
    """Return the results of a loop over rows, one step after the other."""
    params = equation.params
    body, n_constants, n_carried = params["jaxpr"], params["num_consts"], params["num_carry"]
    constants, carried = values[:n_constants], values[n_constants : n_constants + n_carried]
    rows = values[n_constants + n_carried :]
    made: list[list[Value]] = [[]] * params["length"]
    steps = range(params["length"])
    for i in reversed(steps) if params["reverse"] else steps:
        row = [_taken(_places(each)[i], each) for each in rows]
        found = _evaluated(body, [*constants, *carried, *row])
        carried, made[i] = found[:n_carried], found[n_carried:]
    shapes = [variable.aval.shape for variable in equation.outvars[n_carried:]]
    stacked = zip(shapes, zip(*made, strict=True), strict=True)
    return carried + [_taken(np.arange(math.prod(s)).reshape(s), *each) for s, each in stacked]


def _missing(equation: Any, why: str) -> list[Value]:
    """Return results that a page cannot compute: an error, but only if an output needs them."""
    avals = [variable.aval for variable in equation.outvars]
    return [Node("missing", (), aval.shape, aval.dtype.name, {"why": why}) for aval in avals]


def _broadcast(value: Value, shape: tuple[int, ...]) -> Value:
    """Return a value in a shape, unless it is a single number, which goes with any."""
    own = np.shape(value)
    if own == shape or math.prod(own) == 1:
        return value
    return _taken(np.broadcast_to(_places(value), shape), value)


def _plain(setting: Any) -> int:
    return int(getattr(setting, "value", setting))


def _moved(equation: Any, values: list[Value]) -> list[Value]:
    """Return the results of a primitive that moves numbers, by moving their positions."""
    name = equation.primitive.name
    which = range(len(values)) if name in _JOINS else _MOVES[name]
    sources = [values[i] for i in which]
    operands: list[Any] = list(values)
    start = 0
    for i in which:
        size = math.prod(np.shape(values[i]))
        operands[i] = np.arange(start, start + size, dtype=np.int32).reshape(np.shape(values[i]))
        start += size
    if any(isinstance(operand, Node) for operand in operands):
        return _missing(
            equation,
            f"Expected a model that reads numbers from places known before; got {name!r} at "
            "places that depend on the case.",
        )
    found = equation.primitive.bind(*operands, **equation.params)
    found = list(found) if equation.primitive.multiple_results else [found]
    return [_taken(np.asarray(index), *sources) for index in found]


def _taken(index: np.ndarray, *sources: Value) -> Value:
    """Return the numbers at some positions of sources, which count as one behind the other."""
    sizes = [math.prod(np.shape(source)) for source in sources]
    if index.size and (index.min() < 0 or index.max() >= sum(sizes)):
        raise NotInAPage("Expected a model that reads within its arrays; got one that does not.")
    if not any(isinstance(source, Node) for source in sources):
        return np.concatenate([np.ravel(np.asarray(source)) for source in sources])[index]
    dtype = next(source.dtype for source in sources if isinstance(source, Node))
    if index.size == sizes[0] and np.array_equal(np.ravel(index), np.arange(index.size)):
        return Node("same", (sources[0],), index.shape, dtype)
    return Node("take", sources, index.shape, dtype, {"runs": _runs(index)})


def _runs(index: np.ndarray) -> list[int]:
    """Return positions as runs of an even step: first position, step, length, of each.

    Examples
    --------
    >>> _runs(np.array([4, 5, 6, 0, 0, 9]))
    [4, 1, 3, 0, 0, 2, 9, 0, 1]
    """
    flat = np.ravel(index).astype(int)
    steps = np.diff(flat)
    ends = np.append(np.flatnonzero(np.diff(steps)) + 1, len(flat) - 1)  # where a step changes
    runs: list[int] = []
    at = 0
    while at < len(flat):
        last = at == len(flat) - 1
        end = at if last else int(ends[np.searchsorted(ends, at, side="right")])
        runs += [int(flat[at]), 0 if last else int(steps[at]), end + 1 - at]
        at = end + 1
    return runs


def _places(value: Value, order: Sequence[int] | None = None) -> np.ndarray:
    """Return the positions of a value's numbers when its axes are put in another order."""
    shape = np.shape(value)
    return np.arange(math.prod(shape)).reshape(shape).transpose(order or range(len(shape)))


# Each of the following makes of one primitive an operation on the last axis, or a product.


def _product(equation: Any, left: Value, right: Value) -> Value:
    (inner, inner_right), (batch, batch_right) = equation.params["dimension_numbers"]
    free, free_right = (
        [axis for axis in range(len(np.shape(value))) if axis not in (*some, *others)]
        for value, some, others in ((left, inner, batch), (right, inner_right, batch_right))
    )
    aval = equation.outvars[0].aval
    sizes = {
        "batch": _size(left, batch),
        "rows": _size(left, free),
        "inner": _size(left, inner),
        "columns": _size(right, free_right),
    }
    left = _taken(_places(left, (*batch, *free, *inner)), left)
    right = _taken(_places(right, (*batch_right, *inner_right, *free_right)), right)
    return Node("dot_general", (left, right), aval.shape, aval.dtype.name, sizes)


def _size(value: Value, axes: Sequence[int]) -> int:
    return math.prod(np.shape(value)[axis] for axis in axes)


def _reduced(equation: Any, value: Value) -> Value:
    axes = equation.params["axes"]
    kept = [axis for axis in range(len(value.shape)) if axis not in axes]
    return _over(equation, value, _places(value, (*kept, *axes)), _size(value, axes))


def _over(equation: Any, value: Value, places: np.ndarray, size: int, *fill: Any) -> Value:
    """Reduce numbers at some places, so many at a time."""
    name = equation.primitive.name.replace("window_", "")
    aval = equation.outvars[0].aval
    return Node(name, (_taken(places, value, *fill),), aval.shape, aval.dtype.name, {"inner": size})


def _accumulated(equation: Any, value: Value) -> Value:
    axis, backwards = equation.params["axis"], equation.params["reverse"]
    others = [other for other in range(len(value.shape)) if other != axis]
    places = _places(value, (*others, axis))
    places = places[..., ::-1] if backwards else places
    size, aval = value.shape[axis], equation.outvars[0].aval
    inner = _taken(places, value)
    made = Node(equation.primitive.name, (inner,), places.shape, aval.dtype.name, {"inner": size})
    return _taken(np.argsort(places, axis=None).reshape(value.shape), made)


def _convolution(equation: Any, picture: Value, weight: Value) -> Value:
    """Return a convolution: the windows of the picture, then a matrix product."""
    params = equation.params
    if params["batch_group_count"] != 1:
        raise NotInAPage("Expected convolutions of one group of cases; got several groups.")
    of_picture, of_weight, of_result = params["dimension_numbers"]
    n_axes, groups = len(of_picture) - 2, params["feature_group_count"]
    one, none = (1, 1), ((0, 0), (0, 0))
    windows = _windows(
        _places(picture, of_picture),
        (*one, *(weight.shape[axis] for axis in of_weight[2:])),
        (*one, *params["window_strides"]),
        (*none, *params["padding"]),
        (*one, *params["lhs_dilation"]),
        (*one, *params["rhs_dilation"]),
    )
    n, channels, *sides = windows.shape[: 2 + n_axes]
    window = windows.shape[4 + n_axes :]
    windows = windows.reshape(n, groups, channels // groups, *sides, *window)
    # Groups, cases, places; channels, window.
    order = (1, 0, *range(3, 3 + n_axes), 2, *range(3 + n_axes, 3 + 2 * n_axes))
    left = _taken(windows.transpose(order), picture, np.zeros((), picture.dtype))
    weights = _places(weight, of_weight)
    weights = np.moveaxis(weights.reshape(groups, -1, *weights.shape[1:]), 1, -1)
    right = _taken(weights, weight)
    n_columns = weights.shape[-1]
    sizes = {
        "batch": groups,
        "rows": n * math.prod(sides),
        "inner": weights[0, ..., 0].size,
        "columns": n_columns,
    }
    aval = equation.outvars[0].aval
    shape = (groups, n, *sides, n_columns)
    made = Node("dot_general", (left, right), shape, aval.dtype.name, sizes)
    result = _places(made, (1, 0, len(shape) - 1, *range(2, 2 + n_axes)))
    result = result.reshape(n, groups * n_columns, *sides)
    return _taken(result.transpose(np.argsort(of_result)), made)


def _pooled(equation: Any, picture: Value) -> Value:
    params = equation.params
    windows = _windows(
        _places(picture),
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params["base_dilation"],
        params["window_dilation"],
    )
    low = {"reduce_window_max": -np.inf, "reduce_window_min": np.inf}
    fill = np.asarray(low.get(equation.primitive.name, 0.0), picture.dtype)
    return _over(equation, picture, windows, math.prod(params["window_dimensions"]), fill)


def _windows(
    places: np.ndarray,
    window: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> np.ndarray:
    """Return the positions in each place of a window; behind the last stands what pads."""
    edges = [(low, high, step - 1) for (low, high), step in zip(padding, dilation, strict=True)]
    padded = np.asarray(lax.pad(places.astype(np.int32), np.int32(places.size), edges))
    widths = [(w - 1) * step + 1 for w, step in zip(window, window_dilation, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(padded, widths)
    steps = [slice(None, None, step) for step in (*strides, *window_dilation)]
    return seen[tuple(steps)]


_RULES: dict[str, Callable[..., Value]] = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    **dict.fromkeys(("reduce_sum", "reduce_prod", "reduce_max", "reduce_min"), _reduced),
    **dict.fromkeys(("reduce_and", "reduce_or", "argmax", "argmin"), _reduced),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin"), _accumulated),
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min"), _pooled),
}


# What is written.


def _written(inputs: Sequence[Node], outputs: Sequence[Value], n_bytes: int) -> dict[str, Any]:
    """Write down what the outputs depend on: inputs, constants, operations."""
    operations = sorted(_needed(outputs), key=lambda node: node.serial)
    for node in operations:
        if node.name == "missing":
            raise NotInAPage(node.settings["why"])
    numbers: dict[Any, int] = {id(node): i for i, node in enumerate(inputs)}
    constants: dict[tuple, dict[str, Any]] = {}
    known = [v for v in [*itertools.chain(*(o.of for o in operations)), *outputs] if not _is(v)]
    for value in known:
        array = np.asarray(value)
        key = array.shape, array.dtype.name, array.tobytes()
        if key not in constants:
            numbers[key] = len(inputs) + len(constants)
            constants[key] = _constant(array, n_bytes)
    made: list[dict[str, Any]] = []

    def number(value: Value) -> int:
        if _is(value):
            return numbers[id(value)]
        array = np.asarray(value)
        return numbers[array.shape, array.dtype.name, array.tobytes()]

    for node in operations:
        if node.name == "same":
            numbers[id(node)] = number(node.of[0])
            continue
        numbers[id(node)] = len(inputs) + len(constants) + len(made)
        of = [number(value) for value in node.of]
        made.append({"name": node.name, "of": of, **_form(node), **node.settings})
    return {
        "inputs": [_form(node) for node in inputs],
        "constants": list(constants.values()),
        "operations": made,
        "outputs": [{"at": number(value), "shape": list(np.shape(value))} for value in outputs],
    }


def _is(value: Value) -> bool:
    return isinstance(value, Node)


def _needed(outputs: Sequence[Value]) -> Iterator[Node]:
    """Yield the operations that the outputs depend on, each once."""
    seen: set[int] = set()
    waiting = [*outputs]
    while waiting:
        value = waiting.pop()
        if _is(value) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.of
            if value.name != "input":
                yield value


def _form(value: Node | np.ndarray) -> dict[str, Any]:
    """Return type and size as program.js takes them."""
    name = value.dtype if isinstance(value, Node) else value.dtype.name
    name = _TYPES.get(name, name)
    if name not in _ALLOWED:
        raise NotInAPage(f"Expected a model of real numbers; got one that computes with {name}.")
    return {"dtype": name, "size": math.prod(value.shape)}


def _constant(array: np.ndarray, n_bytes: int) -> dict[str, Any]:
    """Return an array as base64: one number if all are the same, large weights by fewer bytes."""
    form = _form(array)
    array = np.ascontiguousarray(array, form["dtype"])
    if array.ndim > 1 and array.size >= _LARGE and form["dtype"] == "float32":
        rows = array.reshape(-1, array.shape[-1]).astype(np.float64)
        largest = np.abs(rows).max(axis=1, keepdims=True)
        steps = np.where(largest > 0, largest, 1) / (2 ** (8 * n_bytes - 1) - 1)
        if np.isfinite(steps).all():
            codes = np.rint(rows / steps).astype("<i4")[..., None].view("u1")[..., :n_bytes]
            return form | {"data": _text(codes), "steps": _text(steps)}
    flat = array.ravel()
    bits = flat.view(f"u{flat.itemsize}")
    same = flat.size > 1 and np.all(bits == bits[0])
    return form | {"data": _text(flat[:1] if same else flat)}


def _text(array: np.ndarray) -> str:
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii")
