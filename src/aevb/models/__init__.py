"""What is fitted: latent-variable models, and the parts an auto-encoder is made of."""

from aevb.models import architectures, likelihoods, posteriors, priors
from aevb.models.autoencoder import AutoEncoder
from aevb.models.base import Frozen, Given, LatentVariableModel, given
from aevb.models.conditional import Conditional, Network
from aevb.models.kinds import Bernoulli, Gaussian, Kind, Likelihood
from aevb.models.networks import MLP

__all__ = [
    "MLP",
    "AutoEncoder",
    "Bernoulli",
    "Conditional",
    "Frozen",
    "Gaussian",
    "Given",
    "Kind",
    "LatentVariableModel",
    "Likelihood",
    "Network",
    "architectures",
    "given",
    "likelihoods",
    "posteriors",
    "priors",
]
