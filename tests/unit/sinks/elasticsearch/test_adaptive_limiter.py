"""The limiter lowers concurrency and request size during overload, and raises them up to the configured limits."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_sinks.elasticsearch.bulk import adaptive_limiter as module
from headrace_sinks.elasticsearch.bulk.adaptive_limiter import GROW_AFTER, AdaptiveConcurrencyLimiter


def overload(limiter: AdaptiveConcurrencyLimiter, **how: bool) -> None:
    with limiter.acquire() as permit:
        limiter.overloaded(permit, **how)


def test_overload_halves_the_limit_and_success_raises_it() -> None:
    limiter = AdaptiveConcurrencyLimiter(8, 1000, 0)
    overload(limiter, too_slow=True)
    assert (limiter.requests, limiter.rows, limiter.slowed) == (4, 500, True)
    for _ in range(GROW_AFTER - 1):
        limiter.went_well()
    assert (limiter.requests, limiter.rows) == (4, 500)
    limiter.went_well()
    assert (limiter.requests, limiter.rows) == (5, 1000)
    for _ in range(3 * GROW_AFTER):
        limiter.went_well()
    assert (limiter.requests, limiter.rows, limiter.slowed) == (8, 1000, False)


def test_requests_sent_before_a_reduction_do_not_reduce_again() -> None:
    limiter = AdaptiveConcurrencyLimiter(8, 1000, 0)
    with limiter.acquire() as one, limiter.acquire() as other:
        limiter.overloaded(one)
        limiter.overloaded(other)
    assert (limiter.requests, limiter.rows) == (4, 1000)


def test_a_full_queue_lowers_concurrency_first_and_request_size_afterwards() -> None:
    limiter = AdaptiveConcurrencyLimiter(4, 1000, 0)
    overload(limiter)
    overload(limiter)
    assert (limiter.requests, limiter.rows) == (1, 1000)
    overload(limiter, partly=True)
    assert (limiter.requests, limiter.rows) == (1, 1000)
    overload(limiter)
    assert (limiter.requests, limiter.rows) == (1, 500)


def test_one_request_of_one_record_is_always_allowed() -> None:
    limiter = AdaptiveConcurrencyLimiter(5, 100, 0)
    for _ in range(50):
        overload(limiter)
    assert (limiter.requests, limiter.rows) == (1, 1)


def test_no_more_requests_run_than_allowed_and_waiting_ones_run_later() -> None:
    limiter = AdaptiveConcurrencyLimiter(2, 10, 0)
    overload(limiter)
    went: list[int] = []

    def go(number: int) -> None:
        with limiter.acquire():
            went.append(number)

    with limiter.acquire():
        threads = [threading.Thread(target=go, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        assert went == []
    for thread in threads:
        thread.join(10)
    assert sorted(went) == [0, 1, 2]


def test_a_refused_size_is_not_sent_again_until_it_expires() -> None:
    now = 0.0
    limiter = AdaptiveConcurrencyLimiter(4, 1000, 1_000_000, lambda: now)
    limiter.too_large(400_000)
    assert limiter.bytes == 200_000
    for _ in range(100 * GROW_AFTER):
        limiter.went_well()
    assert limiter.bytes == 360_000

    now = module.FORGET_SIZE_AFTER + 1
    for _ in range(100 * GROW_AFTER):
        limiter.went_well()
    assert (limiter.bytes, limiter.slowed) == (1_000_000, False)


@given(st.lists(st.sampled_from(["well", "overloaded", "slow", "large"]), max_size=200), st.sampled_from([0, -1, 5000]))
def test_limits_hold_in_every_order_of_events(events: list[str], most_bytes: int) -> None:
    limiter = AdaptiveConcurrencyLimiter(5, 100, most_bytes)
    for event in events:
        match event:
            case "well":
                limiter.went_well()
            case "overloaded":
                overload(limiter)
            case "slow":
                overload(limiter, too_slow=True)
            case _:
                limiter.too_large(3000)
        assert 1 <= limiter.requests <= 5
        assert 1 <= limiter.rows <= 100
        assert 0 <= limiter.bytes <= max(most_bytes, 3000)
        assert limiter.bytes > 0 or most_bytes < 1


def test_no_request_runs_after_its_permit_was_released() -> None:
    limiter = AdaptiveConcurrencyLimiter(1, 1, 0)
    with pytest.raises(ZeroDivisionError), limiter.acquire():
        raise ZeroDivisionError
    with limiter.acquire():
        pass
