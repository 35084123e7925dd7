"""The selected tables, and problems that prevent reading them, with a SQLite file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import ConfigError, Finding, RetriableError
from headrace import schema as schemas
from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.access.session import Session
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.inspection import inspect_relation
from headrace_sources.sql.tables.assignment import assigned_tables, assignment_text, contiguous_blocks, reassign
from headrace_sources.sql.tables.selection import topic_of, wanted_tables

Properties = Callable[..., dict[str, str]]
Sqlite = Callable[[str], list[Any]]


@pytest.fixture
def tables(properties: Properties) -> Callable[..., list[str]]:
    """Return ``tables(**keys)``, the names of the selected tables."""

    def find(**keys: str) -> list[str]:
        config = SqlSourceConfig.parse(properties(**keys))
        session = Session(config)
        try:
            with session.reading("tables") as connection:
                return [str(table) for table in wanted_tables(connection, session.dialect, config)]
        finally:
            session.release()

    return find


@pytest.fixture
def check(properties: Properties) -> Callable[..., list[Finding]]:
    """Return ``check(**keys)``, the findings of ``headrace check``."""

    def run(**keys: str) -> list[Finding]:
        return list(SqlSourceConnector().check(properties(**keys)))

    return run


def codes(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(item.code, item.key, item.severity) for item in findings]


@pytest.fixture(autouse=True)
def schema(sqlite: Sqlite) -> None:
    sqlite(
        """
        CREATE TABLE orders (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, updated TIMESTAMP, note TEXT);
        CREATE TABLE lines (order_id INTEGER, line INTEGER, price NUMERIC(10,2), PRIMARY KEY (order_id, line));
        CREATE TABLE log (text TEXT);
        CREATE VIEW open_orders AS SELECT * FROM orders;
        """
    )


def test_the_whitelist_selects_tables(tables: Callable[..., list[str]]) -> None:
    assert tables(table_whitelist="orders, lines") == ["lines", "orders"]


def test_the_blacklist_excludes_tables(tables: Callable[..., list[str]]) -> None:
    assert tables(table_blacklist="log") == ["lines", "orders"]


def test_e44_views_are_included_if_configured(tables: Callable[..., list[str]]) -> None:
    assert tables(table_blacklist="log", table_types="table,view") == ["lines", "open_orders", "orders"]
    assert tables(table_whitelist="open_orders", table_types="VIEW") == ["open_orders"]


def test_each_missing_table_is_named_with_the_nearest(tables: Callable[..., list[str]]) -> None:
    with pytest.raises(ConfigError) as raised:
        tables(table_whitelist="order, linse, lines, nothing_like_it")

    found = {item.message.split("'")[1]: item.hint for item in raised.value.findings}
    assert found.keys() == {"order", "linse", "nothing_like_it"}
    assert "'orders'" in found["order"]
    assert "'lines'" in found["linse"]
    assert "table.types" in found["nothing_like_it"]


def test_trial_6_a_pattern_in_a_list_of_names_is_reported_with_the_key_for_patterns(
    tables: Callable[..., list[str]],
) -> None:
    with pytest.raises(ConfigError) as raised:
        tables(table_whitelist="main.*")

    assert "table.include.list" in raised.value.findings[0].hint


def test_a_name_in_another_case_is_found_only_without_quoting(
    tables: Callable[..., list[str]],
) -> None:
    with pytest.raises(ConfigError):
        tables(table_whitelist="ORDERS")

    assert tables(table_whitelist="ORDERS", quote_sql_identifiers="never") == ["orders"]


def test_a_blacklist_that_leaves_no_table_is_an_error(tables: Callable[..., list[str]]) -> None:
    with pytest.raises(ConfigError) as raised:
        tables(table_blacklist="orders,lines,log")

    assert raised.value.code == "sql.missing_table"


def test_include_and_exclude_lists_select_tables(tables: Callable[..., list[str]]) -> None:
    assert tables(table_include_list="lo.,or.*") == ["log", "orders"]
    assert tables(table_include_list=".*", table_exclude_list="l.*") == ["orders"]
    assert tables(table_include_list=".*", table_types="TABLE,VIEW", table_exclude_list="orders") == [
        "lines", "log", "open_orders",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        ({"table_include_list": "order"}, "'orders'"),  # the whole name must match
        ({"table_include_list": "ORDERS"}, "lines"),  # case counts
        ({"table_include_list": "xyz"}, "such as lines"),
    ],
)
def test_e42_an_include_list_without_a_match_is_an_error(
    tables: Callable[..., list[str]], keys: dict[str, str], hint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        tables(**keys)

    [finding] = raised.value.findings
    assert (finding.code, finding.key) == ("sql.missing_table", "table.include.list")
    assert hint in finding.hint


def test_e42_an_exclude_list_that_leaves_no_table_is_an_error(tables: Callable[..., list[str]]) -> None:
    with pytest.raises(ConfigError) as raised:
        tables(table_include_list="l.*", table_exclude_list=".*")

    assert "table.exclude.list leaves out every table" in raised.value.findings[0].message


def test_the_whitelist_takes_precedence_over_the_blacklist(tables: Callable[..., list[str]]) -> None:
    assert tables(table_whitelist="log", table_blacklist="log,orders") == ["log"]


def test_an_unknown_catalog_is_an_error(tables: Callable[..., list[str]], path: Path) -> None:
    assert tables(table_whitelist="log", catalog_pattern=str(path)) == ["log"]
    with pytest.raises(ConfigError) as raised:
        tables(table_whitelist="log", catalog_pattern="elsewhere")
    assert raised.value.findings[0].key == "catalog.pattern"


def test_cursor_columns_are_mapped_by_table(check: Callable[..., list[Finding]], sqlite: Sqlite) -> None:
    sqlite("CREATE TABLE events (n INTEGER NOT NULL, moment TIMESTAMP NOT NULL)")
    keys = {
        "table_include_list": "orders|events",
        "mode": "timestamp+incrementing",
        "timestamp_columns_mapping": "ord.*:[updated|at],eve.*:moment",
        "incrementing_column_mapping": "events:n",
    }

    assert [item for item in check(**keys) if item.severity == "error"] == []
    found = check(**keys | {"timestamp_columns_mapping": "orders:[at],eve.*:momen"})
    assert [(i.code, i.key) for i in found if i.severity == "error"] == [
        ("sql.missing_column", "timestamp.columns.mapping")
    ]


def test_a_table_matches_one_entry_of_a_mapping(check: Callable[..., list[Finding]]) -> None:
    keys = {"table_include_list": "orders|lines", "mode": "timestamp"}

    found = check(**keys, timestamp_columns_mapping="or.*:at,.*ers:at")
    assert ("sql.ambiguous_mapping", "timestamp.columns.mapping", "error") in codes(found)
    assert ("sql.unmapped_table", "timestamp.columns.mapping", "error") in codes(found)  # lines
    # Tables without an entry have the column of all tables.
    found = check(**keys, timestamp_columns_mapping="lines:line", timestamp_column_name="at")
    assert [item for item in codes(found) if item[2] == "error"] == []


def test_a_valid_table_has_no_findings(check: Callable[..., list[Finding]]) -> None:
    assert check(table_whitelist="orders") == []


def test_the_incrementing_column_is_the_primary_key_when_none_is_named(check: Callable[..., list[Finding]]) -> None:
    [finding] = check(table_whitelist="lines")

    assert (finding.code, finding.key) == ("sql.missing_column", "incrementing.column.name")


def test_a_missing_column_names_the_nearest(check: Callable[..., list[Finding]]) -> None:
    [finding] = check(table_whitelist="orders", mode="timestamp", timestamp_column_name="updatd")

    assert (finding.code, finding.key) == ("sql.missing_column", "timestamp.column.name")
    assert "'updated'" in finding.hint


def test_a_column_is_found_in_another_case_if_it_is_unique(check: Callable[..., list[Finding]]) -> None:
    assert codes(check(table_whitelist="orders", incrementing_column_name="ID")) == []


def test_trial_7_a_table_without_a_single_id_is_reported_with_the_possible_modes(
    sqlite: Sqlite, check: Callable[..., list[Finding]]
) -> None:
    sqlite("CREATE TABLE pairs (a INTEGER, b INTEGER, PRIMARY KEY (a, b))")
    (found,) = check(table_whitelist="pairs", mode="incrementing")

    assert found.code == "sql.missing_column"
    assert "mode bulk" in found.hint
    assert "table.exclude.list" in found.hint


def test_every_table_is_inspected(check: Callable[..., list[Finding]]) -> None:
    found = check(table_whitelist="lines,log,orders", mode="timestamp", timestamp_column_name="at")

    assert sorted(item.message for item in found if item.code == "sql.missing_column") == [
        "table lines has no column 'at'",
        "table log has no column 'at'",
    ]


def test_e30_only_nullable_timestamp_columns_are_an_error(check: Callable[..., list[Finding]]) -> None:
    keys = {"table_whitelist": "orders", "mode": "timestamp", "timestamp_column_name": "updated"}

    assert ("sql.nullable_cursor", "timestamp.column.name", "error") in codes(check(**keys))
    assert [item for item in codes(check(**keys, validate_non_null="false")) if item[2] == "error"] == []


def test_e31_one_of_two_timestamp_columns_may_be_nullable(check: Callable[..., list[Finding]]) -> None:
    found = check(table_whitelist="orders", mode="timestamp", timestamp_column_name="updated,at")

    assert [item for item in codes(found) if item[2] == "error"] == []


def test_a_nullable_incrementing_column_is_an_error(check: Callable[..., list[Finding]], sqlite: Sqlite) -> None:
    sqlite("CREATE TABLE loose (n INTEGER)")

    assert codes(check(table_whitelist="loose", incrementing_column_name="n")) == [
        ("sql.nullable_cursor", "incrementing.column.name", "error")
    ]


def test_rows_that_are_never_read_are_reported(check: Callable[..., list[Finding]], sqlite: Sqlite) -> None:
    keys = {
        "table_whitelist": "orders",
        "mode": "timestamp",
        "timestamp_column_name": "updated",
        "validate_non_null": "false",
    }
    sqlite("INSERT INTO orders VALUES (1, '2024-01-01 00:00:00', '2024-01-01 00:00:00', '')")
    assert "sql.null_cursor" not in [item.code for item in check(**keys)]

    sqlite("INSERT INTO orders VALUES (2, '2024-01-01 00:00:00', NULL, '')")
    assert ("sql.null_cursor", "timestamp.column.name", "warning") in codes(check(**keys))


def test_a_cursor_without_an_index_is_reported_with_the_statement_that_creates_it(
    check: Callable[..., list[Finding]], sqlite: Sqlite
) -> None:
    keys = {"table_whitelist": "orders", "mode": "timestamp+incrementing", "timestamp_column_name": "at"}
    [finding] = check(**keys)
    assert (finding.code, finding.severity) == ("sql.no_index", "warning")

    sqlite(finding.hint.removeprefix("run: "))
    assert check(**keys) == []


def test_an_incrementing_column_of_text_is_an_error(check: Callable[..., list[Finding]]) -> None:
    assert codes(check(table_whitelist="orders", incrementing_column_name="note")) == [
        ("sql.cursor_type", "incrementing.column.name", "error"),
        ("sql.nullable_cursor", "incrementing.column.name", "error"),
    ]


def test_a_missing_primary_key_or_key_column_is_an_error(check: Callable[..., list[Finding]]) -> None:
    bulk = {"mode": "bulk"}
    assert codes(check(table_whitelist="log", pk_mode="primary_key", **bulk)) == [
        ("sql.no_primary_key", "pk.mode", "error")
    ]
    assert codes(check(table_whitelist="log", pk_mode="fields", pk_fields="texd", **bulk)) == [
        ("sql.missing_column", "pk.fields", "error")
    ]
    assert check(table_whitelist="lines", pk_mode="primary_key", **bulk) == []


def test_a_missing_file_is_an_error(check: Callable[..., list[Finding]], tmp_path: Path) -> None:
    found = check(table_whitelist="orders", connection_url=f"sqlite:///{tmp_path}/other.db")

    assert codes(found) == [("sql.missing_database", "connection.url", "error")]
    assert not (tmp_path / "other.db").exists()


def test_a_file_that_is_not_a_database_is_an_error(check: Callable[..., list[Finding]], tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is a letter, not a database" * 10)

    assert codes(check(table_whitelist="a", connection_url=f"sqlite:///{tmp_path}/text.db")) == [
        ("sql.missing_database", "connection.url", "error")
    ]


def test_a_driver_that_is_not_installed_is_an_error(check: Callable[..., list[Finding]]) -> None:
    [finding] = check(table_whitelist="a", connection_url="firebird+nosuch://h/d")

    assert (finding.code, finding.key) == ("sql.driver", "connection.url")


def test_a_query_that_fails_is_reported_with_the_reason(
    check: Callable[..., list[Finding]], properties: Properties
) -> None:
    base = {"incrementing_column_name": "id"}
    assert [i.code for i in check(query="SELECT id FROM nowhere", **base)] == ["sql.missing_table"]
    assert [i.code for i in check(query="SELECT ident AS id FROM orders", **base)] == ["sql.missing_column"]
    assert [i.code for i in check(query="SELECT id FROM orders WHERE", **base)] == ["sql.query_failed"]
    assert check(query="SELECT id FROM orders", **base) == []
    assert [(i.code, i.key) for i in check(query="SELECT at FROM orders", **base)] == [
        ("sql.missing_column", "incrementing.column.name")
    ]


def test_columns_of_a_primary_key_are_not_nullable(properties: Properties) -> None:
    config = SqlSourceConfig.parse(properties(table_whitelist="lines", mode="bulk"))
    session = Session(config)
    with session.reading("lines") as connection:
        target, findings = inspect_relation(connection, session.dialect, config, TableName(None, "lines"))
    session.release()

    assert findings == []
    assert target is not None
    assert [(column.name, column.nullable) for column in target.columns] == [
        ("order_id", False),
        ("line", False),
        ("price", True),
    ]


def names(count: int) -> list[TableName]:
    return [TableName("s", f"t{number}") for number in range(count)]


def test_e39_seven_tables_are_divided_into_contiguous_blocks_for_three_tasks() -> None:
    assert [len(block) for block in contiguous_blocks(names(7), 3)] == [3, 2, 2]
    assert [table for block in contiguous_blocks(names(7), 3) for table in block] == names(7)


def test_e40_there_are_no_more_tasks_than_tables() -> None:
    assert [len(block) for block in contiguous_blocks(names(2), 10)] == [1, 1]


def test_e40_a_query_has_one_task(properties: Properties) -> None:
    assert len(SqlSourceConnector().task_configs(properties(query="SELECT 1", mode="bulk"), 10)) == 1


@given(st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=1, max_size=6), st.integers(1, 5))
def test_reassignment_moves_as_few_tables_as_possible(moments: list[set[int]], most: int) -> None:
    every = names(13)
    shares = contiguous_blocks([every[n] for n in sorted(moments[0])], most)
    for moment in moments[1:]:
        tables = [every[number] for number in sorted(moment)]
        before, shares = shares, reassign(shares, tables, most)

        assert sorted(table for share in shares for table in share) == sorted(tables)
        assert 1 <= len(shares) <= most
        assert all(shares)
        if {table for share in before for table in share} == set(tables):
            assert shares == before
        new = set(tables) - {table for share in before for table in share}
        changed = [number for number, share in enumerate(before) if shares[number : number + 1] != [share]]
        touched = [share for share in before if not set(share) <= set(tables)]
        # The tables of a task change if one was dropped or created, or if the last task took its number.
        assert len(changed) <= 2 * len(touched) + len(new)


def test_a_new_table_gets_its_own_task_below_tasks_max() -> None:
    one, two, three, four = names(4)

    assert reassign([[one], [two]], [one, two, three], 3) == [[one], [two], [three]]
    assert reassign([[one, two], [three]], [one, two, three, four], 2) == [[one, two], [three, four]]
    assert reassign([[one], [two], [three]], [two, three], 3) == [[three], [two]]


def test_e41_a_created_table_is_read_without_a_restart_of_the_others(properties: Properties, sqlite: Sqlite) -> None:
    keys = properties(table_include_list="o.*|n.*", mode="bulk")
    connector = SqlSourceConnector()
    before = connector.task_configs(keys, 5)
    assert connector.follow(keys, 5, before) == before

    sqlite("CREATE TABLE news (id INTEGER PRIMARY KEY)")
    after = connector.follow(keys, 5, before)
    assert after[:-1] == before
    assert assigned_tables(SqlSourceConfig.parse(after[-1])) == [TableName(None, "news")]

    sqlite("DROP TABLE orders")
    assert [assigned_tables(SqlSourceConfig.parse(own)) for own in connector.follow(keys, 5, after)] == [
        [TableName(None, "news")]
    ]


def test_the_watch_interval_is_that_of_the_configuration(properties: Properties) -> None:
    connector = SqlSourceConnector()

    assert connector.watch_interval(properties(table_whitelist="orders")) == 60.0
    assert connector.watch_interval(properties(table_whitelist="orders", table_poll_interval_ms="5s")) == 5.0
    assert connector.watch_interval(properties(table_whitelist="orders", table_poll_interval_ms="0")) is None
    assert connector.watch_interval(properties(query="SELECT 1 AS id", mode="bulk")) is None


def test_tables_are_written_into_the_configuration_of_a_task(properties: Properties) -> None:
    found = [TableName(None, "a,b"), TableName('s"', "c\nd")]
    config = SqlSourceConfig.parse(properties(tables=assignment_text(found)))

    assert assigned_tables(config) == found


@pytest.mark.parametrize(
    ("keys", "table", "topic"),
    [
        ({"topic_prefix": "x."}, TableName("s", "t"), "x.t"),
        ({"topic_prefix": "x."}, TableName(None, "t"), "x.t"),
        ({"topic_prefix": "x.", "topic_name_format": "${schema}.${table}"}, TableName("s", "t"), "x.s.t"),
        ({"topic_prefix": "all", "topic_name_format": ""}, TableName("s", "t"), "all"),
        ({"topic_prefix": "x.", "topic_name_format": "${schema}.${table}"}, None, "x."),
    ],
)
def test_topic_names_follow_prefix_and_format(
    properties: Properties, keys: dict[str, str], table: TableName | None, topic: str
) -> None:
    assert topic_of(SqlSourceConfig.parse(properties(table_whitelist="t", **keys)), table) == topic


def test_a_cursor_column_of_a_query_may_have_a_table_prefix(check: Callable[..., list[Finding]]) -> None:
    """The JVM's connector requires the prefix where two tables have the column."""
    query = "SELECT o.id, o.note FROM orders o JOIN lines l ON l.order_id = o.id"

    assert check(query=query, incrementing_column_name="o.id") == []


def test_f12_a_table_whose_name_is_no_topic_name_is_reported_and_the_others_are_read(
    sqlite: Sqlite, check: Callable[..., list[Finding]], drive: Callable[..., SourceDriver]
) -> None:
    sqlite(
        """
        CREATE TABLE "Order Details" (id INTEGER PRIMARY KEY); INSERT INTO "Order Details" VALUES (1);
        INSERT INTO orders VALUES (7, '2024-01-01', NULL, NULL);
        """
    )
    [finding] = check(table_whitelist="Order Details,orders", mode="bulk")
    assert (finding.code, finding.key, finding.severity) == ("sql.topic_name", "topic.prefix", "error")
    assert 'query: SELECT * FROM "Order Details"' in finding.hint

    driver = drive(table_whitelist="Order Details,orders", mode="bulk")
    assert driver.batch().topic == "t.orders"
    assert "'t.Order Details' is not the name of a topic" in str(driver.status_reasons.current)


def test_a_table_whose_name_is_no_topic_name_fails_a_task_that_reads_nothing_else(
    sqlite: Sqlite, drive: Callable[..., SourceDriver]
) -> None:
    sqlite('CREATE TABLE "Order Details" (id INTEGER PRIMARY KEY);')
    with pytest.raises(ConfigError) as raised:
        drive(table_whitelist="Order Details", mode="bulk")
    assert raised.value.code == "sql.topic_name"


def test_topics_have_keys_and_types_after_an_inspection(properties: Properties) -> None:
    given = properties(table_whitelist="orders,log", mode="bulk", delete_detection="soft", delete_soft_column="note")
    topics = {topic.name: topic for topic in SqlSourceConnector().produced_topics(given, connect=True)}
    assert topics.keys() == {"t.orders"}  # soft deletes need a key, which `log` lacks: it cannot be read
    assert topics["t.orders"].keyed is True
    assert topics["t.orders"].deletes_by == "delete.detection: soft"
    assert topics["t.orders"].fields["at"].name == schemas.TIMESTAMP
    unknown = SqlSourceConnector().produced_topics(given, connect=False)
    assert [(topic.name, topic.keyed) for topic in unknown] == [("t.orders", None), ("t.log", None)]


@pytest.mark.parametrize("tables", ['"public"."orders","public"."items"', "public.orders", "`shop`.`orders`"])
def test_tables_that_the_jvms_connector_has_assigned_wait_for_those_of_this_one(
    properties: Properties, tables: str
) -> None:
    """A cluster that is taken over has such tasks until its connector has read the list of tables."""
    with pytest.raises(RetriableError, match=r"assigned by a worker of Kafka Connect") as caught:
        assigned_tables(SqlSourceConfig.parse(properties(tables=tables)))
    assert caught.value.code == "sql.foreign_tables"
