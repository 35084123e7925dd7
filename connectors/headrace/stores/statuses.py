"""Stores the statuses of connectors and tasks. Keys as in Connect's status topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from headrace.redaction import Secrets
from headrace.states import State, Status, TaskId
from headrace.stores.log import CompactedLog

_CONNECTOR, _TASK = "status-connector-", "status-task-"
_YIELDING = ("FAILED", "UNASSIGNED")
"""States that do not replace what another worker has reported in a later generation (Kafka Connect's rule)."""
_FIELDS = tuple(item.name for item in fields(Status))


class StatusStore:
    """Thread-safe: task hosts write, REST reads. What is written holds no secrets."""

    def __init__(
        self, log: CompactedLog, secrets: Secrets | None = None, generation: Callable[[], int] = lambda: 0
    ) -> None:
        """``secrets``: are taken out of all texts of a status. ``generation``: of the group, noted in each status."""
        self._log = log
        self._generation = generation
        self._secrets = secrets or Secrets()

    def put_connector(self, name: str, status: Status) -> None:
        self._log.append({_CONNECTOR + name: _to_json(self._redacted(name, status))})

    def put_task(self, task: TaskId, status: Status) -> None:
        self._log.append({f"{_TASK}{task}": _to_json(self._redacted(task.connector, status))})

    def close(self) -> None:
        self._log.close()

    def _redacted(self, connector: str, status: Status) -> Status:
        status = replace(status, generation=self._generation() or status.generation)
        if status.trace is None and status.reason is None:
            return status
        redactor = self._secrets.of(connector)
        trace, reason = (None if text is None else redactor(text) for text in (status.trace, status.reason))
        return replace(status, trace=trace, reason=reason)

    def connector(self, name: str) -> Status | None:
        """Return the last reported status; None before the first."""
        return _from_json(self._log.get(_CONNECTOR + name))

    def task(self, task: TaskId) -> Status | None:
        """Return the last reported status; None before the first."""
        return _from_json(self._log.get(f"{_TASK}{task}"))

    def connectors(self) -> set[str]:
        """Return the names of all connectors that have a status."""
        return {key.removeprefix(_CONNECTOR) for key in self._log.read() if key.startswith(_CONNECTOR)}

    def tasks(self) -> dict[TaskId, Status]:
        """Return the statuses of all tasks."""
        found = {}
        for key, value in self._log.read().items():
            connector, _, number = key.removeprefix(_TASK).rpartition("-")
            if key.startswith(_TASK) and number.isdecimal() and (status := _from_json(value)) is not None:
                found[TaskId(connector, int(number))] = status
        return found

    def delete_connector(self, name: str) -> None:
        """Delete the statuses of a connector and its tasks."""
        mine = [key for key in self._log.read() if key.rpartition("-")[0] == _TASK + name]
        self._log.append(dict.fromkeys([_CONNECTOR + name, *mine]))

    def delete_task(self, task: TaskId) -> None:
        self._log.append({f"{_TASK}{task}": None})


def outdated(known: Any, new: Any) -> bool:
    """Return whether another worker has reported a newer status: the task has moved. Other records never are."""
    if not isinstance(known, Mapping) or not isinstance(new, Mapping) or new.get("state") not in _YIELDING:
        return False
    return bool(known.get("worker_id") != new["worker_id"] and (known.get("generation") or 0) > new["generation"])


def _to_json(status: Status) -> dict[str, Any]:
    return {
        "state": status.state.value,
        "trace": status.trace,
        "worker_id": status.worker_id,
        "generation": status.generation,
        "version": status.version,
        "reason": status.reason,
        "since": status.since,
        **({"retrying": True} if status.retrying else {}),
    }


def _from_json(value: Any) -> Status | None:
    """Return a status; None for a record that is none. Workers of other versions and of Kafka Connect write, too."""
    if not isinstance(value, Mapping) or value.get("state") not in State.__members__:
        return None
    known = {name: value[name] for name in _FIELDS if value.get(name) is not None}
    return Status(**{"worker_id": "", **known, "state": State(value["state"])})
