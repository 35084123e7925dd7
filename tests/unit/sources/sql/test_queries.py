"""Statements: bounds, order and quoting; a user's query keeps its joins, conditions and operators."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import registry

from headrace import ConfigError
from headrace_sources.sql.configuration.syntax import inner_text, limits_rows, query_findings
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.tables.queries import Bounds, Cursor, Relation, probe, statement, without_cursor

POSTGRES: Any = registry.load("postgresql")()
SQLITE: Any = registry.load("sqlite")()
USERS = Relation(TableName("public", "users"))
IDS = st.integers(0, 6)


def sql(query: Any) -> str:
    compiled = query.compile(dialect=POSTGRES, compile_kwargs={"literal_binds": True})
    return " ".join(str(compiled).split())


@pytest.mark.parametrize(
    ("cursor", "bounds", "expected"),
    [
        (Cursor(), Bounds(), 'SELECT * FROM "public"."users"'),
        (
            Cursor(incrementing="id"),
            Bounds(),
            'SELECT * FROM "public"."users" WHERE "id" IS NOT NULL ORDER BY "id"',
        ),
        (
            Cursor(incrementing="id"),
            Bounds(after_id=7),
            'SELECT * FROM "public"."users" WHERE "id" > 7 ORDER BY "id"',
        ),
        (Cursor(("at",)), Bounds(before=9), 'SELECT * FROM "public"."users" WHERE "at" < 9 ORDER BY "at"'),
        (
            Cursor(("at",)),
            Bounds(after=5, before=9),
            'SELECT * FROM "public"."users" WHERE "at" < 9 AND "at" > 5 ORDER BY "at"',
        ),
        (
            Cursor(("at",), "id"),
            Bounds(after=5, after_id=7, before=9),
            'SELECT * FROM "public"."users" WHERE "at" < 9 AND "at" >= 5 AND ("at" > 5 OR "at" = 5 AND "id" > 7) '
            'ORDER BY "at", "id"',
        ),
        (
            Cursor(("at",), "id"),
            Bounds(after=5, before=9),
            'SELECT * FROM "public"."users" WHERE "at" < 9 AND "at" >= 5 ORDER BY "at", "id"',
        ),
        (
            Cursor(("updated", "created")),
            Bounds(after=5, before=9),
            'SELECT * FROM "public"."users" WHERE coalesce("updated", "created") < 9 AND '
            'coalesce("updated", "created") > 5 ORDER BY coalesce("updated", "created")',
        ),
    ],
)
def test_statements_have_bounds_and_order_of_the_cursor(cursor: Cursor, bounds: Bounds, expected: str) -> None:
    assert sql(statement(USERS, cursor, bounds)) == expected


def test_e57_the_suffix_is_appended_last() -> None:
    assert sql(statement(USERS, Cursor(incrementing="id"), Bounds(), "FOR READ ONLY")).endswith(
        'ORDER BY "id" FOR READ ONLY'
    )
    assert sql(statement(USERS, Cursor(), Bounds(), "FOR READ ONLY")) == 'SELECT * FROM "public"."users" FOR READ ONLY'


def test_e60_names_are_folded_by_the_database_when_they_are_not_quoted() -> None:
    relation = Relation(TableName("public", "Users"), quote=False)

    assert sql(statement(relation, Cursor(incrementing="Id"), Bounds(after_id=1))) == (
        "SELECT * FROM public.Users WHERE Id > 1 ORDER BY Id"
    )


def test_names_are_quoted_safely() -> None:
    relation = Relation(TableName(None, 'a"; DROP TABLE b; --'))

    assert sql(probe(relation)) == 'SELECT * FROM "a""; DROP TABLE b; --" WHERE 1 = 0'


def test_rows_without_a_cursor_value_are_selected() -> None:
    assert sql(without_cursor(USERS, Cursor(("a", "b"), "id"))) == (
        'SELECT 1 FROM "public"."users" WHERE coalesce("a", "b") IS NULL OR "id" IS NULL LIMIT 1'
    )


@pytest.fixture
def users() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    connection.executescript("CREATE TABLE users (id int, at int); CREATE TABLE names (id int, name text);")
    yield connection
    connection.close()


def rows(connection: sqlite3.Connection, query: Any) -> list[tuple[Any, ...]]:
    compiled = query.compile(dialect=SQLITE)
    return connection.execute(str(compiled), [compiled.params[name] for name in compiled.positiontup or ()]).fetchall()


@given(st.lists(st.tuples(IDS, IDS | st.none()), max_size=20), IDS, st.none() | IDS, IDS)
def test_bounds_select_the_rows_within_them(
    stored: Sequence[tuple[int, int | None]], after: int, after_id: int | None, before: int
) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE users (id int, at int)")
        connection.executemany("INSERT INTO users VALUES (?, ?)", stored)
        users = Relation(TableName(None, "users"))

        both = rows(connection, statement(users, Cursor(("at",), "id"), Bounds(after, after_id, before)))
        by_time = rows(connection, statement(users, Cursor(("at",)), Bounds(after, before=before)))
        by_id = rows(connection, statement(users, Cursor(incrementing="id"), Bounds(after_id=after)))
    connection.close()

    there = [(identity, at) for identity, at in stored if at is not None]
    wanted = [
        (identity, at)
        for identity, at in there
        if at < before and (at > after or (at == after and (after_id is None or identity > after_id)))
    ]
    assert both == sorted(wanted, key=lambda row: (row[1], row[0]))
    assert sorted(by_time) == sorted(row for row in there if after < row[1] < before)
    assert [at for _, at in by_time] == sorted(at for _, at in by_time)
    assert [row[0] for row in by_id] == sorted(row[0] for row in stored if row[0] > after)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT u.id, n.name FROM users u JOIN names n ON n.id = u.id WHERE u.id > 0",
        "SELECT id, name FROM names WHERE name LIKE 'a:b%' OR name = ':x' OR name LIKE '100%'",
        "SELECT id, name FROM names ORDER BY name LIMIT 100",
        "SELECT id, name FROM names -- all of them",
        "/* these */ SELECT id, name /* and those */ FROM names; -- all; of; them",
        "WITH chosen AS (SELECT * FROM names) SELECT id, name FROM chosen",
        "SELECT id, name FROM names UNION SELECT id, 'u' FROM users",
        "SELECT id, name FROM names GROUP BY id, name HAVING count(*) > 0",
    ],
)
@pytest.mark.parametrize("cursor", [Cursor(), Cursor(incrementing="id")])
def test_a_query_keeps_its_meaning(users: sqlite3.Connection, query: str, cursor: Cursor) -> None:
    users.executescript(
        "INSERT INTO users VALUES (1, 1), (2, 2); INSERT INTO names VALUES (1, 'a:bc'), (2, ':x'), (3, '100% y');"
    )
    expected = users.execute(query).fetchall()

    assert len(expected) >= 2
    relation = Relation(None, inner_text(query, "sqlite"))
    assert sorted(rows(users, statement(relation, cursor, Bounds()))) == sorted(expected)


def test_the_end_of_an_sql_string_is_found() -> None:
    assert inner_text("  SELECT ';' AS a;;  -- done; really", "postgresql") == "SELECT ';' AS a"
    assert inner_text("SELECT `a;` FROM t # remark", "mysql") == "SELECT `a;` FROM t"
    assert inner_text("SELECT 'open", "sqlite") == "SELECT 'open"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT 1 AS id", None),
        ("(SELECT 1 AS id)", None),
        ("-- note\nSELECT 1 AS id", None),
        ("/* DELETE */ SELECT 1 AS id", None),
        ("WITH a AS (SELECT 1 AS id) SELECT * FROM a", None),  # E7: the JVM's connector refuses it
        ("SELECT id FROM a UNION ALL SELECT id FROM b", None),
        ("SELECT (SELECT x FROM b LIMIT 1) AS id FROM a", None),
        ("SELECT DISTINCT ON (id) id FROM a", None),
        ("SELECT id, 'DELETE FROM a; SELECT' AS t FROM a", None),
        ("", "sql.not_a_select"),
        ("DELETE FROM a", "sql.not_a_select"),
        ("SELECT 1; SELECT 2", "sql.not_a_select"),
        ("SELECT 1 AS id; DROP TABLE a", "sql.not_a_select"),
        ("WITH gone AS (DELETE FROM a RETURNING id) SELECT id FROM gone", "sql.not_a_select"),
        ("WITH a AS (SELECT 1) DELETE FROM b", "sql.not_a_select"),
        ("SELECT id INTO b FROM a", "sql.not_a_select"),
        ("SELECT a.id, b.id FROM a JOIN b", "sql.duplicate_column"),
        ("SELECT id, ID FROM a", "sql.duplicate_column"),
        ('SELECT name, "name" FROM a', "sql.duplicate_column"),
        ("SELECT id FROM a LIMIT 100", "sql.query_limit"),
        ("SELECT id FROM a OFFSET 3", "sql.query_limit"),
        ("SELECT id FROM a ORDER BY id FETCH FIRST 5 ROWS ONLY", "sql.query_limit"),
        ("SELECT id FROM a FOR UPDATE", "sql.query_locks"),
    ],
)
def test_a_query_is_one_select_without_limits_locks_and_duplicate_columns(query: str, code: str | None) -> None:
    found = [finding.code for finding in query_findings(query, "postgresql", "query", incremental=True)]

    assert found == ([code] if code else [])


@pytest.mark.parametrize(
    ("query", "backend", "duplicate"),
    [
        ('SELECT c1.id, c2.name, c1.name AS "NAME" FROM c1 JOIN c2 USING (id)', "postgresql", False),
        ('SELECT name, name AS "NAME" FROM a', "oracle", True),
        ('SELECT name, name AS "Name" FROM a', "oracle", False),
        ("SELECT name, name AS `NAME` FROM a", "mysql", True),
        ('SELECT name, name AS "NAME" FROM a', "sqlite", True),
        ("SELECT count(*), 1 + 1 FROM a", "postgresql", False),
    ],
)
def test_f19_names_are_equal_as_the_database_compares_them(query: str, backend: str, duplicate: bool) -> None:
    found = [finding.code for finding in query_findings(query, backend, "query", incremental=True)]

    assert found == (["sql.duplicate_column"] if duplicate else [])


def test_a_limit_is_accepted_in_mode_bulk() -> None:
    assert list(query_findings("SELECT id FROM a LIMIT 100", "postgresql", "query", incremental=False)) == []


def test_sql_that_cannot_be_parsed_has_no_findings() -> None:
    assert list(query_findings("SELECT id ÷÷ FROM (((", "sqlite", "query", incremental=True)) == []


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [("LIMIT 5", True), ("fetch first 5 rows only", True), ("FOR READ ONLY", False), ("-- unlimited", False)],
)
def test_a_suffix_that_limits_rows_is_detected(suffix: str, expected: bool) -> None:
    assert limits_rows(suffix) is expected


@pytest.mark.parametrize("name", ["secret limit 1--", 'a"b', "a b", "a;b", "a.b", "1a", "a--", "a/*", "", "a'"])
def test_without_quotes_only_a_plain_name_is_written(name: str) -> None:
    """Finding 13 of the security review: a table's name was a part of the statement."""
    with pytest.raises(ConfigError, match="plain identifier"):
        Relation(TableName(None, name), quote=False).clause()
    with pytest.raises(ConfigError, match="plain identifier"):
        Relation(TableName("public", "users"), quote=False).column(name)
    if name:
        with pytest.raises(ConfigError, match="plain identifier"):
            Relation(TableName(name, "users"), quote=False).clause()


@pytest.mark.parametrize("name", ["orders", "Orders_2", "_a", "größe", "a$b", "a#1"])
def test_plain_names_are_written_without_quotes(name: str) -> None:
    assert str(Relation(TableName(None, name), quote=False).column(name)) == name


def test_a_query_that_is_nested_too_deeply_is_refused() -> None:
    (finding,) = query_findings("SELECT " + "(" * 3_000 + "1" + ")" * 3_000, "postgresql", "query", incremental=False)
    assert finding.code == "sql.not_a_select"
    assert "nested too deeply" in finding.message
