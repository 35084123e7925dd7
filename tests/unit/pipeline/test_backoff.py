"""Waits between tries: they grow, are capped, and are not the same for all who failed together."""

import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from headrace.backoff import RetryPolicy

SECONDS = st.integers(0, 1_000_000).map(lambda milliseconds: milliseconds / 1_000)


@given(first=SECONDS, longest=SECONDS, seed=st.integers())
def test_each_is_between_half_its_ceiling_and_the_ceiling(first: float, longest: float, seed: int) -> None:
    waits = list(islice(RetryPolicy(first, longest, jitter=random.Random(seed)).waits(), 100))
    ceilings = [min(longest, first * 2**attempt) for attempt in range(100)]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))


def test_two_that_failed_together_do_not_come_back_together() -> None:
    here, there = (list(islice(RetryPolicy().waits(), 10)) for _ in range(2))
    assert all(one != other for one, other in zip(here, there, strict=True))


def test_the_tries_end_when_there_are_so_many() -> None:
    assert len(list(RetryPolicy(tries=3).waits())) == 3
    assert list(RetryPolicy(tries=0).waits()) == []


def test_an_outage_of_years_overflows_nothing() -> None:
    assert next(islice(RetryPolicy(longest=30.0).waits(), 100_000, None)) <= 30.0
