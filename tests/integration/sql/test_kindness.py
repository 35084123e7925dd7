"""What the database sees of us: who asks, how much at a time, and nothing that writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from headrace import RetriableError, SourceBatch, TaskError, Wait
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually

Sql = Callable[..., list[Any]]
Drive = Callable[..., SourceDriver]

ROWS = "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 30) n"


def test_the_database_sees_which_task_asks(sql: Sql, drive: Drive) -> None:
    sql(ROWS)
    drive(table_whitelist="t", batch_max_rows="10").batch()

    assert sql("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'headrace:%'") == [
        ("headrace:test-0",)
    ]


def test_transactions_are_read_only(sql: Sql, drive: Drive) -> None:
    sql(ROWS + "; CREATE FUNCTION f() RETURNS int AS 'DELETE FROM t RETURNING 1' LANGUAGE sql")
    keys = {"query": "SELECT f() AS id", "mode": "bulk", "topic_prefix": "t"}

    with pytest.raises(TaskError, match="read-only transaction"):
        drive(**keys).batch()
    assert sql("SELECT count(*) FROM t") == [(30,)]
    drive(**keys, transaction_read_only="false").batch()


def test_a_statement_that_takes_too_long_is_given_up_and_said_so(sql: Sql, drive: Drive) -> None:
    driver = drive(query="SELECT pg_sleep(60)::text AS id", mode="bulk", topic_prefix="t", statement_timeout_ms="200")

    with pytest.raises(RetriableError, match="statement timeout"):
        driver.poll()


def test_whoever_is_over_the_budget_waits_and_says_so(sql: Sql, drive: Drive) -> None:
    sql(ROWS)
    keys = {"table_whitelist": "t", "batch_max_rows": "10", "connection_max_queries": "1"}
    second = drive(**keys)
    first = drive(**keys)
    first.batch()  # its result is open

    answer = second.poll()
    assert isinstance(answer, Wait)
    assert answer.seconds > 0
    assert "connection.max.queries is 1" in (second.explanations.current or "")

    while isinstance(first.poll(), SourceBatch):
        pass
    second.batch()
    assert second.explanations.current is None


def test_a_task_without_a_place_starts_when_there_is_one(sql: Sql, drive: Drive) -> None:
    sql(ROWS)
    keys = {"table_whitelist": "t", "connection_max_queries": "1"}
    for _ in range(3):
        drive(**keys).batch()


def test_an_open_result_ends_with_its_task(
    sql: Sql, drive: Drive, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    sql(ROWS)
    keys = {"table_whitelist": "t", "batch_max_rows": "10", "connection_max_queries": "1"}
    second = drive(**keys)
    first = drive(**keys)
    first.batch()
    first.stop()

    second.batch()

    def nobody_waits_in_a_transaction() -> bool:
        """no session of a stopped task is left"""
        return sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'headrace:test-0'") == [(1,)]

    eventually(nobody_waits_in_a_transaction)
