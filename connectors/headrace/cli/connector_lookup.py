"""Looks up one connector's configuration, in files or on a running worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headrace.cli.client import WorkerClient
from headrace.cli.loading import Loaded, load
from headrace.config import nearest
from headrace.errors import ConfigError, Finding
from headrace.settings import WorkerSettings
from headrace.validation import ConnectorConfig


def find_connector(name: str, paths: Sequence[Path], url: str | None) -> tuple[Loaded, WorkerSettings, ConnectorConfig]:
    """Return the connector's configuration from a file, or else from the worker at ``url``.

    Placeholders are resolved here. Raises ConfigError with all findings, NotFoundError, InfrastructureError.
    """
    loaded = load(paths)
    if loaded.settings is None and not any(finding.severity == "error" for finding in loaded.findings):
        raise ConfigError(
            "none of the files is a worker's", code="config.missing_worker", hint="add the file with bootstrap.servers"
        )
    settings = loaded.require()
    if name in loaded.configs:
        return loaded, settings, loaded.configs[name]
    if url is None:
        known = list(loaded.configs)
        hint = nearest(name, known) or "add its file, or name a running worker with --url"
        text = f"none of the files defines a connector '{name}'"
        raise ConfigError(findings=[Finding("config.missing_connector", text, "name", hint)])
    config = loaded.validator.require_connector(WorkerClient(url).of_connector("GET", name, "/config").body)
    return loaded, settings, config
