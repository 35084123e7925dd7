"""``headrace verify`` and ``headrace reindex``: a sink's system compared with, or rebuilt from, its topics."""

from headrace.verification.compare import Difference, VerificationReport, verify
from headrace.verification.history import History
from headrace.verification.rebuild import RebuildReport, rebuild

__all__ = ["Difference", "History", "RebuildReport", "VerificationReport", "rebuild", "verify"]
