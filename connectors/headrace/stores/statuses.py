"""Stores the statuses of connectors and tasks. Keys as in Connect's status topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from headrace.redaction import Secrets
from headrace.states import State, Status, TaskId
from headrace.stores.log import CompactedLog

_CONNECTOR, _TASK = "status-connector-", "status-task-"
_FIELDS = tuple(item.name for item in fields(Status))


class StatusStore:
    """Thread-safe: task hosts write, REST reads. What is written holds no secrets."""

    def __init__(self, log: CompactedLog, secrets: Secrets | None = None) -> None:
        """``secrets``: are taken out of all texts of a status."""
        self._log = log
        self._secrets = secrets or Secrets()

    def put_connector(self, name: str, status: Status) -> None:
        self._log.append({_CONNECTOR + name: _to_json(self._redacted(name, status))})

    def put_task(self, task: TaskId, status: Status) -> None:
        self._log.append({f"{_TASK}{task}": _to_json(self._redacted(task.connector, status))})

    def _redacted(self, connector: str, status: Status) -> Status:
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

    def delete_connector(self, name: str) -> None:
        """Delete the statuses of a connector and its tasks."""
        mine = [key for key in self._log.read() if key.rpartition("-")[0] == _TASK + name]
        self._log.append(dict.fromkeys([_CONNECTOR + name, *mine]))

    def delete_task(self, task: TaskId) -> None:
        self._log.append({f"{_TASK}{task}": None})


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
