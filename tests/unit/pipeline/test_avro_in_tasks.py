"""A sink task with the Avro converter: an outage of the registry is waited for, bad records become dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headrace import Rejection, SinkBatch, SinkContext, SinkTask
from headrace import schema as s
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.sink import ConsumerFactory, SinkPipeline
from headrace.pipeline.stages import Stages
from headrace.records import EncodedBatch
from headrace.states import TaskId
from headrace.testing.contexts import make_sink_context
from headrace.testing.faults import HttpProxy, StatusFault
from headrace.testing.waiting import eventually
from tests.unit.converters.schema_registry.converters import avro_converter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry, served
from tests.unit.pipeline.plain_converter import PlainConverter

SCHEMA = s.struct({"n": s.INT64}, name="N")


class Collecting(SinkTask):
    def __init__(self) -> None:
        self.values: list[Any] = []

    def start(self, context: SinkContext) -> None: ...

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        self.values.extend(value for batch in batches for value in batch.values)
        return ()


def test_an_outage_of_the_registry_is_waited_for_and_only_bad_records_are_dead_letters(
    harness: Callable[[], Any],
) -> None:
    mine, task = harness(), Collecting()
    with served(FakeSchemaRegistry()) as registry:
        with avro_converter(registry) as producer:
            good = producer.to_bytes("t", SCHEMA, [{"n": 1}, {"n": 2}, None])
        texts = [good[0], b"{}", good[1], good[2], b"\x00\x00\x00\x00\x63\x02"]
        proxy = HttpProxy(registry.url)
        proxy.always(StatusFault(503))
        mine.broker.create("t", 1)
        mine.broker.producer({}).send(EncodedBatch("t", texts, [b"1"] * len(texts)))

        def open_dead_letters() -> DeadLetterQueue:
            dead_letters = mine.broker.producer({})
            return DeadLetterQueue(dead_letters, "dlq", TaskId("test", 0), mine.metrics, context_headers=True)

        with avro_converter(proxy.url) as converter:
            policy = mine.stages(errors_tolerance="all").policy
            stages = Stages(PlainConverter(), converter, (), policy)
            consumers = ConsumerFactory(lambda: mine.broker.consumer("g", {}), ["t"], None, open_dead_letters)
            thread = mine.run(SinkPipeline(task, make_sink_context({}), stages, consumers, mine.control))
            eventually(lambda: bool(mine.reasons))
            assert f"the schema registry at {proxy.url} is unavailable: HTTP 503" in (mine.reasons[-1] or "")
            assert mine.broker.records("dlq") == []
            proxy.restore()
            eventually(lambda: sum(mine.broker.committed("g").values()) == len(texts))
            mine.end(thread)
        proxy.close()

    assert mine.error is None
    assert task.values == [{"n": 1}, {"n": 2}, None]
    refused = {dict(letter.headers)["__connect.errors.exception.message"] for letter in mine.broker.records("dlq")}
    assert len(refused) == 2
    assert any(b"no schema with the id 99" in text for text in refused)
    assert any(b"not in the wire format" in text for text in refused)
