"""Convolutional bodies for pictures of any size: they halve it, and double it, a few times."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Num, Shaped
from jaxtyping import PRNGKeyArray as Key

from aevb.models.networks import Activation, Linear, activation_function


class Convolution(eqx.Module):
    """Convolution of a picture with its edges padded by zeros; its weights begin as a `Linear`'s.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of what it reads and of what it returns.
    width : int
        Height and width of the window.
    stride : int
        Step from one place of the window to the next: height and width are divided by it, and
        rounded up.
    key : Array
        JAX random key.
    """

    weight: Float[Array, "width width in_channels out_channels"]
    bias: Float[Array, " out_channels"]
    stride: int = eqx.field(static=True)

    def __init__(
        self, in_channels: int, out_channels: int, width: int = 3, *, stride: int = 1, key: Key
    ):
        limit = math.sqrt(6 / (width**2 * (in_channels + out_channels)))
        shape = (width, width, in_channels, out_channels)
        self.weight = jax.random.uniform(key, shape, minval=-limit, maxval=limit)
        self.bias = jnp.zeros(out_channels)
        self.stride = stride

    def __call__(self, x: Float[Array, "h w in_channels"]) -> Float[Array, "h2 w2 out_channels"]:
        """Convolve one picture."""
        convolved = lax.platform_dependent(
            x,
            self.weight,
            cpu=partial(_on_processor, stride=self.stride),
            default=partial(_by_convolution, stride=self.stride),
        )
        return convolved + self.bias

    def of_doubled(
        self, x: Float[Array, "h w in_channels"], size: tuple[int, int]
    ) -> Float[Array, "h2 w2 out_channels"]:
        """Convolve what a picture is when doubled and cut to a size; for few channels to return.

        The products with the window are those of the picture before, a quarter as many.
        """
        width, _, in_channels, out_channels = self.weight.shape
        (height, n_columns), edges = size, _padding(1, width, 1)
        products = x @ jnp.moveaxis(self.weight, 2, 0).reshape(in_channels, -1)
        products = _doubled(products, size).reshape(*size, width, width, out_channels)
        products = jnp.pad(products, (edges, edges, (0, 0), (0, 0), (0, 0)))
        places = itertools.product(range(width), repeat=2)
        each = [products[i : i + height, j : j + n_columns, i, j] for i, j in places]
        return sum(each[1:], each[0]) + self.bias


def _by_convolution(x: Array, weight: Array, stride: int) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    strides = (stride, stride)
    return lax.conv_general_dilated(x[None], weight, strides, "SAME", dimension_numbers=layout)[0]


def _on_processor(x: Array, weight: Array, stride: int) -> Array:
    """Convolve by XLA, but leave it no gradient; where windows skip places, by products alone.

    On processors, the gradients of XLA's convolutions are up to fifteen times slower within a loop
    (https://github.com/jax-ml/jax/issues/12868), and training is one.
    """
    if stride > 1 or len(weight) == 1 or len(weight) % 2 == 0:
        return _by_products(x, weight, stride)
    convolved = _moved_by_picture(x, lax.stop_gradient(weight))
    return _moved_by_weight(convolved, lax.stop_gradient(x), weight)


@jax.custom_vjp
def _moved_by_picture(x: Array, weight: Array) -> Array:
    """Convolve; the gradient of the picture is a convolution, too, by the turned window."""
    return _by_convolution(x, weight, 1)


def _forward(x: Array, weight: Array) -> tuple[Array, Array]:
    return _by_convolution(x, weight, 1), weight


def _backward(weight: Array, gradient: Array) -> tuple[Array, None]:
    return _by_convolution(gradient, jnp.swapaxes(weight[::-1, ::-1], 2, 3), 1), None


_moved_by_picture.defvjp(_forward, _backward)


@jax.custom_jvp
def _moved_by_weight(convolved: Array, x: Array, weight: Array) -> Array:
    """Return `convolved`, with the gradient of the weight by one matrix product."""
    return convolved


@_moved_by_weight.defjvp
def _by_one_product(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (convolved, x, weight), (moved, _, step) = primals, tangents
    (height, n_columns, _), width = x.shape, len(weight)
    edges = width // 2, width // 2
    x = jnp.pad(x, ((0, 0), edges, (0, 0)))
    beside = jnp.concatenate([x[:, j : j + n_columns] for j in range(width)], axis=-1)
    kernel = jnp.transpose(step, (1, 2, 0, 3)).reshape(beside.shape[-1], -1)
    rows = (beside @ kernel).reshape(height, n_columns, width, -1)
    rows = jnp.pad(rows, (edges, (0, 0), (0, 0), (0, 0)))
    return convolved, sum((rows[i : i + height, :, i] for i in range(width)), moved)


def _by_products(x: Array, weight: Array, stride: int) -> Array:
    """Convolve by one matrix product for each row of the window."""
    width = len(weight)
    paddings = [_padding(side, width, stride) for side in x.shape[:2]]
    n_rows, n_columns = (-(-side // stride) for side in x.shape[:2])
    x = jnp.pad(x, (*paddings, (0, 0)))
    shifted = [x[:, j : j + (n_columns - 1) * stride + 1 : stride] for j in range(width)]
    beside = jnp.concatenate(shifted, axis=-1)
    kernels = weight.reshape(width, -1, weight.shape[-1])
    products = [
        beside[i : i + (n_rows - 1) * stride + 1 : stride] @ kernels[i] for i in range(width)
    ]
    return sum(products[1:], products[0])


def _padding(side: int, width: int, stride: int) -> tuple[int, int]:
    """Return how many zeros stand before and after a side: XLA's "SAME"."""
    total = max((-(-side // stride) - 1) * stride + width - side, 0)
    return total // 2, total - total // 2


class Residual(eqx.Module):
    """``x + second(a(first(a(x))))``, with the second convolution beginning at zero.

    References
    ----------
    He and others (2016), https://arxiv.org/abs/1603.05027; Zhang, Dauphin and Ma (2019),
    https://arxiv.org/abs/1901.09321, for a start at the identity in the place of normalisation
    """

    first: Convolution
    second: Convolution
    activation: Activation = eqx.field(static=True)

    def __init__(self, channels: int, activation: Activation, *, key: Key):
        one, two = jax.random.split(key)
        self.first = Convolution(channels, channels, key=one)
        second = Convolution(channels, channels, key=two)
        self.second = eqx.tree_at(lambda at: at.weight, second, jnp.zeros_like(second.weight))
        self.activation = activation

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        """Map one picture to one of the same shape."""
        activate = activation_function(self.activation)
        return x + self.second(activate(self.first(activate(x))))


class ConvEncoder(eqx.Module):
    """From a picture to a vector: each stage halves it, and adds what a residual block finds.

    Parameters
    ----------
    shape : tuple of int
        Height and width of a picture, and its channels if it has any.
    n_read : int
        Numbers that are read of one case: the picture, once or several times (which pixels are
        observed comes as a second one), and what stands behind, such as a condition.
    channels : sequence of int
        Of each stage.
    hidden : sequence of int
        Units of fully connected layers after them.
    activation : str or callable
        Elementwise function.
    key : Array
        JAX random key.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> body = ConvEncoder((28, 28), 784, (32, 64), (), "gelu", key=jax.random.key(0))
    >>> body(jnp.zeros((28, 28))).shape  # 7 x 7 places of 64 channels
    (3136,)
    """

    stages: tuple[tuple[Convolution, Residual], ...]
    layers: tuple[Linear, ...]
    shape: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        n_read: int,
        channels: Sequence[int],
        hidden: Sequence[int],
        activation: Activation,
        *,
        key: Key,
    ):
        self.shape, self.activation = (*shape, 1)[:3], activation
        n_planes, n_beside = divmod(n_read, math.prod(shape))
        keys = iter(jax.random.split(key, 2 * len(channels) + len(hidden)))
        widths = (n_planes * self.shape[2], *channels)
        self.stages = tuple(
            (Convolution(a, b, stride=2, key=next(keys)), Residual(b, activation, key=next(keys)))
            for a, b in itertools.pairwise(widths)
        )
        last = math.prod(sizes(shape, len(channels))[-1]) * channels[-1] + n_beside
        self.layers = tuple(
            Linear(a, b, key=next(keys)) for a, b in itertools.pairwise((last, *hidden))
        )

    def __call__(self, x: Shaped[Array | np.ndarray, "*shape"]) -> Float[Array, " n_features"]:
        """Turn one case into features."""
        activate = activation_function(self.activation)
        flat = jnp.asarray(jnp.ravel(x), jnp.float32)
        size = math.prod(self.shape)
        n_planes = len(flat) // size
        planes, beside = flat[: n_planes * size], flat[n_planes * size :]
        h = jnp.concatenate(list(planes.reshape(n_planes, *self.shape)), axis=-1)
        for halve, residual in self.stages:
            h = residual(halve(h))
        h = jnp.concatenate([jnp.ravel(activate(h)), beside])
        for layer in self.layers:
            h = activate(layer(h))
        return h


class ConvDecoder(eqx.Module):
    """From a vector to a picture: the stages of `ConvEncoder` in reverse; it begins at its bias.

    Parameters
    ----------
    n_read : int
        Length of the vector.
    shape, channels, activation, key
        As those of the encoder.
    hidden : sequence of int
        Units of the fully connected layers before the stages.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> body = ConvDecoder(20, (28, 28), (32, 64), (), "gelu", key=jax.random.key(0))
    >>> body(jnp.zeros(20)).shape
    (28, 28)
    """

    layers: tuple[Linear, ...]
    stages: tuple[tuple[Residual, Convolution], ...]
    last: Convolution
    bias: Float[Array, " size"]  # of each pixel and channel
    shape: tuple[int, ...] = eqx.field(static=True)
    sizes: tuple[tuple[int, int], ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        n_read: int,
        shape: tuple[int, ...],
        channels: Sequence[int],
        hidden: Sequence[int],
        activation: Activation,
        *,
        key: Key,
    ):
        self.shape, self.activation = shape, activation
        self.sizes = sizes(shape, len(channels))
        keys = iter(jax.random.split(key, 2 * len(channels) + len(hidden) + 2))
        first = math.prod(self.sizes[-1]) * channels[-1]
        units = (n_read, *hidden, first)
        self.layers = tuple(Linear(a, b, key=next(keys)) for a, b in itertools.pairwise(units))
        widths = (*channels[::-1], channels[0])
        self.stages = tuple(
            (Residual(a, activation, key=next(keys)), Convolution(a, b, 1, key=next(keys)))
            for a, b in itertools.pairwise(widths)
        )
        last = Convolution(channels[0], (*shape, 1)[2], key=next(keys))
        self.last = eqx.tree_at(lambda at: at.weight, last, jnp.zeros_like(last.weight))
        self.bias = jnp.zeros(math.prod(shape))

    def __call__(self, z: Num[Array | np.ndarray, " n_read"]) -> Float[Array, "*shape"]:
        """Turn one vector into a picture."""
        activate = activation_function(self.activation)
        *hidden, first = self.layers
        h = jnp.asarray(z)
        for layer in hidden:
            h = activate(layer(h))
        h = first(h).reshape(*self.sizes[-1], -1)
        for (residual, mix), size in zip(self.stages, self.sizes[:0:-1], strict=True):
            h = mix(residual(_doubled(h, size)))
        h = self.last.of_doubled(activate(h), self.sizes[0])
        return (jnp.ravel(h) + self.bias).reshape(self.shape)


def _doubled(h: Float[Array, "h w c"], size: tuple[int, int]) -> Float[Array, "h2 w2 c"]:
    """Double a picture, each pixel to the nearest, and cut it; or leave it, if it has the size."""
    height, width, channels = h.shape
    if (height, width) == size:
        return h
    h = jnp.broadcast_to(h[:, None, :, None], (height, 2, width, 2, channels))
    return h.reshape(2 * height, 2 * width, channels)[: size[0], : size[1]]


def sizes(shape: tuple[int, ...], n_stages: int) -> tuple[tuple[int, int], ...]:
    """Return height and width before the first stage and after each.

    Examples
    --------
    >>> sizes((28, 21, 1), 3)
    ((28, 21), (14, 11), (7, 6), (4, 3))
    """
    found = [(shape[0], shape[1])]
    for _ in range(n_stages):
        height, width = found[-1]
        found.append((-(-height // 2), -(-width // 2)))
    return tuple(found)
