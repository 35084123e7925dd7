"""Runs an application that selects and learns over the in-memory Kafka, with a seeded outside world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson

from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.exploration.applications import MINUTE, OFFERS, World
from tests.unit.streams.faults import run_with_faults

REQUESTS = 120


def run_experiment(
    make_application: MakeApplication, text: str, faults: Sequence[tuple[int, bool, bool]]
) -> Application:
    """Run an application over all requests and conversions of a world, until the windows are closed."""
    topics = {"requests": 2, "conversions": 2, "offers": 1}
    application: Application = make_application(text, topics)
    application.send("offers", OFFERS, list(range(len(OFFERS))))
    world = World(5, REQUESTS)
    requests = list(world.requests())
    shown: set[str] = set()

    def send(part: list[dict[str, Any]], now: int) -> None:
        application.send("requests", part, [item["request_id"] for item in part])
        for selection in application.committed("selections"):
            if selection["request"] not in shown:
                shown.add(selection["request"])
                world.show(selection)
        due = world.conversions(now)
        application.send("conversions", due, [item["request"] for item in due])

    def close(now: int) -> None:
        """Close the windows in both partitions."""
        end = [{"request": f"end-{number}", "converted_at": now} for number in range(20)]
        application.send("conversions", end, [item["request"] for item in end])

    sends: list[Callable[[], None]] = [
        partial(send, requests[start : start + 30], start * 2000 + 60 * MINUTE) for start in range(0, REQUESTS, 30)
    ]
    sends += [partial(send, [], 200 * MINUTE), partial(close, 300 * MINUTE)]
    run_with_faults(application, sends, faults)
    return application


def shared_records(application: Application, topic: str) -> dict[str, Any]:
    """Return the last committed value of each key of a shared topic."""
    (place,) = application.broker.partitions_of(topic)
    records, _ = application.broker.logs[place].read(0, 100_000, committed=True)
    return {(record.key or b"").decode(): orjson.loads(record.value or b"") for record in records}
