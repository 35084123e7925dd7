"""Rows that a source cannot deliver are named by their key, and go to the source's dead letter queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from headrace.accounting import balance, record_counts
from headrace.errors import DataError, InfrastructureError, RetriableError
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.refused_rows import SourceDeadLetters
from headrace.pipeline.source import SourcePipeline
from headrace.pipeline.source_delivery import AcknowledgedDelivery, ProducerFactory
from headrace.plugin import SourceContext, SourceTask, Wait
from headrace.records import EncodedBatch, SourceBatch, SourceOffset, SourcePartition, SourceRejection
from headrace.states import TaskId
from headrace.testing.contexts import make_source_context
from headrace.testing.waiting import eventually

TABLE = {"protocol": "1", "table": "shop.n"}
BIG = 2_000_000


class Table(SourceTask):
    """Three rows of one table, read once."""

    key_hint = "set pk.mode"

    def __init__(self, values: list[Any], keys: list[Any] | None = None, rejections: Any = ()) -> None:
        self.batch = SourceBatch(
            "n", values, None, keys, None, TABLE, {"id": 3}, rejections=rejections, identity=("id",)
        )
        self.read = False

    def start(self, context: SourceContext) -> None:
        pass

    def poll(self) -> SourceBatch | Wait:
        if self.read:
            return Wait(0.01)
        self.read = True
        return self.batch


class StoredPositions:
    """Stored positions, each with the number of dead letters at that time."""

    def __init__(self, letters: Callable[[], int]) -> None:
        self.letters = letters
        self.stored: list[tuple[SourceOffset | None, int]] = []

    def set(self, changes: Any) -> None:
        self.stored.extend((offset, self.letters()) for _, offset in changes)

    def offsets(self, partitions: list[SourcePartition]) -> list[SourceOffset | None]:
        return [None for _ in partitions]


class CompactedKafka:
    """Clients whose producers refuse records without a key, as a compacted topic does."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer

    def send(self, batch: EncodedBatch) -> Any:
        if batch.keys is None:
            raise DataError("Kafka refused the record: Broker failed to validate record", code="data.refused")
        return self.producer.send(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.producer, name)


@pytest.fixture
def run(harness: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that runs a task to its end, and returns harness, positions and dead letters."""

    def made(task: Table, *, dlq: bool = True, compacted: bool = False, faults: int = 0, **settings: str) -> Any:
        mine = harness()

        def letters() -> list[Any]:
            return mine.broker.records("dlq")  # type: ignore[no-any-return]

        positions = StoredPositions(lambda: len(letters()))

        def open_dead_letters() -> SourceDeadLetters:
            if faults:
                mine.broker.fail_sends(RetriableError("away"), faults)
            producer = mine.broker.producer({})
            queue = DeadLetterQueue(producer, "dlq", TaskId("shop", 0), mine.metrics, context_headers=True)
            return SourceDeadLetters(queue, TaskId("shop", 0))

        def open_producer() -> Any:
            opened = mine.broker.producer({})
            return CompactedKafka(opened) if compacted else opened

        factory = ProducerFactory(open_producer, lambda topic: None, 1_000_000, open_dead_letters if dlq else None)
        context = make_source_context({}, positions)  # type: ignore[arg-type]
        delivery = partial(AcknowledgedDelivery, factory, positions)
        pipeline = SourcePipeline(task, context, mine.stages(**settings), delivery, mine.control)
        thread = mine.run(pipeline)
        eventually(lambda: positions.stored or mine.error is not None)
        mine.end(thread)
        return mine, positions, [json.loads(record.value) for record in letters()]

    return made


ROWS: list[Any] = [{"id": 1, "d": 1.5}, {"id": 2, "d": 2.5}, {"id": 3, "d": 3.5}]
TOO_LARGE: list[Any] = [{"id": 1}, {"id": 2, "text": "x" * BIG}, {"id": 3}]


def test_f15_an_inconvertible_row_is_named_by_its_primary_key(run: Callable[..., Any]) -> None:
    bad: list[Any] = [ROWS[0], {"id": 2, "n": "bad"}, ROWS[2]]
    mine, positions, _ = run(Table(bad), dlq=False)
    assert "row id=2 (table=shop.n) for topic n" in mine.error.message
    assert positions.stored == []


def test_f16_the_advice_for_a_compacted_topic_is_to_send_keys(run: Callable[..., Any]) -> None:
    mine, _, _ = run(Table(ROWS), dlq=False, compacted=True)
    assert "row id=1 (table=shop.n)" in mine.error.message
    assert "a compacted topic needs keys" in mine.error.message
    assert "set pk.mode" in mine.error.hint


def test_f16_rows_without_keys_are_kept_in_the_dead_letter_queue(run: Callable[..., Any]) -> None:
    mine, positions, letters = run(Table(ROWS), compacted=True, errors_tolerance="all")
    assert mine.error is None
    assert [letter["primary_key"] for letter in letters] == [{"id": 1}, {"id": 2}, {"id": 3}]
    assert positions.stored == [({"id": 3}, 3)]
    counts = record_counts(mine.metrics.snapshot())
    assert (counts["dead_lettered"], counts["skipped"], balance(counts)) == (3, 0, 0)
    assert {cause.outcome for cause in mine.metrics.causes.snapshot()} == {"dead_lettered"}


def test_f17_a_row_too_large_is_named_with_its_size_and_the_settings(run: Callable[..., Any]) -> None:
    mine, _, _ = run(Table(TOO_LARGE), dlq=False)
    assert "row id=2 (table=shop.n)" in mine.error.message
    assert f"{len(json.dumps(TOO_LARGE[1])):,} bytes" in mine.error.message
    assert "producer.override.max.request.size" in mine.error.hint
    assert "max.message.bytes" in mine.error.hint


def test_a_refused_row_becomes_a_letter_before_the_position_moves(run: Callable[..., Any]) -> None:
    mine, positions, [letter] = run(Table(TOO_LARGE), errors_tolerance="all")
    assert {record.value for record in mine.broker.records("n")} == {b'{"id": 1}', b'{"id": 3}'}
    assert positions.stored == [({"id": 3}, 1)]
    assert letter["code"] == "data.record_too_large"
    assert letter["primary_key"] == {"id": 2}
    assert (letter["connector"], letter["task"], letter["source"]) == ("shop", 0, TABLE)
    headers = dict(mine.broker.records("dlq")[0].headers)
    assert headers["__headrace.errors.code"] == b"data.record_too_large"
    assert "__connect.errors.offset" not in headers


def test_a_rejection_of_the_task_becomes_a_letter(run: Callable[..., Any]) -> None:
    rejected = [SourceRejection("shop.n id=9", DataError("no date", code="sql.bad_value"))]
    _, positions, [letter] = run(Table(ROWS, rejections=rejected), errors_tolerance="all")
    assert (letter["row"], letter["reason"]) == ("shop.n id=9", "no date")
    assert positions.stored == [({"id": 3}, 1)]


def test_an_unavailable_queue_delays_the_position(run: Callable[..., Any]) -> None:
    rejected = [SourceRejection("shop.n id=9", DataError("no date"))]
    mine, positions, letters = run(Table([], rejections=rejected), faults=2, errors_tolerance="all")
    assert mine.error is None
    assert len(letters) == 1
    assert positions.stored == [({"id": 3}, 1)]


def test_a_missing_privilege_for_the_queue_is_named_with_its_key_and_acls(harness: Callable[[], Any]) -> None:
    mine = harness()
    queue = DeadLetterQueue(
        mine.broker.producer({}),
        "dlq",
        TaskId("shop", 0),
        mine.metrics,
        context_headers=True,
        config_origin="shop.yaml:7:1",
    )
    mine.broker.fail_sends(InfrastructureError("not authorized (topic: denied)", code="kafka.not_authorized"))
    with pytest.raises(InfrastructureError) as caught:
        queue.send([EncodedBatch("dlq", [b"letter"])])
    assert "the dead letter queue dlq (errors.deadletterqueue.topic.name, shop.yaml:7:1)" in caught.value.message
    assert "CREATE, DESCRIBE and WRITE on topic dlq" in caught.value.hint
