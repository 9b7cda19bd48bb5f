"""Complex parameters are trained as the pairs of real numbers that they are."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import LatentVariableModel

ROTATION = 0.6 - 1.1j
X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)


def turned(weight, z):
    product = weight * (z[0] + 1j * z[1])
    return jnp.stack([jnp.real(product), jnp.imag(product)])


class Complex(LatentVariableModel):
    """z ~ N(0, I) in the plane, turned and stretched by a complex number."""

    weight: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(turned(self.weight, z), 0.5).to_event(1)

    def posterior(self, x):
        return dist.Normal(turned(jnp.conj(self.weight), x) / 2, 0.7).to_event(1)


class Pair(LatentVariableModel):
    """The same model, by real and imaginary part."""

    parts: jax.Array

    @property
    def whole(self):
        return Complex(self.parts[0] + 1j * self.parts[1])

    def prior(self):
        return self.whole.prior()

    def likelihood(self, z):
        return self.whole.likelihood(z)

    def posterior(self, x):
        return self.whole.posterior(x)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    "optimizer", ["sgd", "adam", "adamax", "adagrad", "rmsprop", "lion", "schedule_free_adamw"]
)
def test_training_moves_both_parts_as_it_moves_two_real_numbers(optimizer):
    options = {"optimizer": optimizer, "epochs": 3, "batch_size": 10, "key": 1}
    options["learning_rate"] = 0.03
    one = aevb.train(Complex(jnp.asarray(ROTATION, jnp.complex64)), X, **options)
    other = aevb.train(Pair(jnp.array([ROTATION.real, ROTATION.imag])), X, **options)
    weight = np.asarray(one.model.weight)
    np.testing.assert_allclose([weight.real, weight.imag], other.model.parts, rtol=1e-5)
    np.testing.assert_allclose(one.history["elbo"], other.history["elbo"], rtol=1e-5)
    assert abs(weight.imag - ROTATION.imag) > 0.01  # it has moved


def test_the_bound_rises_in_the_imaginary_direction():
    model = Complex(jnp.asarray(0.1 + 3.0j, jnp.complex64))
    history = aevb.train(model, X, optimizer="sgd", learning_rate=0.01, epochs=20).history
    assert history["elbo"][-1] > history["elbo"][0] + 1
