"""Asks connectors for their tasks, each on a thread of its own: a connector may ask a database that does not answer."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from headrace.backoff import RetryPolicy
from headrace.errors import HeadraceError, RetriableError
from headrace.validation import Validator

log = structlog.stdlib.get_logger("headrace.connector")


@dataclass(frozen=True)
class Planned:
    """What came of asking: ``tasks``, or ``trace`` when it failed, or ``reason`` while it is tried again."""

    connector: str
    config: Mapping[str, str]  # the raw configuration that was asked about
    tasks: list[dict[str, str]] | None = None
    trace: str | None = None
    reason: str | None = None


@dataclass
class Planner:
    """``deliver`` is called on the asking thread; an answer about a configuration that is no longer true is dropped
    by whoever receives it."""

    validator: Validator
    deliver: Callable[[Planned], None]
    _cancels: dict[str, threading.Event] = field(default_factory=dict)

    def ask(self, connector: str, config: Mapping[str, str]) -> None:
        """Ask anew; an older question about the same connector ends."""
        self.cancel(connector)
        cancel = self._cancels[connector] = threading.Event()
        threading.Thread(
            target=self._ask, args=(connector, config, cancel), name=f"{connector}-connector", daemon=True
        ).start()

    def cancel(self, connector: str) -> None:
        """Its answer is not needed any more."""
        if (cancel := self._cancels.pop(connector, None)) is not None:
            cancel.set()

    def cancel_all(self) -> None:
        for connector in list(self._cancels):
            self.cancel(connector)

    def _ask(self, connector: str, config: Mapping[str, str], cancel: threading.Event) -> None:
        for wait in RetryPolicy().waits():
            try:
                answer = Planned(connector, config, tasks=self._task_configs(config))
            except RetriableError as error:
                answer = Planned(connector, config, reason=str(error))
                log.warning("waiting", connector=connector, code=error.code, reason=str(error))
            except HeadraceError as error:
                answer = Planned(connector, config, trace=f"{error.code}: {error}")
            except Exception:
                answer = Planned(connector, config, trace=traceback.format_exc())  # a bug of the connector's
            if cancel.is_set():
                return
            self.deliver(answer)
            if answer.reason is None or cancel.wait(wait):
                return

    def _task_configs(self, config: Mapping[str, str]) -> list[dict[str, str]]:
        """Each task's whole configuration. What equals a resolved placeholder stays the placeholder."""
        parsed = self.validator.require_connector(config)
        connector = parsed.plugin.cls()
        task_class = f"{connector.task_class.__module__}.{connector.task_class.__qualname__}"
        tasks = []
        for own in connector.task_configs(parsed.own, parsed.settings.tasks_max):
            added = {key: value for key, value in own.items() if parsed.properties.get(key) != value}
            tasks.append({**config, **added, "task.class": task_class})
        return tasks
