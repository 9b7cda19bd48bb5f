"""Expectations by quadrature, for distributions of one number."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from numpyro.distributions import biject_to, constraints


class Quadrature:
    """Points of a distribution's support, and their probabilities by its ``log_prob`` alone.

    The trapezoidal rule after a map of the whole line to the support, which reaches far into
    heavy tails. Meant for 64-bit numbers.
    """

    points: Array
    probabilities: Array

    def __init__(self, d: dist.Distribution):
        t = jnp.linspace(-45.0, 45.0, 40_001)
        if d.support is constraints.real:
            self.points, slope = jnp.sinh(t), jnp.cosh(t)
        else:
            transform = biject_to(d.support)
            self.points = transform(t)
            slope = jnp.exp(transform.log_abs_det_jacobian(t, self.points))
        self.log_density = d.log_prob(self.points)
        self.probabilities = jnp.exp(self.log_density) * slope * (t[1] - t[0])

    @property
    def total(self) -> Array:
        return jnp.sum(self.probabilities)

    def expectation(self, values: Array) -> Array:
        """Return the mean of a function, given by its values at the points."""
        return jnp.sum(jnp.where(self.probabilities > 0, self.probabilities * values, 0.0))

    @property
    def mean(self) -> Array:
        return self.expectation(self.points)

    @property
    def variance(self) -> Array:
        return self.expectation((self.points - self.mean) ** 2)

    @property
    def entropy(self) -> Array:
        return self.expectation(-self.log_density)

    def cdf(self, values: np.ndarray) -> np.ndarray:
        """Return the probability below each of some values."""
        probabilities = np.asarray(self.probabilities)
        below = np.cumsum(probabilities) - probabilities / 2
        return np.interp(values, np.asarray(self.points), below)


@pytest.fixture(scope="session")
def quadrature() -> type[Quadrature]:
    """Expectations under a distribution of one number, by its ``log_prob`` alone."""
    return Quadrature
