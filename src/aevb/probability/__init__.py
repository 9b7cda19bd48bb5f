"""The vocabulary: distributions and the divergences between them."""

from aevb.probability.distributions import Batched, GrayBernoulli
from aevb.probability.divergences import has_closed_form, kl_divergence, kl_per_dimension
from aevb.probability.families import Elliptical, Erlang, FisherSnedecor, Rayleigh, Triangular
from aevb.probability.joint import Joint
from aevb.probability.positive import (
    Chi2,
    Exponential,
    Gamma,
    Gompertz,
    Pareto,
    Reciprocal,
    Weibull,
)
from aevb.probability.relaxed import ExpRelaxedOneHotCategorical
from aevb.probability.reparameterise import FAMILIES, Family

__all__ = [
    "FAMILIES",
    "Batched",
    "Chi2",
    "Elliptical",
    "Erlang",
    "ExpRelaxedOneHotCategorical",
    "Exponential",
    "Family",
    "FisherSnedecor",
    "Gamma",
    "Gompertz",
    "GrayBernoulli",
    "Joint",
    "Pareto",
    "Rayleigh",
    "Reciprocal",
    "Triangular",
    "Weibull",
    "has_closed_form",
    "kl_divergence",
    "kl_per_dimension",
]
