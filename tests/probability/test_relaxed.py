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


def test_divergence_from_itself_is_zero_and_gradients_pass_the_draws():
    def kl(logits):
        q, p = (ExpRelaxedOneHotCategorical(0.5, each) for each in (logits, LOGITS))
        draws = q.sample(jax.random.key(1), (50_000,))
        return jnp.mean(q.log_prob(draws) - p.log_prob(draws))

    np.testing.assert_allclose(kl(LOGITS), 0.0, atol=1e-12)
    gradient = jax.grad(kl)(LOGITS)  # zero in expectation, at the minimum
    np.testing.assert_allclose(gradient, 0.0, atol=0.02)
    assert kl(LOGITS + jnp.array([1.0, 0.0])) > 0.05


def test_batches_and_one_temperature_for_each():
    choice = ExpRelaxedOneHotCategorical(jnp.array([0.5, 1.0]), jnp.zeros((4, 2, 3)))
    assert (choice.batch_shape, choice.event_shape) == ((4, 2), (3,))
    draws = choice.sample(jax.random.key(0), (5,))
    assert draws.shape == (5, 4, 2, 3)
    assert choice.log_prob(draws).shape == (5, 4, 2)
