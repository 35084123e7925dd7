"""Requests task configurations from connectors, each on its own thread: a connector may wait for a database."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from headrace.errors import HeadraceError, InfrastructureError, RetriableError
from headrace.plugin import SourceConnector
from headrace.retries import RESTARTS, RetryPolicy, retry
from headrace.runtime.connector_reasons import ConnectorReasons
from headrace.validation import ConnectorConfig, Validator

log = structlog.stdlib.get_logger("headrace.connector")


@dataclass(frozen=True)
class TaskConfigs:
    """Result of a request: ``tasks``, or ``trace`` when it failed, or ``reason`` while it is retried."""

    connector: str
    config: Mapping[str, str]  # the configuration of the connector, with placeholders
    trusted: bool
    tasks: list[dict[str, str]] | None = None
    trace: str | None = None
    reason: str | None = None
    may_recover: bool = (
        False  # whether the request is repeated: the cause may end without a change of the configuration
    )


@dataclass
class TaskConfigurator:
    """Requests task configurations. ``deliver`` is called on the thread of the request; its receiver ignores results
    for a configuration that was replaced in the meantime."""

    validator: Validator
    deliver: Callable[[TaskConfigs], None]
    reasons: ConnectorReasons = field(default_factory=ConnectorReasons)
    restarts: RetryPolicy = RESTARTS
    _cancels: dict[str, threading.Event] = field(default_factory=dict)

    def ask(self, connector: str, config: Mapping[str, str], *, trusted: bool) -> None:
        """Request the connector's task configurations; an older request for it is cancelled."""
        self.cancel(connector)
        cancel = self._cancels[connector] = threading.Event()
        threading.Thread(
            target=self._ask, args=(connector, config, trusted, cancel), name=f"{connector}-connector", daemon=True
        ).start()

    def cancel(self, connector: str) -> None:
        """Cancel the request of a connector."""
        if (cancel := self._cancels.pop(connector, None)) is not None:
            cancel.set()
        self.reasons.set(connector, "watch", None)

    def cancel_all(self) -> None:
        for connector in list(self._cancels):
            self.cancel(connector)

    def _ask(self, connector: str, config: Mapping[str, str], trusted: bool, cancel: threading.Event) -> None:
        told: TaskConfigs | None = None
        for wait in self.restarts.waits():
            answer, own = self._attempt(connector, config, trusted, cancel)
            if answer is None or cancel.is_set():
                return
            if answer != told:
                told = answer
                self.deliver(answer)
            if answer.tasks is not None:
                self._watch(connector, config, trusted, own, cancel)
            if not answer.may_recover or cancel.wait(wait):
                return

    def _attempt(
        self, connector: str, config: Mapping[str, str], trusted: bool, cancel: threading.Event
    ) -> tuple[TaskConfigs | None, list[dict[str, str]]]:
        """Return the result (None when the request was cancelled) and the tasks' own configurations."""

        def ask() -> tuple[ConnectorConfig, list[dict[str, str]]]:
            parsed = self.validator.require_connector(config, trusted=trusted)
            return parsed, parsed.plugin.cls().task_configs(parsed.own, parsed.settings.tasks_max)

        def waiting(error: RetriableError, failures: int) -> None:
            if failures == 1:
                log.warning("waiting", connector=connector, code=error.code, reason=str(error))
            if not cancel.is_set():
                self.deliver(TaskConfigs(connector, config, trusted, reason=str(error)))

        try:
            parsed, own = retry(ask, stop=cancel, on_failure=waiting)
            return TaskConfigs(connector, config, trusted, tasks=_whole(config, parsed, own)), own
        except RetriableError:
            return None, []
        except InfrastructureError as error:
            trace = f"{error.with_code()} (the connector is started again by itself)"
            return TaskConfigs(connector, config, trusted, trace=trace, may_recover=True), []
        except HeadraceError as error:
            return TaskConfigs(connector, config, trusted, trace=error.with_code()), []
        except BaseException:  # a bug of the connector, or a connector that calls sys.exit
            return TaskConfigs(connector, config, trusted, trace=traceback.format_exc()), []

    def _watch(
        self,
        connector: str,
        config: Mapping[str, str],
        trusted: bool,
        own: list[dict[str, str]],
        cancel: threading.Event,
    ) -> None:
        """Ask the connector at its interval whether its tasks have to change, until the request is cancelled.

        Placeholders are resolved each time: a password may have been changed since the connector was started.
        """
        parsed = self.validator.require_connector(config, trusted=trusted)
        plugin = parsed.plugin.cls()
        interval = plugin.watch_interval(parsed.own) if isinstance(plugin, SourceConnector) else None
        failure: str | None = None
        while interval is not None and not cancel.wait(interval):
            try:
                parsed = self.validator.require_connector(config, trusted=trusted)
                found = plugin.follow(parsed.own, parsed.settings.tasks_max, own)
            except HeadraceError as error:
                if str(error) != failure and not cancel.is_set():
                    failure = str(error)
                    log.warning("the tasks are not changed", connector=connector, code=error.code, reason=failure)
                    self.reasons.set(connector, "watch", f"the connector cannot look for changes: {failure}")
                continue
            except BaseException:  # a bug of the connector; running tasks are not affected
                log.exception("the tasks are not changed", connector=connector)
                continue
            if failure is not None:
                failure = None
                log.info("the connector looks for changes again", connector=connector)
            self.reasons.set(connector, "watch", None)
            if found != own and not cancel.is_set():
                own = found
                log.info("the tasks of the connector have changed", connector=connector, tasks=len(own))
                self.deliver(TaskConfigs(connector, config, trusted, tasks=_whole(config, parsed, own)))


def _whole(
    config: Mapping[str, str], parsed: ConnectorConfig, own: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Return each task's complete configuration. Values that equal a resolved placeholder stay placeholders."""
    cls = parsed.plugin.cls.task_class
    task_class = f"{cls.__module__}.{cls.__qualname__}"
    tasks = []
    for each in own:
        added = {key: value for key, value in each.items() if parsed.properties.get(key) != value}
        tasks.append({**config, **added, "task.class": task_class})
    return tasks
