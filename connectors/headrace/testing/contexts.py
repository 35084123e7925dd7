"""Contexts for tasks that a test calls instead of a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
import structlog

from headrace.conditions import RaiseCondition, ignore_condition
from headrace.errors import RetriableError
from headrace.plugin import SinkContext, SourceContext
from headrace.records import JsonForm, SourceOffset, SourcePartition, TopicPartition
from headrace.runtime.schedule import schedule
from headrace.states import TaskId


@dataclass
class Offsets:
    """Stored positions in memory: an ``OffsetReader`` that a test also writes.

    Values are converted to JSON and back, as in a worker; partitions are equal if their JSON is, with key order.
    ``unreachable`` makes every read fail as a store does whose broker is away.
    """

    unreachable: bool = False
    _stored: dict[bytes, bytes] = field(default_factory=dict)

    def offsets(self, partitions: Sequence[SourcePartition]) -> list[SourceOffset | None]:
        """Return the stored offset of each partition, None where nothing is stored."""
        if self.unreachable:
            raise RetriableError("the offsets store does not answer", code="test.unreachable")
        found = [self._stored.get(orjson.dumps(dict(partition))) for partition in partitions]
        return [None if value is None else orjson.loads(value) for value in found]

    def set(self, partition: SourcePartition, offset: SourceOffset | None) -> None:
        """Store a position, as a worker does after the records are acknowledged; None deletes it."""
        key = orjson.dumps(dict(partition))
        if offset is None:
            self._stored.pop(key, None)
        else:
            self._stored[key] = orjson.dumps(dict(offset))

    def copy(self) -> Offsets:
        """Return a copy of the positions."""
        return Offsets(self.unreachable, dict(self._stored))


@dataclass
class RecordedStatusReasons:
    """The status reasons that a task has set, oldest first; None where it cleared its reason."""

    said: list[str | None] = field(default_factory=list)

    def __call__(self, reason: str | None) -> None:
        self.said.append(reason)

    @property
    def current(self) -> str | None:
        """The current status reason."""
        return self.said[-1] if self.said else None


class RecordedConditions(dict[str, str]):
    """Conditions that a task has raised: code → text and hint. Pass it as ``raise_condition``."""

    def __call__(self, code: str, text: str, hint: str = "", *, count: int = 0, example: str = "") -> None:
        self[code] = f"{text} → {hint}"


def make_source_context(
    properties: Mapping[str, str],
    offsets: Offsets | None = None,
    *,
    stop_event: threading.Event | None = None,
    set_status_reason: Callable[[str | None], None] | None = None,
    name: str = "test",
    number: int = 0,
    json_form: JsonForm | None = None,
    remaining: Callable[[int], None] | None = None,
    lag: Callable[[str, int, int], None] | None = None,
    raise_condition: RaiseCondition = ignore_condition,
    exactly_once: bool = False,
) -> SourceContext:
    """Return the context of a source task, with the stored positions of ``offsets``."""
    return SourceContext(
        TaskId(name, number),
        dict(properties),
        stop_event or threading.Event(),
        structlog.stdlib.get_logger("headrace.task").bind(task=f"{name}-{number}"),
        _config_origin,
        set_status_reason or RecordedStatusReasons(),
        offsets or Offsets(),
        schedule,
        json_form,
        remaining or (lambda records: None),
        lag or (lambda part, millis, records: None),
        exactly_once,
        raise_condition=raise_condition,
    )


def make_sink_context(
    properties: Mapping[str, str],
    *,
    stop_event: threading.Event | None = None,
    set_status_reason: Callable[[str | None], None] | None = None,
    name: str = "test",
    number: int = 0,
    end_offset: Callable[[TopicPartition], int | None] | None = None,
    raise_condition: RaiseCondition = ignore_condition,
) -> SinkContext:
    """Return the context of a sink task. Without ``end_offset``, end offsets are not known."""
    return SinkContext(
        TaskId(name, number),
        dict(properties),
        stop_event or threading.Event(),
        structlog.stdlib.get_logger("headrace.task").bind(task=f"{name}-{number}"),
        _config_origin,
        set_status_reason or RecordedStatusReasons(),
        end_offset=end_offset or (lambda topic_partition: None),
        raise_condition=raise_condition,
    )


def _config_origin(key: str) -> str:
    return f"test.yaml: {key}"
