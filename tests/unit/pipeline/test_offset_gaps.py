"""Records that a sink could not read are named: removed by retention, skipped by a reset, in a recreated topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.accounting import PartitionAccount, PartitionAccounts
from headrace.broker.in_memory import InMemoryKafka
from headrace.conditions import ignore_condition
from headrace.pipeline.offset_gaps import OffsetGaps, offset_gaps
from headrace.pipeline.sink import ConsumerFactory, SinkPipeline
from headrace.plugin import SinkContext, SinkTask
from headrace.records import ConsumedBatch, EncodedBatch, Rejection, SinkBatch, TopicPartition
from headrace.testing.contexts import make_sink_context
from headrace.testing.waiting import eventually
from tests.unit.examples import examples

PLACE = TopicPartition("t", 0)


@dataclass
class RaisedConditions:
    """Records raised conditions as ``(code, count, example)``."""

    found: list[tuple[str, int, str]] = field(default_factory=list)

    def __call__(self, code: str, text: str, hint: str = "", *, count: int = 0, example: str = "") -> None:
        assert str(PLACE) in text
        assert hint
        self.found.append((code, count, example))


def forty_records() -> InMemoryKafka:
    broker = InMemoryKafka()
    broker.create("t")
    broker.producer({}).send(EncodedBatch("t", [b"1"] * 40))
    return broker


@pytest.fixture
def kafka() -> InMemoryKafka:
    return forty_records()


@pytest.fixture
def raised() -> RaisedConditions:
    return RaisedConditions()


@pytest.fixture
def accounts() -> PartitionAccounts:
    return PartitionAccounts()


@pytest.fixture
def gaps(kafka: InMemoryKafka, raised: RaisedConditions, accounts: PartitionAccounts) -> Callable[..., OffsetGaps]:
    ticks = iter(range(0, 1_000_000, 100))
    log: Any = structlog.get_logger()

    def make(reset: str = "earliest", clock: Callable[[], float] = lambda: float(next(ticks))) -> OffsetGaps:
        return OffsetGaps(lambda: kafka.admin({}), "g", raised, log, reset, clock, accounts)

    return make


def batch(*offsets: int) -> ConsumedBatch:
    rows = len(offsets)
    return ConsumedBatch(PLACE, list(offsets), [None] * rows, [b"1"] * rows, [1] * rows, [()] * rows, 40)


def test_f2_records_that_retention_removed_while_the_sink_was_stopped_are_named(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    kafka.admin({}).commit("g", {PLACE: 10})
    kafka.delete_records({PLACE: 20})
    watched = gaps()
    watched.assigned([PLACE])
    watched.check([])
    watched.check([batch(20, 21)])

    assert raised.found == [("records.removed_unread", 10, "t-0: offsets 10 to 19")]


def test_operations_10_a_topic_that_was_recreated_while_its_partition_was_revoked_is_named(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    watched = gaps()
    watched.check([batch(0, 1, 2)])
    watched.committed({PLACE: 3})
    watched.revoked([PLACE])  # Kafka has deleted the topic, and the offsets of the group with it
    watched.assigned([PLACE])
    watched.check([batch(0)])

    assert raised.found == [("topic.recreated", 0, "t-0: offset 3 to 0")]


def test_a_partition_that_returns_at_or_after_its_committed_offset_is_in_order(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    watched = gaps()
    watched.check([batch(0, 1, 2, 3)])
    watched.committed({PLACE: 2})  # the records after it are read again
    watched.revoked([PLACE])
    watched.assigned([PLACE])
    watched.check([batch(2, 3)])

    assert raised.found == []


def test_offsets_of_gaps_are_unexplained_until_they_are_compared(gaps: Callable[..., OffsetGaps]) -> None:
    ticks = iter([0.0, 0.0, 0.5, 2.0, 2.0])
    watched = gaps(clock=lambda: next(ticks))
    watched.check([batch(0, 2)])
    assert watched.unexplained() == {}
    watched.check([batch(4), batch(6)])
    assert watched.unexplained() == {PLACE: 3}
    watched.check([])
    assert watched.unexplained() == {}


def test_f2_a_reset_to_the_end_names_the_skipped_records(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    kafka.admin({}).commit("g", {PLACE: 10})
    kafka.delete_records({PLACE: 20})
    watched = gaps("latest")
    watched.assigned([PLACE])
    watched.check([])

    assert raised.found == [
        ("records.removed_unread", 10, "t-0: offsets 10 to 19"),
        ("offsets.reset", 20, "t-0: offsets 20 to 39"),
    ]


def test_records_that_retention_removed_while_the_sink_was_running_are_named(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    watched = gaps()
    watched.check([batch(0, 1, 2)])
    kafka.delete_records({PLACE: 30})
    watched.check([batch(30, 31)])

    assert raised.found == [("records.removed_unread", 27, "t-0: offsets 3 to 29")]


def test_f2_a_reset_to_the_end_while_the_sink_is_running_names_the_skipped_records(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    watched = gaps("latest")
    watched.check([batch(0, 1, 2)])
    kafka.delete_records({PLACE: 20})
    watched.check([batch(30, 31)])

    assert raised.found == [
        ("records.removed_unread", 17, "t-0: offsets 3 to 19"),
        ("offsets.reset", 10, "t-0: offsets 20 to 29"),
    ]


def test_a_gap_within_a_batch_is_named_if_retention_caused_it(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    kafka.delete_records({PLACE: 30})
    gaps().check([batch(0, 1, 30, 31)])

    assert raised.found == [("records.removed_unread", 28, "t-0: offsets 2 to 29")]


def test_gaps_of_compaction_and_transaction_markers_are_not_reported(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    kafka.admin({}).commit("g", {PLACE: 2})
    watched = gaps()
    watched.assigned([PLACE])
    watched.check([batch(5, 9, 12)])
    watched.check([batch(20, 25)])

    assert raised.found == []


def test_a_recreated_topic_is_named(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    kafka.admin({}).commit("g", {PLACE: 41})
    watched = gaps()
    watched.assigned([PLACE])
    watched.check([])
    watched.check([batch(0, 1)])
    watched.check([batch(0)])

    assert [found[0] for found in raised.found] == ["topic.recreated", "topic.recreated"]


def test_an_offset_in_an_open_transaction_is_not_reported_as_a_recreated_topic(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    producer = kafka.transactional_producer("t", {})
    producer.init()
    producer.begin()
    producer.send(EncodedBatch("t", [b"1"] * 2))
    kafka.admin({}).commit("g", {PLACE: 42})
    watched = gaps()
    watched.assigned([PLACE])
    watched.check([])

    assert raised.found == []
    assert watched.end_offset(PLACE) == 42


def test_no_request_is_sent_while_offsets_are_consecutive(raised: RaisedConditions) -> None:
    def refuse() -> Any:
        raise AssertionError("asked")

    watched = OffsetGaps(refuse, "g", raised, structlog.get_logger())
    for first in range(0, 30, 3):
        watched.check([batch(first, first + 1, first + 2)])

    assert raised.found == []


def test_an_unavailable_broker_only_delays_the_report(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions
) -> None:
    watched = gaps()
    watched.check([batch(0)])
    kafka.delete_records({PLACE: 20})
    kafka.down = True
    watched.check([batch(20)])
    assert raised.found == []
    kafka.down = False
    watched.check([])

    assert raised.found == [("records.removed_unread", 19, "t-0: offsets 1 to 19")]


@settings(max_examples=examples(0.6))
@given(
    committed=st.integers(0, 39),
    first=st.integers(0, 39),
    offsets=st.sets(st.integers(0, 39), min_size=1),
    sizes=st.lists(st.integers(1, 5)),
    looked_up=st.booleans(),
)
def test_every_offset_of_a_partition_has_a_record_or_a_cause(
    committed: int, first: int, offsets: set[int], sizes: list[int], looked_up: bool
) -> None:
    kafka, accounts, ticks = forty_records(), PartitionAccounts(), count(step=100)
    delivered = sorted(offset for offset in offsets | {39} if offset >= max(first, committed))
    kafka.admin({}).commit("g", {PLACE: committed})
    kafka.delete_records({PLACE: first})
    watched = OffsetGaps(
        lambda: kafka.admin({}),
        "g",
        ignore_condition,
        structlog.get_logger(),
        "earliest",
        lambda: next(ticks),
        accounts,
    )
    watched.assigned([PLACE])
    watched.check([] if looked_up else [batch(*delivered[:1])])
    rest = iter(delivered if looked_up else delivered[1:])
    for size in [*sizes, 40]:
        if found := list(islice(rest, size)):
            watched.check([batch(*found)])
    (account,) = accounts.snapshot().values()

    lost = max(0, first - committed)
    assert account == PartitionAccount(committed, 40, len(delivered), lost, 40 - committed - lost - len(delivered))
    assert account.balance == 0
    watched.revoked([PLACE])
    assert accounts.snapshot() == {}


def test_a_gap_without_a_known_cause_is_unexplained(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], accounts: PartitionAccounts
) -> None:
    kafka.down = True
    watched = gaps()
    watched.check([batch(3, 7)])
    assert accounts.snapshot() == {"t-0": PartitionAccount(3, 8, 2, unexplained=3)}

    kafka.down = False
    watched.check([])
    assert accounts.snapshot() == {"t-0": PartitionAccount(3, 8, 2, no_record=3)}


def test_the_cause_of_a_gap_is_named_after_its_partition_was_revoked(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], accounts: PartitionAccounts, raised: RaisedConditions
) -> None:
    kafka.delete_records({PLACE: 20})
    kafka.down = True
    watched = gaps()
    watched.check([batch(0, 20)])
    watched.revoked([PLACE])
    watched.check([batch(25)])
    kafka.down = False
    watched.check([])

    assert raised.found == [("records.removed_unread", 19, "t-0: offsets 1 to 19")]
    assert accounts.snapshot() == {"t-0": PartitionAccount(25, 26, 1)}


def test_a_recreated_partition_has_a_new_account(gaps: Callable[..., OffsetGaps], accounts: PartitionAccounts) -> None:
    watched = gaps()
    watched.check([batch(30, 31)])
    watched.check([batch(0, 1, 2)])

    assert accounts.snapshot() == {"t-0": PartitionAccount(0, 3, 3)}


@given(st.integers(0, 20), st.sets(st.integers(0, 60), min_size=1))
def test_gaps_and_delivered_offsets_together_are_all_offsets(expected: int, distances: set[int]) -> None:
    offsets = [expected + distance for distance in sorted(distances)]
    missing = [number for gap in offset_gaps(PLACE, expected, offsets) for number in range(gap.start, gap.end)]

    assert sorted([*missing, *offsets]) == list(range(expected, offsets[-1] + 1))


class OffsetRecordingTask(SinkTask):
    """A task that records the offsets of its records."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def start(self, context: SinkContext) -> None:
        """Open nothing."""

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        self.offsets.extend(offset for batch in batches for offset in batch.offsets)
        return ()


def test_f2_a_sink_that_starts_behind_retention_continues_and_names_the_removed_records(
    kafka: InMemoryKafka, gaps: Callable[..., OffsetGaps], raised: RaisedConditions, harness: Callable[[], Any]
) -> None:
    kafka.admin({}).commit("g", {PLACE: 10})
    kafka.delete_records({PLACE: 20})
    mine, task = harness(), OffsetRecordingTask()
    factory = ConsumerFactory(lambda: kafka.consumer("g", {}), ["t"], None, gaps=gaps())
    context = make_sink_context({}, stop_event=mine.stop_event)
    thread = mine.run(SinkPipeline(task, context, mine.stages(), factory, mine.control))
    eventually(lambda: kafka.committed("g")[PLACE] == 40 and raised.found)
    mine.end(thread)

    assert task.offsets == list(range(20, 40))
    assert raised.found == [("records.removed_unread", 10, "t-0: offsets 10 to 19")]
