"""How a model is fitted: estimators of the bound, and Algorithm 1, as pure functions."""

from aevb.inference.sgvb import SGVB, sgvb

__all__ = ["SGVB", "sgvb"]
