"""Rules of exactly-once sources, which depend on the worker and on the connector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from headrace.errors import Finding
from headrace.exactly_once_settings import ExactlyOnceSupport
from headrace.plugin import SourceConnector
from headrace.registry import Plugin
from headrace.settings import SourceSettings

_ADDRESSES = ("bootstrap.servers", "metadata.broker.list")


def exactly_once_rules(
    settings: SourceSettings, plugin: Plugin | None, properties: Mapping[str, str], support: ExactlyOnceSupport | None
) -> Iterator[Finding]:
    """Check a source. ``support``: of the worker; None when it is not known. Texts are Kafka Connect's."""
    yield from settings.boundary_problems(settings.producer_override.get("transaction.timeout.ms"))
    name = "exactly.once.support"
    if settings.exactly_once == "required":
        if support not in (None, "enabled"):
            text = "This worker does not have exactly-once source support enabled."
            hint = "set exactly.once.source.support=enabled on all workers, or exactly.once.support=requested"
            yield Finding("config.exactly_once", text, name, hint)
        if (problem := exactly_once_problem(plugin, properties)) is not None:
            text = f"The connector does not support exactly-once semantics with the provided configuration: {problem}"
            hint = "change this, or set exactly.once.support=requested"
            yield Finding("config.exactly_once", text, name, hint)
    if support == "enabled":
        for address in _ADDRESSES:
            if address in settings.producer_override:
                text = (
                    f"producer.override.{address} cannot be used with exactly-once delivery: records and positions are "
                    "one transaction, and the offset topic is in the cluster of the workers"
                )
                hint = "remove it, or run the connector in a group with exactly.once.source.support=disabled"
                yield Finding("config.conflict", text, f"producer.override.{address}", hint)


def exactly_once_problem(plugin: Plugin | None, properties: Mapping[str, str]) -> str | None:
    """Return why a source is not exactly once although its worker writes in transactions; None when it is."""
    if plugin is None or not issubclass(plugin.cls, SourceConnector):
        return None
    problem: str | None = plugin.cls().exactly_once_problem(properties)
    return problem
