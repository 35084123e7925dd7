"""Partitions that belong together are processed in the order of event time; those that are ahead wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DataError
from headrace.pipeline.fault_policy import Failure, Stage
from headrace.pipeline.stream.order import MOST_BUFFERED, SHORTEST_RUN, Run, StreamOrder
from headrace.plugin import StreamTopology
from headrace.records import ConsumedBatch, SinkBatch, TopicPartition

TABLE, STREAM = TopicPartition("table", 0), TopicPartition("stream", 0)
LOOKUP = StreamTopology(("stream", "table"), stores={"s": ("table", "stream")}, aligned=(("table", "stream"),))
JOIN = StreamTopology(("table", "stream"), stores={"s": ("table", "stream")})
REPARTITIONED = StreamTopology(("views",), repartitions={"app-s-repartition": ("views",)})
FIRST, SECOND = TopicPartition("views", 0), TopicPartition("views", 1)

times = st.lists(st.integers(0, 20), max_size=12)


@dataclass
class Clock:
    """Time that a test sets."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Ordered:
    """An order, and the offset after the last record of each partition."""

    topology: StreamTopology
    partitions: Sequence[TopicPartition]
    idle: float = 0.0
    clock: Clock = field(default_factory=Clock)
    ends: dict[TopicPartition, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = StreamOrder(self.topology, lambda batch: batch.timestamps, self.idle, self.clock)
        self.order.assigned(self.partitions)

    def add(
        self, place: TopicPartition, moments: Sequence[int], *, unread: int = 0, failed: Sequence[int] = ()
    ) -> None:
        """Add records; those at the offsets ``failed`` could not be decoded. ``unread``: records after them."""
        first = self.ends.get(place, 0)
        end = self.ends[place] = first + len(moments)
        offsets = list(range(first, end))
        count = len(moments)
        consumed = ConsumedBatch(
            place, offsets, [None] * count, [None] * count, list(moments), [()] * count, end + unread
        )
        whole = SinkBatch(place, place.topic, offsets, [None] * count, [{}] * count, list(moments), [()] * count)
        part = whole.only([row for row, offset in enumerate(offsets) if offset not in failed])
        failures = [Failure(Stage.VALUE_CONVERTER, "", DataError("bad"), place, offset) for offset in failed]
        self.order.add(consumed, [part] if len(part) else [], failures)

    def records(self) -> list[tuple[str, int]]:
        """Return the topic or number and the time of each record that can be processed now."""
        return [
            (run.consumed.topic_partition.topic, moment)
            for run in self.order.runs()
            for part in run.parts
            for moment in part.timestamps
        ]

    def runs(self) -> list[Run]:
        return list(self.order.runs())


@given(times, times)
def test_a_table_and_its_stream_are_merged_record_by_record_as_kafka_streams_does(
    table: list[int], stream: list[int]
) -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM])
    for place, moments in ((STREAM, stream), (TABLE, table)):
        if moments:
            ordered.add(place, moments)

    expected, left, right = [], list(table), list(stream)
    while left or right:  # the lowest next record goes first; the table's at equal times
        if left and (not right or left[0] <= right[0]):
            expected.append(("table", left.pop(0)))
        else:
            expected.append(("stream", right.pop(0)))
    assert ordered.records() == expected


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 20), min_size=1, max_size=5)), max_size=8))
def test_every_record_is_processed_once_in_the_order_of_its_partition(
    batches: list[tuple[bool, list[int]]],
) -> None:
    ordered = Ordered(JOIN, [TABLE, STREAM])
    found: list[Run] = []
    for is_table, moments in batches:
        ordered.add(TABLE if is_table else STREAM, moments)
        found += ordered.runs()

    for place in (TABLE, STREAM):
        offsets = [
            offset
            for run in found
            if run.consumed.topic_partition == place
            for part in run.parts
            for offset in part.offsets
        ]
        assert offsets == list(range(ordered.ends.get(place, 0)))
    nexts: dict[TopicPartition, int] = {}
    for run in found:
        place = run.consumed.topic_partition
        nexts[place] = nexts.get(place, 0) + len(run)
        assert run.next_offset == nexts[place]


def test_batches_of_partitions_without_a_table_are_divided_into_long_runs() -> None:
    ordered = Ordered(REPARTITIONED, [FIRST, SECOND])
    ordered.add(FIRST, range(0, 6 * SHORTEST_RUN, 2))
    ordered.add(SECOND, range(1, 6 * SHORTEST_RUN, 2))
    runs = ordered.runs()
    assert [len(run) for run in runs] == [SHORTEST_RUN] * 6
    assert [run.consumed.topic_partition.partition for run in runs] == [0, 1, 0, 1, 0, 1]


def test_a_run_goes_on_while_its_records_are_the_oldest() -> None:
    ordered = Ordered(REPARTITIONED, [FIRST, SECOND])
    ordered.add(FIRST, range(3 * SHORTEST_RUN))
    ordered.add(SECOND, [2 * SHORTEST_RUN])
    assert [len(run) for run in ordered.runs()] == [2 * SHORTEST_RUN + 1, 1, SHORTEST_RUN - 1]


def test_a_partition_waits_for_one_with_unread_records() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM])
    ordered.order.note_unread([TABLE])
    ordered.add(STREAM, [5])
    assert ordered.records() == []
    assert 0 < ordered.order.wait() < 1
    ordered.add(TABLE, [3], unread=10)
    assert ordered.records() == [("table", 3)]
    ordered.add(TABLE, [7])
    assert ordered.records() == [("stream", 5), ("table", 7)]


def test_a_partition_that_does_not_deliver_is_not_waited_for_until_it_does() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM])
    ordered.order.note_unread([TABLE])
    ordered.add(STREAM, [5])
    assert ordered.records() == []
    ordered.clock.now += 1.0  # spent on other records
    assert ordered.records() == []
    ordered.order.waited(ordered.order.wait())
    assert ordered.records() == [("stream", 5)]
    ordered.add(STREAM, [6])
    assert ordered.records() == [("stream", 6)]
    ordered.add(TABLE, [1], unread=10)
    ordered.add(STREAM, [7])
    assert ordered.records() == [("table", 1)]


def test_a_partition_is_not_waited_for_without_end_while_others_deliver() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM])
    ordered.order.note_unread([TABLE])
    ordered.add(STREAM, [5])
    assert ordered.records() == []
    ordered.clock.now += 5.0
    assert ordered.records() == [("stream", 5)]


def test_a_partition_without_unread_records_is_waited_for_as_long_as_configured() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM], idle=3.0)
    ordered.add(STREAM, [5])
    assert ordered.records() == []
    ordered.clock.now += 2.9
    assert ordered.records() == []
    ordered.clock.now += 0.2
    assert ordered.records() == [("stream", 5)]


def test_a_partition_is_paused_while_many_of_its_records_wait() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM])
    ordered.order.note_unread([TABLE])
    ordered.add(STREAM, range(MOST_BUFFERED))
    ordered.runs()
    assert ordered.order.to_pause() == {STREAM}
    ordered.add(TABLE, [MOST_BUFFERED // 2], unread=10)
    ordered.runs()
    assert ordered.order.to_pause() == set()


def test_partitions_of_other_numbers_or_without_counterpart_do_not_wait() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM, TopicPartition("stream", 1)])
    assert ordered.order.orders(STREAM)
    assert not ordered.order.orders(TopicPartition("stream", 1))
    assert not ordered.order.orders(TopicPartition("other", 0))


def test_records_of_revoked_partitions_are_discarded() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM])
    ordered.order.note_unread([TABLE])
    ordered.add(STREAM, [5])
    ordered.order.revoked([STREAM])
    assert ordered.records() == []
    assert not ordered.order.orders(TABLE)


def test_records_that_cannot_be_decoded_go_with_the_run_before_them() -> None:
    ordered = Ordered(LOOKUP, [TABLE, STREAM])
    ordered.add(STREAM, [1, 2, 3, 9, 10], failed=[1, 4])
    ordered.add(TABLE, [5])
    ordered.add(TABLE, [6], failed=[1])
    runs = [(len(run), [item.offset for item in run.failures], run.next_offset) for run in ordered.runs()]
    assert runs == [(3, [1], 3), (1, [], 1), (1, [1], 2), (2, [4], 5)]
