"""Commits of offsets, and the effect of a rebalance on requests in flight.

The numbers are those of the table in docs/coming-from-kafka-connect.md.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace.pipeline.sink import PutLimits
from headrace.testing.faults import Fault, Hang, Late
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

LIMITS = PutLimits()

BULK = r"/_bulk"


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": number % 20, "n": number} for number in range(first, first + count)]


class FirstRequestDelayed:
    """Delays the request with the first records of the partitions; forwards the others."""

    def answer(self, request: Any, passage: Any) -> Any:
        late = b'"version":0,' in request.body
        return Late().answer(request, passage) if late else passage.forward(request)


def test_104_offsets_after_an_unfinished_bulk_request_are_not_committed(flow: Any) -> None:
    flow.proxy.always(FirstRequestDelayed(), path=BULK)
    flow.send(
        rows(LIMITS.records + 10)
    )  # more records than one put has: a later put begins while the first is unfinished
    flow.start(batch_size=str(LIMITS.records))
    eventually(lambda: any(seen.status == 200 for seen in flow.proxy.seen(BULK)), 60)  # the later one is written
    assert flow.committed() == 0
    flow.proxy.restore()
    flow.settle()
    assert flow.committed() == LIMITS.records + 10
    flow.check()


def test_105_the_number_of_records_in_flight_is_limited_on_purpose(flow: Any) -> None:
    flow.proxy.always(Hang(), path=BULK)
    flow.send(rows(20_000))
    member = flow.start(max_in_flight_requests="50", batch_size="2000")
    most = (LIMITS.ahead + 1) * LIMITS.records
    eventually(lambda: member.metrics.snapshot()["sink_record_read_total"] == most, 60)
    eventually(lambda: any("to answer" in reason for reason in member.reasons), 60)  # the sink waits, and reads no more
    assert member.metrics.snapshot()["sink_record_read_total"] == most
    flow.proxy.restore()
    flow.settle()
    flow.check()


@dataclass
class FaultUntilOver:
    """Every request meets ``fault`` until ``over``; what was committed when it came, and how many have ended."""

    flow: Any
    fault: Fault
    over: threading.Event = field(default_factory=threading.Event)
    committed: list[int] = field(default_factory=list)
    ended: list[None] = field(default_factory=list)

    def answer(self, request: Any, passage: Any) -> Any:
        if self.over.is_set():
            return passage.forward(request)
        self.committed.append(self.flow.committed())
        try:
            return self.fault.answer(request, passage)
        finally:
            self.ended.append(None)


@pytest.mark.parametrize("late", [True, False])
def test_111_a_rebalance_during_a_bulk_request_loses_no_record(flow: Any, late: bool) -> None:
    """``late``: the request of the old owner arrives after that of the new owner."""
    first = flow.start(read_timeout_ms="500ms")
    flow.send(rows(30))
    flow.settle()
    unanswered = FaultUntilOver(flow, Late() if late else Hang())
    flow.proxy.always(unanswered, path=BULK)
    flow.send(rows(30, first=30))
    eventually(lambda: unanswered.committed, 60)
    flow.start(read_timeout_ms="500ms")
    owners = flow.kafka_clients.groups[f"connect-{flow.name}"].owners
    eventually(lambda: len({id(owner) for owner in list(owners.values())}) == 2, 60)  # the new member owns partitions
    assert set(unanswered.committed) == {30}
    unanswered.over.set()
    flow.send(rows(30, first=60))
    flow.settle()
    assert not first.error
    flow.proxy.restore()
    eventually(lambda: len(unanswered.ended) == len(unanswered.committed), 60)
    assert flow.dead() == []
    flow.check()


def test_a_recreated_topic_is_reported(flow: Any) -> None:
    place = f"{flow.url}/{flow.name}/_doc/1?version=1000&version_type=external"
    HTTP.put(place, json={"id": 1, "n": "of the topic before"}, timeout=30).raise_for_status()
    flow.send([{"id": 1, "n": 0}])
    member = flow.start()
    eventually(
        lambda: any(
            "if the topic was deleted and created again" in reason and "`headrace reindex NAME FILE…`" in reason
            for reason in member.reasons
        ),
        30,
    )
