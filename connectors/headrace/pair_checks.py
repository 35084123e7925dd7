"""Compares sources with the sinks that read their topics: what each side alone cannot find. Pure functions.

A transform may change topics, keys and values in ways that only running it shows. Between connectors with transforms
what would be an error is a warning.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from headrace.broker.client_errors import acl_command
from headrace.broker.connector_clients import connects_as_admin
from headrace.errors import DataError, Finding
from headrace.patterns import compile_pattern
from headrace.plugin import ProducedTopic, TopicRequirements
from headrace.registry import PluginKind, Registry
from headrace.schema import DATE, DECIMAL, TIME, TIMESTAMP, Schema
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings, WorkerSettings
from headrace.validation import ConnectorConfig

_TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
_NUMBERS = {
    DATE: "the number of days since 1970-01-01",
    TIME: "the number of milliseconds since midnight",
    TIMESTAMP: "the number of milliseconds since 1970-01-01",
}
_SHOWN = 3


@dataclass(frozen=True)
class Produced:
    """A source and what it knows of its topics."""

    config: ConnectorConfig
    topics: Sequence[ProducedTopic]


class KafkaTopic(NamedTuple):
    """What Kafka tells about a topic."""

    partitions: int = 0
    """0 = it does not exist, or the user may not see it."""
    cleanup_policy: str | None = None
    """None = the user may not read the topic's settings."""
    operations: frozenset[str] | None = None
    """What the user may do with it: READ, WRITE …; None = the broker does not tell."""


class LocatedFinding(NamedTuple):
    """A finding about a key of the connector of this name."""

    connector: str
    finding: Finding


class _Format(NamedTuple):
    """How one side converts keys or values."""

    converter: str
    schemas: bool
    """Whether the schema is written, or expected, with each value."""
    decimals_as_text: bool


@dataclass(frozen=True)
class _Pair:
    """A source, a sink, and the topics of the source that the sink reads, with what the sink requires of each."""

    source: ConnectorConfig
    sink: ConnectorConfig
    topics: Sequence[tuple[ProducedTopic, TopicRequirements]]

    @property
    def severity(self) -> str:
        """Of what is certain without transforms."""
        return "warning" if self.source.settings.transforms or self.sink.settings.transforms else "error"


def pair_findings(
    sources: Sequence[Produced],
    sinks: Sequence[ConnectorConfig],
    worker: WorkerSettings | None,
    registry: Registry,
    topics: Mapping[str, KafkaTopic] | None = None,
) -> list[LocatedFinding]:
    """Return what is wrong between these sources and sinks, and about the topics of each.

    ``topics``: what Kafka tells the worker's user. Without a ``worker`` converters are compared only where connectors
    name them.
    """
    found: list[LocatedFinding] = []
    topics = topics or {}
    existing = {name: topic for name, topic in topics.items() if topic.partitions}
    for produced in sources:
        found += _source_findings(produced, existing)
        if worker is not None:
            written = [topic.name for topic in produced.topics]
            found += _access_findings(produced.config, worker, written, topics, "WRITE")
    requirements = {sink.name: dict(_requirements(sink, found)) for sink in sinks}
    for sink in sinks:
        for produced in sources:
            pair = _pair(produced, sink, requirements[sink.name], found)
            if pair.topics:
                found += _key_findings(pair)
                found += _tombstone_findings(pair)
                found += _format_findings(pair, worker, registry)
        found += _task_findings(sink, sources, existing)
        if worker is not None:
            read = [name for name in topics if reads_topic(sink, name)]
            found += _access_findings(sink, worker, read, topics, "READ")
    found += _destination_findings(sinks, requirements)
    return list(dict.fromkeys(found))


def _requirements(sink: ConnectorConfig, found: list[LocatedFinding]) -> Iterator[tuple[str, TopicRequirements]]:
    """Yield the requirements for each topic that the sink names."""
    assert isinstance(sink.settings, SinkSettings)
    for topic in sink.settings.topics:
        if (required := _required(sink, topic, found)) is not None:
            yield topic, required


def _required(sink: ConnectorConfig, topic: str, found: list[LocatedFinding]) -> TopicRequirements | None:
    """Return what the sink requires of a topic; None, and a finding, when its records have no place to go to."""
    try:
        required: TopicRequirements = sink.plugin.cls().topic_requirements(sink.own, topic)
    except DataError as error:
        severity = "warning" if sink.settings.transforms else "error"
        key = "topics" if "topics" in sink.properties else "topics.regex"
        found.append(LocatedFinding(sink.name, replace(error.finding(key), severity=severity)))
        return None
    return required


def _pair(
    produced: Produced, sink: ConnectorConfig, named: Mapping[str, TopicRequirements], found: list[LocatedFinding]
) -> _Pair:
    topics = []
    for topic in produced.topics:
        if reads_topic(sink, topic.name):
            required = named.get(topic.name)
            if required is None and topic.name not in named_topics(sink):
                required = _required(sink, topic.name, found)
            if required is not None:
                topics.append((topic, required))
    return _Pair(produced.config, sink, topics)


def named_topics(sink: ConnectorConfig) -> Sequence[str]:
    """Return the topics that the sink's configuration names one by one."""
    assert isinstance(sink.settings, SinkSettings)
    return sink.settings.topics


def reads_topic(sink: ConnectorConfig, topic: str) -> bool:
    """Return whether the sink reads the topic of this name."""
    settings = sink.settings
    assert isinstance(settings, SinkSettings)
    return topic in settings.topics or bool(
        settings.topics_regex and compile_pattern(settings.topics_regex).fullmatch(topic)
    )


def _source_findings(produced: Produced, existing: Mapping[str, KafkaTopic]) -> Iterator[LocatedFinding]:
    """Yield findings about the topics of one source: names that Kafka refuses, compacted topics without keys."""
    config = produced.config
    severity = "warning" if config.settings.transforms else "error"
    for topic in produced.topics:
        if not _TOPIC.fullmatch(topic.name):
            text = f"'{topic.name}' is not the name of a topic: its records cannot be sent"
            hint = "names of topics have at most 249 of: letters, digits, '.', '_', '-'"
            yield LocatedFinding(config.name, Finding("pair.topic_name", text, "topic.prefix", hint, severity=severity))
    yield from _compaction_findings(produced, existing, severity)


def _compaction_findings(
    produced: Produced, existing: Mapping[str, KafkaTopic], severity: str
) -> Iterator[LocatedFinding]:
    """Yield where records have no key and their topic is compacted, or will be when it is created."""
    config = produced.config
    assert isinstance(config.settings, SourceSettings)
    keyless = [topic for topic in produced.topics if topic.keyed is False]
    created = [topic for topic in keyless if topic.name not in existing]
    if created and "compact" in config.settings.topic_creation.get("cleanup.policy", ""):
        name = "topic.creation.default.cleanup.policy"
        text = f"{_topics(created)} would be compacted, and Kafka refuses records without a key in compacted topics"
        hint = f"{created[0].key_fix or 'give the records keys'}; or {name}: delete"
        yield LocatedFinding(config.name, Finding("pair.compacted_without_key", text, name, hint, severity=severity))
    policies = {name: topic.cleanup_policy or "" for name, topic in existing.items()}
    if compacted := [topic for topic in keyless if "compact" in policies.get(topic.name, "")]:
        first = compacted[0]
        text = (
            f"records of {_topics(compacted)} have no key, and Kafka refuses them: cleanup.policy of "
            f"{'the topic' if len(compacted) == 1 else 'these topics'} is {policies[first.name]}"
        )
        command = f"kafka-configs.sh --alter --entity-type topics --entity-name {first.name}"
        hint = f"{first.key_fix or 'give the records keys'}; or {command} --add-config cleanup.policy=delete"
        finding = Finding("pair.compacted_without_key", text, first.key_name, hint, severity=severity)
        yield LocatedFinding(config.name, finding)


def _access_findings(
    config: ConnectorConfig,
    worker: WorkerSettings,
    names: Sequence[str],
    topics: Mapping[str, KafkaTopic],
    operation: Literal["READ", "WRITE"],
) -> Iterator[LocatedFinding]:
    """Yield the topics for which an ACL is missing; of clients with another principal nothing is known."""
    if not connects_as_admin(worker, config.settings, "consumer" if operation == "READ" else "producer"):
        return
    severity = "warning" if config.settings.transforms else "error"
    key = "topic.prefix" if operation == "WRITE" else "topics" if "topics" in config.properties else "topics.regex"
    for name in sorted(names):
        allowed = topics[name].operations if name in topics else None
        if allowed is not None and operation not in allowed:
            doing = f"{'write to' if operation == 'WRITE' else 'read'} {name}"
            text = f"cannot {doing}: the worker's user has no {operation} on TOPIC {name}"
            hint = acl_command("topic", name, operation)
            finding = Finding("kafka.not_authorized", text, key, hint, severity=severity, cause="environment")
            yield LocatedFinding(config.name, finding)


def _key_findings(pair: _Pair) -> Iterator[LocatedFinding]:
    keyless = [(topic, required) for topic, required in pair.topics if topic.keyed is False and required.keyless_fix]
    if not keyless:
        return
    first, required = keyless[0]
    text = (
        f"records of {_topics([topic for topic, _ in keyless])} have no key (connector '{pair.source.name}'), and "
        f"connector '{pair.sink.name}' refuses records without a key"
    )
    ways = [f"in '{pair.source.name}': {first.key_fix}"] if first.key_fix else []
    hint = "; or ".join([*ways, f"in '{pair.sink.name}': {required.keyless_fix}"])
    finding = Finding("pair.no_key", text, first.key_name, hint, severity=pair.severity)
    yield LocatedFinding(pair.source.name, finding)


def _tombstone_findings(pair: _Pair) -> Iterator[LocatedFinding]:
    refused = [(topic, required) for topic, required in pair.topics if topic.deletes_by and required.tombstone_name]
    if not refused:
        return
    topic, required = refused[0]
    text = (
        f"connector '{pair.source.name}' makes tombstones of deleted rows ({topic.deletes_by}) in "
        f"{_topics([topic for topic, _ in refused])}, and connector '{pair.sink.name}' refuses them: documents stay"
    )
    hint = f"write {required.tombstone_fix}"
    finding = Finding("pair.tombstones", text, required.tombstone_name, hint, severity=pair.severity)
    yield LocatedFinding(pair.sink.name, finding)


def _format_findings(pair: _Pair, worker: WorkerSettings | None, registry: Registry) -> Iterator[LocatedFinding]:
    """Yield where both sides convert differently, and fields that lose their type on the way."""
    written: _Format | None = None
    for name, is_key in (("key.converter", True), ("value.converter", False)):
        written = _format(pair.source.settings, worker, registry, is_key=is_key)
        read = _format(pair.sink.settings, worker, registry, is_key=is_key)
        if written is None or read is None:
            continue
        finding = _difference(pair, name, written, read)
        if finding is not None:
            yield finding
            written = None
    if written is not None and not written.schemas:
        yield from _type_findings(pair, written)


def _difference(pair: _Pair, name: str, written: _Format, read: _Format) -> LocatedFinding | None:
    topics = _topics([topic for topic, _ in pair.topics])
    what = "keys" if name == "key.converter" else "values"
    start = f"{what} of {topics} are written by connector '{pair.source.name}'"
    if written.converter != read.converter:
        text = f"{start} with {written.converter} and read by '{pair.sink.name}' with {read.converter}"
        hint = f"write {name}: {written.converter} for both"
        return LocatedFinding(pair.sink.name, Finding("pair.converters", text, name, hint, severity="warning"))
    if written.schemas == read.schemas:
        return None
    key = f"{name}.schemas.enable"
    yes, no = ("with", "without") if written.schemas else ("without", "with")
    text = f"{start} {yes} a schema, and '{pair.sink.name}' reads them as values {no} one"
    hint = f"write {name}: {written.converter} and {key}: {str(written.schemas).lower()} for both"
    return LocatedFinding(pair.sink.name, Finding("pair.converters", text, key, hint))


def _type_findings(pair: _Pair, written: _Format) -> Iterator[LocatedFinding]:
    """Yield a warning about fields that are numbers or coded text in the sink, because their schema is not sent."""
    lost: dict[str, str] = {}
    for topic, required in pair.topics:
        if required.typed_by_schema:
            for name, schema in topic.fields.items():
                if name not in required.declared_fields and (becomes := _without_schema(schema, written)):
                    lost.setdefault(f"{topic.name}: {name}", becomes)
    if not lost:
        return
    shown = "; ".join(f"{name} is {becomes}" for name, becomes in [*lost.items()][:_SHOWN])
    more = f" (and {len(lost) - _SHOWN} more fields)" if len(lost) > _SHOWN else ""
    text = f"without schemas the sink '{pair.sink.name}' does not know these types: {shown}{more}"
    name = "value.converter.schemas.enable"
    hint = f"write {name}: true in the worker's file; the topic's existing records must be sent again"
    finding = Finding("pair.types", text, name, hint, severity="warning")
    yield LocatedFinding(pair.sink.name, finding)


def _without_schema(schema: Schema, written: _Format) -> str:
    """Return what a value of ``schema`` is in JSON without the schema; empty when nothing is lost."""
    if schema.name == DECIMAL:
        return "base64 text" if written.decimals_as_text else ""
    return _NUMBERS.get(schema.name or "", "")


def _format(
    settings: ConnectorSettings, worker: WorkerSettings | None, registry: Registry, *, is_key: bool
) -> _Format | None:
    """Return how a connector converts; None without a worker, whose converter it uses."""
    name = settings.key_converter if is_key else settings.value_converter
    options = settings.key_converter_settings if is_key else settings.value_converter_settings
    if name is None:
        if worker is None:
            return None
        name = worker.key_converter if is_key else worker.value_converter
        options = worker.key_converter_settings if is_key else worker.value_converter_settings
    plugin = registry.find(PluginKind.CONVERTER, name)
    defaults = {item.name: item.default for item in plugin.cls.config_model.definitions()}
    values = {key: str(default) for key, default in defaults.items()} | dict(options)
    enabled = plugin.cls.always_has_schemas or values.get("schemas.enable", "false").strip().lower() == "true"
    return _Format(plugin.name, enabled, values.get("decimal.format", "").strip().upper() == "BASE64")


def _task_findings(
    sink: ConnectorConfig, sources: Sequence[Produced], existing: Mapping[str, KafkaTopic]
) -> Iterator[LocatedFinding]:
    """Yield a warning if a sink has more tasks than its topics have partitions, where all of them are known."""
    settings = sink.settings
    assert isinstance(settings, SinkSettings)
    planned: dict[str, int] = {}
    for produced in sources:
        assert isinstance(produced.config.settings, SourceSettings)
        count = int(produced.config.settings.topic_creation.get("partitions", "-1"))
        if count > 0:
            planned |= {topic.name: count for topic in produced.topics}
    known = planned | {name: topic.partitions for name, topic in existing.items()}
    topics = settings.topics or [topic for topic in existing if reads_topic(sink, topic)]
    if not topics or not all(topic in known for topic in topics):
        return
    total = sum(known[topic] for topic in topics)
    if settings.tasks_max > total:
        text = (
            f"{settings.tasks_max} tasks read {total} partition{'' if total == 1 else 's'}: "
            f"{settings.tasks_max - total} of them have nothing to do"
        )
        hint = f"write tasks.max: {total}, or create the topics with more partitions"
        yield LocatedFinding(sink.name, Finding("pair.idle_tasks", text, "tasks.max", hint, severity="warning"))


def _destination_findings(
    sinks: Sequence[ConnectorConfig], requirements: Mapping[str, Mapping[str, TopicRequirements]]
) -> Iterator[LocatedFinding]:
    """Yield a warning where several sinks write to one place: each believes that it is the only writer."""
    writers: dict[str, list[str]] = defaultdict(list)
    for sink in sinks:
        for place in {required.destination for required in requirements[sink.name].values()} - {""}:
            writers[place].append(sink.name)
    for place, names in sorted(writers.items()):
        if len(names) > 1:
            others = ", ".join(f"'{name}'" for name in names[:-1])
            text = f"this connector and {others} write to {place}: newer records of one can be ignored as outdated"
            hint = "give each connector topics and indices of its own"
            yield LocatedFinding(
                names[-1], Finding("pair.shared_destination", text, "topics", hint, severity="warning")
            )


def _topics(topics: Iterable[ProducedTopic]) -> str:
    names = [f"'{topic.name}'" for topic in topics]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"topic{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"
