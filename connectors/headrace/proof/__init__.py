"""Proving that a sink's system holds what the topics say, without a worker."""

from headrace.proof.history import History
from headrace.proof.verification import Difference, Report, verify

__all__ = ["Difference", "History", "Report", "verify"]
