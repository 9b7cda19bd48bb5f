"""Priors p(z) over the latent space."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro.distributions as dist
from equinox import Module, field


class NormalPrior(Module):
    """The standard normal N(0, I) of the paper; it has no parameters.

    Parameters
    ----------
    latent_dim : int
        Number of latent dimensions.
    """

    latent_dim: int = field(static=True)

    def __call__(self) -> dist.Distribution:
        """Return p(z)."""
        return dist.Normal(jnp.zeros(self.latent_dim), jnp.ones(self.latent_dim)).to_event(1)


PRIORS = {"normal": NormalPrior}
