"""One of several tables is unreadable on a real PostgreSQL: the others are read, the status says what to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from headrace import Finding, RetriableError, TaskError
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.tuning import Tuning

Drive = Callable[..., SourceDriver]
Sql = Callable[..., list[Any]]
TEN = [f"t{number}" for number in range(10)]


@pytest.fixture
def tuning() -> Tuning:
    return Tuning(quarantine=0.05)


@pytest.fixture
def reader(sql: Sql, unique_name: str) -> Iterator[str]:
    """A user who may read all of ten tables but ``t7``; each has one row."""
    sql(f"CREATE ROLE \"{unique_name} x\" LOGIN PASSWORD 'right'")
    for table in TEN:
        sql(f"CREATE TABLE {table} (id int PRIMARY KEY); INSERT INTO {table} VALUES (1)")
    sql(f'GRANT SELECT ON {", ".join(table for table in TEN if table != "t7")} TO "{unique_name} x"')
    yield f"{unique_name} x"
    sql(f'DROP OWNED BY "{unique_name} x"; DROP ROLE "{unique_name} x"')


@pytest.fixture
def url(database: str, reader: str) -> str:
    return make_url(database).set(username=reader, password="right").render_as_string(hide_password=False)


class Topics(dict[str, list[int]]):
    """Received records by topic."""

    def take(self, driver: SourceDriver) -> Topics:
        for batch in driver.drain():
            self.setdefault(batch.topic, []).extend(value["id"] for value in batch.values)
        return self


def wait_for(driver: SourceDriver, topics: Topics, wanted: dict[str, list[int]]) -> None:
    def all_rows_arrived() -> bool:
        """everything wanted came, and nothing else"""
        return topics.take(driver) == wanted

    eventually(all_rows_arrived)


def test_a_missing_privilege_for_one_of_ten_tables_stops_only_that_table(
    drive: Drive, sql: Sql, reader: str, url: str
) -> None:
    # Longer than reading all ten tables takes, otherwise one would always be due.
    driver, topics = drive(table_whitelist=",".join(TEN), connection_url=url, poll_interval_ms="500"), Topics()
    wait_for(driver, topics, {f"t.{table}": [1] for table in TEN if table != "t7"})
    reason = driver.status_reasons.current or ""

    assert "table public.t7 is left out until it can be read, the others are read" in reason
    assert "permission denied" in reason
    statement = f'GRANT SELECT ON public.t7 TO "{reader}";'
    assert f"run: {statement}" in reason
    sql(statement)
    wait_for(driver, topics, {f"t.{table}": [1] for table in TEN})
    assert driver.status_reasons.current is None


def test_a_missing_schema_privilege_is_reported_with_the_grant(drive: Drive, sql: Sql, reader: str, url: str) -> None:
    sql("CREATE SCHEMA shut; CREATE TABLE shut.t (id int PRIMARY KEY); INSERT INTO shut.t VALUES (1)")
    driver, topics = (
        drive(table_whitelist="t1,shut.t", connection_url=url, topic_name_format="${schema}.${table}"),
        Topics(),
    )
    wait_for(driver, topics, {"t.public.t1": [1]})

    statement = f'GRANT USAGE ON SCHEMA shut TO "{reader}";'
    assert f"run: {statement}" in (driver.status_reasons.current or "")
    sql(statement)
    take = f'GRANT SELECT ON shut.t TO "{reader}";'

    def next_statement_is_reported() -> bool:
        """the next statement to run is said"""
        topics.take(driver)
        return f"run: {take}" in (driver.status_reasons.current or "")

    eventually(next_statement_is_reported)
    sql(take)
    wait_for(driver, topics, {"t.public.t1": [1], "t.shut.t": [1]})


def test_a_missing_privilege_for_the_only_table_stops_the_task(drive: Drive, reader: str, url: str) -> None:
    with pytest.raises(TaskError) as raised:
        drive(table_whitelist="t7", connection_url=url)

    assert raised.value.code == "sql.forbidden"
    assert raised.value.hint == f'run: GRANT SELECT ON public.t7 TO "{reader}";'


def test_check_shows_the_grant_statement(reader: str, url: str, properties: Callable[..., dict[str, str]]) -> None:
    found: list[Finding] = list(SqlSourceConnector().check(properties(table_whitelist="t1,t7", connection_url=url)))

    assert [(item.code, item.hint) for item in found] == [
        ("sql.forbidden", f'run: GRANT SELECT ON public.t7 TO "{reader}";')
    ]


@pytest.mark.parametrize("taken_away", ["REVOKE SELECT ON t3 FROM {reader}", "DROP TABLE t3"])
def test_an_unreadable_table_is_left_out_and_named_in_the_status(
    drive: Drive, sql: Sql, reader: str, url: str, taken_away: str
) -> None:
    driver, topics = drive(table_whitelist="t3,t4,t5", connection_url=url), Topics()
    wait_for(driver, topics, {"t.t3": [1], "t.t4": [1], "t.t5": [1]})
    sql(taken_away.format(reader=f'"{reader}"'))

    def is_reported() -> bool:
        """the status names the table"""
        topics.take(driver)
        return "table public.t3 is left out" in (driver.status_reasons.current or "")

    eventually(is_reported)
    sql("INSERT INTO t4 VALUES (2); INSERT INTO t5 VALUES (2)")
    wait_for(driver, topics, {"t.t3": [1], "t.t4": [1, 2], "t.t5": [1, 2]})
    if taken_away.startswith("DROP"):
        sql("CREATE TABLE t3 (id int PRIMARY KEY, note text)")
    sql(f'GRANT SELECT ON t3 TO "{reader}"; INSERT INTO t3 VALUES (2)')
    wait_for(driver, topics, {"t.t3": [1, 2], "t.t4": [1, 2], "t.t5": [1, 2]})
    assert driver.status_reasons.current is None


def test_the_task_waits_when_all_tables_are_unreadable(drive: Drive, sql: Sql, reader: str, url: str) -> None:
    driver = drive(table_whitelist="t3,t4", connection_url=url)
    driver.drain()
    sql(f'REVOKE SELECT ON t3, t4 FROM "{reader}"')

    def stopped() -> bool:
        """the task has raised"""
        try:
            driver.drain()
        except RetriableError as error:
            return error.code == "sql.forbidden"
        return False

    eventually(stopped)


def test_a_lost_connection_leaves_no_table_out(
    drive: Drive, connect: Callable[..., psycopg.Connection[Any]], reader: str, url: str
) -> None:
    """It affects all tables: the worker retries."""
    driver = drive(table_whitelist="t1,t2", connection_url=url)
    driver.drain()
    connect(autocommit=True).execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [reader]
    )
    driver.drain()

    assert "left out" not in (driver.status_reasons.current or "")
