"""The variational auto-encoder as a latent-variable model: encoder, decoder and prior together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax import Array
from numpyro.distributions import Distribution

from aevb.models.base import LatentVariableModel
from aevb.models.likelihoods import Likelihood, Measured
from aevb.models.networks import MLP, output_shape
from aevb.models.posteriors import POSTERIORS
from aevb.models.priors import PRIORS


class Conditional(eqx.Module):
    """A distribution given an input: scaling, then body, then head.

    Parameters
    ----------
    body : callable PyTree
        Turns one input into features.
    head : callable PyTree
        Turns features into a distribution.
    scale : callable PyTree, optional
        Applied to the input first.
    """

    body: Callable
    head: Callable
    scale: Callable | None = None

    def __call__(self, x: Array) -> Distribution:
        """Return the distribution for one input."""
        return self.head(self.body(x if self.scale is None else self.scale(x)))


class AutoEncoder(LatentVariableModel):
    """Variational auto-encoder: p(z), p(x|z) by the decoder, q(z|x) by the encoder (section 3).

    Each part is a callable PyTree that returns a distribution for one datapoint.

    Parameters
    ----------
    encoder : callable
        x -> q(z|x).
    decoder : callable
        z -> p(x|z).
    latent_prior : callable
        () -> p(z).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, aevb
    >>> vae = aevb.VAE(latent_dim=2, epochs=1).fit(jnp.eye(8))
    >>> vae.model_.likelihood(jnp.zeros(2)).mean.shape
    (8,)
    """

    encoder: Callable[[Any], Distribution]
    decoder: Callable[[Any], Distribution]
    latent_prior: Callable[[], Distribution]

    def prior(self, c: Any = None) -> Distribution:
        """Return p(z)."""
        return self.latent_prior()

    def likelihood(self, z: Array, c: Any = None) -> Distribution:
        """Return p(x|z)."""
        return self.decoder(z)

    def posterior(self, x: Any, c: Any = None) -> Distribution:
        """Return q(z|x)."""
        return self.encoder(x)


def build_autoencoder(
    shape: tuple[int, ...],
    latent_dim: int,
    *,
    likelihood: Likelihood,
    measured: Measured,
    dtype: Any,
    prior: str = "normal",
    posterior: str = "normal",
    hidden: tuple[int, ...] = (500,),
    activation: str | Callable = "tanh",
    encoder: Callable | None = None,
    decoder: Callable | None = None,
    key: Array,
) -> AutoEncoder:
    """Put an auto-encoder together for data of a given shape and type.

    Parameters
    ----------
    shape : tuple of int
        Shape of one datum.
    latent_dim : int
        Number of latent dimensions.
    likelihood : Likelihood
        The family p(x|z).
    measured : Measured
        What the likelihood takes from the data, from ``likelihood.measure``.
    dtype : numpy dtype
        Type of the data.
    prior, posterior : str
        Families of p(z) and q(z|x), by name.
    hidden, activation
        Bodies of encoder and decoder (in reverse order), unless given.
    encoder, decoder : callable PyTree, optional
        Bodies to use instead.
    key : Array
        JAX random key.

    Raises
    ------
    ValueError, TypeError
        When the output of a given body does not fit.
    """
    keys = jax.random.split(key, 4)
    if encoder is None:
        encoder = MLP(math.prod(shape), hidden, activation, key=keys[0])
    if decoder is None:
        decoder = MLP(latent_dim, hidden[::-1], activation, key=keys[1])
    features = output_shape(encoder, shape, "encoder")
    if len(features) != 1:
        raise ValueError(
            "Expected one vector of features, of shape (k,), as output of `encoder`; "
            f"got shape {features}. Flatten it in the encoder's last step."
        )
    recognise = POSTERIORS[posterior](features[0], latent_dim, key=keys[2])
    features = output_shape(decoder, (latent_dim,), "decoder")
    if len(features) != 1 and (features != shape or len(shape) == 1):
        direct = f", or an array of the shape of the data, {shape}," if len(shape) > 1 else ""
        raise ValueError(
            f"Expected one vector of features, of shape (k,){direct} as output of `decoder`; "
            f"got shape {features}."
        )
    generate = likelihood.head(features, shape, measured, dtype, key=keys[3])
    return AutoEncoder(
        encoder=Conditional(encoder, recognise, measured.standardise),
        decoder=Conditional(decoder, generate),
        latent_prior=PRIORS[prior](latent_dim),
    )
