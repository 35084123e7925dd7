"""What the three topics of a Connect cluster hold: connectors, target states, offsets, workers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from headrace.errors import Finding
from headrace.records import ConsumedBatch, SourceOffset, SourcePartition
from headrace.stores.config_fold import ConfigFold, DesiredState

_STATUS = re.compile(r"status-(connector|task)-")


class GroupTopicNames(NamedTuple):
    """The topics of a Connect cluster."""

    configs: str
    offsets: str
    statuses: str


class StoredOffset(NamedTuple):
    """An offset of a source, and the bytes of its key."""

    partition: SourcePartition
    offset: SourceOffset
    key: bytes


@dataclass(frozen=True)
class ConnectState:
    """The state of a cluster. ``workers``: ids of those that the statuses name."""

    desired: DesiredState
    offsets: Mapping[str, Sequence[StoredOffset]] = field(default_factory=dict)
    workers: frozenset[str] = frozenset()
    findings: Sequence[Finding] = ()
    """Records that are not of Connect's form."""


def read_state(batches: Iterable[ConsumedBatch], topics: GroupTopicNames) -> ConnectState:
    """Return the state that the records describe. Records of one partition are in their order."""
    fold = ConfigFold(trusts=False)
    offsets: dict[bytes, bytes | None] = {}
    statuses: dict[bytes, bytes | None] = {}
    refused = []
    for batch in batches:
        for number, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
            if batch.topic_partition.topic == topics.offsets:
                offsets[key or b""] = value
            elif batch.topic_partition.topic == topics.statuses:
                statuses[key or b""] = value
            elif (problem := _configure(fold, key, value)) is not None:
                refused.append(_refused(f"record {number} of {topics.configs}: {problem}"))
    by_connector, unread = grouped_offsets(offsets)
    refused += [_refused(f"a record of {topics.offsets} with the key {_shown(key)}: {why}") for key, why in unread]
    return ConnectState(fold.desired(), by_connector, frozenset(_workers(statuses)), refused)


def grouped_offsets(
    entries: Mapping[bytes, bytes | None],
) -> tuple[dict[str, list[StoredOffset]], list[tuple[bytes, str]]]:
    """Return the offsets of each connector, and the keys of records that are none, with the reason."""
    found: dict[str, list[StoredOffset]] = {}
    unread = []
    for key, value in entries.items():
        if value is None:
            continue
        try:
            connector, partition = orjson.loads(key)
            offset: Any = orjson.loads(value)
        except (ValueError, TypeError):
            unread.append((key, "not JSON"))
            continue
        if offset is None:
            continue
        if not isinstance(connector, str) or not isinstance(partition, dict) or not isinstance(offset, dict):
            unread.append((key, 'not of the form ["connector",{partition}] → {offset}'))
            continue
        found.setdefault(connector, []).append(StoredOffset(partition, offset, key))
    return found, unread


def _configure(fold: ConfigFold, key: bytes | None, value: bytes | None) -> str | None:
    """Apply a record of the config topic; return why it cannot be read."""
    try:
        fold.apply((key or b"").decode(), None if value is None else orjson.loads(value))
    except ValueError as error:
        return f"not JSON: {error}"
    return None


def _workers(statuses: Mapping[bytes, bytes | None]) -> Iterable[str]:
    for key, value in statuses.items():
        if value is None or not _STATUS.match(key.decode(errors="replace")):
            continue
        try:
            status: Any = orjson.loads(value)
        except ValueError:
            continue  # statuses are written again by the workers that run the connectors
        worker = status.get("worker_id") if isinstance(status, dict) else None
        if isinstance(worker, str) and worker:
            yield worker


def _refused(text: str) -> Finding:
    hint = "headrace leaves it out, as workers of Kafka Connect do; it is not deleted"
    return Finding("migrate.record", text, hint=hint, severity="warning")


def _shown(key: bytes) -> str:
    return key[:100].decode(errors="replace")
