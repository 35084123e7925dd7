"""When positions are committed, and what a rebalance does to requests that are on their way.

The numbers are those of the table in docs/coming-from-kafka-connect.md.
"""

from __future__ import annotations

from typing import Any

import pytest

from headrace.pipeline.sink import AHEAD, MAX_RECORDS
from headrace.testing.faults import Hang, Late
from headrace.testing.waiting import eventually

BULK = r"/_bulk"


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": number % 20, "n": number} for number in range(first, first + count)]


def test_104_an_open_bulk_holds_back_the_commit_of_later_ones(flow: Any) -> None:
    flow.proxy.play(Late(), path=BULK)
    flow.send(rows(MAX_RECORDS + 10))  # more than one put has: a later one begins while the first is open
    flow.start(read_timeout_ms="30s", batch_size=str(MAX_RECORDS))
    eventually(lambda: any(seen.status == 200 for seen in flow.proxy.seen(BULK)), 30)  # the later one is written
    assert flow.committed() == 0
    flow.proxy.restore()
    flow.settle()
    assert flow.committed() == MAX_RECORDS + 10
    flow.check()


def test_105_only_so_many_records_are_open_on_purpose(flow: Any) -> None:
    flow.proxy.always(Hang(), path=BULK)
    flow.send(rows(20_000))
    member = flow.start(max_in_flight_requests="50", batch_size="2000", read_timeout_ms="60s")
    most = (AHEAD + 1) * MAX_RECORDS
    eventually(lambda: member.metrics.snapshot()["sink_record_read_total"] == most, 30)
    eventually(lambda: any("to answer" in reason for reason in member.reasons), 30)  # it waits, and reads no more
    assert member.metrics.snapshot()["sink_record_read_total"] == most
    flow.proxy.restore()
    flow.settle()
    flow.check()


@pytest.mark.parametrize("late", [True, False])
def test_111_a_rebalance_with_an_unanswered_bulk(flow: Any, late: bool) -> None:
    """``late``: what the old owner has sent arrives after the new owner's."""
    first = flow.start(read_timeout_ms="500ms")
    flow.send(rows(30))
    flow.settle()
    flow.proxy.play(Late() if late else Hang(), path=BULK)
    flow.send(rows(30, first=30))
    eventually(lambda: flow.proxy.left == 0, 30)
    assert flow.committed() == 30
    flow.start()  # some of the partitions are the new member's now
    flow.send(rows(30, first=60))
    flow.settle()
    assert not first.error
    flow.proxy.restore()
    eventually(lambda: any(seen.fault is not None for seen in flow.proxy.seen(BULK)), 30)
    assert flow.dead() == []
    flow.check()
