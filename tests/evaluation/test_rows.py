"""A row's number does not depend on its neighbours, its position, or the company it came in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aevb.evaluation.rows import map_rows, row_key

X = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(size=(40, 7)).astype(np.float32)


def noisy_score(weight, x, key):
    """A matrix product and a draw: what a row's score is made of."""
    key = row_key(key, x)
    return {"score": jnp.sum(jnp.tanh(weight @ x)) + jax.random.normal(key), "row": x}


def scores(X, block=16):
    return map_rows(noisy_score, WEIGHT, X, block, jax.random.key(0))["score"]


SELECTIONS = {
    "each alone": [[i] for i in (0, 17, 49)],
    "a part": [range(10, 30)],
    "reversed": [range(49, -1, -1)],
    "every third": [range(0, 50, 3)],
    "repeated": [[3, 3, 3]],
    "exactly a block": [range(16)],
    "one more than a block": [range(17)],
}


@pytest.mark.parametrize("selections", SELECTIONS.values(), ids=list(SELECTIONS))
def test_a_row_scores_the_same_in_every_company(selections):
    whole = scores(X)
    for rows in map(list, selections):
        np.testing.assert_array_equal(scores(X[rows]), whole[rows])


def test_results_come_in_the_order_of_the_rows():
    result = map_rows(noisy_score, WEIGHT, X, 16, jax.random.key(0))
    np.testing.assert_array_equal(result["row"], X)
    assert result["score"].shape == (50,)


def test_rows_may_be_pytrees():
    data = {"a": X, "b": np.arange(50)}
    total = map_rows(lambda scale, row: scale * (row["a"].sum() + row["b"]), 2.0, data, 16)
    np.testing.assert_allclose(total, 2 * (X.sum(axis=1) + np.arange(50)), rtol=1e-5)


def keys_of(rows):
    keys = jax.jit(jax.vmap(lambda row: row_key(jax.random.key(0), row)))(rows)
    return np.asarray(jax.random.key_data(keys))


def test_different_rows_have_different_keys():
    rng = np.random.default_rng(0)
    binary = np.unique(rng.integers(0, 2, (5000, 64)).astype(np.uint8), axis=0)
    assert len(np.unique(keys_of(binary), axis=0)) == len(binary)
    one_bit = np.eye(200, dtype=np.uint8)
    assert len(np.unique(keys_of(one_bit), axis=0)) == 200
    permuted = np.array([rng.permutation(30) for _ in range(1000)])
    assert len(np.unique(keys_of(permuted), axis=0)) == 1000


def test_the_same_values_in_another_type_have_the_same_key():
    bits = np.random.default_rng(0).integers(0, 2, (20, 9)).astype(np.uint8)
    for dtype in (np.float32, np.int32, np.bool_):
        np.testing.assert_array_equal(keys_of(bits), keys_of(bits.astype(dtype)))


def test_the_key_depends_on_the_seed():
    one, other = (row_key(jax.random.key(seed), X[0]) for seed in (0, 1))
    assert one != other
