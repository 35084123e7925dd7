"""Reasons for which a sink task has fewer partitions than expected (rows 11, 23 and 25 of the faults)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import structlog

from headrace.errors import RetriableError
from headrace.pipeline.partition_share import PartitionShare, Shortage
from headrace.records import TopicPartition


class Topics:
    """An admin client that knows how many partitions topics have."""

    def __init__(self, **counts: int) -> None:
        self.counts = counts
        self.asked = 0
        self.error: Exception | None = None

    def __call__(self) -> Any:
        return self

    def topics(self) -> frozenset[str]:
        return frozenset(self.counts)

    def end_offsets(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {TopicPartition(name, n): 0 for name in topics for n in range(self.counts.get(name, 0))}

    def close(self) -> None:
        pass


class Share:
    """A task's share, with a clock that tests move."""

    def __init__(self, topics: Topics, tasks: int, wanted: Sequence[str] = ("t",), pattern: str | None = None) -> None:
        self.now = 0.0
        log = structlog.stdlib.get_logger("test")
        self._share = PartitionShare(
            topics, "connect-search", wanted, pattern, tasks, log, lambda: self.now, self._execute
        )
        self.slow = False
        self.jobs: list[Callable[[], None]] = []

    def _execute(self, job: Callable[[], None]) -> None:
        if self.slow:
            self.jobs.append(job)
        else:
            job()

    def after(self, seconds: float, *owned: int) -> Shortage | None:
        self.now += seconds
        return self._share.check(frozenset(TopicPartition("t", number) for number in owned))


def test_more_tasks_than_partitions_are_reported() -> None:
    share = Share(Topics(t=1), tasks=4)
    assert share.after(0) is None
    said = share.after(3)
    assert said is not None
    assert "no partition is left for this task: 1 partition for 4 tasks" in said.text
    assert "set tasks.max to 1" in said.text
    assert not said.waiting
    assert Share(Topics(t=1), tasks=4).after(3, 0) is None


def test_a_group_that_waits_for_a_dead_member_is_reported() -> None:
    share = Share(Topics(t=2), tasks=1)
    share.after(0)
    said = share.after(3)
    assert said is not None
    assert "connect-search has assigned 0 of at least 2 partitions" in said.text
    assert "session.timeout.ms" in said.text
    assert said.waiting
    assert share.after(30) == said
    assert share.after(1, 0, 1) is None, "it is cleared with the assignment, not later"
    assert share.after(10, 0, 1) is None


def test_another_worker_in_the_group_is_reported() -> None:
    share = Share(Topics(t=4), tasks=1)
    share.after(0, 0, 1)
    said = share.after(3, 0, 1)
    assert said is not None
    assert "assigned 2 of at least 4" in said.text
    assert "another worker runs a connector with this name" in said.text


def test_a_topic_that_does_not_exist_is_reported() -> None:
    topics = Topics()
    share = Share(topics, tasks=1)
    share.after(0)
    said = share.after(3)
    assert said is not None
    assert "topic t does not exist" in said.text
    topics.counts = {"t": 1}
    assert share.after(0.1, 0) is None


@pytest.mark.parametrize(("tasks", "owned"), [(1, (0, 1, 2)), (2, (0, 2)), (2, (1,)), (3, (1,)), (4, (0,))])
def test_a_fair_share_is_checked_once_and_not_reported(tasks: int, owned: tuple[int, ...]) -> None:
    topics = Topics(t=3)
    share = Share(topics, tasks)
    assert [share.after(3, *owned) for _ in range(10)] == [None] * 10
    assert topics.asked == 1


def test_topics_of_a_pattern_are_compared() -> None:
    share = Share(Topics(t=1, other=5), tasks=1, wanted=(), pattern="t.*")
    share.after(0)
    said = share.after(3)
    assert said is not None
    assert "0 of at least 1" in said.text
    assert Share(Topics(other=5), tasks=1, wanted=(), pattern="t.*").after(3) is None


def test_an_unavailable_broker_is_queried_again_later() -> None:
    topics = Topics(t=1)
    topics.error = RetriableError("no answer")
    share = Share(topics, tasks=1)
    share.after(0)
    assert share.after(3) is None
    topics.error = None
    assert share.after(9) is None
    assert share.after(1) is not None


def test_a_slow_answer_blocks_nothing_and_is_reported_when_it_comes() -> None:
    share = Share(Topics(t=2), tasks=1)
    share.slow = True
    share.after(0)
    assert share.after(3) is None
    assert share.after(30) is None
    (job,) = share.jobs
    job()
    assert share.after(0) is not None


def test_an_answer_about_an_earlier_assignment_is_discarded() -> None:
    share = Share(Topics(t=2), tasks=1)
    share.slow = True
    share.after(0)
    share.after(3)
    share.after(0, 0, 1)
    (job,) = share.jobs
    job()
    assert share.after(0, 0, 1) is None
    share.slow = False
    assert share.after(3, 0, 1) is None
