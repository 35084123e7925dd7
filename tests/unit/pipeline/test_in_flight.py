from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import DataError, RetriableError
from headrace.pipeline.in_flight import Entry, InFlight
from headrace.records import EncodedBatch, SourceBatch


@dataclass
class Fate:
    """A delivery whose fate the test decides."""

    settled: bool = False
    failure: Exception | None = None

    def done(self) -> bool:
        return self.settled

    def error(self) -> Exception | None:
        return self.failure


def entry(offset: int, *fates: Fate, partition: str = "p") -> Entry:
    batch = SourceBatch("t", [b"v"], source_partition={"p": partition}, source_offset={"at": offset})
    return Entry(batch, [EncodedBatch("t", [b"v"]) for _ in fates], list(fates))


def test_only_an_acknowledged_prefix_may_be_committed() -> None:
    flight = InFlight()
    first, second = Fate(), Fate(settled=True)
    flight.add(entry(1, first))
    flight.add(entry(2, second))
    assert flight.settle() == []
    first.settled = True
    assert len(flight.settle()) == 2
    assert [offset for _, offset in flight.take_committable().values()] == [{"at": 2}]


def test_what_fails_after_the_look_for_failures_is_not_taken_for_acknowledged() -> None:
    """A client serves its answers whenever it is asked, so also between the two questions."""
    for failure in (RetriableError("away"), DataError("bad")):
        flight = InFlight()
        late = Fate()
        flight.add(entry(1, Fate(settled=True), late))
        assert flight.failed() is None
        late.settled, late.failure = True, failure
        assert flight.settle() == []
        assert flight.take_committable() == {}
        assert flight.failed() is not None


def test_partitions_do_not_hold_each_other_back() -> None:
    flight = InFlight()
    flight.add(entry(1, Fate(), partition="a"))
    flight.add(entry(5, Fate(settled=True), partition="b"))
    assert [item.batch.source_offset for item in flight.settle()] == [{"at": 5}]
    assert flight.records == 1


def test_further_positions_come_with_their_batch_and_none_forgets() -> None:
    flight = InFlight()
    first, last = Fate(settled=True), Fate()
    flight.add(entry(1, first, partition="part"))
    batch = SourceBatch(
        "t", [], source_partition={"p": "part"}, more_offsets=[({"p": "table"}, {"at": 9}), ({"p": "part"}, None)]
    )
    flight.add(Entry(batch, [EncodedBatch("t", [b"v"])], [last]))
    flight.settle()
    assert list(flight.take_committable().values()) == [({"p": "part"}, {"at": 1})]
    last.settled = True
    flight.settle()
    assert list(flight.take_committable().values()) == [({"p": "table"}, {"at": 9}), ({"p": "part"}, None)]
