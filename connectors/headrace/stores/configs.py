"""Writes the desired state to the log of configurations, and reads it back. Keys as in Connect's config topic."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping, Sequence

from headrace.states import TargetState
from headrace.stores.config_fold import (
    COMMIT,
    CONNECTOR,
    FENCING,
    LOGGER,
    RESTART,
    SESSION_KEY,
    TARGET,
    TASK,
    Command,
    ConfigFold,
    DesiredState,
    SessionKey,
)
from headrace.stores.log import CompactedLog, Entries


class ConfigStore:
    """Every change is appended to the log and counts when it is read back. Thread-safe."""

    def __init__(
        self,
        log: CompactedLog,
        *,
        shared: bool = False,
        replaying: Callable[[], bool] = lambda: False,
        append_by_any: Callable[[Entries], None] | None = None,
    ) -> None:
        """``shared``: other workers, of Kafka Connect too, read and write the log. ``replaying``: whether the log still
        reads what was written before it was opened. ``append_by_any`` appends what any worker of a group may write;
        all else is written by the leader."""
        self._log = log
        self._append_by_any = append_by_any or log.append
        self._shared = shared
        self._fold = ConfigFold(trusts=not shared)
        self._lock = threading.Lock()
        self._changed: Callable[[Sequence[Command]], None] = lambda _: None
        self._replaying: Callable[[], bool] = lambda: True
        log.follow(self._take)
        self._replaying = replaying

    def on_change(self, listener: Callable[[Sequence[Command]], None]) -> None:
        """Call ``listener`` after each change with the commands that it holds; on the thread of the log."""
        self._changed = listener

    def desired(self) -> DesiredState:
        """Return the desired state. A connector whose task set is incomplete has no tasks."""
        with self._lock:
            return self._fold.desired()

    def session_key(self) -> SessionKey | None:
        """Return the key with which workers sign requests; None before the first leader has written one."""
        with self._lock:
            return self._fold.session_key

    def put_connector(
        self, name: str, config: Mapping[str, str], target: TargetState | None = None, *, trusted: bool = False
    ) -> None:
        """Create or replace a connector. The target state is written first: one created as STOPPED is never started.

        ``trusted``: the configuration is from a file on the worker's command line.
        """
        before = {TARGET + name: _target(target)} if target is not None else {}
        self._log.append({**before, CONNECTOR + name: {"properties": dict(config), **_mark(trusted)}})

    def put_tasks(self, name: str, configs: Sequence[Mapping[str, str]], *, trusted: bool = False) -> None:
        """Store the tasks of a connector, then the commit record that makes them valid.

        ``trusted``: they were made from a trusted configuration.
        """
        mark = _mark(trusted)
        self._log.append(
            {
                **{f"{TASK}{name}-{number}": {"properties": dict(item), **mark} for number, item in enumerate(configs)},
                COMMIT + name: {"tasks": len(configs)},
            }
        )

    def put_fencing(self, name: str, tasks: int) -> None:
        """Note that the producers of earlier tasks are fenced, and how many tasks may have one from now on."""
        self._log.append({FENCING + name: {"task-count": tasks}})

    def put_target(self, name: str, target: TargetState) -> None:
        """Store a target state."""
        self._log.append({TARGET + name: _target(target)})

    def put_stopped(self, name: str) -> None:
        """Remove the tasks of a connector and store the target state STOPPED."""
        self._log.append({COMMIT + name: {"tasks": 0}, TARGET + name: _target(TargetState.STOPPED)})

    def put_restart(self, name: str, *, include_tasks: bool, only_failed: bool) -> None:
        """Request a restart from every worker."""
        self._log.append({RESTART + name: {"include-tasks": include_tasks, "only-failed": only_failed}})

    def put_logger_level(self, logger: str, level: str) -> None:
        """Set the level of a logger on every worker."""
        self._append_by_any({LOGGER + logger: {"level": level}})

    def put_session_key(self, key: SessionKey) -> None:
        """Store the key with which workers sign requests to each other from now on."""
        secret = base64.b64encode(key.key).decode()
        self._log.append({SESSION_KEY: {"key": secret, "algorithm": key.algorithm, "creation-timestamp": key.created}})

    def delete(self, name: str) -> None:
        """Delete a connector. The records of its tasks are invalid without it.

        A shared log keeps them, as Kafka Connect does: a JVM worker logs an error for the deletion of each.
        """
        with self._lock:
            tasks = [] if self._shared else self._fold.task_keys(name)
        self._log.append(dict.fromkeys([CONNECTOR + name, TARGET + name, *tasks]))

    def refresh(self) -> None:
        """Read what other workers have written until now. Raise RetriableError."""
        self._log.refresh()

    def close(self) -> None:
        self._log.close()

    def _take(self, entries: Entries) -> None:
        with self._lock:
            commands = [command for key, value in entries.items() if (command := self._fold.apply(key, value))]
        # Commands of the time before the start were carried out then.
        self._changed([] if self._replaying() else commands)


def _target(target: TargetState) -> dict[str, str]:
    """``state`` is for workers that do not know STOPPED (KIP-875)."""
    return {"state": "PAUSED" if target is TargetState.STOPPED else target.value, "state.v2": target.value}


def _mark(trusted: bool) -> dict[str, bool]:
    return {"trusted": True} if trusted else {}
