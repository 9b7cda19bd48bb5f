"""The vocabulary: distributions and the divergences between them."""

from aevb.probability.distributions import Batched, GrayBernoulli
from aevb.probability.divergences import has_closed_form, kl_divergence, kl_per_dimension

__all__ = ["Batched", "GrayBernoulli", "has_closed_form", "kl_divergence", "kl_per_dimension"]
