"""Many documents, one in a hundred bad: exactly the bad ones are dead letters, and memory is bounded."""

from __future__ import annotations

from typing import Any

from headrace.pipeline.sink import PutLimits
from headrace.testing.waiting import eventually

LIMITS = PutLimits()

COUNT, EVERY = 50_000, 100


def document(number: int) -> bytes:
    if number % EVERY:
        return b'{"id":%d,"amount":%d}' % (number, number)
    kinds = (
        b'{"id":%d,"amount":"not a number"}',
        b'{"id":%d,"amount":1',
        b"no JSON: %d",
        b'"text %d"',
        b'{"amount":NaN,"id":%d}',
    )
    return kinds[number // EVERY % len(kinds)] % number


def test_exactly_the_bad_ones_of_many_are_dead_letters(flow: Any) -> None:
    mapping = {
        "settings": {"number_of_replicas": 0, "refresh_interval": "-1"},
        "mappings": {"properties": {"amount": {"type": "integer"}}},
    }
    flow.ask("PUT", flow.name, mapping)
    for first in range(0, COUNT, 5_000):
        numbers = range(first, first + 5_000)
        flow.send([document(number) for number in numbers], keys=list(numbers))
    member = flow.start(batch_size="2000", read_timeout_ms="60s")
    most_open = 0

    def settled() -> bool:
        nonlocal most_open
        for error in member.error:
            raise error
        values = member.metrics.snapshot()
        most_open = max(most_open, values["sink_record_active_count"])
        return bool(flow.committed() == COUNT)

    eventually(settled, 120)
    bad = [document(number) for number in range(0, COUNT, EVERY)]
    assert sorted(letter["value"] for letter in flow.dead()) == sorted(bad)
    flow.ask("POST", f"{flow.name}/_refresh")
    assert flow.ask("GET", f"{flow.name}/_count")["count"] == COUNT - len(bad)
    assert 0 < most_open <= (LIMITS.ahead + 1) * LIMITS.records
