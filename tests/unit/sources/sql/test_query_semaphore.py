"""The query semaphore: no more permits than the limit, in the order of requests, without a blocked queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, make_url

from headrace_sources.sql.access.query_semaphore import HOLDER_TTL, WAITER_TTL, QuerySemaphore, query_semaphore_of
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.dialects.sqlite import Sqlite


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_as_many_as_the_limit_are_admitted() -> None:
    semaphore = QuerySemaphore()

    assert [semaphore.acquire(who, 2) for who in "abc"] == [True, True, False]


def test_a_permit_is_kept_until_it_is_released() -> None:
    semaphore = QuerySemaphore()
    semaphore.acquire("a", 1)

    assert semaphore.acquire("a", 1)
    semaphore.release("a")
    assert semaphore.acquire("b", 1)


def test_permits_are_given_in_the_order_of_requests() -> None:
    semaphore = QuerySemaphore()
    for who in "abc":
        semaphore.acquire(who, 1)
    semaphore.release("a")

    assert not semaphore.acquire("c", 1)
    assert semaphore.acquire("b", 1)


def test_a_queued_session_that_stops_trying_is_removed() -> None:
    clock = Clock()
    semaphore = QuerySemaphore(clock)
    for who in "abc":
        semaphore.acquire(who, 1)
    semaphore.release("a")
    clock.now = WAITER_TTL / 2
    assert not semaphore.acquire("c", 1)
    clock.now = WAITER_TTL

    assert semaphore.acquire("c", 1)


def test_a_permit_without_queries_expires() -> None:
    clock = Clock()
    semaphore = QuerySemaphore(clock)
    semaphore.acquire("a", 1)
    clock.now = HOLDER_TTL - 1
    assert not semaphore.acquire("b", 1)
    clock.now = HOLDER_TTL

    assert semaphore.acquire("b", 1)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60), st.integers(1, 4))
def test_permits_never_exceed_the_limit_and_are_never_idle(steps: list[tuple[str, bool]], limit: int) -> None:
    semaphore = QuerySemaphore()
    inside: set[str] = set()
    for who, leaves in steps:
        if leaves:
            semaphore.release(who)
            inside.discard(who)
        elif semaphore.acquire(who, limit):
            inside.add(who)
        assert len(inside) <= limit
    # Every session that keeps requesting gets a permit.
    for who in "abcdef":
        for other in list(inside):
            semaphore.release(other)
        inside = {other for other in "abcdef" if semaphore.acquire(other, 6)}
        assert who in inside


def test_all_users_of_a_database_share_its_semaphore() -> None:
    one = query_semaphore_of(make_url("postgresql+psycopg://a:1@db.example:5432/shop?application_name=x"))
    same = query_semaphore_of(make_url("postgresql+psycopg://b:2@db.example:5432/shop"))
    other = query_semaphore_of(make_url("postgresql+psycopg://a:1@db.example:5432/stock"))

    assert one is same
    assert one is not other


def test_a_permit_is_released_only_after_the_transaction_is_closed(
    sqlite: Callable[[str], list[Any]], properties: Callable[..., dict[str, str]]
) -> None:
    """Otherwise the database would run one query more than the limit until the transaction is closed."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    config = SqlSourceConfig.parse(properties(table_whitelist="t", connection_max_queries="1"))
    meanwhile: list[bool] = []

    class WatchedSqlite(Sqlite):
        def abandon(self, connection: Connection) -> None:
            meanwhile.append(second.acquire_permit())
            super().abandon(connection)

    first = Session(config, make_dialect=lambda url, zone, granularity, temporal: WatchedSqlite(zone))
    second = Session(config)
    assert first.acquire_permit()
    first.connection()
    first.close_transaction()

    assert meanwhile == [False]
    assert second.acquire_permit()
    for session in (first, second):
        session.release()
