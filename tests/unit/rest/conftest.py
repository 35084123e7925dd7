"""A fake worker that records calls, and a real server for it."""

import importlib.metadata
import sys
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import httpx
import pytest

from headrace.accounting import PartitionAccount, RecordCause, record_counts
from headrace.conditions import Condition
from headrace.config import ConfigModel, key
from headrace.errors import ConflictError, NotFoundError
from headrace.freshness import FreshnessSummary
from headrace.metrics import Parts
from headrace.pipeline.stream.registration import Registration
from headrace.plugin import SinkConnector, SourceConnector
from headrace.records import SourceOffset, SourcePartition, TopicPartition
from headrace.registry import Plugin, PluginKind, Registry
from headrace.rest.server import RestServer
from headrace.runtime.api import ConnectorInfo, ConnectorStatus, Health, TaskInfo, TaskProgress, TaskRecords, WorkerApi
from headrace.runtime.stream_reset import StreamReset
from headrace.runtime.stream_state_queries import FoundState, StreamStateAnswer, keys_of
from headrace.runtime.tap_view import TapQuery, TapView
from headrace.states import State, Status, TargetState, TaskId
from headrace.worker_events import EventsSnapshot

WORKER_ID = "127.0.0.1:8083"


class FakeWorker:
    """Connectors in a dictionary, one task each. ``fail`` and ``block`` inject faults."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.configs: dict[str, dict[str, str]] = {}
        self.targets: dict[str, TargetState] = {}
        self.statuses: dict[str, ConnectorStatus] = {}
        self.restarts: list[Any] = []
        self.queries: list[TapQuery] = []
        self.tapped = TapView([], 0)
        self.counters: dict[TaskId, dict[str, int]] = {}
        self.raised: list[Condition] = []
        self.causes: list[RecordCause] = []
        self.task_progress: dict[int, TaskProgress] = {}
        self.accounts: dict[str, PartitionAccount] = {}
        self.step_accounts: dict[str, dict[str, int]] = {}
        self.parts: dict[TaskId, Parts] = {}
        self.ages: dict[TaskId, FreshnessSummary] = {}
        self.altered: list[tuple[SourcePartition, SourceOffset | None]] = []
        self.used_topics: list[str] | None = ["shop.orders"]
        self.topics_may_be_reset = True
        self.cluster: str | None = "kafka-1"
        self.answer_health = Health("healthy", "Worker has completed startup and is ready to handle requests.")
        self.answer_liveness = Health("healthy", "The worker's threads are alive.")
        self.fail: BaseException | None = None
        self.entered = threading.Event()  # set when a call is held by ``block``
        self.release = threading.Event()

    def add(self, name: str, **config: str) -> None:
        self.configs[name] = {"connector.class": "AcmeSource", "name": name, **config}
        self.targets[name] = TargetState.STARTED
        running = Status(State.RUNNING, WORKER_ID)
        self.statuses[name] = ConnectorStatus(name, running, {0: running}, "source")

    def block(self) -> None:
        """Make calls block until the test releases them."""
        self.entered.set()
        assert self.release.wait(60)

    def cluster_id(self) -> str | None:
        return self.cluster

    def health(self) -> Health:
        return self.answer_health

    def liveness(self) -> Health:
        return self.answer_liveness

    def connectors(self) -> list[str]:
        if self.fail:
            raise self.fail
        return sorted(self.configs)

    def info(self, name: str) -> ConnectorInfo:
        self._known(name)
        return ConnectorInfo(name, self.configs[name], (TaskId(name, 0),), "source")

    def status(self, name: str) -> ConnectorStatus:
        if name not in self.statuses:
            raise NotFoundError(f"No status found for connector {name}")
        return self.statuses[name]

    def create(self, name: str, config: Mapping[str, str], initial_state: TargetState) -> ConnectorInfo:
        if self.fail:
            raise self.fail
        if name in self.configs:
            raise ConflictError(f"Connector {name} already exists")
        self.configs[name], self.targets[name] = dict(config), initial_state
        return ConnectorInfo(name, config, (), "source")

    def put_config(self, name: str, config: Mapping[str, str]) -> tuple[bool, ConnectorInfo]:
        if self.fail:
            raise self.fail
        created = name not in self.configs
        self.configs[name] = dict(config)
        return created, ConnectorInfo(name, config, (), "source")

    def patch_config(self, name: str, changes: Mapping[str, str | None]) -> ConnectorInfo:
        self._known(name)
        merged = {**self.configs[name], **changes}
        self.configs[name] = {key: value for key, value in merged.items() if value is not None}
        return self.info(name)

    def delete(self, name: str) -> None:
        self._known(name)
        del self.configs[name]

    def set_target_state(self, name: str, target: TargetState) -> None:
        self._known(name)
        self.targets[name] = target

    def restart(self, name: str, *, include_tasks: bool, only_failed: bool) -> ConnectorStatus:
        self._known(name)
        self.restarts.append((name, include_tasks, only_failed))
        planned = Status(State.RESTARTING, WORKER_ID)
        return ConnectorStatus(name, planned, {0: planned if include_tasks else self.statuses[name].tasks[0]}, "source")

    def restart_task(self, task: TaskId) -> None:
        self._known(task.connector)
        if task.number != 0:
            raise NotFoundError(f"Unknown task: {task}")
        self.restarts.append(task)

    def tap(self, task: TaskId, query: TapQuery) -> TapView:
        self._known(task.connector)
        if task.number != 0:
            raise NotFoundError(f"task {task} does not run")
        self.queries.append(query)
        return self.tapped

    def tasks(self, name: str) -> list[TaskInfo]:
        self._known(name)
        return [TaskInfo(TaskId(name, 0), {"task.class": "AcmeTask", **self.configs[name]})]

    def topics(self, name: str) -> list[str] | None:
        self._known(name)
        return self.used_topics

    def reset_topics(self, name: str) -> bool:
        if self.topics_may_be_reset:
            self.used_topics = []
        return self.topics_may_be_reset

    def offsets(self, name: str) -> list[dict[str, Any]]:
        if name == "slow":
            self.block()
        self._known(name)
        return [{"partition": {"table": "orders"}, "offset": {"id": 42}}]

    def alter_offsets(self, name: str, changes: Sequence[tuple[SourcePartition, SourceOffset | None]]) -> None:
        self._known(name)
        self.altered.extend(changes)

    def reset_offsets(self, name: str) -> None:
        self._known(name)
        self.altered.clear()

    def decide(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self._known(name)
        if self.fail:
            raise self.fail
        return {"request": request["request_id"], "selected": "s1"}

    def reset_stream(self, name: str, *, dry: bool) -> StreamReset:
        self._known(name)
        return StreamReset({TopicPartition("t", 0): (7, 0)}, (f"{name}-topology",))

    def stream_state(self, name: str, store: str, key: str) -> StreamStateAnswer:
        self._known(name)
        found = FoundState(0, 3, keys_of(key)[0], [{"at": Decimal("1.50")}])
        return StreamStateAnswer(store, found, frozenset({3}), 0)

    def registration(self, name: str) -> Registration:
        self._known(name)
        return Registration("f", {"counted": ("windows", ("t",))}, "one:8083", 1_000)

    def conditions(self, name: str) -> list[Condition]:
        self._known(name)
        return self.raised

    def acknowledge(self, name: str, code: str | None = None) -> list[Condition]:
        removed = [item for item in self.conditions(name) if code in (None, item.code)]
        self.raised = [item for item in self.raised if item not in removed]
        return removed

    def records(self, name: str) -> dict[int, TaskRecords]:
        self._known(name)
        return {
            task.number: TaskRecords(record_counts(counters), self.causes, self.accounts, self.step_accounts)
            for task, counters in self.counters.items()
            if task.connector == name
        }

    def progress(self, name: str) -> dict[int, TaskProgress]:
        self._known(name)
        return self.task_progress

    def validate(self, config: Mapping[str, str]) -> dict[str, Any]:
        return {"name": config["connector.class"], "error_count": 0, "groups": [], "configs": []}

    def freshness(self) -> Mapping[TaskId, FreshnessSummary]:
        return self.ages

    def events(self) -> Mapping[TaskId, EventsSnapshot]:
        return {}

    def part_metrics(self) -> Mapping[TaskId, Parts]:
        return self.parts

    def metrics(self) -> Mapping[TaskId, Mapping[str, int]]:
        return self.counters

    def _known(self, name: str) -> None:
        if name not in self.configs:
            raise NotFoundError(f"Connector {name} not found")


class AcmeSourceConfig(ConfigModel):
    topic: str = key("topic", doc="Where the records go.")


class AcmeSourceConnector(SourceConnector):
    config_model = AcmeSourceConfig
    aliases: ClassVar[tuple[str, ...]] = ("io.acme.connect.AcmeSourceConnector",)

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        return [dict(properties)]


class AcmeSinkConnector(SinkConnector):
    config_model = ConfigModel
    version = "2.1"


class AcmeConverter:
    version = "3.0"


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """AcmeSource, AcmeSink, a converter, and a connector that cannot be imported."""
    module = types.ModuleType("acme_plugins")
    for cls in (AcmeSourceConnector, AcmeSinkConnector, AcmeConverter):
        cls.__module__ = "acme_plugins"
        setattr(module, cls.__name__, cls)
    sys.modules["acme_plugins"] = module
    installed = [
        (PluginKind.CONNECTOR, "AcmeSource", "acme_plugins:AcmeSourceConnector"),
        (PluginKind.CONNECTOR, "AcmeSink", "acme_plugins:AcmeSinkConnector"),
        (PluginKind.CONNECTOR, "Broken", "acme_without_its_driver:BrokenConnector"),
        (PluginKind.CONVERTER, "AcmeConverter", "acme_plugins:AcmeConverter"),
    ]
    yield Registry(
        Plugin(kind, name, importlib.metadata.EntryPoint(name, value, kind.group)) for kind, name, value in installed
    )
    del sys.modules["acme_plugins"]


@pytest.fixture(scope="session")
def fake_worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
def worker(fake_worker: FakeWorker) -> Iterator[FakeWorker]:
    """The worker of ``server``, without connectors."""
    fake_worker.reset()
    yield fake_worker
    fake_worker.release.set()  # end waiting requests when a test fails


@pytest.fixture(scope="session")
def server(fake_worker: WorkerApi, registry: Registry) -> Iterator[RestServer]:
    running = RestServer(["http://127.0.0.1:0"])
    running.bind()
    running.start(fake_worker, registry)
    yield running
    running.stop()


@pytest.fixture
def client(server: RestServer, worker: FakeWorker) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30, verify=False) as opened:
        yield opened


@pytest.fixture
def failing(worker: FakeWorker) -> Any:
    """Return ``failing(error)``, which makes the worker raise this error."""

    def fail(error: BaseException) -> None:
        worker.fail = error

    return fail
