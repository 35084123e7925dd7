"""The state that the records of the config topic describe: a fold over the records in their order.

Keys and values are Kafka Connect's. A compacted topic holds the latest record of each key at the place where it was
written, so the order of records has a meaning: task configurations count when their commit record follows them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from headrace.states import TargetState

log = structlog.stdlib.get_logger("headrace.worker")

CONNECTOR, TARGET, TASK, COMMIT = "connector-", "target-state-", "task-", "commit-"
FENCING = "tasks-fencing-"
RESTART, LOGGER, SESSION_KEY = "restart-connector-", "logger-cluster-", "session-key"
_WITHOUT_EFFECT = (RESTART, LOGGER, SESSION_KEY)
"""Keys of Kafka Connect that are not part of the desired state, or whose deletion means nothing."""


@dataclass(frozen=True)
class DesiredState:
    """What users have requested. ``configs`` are raw: their placeholders are not resolved."""

    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    targets: Mapping[str, TargetState] = field(default_factory=dict)
    tasks: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)
    trusted: frozenset[str] = frozenset()
    """Connectors whose configuration is from a file on the worker's command line."""
    trusted_tasks: frozenset[str] = frozenset()
    """Connectors whose tasks were made from such a configuration."""
    revisions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of each connector: numbers that change with each record of its configuration, and of its target state."""
    uncommitted: frozenset[str] = frozenset()
    """Connectors whose configuration is newer than the commit of their tasks. It must be followed by a commit, also
    of equal tasks: when the log is compacted, a commit before the configuration is that of a deleted connector."""

    publications: Mapping[str, int] = field(default_factory=dict)
    """Of each connector: a number that changes with each commit of its tasks."""
    unfenced: frozenset[str] = frozenset()
    """Connectors whose tasks were committed since the producers of the tasks before them were fenced (KIP-618)."""
    fenced_counts: Mapping[str, int] = field(default_factory=dict)
    """How many tasks a connector had at its last fencing record: these may have transactional producers."""

    def target(self, connector: str) -> TargetState:
        """Return the target state of a connector; the default is STARTED."""
        return self.targets.get(connector, TargetState.STARTED)


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The key with which workers sign requests to each other."""

    key: bytes = field(repr=False)
    algorithm: str
    created: int  # epoch milliseconds


@dataclass(frozen=True, slots=True)
class RestartRequest:
    """A request of the REST API that every worker carries out for what it runs (KIP-745)."""

    connector: str
    include_tasks: bool
    only_failed: bool


@dataclass(frozen=True, slots=True)
class LoggerLevel:
    """A level that every worker sets (KIP-976)."""

    logger: str
    level: str


Command = RestartRequest | LoggerLevel
"""What a record asks for once; records that were there before the worker started ask for nothing."""


@dataclass(slots=True)
class _Tasks:
    pending: dict[int, tuple[dict[str, str], bool]] = field(default_factory=dict)
    """Configurations since the last commit, and whether they are trusted."""
    committed: dict[int, tuple[dict[str, str], bool]] | None = None
    """None when the last commit was incomplete: compaction has removed one of its tasks."""


class ConfigFold:
    """Deterministic: equal records give equal states. Used under the lock of its log."""

    def __init__(self, *, trusts: bool = True) -> None:
        """``trusts``: whether records may be marked as trusted; false for a topic that others can write."""
        self._trusts = trusts
        self._configs: dict[str, tuple[dict[str, str], bool]] = {}
        self._targets: dict[str, TargetState] = {}
        self._tasks: dict[str, _Tasks] = {}
        self._revisions: dict[str, tuple[int, int]] = {}
        self._uncommitted: set[str] = set()
        self._publications: dict[str, int] = {}
        self._unfenced: set[str] = set()
        self._fenced_counts: dict[str, int] = {}
        self._records = 0
        self.unknown = 0
        """Records of other kinds than these, which a newer version writes."""
        self._desired: DesiredState | None = None
        self.session_key: SessionKey | None = None

    def apply(self, key: str, value: Any) -> Command | None:
        """Take the next record; None is a tombstone. A record that cannot be read is logged and left out."""
        self._records += 1
        self._desired = None
        try:
            return self._apply(key, value)
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            log.warning("configuration record ignored", key=key, reason=f"{type(error).__name__}: {error}")
            return None

    def desired(self) -> DesiredState:
        """Return the state after the last record."""
        if self._desired is None:
            self._desired = self._snapshot()
        return self._desired

    def task_keys(self, connector: str) -> list[str]:
        """Return the keys of the records that hold tasks of a connector."""
        tasks = self._tasks.get(connector)
        if tasks is None:
            return []
        return [COMMIT + connector, *(f"{TASK}{connector}-{n}" for n in {**tasks.pending, **(tasks.committed or {})})]

    def _apply(self, key: str, value: Any) -> Command | None:
        if key.startswith(CONNECTOR):
            self._connector(key.removeprefix(CONNECTOR), value)
        elif key.startswith(TARGET):
            self._target(key.removeprefix(TARGET), value)
        elif key.startswith(TASK):
            self._task(key.removeprefix(TASK), value)
        elif key.startswith(COMMIT):
            self._commit(key.removeprefix(COMMIT), value)
        elif key.startswith(FENCING):
            self._fencing(key.removeprefix(FENCING), value)
        elif key == SESSION_KEY and value is not None:
            secret = base64.b64decode(value["key"], validate=True)
            self.session_key = SessionKey(secret, str(value["algorithm"]), int(value["creation-timestamp"]))
        elif key.startswith(RESTART) and value is not None:
            name = key.removeprefix(RESTART)
            return RestartRequest(name, value["include-tasks"] is True, value["only-failed"] is True)
        elif key.startswith(LOGGER) and value is not None:
            return LoggerLevel(key.removeprefix(LOGGER), str(value["level"]))
        elif not key.startswith(_WITHOUT_EFFECT):
            self._count_unknown(key)
        return None

    def _count_unknown(self, key: str) -> None:
        self.unknown += 1
        if self.unknown == 1:
            log.warning(
                "records of the config topic are ignored",
                code="group.unknown_record",
                key=key,
                reason="this version does not know their kind; a newer worker of Kafka Connect or headrace, or another "
                "program, has written them",
                next="update this worker if a newer one of its group relies on them; further ones are not logged",
            )

    def _connector(self, name: str, value: Any) -> None:
        if value is None:
            for part in (self._configs, self._targets, self._tasks, self._revisions, self._publications):
                part.pop(name, None)
            self._unfenced.discard(name)
            self._uncommitted.discard(name)
            return
        self._configs[name] = _properties(value), self._trusted(value)
        self._uncommitted.add(name)
        self._revise(name, config=True)

    def _target(self, name: str, value: Any) -> None:
        if value is None:
            self._targets.pop(name, None)
        else:
            self._targets[name] = TargetState(value.get("state.v2") or value["state"])
        self._revise(name, config=False)

    def _task(self, name: str, value: Any) -> None:
        connector, _, number = name.rpartition("-")
        tasks = self._tasks.setdefault(connector, _Tasks())
        if value is not None:
            tasks.pending[int(number)] = _properties(value), self._trusted(value)
            return
        tasks.pending.pop(int(number), None)
        if tasks.committed is not None and int(number) in tasks.committed:
            tasks.committed = None  # as after compaction, which removes the record

    def _commit(self, name: str, value: Any) -> None:
        if value is None or name not in self._configs:
            self._tasks.pop(name, None)  # a connector that was deleted
            return
        self._uncommitted.discard(name)
        self._publications[name] = self._records
        self._unfenced.add(name)
        tasks = self._tasks.setdefault(name, _Tasks())
        numbers = range(value["tasks"])
        complete = all(number in tasks.pending for number in numbers)
        # Numbers above may be left from a larger set: compaction keeps the latest record of each task.
        tasks.committed = {number: tasks.pending[number] for number in numbers} if complete else None
        tasks.pending.clear()

    def _fencing(self, name: str, value: Any) -> None:
        """The count outlives the connector: a new one of its name fences the tasks of the old one."""
        if value is None:
            self._fenced_counts.pop(name, None)
            return
        self._fenced_counts[name] = int(value["task-count"])
        self._unfenced.discard(name)

    def _revise(self, name: str, *, config: bool) -> None:
        known = self._revisions.get(name, (0, 0))
        self._revisions[name] = (self._records, known[1]) if config else (known[0], self._records)

    def _trusted(self, value: Mapping[str, Any]) -> bool:
        return self._trusts and value.get("trusted") is True

    def _snapshot(self) -> DesiredState:
        tasks = {name: item.committed for name, item in self._tasks.items() if name in self._configs}
        return DesiredState(
            {name: config for name, (config, _) in self._configs.items()},
            dict(self._targets),
            {name: [config for config, _ in (found or {}).values()] for name, found in tasks.items()},
            frozenset(name for name, (_, trusted) in self._configs.items() if trusted),
            frozenset(
                name for name, found in tasks.items() if found is not None and all(trust for _, trust in found.values())
            ),
            {name: revision for name, revision in self._revisions.items() if name in self._configs},
            frozenset(self._uncommitted),
            dict(self._publications),
            frozenset(self._unfenced),
            dict(self._fenced_counts),
        )


def _properties(value: Mapping[str, Any]) -> dict[str, str]:
    properties: Any = value["properties"]
    if not isinstance(properties, dict) or not all(isinstance(text, str) for text in properties.values()):
        raise ValueError("its properties are not texts")
    return properties
