"""Who may ask the database now: never more than the limit, first come, first served, nobody blocks the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, make_url

from headrace_sources.sql.access.budget import ASLEEP, AWAY, Budget, budget_of
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.dialects import Database


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_as_many_as_the_limit_are_admitted() -> None:
    budget = Budget()

    assert [budget.admit(who, 2) for who in "abc"] == [True, True, False]


def test_whoever_was_admitted_stays_so_until_he_leaves() -> None:
    budget = Budget()
    budget.admit("a", 1)

    assert budget.admit("a", 1)
    budget.leave("a")
    assert budget.admit("b", 1)


def test_first_come_first_served() -> None:
    budget = Budget()
    for who in "abc":
        budget.admit(who, 1)
    budget.leave("a")

    assert not budget.admit("c", 1)
    assert budget.admit("b", 1)


def test_who_does_not_come_back_loses_his_place() -> None:
    clock = Clock()
    budget = Budget(clock)
    for who in "abc":
        budget.admit(who, 1)
    budget.leave("a")
    clock.now = AWAY / 2
    assert not budget.admit("c", 1)
    clock.now = AWAY

    assert budget.admit("c", 1)


def test_who_does_not_go_on_asking_is_not_counted() -> None:
    clock = Clock()
    budget = Budget(clock)
    budget.admit("a", 1)
    clock.now = ASLEEP - 1
    assert not budget.admit("b", 1)
    clock.now = ASLEEP

    assert budget.admit("b", 1)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60), st.integers(1, 4))
def test_never_more_than_the_limit_and_never_idle(steps: list[tuple[str, bool]], limit: int) -> None:
    budget = Budget()
    inside: set[str] = set()
    for who, leaves in steps:
        if leaves:
            budget.leave(who)
            inside.discard(who)
        elif budget.admit(who, limit):
            inside.add(who)
        assert len(inside) <= limit
    # Everybody who keeps asking is served in the end.
    for who in "abcdef":
        for other in list(inside):
            budget.leave(other)
        inside = {other for other in "abcdef" if budget.admit(other, 6)}
        assert who in inside


def test_one_database_has_one_budget_whoever_reads_it() -> None:
    one = budget_of(make_url("postgresql+psycopg://a:1@db.example:5432/shop?application_name=x"))
    same = budget_of(make_url("postgresql+psycopg://b:2@db.example:5432/shop"))
    other = budget_of(make_url("postgresql+psycopg://a:1@db.example:5432/stock"))

    assert one is same
    assert one is not other


def test_who_is_admitted_next_finds_the_last_transaction_closed(
    sqlite: Callable[[str], list[Any]], properties: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the database would see one more than the limit, for as long as the one before takes to close its own."""
    sqlite("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    config = SqlSourceConfig.parse(properties(table_whitelist="t", connection_max_queries="1"))
    first, second = Session(config), Session(config)
    meanwhile: list[bool] = []
    abandon = type(first.database).abandon

    def close(self: Database, connection: Connection) -> None:
        meanwhile.append(second.admitted())
        abandon(self, connection)

    assert first.admitted()
    first.connection()
    monkeypatch.setattr(type(first.database), "abandon", close)
    first.close_transaction()

    assert meanwhile == [False]
    assert second.admitted()
    for session in (first, second):
        session.release()
