"""Whether to trust it: likelihoods of fitted models, and their diagnostics."""

from aevb.evaluation.marginal import elbo, log_likelihood

__all__ = ["elbo", "log_likelihood"]
