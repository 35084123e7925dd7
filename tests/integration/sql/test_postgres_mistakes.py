"""Mistakes of users with a real PostgreSQL are one clear error of check and task, without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from headrace import ConfigError, Finding, InfrastructureError, RetriableError, TaskError
from headrace.embedded import EmbeddedStack
from headrace.testing.contexts import make_source_context
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.task import SqlSourceTask

Drive = Callable[..., SourceDriver]
Sql = Callable[..., list[Any]]

SECRET = "hunter2-do-not-show"
BY_ID = {"table_whitelist": "orders", "incrementing_column_name": "id"}
BY_TIME = {"table_whitelist": "orders", "mode": "timestamp", "timestamp_column_name": "at"}


@pytest.fixture(autouse=True)
def orders(sql: Sql) -> None:
    sql(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz NOT NULL, seen timestamptz, naive timestamp, "
        "note text)"
    )


@pytest.fixture
def check(properties: Callable[..., dict[str, str]]) -> Callable[..., list[Finding]]:
    """``check(**keys)``: what ``headrace check`` says."""

    def run(**keys: str) -> list[Finding]:
        return list(SqlSourceConnector().check(properties(**keys)))

    return run


@pytest.fixture
def role(sql: Sql, unique_name: str) -> Iterator[str]:
    """A user without privileges in the database, whose password is ``right``."""
    sql(f"CREATE ROLE {unique_name} LOGIN PASSWORD 'right'")
    yield unique_name
    sql(f"DROP OWNED BY {unique_name}; DROP ROLE {unique_name}")


def codes(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(item.code, item.key, item.severity) for item in findings]


def test_a_valid_configuration_has_no_findings(check: Callable[..., list[Finding]]) -> None:
    assert check(**BY_ID) == []


def test_an_unknown_host_is_an_error(check: Callable[..., list[Finding]], drive: Drive) -> None:
    url = f"postgresql+psycopg://u:{SECRET}@no-such-host.invalid/x"

    [finding] = check(**BY_ID, connection_url=url)
    assert (finding.code, finding.key) == ("sql.unreachable", "connection.url")
    assert "no-such-host.invalid" in finding.message
    assert SECRET not in str(finding)
    with pytest.raises(RetriableError) as raised:
        drive(**BY_ID, connection_url=url)
    assert SECRET not in str(raised.value)


def test_e59_the_configured_number_of_connection_attempts_is_kept(drive: Drive) -> None:
    keys = {**BY_ID, "connection_url": "postgresql+psycopg://u@127.0.0.1:1/x", "connection_backoff_ms": "7s"}

    with pytest.raises(RetriableError) as raised:
        drive(**keys)
    assert raised.value.delay == 7.0
    with pytest.raises(InfrastructureError) as given_up:
        drive(**keys, connection_attempts="1")
    assert given_up.value.code == "sql.unreachable"
    assert "connection.attempts" in given_up.value.hint


def test_a_missing_database_is_an_error(check: Callable[..., list[Finding]], database: str) -> None:
    url = make_url(database).set(database="no_such_database").render_as_string(hide_password=False)

    assert codes(check(**BY_ID, connection_url=url)) == [("sql.missing_database", "connection.url", "error")]


def test_an_unknown_user_is_an_error(check: Callable[..., list[Finding]], database: str) -> None:
    url = make_url(database).set(username="nobody_here", password=SECRET).render_as_string(hide_password=False)
    [finding] = check(**BY_ID, connection_url=url)

    assert (finding.code, finding.key) == ("sql.authentication", "connection.url")
    assert "nobody_here" in finding.message
    assert SECRET not in str(finding)


def test_a_wrong_password_is_an_error(private_stack: Callable[..., EmbeddedStack]) -> None:
    """On a separate server that requires passwords: the shared one trusts local users."""
    url = make_url(private_stack("postgres").postgres.url)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'right'; CREATE TABLE orders (id int PRIMARY KEY)")
        connection.execute("GRANT SELECT ON orders TO reader")
        [path] = connection.execute("SHOW hba_file").fetchone() or [""]
        rules = "host all reader all scram-sha-256", "local all reader scram-sha-256"
        Path(path).write_text("\n".join((*rules, Path(path).read_text())))
        connection.execute("SELECT pg_reload_conf()")

    def keys_of(password: str) -> dict[str, str]:
        own = url.set(username="reader", password=password).render_as_string(hide_password=False)
        return {"connection.url": own, "mode": "incrementing", "table.whitelist": "orders", "topic.prefix": "t."}

    def checked(password: str) -> list[Finding]:
        return list(SqlSourceConnector().check(keys_of(password)))

    eventually(lambda: checked(SECRET) != [])  # the server reloads its rules at an unknown time
    [finding] = checked(SECRET)
    assert checked("right") == []
    assert (finding.code, finding.key) == ("sql.authentication", "connection.url")
    assert "reader" in finding.message
    assert SECRET not in str(finding)
    [finding] = SqlSourceConnector().check(keys_of("right") | {"connection.password": SECRET})
    assert (finding.code, finding.key) == ("sql.authentication", "connection.password")


def test_a_missing_table_names_the_nearest(check: Callable[..., list[Finding]]) -> None:
    [finding] = check(table_whitelist="order")

    assert (finding.code, finding.key) == ("sql.missing_table", "table.whitelist")
    assert "'orders'" in finding.hint


def test_connect_rest_27_a_missing_column_fails_and_names_the_nearest(
    check: Callable[..., list[Finding]], drive: Drive
) -> None:
    keys = BY_TIME | {"timestamp_column_name": "att"}
    [finding] = check(**keys)

    assert (finding.code, finding.key) == ("sql.missing_column", "timestamp.column.name")
    assert "'at'" in finding.hint
    with pytest.raises(ConfigError) as raised:
        drive(**keys)
    assert raised.value.code == "sql.missing_column"


def test_a_cursor_without_an_index_is_a_warning_with_the_statement_to_run(
    check: Callable[..., list[Finding]], sql: Sql
) -> None:
    [finding] = check(**BY_TIME)
    assert (finding.code, finding.key, finding.severity) == ("sql.no_index", "timestamp.column.name", "warning")

    sql(finding.hint.removeprefix("run: "))
    assert check(**BY_TIME) == []


def test_the_suggested_index_on_coalesced_columns_is_used(check: Callable[..., list[Finding]], sql: Sql) -> None:
    keys = BY_TIME | {"timestamp_column_name": "seen,at"}
    [finding] = check(**keys)
    assert finding.code == "sql.no_index"

    sql(finding.hint.removeprefix("run: "))
    assert check(**keys) == []


@pytest.mark.parametrize(
    ("keys", "code", "key"),
    [
        (BY_TIME | {"timestamp_column_name": "note"}, "sql.cursor_type", "timestamp.column.name"),
        (BY_TIME | {"timestamp_column_name": "at,naive"}, "sql.cursor_type", "timestamp.column.name"),
        (BY_ID | {"incrementing_column_name": "at"}, "sql.cursor_type", "incrementing.column.name"),
        (BY_TIME | {"timestamp_column_name": "seen"}, "sql.nullable_cursor", "timestamp.column.name"),
    ],
)
def test_a_column_that_cannot_be_a_cursor_is_an_error(
    check: Callable[..., list[Finding]], keys: dict[str, str], code: str, key: str
) -> None:
    assert (code, key, "error") in codes(check(**keys))


def test_e16_an_id_of_text_is_an_error(check: Callable[..., list[Finding]]) -> None:
    assert codes(check(**BY_ID | {"incrementing_column_name": "note"}))[0] == (
        "sql.cursor_type", "incrementing.column.name", "error",
    )  # fmt: skip


def test_a_missing_privilege_for_one_table_hides_no_other_mistake(
    check: Callable[..., list[Finding]], database: str, sql: Sql, role: str, drive: Drive
) -> None:
    sql(f"CREATE TABLE secret (id int PRIMARY KEY); CREATE TABLE zero (nr int); GRANT SELECT ON orders, zero TO {role}")
    url = make_url(database).set(username=role, password="right").render_as_string(hide_password=False)
    keys = {"table_whitelist": "orders,secret,zero", "connection_url": url}
    found = {item.code: item.message for item in check(**keys) if item.severity == "error"}

    assert found.keys() == {"sql.forbidden", "sql.missing_column"}
    assert "secret" in found["sql.forbidden"]
    assert "zero" in found["sql.missing_column"]
    with pytest.raises(ConfigError) as raised:
        drive(**keys)
    assert raised.value.code == "sql.missing_column"


def test_a_statement_cancelled_by_a_timeout_is_retried(drive: Drive) -> None:
    driver = drive(
        query="SELECT 1 AS id, pg_sleep(20)::text AS slept", mode="bulk", connection_options="-c statement_timeout=1000"
    )
    with pytest.raises(RetriableError) as raised:
        driver.drain()

    assert raised.value.code == "sql.busy"


def test_a_value_that_the_driver_cannot_decode_is_reported_with_its_row(drive: Drive, sql: Sql) -> None:
    sql("INSERT INTO orders (id, at) VALUES (1, now()), (2, 'infinity')")
    with pytest.raises(TaskError) as raised:
        drive(**BY_ID).drain()

    assert raised.value.code == "sql.bad_value"
    assert "id=2" in raised.value.message
    assert "infinity" in raised.value.message


def test_f9b_a_table_without_columns_gives_empty_records(drive: Drive, sql: Sql) -> None:
    sql("CREATE TABLE e (); INSERT INTO e DEFAULT VALUES")

    assert values(drive(table_whitelist="e", mode="bulk")) == [{}]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("kind", ["real", "double precision"])
def test_f15_a_float_that_json_lacks_names_its_row_and_the_key_to_set(
    drive: Drive, sql: Sql, kind: str, value: str
) -> None:
    sql(f"CREATE TABLE n (id int PRIMARY KEY, d {kind} NOT NULL); INSERT INTO n VALUES (1, 1.5), (2, '{value}')")
    keys = {"table_whitelist": "n", "incrementing_column_name": "id"}
    with pytest.raises(TaskError) as raised:
        drive(**keys).drain()

    assert raised.value.code == "sql.bad_value"
    assert "id=2" in raised.value.message
    assert "float.not.finite" in raised.value.hint
    assert [row["d"] for row in values(drive(**keys, float_not_finite="text"))] == ["1.5", value]
    assert [row["d"] for row in values(drive(**keys, float_not_finite="null"))] == [1.5, None]


def test_f19_columns_that_differ_only_by_case_are_different(drive: Drive, sql: Sql) -> None:
    sql("CREATE TABLE c (id int PRIMARY KEY, name text); INSERT INTO c VALUES (1, 'a')")
    query = 'SELECT id, name, upper(name) AS "NAME" FROM c'

    assert values(drive(query=query, incrementing_column_name="id")) == [{"id": 1, "name": "a", "NAME": "A"}]


def test_c4_a_missing_column_of_a_query_names_the_query(check: Callable[..., list[Finding]]) -> None:
    [finding] = check(query="SELECT nothing FROM orders", mode="bulk")

    assert "query" in finding.hint
    assert "timestamp.column.name" not in finding.hint


@pytest.fixture
def ascii_database(database: str, sql: Sql, unique_name: str) -> Iterator[str]:
    """The URL of a database without an encoding: row 2 is not UTF-8, row 4 not Windows-1252."""
    name = f"{unique_name}_ascii"
    sql(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    url = make_url(database).set(drivername="postgresql", database=name)
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY, t text)")
        connection.execute(rb"INSERT INTO a VALUES (1, 'x'), (2, E'caf\xe9'), (3, 'y'), (4, E'\x81')")
    yield url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_f10_a_database_without_an_encoding_requires_a_client_encoding(drive: Drive, ascii_database: str) -> None:
    keys = {"table_whitelist": "a", "incrementing_column_name": "id"}
    with pytest.raises(ConfigError) as raised:
        drive(**keys, connection_url=ascii_database).drain()

    assert raised.value.code == "sql.encoding"
    assert "SQL_ASCII" in raised.value.message
    assert "connection.client_encoding" in raised.value.hint
    latin = values(drive(**keys, connection_url=f"{ascii_database}?client_encoding=LATIN1"))
    assert [row["t"] for row in latin] == ["x", "café", "y", "\x81"]


@pytest.mark.parametrize(
    ("encoding", "code", "said"),
    [("WIN1252", "sql.bad_value", "id=4"), ("UTF8", "sql.encoding", "invalid byte sequence")],
    ids=["refused by the driver", "refused by the server"],
)
def test_f10_text_that_is_not_in_the_encoding_is_one_clear_error(
    drive: Drive, ascii_database: str, encoding: str, code: str, said: str
) -> None:
    url = f"{ascii_database}?client_encoding={encoding}"
    with pytest.raises(TaskError) as raised:
        drive(table_whitelist="a", incrementing_column_name="id", connection_url=url).drain()

    assert raised.value.code == code
    assert said in raised.value.message


def test_f18_row_level_security_that_hides_rows_is_a_warning(
    sql: Sql,
    check: Callable[..., list[Finding]],
    properties: Callable[..., dict[str, str]],
    unique_name: str,
) -> None:
    """A warning of check and a condition in the status: hidden rows are never read."""
    reader = f"{unique_name}_reader"
    sql(
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON orders USING (note = current_setting('app.tenant', true));"
        f"CREATE ROLE {reader} LOGIN PASSWORD 'r'; GRANT SELECT ON orders TO {reader}"
    )
    try:
        found = check(**BY_ID, connection_user=reader, connection_password="r")
        assert [(item.code, item.key, item.severity) for item in found] == [
            ("sql.row_security", "connection.user", "warning")
        ]
        assert f"hides rows from user {reader}" in found[0].message
        assert f"ALTER ROLE {reader} BYPASSRLS;" in found[0].hint
        assert check(**BY_ID) == []  # a superuser sees all rows
        raised: list[tuple[str, str]] = []

        def raise_condition(code: str, text: str, hint: str = "", *, count: int = 0, example: str = "") -> None:
            raised.append((code, hint))

        task = SqlSourceTask()
        keys = properties(**BY_ID, connection_user=reader, connection_password="r")
        task.start(make_source_context(keys, raise_condition=raise_condition))
        task.stop()
        assert raised == [("sql.row_security", found[0].hint)]
    finally:
        sql(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def values(driver: SourceDriver) -> list[Any]:
    return [value for batch in driver.drain() for value in batch.values]
