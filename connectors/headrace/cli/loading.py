"""Reads and validates the files on the command line; collects the findings of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.broker.connector_clients import OverridePolicy
from headrace.cli import kafka_settings
from headrace.cli.output import redact_output
from headrace.errors import ConfigError, Finding, Location
from headrace.files import ConfigFile, parse_config_file
from headrace.interpolation import make_interpolator
from headrace.local_access import LocalAccess
from headrace.registry import Registry
from headrace.settings import WorkerSettings
from headrace.validation import ConnectorConfig, Validator, locate_findings, redact_findings

_SOME_BROKER = "localhost:9092"
"""In place of a missing key, so that the other settings of a worker can be checked."""


@dataclass(frozen=True)
class Loaded:
    """Result of :func:`load`: ``files`` of all readable connectors, ``configs`` of those without errors, by name."""

    settings: WorkerSettings | None
    files: list[ConfigFile]
    configs: dict[str, ConnectorConfig]
    findings: list[Finding]
    validator: Validator
    registry: Registry

    def require(self) -> WorkerSettings:
        """Return the worker's settings. Raises ConfigError with all findings if any file has an error."""
        if self.settings is None or has_errors(self.findings):
            raise ConfigError(findings=self.findings)
        return self.settings


def load(paths: Sequence[Path], *, worker: Path | None = None) -> Loaded:
    """Read and validate files without connecting to any system. ``worker`` names the one that must be a worker's.

    A file with ``connector.class`` is a connector's, any other a worker's.
    """
    findings: list[Finding] = []
    files: dict[Path, ConfigFile] = {}
    for path in paths:
        try:
            files[path] = parse_config_file(path)
        except ConfigError as error:
            findings.extend(error.findings)
    findings += [finding for file in files.values() for finding in file.findings]
    connectors = [file for file in files.values() if file.is_connector]
    workers = [file for file in files.values() if not file.is_connector]
    findings += _misplaced(files, workers, worker)

    registry = Registry()
    validator = Validator(registry, make_interpolator(registry))
    redact_output(validator.secrets.everywhere)
    settings = None
    for file in workers:
        settings, found = validator.worker(file.properties)
        if (readable := settings or _readable(file, found, validator)) is not None:
            found += _redacted(kafka_settings.of_worker(readable), file, validator)
        findings += locate_findings(found, file.positions, file.path, file.texts)
        if settings is not None:
            interpolator = make_interpolator(registry, settings.config_providers, settings.config_provider_settings)
            policy, access = OverridePolicy.of(settings), LocalAccess.of(settings)
            validator = Validator(registry, interpolator, policy, validator.secrets, access, settings.exactly_once)
    configs: dict[str, ConnectorConfig] = {}
    for file in connectors:
        config, found = validator.connector(file.properties, trusted=True)
        if config is not None and settings is not None and not has_errors(findings):
            found += _redacted(kafka_settings.of_connector(settings, config.settings), file, validator)
        findings += locate_findings(found, file.positions, file.path, file.texts)
        if config is not None:
            configs.setdefault(config.name, config)
    findings += _same_names(connectors)
    findings = _without_consequences(findings, files.values())
    return Loaded(settings, connectors, configs, findings, validator, registry)


def has_errors(findings: Iterable[Finding]) -> bool:
    """Return whether any of them is an error."""
    return any(finding.severity == "error" for finding in findings)


def _without_consequences(findings: Iterable[Finding], files: Iterable[ConfigFile]) -> list[Finding]:
    """Drop findings about keys whose value could not be read, which is reported already."""
    reported = {(file.path, finding.key): finding for file in files for finding in file.findings}

    def is_consequence(finding: Finding) -> bool:
        place = finding.location
        first = reported.get((place.file, finding.key)) if place else None
        return first is not None and first is not finding and finding not in reported.values()

    return [finding for finding in findings if not is_consequence(finding)]


def _readable(file: ConfigFile, findings: Iterable[Finding], validator: Validator) -> WorkerSettings | None:
    """Return the settings without the keys that have errors, so that further checks can run on the rest."""
    wrong = {finding.key for finding in findings if finding.severity == "error"}
    rest = {name: text for name, text in file.properties.items() if name not in wrong}
    rest.setdefault("bootstrap.servers", _SOME_BROKER)
    return WorkerSettings.validate_properties(validator.interpolator.resolve(rest)[0])[0]


def _redacted(findings: Iterable[Finding], file: ConfigFile, validator: Validator) -> list[Finding]:
    return redact_findings(findings, file.properties, validator.interpolator.resolution(file.properties, trusted=True))


def _misplaced(files: dict[Path, ConfigFile], workers: Sequence[ConfigFile], worker: Path | None) -> list[Finding]:
    """Return findings about files at the wrong place on the command line. Without ``worker`` any order is right."""
    findings = []
    if worker is not None and worker in files and files[worker].is_connector:
        text = f"{worker} is a connector's file (it has connector.class); the first file must be the worker's"
        place = files[worker].positions["connector.class"]
        findings.append(Finding("config.file", text, "connector.class", "headrace run WORKER CONNECTOR…", place))
    for file in workers:
        if worker is not None and file is not files.get(worker):
            text = f"{file.path} is not a connector's file: it has no connector.class"
            hint = "set connector.class to a plugin; `headrace plugins` lists them"
            findings.append(Finding("config.missing_key", text, "connector.class", hint, Location(file.path, 1)))
    return findings


def _same_names(connectors: Sequence[ConfigFile]) -> list[Finding]:
    findings = []
    first: dict[str, ConfigFile] = {}
    for file in connectors:
        name = file.properties.get("name", "")
        earlier = first.setdefault(name, file)
        if name and earlier is not file:
            text = f"connector '{name}' is already defined at {earlier.location_of('name')}"
            hint = "give each connector its own name"
            findings.append(Finding("config.duplicate_name", text, "name", hint, file.positions["name"]))
    return findings
