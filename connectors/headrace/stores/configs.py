"""Stores the desired state: configurations and target states. Keys as in Connect's config topic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.states import TargetState
from headrace.stores.log import CompactedLog

_CONNECTOR, _TARGET, _TASK, _COMMIT = "connector-", "target-state-", "task-", "commit-"


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

    def target(self, connector: str) -> TargetState:
        """Return the target state of a connector; the default is STARTED."""
        return self.targets.get(connector, TargetState.STARTED)


class ConfigStore:
    """Reads and writes the desired state. Used by the reconciler's thread only."""

    def __init__(self, log: CompactedLog) -> None:
        self._log = log

    def desired(self) -> DesiredState:
        """Return the desired state. A connector whose task set is incomplete has no tasks."""
        values = self._log.read()
        configs, targets, tasks = {}, {}, {}
        trusted, trusted_tasks = set(), set()
        for key, value in values.items():
            if key.startswith(_CONNECTOR):
                configs[key.removeprefix(_CONNECTOR)] = value["properties"]
                if value.get("trusted"):
                    trusted.add(key.removeprefix(_CONNECTOR))
            elif key.startswith(_TARGET):
                targets[key.removeprefix(_TARGET)] = TargetState(value.get("state.v2") or value["state"])
            elif key.startswith(_COMMIT):
                name = key.removeprefix(_COMMIT)
                parts = [values.get(f"{_TASK}{name}-{number}") for number in range(value["tasks"])]
                tasks[name] = [part["properties"] for part in parts if part is not None]
                if len(tasks[name]) != value["tasks"]:
                    tasks[name] = []
                if all(part is not None and part.get("trusted") for part in parts):
                    trusted_tasks.add(name)
        present = {name: found for name, found in tasks.items() if name in configs}
        return DesiredState(configs, targets, present, frozenset(trusted), frozenset(trusted_tasks))

    def put_connector(
        self, name: str, config: Mapping[str, str], target: TargetState | None = None, *, trusted: bool = False
    ) -> None:
        """Create or replace a connector. The target state is written first: one created as STOPPED is never started.

        ``trusted``: the configuration is from a file on the worker's command line.
        """
        if target is not None:
            self.put_target(name, target)
        self._log.append({_CONNECTOR + name: {"properties": dict(config), **_mark(trusted)}})

    def put_tasks(self, name: str, configs: Sequence[Mapping[str, str]], *, trusted: bool = False) -> None:
        """Store the tasks of a connector, then the commit record that makes them valid.

        ``trusted``: they were made from a trusted configuration.
        """
        mark = _mark(trusted)
        self._log.append(
            {f"{_TASK}{name}-{number}": {"properties": dict(item), **mark} for number, item in enumerate(configs)}
        )
        self._log.append({_COMMIT + name: {"tasks": len(configs)}})

    def put_target(self, name: str, target: TargetState) -> None:
        """Store a target state. ``state`` in the value is for workers that do not know STOPPED (KIP-875)."""
        state = "PAUSED" if target is TargetState.STOPPED else target.value
        self._log.append({_TARGET + name: {"state": state, "state.v2": target.value}})

    def delete(self, name: str) -> None:
        """Delete a connector and the records of its tasks, which are invalid without it."""
        mine = [key for key in self._log.read() if key == _COMMIT + name or key.rpartition("-")[0] == _TASK + name]
        self._log.append(dict.fromkeys([_CONNECTOR + name, _TARGET + name, *mine]))

    def close(self) -> None:
        self._log.close()


def _mark(trusted: bool) -> dict[str, bool]:
    return {"trusted": True} if trusted else {}
