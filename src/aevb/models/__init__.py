"""What is fitted: latent-variable models, and the parts an auto-encoder is made of."""

from aevb.models import posteriors, priors
from aevb.models.autoencoder import AutoEncoder, Conditional
from aevb.models.base import Frozen, LatentVariableModel
from aevb.models.likelihoods import Bernoulli, Gaussian, Likelihood
from aevb.models.networks import MLP

__all__ = [
    "MLP",
    "AutoEncoder",
    "Bernoulli",
    "Conditional",
    "Frozen",
    "Gaussian",
    "LatentVariableModel",
    "Likelihood",
    "posteriors",
    "priors",
]
