"""A worker with the in-memory broker, and a source and a sink whose steps are controlled by tests."""

from __future__ import annotations

import importlib.metadata
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from headrace.app import WorkerApplication
from headrace.broker.in_memory import InMemoryKafka
from headrace.config import ConfigModel, key
from headrace.errors import ConfigError, DataError
from headrace.files import ConfigFile
from headrace.interpolation import make_interpolator
from headrace.plugin import SinkConnector, SinkTask, SourceConnector, SourceTask, SystemChoices, Wait
from headrace.records import Rejection, SinkBatch, SourceBatch
from headrace.registry import Plugin, PluginKind, Registry
from headrace.runtime.group_runtime import OpenMember
from headrace.runtime.worker import Worker
from headrace.settings import WorkerSettings
from headrace.testing.waiting import eventually
from headrace.validation import Validator


@dataclass
class World:
    """Controls the connectors below: exceptions to raise, and events to wait for."""

    planning: list[BaseException] = field(default_factory=list)
    looking_up: list[Exception] = field(default_factory=list)
    watch: float | None = None
    follows: list[BaseException | list[str]] = field(default_factory=list)  # names of tasks, in order
    starting: list[Exception] = field(default_factory=list)
    polling: list[Exception] = field(default_factory=list)
    hang: threading.Event | None = None
    hang_at: int = 0  # the number of the row whose poll hangs
    put_hang: threading.Event | None = None
    hanging: threading.Event = field(default_factory=threading.Event)
    starts: list[dict[str, str]] = field(default_factory=list)
    stops: int = 0
    sink_stops: int = 0
    written: list[Any] = field(default_factory=list)
    rejected: set[Any] = field(default_factory=set)


WORLD = World()


class NumbersConfig(ConfigModel):
    topic: str = key("topic", doc="Where to.")
    speed: int = key("speed", default=1, doc="Rows per batch.")
    task: str | None = key("task", default=None, doc="Which task this is; set by the connector.")


class NumbersTask(SourceTask):
    def start(self, context: Any) -> None:
        if WORLD.starting:
            raise WORLD.starting.pop()
        WORLD.starts.append(dict(context.properties))
        self.config = NumbersConfig.parse(context.properties)
        self.partition = {"task": self.config.task}
        (stored,) = context.offset_reader.offsets([self.partition])
        self.next = stored["n"] if stored else 0

    def poll(self) -> SourceBatch | Wait:
        if (hang := WORLD.hang) is not None and self.next >= WORLD.hang_at:
            WORLD.hanging.set()
            hang.wait()  # the test may have removed it already
        if WORLD.polling:
            raise WORLD.polling.pop()
        if self.next >= 100:
            return Wait(0.02)
        rows = [{"task": self.config.task, "n": self.next + each} for each in range(self.config.speed)]
        self.next += self.config.speed
        return SourceBatch(
            self.config.topic,
            rows,
            source_partition=self.partition,
            source_offset={"n": self.next},
            keys=[None] * len(rows),
        )

    def stop(self) -> None:
        WORLD.stops += 1


class NumbersSourceConnector(SourceConnector):
    config_model: ClassVar[type[ConfigModel]] = NumbersConfig
    task_class = NumbersTask
    lookup_keys = ("speed",)

    def look_up(self, properties: Mapping[str, str]) -> SystemChoices:
        if WORLD.looking_up:
            raise WORLD.looking_up.pop()
        return SystemChoices()

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        if WORLD.planning:
            raise WORLD.planning.pop()
        return [{**properties, "task": str(number)} for number in range(max_tasks)]

    def watch_interval(self, properties: Mapping[str, str]) -> float | None:
        return WORLD.watch

    def follow(
        self, properties: Mapping[str, str], max_tasks: int, present: Sequence[Mapping[str, str]]
    ) -> list[dict[str, str]]:
        if not WORLD.follows:
            return [dict(each) for each in present]
        answer = WORLD.follows.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return [{**properties, "task": name} for name in answer]

    def offset_changes(
        self, properties: Mapping[str, str], changes: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]]
    ) -> list[tuple[Mapping[str, Any], Mapping[str, Any] | None]]:
        """Translate the partition key ``number`` of older versions."""
        for partition, _ in changes:
            if not partition.keys() & {"task", "number"}:
                raise ConfigError(f"no partition {dict(partition)}", code="numbers.unknown_partition")
        return [({"task": partition.get("task", partition.get("number"))}, offset) for partition, offset in changes]


class MemoryTask(SinkTask):
    def start(self, context: Any) -> None:
        WORLD.starts.append(dict(context.properties))

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        if (hang := WORLD.put_hang) is not None:
            WORLD.hanging.set()
            hang.wait()
        rejections = []
        for batch in batches:
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                if value["n"] in WORLD.rejected:
                    rejections.append(
                        Rejection(batch.topic_partition, offset, DataError("mapping conflict", code="memory.refused"))
                    )
                else:
                    WORLD.written.append(value)
        return rejections

    def stop(self) -> None:
        WORLD.sink_stops += 1


class MemorySinkConnector(SinkConnector):
    config_model: ClassVar[type[ConfigModel]] = ConfigModel
    task_class = MemoryTask


@pytest.fixture
def world() -> Iterator[World]:
    """A new World; its events are set after the test."""
    WORLD.__init__()  # type: ignore[misc]
    yield WORLD
    for hang in (WORLD.hang, WORLD.put_hang):
        if hang is not None:
            hang.set()


@pytest.fixture(scope="session")
def plugins() -> Iterator[Registry]:
    module = types.ModuleType("runtime_test_plugins")
    for cls in (NumbersSourceConnector, NumbersTask, MemorySinkConnector, MemoryTask):
        cls.__module__ = module.__name__
        setattr(module, cls.__name__, cls)
    sys.modules[module.__name__] = module
    mine = [
        Plugin(
            PluginKind.CONNECTOR, name, importlib.metadata.EntryPoint(name, f"{module.__name__}:{name}Connector", "")
        )
        for name in ("NumbersSource", "MemorySink")
    ]
    installed = Registry()
    streams = [plugin for plugin in installed.plugins(PluginKind.CONNECTOR) if plugin.name.startswith("Stream")]
    yield Registry(
        [
            *mine,
            *streams,
            *installed.plugins(PluginKind.CONVERTER),
            *installed.plugins(PluginKind.HEADER_CONVERTER),
            *installed.plugins(PluginKind.CONFIG_PROVIDER),
        ]
    )
    del sys.modules[module.__name__]


@dataclass
class Process:
    """A worker from start to stop, as ``headrace run`` creates it."""

    application: WorkerApplication
    worker: Worker
    kafka_clients: InMemoryKafka
    refusals: list[Exception] = field(default_factory=list)
    """Why Kafka has refused the worker."""

    def state(self, name: str, task: int | None = None) -> str:
        """Return the state of the connector or of a task; empty while it has none."""
        status = self.worker.status(name)
        found = status.connector if task is None else status.tasks.get(task)
        return found.state.value if found else ""


@pytest.fixture
def start(world: World, plugins: Registry, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Return a function that starts workers in one folder. Those that still run after the test are stopped."""
    before = set(threading.enumerate())
    running: list[WorkerApplication] = []

    def make(
        *files: ConfigFile,
        kafka_clients: InMemoryKafka | None = None,
        open_member: OpenMember | None = None,
        plugins_of: Registry | None = None,
        **settings: str,
    ) -> Process:
        properties = {
            "bootstrap.servers": "in.memory:9092",
            "listeners": "http://127.0.0.1:0",
            "value.converter.schemas.enable": "false",
            "offset.flush.interval.ms": "20",
            "task.shutdown.graceful.timeout.ms": "60000",  # enough time on a busy machine
            "offset.storage.file.filename": str(tmp_path / "offsets.jsonl"),
        } | {name.replace("_", "."): value for name, value in settings.items()}
        parsed = WorkerSettings.parse(properties)
        mine = kafka_clients or InMemoryKafka()
        refusals: list[Exception] = []
        installed = plugins_of or Registry(plugins.plugins())
        validator = Validator(installed, make_interpolator(installed), exactly_once=parsed.exactly_once)
        application = WorkerApplication(
            parsed, validator, installed, refused=refusals.append, kafka_clients=mine, open_member=open_member
        )
        running.append(application)
        application.start(files)
        return Process(application, application.worker, mine, refusals)

    yield make
    if world.hang is not None:
        world.hang.set()
    for application in running:
        application.stop()
    # A remaining task would change the World of the next test.
    eventually(lambda: not any(map(_is_task, set(threading.enumerate()) - before)))


def _is_task(thread: threading.Thread) -> bool:
    return thread.name.rpartition("-")[2].isdigit()
