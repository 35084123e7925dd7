"""The lease ends before the coordinator can give the tasks to another worker."""

from __future__ import annotations

from headrace.groups.lease import Lease


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_ends_one_session_after_the_heartbeat_was_sent_not_after_its_answer() -> None:
    clock = Clock()
    lease = Lease(10, clock)
    assert lease.left() < 0
    sent = lease.now()
    clock.now += 4
    lease.renew(sent)
    assert lease.left() == 6


def test_answers_in_another_order_do_not_shorten_the_lease() -> None:
    clock = Clock()
    lease = Lease(10, clock)
    lease.renew(100)
    lease.renew(97)
    assert lease.left() == 10


def test_a_worker_that_is_not_a_member_has_no_lease() -> None:
    lease = Lease(10, Clock())
    lease.renew(100)
    lease.end()
    assert lease.left() < 0
