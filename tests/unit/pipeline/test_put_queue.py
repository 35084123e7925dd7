"""The put queue loses, reorders or skips no record, for any order of steps, failures, revocations and commits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace import PendingPut, Rejection, SinkBatch, TopicPartition
from headrace.pipeline.put_queue import InFlightPut, PutQueue, PutState, PutStep
from headrace.records import ConsumedBatch

PLACES = [TopicPartition("t", number) for number in range(3)]


def consumed(place: TopicPartition, offsets: Sequence[int]) -> ConsumedBatch:
    column: list[Any] = [None] * len(offsets)
    return ConsumedBatch(place, list(offsets), column, column, [0] * len(offsets), [()] * len(offsets))


class Pending(PendingPut):
    def __init__(self) -> None:
        self.discarded: set[TopicPartition] = set()

    def finish(self) -> Sequence[Rejection]:
        return ()

    def discard(self, partitions: Collection[TopicPartition]) -> None:
        self.discarded |= set(partitions)


class SinkTaskModel(RuleBasedStateMachine):
    """A group member with its partitions and what the sink's system has of each."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = PutQueue()
        self.owned: set[TopicPartition] = set()
        self.read: dict[TopicPartition, int] = {}  # where the consumer reads next
        self.settled: dict[TopicPartition, int] = dict.fromkeys(PLACES, 0)  # all before is durable, gap-free
        self.committed: dict[TopicPartition, int] = dict.fromkeys(PLACES, 0)
        self.open: list[InFlightPut] = []

    def carry_out(self, put: InFlightPut) -> None:
        step = put.step()
        if step is PutStep.CONVERT:
            put.batches = [
                SinkBatch(place, place.topic, batch.offsets, [], batch.values, [], [])
                for place, batch in put.consumed.items()
            ]
        if step is PutStep.BEGIN:
            assert all(older.state is not PutState.CONVERTED for older in self.open[: self.open.index(put)])
            put.pending = Pending()
        if step is PutStep.SETTLE:
            for place, batch in put.consumed.items():
                assert batch.offsets[0] == self.settled[place], f"{place}: records are missing or out of order"
                self.settled[place] = batch.offsets[-1] + 1
        self.queue.advance(put)
        if put.state is PutState.SETTLED:
            assert put is self.open.pop(0)

    @rule(place=st.sampled_from(PLACES))
    def assign(self, place: TopicPartition) -> None:
        """Start reading at the committed position; records that were settled after it are written again."""
        if place not in self.owned:
            self.owned.add(place)
            self.read[place] = self.settled[place] = self.committed[place]

    @precondition(lambda self: self.owned and not self.queue.retrying)
    @rule(data=st.data(), count=st.integers(1, 3))
    def poll(self, data: st.DataObject, count: int) -> None:
        places = data.draw(st.lists(st.sampled_from(sorted(self.owned)), unique=True, min_size=1))
        batches = [consumed(place, range(self.read[place], self.read[place] + count)) for place in places]
        for place in places:
            self.read[place] += count
        self.open.append(self.queue.add(batches))

    @precondition(lambda self: self.open)
    @rule()
    def step_of_the_newest(self) -> None:
        """The pipeline converts and begins what it has just read before its turn."""
        put = self.open[-1]
        if put.step() in (PutStep.CONVERT, PutStep.BEGIN) and self.queue.allowed(put):
            self.carry_out(put)

    @precondition(lambda self: self.open)
    @rule(limit=st.integers(0, 2))
    def step_of_the_oldest(self, limit: int) -> None:
        put = self.queue.oldest(limit)
        assert (put is None) == (len(self.open) <= (0 if self.queue.retrying else limit))
        if put is not None:
            assert put is self.open[0]
            assert self.queue.allowed(put)
            self.carry_out(put)

    @precondition(lambda self: self.open)
    @rule()
    def fail(self) -> None:
        self.queue.fail()
        with pytest.raises(RuntimeError, match="retried"):
            self.queue.add([])

    @precondition(lambda self: len(self.open) > 1)
    @rule(data=st.data())
    def finish_out_of_turn(self, data: st.DataObject) -> None:
        put = data.draw(st.sampled_from(self.open[1:]))
        if put.step() in (PutStep.FINISH, PutStep.SETTLE):
            with pytest.raises(RuntimeError, match="turn"):
                self.queue.advance(put)

    @rule(places=st.sets(st.sampled_from(PLACES)))
    def revoke(self, places: set[TopicPartition]) -> None:
        while (put := self.queue.begun()) is not None:
            self.carry_out(put)
        self.commit()
        self.queue.revoke(places)
        self.owned -= places
        for put in self.open:
            assert not places & set(put.consumed)
            assert not places & {batch.topic_partition for batch in put.batches}
            if isinstance(put.pending, Pending):
                assert places <= put.pending.discarded

    @rule()
    def commit(self) -> None:
        positions = self.queue.committable()
        self.committed.update(positions)
        self.queue.committed(positions)
        assert self.queue.committable() == {}

    @rule()
    def restart(self) -> None:
        self.queue.clear()
        self.commit()
        self.queue = PutQueue()
        self.owned.clear()
        self.open.clear()

    @invariant()
    def nothing_is_committed_past_a_record_that_is_not_durable(self) -> None:
        for place, offset in self.queue.committable().items():
            assert place in self.owned
            assert offset == self.settled[place]
        for put in self.open:
            for place, batch in put.consumed.items():
                assert self.committed[place] <= batch.offsets[0]

    @invariant()
    def every_record_read_is_durable_or_in_flight(self) -> None:
        assert len(self.queue) == len(self.open)
        for place in self.owned:
            in_flight = [offset for put in self.open if place in put.consumed for offset in put.consumed[place].offsets]
            assert in_flight == list(range(self.settled[place], self.read[place]))

    @invariant()
    def retrying_ends_when_nothing_is_in_flight(self) -> None:
        assert self.open or not self.queue.retrying


TestSinkTaskModel = SinkTaskModel.TestCase


def test_a_put_of_revoked_records_only_is_still_finished_in_order() -> None:
    queue = PutQueue()
    first = queue.add([consumed(PLACES[0], [0])])
    second = queue.add([consumed(PLACES[1], [0])])
    queue.revoke(PLACES[:1])
    for put in (first, second):
        while put.state is not PutState.SETTLED:
            assert queue.oldest() is put
            queue.advance(put)
    assert queue.committable() == {PLACES[1]: 1}
