"""Waits between attempts grow, are capped, differ between clients that failed together, and can be interrupted."""

import random
import threading
from collections.abc import Callable
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Backoff, RetriableError, RetryPolicy, retry
from headrace.retries import wait_for

SECONDS = st.integers(0, 1_000_000).map(lambda milliseconds: milliseconds / 1_000)
AT_ONCE = RetryPolicy(0.0, 0.0)


def failing(count: int, error: Exception | None = None) -> Callable[[], str]:
    """Return a function that fails this many times, then returns."""
    left = iter(range(count))

    def call() -> str:
        if next(left, None) is not None:
            raise error or RetriableError("away")
        return "done"

    return call


@given(first=SECONDS, longest=SECONDS, seed=st.integers())
def test_each_wait_is_between_half_its_ceiling_and_the_ceiling(first: float, longest: float, seed: int) -> None:
    waits = list(islice(RetryPolicy(first, longest, jitter=random.Random(seed)).waits(), 100))
    ceilings = [min(longest, first * 2**attempt) for attempt in range(100)]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))


def test_two_clients_that_failed_together_wait_differently() -> None:
    one, two = (list(islice(RetryPolicy().waits(), 10)) for _ in range(2))
    assert all(left != right for left, right in zip(one, two, strict=True))


def test_the_waits_end_after_the_allowed_tries() -> None:
    assert len(list(RetryPolicy(tries=3).waits())) == 3
    assert list(RetryPolicy(tries=0).waits()) == []


def test_the_waits_of_an_outage_of_years_do_not_overflow() -> None:
    assert next(islice(RetryPolicy(longest=30.0).waits(), 100_000, None)) <= 30.0


@given(st.integers(0, 20))
def test_a_call_is_repeated_until_it_succeeds_and_its_failures_are_reported(count: int) -> None:
    failures: list[int] = []
    recoveries: list[int] = []
    done = retry(
        failing(count),
        policy=AT_ONCE,
        on_failure=lambda error, number: failures.append(number),
        on_recovery=recoveries.append,
    )
    assert done == "done"
    assert failures == list(range(1, count + 1))
    assert recoveries == ([count] if count else [])


def test_the_last_error_is_raised_when_the_tries_are_used_up() -> None:
    with pytest.raises(RetriableError, match="away"):
        retry(failing(3), policy=RetryPolicy(0.0, 0.0, tries=2))
    assert retry(failing(2), policy=RetryPolicy(0.0, 0.0, tries=2)) == "done"


def test_other_errors_are_not_retried() -> None:
    with pytest.raises(KeyError):
        retry(failing(1, KeyError("x")), policy=AT_ONCE)


def test_a_set_event_ends_the_retries_during_the_wait() -> None:
    stop, waiting = threading.Event(), threading.Event()

    def on_failure(error: RetriableError, number: int) -> None:
        waiting.set()

    def set_while_waiting() -> None:
        assert waiting.wait(30)
        stop.set()

    thread = threading.Thread(target=set_while_waiting)
    thread.start()
    with pytest.raises(RetriableError):
        retry(failing(1), policy=RetryPolicy(3600, 3600), stop=stop, on_failure=on_failure)
    thread.join()


def test_the_delay_of_an_error_replaces_the_wait() -> None:
    backoff = Backoff(RetryPolicy(1.0, 1.0))
    assert backoff.next_wait(RetriableError("away", delay=7.0)) == 7.0
    assert backoff.next_wait(RetriableError("away", delay=0.0)) == 0.0
    assert 0.5 <= (backoff.next_wait(RetriableError("away")) or 0.0) <= 1.0


def test_no_attempt_begins_after_the_timeout() -> None:
    now = [100.0]
    backoff = Backoff(RetryPolicy(1.0, 1.0, timeout=10.0), monotonic=lambda: now[0])
    assert backoff.next_wait(RetriableError("away")) is not None  # the time runs from the first failure on
    now[0] = 108.0
    assert backoff.next_wait(RetriableError("away", delay=2.0)) == 2.0
    assert backoff.next_wait(RetriableError("away", delay=2.1)) is None


def test_after_a_success_the_waits_the_tries_and_the_timeout_start_again() -> None:
    now = [0.0]
    backoff = Backoff(RetryPolicy(1.0, 64.0, tries=3, timeout=10.0), monotonic=lambda: now[0])
    waits = [backoff.next_wait(RetriableError("away")) for _ in range(4)]
    assert waits[3] is None
    assert backoff.reset() == 4
    now[0] = 1000.0
    assert backoff.failures == 0
    again = backoff.next_wait(RetriableError("away"))
    assert again is not None
    assert again <= 1.0


def test_a_wait_ends_with_the_first_true_result() -> None:
    results = iter([None, "", "there", "later"])
    assert wait_for(lambda: next(results), timeout=60.0, interval=0.0) == "there"


def test_a_wait_returns_the_last_result_after_the_timeout() -> None:
    results = iter(["", None])
    assert wait_for(lambda: next(results), timeout=0.001, interval=0.01) is None
