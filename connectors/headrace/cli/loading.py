"""Files on the command line → a worker's settings and its connectors, or every finding at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.errors import ConfigError, Finding, Location
from headrace.files import ConfigFile, read_config_file
from headrace.interpolation import make_interpolator
from headrace.registry import Registry
from headrace.settings import WorkerSettings
from headrace.validation import Validator, located


@dataclass(frozen=True)
class Files:
    """What was read, whatever is wrong with it. ``workers`` and ``connectors`` are told apart by connector.class."""

    workers: list[ConfigFile]
    connectors: list[ConfigFile]
    findings: list[Finding]


@dataclass(frozen=True)
class Loaded:
    """Valid files, ready to run."""

    settings: WorkerSettings
    connectors: list[ConfigFile]
    warnings: list[Finding]
    validator: Validator
    registry: Registry
