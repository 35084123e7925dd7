"""The source on a real MariaDB: modes, exact types, streaming, mistakes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import make_url

from headrace import Finding, RetriableError, Schema, SourceBatch, TaskError, Wait, schema
from headrace.testing.contexts import Offsets, make_source_context
from headrace.testing.driver import SourceDriver
from headrace.testing.values import mismatch
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.task import SqlSourceTask

Drive = Callable[..., SourceDriver]
Sql = Callable[..., list[Any]]

BY_ID = {"table_whitelist": "orders", "incrementing_column_name": "id"}
BY_TIME = {"table_whitelist": "orders", "mode": "timestamp", "timestamp_column_name": "at"}
BY_BOTH = {**BY_TIME, "mode": "timestamp+incrementing", "incrementing_column_name": "id"}
# Rows have timestamps of 2024, which the gap-free cursor would treat as far in the past.
EXACT = {"cursor_gap_free": "off"}
SECRET = "hunter2-do-not-show"


@pytest.fixture
def properties(mariadb_properties: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    return mariadb_properties


@pytest.fixture
def check(properties: Callable[..., dict[str, str]]) -> Callable[..., list[Finding]]:
    return lambda **keys: list(SqlSourceConnector().check(properties(**keys)))


@pytest.fixture
def orders(maria: Sql) -> None:
    maria("CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, at TIMESTAMP(6) NOT NULL, note VARCHAR(2000))")


def table(database: str) -> dict[str, str]:
    return {"protocol": "1", "table": f"{make_url(database).database}.orders"}


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("how", [BY_ID, BY_TIME, BY_BOTH], ids=["id", "time", "both"])
def test_each_row_is_read_once_in_each_mode(
    drive: Drive, maria: Sql, mariadb_database: str, how: dict[str, str]
) -> None:
    maria("INSERT INTO orders (at) VALUES ('2024-05-01 12:00:00.123456'), ('2024-05-01 12:00:00.123456')")
    maria("INSERT INTO orders (at) VALUES ('2024-05-01 12:00:01')")
    driver = drive(**how, **EXACT)
    assert sorted(driver.values("id")) == [1, 2, 3]
    assert driver.offsets.offsets([table(mariadb_database)]) != [None]

    maria("INSERT INTO orders (at) VALUES ('2024-05-01 12:00:02')")
    assert driver.values("id") == [4]
    assert drive(driver.offsets, **how, **EXACT).values("id") == []


@pytest.mark.usefixtures("orders")
def test_queries_and_mode_bulk_read_their_rows(drive: Drive, maria: Sql) -> None:
    maria("INSERT INTO orders (at, note) VALUES (now(6), '100%'), (now(6), ':x')")
    query = "SELECT o.id, o.note FROM orders o WHERE o.note LIKE '%:%' # the others are not wanted"

    assert drive(query=query, incrementing_column_name="id").values("note") == [":x"]
    assert sorted(drive(table_whitelist="orders", mode="bulk", poll_interval_ms="1h").values("id")) == [1, 2]


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("how", [BY_TIME, BY_BOTH], ids=["time", "both"])
def test_equal_timestamps_across_batches_are_read_once(
    drive: Drive, maria: Sql, mariadb_database: str, how: dict[str, str]
) -> None:
    maria("INSERT INTO orders (at) SELECT '2024-05-01' + INTERVAL seq DIV 7 SECOND FROM seq_0_to_20")
    driver = drive(**how, batch_max_rows="3")
    batches = driver.drain()
    everything = [value["id"] for batch in batches for value in batch.values]
    assert sorted(everything) == list(range(1, 22))

    offsets = Offsets()
    for count, batch in enumerate(batches, 1):
        if batch.source_offset is not None:
            offsets.set(table(mariadb_database), batch.source_offset)
        assert set(everything[count * 3 :]) <= set(drive(offsets.copy(), **how).values("id"))


def test_a_datetime_without_fraction_is_read_when_its_second_is_over(drive: Drive, maria: Sql) -> None:
    """Rows of one second are read together, or those written later in it would be passed over."""
    maria("CREATE TABLE orders (id INT PRIMARY KEY, at DATETIME NOT NULL)")
    driver = drive(**BY_TIME, **EXACT)
    seen: list[int] = []
    written = 0

    def all_read() -> bool:
        """everything was read"""
        nonlocal written
        if written < 40:
            written += 1
            maria(f"INSERT INTO orders VALUES ({written}, UTC_TIMESTAMP())")
        seen.extend(driver.values("id"))
        return written == 40 and len(seen) >= 40

    eventually(all_read, 60)
    assert sorted(seen) == list(range(1, 41))


def converted(batch: SourceBatch) -> tuple[dict[str, Schema], dict[str, Any]]:
    assert batch.value_schema is not None
    assert [mismatch(batch.value_schema, value) for value in batch.values] == [None] * len(batch)
    return dict(batch.value_schema.by_name), batch.values[0]


@pytest.mark.parametrize(
    ("kind", "literal", "expected_schema", "expected"),
    [
        ("TINYINT", "-128", schema.INT8, -128),
        ("TINYINT(1)", "7", schema.INT8, 7),
        ("BOOLEAN", "TRUE", schema.INT8, 1),
        ("TINYINT UNSIGNED", "255", schema.INT16, 255),
        ("SMALLINT UNSIGNED", "65535", schema.INT32, 65535),
        ("MEDIUMINT UNSIGNED", "16777215", schema.INT32, 16777215),
        ("INT UNSIGNED", "4294967295", schema.INT64, 4294967295),
        ("BIGINT", "-9223372036854775808", schema.INT64, -(2**63)),
        ("BIGINT UNSIGNED", "18446744073709551615", schema.decimal(0, 20), Decimal(2**64 - 1)),
        ("INT(5) ZEROFILL", "42", schema.INT64, 42),
        ("YEAR", "2024", schema.INT16, 2024),
        ("DECIMAL(65, 30)", "1.5", schema.decimal(30, 65), Decimal("1.5" + "0" * 29)),
        ("DECIMAL(10, 2)", "-99999999.99", schema.decimal(2, 10), Decimal("-99999999.99")),
        ("DECIMAL(5, 0) UNSIGNED", "12345", schema.decimal(0, 5), Decimal(12345)),
        ("DOUBLE", "0.1", schema.FLOAT64, 0.1),
        ("DATE", "'1000-01-01'", schema.DATE_SCHEMA, date(1000, 1, 1)),
        ("DATETIME(6)", "'9999-12-31 23:59:59.999999'", schema.TIMESTAMP_SCHEMA,
         datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("DATETIME", "'2024-05-01 12:00:00'", schema.TIMESTAMP_SCHEMA, datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("TIME(3)", "'23:59:59.999'", schema.TIME_SCHEMA, time(23, 59, 59, 999000)),
        ("CHAR(3)", "'ä'", schema.STRING, "ä"),
        ("VARCHAR(10)", "'😀'", schema.STRING, "😀"),
        ("LONGTEXT", "repeat('x', 70000)", schema.STRING, "x" * 70000),
        ("ENUM('a', 'b')", "'b'", schema.STRING, "b"),
        ("SET('a', 'b', 'c')", "'a,c'", schema.STRING, "a,c"),
        ("JSON", "'{\"a\": 1.0}'", schema.STRING, '{"a": 1.0}'),
        ("UUID", "'123e4567-e89b-12d3-a456-426655440000'", schema.STRING, "123e4567-e89b-12d3-a456-426655440000"),
        ("INET6", "'::1'", schema.STRING, "::1"),
        ("BIT(1)", "b'1'", schema.INT8, 1),
        ("BIT(12)", "b'101010101010'", schema.BYTES, b"\x0a\xaa"),
        ("BINARY(3)", "x'00ff'", schema.BYTES, b"\x00\xff\x00"),
        ("VARBINARY(3)", "x'00ff'", schema.BYTES, b"\x00\xff"),
        ("BLOB", "x'80'", schema.BYTES, b"\x80"),
        ("POINT", "ST_GeomFromText('POINT(1 2)', 4326)", schema.BYTES,
         bytes.fromhex("e6100000" "0101000000" "000000000000f03f" "0000000000000040")),
    ],
)  # fmt: skip
def test_columns_of_each_type_are_read_exactly(
    drive: Drive, maria: Sql, kind: str, literal: str, expected_schema: Schema, expected: object
) -> None:
    maria(f"CREATE TABLE a (id INT PRIMARY KEY, v {kind} NOT NULL, n {kind} NULL)")
    maria(f"INSERT INTO a VALUES (1, {literal}, NULL)")
    [batch] = drive(table_whitelist="a").drain()
    schemas, value = converted(batch)

    assert schemas["v"] == expected_schema
    assert schemas["n"] == expected_schema.as_optional()
    assert value["v"] == expected
    assert value["n"] is None


def test_e49_numeric_mapping_applies_to_decimal(drive: Drive, maria: Sql) -> None:
    """The JVM's connector does not map DECIMAL."""
    maria("CREATE TABLE a (id INT PRIMARY KEY, v DECIMAL(9, 0) NOT NULL); INSERT INTO a VALUES (1, 5)")
    [batch] = drive(table_whitelist="a", numeric_mapping="best_fit").drain()

    assert converted(batch)[0]["v"] == schema.INT32


def test_a_float_has_all_its_digits(drive: Drive, maria: Sql) -> None:
    """MariaDB writes a FLOAT with six digits, which is not the number that it holds."""
    maria("CREATE TABLE a (id INT PRIMARY KEY, f FLOAT); INSERT INTO a VALUES (1, 16777215), (2, 0.1), (3, NULL)")

    assert drive(table_whitelist="a").values("f") == [16777215.0, 0.1, None]
    assert drive(query="SELECT id, f FROM a", incrementing_column_name="id").values("f") == [16777215.0, 0.1, None]


@pytest.mark.parametrize(
    ("kind", "literal", "text"),
    [
        ("DATE", "'0000-00-00'", "0000-00-00"),
        ("DATE", "'2024-00-01'", "2024-00-01"),
        ("DATETIME(6)", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00.000000"),
        ("TIMESTAMP", "'0000-00-00 00:00:00'", "0000-00-00 00:00:00"),
        ("TIME", "'838:59:59'", "838:59:59"),
        ("TIME", "'-00:00:01'", "-00:00:01"),
    ],
)
def test_invalid_dates_and_times_are_errors_unless_configured(
    drive: Drive, maria: Sql, kind: str, literal: str, text: str
) -> None:
    maria("SET sql_mode = ''")
    maria(f"CREATE TABLE a (id INT PRIMARY KEY, v {kind} NOT NULL); INSERT INTO a VALUES (1, {literal})")

    with pytest.raises(TaskError) as raised:
        drive(table_whitelist="a").drain()
    assert raised.value.code == "sql.bad_value"
    assert "id=1" in raised.value.message
    assert "temporal.out.of.range" in raised.value.hint

    assert drive(table_whitelist="a", temporal_out_of_range="text").values("v") == [text]
    [batch] = drive(table_whitelist="a", temporal_out_of_range="null").drain()
    assert converted(batch)[1]["v"] is None


def test_cursor_columns_are_sent_as_text_if_configured(drive: Drive, maria: Sql) -> None:
    maria("CREATE TABLE orders (id INT PRIMARY KEY, at TIMESTAMP(3) NOT NULL)")
    maria("INSERT INTO orders VALUES (1, '2024-05-01 12:00:00.5')")
    driver = drive(**BY_TIME, temporal_out_of_range="text")

    assert driver.values("at") == ["2024-05-01 12:00:00.500"]
    assert drive(driver.offsets, **BY_TIME, temporal_out_of_range="text").values() == []
    assert drive(driver.offsets, **BY_TIME).values() == []


@pytest.mark.usefixtures("orders")
def test_the_time_zone_of_the_session_changes_no_value(drive: Drive, maria: Sql) -> None:
    maria("SET time_zone = '+05:00'; INSERT INTO orders (at) VALUES ('2024-05-01 17:00:00')")

    assert drive(**BY_TIME).values("at") == [datetime(2024, 5, 1, 12, tzinfo=UTC)]


@pytest.mark.usefixtures("orders")
def test_a_streamed_result_is_closed_by_a_stop(drive: Drive, maria: Sql) -> None:
    maria("INSERT INTO orders (at, note) SELECT '2024-05-01', repeat('x', 2000) FROM seq_1_to_20000")
    driver = drive(**BY_ID, batch_max_rows="100")
    [first] = [driver.batch()]
    sent = int(maria("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")[0][1])

    assert len(first) == 100
    driver.stop()  # most of the 40 MB is not read
    assert int(maria("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")[0][1]) - sent < 20_000_000


@pytest.mark.usefixtures("orders")
def test_no_row_is_lost_when_the_connection_is_lost(drive: Drive, maria: Sql) -> None:
    maria("INSERT INTO orders (at, note) SELECT '2024-05-01', repeat('x', 2000) FROM seq_1_to_10000")
    driver = drive(**BY_ID, batch_max_rows="500", transaction_isolation_mode="REPEATABLE_READ")  # not pages
    found = [value["id"] for value in driver.batch().values]
    [(session,)] = maria(
        "SELECT id FROM information_schema.processlist "
        "WHERE command = 'Query' AND info LIKE '%ORDER BY%' AND db = database() AND id <> connection_id()"
    )
    maria(f"KILL {session}")
    errors: list[RetriableError] = []

    def read() -> bool:
        """everything was read"""
        try:
            found.extend(driver.values("id"))
        except RetriableError as error:
            errors.append(error)
        return len(set(found)) >= 10_000

    eventually(read)
    assert sorted(set(found)) == list(range(1, 10_001))
    assert [error.code for error in errors] == ["sql.connection_lost"]


@pytest.mark.usefixtures("orders")
@pytest.mark.timeout(60)
def test_a_slow_statement_is_cancelled_by_a_stop(maria: Sql, properties: Callable[..., dict[str, str]]) -> None:
    maria("INSERT INTO orders (at) VALUES (now(6))")
    stop_event, answers = threading.Event(), []
    task = SqlSourceTask()
    [configuration] = SqlSourceConnector().task_configs(
        properties(query="SELECT id, sleep(600) AS s FROM orders", mode="bulk"), 1
    )
    task.start(make_source_context(configuration, stop_event=stop_event))
    thread = threading.Thread(target=lambda: answers.append(task.poll()), daemon=True)
    thread.start()
    eventually(
        lambda: maria(
            "SELECT 1 FROM information_schema.processlist WHERE info LIKE '%sleep(600)%' AND id <> connection_id()"
        )
    )
    stop_event.set()
    thread.join(20)

    assert not thread.is_alive()
    # A killed sleep() returns 1 instead of an error.
    assert answers == [Wait(0.0)] or isinstance(answers[0], SourceBatch)
    task.stop()


@pytest.mark.usefixtures("orders")
def test_changed_columns_are_in_the_next_records(drive: Drive, maria: Sql) -> None:
    driver = drive(**BY_ID)
    maria("INSERT INTO orders (at) VALUES (now(6))")
    assert driver.values(set) == [{"id", "at", "note"}]

    maria("ALTER TABLE orders ADD price DECIMAL(10, 2); INSERT INTO orders (at, price) VALUES (now(6), 1.5)")
    assert driver.values("price") == [Decimal("1.50")]

    maria("ALTER TABLE orders MODIFY price BIGINT; INSERT INTO orders (at, price) VALUES (now(6), 10000000000)")
    [batch] = driver.drain()
    assert converted(batch)[0]["price"] == schema.INT64.as_optional()

    maria("DROP TABLE orders")
    with pytest.raises(RetriableError) as raised:
        driver.drain()
    assert raised.value.code == "sql.missing_table"


@pytest.mark.usefixtures("orders")
def test_each_mistake_is_one_finding_without_secrets(
    check: Callable[..., list[Finding]], mariadb_database: str
) -> None:
    url = make_url(mariadb_database)

    def found(**keys: str) -> list[tuple[str, str]]:
        findings = check(**BY_ID | keys)
        assert SECRET not in str(findings)
        return [(item.code, item.key) for item in findings if item.severity == "error"]

    def at(**parts: Any) -> str:
        return url.set(**parts).render_as_string(hide_password=False)

    assert found() == []
    assert found(table_whitelist="order") == [("sql.missing_table", "table.whitelist")]
    assert found(incrementing_column_name="ident") == [("sql.missing_column", "incrementing.column.name")]
    assert found(connection_url=at(password=SECRET)) == [("sql.authentication", "connection.url")]
    assert found(connection_url=at(username="nobody_here", password=SECRET)) == [
        ("sql.authentication", "connection.url")
    ]
    assert found(connection_url=at(database="no_such_db"))[0][0] in ("sql.missing_database", "sql.authentication")
    assert found(connection_url=at(port=1)) == [("sql.unreachable", "connection.url")]
    assert found(connection_url=at(host="no-such-host.invalid")) == [("sql.unreachable", "connection.url")]
    assert found(table_whitelist="", query="SELECT id FROM orders WHERE") == [("sql.query_failed", "")]


def test_a_missing_index_is_reported_with_the_statement_that_creates_it(
    check: Callable[..., list[Finding]], maria: Sql
) -> None:
    maria("CREATE TABLE orders (id INT PRIMARY KEY, at TIMESTAMP NOT NULL)")
    [finding] = [item for item in check(**BY_TIME) if item.code == "sql.no_index"]

    maria(finding.hint.removeprefix("run: "))
    assert "sql.no_index" not in [item.code for item in check(**BY_TIME)]


@pytest.mark.usefixtures("orders")
def test_a_jdbc_url_is_accepted(drive: Drive, maria: Sql, mariadb_database: str) -> None:
    maria("INSERT INTO orders (at) VALUES (now(6))")
    url = make_url(mariadb_database)
    jdbc = f"jdbc:mariadb://{url.host}:{url.port}/{url.database}?useCursorFetch=true&zeroDateTimeBehavior=convertToNull"
    keys = {
        "connection_url": jdbc,
        "connection_user": str(url.username),
        "connection_password": str(url.password or ""),
    }

    assert drive(**BY_ID, **keys).values("id") == [1]


@pytest.mark.usefixtures("orders")
def test_table_names_are_resolved_in_the_database_of_the_connection_first(
    drive: Drive, maria: Sql, mariadb: Any, mariadb_database: str
) -> None:
    own = make_url(mariadb_database).database
    maria(
        f"CREATE DATABASE {own}_2; CREATE TABLE {own}_2.orders (id INT PRIMARY KEY);"
        f"INSERT INTO {own}_2.orders VALUES (7)"
    )
    try:
        maria("INSERT INTO orders (at) VALUES (now(6))")
        assert drive(**BY_ID).values("id") == [1]
        assert drive(table_whitelist=f"{own}_2.orders").values("id") == [7]
        assert drive(table_include_list=rf"{own}_2\.o.*").values("id") == [7]
        assert drive(table_whitelist="orders", catalog_pattern=f"{own}_2").values("id") == [7]
    finally:
        maria(f"DROP DATABASE {own}_2")


@pytest.mark.usefixtures("orders")
def test_transactions_of_a_task_are_read_only(drive: Drive) -> None:
    query = {"query": "SELECT @@tx_read_only AS id", "mode": "bulk", "topic_prefix": "t"}

    assert drive(**query).batch().values == [{"id": 1}]
    assert drive(**query, transaction_read_only="false").batch().values == [{"id": 0}]


def test_a_statement_over_the_timeout_is_cancelled(drive: Drive) -> None:
    with pytest.raises(RetriableError, match="max_statement_time"):
        drive(query="SELECT SLEEP(60) AS id", mode="bulk", topic_prefix="t", statement_timeout_ms="200").poll()


def test_f11_text_is_complete_with_any_charset_in_the_url(drive: Drive, maria: Sql, mariadb_database: str) -> None:
    maria(
        "CREATE TABLE l (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET latin1);INSERT INTO l VALUES (1, _latin1 x'81')"
    )
    url = make_url(mariadb_database).update_query_dict({"charset": "latin1"}).render_as_string(hide_password=False)

    [batch] = drive(connection_url=url, table_whitelist="l", incrementing_column_name="id").drain()

    assert [record["v"] for record in batch.values] == ["\x81"]


def test_c3_the_suggested_cast_is_valid(drive: Drive, maria: Sql) -> None:
    maria("CREATE TABLE z (id INT PRIMARY KEY, t TIME); INSERT INTO z VALUES (1, '30:00:00')")

    with pytest.raises(TaskError, match=r"CAST\(t AS CHAR\)"):
        drive(table_whitelist="z", incrementing_column_name="id").drain()
