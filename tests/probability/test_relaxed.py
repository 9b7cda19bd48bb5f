"""The relaxed one-hot vector: its density, its draws, and its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from aevb.probability import ExpRelaxedOneHotCategorical

pytestmark = pytest.mark.usefixtures("x64")

LOGITS = jnp.array([0.3, -0.5])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_density_integrates_to_one(temperature):
    # For K = 2, with p the first entry of exp(y): dp = p dy₁, and the density of the relaxed vector
    # is that of its logarithm divided by the product of the entries.
    choice = ExpRelaxedOneHotCategorical(temperature, LOGITS)

    def density(logit):
        y = jax.nn.log_softmax(jnp.array([logit, 0.0]))
        return float(jnp.exp(choice.log_prob(y)))  # dp = p (1 - p) d logit

    assert abs(quad(density, -60, 60, points=[0.0])[0] - 1) < 1e-6


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_most_likely_entry_is_a_draw_of_the_categorical(temperature):
    # The argmax of Gumbel noise plus logits does not depend on the temperature.
    choice = ExpRelaxedOneHotCategorical(temperature, jnp.array([0.3, -0.5, 1.0]))
    draws = choice.sample(jax.random.key(0), (20_000,))
    np.testing.assert_allclose(jax.nn.logsumexp(draws, -1), 0.0, atol=1e-12)
    shares = np.bincount(draws.argmax(-1)) / len(draws)
    np.testing.assert_allclose(shares, jax.nn.softmax(choice.logits), atol=4 * 0.5 / 20_000**0.5)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_draws_carry_the_gradient_of_the_divergence(temperature):
    # Off the minimum, where the path through the draws is all of the gradient: the score of q
    # averages to zero. The truth is a quadrature of the density, which no draw takes part in.
    p = ExpRelaxedOneHotCategorical(temperature, LOGITS)
    start, direction = LOGITS + jnp.array([1.0, -0.5]), jnp.array([1.0, 0.0])

    def log_ratio(logits, y):
        return ExpRelaxedOneHotCategorical(temperature, logits).log_prob(y) - p.log_prob(y)

    def exact(logits):
        q = ExpRelaxedOneHotCategorical(temperature, logits)
        grid = jnp.linspace(-60, 60, 40_001)
        y = jax.nn.log_softmax(jnp.stack([grid, jnp.zeros_like(grid)], -1))
        return jnp.trapezoid(jnp.exp(q.log_prob(y)) * log_ratio(logits, y), grid)

    def by_draws(logits):
        q = ExpRelaxedOneHotCategorical(temperature, logits)
        return log_ratio(logits, q.sample(jax.random.key(1), (50_000,)))

    values, slopes = jax.jvp(by_draws, (start,), (direction,))
    step = 1e-4 * direction
    slope = (exact(start + step) - exact(start - step)) / 2e-4
    assert slope > 0.1
    for found, expected in ((values, exact(start)), (slopes, slope)):
        assert abs(found.mean() - expected) < 4 * found.std() / 50_000**0.5


def test_batches_and_one_temperature_for_each():
    choice = ExpRelaxedOneHotCategorical(jnp.array([0.5, 1.0]), jnp.zeros((4, 2, 3)))
    assert (choice.batch_shape, choice.event_shape) == ((4, 2), (3,))
    draws = choice.sample(jax.random.key(0), (5,))
    assert draws.shape == (5, 4, 2, 3)
    assert choice.log_prob(draws).shape == (5, 4, 2)
