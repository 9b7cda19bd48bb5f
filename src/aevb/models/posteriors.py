"""Recognition models q(z|x): heads that turn an encoder's features into a distribution."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro.distributions as dist
from equinox import Module
from jax import Array

from aevb.models.networks import Linear


class NormalPosterior(Module):
    r"""Diagonal Gaussian, :math:`\mu = W_4 h + b_4,\ \log \sigma^2 = W_5 h + b_5` (appendix C.2).

    Parameters
    ----------
    n_features : int
        Length of the features h.
    latent_dim : int
        Number of latent dimensions.
    key : Array
        JAX random key.
    """

    linear: Linear

    def __init__(self, n_features: int, latent_dim: int, *, key: Array):
        self.linear = Linear(n_features, 2 * latent_dim, key=key)

    def __call__(self, h: Array) -> dist.Distribution:
        """Return q(z|x) for the features of one datum."""
        mean, log_variance = jnp.split(self.linear(h), 2)
        scale = jnp.exp(0.5 * log_variance)
        return dist.Normal(mean, scale, validate_args=False).to_event(1)


POSTERIORS = {"normal": NormalPosterior}
