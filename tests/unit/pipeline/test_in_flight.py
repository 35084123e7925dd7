from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import DataError, RetriableError
from headrace.pipeline.in_flight import InFlight, InFlightBatch
from headrace.records import EncodedBatch, SourceBatch


@dataclass
class ScriptedDelivery:
    """A delivery whose result is set by the test."""

    acknowledged: bool = False
    failure: Exception | None = None

    def done(self) -> bool:
        return self.acknowledged

    def error(self) -> Exception | None:
        return self.failure


def entry(offset: int, *fates: ScriptedDelivery, partition: str = "p") -> InFlightBatch:
    batch = SourceBatch("t", [b"v"], source_partition={"p": partition}, source_offset={"at": offset})
    return InFlightBatch(batch, [EncodedBatch("t", [b"v"]) for _ in fates], list(fates))


def test_only_an_acknowledged_prefix_may_be_committed() -> None:
    flight = InFlight()
    first, second = ScriptedDelivery(), ScriptedDelivery(acknowledged=True)
    flight.add(entry(1, first))
    flight.add(entry(2, second))
    assert flight.remove_acknowledged() == []
    first.acknowledged = True
    assert len(flight.remove_acknowledged()) == 2
    assert [offset for _, offset in flight.take_committable().values()] == [{"at": 2}]


def test_a_failure_after_the_check_for_failures_is_not_counted_as_acknowledged() -> None:
    """A client may process responses in any call, so also between the two checks."""
    for failure in (RetriableError("away"), DataError("bad")):
        flight = InFlight()
        late = ScriptedDelivery()
        flight.add(entry(1, ScriptedDelivery(acknowledged=True), late))
        assert flight.failed() is None
        late.acknowledged, late.failure = True, failure
        assert flight.remove_acknowledged() == []
        assert flight.take_committable() == {}
        assert flight.failed() is not None


def test_partitions_are_committed_independently() -> None:
    flight = InFlight()
    flight.add(entry(1, ScriptedDelivery(), partition="a"))
    flight.add(entry(5, ScriptedDelivery(acknowledged=True), partition="b"))
    assert [item.batch.source_offset for item in flight.remove_acknowledged()] == [{"at": 5}]
    assert flight.records == 1


def test_further_offsets_are_committed_with_their_batch_and_none_deletes() -> None:
    flight = InFlight()
    first, last = ScriptedDelivery(acknowledged=True), ScriptedDelivery()
    flight.add(entry(1, first, partition="part"))
    batch = SourceBatch(
        "t", [], source_partition={"p": "part"}, more_offsets=[({"p": "table"}, {"at": 9}), ({"p": "part"}, None)]
    )
    flight.add(InFlightBatch(batch, [EncodedBatch("t", [b"v"])], [last]))
    flight.remove_acknowledged()
    assert list(flight.take_committable().values()) == [({"p": "part"}, {"at": 1})]
    last.acknowledged = True
    flight.remove_acknowledged()
    assert list(flight.take_committable().values()) == [({"p": "table"}, {"at": 9}), ({"p": "part"}, None)]
