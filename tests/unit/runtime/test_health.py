"""Liveness asks for a restart only where a restart helps; health has Kafka Connect's states (KIP-1017)."""

from __future__ import annotations

import pytest

from headrace.runtime.health import BUSY, STUCK, health, liveness

LIVE = liveness(alive=True, ended=None, busy=0)


@pytest.mark.parametrize(
    ("alive", "ended", "busy", "text"),
    [
        (False, None, 0, "control thread has ended"),
        (True, "group-lease", 0, "thread group-lease has ended"),
        (True, None, STUCK + 1, "has carried out one command for 121 s"),
    ],
)
def test_a_worker_that_only_a_restart_helps_is_not_live(alive: bool, ended: str | None, busy: float, text: str) -> None:
    live = liveness(alive=alive, ended=ended, busy=busy)
    assert (live.status, text in live.message) == ("unhealthy", True)
    assert health(live, None, busy=0) is live


def test_a_worker_whose_command_waits_for_kafka_is_live_and_unhealthy() -> None:
    live = liveness(alive=True, ended=None, busy=BUSY + 1)
    assert live.status == "healthy"
    assert health(live, None, busy=BUSY + 1).status == "unhealthy"


def test_a_worker_that_waits_for_kafka_is_starting_and_live() -> None:
    found = health(LIVE, "Kafka does not answer yet", busy=BUSY + 1)
    assert (found.status, found.message) == ("starting", "Worker is still starting up: Kafka does not answer yet")


def test_a_worker_that_has_started_is_healthy() -> None:
    assert health(LIVE, None, busy=0).message == "Worker has completed startup and is ready to handle requests."
