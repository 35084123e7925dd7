"""Pipelines over the in-memory broker: a plain converter, a scripted source, a scripted sink."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from headrace.accounting import balance, record_counts
from headrace.broker.in_memory import InMemoryKafka
from headrace.errors import HeadraceError
from headrace.metrics import TaskMetrics
from headrace.pipeline.control import TaskControl
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.fence import TaskFence
from headrace.pipeline.sink import ConsumerFactory, PutLimits, SinkPipeline
from headrace.pipeline.stages import Stages
from headrace.pipeline.transformations import Step
from headrace.records import TopicPartition
from headrace.retries import RetryPolicy
from headrace.settings import ConnectorSettings
from headrace.states import TaskId
from headrace.testing.contexts import make_sink_context
from tests.unit.pipeline.plain_converter import PlainConverter
from tests.unit.pipeline.scripted_sink import (
    CheckedConsumer,
    OverlappingSinkTask,
    SequentialSinkTask,
    Sink,
    Store,
    letters,
)


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


@dataclass
class Harness:
    """The dependencies of a pipeline, and a thread that runs it in a test."""

    broker: InMemoryKafka = field(default_factory=InMemoryKafka)
    stop_event: threading.Event = field(default_factory=threading.Event)
    paused: threading.Event = field(default_factory=threading.Event)
    fence: TaskFence = field(default_factory=TaskFence)
    metrics: TaskMetrics = field(default_factory=TaskMetrics)
    started: threading.Event = field(default_factory=threading.Event)
    reasons: list[str | None] = field(default_factory=list)
    error: BaseException | None = None
    log: Any = field(default_factory=lambda: structlog.wrap_logger(None, processors=[_drop]))
    flush_interval: float = 0.01
    flush_timeout: float = 5.0

    @property
    def control(self) -> TaskControl:
        return TaskControl(
            self.stop_event,
            self.paused,
            self.metrics,
            self.log,
            self.started.set,
            self.reasons.append,
            self.flush_interval,
            self.flush_timeout,
            self.fence,
            RetryPolicy(0.001, 0.001),
        )

    def stages(self, steps: Sequence[Step] = (), **settings: str) -> Stages:
        parsed = ConnectorSettings.parse(
            {"name": "test", "connector.class": "Test", "errors.retry.delay.max.ms": "1"}
            | {k.replace("_", "."): v for k, v in settings.items()}
        )
        where = "test.yaml:7:1".format
        policy = FaultPolicy(parsed, lambda key: where(), self.stop_event, self.log, self.metrics)
        return Stages(PlainConverter(), PlainConverter(), steps, policy)

    def run(self, pipeline: Any) -> threading.Thread:
        """Run the pipeline on a thread, as a worker does; its exception is stored in ``error``."""

        def body() -> None:
            try:
                pipeline.run()
            except HeadraceError as error:
                self.error = error

        thread = threading.Thread(target=body, name="pipeline")
        thread.start()
        return thread

    def end(self, thread: threading.Thread) -> None:
        """Stop the pipeline and wait. Assert that every record that it has read is accounted for."""
        self.stop_event.set()
        thread.join(30)
        assert not thread.is_alive()
        counts = record_counts(self.metrics.snapshot())
        assert balance(counts) == 0, counts
        assert counts["in_flight"] == 0, counts


@pytest.fixture
def harness() -> Iterator[Callable[[], Harness]]:
    """Makes harnesses; retries do not wait, pipelines still running at the end are ended."""
    made: list[Harness] = []

    def make() -> Harness:
        made.append(Harness())
        return made[-1]

    yield make
    for each in made:
        each.stop_event.set()
        each.broker.down = False
        each.broker.release()
    for thread in threading.enumerate():
        if thread.name == "pipeline":
            thread.join(30)


@pytest.fixture(params=[SequentialSinkTask, OverlappingSinkTask], ids=["sequential-puts", "overlapping-puts"])
def sink(harness: Callable[[], Any], request: pytest.FixtureRequest) -> Callable[..., Sink]:
    """Makes sink pipelines of one group; every commit is checked against the store and the dead letters."""

    def make(
        broker: Any = None,
        store: Store | None = None,
        dlq: bool = False,
        limits: PutLimits | None = None,
        consumer: type[CheckedConsumer] = CheckedConsumer,
        task: type[SequentialSinkTask] | None = None,
        **settings: str,
    ) -> Sink:
        mine = harness()
        mine.broker = broker or mine.broker
        mine.broker.create("t", 3)
        kept = store or Store()
        made_task = (task or request.param)(kept)

        def open_dead_letters() -> DeadLetterQueue:
            producer = mine.broker.producer({})
            return DeadLetterQueue(producer, "dlq", TaskId("test", 0), mine.metrics, context_headers=True)

        def check(offsets: Mapping[TopicPartition, int]) -> None:
            dead_lettered = {
                (TopicPartition(headers["topic"], int(headers["partition"])), int(headers["offset"]))
                for headers in letters(mine.broker)
            }
            for place, end in offsets.items():
                for offset in range(end):
                    safe = (place, offset) in kept.rows or (place, offset) in dead_lettered
                    assert safe, f"{place} committed to {end} without {offset}"

        open_dlq = open_dead_letters if dlq else None
        factory = ConsumerFactory(lambda: consumer(mine.broker, check), ["t"], None, open_dlq)
        context = make_sink_context({}, stop_event=mine.stop_event)
        pipeline = SinkPipeline(
            made_task, context, mine.stages(**settings), factory, mine.control, limits or PutLimits()
        )
        return Sink(mine, kept, made_task, pipeline)

    return make
