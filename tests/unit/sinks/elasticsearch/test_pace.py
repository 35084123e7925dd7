"""Less is sent at once when Elasticsearch is overloaded, more again when it keeps up, never more than allowed."""

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_sinks.elasticsearch.sending import pace as module
from headrace_sinks.elasticsearch.sending.pace import GROW_AFTER, Pace


def overload(pace: Pace, **how: bool) -> None:
    with pace.leave() as ticket:
        pace.overloaded(ticket, **how)


def test_overload_halves_and_success_grows_back() -> None:
    pace = Pace(8, 1000, 0)
    overload(pace, too_slow=True)
    assert (pace.requests, pace.rows, pace.slowed) == (4, 500, True)
    for _ in range(GROW_AFTER - 1):
        pace.went_well()
    assert (pace.requests, pace.rows) == (4, 500)
    pace.went_well()
    assert (pace.requests, pace.rows) == (5, 1000)
    for _ in range(3 * GROW_AFTER):
        pace.went_well()
    assert (pace.requests, pace.rows, pace.slowed) == (8, 1000, False)


def test_requests_that_went_before_the_cut_do_not_cut_again() -> None:
    pace = Pace(8, 1000, 0)
    with pace.leave() as one, pace.leave() as other:
        pace.overloaded(one)
        pace.overloaded(other)
    assert (pace.requests, pace.rows) == (4, 1000)


def test_a_full_queue_asks_for_fewer_requests_and_only_then_for_smaller_ones() -> None:
    pace = Pace(4, 1000, 0)
    overload(pace)
    overload(pace)
    assert (pace.requests, pace.rows) == (1, 1000)
    overload(pace, partly=True)
    assert (pace.requests, pace.rows) == (1, 1000)
    overload(pace)
    assert (pace.requests, pace.rows) == (1, 500)


def test_one_request_of_one_record_always_goes() -> None:
    pace = Pace(5, 100, 0)
    for _ in range(50):
        overload(pace)
    assert (pace.requests, pace.rows) == (1, 1)


def test_no_more_requests_run_than_allowed_and_those_who_wait_go_later() -> None:
    pace = Pace(2, 10, 0)
    overload(pace)
    went: list[int] = []

    def go(number: int) -> None:
        with pace.leave():
            went.append(number)

    with pace.leave():
        threads = [threading.Thread(target=go, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        assert went == []
    for thread in threads:
        thread.join(10)
    assert sorted(went) == [0, 1, 2]


def test_a_size_that_was_refused_is_not_sent_again_until_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("headrace_sinks.elasticsearch.sending.pace.time.monotonic", lambda: now)
    pace = Pace(4, 1000, 1_000_000)
    pace.too_large(400_000)
    assert pace.bytes == 200_000
    for _ in range(100 * GROW_AFTER):
        pace.went_well()
    assert pace.bytes == 360_000

    now = module.FORGET_SIZE_AFTER + 1
    for _ in range(100 * GROW_AFTER):
        pace.went_well()
    assert (pace.bytes, pace.slowed) == (1_000_000, False)


@given(st.lists(st.sampled_from(["well", "overloaded", "slow", "large"]), max_size=200), st.sampled_from([0, -1, 5000]))
def test_whatever_happens_limits_are_kept(events: list[str], most_bytes: int) -> None:
    pace = Pace(5, 100, most_bytes)
    for event in events:
        match event:
            case "well":
                pace.went_well()
            case "overloaded":
                overload(pace)
            case "slow":
                overload(pace, too_slow=True)
            case _:
                pace.too_large(3000)
        assert 1 <= pace.requests <= 5
        assert 1 <= pace.rows <= 100
        assert 0 <= pace.bytes <= max(most_bytes, 3000)
        assert pace.bytes > 0 or most_bytes < 1


def test_nothing_runs_after_leave_was_given_back(monkeypatch: Any) -> None:
    pace = Pace(1, 1, 0)
    with pytest.raises(ZeroDivisionError), pace.leave():
        raise ZeroDivisionError
    with pace.leave():
        pass
