"""A converter or transform whose system is unavailable makes the task wait; no record is skipped or dead-lettered."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from headrace import (
    BatchHeaders,
    ConfigModel,
    Decoded,
    Headers,
    Record,
    Rejection,
    RetriableError,
    Schema,
    SinkBatch,
    SinkContext,
    SinkTask,
    SourceBatch,
    SourceContext,
    SourceTask,
    TaskError,
    Transform,
    Wait,
)
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.sink import ConsumerFactory, SinkPipeline
from headrace.pipeline.source import SourcePipeline
from headrace.pipeline.source_delivery import AcknowledgedDelivery, ProducerFactory
from headrace.pipeline.stages import Stages
from headrace.pipeline.transformations import Step
from headrace.records import EncodedBatch
from headrace.states import TaskId
from headrace.testing.contexts import Offsets, make_sink_context, make_source_context
from headrace.testing.waiting import eventually
from tests.unit.pipeline.plain_converter import PlainConverter

REASON = "the schema registry does not answer"


class Registry:
    """The system behind a converter or transform."""

    def __init__(self) -> None:
        self.away = threading.Event()
        self.away.set()
        self.calls = 0
        self.closed = 0

    def ask(self) -> None:
        self.calls += 1
        if self.away.is_set():
            raise RetriableError(REASON, code="registry.unreachable", hint="start the registry")


class RegistryConverter(PlainConverter):
    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders
    ) -> list[bytes | None]:
        self.registry.ask()
        return super().to_bytes(topic, schema, values, headers)

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers]) -> list[Decoded]:
        self.registry.ask()
        return super().from_bytes(topic, values, headers)

    def close(self) -> None:
        self.registry.closed += 1


class LookupTransform(Transform):
    """Raises for the second record of a batch, after the first was transformed."""

    config_model = ConfigModel

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def configure(self, properties: Any) -> None: ...

    def apply(self, record: Record) -> Record:
        if record.value["n"] % 2:
            self.registry.ask()
        record.value = {"n": record.value["n"] + 100}
        return record

    def close(self) -> None:
        self.registry.closed += 1


MakeStages = Callable[..., Stages]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture(params=["key converter", "value converter", "transform"])
def make_stages(request: pytest.FixtureRequest, registry: Registry) -> MakeStages:
    """Makes stages of which one needs the registry."""

    def make(harness: Any, **settings: str) -> Stages:
        policy = harness.stages(errors_tolerance="all", **settings).policy
        needing, plain = RegistryConverter(registry), PlainConverter()
        if request.param == "transform":
            return Stages(plain, plain, [Step(LookupTransform(registry))], policy)
        keys, values = (needing, plain) if request.param == "key converter" else (plain, needing)
        return Stages(keys, values, (), policy)

    return make


def numbers(values: Sequence[Any]) -> list[int]:
    return [value["n"] % 100 for value in values]


class Rows(SourceTask):
    def start(self, context: SourceContext) -> None:
        self.read = False

    def poll(self) -> SourceBatch | Wait:
        if self.read:
            return Wait(0.01)
        self.read = True
        values = [{"n": number} for number in range(4)]
        return SourceBatch("t", values, keys=[1] * 4, source_partition={"p": 0}, source_offset={"n": 4})


def source_pipeline(mine: Any, stages: Stages, offsets: Offsets) -> SourcePipeline:
    class Writer:
        def set(self, changes: Any) -> None:
            for change in changes:
                offsets.set(*change)

    producers = ProducerFactory(lambda: mine.broker.producer({}), lambda topic: None, 1_000_000)
    delivery = partial(AcknowledgedDelivery, producers, Writer())
    return SourcePipeline(
        Rows(),
        make_source_context({}, offsets),
        stages,
        delivery,
        mine.control,
    )


def test_a_source_waits_with_a_status_reason_and_sends_every_record(
    harness: Callable[[], Any], make_stages: MakeStages, registry: Registry
) -> None:
    mine, offsets = harness(), Offsets()
    thread = mine.run(source_pipeline(mine, make_stages(mine), offsets))
    eventually(lambda: registry.calls > 3)
    assert REASON in (mine.reasons[-1] or "")
    assert offsets.offsets([{"p": 0}]) == [None]
    registry.away.clear()
    eventually(lambda: offsets.offsets([{"p": 0}]) == [{"n": 4}])
    assert mine.reasons[-1] is None
    mine.end(thread)

    assert numbers([json.loads(record.value) for record in mine.broker.records("t")]) == [0, 1, 2, 3]
    assert mine.error is None
    values = mine.metrics.snapshot()
    assert values["source_record_poll_total"] == 4
    assert values["total_record_errors"] == values["total_records_skipped"] == 0
    assert values["total_retries"] >= 3
    assert registry.closed == 1


def test_a_source_that_waits_for_a_stage_stops_at_once(
    harness: Callable[[], Any], make_stages: MakeStages, registry: Registry
) -> None:
    mine, offsets = harness(), Offsets()
    thread = mine.run(source_pipeline(mine, make_stages(mine), offsets))
    eventually(lambda: registry.calls > 0)
    mine.end(thread)

    assert offsets.offsets([{"p": 0}]) == [None]
    assert mine.error is None
    assert registry.closed == 1


def test_a_source_fails_after_the_configured_retry_timeout(
    harness: Callable[[], Any], make_stages: MakeStages, registry: Registry
) -> None:
    mine, offsets = harness(), Offsets()
    thread = mine.run(source_pipeline(mine, make_stages(mine, errors_retry_timeout="0"), offsets))
    thread.join(20)

    assert isinstance(mine.error, TaskError)
    assert mine.error.code == "registry.unreachable"
    assert REASON in str(mine.error)
    assert "errors.retry.timeout" in str(mine.error)
    assert offsets.offsets([{"p": 0}]) == [None]


class CollectingTask(SinkTask):
    def __init__(self) -> None:
        self.values: list[Any] = []

    def start(self, context: SinkContext) -> None: ...

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        self.values.extend(value for batch in batches for value in batch.values)
        return ()


def sink_pipeline(mine: Any, task: SinkTask, stages: Stages) -> SinkPipeline:
    def open_dead_letters() -> DeadLetterQueue:
        return DeadLetterQueue(mine.broker.producer({}), "dlq", TaskId("test", 0), mine.metrics, context_headers=True)

    mine.broker.create("t", 1)
    values: list[bytes | None] = [json.dumps({"n": number}).encode() for number in range(4)]
    mine.broker.producer({}).send(EncodedBatch("t", values, [b"1"] * 4))
    consumers = ConsumerFactory(lambda: mine.broker.consumer("connect-test", {}), ["t"], None, open_dead_letters)
    return SinkPipeline(task, make_sink_context({}), stages, consumers, mine.control)


def test_a_sink_waits_with_a_status_reason_and_writes_every_record(
    harness: Callable[[], Any], make_stages: MakeStages, registry: Registry
) -> None:
    mine, task = harness(), CollectingTask()
    thread = mine.run(sink_pipeline(mine, task, make_stages(mine)))
    eventually(lambda: registry.calls > 3)
    assert REASON in (mine.reasons[-1] or "")
    assert sum(mine.broker.committed("connect-test").values()) == 0
    registry.away.clear()
    eventually(lambda: sum(mine.broker.committed("connect-test").values()) == 4)
    mine.end(thread)

    assert numbers(task.values) == [0, 1, 2, 3]
    assert mine.error is None
    assert mine.broker.records("dlq") == []
    assert mine.metrics.snapshot()["total_record_errors"] == 0
    assert registry.closed == 1


def test_a_sink_fails_after_the_configured_retry_timeout(
    harness: Callable[[], Any], make_stages: MakeStages, registry: Registry
) -> None:
    mine, task = harness(), CollectingTask()
    thread = mine.run(sink_pipeline(mine, task, make_stages(mine, errors_retry_timeout="0")))
    thread.join(20)

    assert isinstance(mine.error, TaskError)
    assert REASON in str(mine.error)
    assert mine.broker.records("dlq") == []
    assert sum(mine.broker.committed("connect-test").values()) == 0
    assert task.values == []
