"""One of several tables becomes unreadable on a real MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from sqlalchemy import make_url

from headrace import SourceBatch
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.tuning import Tuning
from tests.engines.addresses import pymysql_arguments
from tests.sql_tasks import tuned


@pytest.fixture
def cursor(mariadb_database: str) -> Iterator[Any]:
    connection = pymysql.connect(**pymysql_arguments(mariadb_database))
    with connection.cursor() as made:
        yield made
    connection.close()


@pytest.mark.parametrize("taken_away", ["REVOKE SELECT ON {database}.t FROM {user}", "DROP TABLE t"])
def test_an_unreadable_table_is_left_out_and_named_in_the_status(
    cursor: Any, mariadb_database: str, unique_name: str, taken_away: str
) -> None:
    database, user = make_url(mariadb_database).database, f"'{unique_name}'@'%'"
    cursor.execute(f"CREATE USER {user} IDENTIFIED BY 'right'")
    cursor.execute(f"GRANT PROCESS ON *.* TO {user}")
    for table in ("t", "u"):
        cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
        cursor.execute(f"INSERT INTO {table} VALUES (1)")
        cursor.execute(f"GRANT SELECT ON {database}.{table} TO {user}")
    url = make_url(mariadb_database).set(username=unique_name, password="right")
    properties = {
        "connection.url": url.render_as_string(hide_password=False),
        "table.whitelist": "t,u",
        "mode": "incrementing",
        "topic.prefix": "",
        "poll.interval.ms": "20",
    }
    came: list[tuple[str, int]] = []

    def take() -> None:
        # Not drain(): querying InnoDB takes longer than the pause between two polls, so a table is always due.
        if isinstance(batch := driver.poll(), SourceBatch):
            driver.store(batch)
            came.extend((batch.topic, value["id"]) for value in batch.values)

    def wait_for(*wanted: tuple[str, int]) -> None:
        def all_rows_arrived() -> bool:
            """everything wanted came"""
            take()
            return sorted(came) == sorted(wanted)

        eventually(all_rows_arrived)

    def is_reported() -> bool:
        """the status names the table"""
        take()
        return f"table {database}.t is left out" in (driver.status_reasons.current or "")

    with SourceDriver(tuned(Tuning(quarantine=0.05)), properties) as driver:
        wait_for(("t", 1), ("u", 1))
        cursor.execute(taken_away.format(database=database, user=user))
        eventually(is_reported)
        grant = f"GRANT SELECT ON {database}.t TO {user}"
        if taken_away.startswith("REVOKE"):
            assert f"run: {grant};" in (driver.status_reasons.current or "")
        else:
            cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO u VALUES (2)")
        wait_for(("t", 1), ("u", 1), ("u", 2))
        cursor.execute(grant)
        cursor.execute("INSERT INTO t VALUES (2)")
        wait_for(("t", 1), ("u", 1), ("u", 2), ("t", 2))
        assert driver.status_reasons.current is None
    cursor.execute(f"DROP USER {user}")


def test_a_listed_table_that_the_catalog_hides_is_named(cursor: Any, mariadb_database: str, unique_name: str) -> None:
    """MariaDB does not show tables to users who may not read them."""
    database, user = make_url(mariadb_database).database, f"'{unique_name}'@'%'"
    cursor.execute(f"CREATE USER {user} IDENTIFIED BY 'right'")
    for table in ("t", "u"):
        cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY)")
        cursor.execute(f"INSERT INTO {table} VALUES (1)")
    cursor.execute(f"GRANT SELECT ON {database}.u TO {user}")
    url = make_url(mariadb_database).set(username=unique_name, password="right")
    properties = {
        "connection.url": url.render_as_string(hide_password=False),
        "table.whitelist": "t,u",
        "mode": "incrementing",
        "topic.prefix": "",
        "poll.interval.ms": "20",
        "cursor.gap.free": "off",
    }
    grant = f"GRANT SELECT ON {database}.t TO {user}"
    [finding] = [item for item in SqlSourceConnector().check(properties) if item.severity == "error"]
    assert (finding.code, finding.hint) == ("sql.forbidden", f"run: {grant};")
    came: list[tuple[str, int]] = []

    def wait_for(*wanted: tuple[str, int]) -> None:
        def all_rows_arrived() -> bool:
            """everything wanted came"""
            if isinstance(batch := driver.poll(), SourceBatch):
                driver.store(batch)
                came.extend((batch.topic, value["id"]) for value in batch.values)
            return came == [*wanted]

        eventually(all_rows_arrived)

    with SourceDriver(tuned(Tuning(quarantine=0.05)), properties) as driver:
        wait_for(("u", 1))
        assert f"run: {grant};" in (driver.status_reasons.current or "")
        cursor.execute(grant)
        wait_for(("u", 1), ("t", 1))
        assert driver.status_reasons.current is None
    cursor.execute(f"DROP USER {user}")
