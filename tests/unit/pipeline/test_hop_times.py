"""Times of batches at the hops of a pipeline, the header with which they travel, and the objective of their age."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.freshness import HEADER, Hop, TaskFreshness, decode_hops, encode_hops, header_of
from headrace.metrics import now_ms
from headrace.pipeline.freshness_objective import FreshnessObjective
from headrace.pipeline.hop_times import SinkHops, SourceHops, StreamHops, marked
from headrace.pipeline.in_flight import InFlightBatch
from headrace.pipeline.source import SourcePipeline
from headrace.pipeline.source_delivery import AcknowledgedDelivery, ProducerFactory
from headrace.plugin import SourceContext, SourceTask, Wait
from headrace.records import ConsumedBatch, EncodedBatch, Headers, Rejection, SinkBatch, SourceBatch, TopicPartition
from headrace.testing.contexts import Offsets, make_source_context
from headrace.testing.waiting import eventually
from tests.unit.pipeline.scripted_sink import SequentialSinkTask

PLACE = TopicPartition("t", 0)
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


class Clock:
    """Epoch milliseconds that a test sets."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def consumed(first: int, headers: list[Headers], stamp: int = 1_000, place: TopicPartition = PLACE) -> ConsumedBatch:
    rows = len(headers)
    offsets = list(range(first, first + rows))
    return ConsumedBatch(place, offsets, [None] * rows, [b"{}"] * rows, [stamp] * rows, headers)


def hop_times(freshness: TaskFreshness) -> dict[str, float | None]:
    return {name: ages.newest for name, ages in freshness.snapshot().hops.items()}


def test_the_mark_is_on_the_last_record_and_leaves_other_headers_alone() -> None:
    hop = Hop("orders", 1, 2)
    plain = marked(EncodedBatch("t", [b"1", b"2", b"3"]), encode_hops((hop,)))
    assert plain.headers is not None
    assert [len(fields) for fields in plain.headers] == [0, 0, 1]

    given: list[Headers] = [[TRACE], [TRACE, (HEADER, b"old"), ("b", None)]]
    again = marked(EncodedBatch("t", [b"1", b"2"], headers=given), encode_hops((hop,)))
    assert again.headers is not None
    assert list(again.headers[0]) == [TRACE]
    assert list(again.headers[1]) == [TRACE, ("b", None), (HEADER, encode_hops((hop,)))]
    assert given[1] == [TRACE, (HEADER, b"old"), ("b", None)], "headers of the plugin are not changed"

    assert marked(EncodedBatch("t", []), encode_hops((hop,))).headers is None


def test_a_source_measures_from_the_change_of_the_row() -> None:
    freshness, clock = TaskFreshness(), Clock(10_000)
    hops = SourceHops(freshness, "orders", marks=True, clock=clock)
    batch, encoded = SourceBatch("t", [1], changed=7_000), EncodedBatch("t", [b"1"])
    polled = hops.polled(batch)
    clock.now = 10_200
    hops.sending(batch, [encoded], polled)
    clock.now = 11_000
    hops.acknowledged([InFlightBatch(batch, [encoded], [], polled)])
    assert hop_times(freshness) == {"poll": 3.0, "acknowledge": 1.0}
    found = freshness.snapshot()
    assert (found.as_of, found.age.newest) == (7_000, 4.0)
    assert encoded.headers is not None
    assert decode_hops(header_of(encoded.headers)) == (Hop("orders", 7_000, 10_200),)


def test_rows_without_a_time_are_as_old_as_their_read() -> None:
    freshness, clock = TaskFreshness(), Clock(10_000)
    hops = SourceHops(freshness, "orders", marks=False, clock=clock)
    batch, encoded = SourceBatch("t", [1]), EncodedBatch("t", [b"1"])
    polled = hops.polled(batch)
    hops.sending(batch, [encoded], polled)
    clock.now = 10_500
    hops.acknowledged([InFlightBatch(batch, [encoded], [], polled), InFlightBatch(batch, [], [], polled)])
    assert hop_times(freshness) == {"acknowledge": 0.5}
    assert freshness.snapshot().age.observed == 1, "a batch without records has no age"
    assert encoded.headers is None


def test_a_sink_measures_from_the_header_to_the_search() -> None:
    freshness, clock = TaskFreshness(), Clock(20_000)
    hops = SinkHops(freshness, clock=clock)
    mark = (HEADER, encode_hops((Hop("orders", 15_000, 18_000),)))
    hops.read([consumed(0, [(), [TRACE, mark]]), consumed(2, [(), [mark]])])
    clock.now = 20_500
    hops.searchable_after = 1.0
    hops.written([consumed(0, [(), (), ()])])  # the second batch is not complete yet
    assert hop_times(freshness) == {"read": 2.0, "write": 0.5, "search": 1.0}
    found = freshness.snapshot()
    assert (found.as_of, found.age.newest, found.age.observed) == (15_000, 6.5, 1)
    hops.written([consumed(3, [()])])
    assert freshness.snapshot().age.observed == 2


def test_records_of_other_programs_are_as_old_as_their_timestamp() -> None:
    freshness, clock = TaskFreshness(), Clock(5_000)
    hops = SinkHops(freshness, clock=clock)
    hops.read([consumed(0, [[TRACE]], stamp=4_000)])
    hops.written([consumed(0, [()])])
    assert freshness.snapshot().age.newest == 1.0
    # A part of a marked batch without the mark tells nothing: event times are not the time of the data.
    hops.read([consumed(1, [[(HEADER, encode_hops((Hop("a", 4_500, 4_600),)))]], stamp=1)])
    hops.read([consumed(2, [()], stamp=1)])
    hops.written([consumed(1, [(), ()])])
    assert freshness.snapshot().age.observed == 2
    assert freshness.snapshot().age.newest == 0.5


def test_a_stream_application_passes_the_time_of_the_source_on() -> None:
    freshness, clock = TaskFreshness(), Clock(20_000)
    hops = StreamHops(freshness, "totals", marks=True, clock=clock)
    output = EncodedBatch("out", [b"1"])
    assert hops.marked(output).headers is None, "nothing was processed yet"
    source = Hop("orders", 15_000, 19_000)
    batch = consumed(0, [[(HEADER, encode_hops((source,)))]])
    hops.processing(batch)
    hops.processing(batch)  # its second part
    clock.now = 20_100
    sent = hops.marked(output)
    clock.now = 20_400
    hops.committed()
    hops.committed()
    assert sent.headers is not None
    assert decode_hops(header_of(sent.headers)) == (source, Hop("totals", 20_000, 20_100))
    assert hop_times(freshness) == {"read": 1.0, "commit": 0.4}
    assert freshness.snapshot().age.observed == 1


def test_batches_of_a_transaction_that_failed_are_measured_when_they_are_read_again() -> None:
    freshness = TaskFreshness()
    hops = StreamHops(freshness, "totals", marks=False)
    batch = consumed(0, [()], stamp=now_ms())
    hops.processing(batch)
    hops.discarded()
    hops.committed()
    assert freshness.snapshot().age.observed == 0
    hops.processing(batch)
    hops.committed()
    assert freshness.snapshot().age.observed == 1


class Reports:
    """A control's notes and conditions, and a monotonic clock that the test sets."""

    def __init__(self, harness: Any) -> None:
        self.notes: list[str | None] = []
        self.conditions: list[str] = []
        self.seconds = 100.0
        self.control = replace(
            harness.control,
            set_note=self.notes.append,
            raise_condition=lambda code, text, hint="", **_: self.conditions.append(f"{code}: {text} {hint}"),
        )


@pytest.fixture
def reports(harness: Callable[[], Any]) -> Reports:
    return Reports(harness())


def objective(reports: Reports, freshness: TaskFreshness, seconds: float = 30) -> FreshnessObjective:
    return FreshnessObjective(seconds, freshness, reports.control, lambda: reports.seconds)


@pytest.mark.parametrize(
    ("hop", "named"),
    [
        (Hop("orders", 0, 40_000), "40.0 s of it by the source orders"),
        (Hop("orders", 40_000, 41_000), "39.0 s of it by Kafka, after orders had sent the data"),
        (Hop("orders", 78_000, 79_000), "60.0 s of it by the writes of this sink"),
    ],
)
def test_old_data_is_a_note_a_condition_and_a_metric_that_name_the_hop(reports: Reports, hop: Hop, named: str) -> None:
    freshness, clock = TaskFreshness(), Clock(80_000)
    hops = SinkHops(freshness, objective(reports, freshness), clock)
    hops.read([consumed(0, [[(HEADER, encode_hops((hop,)))]])])
    clock.now = 80_000 if "writes" not in named else 140_000
    hops.written([consumed(0, [()])])
    assert reports.notes[-1] is not None
    assert named in reports.notes[-1]
    assert "freshness.slo is 30 s" in reports.notes[-1]
    assert len(reports.conditions) == 1
    assert reports.conditions[0].startswith("freshness.slo: data was ")
    assert freshness.snapshot().exceeded

    reports.seconds += 6
    hops.read([consumed(1, [[(HEADER, encode_hops((Hop("orders", clock.now - 1, clock.now),)))]])])
    hops.written([consumed(1, [()])])
    assert reports.notes[-1] is None
    assert not freshness.snapshot().exceeded


def test_records_that_cannot_be_written_are_judged_while_they_wait(reports: Reports) -> None:
    freshness, clock = TaskFreshness(), Clock(10_000)
    hops = SinkHops(freshness, objective(reports, freshness), clock)
    hops.read([consumed(0, [[(HEADER, encode_hops((Hop("orders", 9_000, 9_500),)))]])])
    hops.check()
    assert not freshness.snapshot().exceeded
    clock.now, reports.seconds = 50_000, 140.0
    hops.check()
    assert freshness.snapshot().exceeded
    assert "40.0 s of it by the writes of this sink" in (reports.notes[-1] or "")
    hops.revoked([PLACE])
    reports.seconds += 6
    hops.check()
    assert reports.notes[-1] is None, "another task has the records"


def test_an_idle_sink_is_fresh_again_after_some_seconds(reports: Reports) -> None:
    freshness, clock = TaskFreshness(), Clock(100_000)
    hops = SinkHops(freshness, objective(reports, freshness), clock)
    hops.read([consumed(0, [()], stamp=1_000)])
    hops.written([consumed(0, [()])])
    reports.seconds += 2
    hops.check()
    assert freshness.snapshot().exceeded
    reports.seconds += 6
    hops.check()
    assert not freshness.snapshot().exceeded
    assert len(reports.conditions) == 1


def test_the_note_is_written_once_while_the_numbers_change(reports: Reports) -> None:
    freshness = TaskFreshness()
    judged = objective(reports, freshness)
    from headrace.freshness import Held

    for number in range(10):
        judged.judge(31 + number / 10, [Held("the writes of this sink", 31 + number / 10)])
    assert len(reports.notes) == 1


def test_marks_pass_a_sink_pipeline(sink: Callable[..., Any]) -> None:
    """Through polls, conversion and puts of a real pipeline."""
    made = sink()
    broker: InMemoryKafka = made.harness.broker
    now = now_ms()
    batch = EncodedBatch("t", [b"1", b"2"], keys=[b'"k"', b'"k"'])
    broker.producer({}).send(marked(batch, encode_hops((Hop("orders", now - 5_000, now - 4_000),))))
    thread = made.harness.run(made.pipeline)
    eventually(lambda: made.harness.metrics.freshness.snapshot().age.observed == 1)
    made.harness.end(thread)
    found = made.harness.metrics.freshness.snapshot()
    assert found.as_of == now - 5_000
    assert found.age.newest is not None
    assert found.age.newest >= 5
    assert found.hops.keys() == {"read", "write"}
    assigned, *_ = made.harness.metrics.events.snapshot().newest
    assert (assigned.event.action, assigned.event.fields) == (
        "partitions assigned",
        {"partitions": ["t-0", "t-1", "t-2"]},
    )


class TracedRows(SourceTask):
    """One batch whose records have a trace."""

    def start(self, context: SourceContext) -> None:
        self.rows: SourceBatch | None = SourceBatch("t", [1, 2, 3], headers=[[TRACE], [TRACE, ("b", None)], [TRACE]])

    def poll(self) -> SourceBatch | Wait:
        rows, self.rows = self.rows, None
        return rows or Wait(0.01)


class Nowhere:
    """Positions that are not stored."""

    def set(self, changes: Any) -> None:
        pass


class HeaderSinkTask(SequentialSinkTask):
    """Keeps the headers that it receives."""

    headers: ClassVar[list[Headers]] = []

    def put(self, batches: Sequence[SinkBatch]) -> Sequence[Rejection]:
        self.headers.extend(fields for batch in batches for fields in batch.headers)
        return super().put(batches)


def test_a_trace_passes_from_a_source_to_a_sink_as_it_is(harness: Callable[[], Any], sink: Callable[..., Any]) -> None:
    mine = harness()
    mine.broker.create("t", 3)
    factory = ProducerFactory(lambda: mine.broker.producer({}), lambda topic: None, 1_000_000)
    control = replace(mine.control, hop_headers=True)
    context = make_source_context({}, Offsets())
    delivery = partial(AcknowledgedDelivery, factory, Nowhere())
    source = SourcePipeline(TracedRows(), context, mine.stages(), delivery, control)
    thread = mine.run(source)
    eventually(lambda: len(mine.broker.records("t")) == 3)
    mine.end(thread)
    sent = [list(record.headers) for record in mine.broker.records("t")]
    assert [fields[0] for fields in sent] == [TRACE] * 3
    assert sum(HEADER in dict(fields) for fields in sent) == 1

    HeaderSinkTask.headers.clear()
    made = sink(broker=mine.broker, task=HeaderSinkTask)
    thread = made.harness.run(made.pipeline)
    eventually(lambda: len(HeaderSinkTask.headers) == 3)
    made.harness.end(thread)
    assert sorted(map(str, map(list, HeaderSinkTask.headers))) == sorted(map(str, sent))
