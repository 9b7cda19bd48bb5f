"""Whether to trust it: likelihoods of fitted models, and their diagnostics."""

from aevb.evaluation.annealed import Annealed, Sandwich, annealed_importance_sampling, sandwich
from aevb.evaluation.bits import bits_per_dimension
from aevb.evaluation.diagnostics import GradientVariance, gradient_variance
from aevb.evaluation.importance import Evidence, Importance, Method, evidence
from aevb.evaluation.marginal import elbo, log_likelihood
from aevb.evaluation.reciprocal import (
    PosteriorDraws,
    Reciprocal,
    posterior_draws,
    reciprocal_evidence,
    reciprocal_importance_sampling,
)

__all__ = [
    "Annealed",
    "Evidence",
    "GradientVariance",
    "Importance",
    "Method",
    "PosteriorDraws",
    "Reciprocal",
    "Sandwich",
    "annealed_importance_sampling",
    "bits_per_dimension",
    "elbo",
    "evidence",
    "gradient_variance",
    "log_likelihood",
    "posterior_draws",
    "reciprocal_evidence",
    "reciprocal_importance_sampling",
    "sandwich",
]
