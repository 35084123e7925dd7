"""The operations of a worker: validates requests, passes commands to the reconciler, reads the stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from headrace.accounting import record_counts
from headrace.broker.interfaces import Admin, Reader
from headrace.conditions import Condition
from headrace.config import nearest
from headrace.errors import (
    CommandError,
    ConfigError,
    ConflictError,
    Finding,
    HeadraceError,
    NotFoundError,
    RetriableError,
)
from headrace.freshness import FreshnessSummary
from headrace.metrics import Parts
from headrace.pipeline.stream.decisions import DecisionServices
from headrace.pipeline.stream.registration import Registration
from headrace.pipeline.tap import WRITTEN
from headrace.plugin import SystemChoices
from headrace.plugin_docs import validation_response
from headrace.records import SourceOffset, SourcePartition
from headrace.redaction import redacted_errors
from headrace.registry import PluginKind, Registry
from headrace.runtime import sink_offsets
from headrace.runtime.api import ConnectorInfo, ConnectorStatus, Health, TaskInfo, TaskProgress, TaskRecords
from headrace.runtime.connector_reasons import ConnectorReasons
from headrace.runtime.consumer_groups import require_other_group
from headrace.runtime.health import health, liveness
from headrace.runtime.kafka_watch import KafkaWatch
from headrace.runtime.progress import task_progress
from headrace.runtime.reconciler import Reconciler
from headrace.runtime.stage_build import group_of
from headrace.runtime.stored_application import StoredApplication
from headrace.runtime.stream_reset import StreamReset
from headrace.runtime.stream_state_queries import StreamStateAnswer, query_state
from headrace.runtime.supervisor import TaskSupervisor
from headrace.runtime.system_lookup import SystemLookups
from headrace.runtime.tap_view import TapQuery, TapView, tap_task
from headrace.runtime.topic_tracking import TopicTracker
from headrace.states import State, Status, TargetState, TaskId
from headrace.stores import ConditionStore, DesiredState, MemoryLog, OffsetStore, StatusStore
from headrace.validation import ConnectorConfig, Validator
from headrace.worker_events import EventsSnapshot

log = structlog.stdlib.get_logger("headrace.worker")
T = TypeVar("T")
_CONSUMERS = ("sink", "stream")
"""Types of connectors whose offsets are those of a consumer group."""


class Worker:
    """Implements :class:`headrace.runtime.api.WorkerApi`. Thread-safe."""

    def __init__(
        self,
        reconciler: Reconciler,
        supervisor: TaskSupervisor,
        statuses: StatusStore,
        offsets: OffsetStore,
        validator: Validator,
        registry: Registry,
        open_admin: Callable[[], Admin],
        refused: Callable[[HeadraceError], None],
        group: str | None = None,
        tracker: TopicTracker | None = None,
        conditions: ConditionStore | None = None,
        reasons: ConnectorReasons | None = None,
        open_reader: Callable[[], Reader] | None = None,
        decisions: DecisionServices | None = None,
        not_ready: Callable[[], str | None] = lambda: None,
        worker_group: str | None = None,
        ended: Callable[[], str | None] = lambda: None,
        fence_sources: Callable[[str], None] | None = None,
        delivery: Callable[[Mapping[str, str]], str] = lambda config: "",
    ) -> None:
        """``refused`` is called on a thread of the worker when Kafka refuses it permanently (wrong settings).

        ``group``: the consumer group of all sinks that do not set one (``consumer.group.id`` of the worker).
        ``not_ready`` returns why the worker has not joined its worker group ``worker_group`` yet, ``ended`` which
        thread of the group has ended although the worker runs. ``fence_sources`` fences the producers of earlier tasks
        of an exactly-once source; None: sources deliver at least once. ``delivery``: see :class:`ConnectorStatus`.
        """
        self._reconciler = reconciler
        self._supervisor = supervisor
        self._statuses = statuses
        self._offsets = offsets
        self._validator = validator
        self._registry = registry
        self._open_admin = open_admin
        self._common_group = group
        self._tracker = tracker or TopicTracker()
        self._conditions = conditions or ConditionStore(MemoryLog())
        self._reasons = reasons or ConnectorReasons()
        self._open_reader = open_reader
        self._decisions = decisions or DecisionServices()
        self._not_ready = not_ready
        self._worker_group = worker_group
        self._ended = ended
        self._fence_sources = fence_sources
        self._delivery = delivery
        self._lookups = SystemLookups(validator)
        self._kafka_watch = KafkaWatch(open_admin, refused)

    def start(self) -> None:
        """Start the reconciler, and ask for the id of the Kafka cluster without waiting for it."""
        self._reconciler.start()
        self._kafka_watch.start()

    def stop(self, timeout: float) -> None:
        """Stop all tasks and store their positions. Return after at most ``timeout`` seconds."""
        self._kafka_watch.stop()
        self._reconciler.stop(timeout)
        self._kafka_watch.join()

    def cluster_id(self) -> str | None:
        return self._kafka_watch.cluster_id

    def liveness(self) -> Health:
        return liveness(alive=self._reconciler.alive(), ended=self._ended(), busy=self._reconciler.busy_for())

    def health(self) -> Health:
        known = self._kafka_watch.cluster_id is not None
        waiting = self._not_ready() if known else self._kafka_watch.not_found
        return health(self.liveness(), waiting, busy=self._reconciler.busy_for())

    def connectors(self) -> list[str]:
        return sorted(self._desired().configs)

    def info(self, name: str) -> ConnectorInfo:
        desired = self._desired()
        config = _require(name, desired)
        tasks = tuple(TaskId(name, number) for number in range(len(desired.tasks.get(name, ()))))
        return ConnectorInfo(name, dict(config), tasks, self._type(config))

    def status(self, name: str) -> ConnectorStatus:
        return self._status(name, "No status found for connector {}")

    def _status(self, name: str, unknown: str) -> ConnectorStatus:
        desired = self._desired()
        config = _require(name, desired, unknown)
        version = self._version(config)
        known = self._statuses.connector(name) or Status(State.UNASSIGNED, "")
        tasks = {}
        for number in range(len(desired.tasks.get(name, ()))):
            if (status := self._statuses.task(TaskId(name, number))) is not None:
                tasks[number] = replace(status, version=version)
        reasons = [known.reason, self._reasons.of(name)]
        # A task that has noticed the outage reports it in its own reason.
        idle = known.state is State.RUNNING and not any(task.retrying for task in tasks.values())
        kafka = self._kafka_watch.problem if idle else None
        if kafka is not None:
            reasons.append(f"waiting for Kafka: {kafka}")
        reason = "; ".join(filter(None, reasons)) or None
        connector = replace(known, version=version, reason=reason, retrying=kafka is not None)
        conditions = tuple(self._conditions.of(name))
        configured = config.get("connector.class", "")
        kind = self._type(config)
        delivery = self._delivery(config) if kind == "source" else ""
        return ConnectorStatus(name, connector, tasks, kind, conditions, configured, delivery)

    def create(self, name: str, config: Mapping[str, str], initial_state: TargetState) -> ConnectorInfo:
        config = self._checked(name, config)
        self._reconciler.call(lambda: self._reconciler.create(name, config, initial_state))
        return self.info(name)

    def put_config(self, name: str, config: Mapping[str, str]) -> tuple[bool, ConnectorInfo]:
        config = self._checked(name, config)
        created = self._reconciler.call(lambda: self._reconciler.replace(name, config))
        return created, self.info(name)

    def put_file(self, name: str, config: Mapping[str, str]) -> None:
        """Create or replace a connector from a file on the worker's command line; keep the tasks of an equal one."""
        desired = self._desired()
        named = {**config, "name": name}
        if desired.configs.get(name) == named and name in desired.trusted:
            return
        self._require_valid(name, self._validator.connector(named, trusted=True)[1])
        self._reconciler.call(lambda: self._reconciler.replace(name, named, trusted=True))

    def patch_config(self, name: str, changes: Mapping[str, str | None]) -> ConnectorInfo:
        merged: dict[str, str | None] = {**_require(name, self._desired()), **changes}
        return self.put_config(name, {key: value for key, value in merged.items() if value is not None})[1]

    def delete(self, name: str) -> None:
        self._reconciler.call(lambda: self._reconciler.delete(name))
        self._tracker.forget(name)
        self._reasons.forget(name)

    def set_target_state(self, name: str, target: TargetState) -> None:
        self._reconciler.call(lambda: self._reconciler.set_target(name, target))

    def restart(self, name: str, *, include_tasks: bool, only_failed: bool) -> ConnectorStatus:
        status = self._status(name, "Unknown connector: {}")
        connector = not only_failed or status.connector.state is State.FAILED
        restarted = status.tasks.items() if include_tasks else ()
        tasks = [number for number, task in restarted if not only_failed or task.state is State.FAILED]
        self._reconciler.call(
            lambda: self._reconciler.request_restart(name, include_tasks=include_tasks, only_failed=only_failed)
        )
        return ConnectorStatus(
            name,
            _restarting(status.connector) if connector else status.connector,
            {number: _restarting(task) if number in tasks else task for number, task in status.tasks.items()},
            status.type,
        )

    def restart_task(self, task: TaskId) -> None:
        desired = self._desired()
        _require(task.connector, desired, "Unknown connector: {}")
        if desired.target(task.connector) is TargetState.STOPPED:
            text = f"Connector {task.connector} is stopped and has no tasks"
            raise ConflictError(text, code="connector.stopped", hint="resume the connector, which starts its tasks")
        if task.number >= len(desired.tasks.get(task.connector, ())):
            raise NotFoundError(f"Unknown task: {task}")
        self._reconciler.call(lambda: self._reconciler.restart_task(task))

    def tasks(self, name: str) -> list[TaskInfo]:
        desired = self._desired()
        _require(name, desired)
        return [TaskInfo(TaskId(name, number), dict(item)) for number, item in enumerate(desired.tasks.get(name, ()))]

    def put_tasks(self, name: str, tasks: Sequence[Mapping[str, str]]) -> None:
        self._reconciler.call(lambda: self._reconciler.put_tasks(name, tasks))

    def fence(self, name: str) -> None:
        if self._fence_sources is None:
            raise ConflictError(
                "This worker does not have exactly-once source support enabled, and cannot fence the tasks of sources",
                code="group.exactly_once_disabled",
                hint="set exactly.once.source.support=preparing on all workers of the group, then enabled",
            )
        self._fence_sources(name)

    def topics(self, name: str) -> list[str] | None:
        _require(name, self._desired())
        return self._tracker.topics(name) if self._tracker.enabled else None

    def reset_topics(self, name: str) -> bool:
        _require(name, self._desired())
        if self._tracker.reset_allowed:
            self._tracker.forget(name)
        return self._tracker.reset_allowed

    def offsets(self, name: str) -> list[dict[str, Any]]:
        config = _require(name, self._desired())
        if self._type(config) not in _CONSUMERS:
            return [
                {"partition": dict(partition), "offset": dict(offset)} for partition, offset in self._offsets.all(name)
            ]
        group = self._group(name, config, trusted=self._trusts(name))
        return self._with_admin(lambda admin: sink_offsets.shown(admin, group))

    def alter_offsets(self, name: str, changes: Sequence[tuple[SourcePartition, SourceOffset | None]]) -> None:
        config = self._reconciler.call(lambda: self._stopped_config(name))
        accepted = self._accepted(name, config, changes)
        self._fence_stopped(name, config)
        group = self._reconciler.call(lambda: self._alter(name, accepted))
        if group is not None:
            self._move(name, lambda admin: sink_offsets.move(admin, group, changes))

    def _fence_stopped(self, name: str, config: Mapping[str, str]) -> None:
        if self._fence_sources is not None and self._type(config) == "source":
            self._fence_sources(name)  # a task that hangs would store its position after the change

    def reset_offsets(self, name: str) -> None:
        self._fence_stopped(name, self._reconciler.call(lambda: self._stopped_config(name)))
        group = self._reconciler.call(
            lambda: self._alter(name, [(partition, None) for partition, _ in self._offsets.all(name)])
        )
        if group is not None:
            self._move(name, lambda admin: sink_offsets.reset(admin, group))

    def decide(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        _require(name, self._desired())
        return self._decisions.of(name).decide(request)

    def reset_stream(self, name: str, *, dry: bool) -> StreamReset:
        application = self._application(name)
        if not dry:
            self._reconciler.call(lambda: self._reconciler.require_stopped(name))
        trusted = self._trusts(name)
        parsed = self._validator.require_connector(application.config, trusted=trusted)
        group = self._group(name, application.config, trusted=trusted)
        return self._with_admin(lambda admin: application.reset(admin, parsed, group, dry=dry))

    def stream_state(self, name: str, store: str, key: str) -> StreamStateAnswer:
        self._application(name)
        return query_state(self._supervisor.state_queries(name), self._with_admin, name, store, key)

    def registration(self, name: str) -> Registration:
        found = self._with_admin(self._application(name).registration)
        redact = self._validator.secrets.of(name)
        return replace(found, stores={store: (redact(text), topics) for store, (text, topics) in found.stores.items()})

    def tap(self, task: TaskId, query: TapQuery) -> TapView:
        config = _require(task.connector, self._desired())
        shows_writes = query.stage == WRITTEN and self._type(config) == "sink"
        parsed = self.parsed_config(task.connector) if shows_writes else None
        previewer = parsed.plugin.cls().previewer(parsed.own) if parsed is not None else None
        return tap_task(self._supervisor.tap(task), task, query, self._validator.secrets.of(task.connector), previewer)

    def _application(self, name: str) -> StoredApplication:
        config = _require(name, self._desired())
        if self._type(config) != "stream" or self._open_reader is None:
            hint = f"`headrace connectors offsets {name} --reset` starts other connectors from the beginning"
            raise CommandError(f"{name} is not a stream application", code="stream.not_an_application", hint=hint)
        return StoredApplication(name, config, self._open_reader)

    def _stopped_config(self, name: str) -> dict[str, str]:
        self._reconciler.require_stopped(name)
        return dict(self._reconciler.require(name))

    def _accepted(
        self, name: str, config: Mapping[str, str], changes: Sequence[tuple[SourcePartition, SourceOffset | None]]
    ) -> list[tuple[SourcePartition, SourceOffset | None]]:
        """Return the changes as the source connector accepts them. Not on the reconciler's thread: it may do I/O.

        Any stored partition may be deleted, including those that the connector does not know any more.
        """
        if self._type(config) != "source":
            return list(changes)
        stored = [partition for partition, _ in self._offsets.all(name)]
        deletions = [change for change in changes if change[1] is None and change[0] in stored]
        asked = [change for change in changes if change not in deletions]
        if not asked:
            return deletions
        parsed = self._validator.require_connector(config, trusted=self._trusts(name))
        with redacted_errors(self._validator.secrets.of(name)):
            return [*deletions, *parsed.plugin.cls().offset_changes(parsed.own, asked)]

    def _alter(self, name: str, changes: Sequence[tuple[SourcePartition, SourceOffset | None]]) -> str | None:
        """Change the offsets of a source, or return the group of a sink. On the reconciler's thread: no task starts
        meanwhile."""
        self._reconciler.require_stopped(name)
        config = self._reconciler.require(name)
        if self._type(config) == "sink":
            return self._group(name, config, trusted=name in self._reconciler.desired().trusted)
        if self._type(config) == "stream":
            raise CommandError(
                f"the offsets of stream application {name} cannot be changed: its state would not fit them",
                code="stream.offsets",
                hint=f"`headrace stream reset {name}` resets offsets and state together",
            )
        # The store compares the bytes of partitions. The same names in another order mean the same partition.
        stored = [partition for partition, _ in self._offsets.all(name)]
        known = [(next((item for item in stored if item == partition), partition), new) for partition, new in changes]
        self._offsets.set(name, known)
        log.info("positions changed", connector=name, partitions=len(known))
        return None

    def _move(self, name: str, change: Callable[[Admin], int]) -> None:
        """Change the offsets of a group. Not on the reconciler's thread, because it waits for Kafka, which refuses the
        change once a task has joined the group."""
        partitions = self._with_admin(change)
        log.info("positions changed", connector=name, partitions=partitions)

    def _with_admin(self, do: Callable[[Admin], T]) -> T:
        admin = self._open_admin()
        try:
            return do(admin)
        finally:
            admin.close()

    def validate(self, config: Mapping[str, str]) -> dict[str, Any]:
        def look_up(properties: Mapping[str, str], findings: Sequence[Finding]) -> SystemChoices:
            return self._lookups.choices(properties, self._desired().configs.values(), findings)

        return validation_response(self._validator, config, look_up)

    def conditions(self, name: str) -> list[Condition]:
        _require(name, self._desired())
        return self._conditions.of(name)

    def acknowledge(self, name: str, code: str | None = None) -> list[Condition]:
        raised = [condition.code for condition in self.conditions(name)]
        if code is not None and code not in raised:
            hint = f"its conditions are {', '.join(raised)}" if raised else "the connector has no conditions"
            raise NotFoundError(f"Connector {name} has no condition {code}", hint=hint)
        removed = self._conditions.remove(name, code)
        log.info("acknowledged", connector=name, codes=[condition.code for condition in removed])
        return removed

    def records(self, name: str) -> dict[int, TaskRecords]:
        _require(name, self._desired())
        redactor = self._validator.secrets.of(name)
        return {
            task.number: TaskRecords(
                record_counts(metrics.snapshot()),
                [replace(cause, example=redactor(cause.example)) for cause in metrics.causes.snapshot()],
                metrics.partitions.snapshot(),
                metrics.steps.snapshot(),
            )
            for task, metrics in self._supervisor.task_metrics().items()
            if task.connector == name
        }

    def progress(self, name: str) -> dict[int, TaskProgress]:
        _require(name, self._desired())
        return {
            task.number: task_progress(metrics)
            for task, metrics in self._supervisor.task_metrics().items()
            if task.connector == name
        }

    def metrics(self) -> Mapping[TaskId, Mapping[str, int]]:
        return self._supervisor.metrics()

    def freshness(self) -> Mapping[TaskId, FreshnessSummary]:
        return {task: metrics.freshness.snapshot() for task, metrics in self._supervisor.task_metrics().items()}

    def events(self) -> Mapping[TaskId, EventsSnapshot]:
        return {task: metrics.events.snapshot() for task, metrics in self._supervisor.task_metrics().items()}

    def part_metrics(self) -> Mapping[TaskId, Parts]:
        return {
            task: {self._validator.secrets.redact(task.connector, part): values for part, values in parts.items()}
            for task, parts in self._supervisor.part_metrics().items()
        }

    def parsed_config(self, name: str) -> ConnectorConfig:
        """Return the connector's configuration with its placeholders resolved. Raise NotFoundError, ConfigError."""
        desired = self._desired()
        return self._validator.require_connector(_require(name, desired), trusted=name in desired.trusted)

    def _trusts(self, name: str) -> bool:
        """Return whether the connector's configuration is from a file on the worker's command line."""
        return name in self._desired().trusted

    def _desired(self) -> DesiredState:
        return self._reconciler.call(self._reconciler.desired)

    def _checked(self, name: str, config: Mapping[str, str]) -> dict[str, str]:
        named = {**config, "name": name}
        desired = self._desired()
        if name not in desired.trusted or desired.configs[name] != named:
            self._require_valid(name, self._validator.unresolved_connector(named))
            self._require_valid(name, self._lookups.refusals(named, desired.configs))
            if self._type(named) == "stream" and self._open_reader is not None:
                self._require_fitting_state(StoredApplication(name, named, self._open_reader))
        if self._worker_group is not None and self._type(named) in _CONSUMERS:
            require_other_group(self._group(name, named, trusted=False), self._worker_group, named)
        return named

    def _require_fitting_state(self, application: StoredApplication) -> None:
        """Raise ConflictError when the state that the application has does not fit its new configuration."""
        parsed = self._validator.require_connector(application.config)
        try:
            with redacted_errors(self._validator.secrets.of(application.name)):
                self._with_admin(lambda admin: application.require_fitting_state(admin, parsed))
        except RetriableError as error:  # the tasks compare it, too, before they read a record
            log.warning("state not compared", connector=application.name, code=error.code, reason=str(error))

    def _require_valid(self, name: str, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.severity == "warning":
                log.warning("configuration", connector=name, code=finding.code, reason=finding.message)
        if any(finding.severity == "error" for finding in findings):
            raise ConfigError(findings=findings)

    def _type(self, config: Mapping[str, str]) -> str:
        try:
            return self._registry.find(PluginKind.CONNECTOR, config.get("connector.class", "")).type
        except ConfigError:
            return "unknown"  # Connect's type of a plugin that was uninstalled

    def _version(self, config: Mapping[str, str]) -> str | None:
        try:
            return self._registry.find(PluginKind.CONNECTOR, config.get("connector.class", "")).version
        except ConfigError:
            return None  # the plugin was uninstalled

    def _group(self, name: str, config: Mapping[str, str], *, trusted: bool) -> str:
        named = config.get("consumer.override.group.id")
        if named is None:
            return self._common_group or group_of(name)
        resolution = self._validator.interpolator.resolution({"group": named}, trusted=trusted)
        return resolution.properties["group"]


# Connect's text differs by request (AbstractHerder); clients search for it.
def _require(name: str, desired: DesiredState, unknown: str = "Connector {} not found") -> Mapping[str, str]:
    if name not in desired.configs:
        raise NotFoundError(unknown.format(name), hint=nearest(name, desired.configs))
    return desired.configs[name]


def _restarting(status: Status) -> Status:
    return replace(status, state=State.RESTARTING, reason=None, retrying=False)
