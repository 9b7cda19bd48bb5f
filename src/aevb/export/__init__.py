"""A fitted model in files that run without aevb: ONNX and StableHLO."""

from aevb.export.files import export

__all__ = ["export"]
