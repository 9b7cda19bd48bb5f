"""Kinds of columns: what values they have, what the encoder reads of them, and their likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from aevb.errors import choose
from aevb.models.kinds.amount import Amount, Beta, Gamma, LogNormal, Proportion
from aevb.models.kinds.base import Block, Constants, Kind, Likelihood, Measured
from aevb.models.kinds.binary import Bernoulli, Binary, ContinuousBernoulli, white
from aevb.models.kinds.count import (
    BetaBinomial,
    Count,
    NegativeBinomial,
    Poisson,
    Successes,
    ZeroInflatedNegativeBinomial,
)
from aevb.models.kinds.intensity import DiscretisedLogistic, Intensity
from aevb.models.kinds.levels import Categorical, Categories, Ordered, Ordinal
from aevb.models.kinds.real import Gaussian, Laplace, Real, StudentT
from aevb.models.kinds.summary import Summary

__all__ = [
    "KINDS",
    "LIKELIHOODS",
    "Amount",
    "Bernoulli",
    "Beta",
    "BetaBinomial",
    "Binary",
    "Block",
    "Categorical",
    "Categories",
    "Constants",
    "ContinuousBernoulli",
    "Count",
    "DiscretisedLogistic",
    "Gamma",
    "Gaussian",
    "Intensity",
    "Kind",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "Measured",
    "NegativeBinomial",
    "Ordered",
    "Ordinal",
    "Poisson",
    "Proportion",
    "Real",
    "StudentT",
    "Successes",
    "Summary",
    "ZeroInflatedNegativeBinomial",
    "choose_likelihood",
    "make_kind",
    "make_likelihood",
]

KINDS: dict[str, type[Kind]] = {
    cls.name: cls
    for cls in (
        *(Real, Binary, Intensity),
        *(Amount, Proportion),
        *(Count, Successes),
        *(Categories, Ordered),
    )
}
LIKELIHOODS: dict[str, type[Likelihood]] = {
    cls.name: cls
    for cls in (
        *(Bernoulli, ContinuousBernoulli, DiscretisedLogistic),
        *(Gaussian, StudentT, Laplace),
        *(LogNormal, Gamma, Beta),
        *(Poisson, NegativeBinomial, ZeroInflatedNegativeBinomial, BetaBinomial),
        *(Categorical, Ordinal),
    )
}


def make_likelihood(likelihood: Any) -> Likelihood | None:
    """Return the likelihood that a user's `likelihood` stands for; None for "auto"."""
    if isinstance(likelihood, Likelihood):
        return likelihood
    if isinstance(likelihood, str) and likelihood == "auto":
        return None
    return choose(likelihood, {"auto": None, **LIKELIHOODS}, "likelihood", " or a Likelihood")()


def make_kind(
    likelihood: Any,
    summary: Summary,
    dtype: DTypeLike,
    n_levels: tuple[int, ...] = (),
    *,
    sparse: bool = False,
) -> tuple[Kind, str]:
    """Return the kind of some columns under a user's `likelihood`, and why if it was chosen."""
    chosen, why = make_likelihood(likelihood), ""
    if chosen is None:
        chosen, why = choose_likelihood(summary, dtype, sparse=sparse)
    kind = choose(chosen.kind, KINDS, f"{type(chosen).__name__}.kind")
    return kind(chosen, np.dtype(dtype).name).settled(summary, n_levels), why


def choose_likelihood(
    summary: Summary, dtype: DTypeLike, *, sparse: bool = False
) -> tuple[Likelihood, str]:
    """Choose a likelihood for some columns, and say why.

    Whole numbers from 0 up, of which one is above 1, are counts in a sparse array: negative
    binomial. Otherwise it is Bernoulli when all values lie in [0, 1] (or the type is uint8) and at
    least a quarter of them are at the two ends of that range; else the discretised logistic for
    uint8, and Gaussian for other types.
    """
    if sparse and summary.low.min() >= 0 and summary.decimals.max() <= 0 and summary.high.max() > 1:
        return NegativeBinomial(), "sparse counts"
    one = white(dtype)
    if summary.low.min() < 0 or summary.high.max() > one:
        return Gaussian(), "values outside [0, 1]"
    n_ends = summary.n_zero + (summary.n_white if one > 1 else summary.n_one)
    share = n_ends / np.sum(np.broadcast_to(summary.n, summary.mean.shape))
    why = f"{share:.0%} of the values are 0 or {one:g}"
    if share >= 0.25:
        return Bernoulli(), why
    return (DiscretisedLogistic() if one > 1 else Gaussian()), why
