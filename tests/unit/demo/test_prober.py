import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from demo.prober import Prober, arrived
from demo.tables import IMPRESSIONS, OFFERS
from demo.trickle import Write

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture
def documents() -> dict[int, dict[str, Any]]:
    """The documents that Elasticsearch returns, by id."""
    return {}


@pytest.fixture
def prober(documents: dict[int, dict[str, Any]]) -> Prober:
    return Prober(lambda write: documents.get(write.id))


def write(id_: int, seconds_ago: float = 0.0) -> Write:
    return Write(IMPRESSIONS, id_, None, time.monotonic() - seconds_ago)


def test_an_inserted_row_has_arrived_when_it_has_a_document() -> None:
    assert arrived(write(1), {})
    assert not arrived(write(1), None)


@pytest.mark.parametrize(("later", "expected"), [(-1, False), (0, True), (1, True)])
def test_an_updated_row_has_arrived_in_its_version_or_a_later_one(later: int, expected: bool) -> None:
    update = Write(OFFERS, 1, MOMENT, 0.0)
    found = (MOMENT + timedelta(microseconds=later)).replace(tzinfo=None).isoformat()

    assert arrived(update, {"updated_at": found}) is expected


def test_there_is_no_freshness_before_the_first_row(prober: Prober) -> None:
    freshness = prober.freshness()

    assert (freshness.p50, freshness.worst, freshness.count, freshness.waiting) == (None, None, 0, 0.0)


def test_freshness_is_measured_from_the_commit(prober: Prober, documents: dict[int, dict[str, Any]]) -> None:
    prober.expect(write(1, seconds_ago=5))
    prober.step(IMPRESSIONS)
    assert prober.freshness().waiting >= 5

    documents[1] = {}
    prober.step(IMPRESSIONS)

    freshness = prober.freshness(IMPRESSIONS)
    assert freshness.count == 1
    assert freshness.waiting == 0
    assert freshness.p50 is not None
    assert 5 <= freshness.p50 < 60
    assert freshness.worst == freshness.p50
    assert prober.freshness(OFFERS).count == 0


def test_a_row_is_followed_until_it_arrives_then_the_newest_one(
    prober: Prober, documents: dict[int, dict[str, Any]]
) -> None:
    for id_ in (1, 2, 3):
        prober.expect(write(id_))
        prober.step(IMPRESSIONS)  # follows the first, the others wait
    documents |= {2: {}, 3: {}}
    prober.step(IMPRESSIONS)
    assert prober.freshness().count == 0

    documents[1] = {}
    prober.step(IMPRESSIONS)
    prober.step(IMPRESSIONS)

    assert prober.freshness().count == 2  # 1 and 3: 3 replaced 2 before 2 was requested
