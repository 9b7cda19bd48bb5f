"""Whether to trust it: likelihoods of fitted models, and their diagnostics."""

from aevb.evaluation.diagnostics import GradientVariance, gradient_variance
from aevb.evaluation.importance import Evidence, evidence
from aevb.evaluation.marginal import elbo, log_likelihood
from aevb.evaluation.reciprocal import (
    PosteriorDraws,
    posterior_draws,
    reciprocal_importance_sampling,
)

__all__ = [
    "Evidence",
    "GradientVariance",
    "PosteriorDraws",
    "elbo",
    "evidence",
    "gradient_variance",
    "log_likelihood",
    "posterior_draws",
    "reciprocal_importance_sampling",
]
