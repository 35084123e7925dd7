"""Restoring state: what happens meanwhile, a rebalance or a stop, does not lose a part of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.broker.interfaces import RebalanceListener
from headrace.records import ConsumedBatch, TopicPartition
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.faults import StopWhen

COUNT = """
inputs:
  views: {topic: impressions, time: at, key: id}
steps:
  counted:
    window: {by: id, tumbling: 10ms, grace: 0, aggregate: {views: count(*)}}
outputs:
  counts: counted
"""


@dataclass(eq=False)
class RestoreClients:
    """Clients of one task that restores state: ``reader_polled`` decides how many records a poll may return."""

    target: Any
    reader_polled: Callable[[], int]
    rejoined: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def sharing(self, settings: Mapping[str, str]) -> RestoreClients:
        return self

    def consumer(self, *arguments: Any) -> Any:
        return RejoiningConsumer(self.target.consumer(*arguments), self.rejoined)

    def reader(self, *arguments: Any) -> Any:
        return LimitedReader(self.target.reader(*arguments), self.reader_polled)


@dataclass(eq=False)
class LimitedReader:
    """A reader whose polls of changelogs return as many records as a function says."""

    target: Any
    limit: Callable[[], int]
    restoring: bool = False

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self.restoring = any(item.topic.endswith("-changelog") for item in positions)
        self.target.assign(positions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def poll(self, timeout: float, max_records: int) -> Any:
        limit = self.limit() if self.restoring else max_records
        return self.target.poll(timeout, limit) if limit else []


@dataclass(eq=False)
class RejoiningConsumer:
    """A consumer whose group is rebalanced when it is polled while it is paused; all partitions stay with it."""

    target: Any
    rejoined: threading.Event
    paused: bool = False
    listener: RebalanceListener | None = None
    owned: Sequence[TopicPartition] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)

    def subscribe(self, topics: Sequence[str], pattern: str | None, listener: RebalanceListener) -> None:
        self.listener = listener
        self.target.subscribe(topics, pattern, listener)

    def pause_all(self) -> None:
        self.paused = True
        self.target.pause_all()

    def resume_all(self) -> None:
        self.paused = False
        self.target.resume_all()

    def poll(self, timeout: float, max_records: int) -> list[ConsumedBatch]:
        if self.paused and not self.rejoined.is_set():
            assert self.listener is not None
            partitions = sorted(self.target.assignment())
            self.listener.revoked(partitions)
            self.listener.assigned(partitions)
            self.rejoined.set()
        batches: list[ConsumedBatch] = self.target.poll(timeout, max_records)
        return batches


def counted(application: Application) -> list[tuple[int, int]]:
    return sorted((value["id"], value["views"]) for value in application.committed("counts"))


def send(application: Application, time: int) -> None:
    application.send("impressions", [{"id": n, "at": time} for n in range(5)], list(range(5)))


def run(application: Application) -> None:
    application.run(StopWhen(application.is_processed))


def test_a_rebalance_while_state_is_restored_loses_none_of_it(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 1})
    send(application, 0)
    run(application)
    send(application, 20)
    polls: list[int] = []

    def one_record_and_then_none_before_the_rebalance() -> int:
        polls.append(1)
        return 1 if len(polls) == 1 else 1_000 * clients.rejoined.wait(0.2)

    clients = RestoreClients(application.broker, one_record_and_then_none_before_the_rebalance)
    task = application.run(StopWhen(application.is_processed), clients)

    assert clients.rejoined.is_set()
    assert counted(application) == [(number, 1) for number in range(5)]
    assigned, revoked, again, *_ = task.metrics.events.snapshot().newest
    assert [item.event.action for item in (assigned, revoked, again)] == [
        "partitions assigned",
        "partitions revoked",
        "partitions assigned",
    ]
    assert assigned.event.fields["partitions"] == ["impressions-0"]


def test_a_stop_while_state_is_restored_commits_nothing_of_its_partition(make_application: MakeApplication) -> None:
    application = make_application(COUNT, {"impressions": 1})
    send(application, 0)
    run(application)
    send(application, 5)
    stop = threading.Event()

    def stopped() -> int:
        stop.set()
        return 0

    application.run(stop, RestoreClients(application.broker, stopped))
    assert not application.is_processed()
    send(application, 20)
    run(application)

    assert counted(application) == [(number, 2) for number in range(5)]
