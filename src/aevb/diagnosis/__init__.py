"""What became of a fit, and what to try."""

from aevb.diagnosis.findings import Fitted, doubts
from aevb.diagnosis.measures import diagnose
from aevb.diagnosis.report import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "Fitted", "diagnose", "doubts"]
