"""The task on a SQLite file: rows, batches, restarts, and errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL

from headrace import ConfigError, RetriableError, SourceBatch, TaskError, Wait, schema
from headrace.testing.contexts import Offsets, make_source_context
from headrace.testing.driver import SourceDriver
from headrace_sources.sql import JdbcSourceConnector, SqlSourceConnector
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.dialects.sqlite import Sqlite as SqliteDialect
from headrace_sources.sql.task import SqlSourceTask
from tests.sql_tasks import table_of
from tests.unit.examples import examples

Drive = Callable[..., SourceDriver]
Sqlite = Callable[[str], list[Any]]

BY_ID = {"table_whitelist": "a", "incrementing_column_name": "id"}
BY_TIME = {"table_whitelist": "a", "mode": "timestamp", "timestamp_column_name": "at"}
BY_BOTH = {**BY_TIME, "mode": "timestamp+incrementing", "incrementing_column_name": "id"}
ONCE = {"table_whitelist": "a", "mode": "bulk", "poll_interval_ms": "1h"}
"""A busy machine must not find it due again between two polls."""
PARTITION = {"protocol": "1", "table": "a"}


@pytest.fixture
def table(sqlite: Sqlite) -> None:
    sqlite("CREATE TABLE a (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, note TEXT)")


def add(sqlite: Sqlite, *rows: tuple[int, str] | tuple[int, str, str | None]) -> None:
    for identity, at, *note in rows:
        text = "NULL" if note in ([], [None]) else f"'{note[0]}'"
        sqlite(f"INSERT INTO a VALUES ({identity}, '{at}', {text})")


def at(second: int) -> str:
    return f"2024-05-01 12:00:{second:02d}"


def offsets_of(batches: Sequence[SourceBatch]) -> list[dict[str, Any] | None]:
    return [None if batch.source_offset is None else dict(batch.source_offset) for batch in batches]


def stamp(second: int) -> dict[str, int]:
    return {"timestamp": 1714564800000 + second * 1000, "timestamp_nanos": 0}


@pytest.mark.usefixtures("table")
def test_e12_incrementing_reads_every_row_once(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)), (2, at(0)), (3, at(0)))

    batches = drive(**BY_ID, batch_max_rows="1").drain()

    assert [batch.values[0]["id"] for batch in batches] == [1, 2, 3]
    assert offsets_of(batches) == [{"incrementing": 1}, {"incrementing": 2}, {"incrementing": 3}]
    assert batches[0].source_partition == PARTITION


@pytest.mark.usefixtures("table")
def test_ids_below_zero_are_read_too(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (-5, at(0)), (-1, at(0)), (0, at(0)), (1, at(0)))

    assert drive(**BY_ID).values("id") == [-5, -1, 0, 1]


@pytest.mark.usefixtures("table")
def test_e14_a_restart_continues_after_the_stored_id(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)), (2, at(0)), (3, at(0)))
    offsets = Offsets()
    offsets.set(PARTITION, {"incrementing": 2})

    assert drive(offsets, **BY_ID).values("id") == [3]


@pytest.mark.usefixtures("table")
def test_rows_added_later_are_read_by_the_same_task(drive: Drive, sqlite: Sqlite) -> None:
    driver = drive(**BY_ID)
    assert driver.drain() == []

    add(sqlite, (1, at(0)))
    assert driver.values("id") == [1]

    add(sqlite, (2, at(0)))
    assert driver.values("id") == [2]


@pytest.mark.usefixtures("table")
def test_e17_the_offset_waits_until_all_rows_of_a_timestamp_are_read(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(1)), (2, at(1)), (3, at(2)), (4, at(2)), (5, at(3)))

    batches = drive(**BY_TIME, batch_max_rows="1").drain()

    assert offsets_of(batches) == [None, stamp(1), stamp(1), stamp(2), stamp(3)]


@pytest.mark.usefixtures("table")
@settings(max_examples=examples(0.25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equal_timestamps_across_batches_are_not_split(drive: Drive, sqlite: Sqlite, data: st.DataObject) -> None:
    """A task that resumes at any stored offset reads every row that was not in an acknowledged batch."""
    seconds = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
    keys = data.draw(st.sampled_from([BY_TIME, BY_BOTH]))
    size = data.draw(st.integers(1, 4))
    sqlite("DELETE FROM a")
    add(sqlite, *((number, at(second)) for number, second in enumerate(seconds)))

    batches = drive(**keys, batch_max_rows=str(size)).drain()
    read = [value["id"] for batch in batches for value in batch.values]
    assert sorted(read) == list(range(len(seconds)))

    offsets = Offsets()
    for count, batch in enumerate(batches, 1):
        if batch.source_offset is not None:
            offsets.set(PARTITION, batch.source_offset)
        with drive(offsets.copy(), **keys) as resumed:
            rest = resumed.values("id")
        acknowledged = read[: sum(map(len, batches[:count]))]
        assert set(read) - set(acknowledged) <= set(rest)
        if keys is BY_BOTH:
            assert set(rest).isdisjoint(acknowledged)


@pytest.mark.usefixtures("table")
def test_e19_e20_recent_rows_wait_for_the_delay(drive: Drive, sqlite: Sqlite) -> None:
    sqlite("INSERT INTO a VALUES (1, datetime('now', '-30 seconds'), ''), (2, datetime('now', '+1 hour'), '')")

    assert drive(**BY_TIME).values("id") == [1]
    assert drive(**BY_TIME, timestamp_delay_interval_ms="60s").values("id") == []


@pytest.mark.usefixtures("table")
def test_e22_reading_starts_at_timestamp_initial(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)), (2, at(1)), (3, at(2)))
    initial = str(stamp(1)["timestamp"])

    assert drive(**BY_TIME, timestamp_initial=initial).values("id") == [3]
    assert drive(**BY_BOTH, timestamp_initial=initial).values("id") == [2, 3]
    assert drive(**BY_TIME, timestamp_initial="-1").values("id") == []


@pytest.mark.usefixtures("table")
def test_e24_timestamp_initial_is_used_only_without_a_stored_offset(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)), (2, at(1)))
    offsets = Offsets()
    offsets.set(PARTITION, stamp(0))

    assert drive(offsets, **BY_TIME, timestamp_initial="-1").values("id") == [2]


@pytest.mark.usefixtures("table")
def test_e25_equal_timestamps_are_ordered_by_id(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (5, at(1)), (6, at(1)))
    offsets = Offsets()
    offsets.set(PARTITION, {"incrementing": 5, **stamp(1)})

    assert drive(offsets, **BY_BOTH).values("id") == [6]


@pytest.mark.usefixtures("table")
def test_e21_rows_before_1970_are_read(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, "1969-12-31 23:59:59"), (2, "1970-01-01 00:00:00"))

    assert drive(**BY_TIME).values("id") == [1, 2]


def test_e29_the_first_timestamp_that_is_not_null_is_used(drive: Drive, sqlite: Sqlite) -> None:
    sqlite(
        f"""
        CREATE TABLE a (id INTEGER PRIMARY KEY, updated TIMESTAMP, created TIMESTAMP NOT NULL);
        INSERT INTO a VALUES (1, '{at(9)}', '{at(1)}'), (2, NULL, '{at(2)}'), (3, NULL, '{at(3)}');
        """
    )
    driver = drive(**BY_TIME | {"timestamp_column_name": "updated,created"})

    assert driver.values("id") == [2, 3, 1]
    assert driver.offsets.offsets([PARTITION]) == [stamp(9)]


@pytest.mark.usefixtures("table")
def test_e35_mode_bulk_reads_all_rows_each_time(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, *((number, at(0)) for number in range(10)))
    driver = drive(**ONCE)
    batches = driver.drain()
    table_of(driver).due = datetime.now(UTC)
    batches += driver.drain()

    assert sum(map(len, batches)) == 20
    assert {str(batch.source_partition) for batch in batches} == {"{'table': 'a'}"}
    assert offsets_of(batches) == [None] * len(batches)


@pytest.mark.usefixtures("table")
def test_e36_e37_records_have_topic_key_and_schema_of_the_table(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0), "x"))
    [batch] = drive(**BY_ID).drain()

    assert (batch.topic, batch.keys, batch.key_schema, batch.timestamps) == ("t.a", [1], schema.INT64, None)
    assert batch.value_schema is not None
    assert batch.value_schema.name == "a"
    assert batch.values == [{"id": 1, "at": datetime(2024, 5, 1, 12, tzinfo=UTC), "note": "x"}]


@pytest.mark.usefixtures("table")
def test_e36_records_have_no_key_under_the_class_name_of_the_jvm(
    sqlite: Sqlite, properties: Callable[..., dict[str, str]]
) -> None:
    add(sqlite, (1, at(0), "x"))
    with SourceDriver(JdbcSourceConnector, properties(**BY_ID)) as driver:
        [batch] = driver.drain()

    assert (batch.keys, batch.key_schema, batch.timestamps) == (None, None, None)


@pytest.mark.usefixtures("table")
def test_e34_e37_records_of_a_query_have_its_topic_and_partition(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0), "x"), (2, at(0), "y"))
    query = "SELECT id AS ident, note FROM a WHERE note <> 'x'"
    [batch] = drive(query=query, incrementing_column_name="ident", topic_prefix="whole.name").drain()

    assert (batch.topic, batch.source_partition) == ("whole.name", {"query": "query"})
    assert batch.value_schema is not None
    assert batch.value_schema.name is None
    assert batch.values == [{"ident": 2, "note": "y"}]
    assert batch.source_offset == {"incrementing": 2}


def test_keys_have_one_or_several_columns(drive: Drive, sqlite: Sqlite) -> None:
    sqlite("CREATE TABLE a (o INTEGER, l INTEGER, PRIMARY KEY (o, l)); INSERT INTO a VALUES (1, 2)")

    [batch] = drive(**ONCE, pk_mode="primary_key").drain()
    assert batch.keys == [{"o": 1, "l": 2}]
    assert batch.key_schema == schema.struct({"o": schema.INT64, "l": schema.INT64})

    [batch] = drive(**ONCE, pk_mode="fields", pk_fields="l").drain()
    assert batch.keys == [2]
    assert batch.key_schema == schema.INT64


def test_records_have_keys_by_default(drive: Drive, sqlite: Sqlite) -> None:
    """pk.fields, else the primary key, else none."""
    sqlite("CREATE TABLE a (id INTEGER PRIMARY KEY, b TEXT); INSERT INTO a VALUES (1, 'x')")
    sqlite("CREATE TABLE loose (b TEXT); INSERT INTO loose VALUES ('y')")

    assert drive(table_whitelist="a", mode="bulk").drain()[0].keys == [1]
    assert drive(table_whitelist="a", mode="bulk", pk_fields="b").drain()[0].keys == ["x"]
    assert drive(table_whitelist="a", mode="bulk", pk_mode="none").drain()[0].keys is None
    assert drive(table_whitelist="loose", mode="bulk").drain()[0].keys is None
    assert drive(query="SELECT * FROM a", mode="bulk").drain()[0].keys is None


@pytest.mark.usefixtures("table")
def test_e56_an_added_column_is_in_the_next_record(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)))
    driver = drive(**BY_ID)
    assert driver.drain()[0].values[0].keys() == {"id", "at", "note"}

    sqlite(f"ALTER TABLE a ADD COLUMN price NUMERIC(10,2); INSERT INTO a VALUES (2, '{at(0)}', NULL, 9.5)")
    [batch] = driver.drain()

    assert batch.values[0]["price"] == Decimal("9.50")
    assert batch.value_schema is not None
    assert batch.value_schema.by_name["price"] == schema.decimal(2, 10).as_optional()


@pytest.mark.usefixtures("table")
def test_a_dropped_column_is_not_in_the_next_record(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)))
    driver = drive(**BY_ID)
    driver.drain()

    sqlite(f"ALTER TABLE a DROP COLUMN note; INSERT INTO a VALUES (2, '{at(0)}')")

    assert driver.values(set) == [{"id", "at"}]


@pytest.mark.usefixtures("table")
def test_a_renamed_column_raises_a_condition(drive: Drive, sqlite: Sqlite) -> None:
    """Row 6 of the faults: the new name is a second field of the index, and the table is read without an error."""
    add(sqlite, (1, at(0)))
    driver = drive(**BY_ID)
    driver.drain()
    assert not driver.conditions
    sqlite(f"ALTER TABLE a ADD COLUMN price INTEGER; INSERT INTO a VALUES (2, '{at(0)}', NULL, 9)")
    driver.drain()
    assert not driver.conditions, "a column that is added takes nothing away"

    sqlite(f"ALTER TABLE a RENAME COLUMN note TO remark; INSERT INTO a VALUES (3, '{at(0)}', NULL, 9)")
    driver.drain()

    assert "note of table a (new: remark)" in driver.conditions["sql.columns_gone"]


@pytest.mark.usefixtures("table")
def test_a_task_waits_for_a_renamed_key_column_and_names_it(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0), "x"))
    driver = drive(**BY_ID, pk_mode="fields", pk_fields="note")
    driver.drain()

    sqlite("ALTER TABLE a RENAME COLUMN note TO remark")
    add(sqlite, (2, at(0), "y"))
    with pytest.raises(RetriableError) as raised:
        driver.drain()

    assert raised.value.code == "sql.missing_column"
    assert "note" in str(raised.value)


@pytest.mark.usefixtures("table")
def test_a_task_waits_for_a_renamed_cursor_column(drive: Drive, sqlite: Sqlite) -> None:
    driver = drive(**BY_TIME)
    add(sqlite, (1, at(0)))
    driver.drain()

    sqlite("ALTER TABLE a RENAME COLUMN at TO moment")
    with pytest.raises(RetriableError) as raised:
        driver.drain()

    assert raised.value.code == "sql.missing_column"


@pytest.mark.usefixtures("table")
def test_a_task_waits_for_a_dropped_table(drive: Drive, sqlite: Sqlite) -> None:
    driver = drive(**BY_ID)
    driver.drain()

    sqlite("DROP TABLE a")
    with pytest.raises(RetriableError) as raised:
        driver.drain()

    assert raised.value.code == "sql.missing_table"


def test_tables_are_read_in_turn(drive: Drive, sqlite: Sqlite) -> None:
    for name in ("a", "b", "c"):
        sqlite(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY); INSERT INTO {name} VALUES (1), (2), (3)")
    driver = drive(table_whitelist="a,b,c", batch_max_rows="2")

    found = [driver.batch() for _ in range(6)]

    assert sorted((batch.topic, value["id"]) for batch in found for value in batch.values) == [
        (f"t.{name}", number) for name in "abc" for number in (1, 2, 3)
    ]


@pytest.mark.usefixtures("table")
def test_rows_written_while_a_result_is_read_are_read_once(drive: Drive, sqlite: Sqlite) -> None:
    sqlite("PRAGMA journal_mode = WAL")
    add(sqlite, *((number, at(0)) for number in range(1, 7)))
    driver = drive(**BY_ID, batch_max_rows="2")
    first = driver.batch()
    add(sqlite, (7, at(0)), (8, at(0)))

    assert [value["id"] for value in first.values] + driver.values("id") + driver.values("id") == list(range(1, 9))


class ImpatientSqlite(SqliteDialect):
    def connect_args(self, url: URL) -> dict[str, Any]:
        return {"timeout": 0.0}


def without_lock_timeout(url: URL, zone: tzinfo, granularity: str, temporal: str) -> Dialect:
    return ImpatientSqlite(zone)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("make_dialect", [without_lock_timeout])
def test_reads_of_a_locked_file_are_retried(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)))
    driver = drive(**BY_ID)
    sqlite("BEGIN EXCLUSIVE")

    with pytest.raises(RetriableError) as raised:
        driver.drain()
    assert raised.value.code == "sql.busy"

    sqlite("COMMIT")
    assert driver.values("id") == [1]


@pytest.mark.usefixtures("table")
def test_duplicate_column_names_are_refused(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)))

    with pytest.raises(TaskError) as raised:
        drive(query="SELECT x.*, y.id FROM a x JOIN a y", mode="bulk").drain()
    assert raised.value.code == "sql.duplicate_column"


@pytest.mark.usefixtures("table")
def test_e61_without_new_rows_a_poll_returns_nothing_at_once(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)))
    driver = drive(**BY_ID, poll_interval_ms="60000")
    driver.drain()

    answer = driver.poll()
    assert isinstance(answer, Wait)
    assert 0 < answer.seconds <= 60


@pytest.mark.usefixtures("table")
def test_a_cron_schedule_is_not_due_at_once(drive: Drive, sqlite: Sqlite) -> None:
    add(sqlite, (1, at(0)))
    answer = drive(**BY_ID, poll_interval_ms="0 0 1 1 *").poll()

    assert isinstance(answer, Wait)
    assert answer.seconds > 0


@pytest.mark.usefixtures("table")
def test_a_missing_column_is_reported_with_the_origin_of_its_key(drive: Drive) -> None:
    with pytest.raises(ConfigError) as raised:
        drive(**BY_ID | {"incrementing_column_name": "ident"})

    [finding] = raised.value.findings
    assert finding.code == "sql.missing_column"
    assert "test.yaml: incrementing.column.name" in finding.hint


@pytest.mark.usefixtures("table")
def test_a_stop_ends_the_cancelling_thread(properties: Callable[..., dict[str, str]]) -> None:
    before = set(threading.enumerate())
    [configuration] = SqlSourceConnector().task_configs(properties(**BY_ID), 1)
    task = SqlSourceTask()
    task.start(make_source_context(configuration))
    task.stop()
    task.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.usefixtures("table")
def test_a_slow_statement_is_cancelled_by_a_stop(sqlite: Sqlite, properties: Callable[..., dict[str, str]]) -> None:
    add(sqlite, (1, at(0)))
    endless = (
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1e15) SELECT max(id) AS id FROM n"
    )
    stop_event, answers = threading.Event(), []
    task = SqlSourceTask()
    [configuration] = SqlSourceConnector().task_configs(properties(query=endless, mode="bulk"), 1)
    task.start(make_source_context(configuration, stop_event=stop_event))
    thread = threading.Thread(target=lambda: answers.append(task.poll()), daemon=True)
    thread.start()
    stop_event.set()
    thread.join(20)

    assert not thread.is_alive()
    assert answers == [Wait(0.0)]
    task.stop()


def test_the_file_is_not_changed(drive: Drive, sqlite: Sqlite, path: Path) -> None:
    sqlite("CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1)")
    before = path.read_bytes()
    drive(query="SELECT id FROM a", incrementing_column_name="id").drain()

    assert path.read_bytes() == before


@pytest.mark.usefixtures("table")
def test_a_masked_query_is_read_and_never_shown(
    drive: Drive, sqlite: Sqlite, properties: Callable[..., dict[str, str]]
) -> None:
    add(sqlite, (1, at(0), "x"))
    query = "SELECT id FROM a WHERE note = 'x'"
    assert drive(query_masked=query, mode="bulk", poll_interval_ms="1h").values("id") == [1]

    keys = properties(query_masked="SELECT hunter2 FROM a", mode="bulk")
    [finding] = SqlSourceConnector().check(keys)
    assert finding.code == "sql.missing_column"
    with pytest.raises(ConfigError) as raised:
        drive(query_masked="SELECT hunter2 FROM a", mode="bulk")
    for text in (str(finding), str(raised.value), repr(SqlSourceConnector.config_model.parse(keys))):
        assert "hunter2" not in text
