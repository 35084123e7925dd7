"""Deletion of processed records of repartition topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from headrace.errors import RetriableError
from headrace.pipeline.stream.purge import RepartitionPurge
from headrace.records import TopicPartition

PLACE = TopicPartition("app-step-repartition", 0)


class Deletions:
    """An admin client that notes what is deleted."""

    def __init__(self) -> None:
        self.found: list[dict[TopicPartition, int]] = []
        self.error: RetriableError | None = None

    def __call__(self) -> Any:
        return self

    def delete_records(self, before: Mapping[TopicPartition, int]) -> None:
        if self.error is not None:
            raise self.error
        self.found.append(dict(before))

    def close(self) -> None:
        pass


@pytest.fixture
def deletions() -> Deletions:
    return Deletions()


@pytest.fixture
def purge(deletions: Deletions) -> RepartitionPurge:
    ticks = iter(range(1_000))
    log: Any = structlog.get_logger()
    return RepartitionPurge([PLACE.topic], 1.0, deletions, log, lambda: float(next(ticks)))


def test_records_before_committed_offsets_are_deleted(purge: RepartitionPurge, deletions: Deletions) -> None:
    purge.committed({PLACE: 10, TopicPartition("input", 0): 5}, {})
    assert deletions.found == [{PLACE: 10}]


def test_records_from_an_unexplained_gap_are_deleted_later(purge: RepartitionPurge, deletions: Deletions) -> None:
    purge.committed({PLACE: 10}, {PLACE: 7})
    purge.committed({}, {})
    assert deletions.found == [{PLACE: 7}, {PLACE: 10}]


def test_a_failed_deletion_is_repeated(purge: RepartitionPurge, deletions: Deletions) -> None:
    deletions.error = RetriableError("no answer", code="kafka.unreachable")
    purge.committed({PLACE: 10}, {})
    deletions.error = None
    purge.committed({PLACE: 12}, {})
    assert deletions.found == [{PLACE: 12}]
