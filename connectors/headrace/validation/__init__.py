"""Validates configurations of workers, connectors and tasks; reports all findings at once."""

from headrace.validation.findings import locate_findings, redact_findings
from headrace.validation.sections import ConfigSection
from headrace.validation.validator import CONVERTERS, TASK_CLASS, ConnectorConfig, Validator, make_converter

__all__ = [
    "CONVERTERS",
    "TASK_CLASS",
    "ConfigSection",
    "ConnectorConfig",
    "Validator",
    "locate_findings",
    "make_converter",
    "redact_findings",
]
