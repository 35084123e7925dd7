"""Codec of Kafka Connect's group protocol ``connect`` (KIP-415, KIP-507): what workers report when they join a group,
and what the leader assigns to them.

Fields are big endian, of Kafka's classic types. Versions 1 and 2 have the same fields; version 2 (``sessioned``) means
that internal REST requests are signed. JVM workers ignore bytes after the last field, of metadata and of assignments;
headrace's workers write there what only they understand (:class:`WorkerTraits`), which also tells them apart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from headrace.errors import HeadraceError

PROTOCOL_TYPE = "connect"
CONNECTOR = -1
"""The task number that stands for the connector itself."""

NO_ERROR, CONFIG_MISMATCH = 0, 1
"""Errors of an assignment. CONFIG_MISMATCH: the leader has not read the config topic as far as another member."""

VERSIONS: Mapping[str, int] = {"sessioned": 2, "compatible": 1, "default": 0}
"""Versions by the name of the protocol, preferred ones first. ``default`` is the name of ``connect.protocol=eager``."""


class Unit(NamedTuple):
    """Work that is assigned: a connector (``task`` is :data:`CONNECTOR`) or one of its tasks."""

    connector: str
    task: int

    @property
    def is_connector(self) -> bool:
        return self.task == CONNECTOR

    def __str__(self) -> str:
        return self.connector if self.is_connector else f"{self.connector}-{self.task}"


class GroupProtocolError(HeadraceError):
    """The bytes of another member or of the leader are not of this protocol."""

    default_code = "group.protocol"


@dataclass(frozen=True, slots=True)
class WorkerTraits:
    """What headrace's workers report in addition to the protocol."""

    leaving: bool = False
    """The worker is stopping: it has released its units, which other workers take over without a delay."""


@dataclass(frozen=True, slots=True)
class GroupAssignment:
    """What a worker has (in metadata), or is told to change (from the leader): ``assigned`` are new units then."""

    version: int = 2
    error: int = NO_ERROR
    leader: str | None = None
    """The member id of the leader."""
    leader_url: str | None = None
    config_offset: int = -1
    assigned: tuple[Unit, ...] = ()
    revoked: tuple[Unit, ...] = ()
    delay: int = 0
    """Milliseconds after which the workers join again, because units of a lost worker are assigned then; 0: none."""
    traits: WorkerTraits | None = None
    """Of the leader that has written it; None for a leader on the JVM."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The metadata with which a worker joins."""

    url: str
    """The URL of the worker's REST API, with a slash at the end."""
    config_offset: int
    """One more than the offset of the last record of the config topic that the worker has read; 0: none."""
    assignment: GroupAssignment | None = None
    """What the worker runs; None when it runs nothing."""
    traits: WorkerTraits | None = None
    """None for workers of the JVM."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def int16(self) -> int:
        return self._number("h")

    def int32(self) -> int:
        return self._number("i")

    def int64(self) -> int:
        return self._number("q")

    def string(self) -> str | None:
        length = self.int16()
        return None if length < 0 else self._take(length).decode()

    def bytes_or_none(self) -> bytes | None:
        length = self.int32()
        return None if length < 0 else self._take(length)

    def units(self) -> tuple[Unit, ...]:
        # Fields at the end may be missing in versions 1 and 2.
        if not self.more():
            return ()
        found: list[Unit] = []
        for _ in range(self.int32()):
            name = self.string()
            if name is None:
                raise ValueError("a connector without a name")
            found.extend(Unit(name, self.int32()) for _ in range(self.int32()))
        return tuple(found)

    def more(self) -> bool:
        return self._at < len(self._data)

    def rest(self) -> bytes:
        return self._data[self._at :]

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        return int(value)

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise ValueError(f"{length} bytes are announced, and {len(self._data) - self._at} follow")
        part, self._at = self._data[self._at : end], end
        return part


def encode_assignment(assignment: GroupAssignment, version: int) -> bytes:
    """Return an assignment in the form of ``version``. Traits are written in versions 1 and 2 only."""
    head = struct.pack(">hh", version, assignment.error)
    head += _string(assignment.leader) + _string(assignment.leader_url) + struct.pack(">q", assignment.config_offset)
    body = head + _units(assignment.assigned)
    if version == 0:
        return body
    return body + _units(assignment.revoked) + struct.pack(">i", assignment.delay) + _encoded_traits(assignment.traits)


def decode_assignment(data: bytes) -> GroupAssignment:
    """Return the assignment that the leader sent. Raise GroupProtocolError."""
    try:
        reader = _Reader(data)
        version, error, leader, url = reader.int16(), reader.int16(), reader.string(), reader.string()
        offset, assigned = reader.int64(), reader.units()
        revoked = reader.units() if version >= 1 else ()
        delay = reader.int32() if version >= 1 and reader.more() else 0
        traits = _decoded_traits(reader.rest())
    except (struct.error, ValueError) as broken:
        raise _malformed("assignment", broken) from broken
    return GroupAssignment(version, error, leader, url, offset, assigned, revoked, delay, traits)


def encode_state(state: WorkerState, version: int) -> bytes:
    """Return the metadata of a worker in the form of ``version``."""
    data = struct.pack(">h", version) + _string(state.url) + struct.pack(">q", state.config_offset)
    if version == 0:
        return data
    if state.assignment is None:
        data += struct.pack(">i", -1)
    else:
        held = encode_assignment(state.assignment, version)
        data += struct.pack(">i", len(held)) + held
    return data + _encoded_traits(state.traits)


def decode_state(data: bytes) -> WorkerState:
    """Return the metadata of a member. Raise GroupProtocolError."""
    try:
        reader = _Reader(data)
        version, url, offset = reader.int16(), reader.string(), reader.int64()
        held = reader.bytes_or_none() if version >= 1 and reader.more() else None
    except (struct.error, ValueError) as broken:
        raise _malformed("metadata", broken) from broken
    assignment = None if held is None else decode_assignment(held)
    return WorkerState(url or "", offset, assignment, _decoded_traits(reader.rest()))


def offered(state: WorkerState, protocol: str) -> list[tuple[str, bytes]]:
    """Return the protocols that a worker offers with ``connect.protocol``, preferred ones first, and its metadata."""
    names = list(VERSIONS)
    first = names.index({"eager": "default"}.get(protocol, protocol))
    return [(name, encode_state(state, VERSIONS[name])) for name in names[first:]]


def holding(change: GroupAssignment, held: Iterable[Unit]) -> GroupAssignment:
    """Return what a worker reports that was given ``change`` and has ``held``."""
    return replace(change, assigned=tuple(sorted(held)), revoked=(), delay=0, traits=None)


def _string(text: str | None) -> bytes:
    if text is None:
        return struct.pack(">h", -1)
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def _units(units: Iterable[Unit]) -> bytes:
    by_connector: dict[str, list[int]] = {}
    for name, task in units:
        by_connector.setdefault(name, []).append(task)
    parts = [struct.pack(">i", len(by_connector))]
    for name, tasks in by_connector.items():
        parts += [_string(name), struct.pack(f">i{len(tasks)}i", len(tasks), *tasks)]
    return b"".join(parts)


def _encoded_traits(traits: WorkerTraits | None) -> bytes:
    return b"" if traits is None else orjson.dumps({"headrace": 1, "leaving": traits.leaving})


def _decoded_traits(data: bytes) -> WorkerTraits | None:
    try:
        value: Any = orjson.loads(data) if data else None
    except ValueError:
        return None  # another program's bytes
    if not isinstance(value, dict) or "headrace" not in value:
        return None
    return WorkerTraits(leaving=value.get("leaving") is True)


def _malformed(what: str, reason: Exception) -> GroupProtocolError:
    return GroupProtocolError(
        f"the {what} of a member of the worker group is not of the protocol {PROTOCOL_TYPE}: {reason}",
        hint="stop the program that uses the same group.id and is not a worker of Kafka Connect or headrace",
    )
