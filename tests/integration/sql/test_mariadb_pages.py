"""Pages, chunks and shared transaction snapshots of tables in MariaDB."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any

import pymysql
import pytest
from sqlalchemy import make_url

from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql.dialects import MakeDialect, dialect_for
from headrace_sources.sql.dialects.mysql import MySql
from headrace_sources.sql.tuning import Tuning

Drive = Callable[..., SourceDriver]
Sql = Callable[..., list[Any]]
BY_ID = {"table_whitelist": "orders", "incrementing_column_name": "id"}


# Rows have timestamps of 2024, which the gap-free cursor would treat as far in the past.
EXACT = {"cursor_gap_free": "off"}


@pytest.fixture
def properties(mariadb_properties: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    return mariadb_properties


def test_no_transaction_is_open_between_two_pages(drive: Drive, maria: Sql) -> None:
    maria("CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, at TIMESTAMP(6) NOT NULL, note VARCHAR(2000))")
    maria("INSERT INTO orders (at, note) SELECT '2024-05-01', 'x' FROM seq_1_to_100")
    driver = drive(**BY_ID, batch_max_rows="10")
    driver.batch()

    # An open transaction would hold the table's metadata lock. (innodb_trx shows a copy that may be 0.1 s old.)
    maria("SET lock_wait_timeout = 1; LOCK TABLES orders WRITE; UNLOCK TABLES")
    assert driver.values("id") == list(range(11, 101))


SEVERAL = {"table_whitelist": "t", "batch_max_rows": "10", "snapshot_parallelism": "3", "poll_interval_ms": "1h"}
MODES = {
    "incrementing": {"mode": "incrementing", "incrementing_column_name": "id"},
    "timestamp": {"mode": "timestamp", "timestamp_column_name": "at"},
    "both": {"mode": "timestamp+incrementing", "timestamp_column_name": "at", "incrementing_column_name": "id"},
    "bulk": {"mode": "bulk"},
}
EQUAL = "INSERT INTO t SELECT seq, timestampadd(SECOND, seq DIV {1}, '2024-01-01'), 'x' FROM seq_1_to_{0}"
TABLE = "CREATE TABLE t (id int PRIMARY KEY, at datetime(6) NOT NULL, note text, KEY (at))"


@pytest.mark.parametrize("mode", [MODES["incrementing"], MODES["timestamp"], MODES["both"]], ids=["id", "time", "both"])
@pytest.mark.parametrize("same", [1, 7, 40], ids=["unique", "some-equal", "more-equal-than-a-page"])
def test_each_row_is_in_one_page(drive: Drive, maria: Sql, mode: dict[str, str], same: int) -> None:
    maria(f"{TABLE}; {EQUAL.format(203, same)}")
    driver = drive(table_whitelist="t", batch_max_rows="10", **mode, **EXACT)
    found = driver.values("id")
    assert sorted(found) == list(range(1, 204))


@dataclass
class Recorder:
    """The statements that read rows, and the number of questions for the open transactions, of all sessions."""

    statements: list[str] = field(default_factory=list)
    questions: int = 0


class RecordingMySql(MySql):
    snapshot_ttl = 60.0  # however long a round over all tables takes here

    def __init__(self, recorder: Recorder, zone: tzinfo, temporal: str) -> None:
        super().__init__(zone, temporal=temporal)
        self.recorder = recorder

    def stream(self, connection: Any, query: Any) -> Any:
        text = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        self.recorder.statements.append(str(text))
        return super().stream(connection, query)

    def open_transactions(self, connection: Any) -> Any:
        self.recorder.questions += 1
        return super().open_transactions(connection)


@pytest.fixture
def recorder() -> Recorder:
    """Return the recorder of all sessions of the test."""
    return Recorder()


@pytest.fixture
def make_dialect(request: pytest.FixtureRequest) -> MakeDialect:
    if "recorder" not in request.fixturenames:
        return dialect_for
    recorder: Recorder = request.getfixturevalue("recorder")
    return lambda url, zone, granularity, temporal: RecordingMySql(recorder, zone, temporal)


@pytest.mark.parametrize(("name", "count"), [("timestamp", 4), ("both", 2)])
def test_a_page_scans_only_the_rows_that_it_returns(
    drive: Drive, maria: Sql, recorder: Recorder, name: str, count: int
) -> None:
    """Not the whole table for each page, as WITH TIES does there."""
    maria(f"{TABLE}; {EQUAL.format(60_000, 7)}; ANALYZE TABLE t")
    driver = drive(table_whitelist="t", batch_max_rows="10", query_target_ms="10", **MODES[name], **EXACT)
    while len(recorder.statements) < count:
        driver.batch()
    driver.stop()
    for statement in recorder.statements:
        maria(f"FLUSH STATUS; {statement}")
        counts = {name: int(value) for name, value in maria("SHOW SESSION STATUS LIKE 'Handler_read%'")}
        assert sum(counts.values()) < 150, (statement, counts)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_several_connections_read_each_row_once_and_a_restart_continues(
    drive: Drive, maria: Sql, mariadb_database: str, mode: dict[str, str]
) -> None:
    maria(f"{TABLE}; {EQUAL.format(503, 7)}")
    driver = drive(**SEVERAL, **mode)
    before = []
    for _ in range(10):
        before.append(driver.batch())
        driver.store(before[-1])
    driver.stop()

    again = drive(driver.offsets, **SEVERAL, **mode)
    found = [value["id"] for batch in [*before, *again.drain()] for value in batch.values]
    assert sorted(found) == list(range(1, 504))


def test_mode_bulk_reads_pages_by_a_key_of_two_columns(drive: Drive, maria: Sql) -> None:
    maria("CREATE TABLE t (a int, b decimal(10, 2), PRIMARY KEY (a, b))")
    maria("INSERT INTO t SELECT seq MOD 5, seq / 4 FROM seq_1_to_95")
    driver = drive(table_whitelist="t", mode="bulk", batch_max_rows="10", poll_interval_ms="1h")
    first = driver.batch()
    driver.store(first)
    driver.stop()

    again = drive(driver.offsets, table_whitelist="t", mode="bulk", batch_max_rows="10", poll_interval_ms="1h")
    found = [(value["a"], value["b"]) for batch in [first, *again.drain()] for value in batch.values]
    assert found == maria("SELECT a, b FROM t ORDER BY a, b")


@pytest.mark.parametrize("name", ["incrementing", "timestamp"])
@pytest.mark.parametrize("tuning", [Tuning(status_interval=0.0)])
def test_tables_share_snapshots_of_open_transactions(
    drive: Drive, maria: Sql, mariadb_database: str, recorder: Recorder, name: str
) -> None:
    tables = [f"t{number}" for number in range(20)]
    for table in tables:
        maria(f"CREATE TABLE {table} (id int PRIMARY KEY AUTO_INCREMENT, at datetime(6) NOT NULL, KEY (at))")
        maria(f"INSERT INTO {table} (at) VALUES (now(6))")
    driver = drive(table_whitelist=",".join(tables), poll_interval_ms="500", **MODES[name])
    rows: dict[str, list[int]] = {f"t.{table}": [] for table in tables}

    def complete(count: int) -> Callable[[], bool]:
        def look() -> bool:
            """every table has its rows"""
            for batch in driver.drain():
                rows[batch.topic] += [value["id"] for value in batch.values]
            return all(len(found) == count for found in rows.values())

        return look

    eventually(complete(1), 30)
    late = make_url(mariadb_database)
    with closing(
        pymysql.connect(host=late.host, port=late.port or 3306, user=late.username, password=str(late.password or ""),
                        database=late.database)
    ) as writer:  # fmt: skip
        for table in tables:
            writer.cursor().execute(f"INSERT INTO {table} (at) VALUES (now(6))")
        for table in tables:
            maria(f"INSERT INTO {table} (at) VALUES (now(6))")
        eventually(complete(2), 30)
        # From here on every table waits for that transaction.
        asked_before, readings = recorder.questions, 0
        while readings < 5 * len(tables):
            driver.lags.clear()
            driver.poll()
            readings += len(driver.lags)
        assert 0 < recorder.questions - asked_before < readings / 10
        writer.commit()
    eventually(complete(3), 30)
    assert all(sorted(found) == [1, 2, 3] for found in rows.values())
