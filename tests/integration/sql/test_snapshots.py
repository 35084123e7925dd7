"""Several connections read a large table, and a restart continues; the last record of each key is the newest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from headrace import RetriableError, SourceBatch
from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql.tuning import Tuning

Sql = Callable[..., list[Any]]
Drive = Callable[..., SourceDriver]
Connect = Callable[..., psycopg.Connection[Any]]

TABLE = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), note text); "
ROWS = (
    "INSERT INTO t SELECT n, '2024-01-01'::timestamptz + n / 7 * interval '1 s', 'first' FROM generate_series(1, {}) n"
)
MAIN = {"protocol": "1", "table": "public.t"}
PART = {**MAIN, "part": "snapshot"}
MODES: dict[str, dict[str, str]] = {
    "incrementing": {"mode": "incrementing", "incrementing_column_name": "id"},
    "timestamp": {"mode": "timestamp", "timestamp_column_name": "at"},
    "both": {"mode": "timestamp+incrementing", "timestamp_column_name": "at", "incrementing_column_name": "id"},
    "bulk": {"mode": "bulk", "poll_interval_ms": "1h"},
}
SEVERAL = {"table_whitelist": "t", "batch_max_rows": "10", "snapshot_parallelism": "3"}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
stamped = pytest.mark.parametrize("mode", [MODES["timestamp"], MODES["both"]], ids=["timestamp", "both"])


def stored(offsets: Offsets) -> tuple[Any, Any]:
    """Return the position of the table, and that of the snapshot."""
    main, part = offsets.offsets([MAIN, PART])
    return main, part


def some(driver: SourceDriver, count: int) -> list[SourceBatch]:
    """Return batches with rows; their positions are stored."""
    found = []
    for _ in range(count):
        found.append(driver.batch())
        driver.store(found[-1])
    return found


def ids(batches: list[SourceBatch]) -> list[int]:
    return [value["id"] for batch in batches for value in batch.values]


def all_of(driver: SourceDriver, rows: int) -> list[int]:
    """Drain until at least so many rows were returned."""
    found: list[int] = []

    def there() -> bool:
        """all rows are there"""
        found.extend(ids(driver.drain()))
        return len(found) >= rows

    eventually(there, 30)
    return found


def readers(sql: Sql) -> set[str]:
    names = sql("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
    return {name for (name,) in names if name.startswith("headrace:test-0/")}


@every_mode
def test_several_connections_read_each_row_once(sql: Sql, drive: Drive, mode: dict[str, str]) -> None:
    sql(TABLE + ROWS.format(503))
    driver = drive(**SEVERAL, **mode)
    first = some(driver, 3)
    eventually(lambda: len(readers(sql)) == 3)  # a reader that is slow to connect still has a chunk to read

    found = ids([*first, *driver.drain()])
    assert sorted(found) == list(range(1, 504))
    assert found != sorted(found)
    eventually(lambda: not readers(sql), 20)
    main, part = stored(driver.offsets)
    assert part is None
    assert (main is None) == (mode["mode"] == "bulk")


@every_mode
def test_a_restart_continues_in_each_range(sql: Sql, drive: Drive, mode: dict[str, str]) -> None:
    sql(TABLE + ROWS.format(503))
    driver = drive(**SEVERAL, **mode)
    before = ids(some(driver, 20))
    driver.stop()
    main, part = stored(driver.offsets)
    assert main is None
    assert part is not None

    # The number of connections may differ.
    again = drive(driver.offsets, **{**SEVERAL, "snapshot_parallelism": "1"}, **mode)
    assert sorted(before + ids(again.drain())) == list(range(1, 504))
    assert stored(again.offsets)[1] is None


@stamped
def test_rows_changed_during_the_snapshot_are_sent_after_it(sql: Sql, drive: Drive, mode: dict[str, str]) -> None:
    sql(TABLE + ROWS.format(503))
    driver = drive(**SEVERAL, **mode)
    batches = some(driver, 10)
    sql("UPDATE t SET note = 'second', at = clock_timestamp() WHERE id % 3 = 0; INSERT INTO t (id) VALUES (0), (900)")

    expected = dict(sql("SELECT id, note FROM t"))

    def all_rows_arrived() -> bool:
        """all rows are there as they are now"""
        batches.extend(driver.drain())
        return {v["id"]: v["note"] for batch in batches for v in batch.values} == expected

    eventually(all_rows_arrived, 20)
    # After the snapshot, polling sends only rows that have changed since.
    assert len(ids(batches)) < 503 + 200


@pytest.mark.parametrize("name", ["incrementing", "both"])
@pytest.mark.parametrize("tuning", [Tuning(transaction_wait=0.2, status_interval=0.0)])
def test_rows_of_a_transaction_open_during_the_snapshot_are_not_lost(
    sql: Sql, drive: Drive, connect: Connect, name: str
) -> None:
    # In mode incrementing it may have written any id: the snapshot waits for it for a limited time.
    sql(TABLE + ROWS.format(503))
    late = connect()
    late.execute("INSERT INTO t (id, at) VALUES (-5, now())")
    driver = drive(**SEVERAL, **MODES[name])
    assert sorted(all_of(driver, 503)) == list(range(1, 504))
    # The status says so while one connection reads although several are configured.
    told = [text or "" for text in driver.status_reasons.said]
    assert any("is read by one connection instead of 3: process " in text for text in told) == (name == "incrementing")
    assert "is read by one connection" not in (driver.status_reasons.current or "")
    late.commit()

    assert -5 in all_of(driver, 1)


def test_a_snapshot_killed_during_an_open_transaction_loses_no_row(sql: Sql, drive: Drive, connect: Connect) -> None:
    sql(TABLE + ROWS.format(503))
    late = connect()
    late.execute("UPDATE t SET note = 'late', at = now() WHERE id = 1")
    driver = drive(**SEVERAL, **MODES["both"])
    batches = some(driver, 30)
    driver.stop()
    late.commit()
    again = drive(driver.offsets, **SEVERAL, **MODES["both"])

    def newest() -> bool:
        """the late version is the last one"""
        batches.extend(again.drain())
        notes = {value["id"]: value["note"] for batch in batches for value in batch.values}
        return bool(notes[1] == "late")

    eventually(newest, 20)
    assert set(ids(batches)) == set(range(1, 504))


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bigint", "n::bigint * 1000000007"),
        ("numeric", "n / 3.0"),
        ("uuid", "md5(n::text)::uuid"),
        ("text", "'key ' || n"),
        ("timestamptz", "'2024-01-01'::timestamptz + n * interval '1 us'"),
        ("bytea", "decode(md5(n::text), 'hex')"),
    ],
)
@pytest.mark.parametrize("composite", [False, True])
def test_a_snapshot_is_resumed_with_keys_of_many_types(
    sql: Sql, drive: Drive, type_: str, value: str, composite: bool
) -> None:
    sql(f"CREATE TABLE t (k {type_}, part int, id int, PRIMARY KEY ({'k, part' if composite else 'k'}))")
    sql(f"INSERT INTO t SELECT {value}, n % 3, n FROM generate_series(1, 303) n; ANALYZE t")
    driver = drive(**SEVERAL, mode="bulk", poll_interval_ms="1h")
    first = some(driver, 12)
    eventually(lambda: len(readers(sql)) == 3)
    driver.stop()

    again = drive(driver.offsets, **SEVERAL, mode="bulk", poll_interval_ms="1h")
    assert sorted(ids([*first, *again.drain()])) == list(range(1, 304))


def test_a_position_of_the_jvms_connector_needs_no_snapshot(sql: Sql, drive: Drive) -> None:
    sql(TABLE + ROWS.format(503))
    offsets = Offsets()
    offsets.set(MAIN, {"incrementing": 400})
    driver = drive(offsets, **SEVERAL, **MODES["incrementing"])
    assert ids(driver.drain()) == list(range(401, 504))
    assert stored(offsets) == ({"incrementing": 503}, None)


def test_a_snapshot_of_another_mode_is_not_resumed(sql: Sql, drive: Drive) -> None:
    sql(TABLE + ROWS.format(503))
    driver = drive(**SEVERAL, **MODES["bulk"])
    some(driver, 5)
    driver.stop()

    again = drive(driver.offsets, **SEVERAL, **MODES["incrementing"])
    assert sorted(ids(again.drain())) == list(range(1, 504))


def test_mode_bulk_with_one_connection_continues_after_a_restart(sql: Sql, drive: Drive) -> None:
    sql(TABLE + ROWS.format(203))
    one = {"table_whitelist": "t", "batch_max_rows": "10", "mode": "bulk", "poll_interval_ms": "1h"}
    driver = drive(**one)
    before = ids(some(driver, 8))
    driver.stop()

    again = drive(driver.offsets, **one)
    assert before + ids(again.drain()) == list(range(1, 204))
    again.stop()
    assert stored(driver.offsets) == (None, None)
    # The next reading is complete.
    assert ids(drive(driver.offsets, **one).drain()) == list(range(1, 204))


def test_a_small_table_is_read_by_one_connection(sql: Sql, drive: Drive) -> None:
    sql(TABLE + ROWS.format(25))
    driver = drive(**SEVERAL, **MODES["incrementing"])
    assert ids(driver.drain()) == list(range(1, 26))
    assert stored(driver.offsets) == ({"incrementing": 25}, None)


def test_a_column_added_during_the_snapshot_is_in_later_records(sql: Sql, drive: Drive, connect: Connect) -> None:
    sql(TABLE + ROWS.format(503))
    driver = drive(**SEVERAL, **MODES["both"])
    batches = some(driver, 3)
    other = connect(autocommit=True)
    change = threading.Thread(target=lambda: other.execute("ALTER TABLE t ADD COLUMN more text DEFAULT 'new'"))
    change.start()
    # It waits for readers in the middle of a page, which wait for this test; others wait for it.
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass AND mode = 'AccessExclusiveLock'"
    eventually(lambda: not change.is_alive() or sql(waiting))
    while change.is_alive():
        batches += some(driver, 1)
    change.join()
    assert len(batches) < 50
    batches += driver.drain()

    assert set(ids(batches)) == set(range(1, 504))
    assert "more" not in batches[0].values[0]
    assert [value for batch in batches for value in batch.values][-1]["more"] == "new"


def test_other_tables_are_read_during_a_snapshot(sql: Sql, drive: Drive) -> None:
    sql(TABLE + ROWS.format(3_000))
    sql("CREATE TABLE small (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); INSERT INTO small VALUES (1)")
    keys = {**SEVERAL, "table_whitelist": "t,small", **MODES["incrementing"]}
    driver = drive(**keys, connection_max_queries="3", query_target_ms="10")
    topics: list[str] = []
    while "t.small" not in topics:
        batch = driver.batch()
        driver.store(batch)
        topics.append(batch.topic)
    assert len(topics) < 100
    assert sum(len(batch) for batch in driver.drain()) + 10 * (len(topics) - 1) >= 3_000


def test_a_reader_pool_keeps_the_query_limit(sql: Sql, drive: Drive) -> None:
    sql(TABLE + ROWS.format(503))
    driver = drive(**SEVERAL, connection_max_queries="1", **MODES["incrementing"])
    most = 0
    done = threading.Event()
    counting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'headrace:%' AND xact_start IS NOT NULL"
    )

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, sql(counting)[0][0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    found = all_of(driver, 503)
    done.set()
    watcher.join()
    assert sorted(found) == list(range(1, 504))
    assert most == 1


def test_no_row_is_lost_when_a_connection_of_the_reader_pool_is_lost(sql: Sql, drive: Drive) -> None:
    sql(TABLE + ROWS.format(5_003))
    driver = drive(**SEVERAL, **MODES["incrementing"])
    batches = some(driver, 3)
    lost = 0
    while not lost:
        sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'headrace:test-0/%'")
        try:
            for _ in range(5):
                batches += some(driver, 1)
        except RetriableError:
            lost += 1

    def drained() -> bool:
        """all is read"""
        try:
            batches.extend(driver.drain())
        except RetriableError:
            return False
        return set(ids(batches)) == set(range(1, 5_004))

    eventually(drained, 60)
    assert len(ids(batches)) == 5_003
