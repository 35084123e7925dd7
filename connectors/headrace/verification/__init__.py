"""Proving that a sink's system holds what the topics say, and building it anew from them, without a worker."""

from headrace.verification.history import History
from headrace.verification.rebuild import RebuildReport, rebuild
from headrace.verification.verification import Difference, Report, verify

__all__ = ["Difference", "History", "RebuildReport", "Report", "rebuild", "verify"]
