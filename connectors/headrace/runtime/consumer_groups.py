"""Consumer groups of connectors, which must not be the group of the workers."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.errors import ConfigError, Finding


def require_other_group(group: str, worker_group: str, config: Mapping[str, str]) -> None:
    """Raise ConfigError when a consumer would join the group of the workers (Kafka Connect's rule and text)."""
    if group == worker_group:
        key = "consumer.override.group.id" if "consumer.override.group.id" in config else "name"
        text = f"Consumer group {group} conflicts with Connect worker group {worker_group}"
        raise ConfigError(findings=[Finding("config.conflict", text, key, "name another consumer.override.group.id")])
