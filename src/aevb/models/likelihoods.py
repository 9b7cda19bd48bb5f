"""Families p(x|z) of the data, by name or as objects with options.

A likelihood is chosen by name, ``VAE(likelihood="student-t")``, or as an object with options,
``VAE(likelihood=likelihoods.StudentT(df=4.0))``. What data each is for:

=====================================  =============================================
name                                   data
=====================================  =============================================
``"bernoulli"``                        zeros and ones; gray levels between
``"continuous-bernoulli"``             gray levels, as a density
``"discretised-logistic"``             8-bit intensities, as whole numbers
``"gaussian"``                         real numbers
``"student-t"``, ``"laplace"``         real numbers with outliers
``"log-normal"``, ``"gamma"``          positive amounts
``"beta"``                             proportions, without 0 and 1
``"poisson"``                          counts whose variance is their mean
``"negative-binomial"``                counts with more variance
``"zero-inflated-negative-binomial"``  counts with more variance and more zeros
``"beta-binomial"``                    successes in a known number of trials
``"categorical"``                      numbers of categories, from 0 up
``"ordinal"``                          numbers of ordered levels, from 0 up
=====================================  =============================================
"""

from aevb.models.kinds import (
    Bernoulli,
    Beta,
    BetaBinomial,
    Categorical,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Gamma,
    Gaussian,
    Laplace,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
)

__all__ = [
    "Bernoulli",
    "Beta",
    "BetaBinomial",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretisedLogistic",
    "Gamma",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
]
