"""The load on the database: named sessions, limited queries, and read-only transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from headrace import RetriableError, SourceBatch, TaskError, Wait
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector

Sql = Callable[..., list[Any]]
Drive = Callable[..., SourceDriver]

OPEN = {"mode": "bulk", "transaction_isolation_mode": "REPEATABLE_READ"}  # one result, not pages
ROWS = "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 30) n"


def test_sessions_have_the_name_of_the_task(sql: Sql, drive: Drive) -> None:
    sql(ROWS)
    drive(table_whitelist="t", batch_max_rows="10").batch()

    assert sql(
        "SELECT application_name FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'headrace:%'"
    ) == [("headrace:test-0",)]


def test_transactions_are_read_only(sql: Sql, drive: Drive) -> None:
    sql(ROWS + "; CREATE FUNCTION f() RETURNS int AS 'DELETE FROM t RETURNING 1' LANGUAGE sql")
    keys = {"query": "SELECT f() AS id", "mode": "bulk", "topic_prefix": "t"}

    with pytest.raises(TaskError, match="read-only transaction"):
        drive(**keys).batch()
    assert sql("SELECT count(*) FROM t") == [(30,)]
    drive(**keys, transaction_read_only="false").batch()


def test_a_statement_over_the_timeout_is_cancelled_and_reported(sql: Sql, drive: Drive) -> None:
    driver = drive(query="SELECT pg_sleep(60)::text AS id", mode="bulk", topic_prefix="t", statement_timeout_ms="1s")

    with pytest.raises(RetriableError, match="statement timeout"):
        driver.poll()


def test_a_task_without_a_permit_waits_and_shows_the_reason(sql: Sql, drive: Drive) -> None:
    sql(ROWS)
    keys = {**OPEN, "table_whitelist": "t", "batch_max_rows": "10", "connection_max_queries": "1"}
    second = drive(**keys)
    first = drive(**keys)
    first.batch()  # its result is open

    answer = second.poll()
    assert isinstance(answer, Wait)
    assert answer.seconds > 0
    assert "connection.max.queries is 1" in (second.status_reasons.current or "")

    while isinstance(first.poll(), SourceBatch):
        pass
    second.batch()
    assert second.status_reasons.current is None


def test_a_task_starts_when_a_query_permit_is_released(sql: Sql, drive: Drive) -> None:
    sql(ROWS)
    keys = {"table_whitelist": "t", "connection_max_queries": "1"}
    for _ in range(3):
        drive(**keys).batch()


def test_an_open_result_is_closed_with_its_task(
    sql: Sql, drive: Drive, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    sql(ROWS)
    keys = {**OPEN, "table_whitelist": "t", "batch_max_rows": "10", "connection_max_queries": "1"}
    second = drive(**keys)
    first = drive(**keys)
    first.batch()
    first.stop()

    second.batch()

    def no_session_is_open() -> bool:
        """no session of a stopped task is left"""
        return sql(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'headrace:test-0'"
        ) == [(1,)]

    eventually(no_session_is_open)


VIEW = "CREATE VIEW v AS SELECT o.id, o.at, c.name FROM shop.o JOIN c ON c.id = o.customer"
QUERY = "SELECT o.id, o.at, c.name FROM shop.o JOIN c ON c.id = o.customer"


@pytest.mark.parametrize(
    "keys",
    [{"table_whitelist": "v", "table_types": "VIEW"}, {"query": QUERY, "topic_prefix": "t"}],
    ids=["view", "query"],
)
def test_a_view_or_query_that_sorts_is_a_warning_with_the_index_to_create(
    sql: Sql, properties: Callable[..., dict[str, str]], keys: dict[str, str]
) -> None:
    sql(
        "CREATE SCHEMA shop; CREATE TABLE c (id int PRIMARY KEY, name text);"
        "CREATE TABLE shop.o (id int PRIMARY KEY, at timestamptz NOT NULL, customer int)"
    )
    sql(VIEW)
    config = properties(**keys, mode="timestamp", timestamp_column_name="at", validate_non_null="false")

    [finding] = SqlSourceConnector().check(config)
    assert (finding.code, finding.severity) == ("sql.no_index", "warning")
    sql(finding.hint.removeprefix("run: "))

    assert list(SqlSourceConnector().check(config)) == []


def test_no_index_is_suggested_for_a_computed_cursor(sql: Sql, properties: Callable[..., dict[str, str]]) -> None:
    sql(ROWS)
    query = "SELECT note, count(*) AS id FROM t GROUP BY note"
    config = properties(query=query, topic_prefix="t", incrementing_column_name="id")

    [finding] = SqlSourceConnector().check(config)
    assert finding.code == "sql.no_index"
    assert "computed" in finding.hint
