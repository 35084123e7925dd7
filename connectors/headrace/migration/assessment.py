"""What would become of each connector of a Connect cluster if headrace ran it. Nothing is changed."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from headrace.errors import ConfigError, Finding, HeadraceError
from headrace.migration.connect_state import ConnectState, StoredOffset
from headrace.plugin import SourceConnector
from headrace.records import SourcePartition, TopicPartition
from headrace.runtime.stage_build import group_of
from headrace.settings import SinkSettings
from headrace.states import TargetState
from headrace.stores.offsets import offset_key
from headrace.validation import ConnectorConfig, Validator

CommittedLookup = Callable[[ConnectorConfig, str], Mapping[TopicPartition, int]]
"""Given a sink and the name of its consumer group: the group's committed offsets. Raises HeadraceError."""


class Verdict(enum.StrEnum):
    """Whether headrace can run a connector."""

    UNCHANGED = "runs unchanged"
    DIFFERENT = "runs with differences"
    REFUSED = "cannot run"


class UnusedOffset(NamedTuple):
    """A stored offset from which headrace would not continue."""

    partition: SourcePartition
    reason: str


@dataclass(frozen=True)
class ConnectorAssessment:
    """What would become of one connector."""

    name: str
    class_name: str
    target: TargetState
    verdict: Verdict
    type: str = ""
    """``source``, ``sink``, ``stream``; empty when the plugin is unknown."""
    findings: Sequence[Finding] = ()
    used: Sequence[StoredOffset] = ()
    """Offsets of a source from which it would continue."""
    unused: Sequence[UnusedOffset] = ()
    untouched: Sequence[StoredOffset] = ()
    """Offsets of a connector that cannot run: they stay as they are."""
    group: str = ""
    """The consumer group of a sink."""
    committed: Mapping[TopicPartition, int] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether it runs, and continues where it stopped."""
        return self.verdict is not Verdict.REFUSED and not self.unused


def assess(
    state: ConnectState,
    validator: Validator,
    *,
    committed: CommittedLookup,
    consumer: Mapping[str, str],
    connect: bool = False,
) -> list[ConnectorAssessment]:
    """Return the assessments of all connectors, by name.

    ``consumer``: the worker's settings of consumers. ``connect``: ask the systems of the connectors, as
    ``headrace check`` does.
    """
    return [
        _assess(name, config, state, validator, committed, consumer, connect=connect)
        for name, config in sorted(state.desired.configs.items())
    ]


def _assess(
    name: str,
    config: Mapping[str, str],
    state: ConnectState,
    validator: Validator,
    committed: CommittedLookup,
    consumer: Mapping[str, str],
    *,
    connect: bool,
) -> ConnectorAssessment:
    class_name, target = config.get("connector.class", ""), state.desired.target(name)
    stored = state.offsets.get(name, ())
    parsed, findings = validator.connector(config)
    findings = list(map(_for_migration, findings))
    if parsed is None:
        return ConnectorAssessment(name, class_name, target, Verdict.REFUSED, findings=findings, untouched=stored)
    if connect:
        findings = [*findings, *_asked(parsed)]
    verdict = Verdict.DIFFERENT if findings else Verdict.UNCHANGED
    if any(finding.severity == "error" for finding in findings):
        verdict = Verdict.REFUSED
    found = ConnectorAssessment(name, class_name, target, verdict, parsed.plugin.type, findings)
    if isinstance(parsed.settings, SinkSettings):
        group = {**consumer, **parsed.settings.consumer_override}.get("group.id", group_of(name))
        return replace(found, group=group, committed=committed(parsed, group))
    connector = parsed.plugin.cls()
    if not isinstance(connector, SourceConnector):
        return found
    unused = list(_unused(parsed, connector, stored, connect=connect))
    named = {offset_key(name, item.partition) for item in unused}
    used = [item for item in stored if offset_key(name, item.partition) not in named]
    return replace(found, used=used, unused=unused)


def _for_migration(finding: Finding) -> Finding:
    """Replace the hint that a name may be misspelt: Kafka Connect has run the connector under this name."""
    if (finding.code, finding.key) != ("plugin.unknown", "connector.class"):
        return finding
    hint = "leave it to workers of Kafka Connect with a group.id and topics of their own, or write a plugin"
    return replace(finding, hint=hint)


def _asked(config: ConnectorConfig) -> Iterable[Finding]:
    try:
        return list(config.plugin.cls().check(config.own))
    except HeadraceError as error:
        return list(error.findings) if isinstance(error, ConfigError) and error.findings else [error.finding()]


def _unused(
    config: ConnectorConfig, connector: SourceConnector, stored: Sequence[StoredOffset], *, connect: bool
) -> Iterable[UnusedOffset]:
    """Yield the offsets that tasks would not look up, or could not use."""
    readable = []
    for item in stored:
        if item.key != offset_key(config.name, item.partition).encode():
            reason = "the bytes of its key are not those that headrace writes, and keys are compared as bytes"
            yield UnusedOffset(item.partition, reason)
        else:
            readable.append(item)
    pairs = [(item.partition, item.offset) for item in readable]
    refused = list(connector.unusable_offsets(config.own, pairs))
    yield from (UnusedOffset(partition, reason) for partition, reason in refused)
    if not connect:
        return
    for partition, offset in pairs:
        if any(partition == known for known, _ in refused):
            continue
        try:
            connector.offset_changes(config.own, [(partition, offset)])
        except ConfigError as error:
            yield UnusedOffset(partition, str(error))
        except HeadraceError:
            return  # the check of the connector reports that its system cannot be asked
