"""Stream applications over the in-memory Kafka, built as a worker builds them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from headrace.accounting import balance, record_counts
from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.interfaces import KafkaClients
from headrace.errors import HeadraceError
from headrace.files import parse_config_file
from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.control import TaskControl
from headrace.pipeline.fence import TaskFence
from headrace.pipeline.stream.decisions import DecisionServices
from headrace.records import EncodedBatch, Headers, TopicPartition
from headrace.registry import Registry
from headrace.retries import RetryPolicy
from headrace.runtime.config_origins import ConfigOrigin, ConfigOrigins
from headrace.runtime.task_build import Pipeline, TaskBuilder
from headrace.settings import WorkerSettings
from headrace.states import TaskId
from headrace.step_accounting import step_balance
from headrace.stores import ConditionStore, MemoryLog, OffsetStore
from headrace.testing.waiting import eventually
from headrace.validation import Validator

WORKER = {
    "bootstrap.servers": "unused:9092",
    "key.converter": "JsonConverter",
    "key.converter.schemas.enable": "false",
    "value.converter": "JsonConverter",
    "value.converter.schemas.enable": "false",
}
REGISTRY = Registry()
VALIDATOR = Validator(REGISTRY, make_interpolator(REGISTRY))


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


@dataclass
class RunningTask:
    """One task of an application on a thread of its own."""

    stop_event: threading.Event
    metrics: TaskMetrics
    fence: TaskFence
    reasons: list[str | None] = field(default_factory=list)
    notes: list[str | None] = field(default_factory=list)
    error: BaseException | None = None
    thread: threading.Thread | None = None
    paused: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Stop the task, and assert that every record is accounted for, also in each step with state."""
        accounts = self.metrics.steps.snapshot()
        assert [step_balance(account) for account in accounts.values()] == [0] * len(accounts), accounts
        self.stop_event.set()
        assert self.thread is not None
        self.thread.join(30)
        assert not self.thread.is_alive()
        counts = record_counts(self.metrics.snapshot())
        assert balance(counts) == 0, counts
        assert counts["in_flight"] == 0, counts


@dataclass
class Application:
    """An application from YAML, and the Kafka that it uses."""

    config: dict[str, str]
    broker: InMemoryKafka = field(default_factory=InMemoryKafka)
    origins: ConfigOrigins = field(default_factory=ConfigOrigins)
    tasks: list[RunningTask] = field(default_factory=list)
    worker: dict[str, str] = field(default_factory=lambda: dict(WORKER))
    conditions: ConditionStore = field(default_factory=lambda: ConditionStore(MemoryLog()))

    decisions: DecisionServices = field(default_factory=DecisionServices)

    @property
    def name(self) -> str:
        return self.config["name"]

    def location(self, place: str) -> str:
        """Return the location of a line and column in the application's file."""
        return f"{self.origins.origins[self.name].path}:{place}"

    def run(
        self, stop_event: threading.Event, clients: KafkaClients | None = None, instance: str = "test"
    ) -> RunningTask:
        """Run a task on this thread until ``stop_event``; raise what it raises."""
        task = RunningTask(stop_event, TaskMetrics(), TaskFence())
        self._pipeline(task, 0, instance, clients or self.broker).run()
        return task

    def start(self, number: int = 0, instance: str = "test", clients: KafkaClients | None = None) -> RunningTask:
        task = RunningTask(threading.Event(), TaskMetrics(), TaskFence())
        pipeline = self._pipeline(task, number, instance, clients or self.broker)

        def run() -> None:
            try:
                pipeline.run()
            except HeadraceError as error:
                task.error = error

        task.thread = threading.Thread(target=run, name="pipeline")
        task.thread.start()
        self.tasks.append(task)
        return task

    def _pipeline(self, task: RunningTask, number: int, instance: str, clients: KafkaClients) -> Pipeline:
        control = TaskControl(
            task.stop_event,
            task.paused,
            task.metrics,
            structlog.wrap_logger(None, processors=[_drop]),
            task.started.set,
            task.reasons.append,
            0.01,
            5.0,
            task.fence,
            RetryPolicy(0.001, 0.001),
            task.notes.append,
        )
        settings, findings = VALIDATOR.worker(self.worker)
        assert isinstance(settings, WorkerSettings), findings
        builder = TaskBuilder(
            REGISTRY,
            VALIDATOR,
            clients,
            OffsetStore(MemoryLog()),
            settings,
            self.origins,
            conditions=self.conditions,
            decisions=self.decisions,
            instance=instance,
        )
        # As a file on the worker's command line, which may name functions.
        return builder.build(TaskId(self.name, number), self.config, control, task.reasons.append, trusted=True)

    def send(
        self, topic: str, values: Sequence[Any], keys: Sequence[Any] | None = None, times: Sequence[int] | None = None
    ) -> None:
        """Write records as JSON; None is a null value."""
        producer = self.broker.producer({})
        producer.send(
            EncodedBatch(
                topic,
                [None if value is None else orjson.dumps(value) for value in values],
                None if keys is None else [orjson.dumps(key) for key in keys],
                list(times) if times is not None else None,
            )
        )
        producer.close(1)

    def send_with_headers(self, topic: str, value: Any, key: Any, headers: Headers) -> None:
        """Write one record with headers."""
        producer = self.broker.producer({})
        producer.send(EncodedBatch(topic, [orjson.dumps(value)], [orjson.dumps(key)], headers=[headers]))
        producer.close(1)

    def committed(self, topic: str) -> list[Any]:
        """Return the committed values of a topic, partition by partition."""
        return [value for _, value in self.committed_records(topic)]

    def committed_records(self, topic: str) -> list[tuple[Any, Any]]:
        """Return the committed keys and values of a topic, partition by partition."""
        found = []
        with self.broker.changed:  # a topic is created with its partitions
            for item in self.broker.partitions_of(topic):
                records, _ = self.broker.logs[item].read(0, 1_000_000, committed=True)
                found += [(_loaded(record.key), _loaded(record.value)) for record in records]
        return found

    def wait_until_processed(self) -> None:
        """Wait until every record of the inputs and of the repartition topics is committed."""

        def processed() -> bool:
            """all records are committed"""
            for task in self.tasks:
                if task.error is not None:
                    raise task.error
            return self.is_processed()

        eventually(processed, 20)

    def wait_until_failed(self) -> None:
        """Wait until a task has failed."""

        def failed() -> bool:
            """a task has failed"""
            return any(task.error is not None for task in self.tasks)

        eventually(failed, 20)

    def decoded(self, item: TopicPartition) -> list[tuple[int, int]]:
        """Return ``id`` and ``at`` of the records of a partition."""
        values = [orjson.loads(record.value or b"") for record in self.broker.logs[item].records()]
        return [(value["id"], value["at"]) for value in values]

    def is_processed(self) -> bool:
        """Return whether every record of the inputs and of the repartition topics is committed."""
        committed = self.broker.committed(f"connect-{self.name}")
        return all(
            committed.get(item, 0) >= last_record(self.broker, item)
            for topic in self.inputs()
            for item in self.broker.partitions_of(topic)
        )

    def inputs(self) -> list[str]:
        topics = [
            text
            for key, text in self.config.items()
            if key.startswith("inputs.") and (key.endswith(".topic") or key.count(".") == 1)
        ]
        topics += [
            self.config[f"{key.removesuffix('.scope')}.topic"]
            for key, text in self.config.items()
            if key.startswith("tables.") and key.endswith(".scope") and text == "partitioned"
        ]
        return [*topics, *(topic for topic in self.broker.topics() if topic.endswith("-repartition"))]


def last_record(broker: InMemoryKafka, item: Any) -> int:
    """Return the offset after the last committed record of a partition."""
    records, _ = broker.logs[item].read(0, 1_000_000, committed=True)
    return records[-1].offset + 1 if records else 0


def _loaded(text: bytes | None) -> Any:
    return None if text is None else orjson.loads(text)


MakeApplication = Callable[..., Application]


@pytest.fixture
def make_application(tmp_path: Path) -> Iterator[MakeApplication]:
    """Return a function that creates applications from YAML; running tasks are stopped after the test."""
    yield from application_maker(tmp_path)


def application_maker(folder: Path) -> Iterator[MakeApplication]:
    """Yield a function that creates applications from YAML; then stop their running tasks."""
    made: list[Application] = []

    def make(text: str, topics: Mapping[str, int] | None = None, **settings: str) -> Application:
        path = folder / f"application-{len(made)}.yaml"
        path.write_text(f"name: app\nconnector.class: Stream\ncommit.interval.ms: 1\n{text}", encoding="utf-8")
        file = parse_config_file(path)
        assert file.findings == ()
        given = {name.replace("_", "."): value for name, value in settings.items()}
        config = {**file.properties, **given}
        origin = ConfigOrigin(str(path), file.properties, file.positions)
        application = Application(config, origins=ConfigOrigins({"app": origin}))
        for topic, partitions in (topics or {}).items():
            application.broker.create(topic, partitions)
        made.append(application)
        return application

    yield make
    for application in made:
        application.broker.down = False
        for task in application.tasks:
            task.stop_event.set()
        for task in application.tasks:
            assert task.thread is not None
            task.thread.join(30)
