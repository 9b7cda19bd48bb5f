"""Data of several kinds, with holes: a block for each kind, and the loop as it is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aevb
from aevb import predict
from aevb.models.autoencoder import build_autoencoder
from aevb.models.kinds.case import Case, CaseBlock
from aevb.schema import Schema

rng = np.random.default_rng(0)
N = 300
LATENT = rng.normal(size=(N, 1))
REAL = (LATENT @ [[2.0, -1.0, 0.5]] * [1, 10, 100] + rng.normal(size=(N, 3))).astype(np.float32)
BITS = rng.random((N, 4)) < 1 / (1 + np.exp(-3 * LATENT))
BLOCK = CaseBlock(
    {"real": Schema.fit(REAL).block, "bits": Schema.fit(BITS.astype(np.float32)).block}
)
CASES = Case({"real": REAL, "bits": BITS.astype(np.float32)})
OBSERVED = {name: rng.random(block.shape) < 0.7 for name, block in CASES.blocks.items()}


def row(i, tree):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.fixture(scope="module")
def model():
    build = eqx.filter_jit(build_autoencoder)
    return build(BLOCK, 2, hidden=(8,), key=jax.random.key(0))


def test_density_is_the_sum_over_the_blocks(model):
    z, case = jnp.array([0.3, -0.4]), row(5, CASES)
    p = model.likelihood(z)
    total = sum(p.parts[name].log_prob(case.blocks[name]) for name in ("real", "bits"))
    np.testing.assert_allclose(p.log_prob(case), total, rtol=1e-6)
    everything = Case(
        case.blocks, {name: np.full(b.shape, True) for name, b in case.blocks.items()}
    )
    np.testing.assert_allclose(p.log_prob(everything), total, rtol=1e-6)


def test_what_is_missing_is_not_looked_at(model):
    z, case = jnp.array([0.3, -0.4]), row(5, Case(CASES.blocks, OBSERVED))
    other = {name: np.where(case.observed[name], b, 9.0) for name, b in case.blocks.items()}
    assert any((other[name] != b).any() for name, b in case.blocks.items())
    other = Case(other, case.observed)
    p = model.likelihood(z)
    np.testing.assert_array_equal(p.log_prob(case), p.log_prob(other))
    np.testing.assert_array_equal(model.posterior(case).mean, model.posterior(other).mean)
    # One entry less takes just its own term away.
    fewer = jax.tree.map(np.copy, case.observed)
    (column,) = np.flatnonzero(fewer["real"])[:1]
    fewer["real"][column] = False
    alone = p.parts["real"].log_prob_of_entries(case.blocks["real"])[column]
    gone = p.log_prob(case) - p.log_prob(Case(case.blocks, fewer))
    np.testing.assert_allclose(gone, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.quick(1)
@pytest.mark.parametrize("observed", [None, OBSERVED], ids=["whole", "with holes"])
def test_training_and_predictions_need_nothing_new(model, observed):
    data = Case(CASES.blocks, observed)
    result = aevb.train(model, data, epochs=40, verbose=False)
    assert result.history["elbo"][-1] > result.history["elbo"][0] + 1
    trained, key = result.model, jax.random.key(0)
    bounds = predict.elbo(trained, data, key, n_draws=200)
    assert (bounds <= predict.log_likelihood(trained, data, key, n_draws=2000) + 0.1).mean() > 0.9
    back = predict.reconstruct(trained, data)
    error = np.mean((back.blocks["real"] - REAL) ** 2, axis=0) / REAL.var(axis=0)
    assert (error[1:] < 0.9).all()
    drawn = predict.sample(trained, 50, key)
    assert set(np.unique(drawn.blocks["bits"])) <= {0.0, 1.0}
    assert drawn.blocks["real"].shape == (50, 3)
