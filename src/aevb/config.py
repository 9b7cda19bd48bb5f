"""What a model was built with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aevb.errors import choose
from aevb.models.architectures import Architecture, make_architecture
from aevb.models.networks import Activation, Body, layer_sizes
from aevb.models.posteriors import GaussianPosterior, Posterior, make_posterior
from aevb.models.priors import Fixed, Prior, make_prior


def hidden_layers(hidden: Any, architecture: Architecture, n_cases: int) -> tuple[int, ...]:
    """Return the units of the layers that a user's `hidden` stands for, of a fit to some cases."""
    automatic = isinstance(hidden, str) and hidden == "auto"  # an array has no single answer
    return architecture.auto_hidden(n_cases) if automatic else layer_sizes(hidden)


@dataclass(frozen=True, eq=False)
class Config:
    """What a model was built with: the estimator's own copy, out of reach of its parameters.

    Attributes
    ----------
    latent_dim, prior, posterior, architecture, hidden, activation, encoder, decoder
        As the parameters of `VAE` of the same names, with names turned into what they stand for.
    init, random_state
        Likewise; `init` is what it was in the end.
    """

    latent_dim: int
    prior: Prior
    posterior: Posterior
    architecture: Architecture
    hidden: tuple[int, ...]
    activation: Activation
    encoder: Body | None
    decoder: Body | None
    init: str
    random_state: int | np.random.RandomState | None

    @classmethod
    def of(cls, vae: Any, n_cases: int) -> Config:
        """Copy what an estimator's parameters say now, of a fit to so many cases."""
        architecture = make_architecture(vae.architecture)
        return cls(
            latent_dim=int(vae.latent_dim),  # a NumPy integer would be traced
            prior=make_prior(vae.prior),
            posterior=make_posterior(vae.posterior),
            architecture=architecture,
            hidden=hidden_layers(vae.hidden, architecture, n_cases),
            activation=vae.activation,
            encoder=vae.encoder,
            decoder=vae.decoder,
            init=choose(vae.init, {"linear": "linear", "random": "random"}, "init"),
            random_state=vae.random_state,
        )

    @property
    def starts_linear(self) -> bool:
        """Whether its parts can begin at the linear model."""
        own = self.encoder is not None or self.decoder is not None
        return (
            self.init == "linear"
            and isinstance(self.posterior, GaussianPosterior)
            and not own
            and not isinstance(self.prior, Fixed)
        )

    def parts(self) -> dict[str, Any]:
        """Return what `build_autoencoder` takes of it."""
        others = {"init", "random_state"}
        parts = {name: value for name, value in vars(self).items() if name not in others}
        if isinstance(self.prior, Fixed):
            parts["prior"] = self.prior.distribution  # whose arrays are traced, as a PyTree's
        return parts
