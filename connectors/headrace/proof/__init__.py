"""Proving that a sink's system holds what the topics say, and building it anew from them, without a worker."""

from headrace.proof.history import History
from headrace.proof.rebuild import RebuildReport, rebuild
from headrace.proof.verification import Difference, Report, verify

__all__ = ["Difference", "History", "RebuildReport", "Report", "rebuild", "verify"]
