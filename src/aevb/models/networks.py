"""Bodies: networks that turn one datum, or one latent, into features."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Num, PyTree, Shaped
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import choose, integer

Elementwise = Callable[[Array], Array]
Activation = str | Elementwise  # a name of `ACTIVATIONS`, or a function
Body = Callable[[Float[Array, "..."]], Float[Array, "..."]]  # of one datum, or of one latent

ACTIVATIONS: dict[str, Elementwise] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda h: h,
}


_MANY = 1024  # inputs


class Linear(eqx.Module):
    """Affine map ``x @ weight.T + bias``; weights uniform within ±√(6 / (in_size + out_size)).

    Compared with ±1/√in_size, the decoder of a few latents starts nearly linear, and bends less to
    the noise of small data; benchmarks/defaults.py measures both. Biases start at zero.

    Optimizers like Adam move all weights by about the same step, which moves the output by as many
    steps as there are inputs. Beyond 1024 inputs the weights are therefore held as multiples of
    1024 / in_size, so that a step moves the output no further than with 1024.

    Parameters
    ----------
    in_size, out_size : int
        Numbers of inputs and outputs.
    key : Array
        JAX random key.

    References
    ----------
    Glorot and Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html; Yang and others
    (2021), https://arxiv.org/abs/2203.03466, table 8, for the multiples
    """

    weight: Float[Array, "out_size in_size"]
    bias: Float[Array, " out_size"]

    def __init__(self, in_size: int, out_size: int, *, key: Key):
        limit = math.sqrt(6 / (in_size + out_size))
        weight = jax.random.uniform(key, (out_size, in_size), minval=-limit, maxval=limit)
        self.weight = weight / _unit(in_size)
        self.bias = jnp.zeros(out_size)

    def __call__(self, x: Num[Array, "*batch in_size"]) -> Float[Array, "*batch out_size"]:
        """Map one vector."""
        # In this order, batch axes come out in front.
        return x @ self.weight.T * _unit(self.weight.shape[1]) + self.bias


def applied_weights(model: PyTree) -> PyTree:
    """Return a model whose layers hold the weights themselves, not multiples of them."""

    def of(node: PyTree) -> PyTree:
        if not isinstance(node, Linear):
            return node
        weight = node.weight * _unit(node.weight.shape[1])
        return eqx.tree_at(lambda layer: layer.weight, node, weight)

    return jax.tree.map(of, model, is_leaf=lambda node: isinstance(node, Linear))


def _unit(in_size: int) -> float:
    """Return what the weights of so many inputs are multiples of."""
    return min(1.0, _MANY / in_size) if in_size else 1.0


class MLP(eqx.Module):
    """Fully connected body: affine maps, each followed by the activation.

    Parameters
    ----------
    in_size : int
        Length of the (flattened) input.
    hidden : sequence of int
        Units of each layer; with none, the body only flattens.
    activation : str or callable
        A name of `ACTIVATIONS` or an elementwise function.
    key : Array
        JAX random key.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> body = MLP(784, (500, 300), "relu", key=jax.random.key(0))
    >>> body(jnp.zeros((28, 28))).shape
    (300,)
    """

    layers: tuple[Linear, ...]
    activation: Activation = eqx.field(static=True)  # a name stays a name: it pickles

    def __init__(self, in_size: int, hidden: Sequence[int], activation: Activation, *, key: Key):
        sizes = (in_size, *hidden)
        keys = jax.random.split(key, max(len(hidden), 1))
        self.layers = tuple(
            Linear(a, b, key=k) for a, b, k in zip(sizes[:-1], sizes[1:], keys, strict=False)
        )
        self.activation = activation

    def __call__(self, x: Shaped[Array | np.ndarray, "*shape"]) -> Float[Array, " n_features"]:
        """Turn one datum into features."""
        activate = activation_function(self.activation)
        h: Any = jnp.ravel(x)
        for layer in self.layers:
            h = activate(layer(h))
        return h


def activation_function(activation: Activation) -> Elementwise:
    """Return the elementwise function that a name stands for, or the function itself."""
    if callable(activation):
        return activation
    return choose(activation, ACTIVATIONS, "activation", " or a function")


def layer_sizes(hidden: Any) -> tuple[int, ...]:
    """Return the units of the hidden layers from an integer or a sequence of them."""
    sizes: Any = (hidden,) if isinstance(hidden, numbers.Integral) else hidden
    if not isinstance(sizes, Sequence | np.ndarray) or isinstance(sizes, str):
        raise TypeError(
            f"Expected 'auto', an integer or a sequence of them for `hidden`; got {hidden!r}."
        )
    return tuple(integer(units, "hidden", minimum=1) for units in sizes)


def output_shape(body: Any, input_shape: tuple[int, ...], parameter: str) -> tuple[int, ...]:
    """Find the shape that `body` gives for one input, without computing anything.

    Raises
    ------
    TypeError, ValueError
        When `body` is not callable, fails on one float32 input of `input_shape`, or returns
        anything but one floating array.
    """
    if not callable(body):
        raise TypeError(
            f"Expected a callable PyTree (an Equinox or a Flax NNX module, say) for "
            f"`{parameter}`; got {type(body).__name__}."
        )
    batch = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    what = f"a stateless map of one float32 array of shape {input_shape} (no batch axis)"
    try:
        out = eqx.filter_eval_shape(lambda body, batch: jax.vmap(body)(batch), body, batch)
    except Exception as error:  # whatever a user's module raises is the user's to read
        raise ValueError(
            f"Expected {what} for `{parameter}`; got {type(error).__name__}: {error}\n"
            "Layers with state or randomness (batch normalisation, dropout) cannot be used: "
            "put them into inference mode or leave them out."
        ) from error
    if not isinstance(out, jax.ShapeDtypeStruct) or not jnp.issubdtype(out.dtype, jnp.floating):
        got = jax.tree.map(_without_batch, out)
        raise ValueError(f"Expected {what} to one floating array for `{parameter}`; got {got}.")
    return out.shape[1:]


def _without_batch(leaf: PyTree) -> PyTree:
    is_array = isinstance(leaf, jax.ShapeDtypeStruct)
    return f"{leaf.dtype.name}{list(leaf.shape[1:])}" if is_array else leaf
