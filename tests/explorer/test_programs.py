"""What a page computes is what JAX computes: single operations, and whole networks."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from aevb.explorer import NotInAPage, program
from aevb.explorer.programs import ELEMENTWISE, _runs

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


X, Y, M = normal(3, 4), normal(3, 4), normal(4, 5)
POSITIVE = np.abs(X) + np.float32(0.1)
PICTURE = normal(2, 9, 8, 6)
KEY = jax.random.key(0)

# A function and its arguments. Together they need every operation that there is.
FUNCTIONS = {
    "of one number": (
        lambda x: (
            [
                jnp.abs(x),
                jnp.sin(x),
                jnp.cos(x),
                jnp.tan(x),
                jnp.tanh(x),
                jnp.arctan(x),
                jnp.arcsinh(x),
                jnp.sinh(x),
                jnp.cosh(x),
                jnp.cbrt(x),
                jnp.sign(x),
                jnp.square(x),
                jnp.exp(x),
                jnp.exp2(x),
                jnp.expm1(x),
                jax.nn.sigmoid(x),
                -x,
                x**3,
                x ** (-2),
            ]
        ),
        X,
    ),
    "of one positive number": (
        lambda x: [jnp.log(x), jnp.log1p(x), jnp.sqrt(x), lax.rsqrt(x), jnp.arccosh(1 + x)],
        POSITIVE,
    ),
    "of a share": (
        lambda x: [jnp.arcsin(jnp.tanh(x)), jnp.arccos(jnp.tanh(x)), jnp.arctanh(x / 10)],
        X,
    ),
    "error function": (lambda x: [lax.erf(3 * x), lax.erfc(x), lax.erfc(3 * x)], 2 * X),
    "of two numbers": (
        lambda x, y: (
            [
                x + y,
                x - y,
                x * y,
                x / y,
                jnp.maximum(x, y),
                jnp.minimum(x, y),
                lax.rem(x, y),
                jnp.arctan2(x, y),
                jnp.abs(x) ** y,
            ]
        ),
        X,
        Y,
    ),
    "rounded": (
        lambda x: (
            [
                jnp.floor(x),
                jnp.ceil(x),
                jnp.round(x),
                lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
                lax.round(-x),
            ]
        ),
        np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 3.2], np.float32),
    ),
    "chosen": (
        lambda x, y: (
            [
                jnp.where(x > y, x, 0.0),
                lax.clamp(-0.5, x, y),
                jnp.where(x[0, 0] < 9, x, y),
                lax.select_n(jnp.int32(2) + jnp.int32(0 * x[0, 0]), x, y, x + y),
            ]
        ),
        X,
        Y,
    ),
    "compared": (
        lambda x, y: (
            [
                x == y,
                x != y,
                x < y,
                x <= y,
                x > y,
                x >= y,
                ~(x > y),
                jnp.isfinite(x / 0),
                (x > 0) & (y > 0),
                (x > 0) | (y > 0),
                (x > 0) ^ (y > 0),
            ]
        ),
        X,
        np.where(RNG.random((3, 4)) < 0.3, X, Y),
    ),
    "of whole numbers": (
        lambda x, y: (
            [
                x * y,
                x // 3,
                lax.div(x, y),
                lax.rem(x, y),
                ~x,
                x & y,
                x | y,
                x ^ y,
                x << 3,
                x >> 2,
                lax.shift_right_logical(x, jnp.int32(2)),
                x.astype(jnp.float32) / 7,
            ]
        ),
        np.array([7, -7, 123456789, -5], np.int32),
        np.array([2, 3, 987654321, -4], np.int32),
    ),
    "bits": (
        lambda x: lax.bitcast_convert_type(
            lax.bitcast_convert_type(x, jnp.uint32) ^ jnp.uint32(1 << 31), jnp.float32
        ),
        X,
    ),
    "moved": (
        lambda x: (
            [
                x.T,
                x[::-1],
                x[1:, ::2],
                x[:, None],
                jnp.pad(x, ((1, 2), (0, 3))),
                x.ravel(),
                jnp.tile(x, (2, 2)),
                jnp.concatenate([x, 2 * x, x[:1]]),
                x[jnp.array([2, 0, 2])],
                x.at[1].set(0.0),
                jnp.split(x, 2, axis=1),
                jnp.broadcast_to(x[0, 0], (2, 3)),
                jnp.roll(x, 1, axis=0),
                lax.dynamic_slice(x, (1, 1), (2, 2)),
                lax.pad(x, 1.0, ((-1, 0, 0), (0, 1, 2))),
            ]
        ),
        X,
    ),
    "reduced": (
        lambda x: (
            [
                x.sum(),
                x.sum(0),
                x.max(1),
                x.min(0),
                x.prod(1),
                x.argmax(0),
                x.argmin(1),
                (x > 0).all(0),
                (x > 0).any(1),
                jax.nn.logsumexp(x, axis=0),
                jax.nn.softmax(x, axis=1),
            ]
        ),
        X,
    ),
    "accumulated": (
        lambda x: [jnp.cumsum(x, 0), jnp.cumprod(x, 1), lax.cummax(x), lax.cummin(x, reverse=True)],
        X,
    ),
    "products": (
        lambda x, m: (
            [
                x @ m,
                x[0] @ m,
                m.T @ x[1],
                jnp.einsum("ij,kj->ki", x, x),
                jnp.einsum("bij,bjk->bik", jnp.stack([x, 2 * x]), jnp.stack([m, m + 1])),
                jnp.einsum("ib,jb->bij", x, m.T),
                jnp.vdot(x, x),
            ]
        ),
        X,
        M,
    ),
    "convolutions": (
        lambda x, w: (
            [
                lax.conv_general_dilated(x, w, strides, padding, **options)
                for strides, padding, options in [
                    ((1, 1), "SAME", {}),
                    ((2, 3), "VALID", {}),
                    ((1, 2), [(2, -1), (0, 3)], {"lhs_dilation": (2, 3), "rhs_dilation": (2, 1)}),
                ]
            ]
            + [lax.conv_general_dilated(x, w[:, :3], (1, 1), "SAME", feature_group_count=2)]
            + [
                lax.conv_general_dilated(
                    jnp.moveaxis(x, 1, -1),
                    jnp.transpose(w, (2, 3, 1, 0)),
                    (1, 1),
                    "SAME",
                    dimension_numbers=("NHWC", "HWIO", "NHWC"),
                )
            ]
        ),
        np.moveaxis(PICTURE, 3, 1),
        normal(4, 6, 3, 2),
    ),
    "pooled": (
        lambda x: [
            lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 3, 1), (1, 2, 2, 1), "SAME"),
            lax.reduce_window(x, jnp.inf, lax.min, (1, 2, 2, 1), (1, 1, 2, 1), "VALID"),
            lax.reduce_window(x, 0.0, lax.add, (2, 2, 2, 1), (1, 2, 2, 1), "SAME"),
        ],
        PICTURE,
    ),
    "activations": (
        lambda x: [
            *(jax.nn.relu(x), jax.nn.gelu(x), jax.nn.gelu(x, approximate=False), jax.nn.silu(x)),
            *(
                jax.nn.elu(x),
                jax.nn.selu(x),
                jax.nn.mish(x),
                jax.nn.softplus(x),
                jax.nn.leaky_relu(x),
            ),
        ],
        X,
    ),
    "calls": (
        lambda x: [
            jax.jit(jnp.sin)(x),
            jax.checkpoint(jnp.cos)(x),
            lax.platform_dependent(x, cpu=lambda x: 2 * x + 1e-9, default=lambda x: 2 * x),
            lax.cond(True, lambda x: x, lambda x: -x, x),
            x + jax.random.normal(KEY, x.shape),
        ],
        X,
    ),
    "loops": (
        lambda x: [
            lax.scan(
                lambda c, r: (jnp.tanh(c + r), (c * r, 1.0)), jnp.zeros(4), x, reverse=backwards
            )
            for backwards in (False, True)
        ],
        X,
    ),
    "constants": (lambda x: [jnp.full((3, 4), jnp.nan), jnp.zeros(5), x * jnp.ones((3, 4)), x], X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_program_computes_what_jax_computes(node, name):
    function, *arguments = FUNCTIONS[name]
    found = node(program(function, *arguments), *[argument[None] for argument in arguments])
    expected = jax.tree.leaves(function(*map(jnp.asarray, arguments)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one[0].shape == other.shape
        other = np.asarray(other, np.float64)
        largest = np.abs(np.nan_to_num(other)).max()
        np.testing.assert_allclose(one[0], other, rtol=3e-6, atol=3e-6 * largest)


def test_every_function_of_single_numbers_is_in_the_page(node):
    assert set(node(None)) >= ELEMENTWISE


def test_the_functions_above_need_every_operation(node):
    made = [program(function, *arguments) for function, *arguments in FUNCTIONS.values()]
    used = {operation["name"] for each in made for operation in each["operations"]}
    assert used | {"add_any"} == set(node(None))  # add_any is of gradients


def test_runs_give_positions_back():
    for _ in range(200):
        index = RNG.integers(0, 4, size=RNG.integers(1, 12))
        runs = np.reshape(_runs(index), (-1, 3))
        again = [first + step * np.arange(length) for first, step, length in runs]
        np.testing.assert_array_equal(np.concatenate(again), index)


def test_what_does_not_depend_on_the_input_is_computed_before():
    weight = jnp.asarray(normal(20, 30))
    made = program(lambda x: jnp.exp(weight).T @ x, normal(20))
    assert [operation["name"] for operation in made["operations"]] == ["dot_general"]


def test_what_no_output_needs_is_left_out():
    assert program(lambda x: (jnp.sin(x), x + 1)[1], X)["operations"][0]["name"] == "add"


@pytest.mark.parametrize(("n_bytes", "error"), [(2, 3e-4), (3, 3e-6)])
def test_large_weights_take_few_bytes_and_lose_little(node, n_bytes, error):
    weight, x = jnp.asarray(normal(500, 784)), normal(500)
    made = program(lambda x: x @ weight, x, n_bytes=n_bytes)
    assert len(json.dumps(made)) < 1.02 * 500 * 784 * n_bytes * 4 / 3
    (found,) = node(made, x[None])
    exact = np.asarray(x, np.float64) @ np.asarray(weight, np.float64)
    assert np.abs(found[0] - exact).max() < error * exact.std()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (jnp.sort, "needs 'sort'"),
        (lambda x: x[jnp.argmax(x)], "depend on the case"),
        (lambda x: jnp.fft.fft(x), "needs 'fft'|complex"),
        (lambda x: lax.scan(lambda c, _: (c + 1, None), x, length=65)[0], "needs 'scan'"),
        (lambda x: lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x), "needs 'while'"),
    ],
    ids=["sort", "index", "fft", "long loop", "while"],
)
def test_what_is_not_in_a_page_is_named(function, message):
    with pytest.raises(NotInAPage, match=message):
        program(function, X[0])


@pytest.mark.slow
def test_a_network_of_equinox(node):
    class Body(eqx.Module):
        layers: list

        def __call__(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    keys = jax.random.split(KEY, 4)
    body = Body(
        [
            eqx.nn.Conv2d(1, 4, 3, padding=1, key=keys[0]),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.GroupNorm(2, 4),
            eqx.nn.ConvTranspose2d(4, 2, 3, stride=2, key=keys[1]),
            eqx.nn.AvgPool2d(2, 2),
            jnp.ravel,
            eqx.nn.LayerNorm(32),
            eqx.nn.MLP(32, 3, 8, 2, jax.nn.gelu, key=keys[2]),
        ]
    )
    pictures = normal(3, 1, 8, 8)
    (found,) = node(program(body, pictures[0]), pictures)
    expected = np.asarray(jax.vmap(body)(pictures))
    np.testing.assert_allclose(found, expected, atol=2e-5)
