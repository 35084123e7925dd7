"""Large tables are read in pages: short transactions, no table starves, no row is lost or repeated between pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from headrace import Wait
from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.tuning import Tuning

Sql = Callable[..., list[Any]]
Drive = Callable[..., SourceDriver]
Connect = Callable[..., psycopg.Connection[Any]]

TABLE = "CREATE TABLE {0} (id int PRIMARY KEY, at timestamptz NOT NULL, note text); CREATE INDEX ON {0} (at)"
ROWS = (
    "INSERT INTO {0} SELECT n, '2024-01-01'::timestamptz + n / {2} * interval '1 s', 'x' FROM generate_series(1, {1}) n"
)
BY_ID = {"mode": "incrementing", "incrementing_column_name": "id"}
BY_TIME = {"mode": "timestamp", "timestamp_column_name": "at"}
BY_BOTH = {"mode": "timestamp+incrementing", "timestamp_column_name": "at", "incrementing_column_name": "id"}
IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'headrace:%' AND xact_start IS NOT NULL"
)


@pytest.mark.parametrize("mode", [BY_ID, BY_TIME, BY_BOTH], ids=["incrementing", "timestamp", "both"])
@pytest.mark.parametrize("same", [1, 7, 40], ids=["unique", "some-equal", "more-equal-than-a-page"])
def test_each_row_is_read_once_and_in_order(sql: Sql, drive: Drive, mode: dict[str, str], same: int) -> None:
    sql(TABLE.format("t"))
    sql(ROWS.format("t", 203, same))
    driver = drive(table_whitelist="t", batch_max_rows="10", **mode)

    found = driver.values("id")
    assert sorted(found) == list(range(1, 204))
    assert len(found) == 203


@pytest.mark.parametrize("mode", [BY_ID, BY_TIME, BY_BOTH], ids=["incrementing", "timestamp", "both"])
def test_no_transaction_is_open_between_two_pages(sql: Sql, drive: Drive, mode: dict[str, str]) -> None:
    sql(TABLE.format("t"))
    sql(ROWS.format("t", 100, 1))
    driver = drive(table_whitelist="t", batch_max_rows="10", **mode)

    driver.batch()  # the first page is one batch
    assert sql(IN_TRANSACTION) == [(0,)]


def test_a_small_table_is_read_between_pages_of_a_large_one(sql: Sql, drive: Drive) -> None:
    sql(TABLE.format("large") + ";" + TABLE.format("small"))
    sql(ROWS.format("large", 2_000, 1))
    driver = drive(
        table_whitelist="large,small", batch_max_rows="10", poll_interval_ms="1", query_target_ms="10", **BY_ID
    )
    driver.batch()
    sql("INSERT INTO small VALUES (1, now(), 'news')")

    topics: list[str] = []
    while "t.small" not in topics:
        topics.append(driver.batch().topic)
    # Long before the large table's 2,000 rows were read.
    assert len(topics) < 100


def test_rows_that_are_committed_between_two_pages_are_read(sql: Sql, drive: Drive, connect: Connect) -> None:
    sql(TABLE.format("t"))
    sql("INSERT INTO t SELECT n * 2, '2024-01-01', 'x' FROM generate_series(1, 50) n")
    late = connect()
    late.execute("INSERT INTO t VALUES (5, '2024-01-01', 'behind'), (51, '2024-01-01', 'ahead')")
    driver = drive(table_whitelist="t", batch_max_rows="10", **BY_ID)
    found = [value["id"] for value in driver.batch().values]
    late.commit()

    while 5 not in found or 100 not in found:
        found += [value["id"] for value in driver.batch().values]
    assert sorted(found) == sorted([*range(2, 101, 2), 5, 51])


def test_a_column_added_between_two_pages_is_in_the_next_page(sql: Sql, drive: Drive) -> None:
    sql(TABLE.format("t"))
    sql(ROWS.format("t", 30, 1))
    driver = drive(table_whitelist="t", batch_max_rows="10", **BY_ID)
    driver.batch()
    sql("ALTER TABLE t ADD COLUMN more text DEFAULT 'new'")

    assert driver.values("more") == ["new"] * 20


def test_a_task_resumes_in_the_middle_of_a_table(sql: Sql, drive: Drive) -> None:
    sql(TABLE.format("t"))
    sql(ROWS.format("t", 100, 3))
    first = drive(table_whitelist="t", batch_max_rows="10", **BY_BOTH)
    found: list[int] = []
    for _ in range(4):
        batch = first.batch()
        first.store(batch)
        found += [value["id"] for value in batch.values]
    first.stop()

    found += drive(first.offsets, table_whitelist="t", batch_max_rows="10", **BY_BOTH).values("id")
    assert found == list(range(1, 101))


@pytest.mark.parametrize(
    ("setup", "keys"),
    [
        ("DROP INDEX t_at_idx", BY_TIME),
        ("SELECT 1", {**BY_TIME, "transaction_isolation_mode": "REPEATABLE_READ"}),
    ],
    ids=["no-index", "repeatable-read"],
)
def test_one_statement_reads_all_rows_where_pages_are_not_possible(
    sql: Sql, drive: Drive, setup: str, keys: dict[str, str]
) -> None:
    sql(TABLE.format("t"))
    sql(ROWS.format("t", 100, 1))
    sql(setup)
    driver = drive(table_whitelist="t", batch_max_rows="10", **keys)

    driver.batch()
    assert sql(IN_TRANSACTION) == [(1,)]
    assert len(driver.values("id")) == 90


def test_pages_grow_towards_the_desired_time(sql: Sql, drive: Drive) -> None:
    sql(TABLE.format("t"))
    sql(ROWS.format("t", 5_000, 1))
    driver = drive(table_whitelist="t", batch_max_rows="10", query_target_ms="10m", **BY_ID)
    open_after = []
    while not isinstance(answer := driver.poll(), Wait) or answer.seconds == 0:
        open_after.append(sql(IN_TRANSACTION) == [(1,)])

    # 1, 2, 4 … batches a page, at most 64; after the last batch of each no transaction is open.
    ends = [place for place, is_open in enumerate(open_after) if not is_open]
    assert ends[:7] == [0, 2, 6, 14, 30, 62, 126]


KEYS = {
    "int": ("int", "n"),
    "bigint, desc": ("bigint", "-n"),
    "numeric": ("numeric", "n / 3.0"),
    "text": ("text", "'key ' || n"),
    "uuid": ("uuid", "md5(n::text)::uuid"),
    "date": ("date", "date '2024-01-01' + n"),
    "timestamptz": ("timestamptz", "'2024-01-01'::timestamptz + n * interval '1 us'"),
    "bytea": ("bytea", "decode(md5(n::text), 'hex')"),
    "inet": ("inet", "'10.0.0.0'::inet + n"),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("composite", [False, True])
def test_mode_bulk_reads_pages_by_the_primary_key(sql: Sql, drive: Drive, name: str, composite: bool) -> None:
    type_, value = KEYS[name]
    sql(f"CREATE TABLE t (k {type_}, part int, n int, PRIMARY KEY ({'part, k' if composite else 'k'}))")
    sql(f"INSERT INTO t SELECT {value}, n % 3, n FROM generate_series(1, 95) n")
    driver = drive(table_whitelist="t", mode="bulk", batch_max_rows="10", poll_interval_ms="1h")

    found = [value["n"] for value in driver.batch().values]
    assert sql(IN_TRANSACTION) == [(0,)]
    found += driver.values("n")
    assert sorted(found) == list(range(1, 96))


def test_a_small_table_is_read_between_pages_of_a_large_one_in_mode_bulk(sql: Sql, drive: Drive) -> None:
    sql(TABLE.format("large") + ";" + TABLE.format("small"))
    sql(ROWS.format("large", 2_000, 1) + ";" + ROWS.format("small", 1, 1))
    driver = drive(table_whitelist="large,small", mode="bulk", batch_max_rows="10", query_target_ms="10")

    topics: list[str] = []
    while "t.small" not in topics:
        topics.append(driver.batch().topic)
    assert len(topics) < 5


@pytest.mark.parametrize("mode", [BY_ID, BY_TIME, {"mode": "bulk"}], ids=["incrementing", "timestamp", "bulk"])
def test_a_small_table_is_read_between_batches_of_a_result_without_pages(
    sql: Sql, drive: Drive, mode: dict[str, str]
) -> None:
    sql(TABLE.format("large") + ";" + TABLE.format("small"))
    sql(ROWS.format("large", 2_000, 1) + "; CREATE VIEW seen AS SELECT * FROM large")
    keys = {"table_whitelist": "seen,small", "table_types": "TABLE,VIEW", "batch_max_rows": "10", **mode}
    driver = drive(**keys, poll_interval_ms="1", validate_non_null="false")
    rows = len(driver.batch())
    sql(ROWS.format("small", 1, 1))

    topics: list[str] = []
    while "t.small" not in topics:
        batch = driver.batch()
        topics.append(batch.topic)
        rows += len(batch) if batch.topic == "t.seen" else 0
    assert len(topics) < 100
    while rows < 2_000:
        batch = driver.batch()
        rows += len(batch) if batch.topic == "t.seen" else 0
    assert rows == 2_000


@pytest.mark.parametrize(
    ("keys", "subject"),
    [
        ({"query": "SELECT * FROM t", "topic_prefix": "q", "mode": "bulk"}, "the query"),
        ({"query": "SELECT * FROM t", "topic_prefix": "q", **BY_ID}, "the query"),
        ({"table_whitelist": "t", "mode": "bulk"}, "table public.t"),
        ({"table_whitelist": "t", "mode": "bulk", "snapshot_parallelism": "2"}, "table public.t"),
        ({"table_whitelist": "t", "snapshot_parallelism": "2", **BY_ID}, "table public.t"),
    ],
    ids=["query-bulk", "query-incrementing", "bulk", "bulk-parallel", "incrementing-parallel"],
)
@pytest.mark.parametrize("tuning", [Tuning(status_interval=0.0)])
def test_progress_of_a_large_table_is_in_the_status(sql: Sql, drive: Drive, keys: dict[str, str], subject: str) -> None:
    sql(TABLE.format("t"))
    sql(ROWS.format("t", 2_000, 1) + "; ANALYZE t")
    driver = drive(**keys, batch_max_rows="10", poll_interval_ms="1h")
    for _ in range(50):
        driver.batch()

    said = driver.status_reasons.current
    assert said is not None
    found = re.fullmatch(rf"reading {subject}: ([\d,]+) rows, [\d,]+ a second, about ([\d,]+) to come, .+", said)
    assert found, said
    rows, rest = (int(number.replace(",", "")) for number in found.groups())
    assert 300 <= rows <= 500
    assert rows + rest == pytest.approx(2_000, rel=0.25)
    driver.drain()
    assert driver.status_reasons.current is None


FAMILY = """
    CREATE TABLE p (id int PRIMARY KEY, w text, at timestamptz NOT NULL DEFAULT '2024-01-01');
    CREATE TABLE c (PRIMARY KEY (id)) INHERITS (p);
    CREATE INDEX ON p (at, id);
    INSERT INTO p SELECT n, 'parent' FROM generate_series(1, 40) n;
    INSERT INTO c SELECT n, 'child' FROM generate_series(1, 40) n;
"""


@pytest.mark.parametrize("mode", [BY_ID, BY_BOTH, {"mode": "bulk"}], ids=["incrementing", "both", "bulk"])
@pytest.mark.parametrize("rows", ["1", "7"])
@pytest.mark.parametrize("readers", ["1", "3"])
def test_f1_rows_of_equal_key_in_parent_and_child_are_all_read(
    sql: Sql, drive: Drive, mode: dict[str, str], rows: str, readers: str
) -> None:
    sql(FAMILY)
    driver = drive(
        table_whitelist="p", batch_max_rows=rows, pk_mode="none", poll_interval_ms="1h", snapshot_parallelism=readers,
        **mode,
    )  # fmt: skip

    found = driver.values(lambda value: (value["id"], value["w"]))
    assert sorted(found) == sorted((n, w) for n in range(1, 41) for w in ("parent", "child"))


def test_f1_check_names_the_tables_that_share_the_key(sql: Sql, properties: Callable[..., dict[str, str]]) -> None:
    sql(FAMILY)
    found = [
        finding
        for finding in SqlSourceConnector().check(properties(table_whitelist="p", **BY_ID))
        if finding.code == "sql.inherited_rows"
    ]
    assert [(finding.severity, finding.key) for finding in found] == [("warning", "pk.mode")]
    assert "rows of c, which inherit from it" in found[0].message
