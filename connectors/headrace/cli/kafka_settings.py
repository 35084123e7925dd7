"""Checks of listeners and Kafka client settings that need no connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from headrace.broker.client_choice import ClientChoice, choose
from headrace.broker.connector_clients import ClientKind, effective_settings
from headrace.errors import ConfigError, Finding
from headrace.settings import ConnectorSettings, SinkSettings, WorkerSettings


def of_worker(settings: WorkerSettings) -> list[Finding]:
    """Return the findings about the worker's own settings."""
    from headrace.rest.access_settings import access_findings  # late: most commands need no server
    from headrace.rest.options import parse_header_rules

    found = access_findings(settings)
    try:
        parse_header_rules(settings.response_headers)
    except ConfigError as error:
        found += error.findings
    try:
        client = choose(settings.kafka_client)
    except ConfigError as error:
        return [*found, *error.findings]
    kinds: Mapping[ClientKind, Mapping[str, str]] = {
        "producer": settings.producer,
        "consumer": settings.consumer,
        "admin": settings.admin,
    }
    for kind, own in kinds.items():
        for finding in _mistakes(client, settings.client_settings(), own, kind):
            found.append(replace(finding, key=_key(finding.key, own, kind, settings)))
    return list(dict.fromkeys(found))


def of_connector(worker: WorkerSettings, settings: ConnectorSettings) -> list[Finding]:
    """Return the findings about a connector's ``*.override.`` settings, merged with those of its worker."""
    found: list[Finding] = []
    client = choose(worker.kafka_client)
    overrides: list[tuple[ClientKind, Mapping[str, str]]] = [
        ("producer", settings.producer_override),
        ("admin", settings.admin_override),
    ]
    if isinstance(settings, SinkSettings):
        overrides.append(("consumer", settings.consumer_override))
    for kind, own in overrides:
        try:
            effective = effective_settings(worker, settings, kind)
        except ConfigError as error:
            found += error.findings
            continue
        for finding in _mistakes(client, effective.shared, effective.own, kind):
            if finding.key in own:
                found.append(replace(finding, key=f"{kind}.override.{finding.key}"))
    return found


def _mistakes(
    client: ClientChoice, shared: Mapping[str, str], own: Mapping[str, str], kind: ClientKind
) -> list[Finding]:
    # headrace sets the group's name, and a sink may override it.
    named = {name: text for name, text in own.items() if (kind, name) != ("consumer", "group.id")}
    return client.findings(shared, named, kind)


def _key(name: str, own: Mapping[str, str], kind: ClientKind, settings: WorkerSettings) -> str:
    """Return the key as it is written in the worker's file."""
    if name in own:
        return f"{kind}.{name}"
    return f"client.{name}" if name in settings.client else name
