"""How a model is fitted: estimators of the bound, and Algorithm 1, as pure functions."""

from aevb.inference.estimators import Estimate
from aevb.inference.full_vb import Bayesian, FullVB, posterior_predictive
from aevb.inference.mcem import MonteCarloEM
from aevb.inference.objective import Batch, Objective
from aevb.inference.run import Epoch, Run, TrainResult
from aevb.inference.sgvb import SGVB, sgvb
from aevb.inference.wake_sleep import WakeSleep

__all__ = [
    "SGVB",
    "Batch",
    "Bayesian",
    "Epoch",
    "Estimate",
    "FullVB",
    "MonteCarloEM",
    "Objective",
    "Run",
    "TrainResult",
    "WakeSleep",
    "posterior_predictive",
    "sgvb",
]
