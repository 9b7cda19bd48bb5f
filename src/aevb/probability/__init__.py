"""The vocabulary: distributions and the divergences between them."""

from aevb.probability.distributions import Batched, GrayBernoulli
from aevb.probability.divergences import has_closed_form, kl_divergence, kl_per_dimension
from aevb.probability.joint import Joint

__all__ = [
    "Batched",
    "GrayBernoulli",
    "Joint",
    "has_closed_form",
    "kl_divergence",
    "kl_per_dimension",
]
