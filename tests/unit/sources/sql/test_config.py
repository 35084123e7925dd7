"""Configuration keys: defaults of the JDBC connector, rules over several keys, and suggested fixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace import Finding
from headrace.settings import SourceSettings
from headrace_sources.sql.configuration.config import SqlSourceConfig, is_duration

LEAST = {
    "connection.url": "postgresql://h/d",
    "table.whitelist": "orders",
    "mode": "incrementing",
    "topic.prefix": "x.",
}
EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[4] / "config/connectors").glob("*.yaml"))
    if "connector.class: SqlSource" in path.read_text()
]


def validated(**keys: str | None) -> tuple[SqlSourceConfig | None, list[Finding]]:
    own = {**LEAST, **{name.replace("_", "."): value for name, value in keys.items()}}
    return SqlSourceConfig.validate_properties({name: value for name, value in own.items() if value is not None})


def errors(**keys: str | None) -> list[tuple[str, str]]:
    """(code, key) of each."""
    return [(item.code, item.key) for item in validated(**keys)[1] if item.severity == "error"]


def test_e1_defaults_are_those_of_the_jdbc_connector() -> None:
    config = SqlSourceConfig.parse(LEAST)

    assert config.poll_interval == "5000"
    assert config.batch_rows == 1000
    assert config.timestamp_delay == 0
    assert config.timezone == "UTC"
    assert config.granularity == "connect_logical"
    assert config.validate_non_null is True
    assert config.numeric == "none"


@pytest.mark.parametrize("example", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_the_examples_are_valid(example: Path) -> None:
    written: dict[str, Any] = yaml.safe_load(example.read_text())
    flat = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in written.items()}
    own = {key: value for key, value in flat.items() if not SourceSettings.owns(key)}
    own["connection.url"] = "postgresql://h/d"

    assert [item for item in SqlSourceConfig.validate_properties(own)[1] if item.severity == "error"] == []


@pytest.mark.parametrize(
    ("keys", "code", "key"),
    [
        ({"mode": ""}, "config.invalid_value", "mode"),
        ({"mode": None}, "config.missing_key", "mode"),
        ({"mode": "log"}, "config.invalid_value", "mode"),
        ({"connection_url": None}, "config.missing_key", "connection.url"),
        ({"connection_url": "nonsense"}, "sql.url", "connection.url"),
        ({"table_whitelist": None}, "sql.no_tables", "table.whitelist"),
        ({"table_include_list": ".*"}, "sql.two_table_lists", "table.include.list"),  # E4
        ({"table_blacklist": "b", "table_include_list": ".*"}, "sql.two_table_lists", "table.include.list"),
        ({"table_whitelist": None, "table_exclude_list": "a"}, "sql.no_tables", "table.include.list"),  # E9
        ({"table_whitelist": None, "table_include_list": "a["}, "config.invalid_value", "table.include.list"),
        (
            {"table_whitelist": None, "table_include_list": "a", "table_exclude_list": "("},
            "config.invalid_value",
            "table.exclude.list",
        ),
        ({"transaction_isolation_mode": "SQL_SERVER_SNAPSHOT"}, "config.invalid_value", "transaction.isolation.mode"),
        ({"incrementing_column_mapping": "orders"}, "config.invalid_value", "incrementing.column.mapping"),
        ({"incrementing_column_mapping": "orders:"}, "config.invalid_value", "incrementing.column.mapping"),
        ({"incrementing_column_mapping": "(:id"}, "config.invalid_value", "incrementing.column.mapping"),
        (
            {"mode": "timestamp", "timestamp_columns_mapping": "a:[x|]"},
            "config.invalid_value",
            "timestamp.columns.mapping",
        ),
        (
            {"mode": "timestamp", "timestamp_column_name": "at", "query_suffix": "LIMIT 5"},
            "sql.query_limit",
            "query.suffix",
        ),
        ({"topic_name_format": "${topic}"}, "config.invalid_value", "topic.name.format"),
        ({"topic_name_format": "a b"}, "config.invalid_value", "topic.name.format"),
        ({"query": "SELECT 1 AS id", "incrementing_column_name": "id"}, "sql.query_and_tables", "table.whitelist"),
        ({"topic_prefix": "a b"}, "config.invalid_value", "topic.prefix"),
        ({"topic_prefix": "x" * 250}, "config.invalid_value", "topic.prefix"),
        ({"mode": "timestamp"}, "config.missing_key", "timestamp.column.name"),
        ({"db_timezone": "Europe/Berlim"}, "config.invalid_value", "db.timezone"),
        ({"poll_interval_ms": "soon"}, "config.invalid_value", "poll.interval.ms"),
        ({"batch_max_rows": "0"}, "config.invalid_value", "batch.max.rows"),
        ({"batch_max_rows": "many"}, "config.invalid_value", "batch.max.rows"),
        ({"timestamp_initial": "-2"}, "config.invalid_value", "timestamp.initial"),
        ({"transaction_isolation_mode": "LOOSE"}, "config.invalid_value", "transaction.isolation.mode"),
        ({"pk_mode": "fields"}, "config.missing_key", "pk.fields"),
        ({"tabel_whitelist": "x"}, "config.unknown_key", "tabel.whitelist"),
        ({"connection_pasword": "x"}, "config.unknown_key", "connection.pasword"),
    ],
)
def test_each_mistake_is_reported(keys: dict[str, str | None], code: str, key: str) -> None:
    assert errors(**keys) == [(code, key)]


@pytest.mark.parametrize(
    ("keys", "code", "key"),
    [
        ({}, None, None),
        ({"query": "WITH a AS (SELECT 1 AS id) SELECT * FROM a"}, None, None),
        ({"query": "DELETE FROM orders"}, "sql.not_a_select", "query"),
        ({"query": "SELECT 1; DROP TABLE orders"}, "sql.not_a_select", "query"),
        ({"query": "SELECT 1;"}, None, None),
        ({"topic_prefix": ""}, "config.missing_key", "topic.prefix"),
        ({"incrementing_column_name": None}, "config.missing_key", "incrementing.column.name"),
        ({"pk_mode": "primary_key"}, "sql.no_primary_key", "pk.mode"),
    ],
)
def test_a_query_is_one_select_with_valid_settings(
    keys: dict[str, str | None], code: str | None, key: str | None
) -> None:
    query = {"query": "SELECT id FROM a", "table_whitelist": None, "incrementing_column_name": "id"}

    assert errors(**(query | keys)) == ([(code, key)] if code else [])


def test_all_mistakes_are_reported_at_once() -> None:
    found = errors(topic_prefix="a b", db_timezone="Nowhere", mode="timestamp", poll_interval_ms="soon")

    assert {key for _, key in found} == {"topic.prefix", "db.timezone", "timestamp.column.name", "poll.interval.ms"}


def test_e51_the_old_name_of_precision_only_is_accepted() -> None:
    config, _ = validated(numeric_precision_mapping="true")
    assert config is not None
    assert config.numeric == "precision_only"

    config, _ = validated(numeric_precision_mapping="true", numeric_mapping="best_fit")
    assert config is not None
    assert config.numeric == "best_fit"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mode", "TIMESTAMP+INCREMENTING"),
        ("numeric.mapping", "BEST_FIT"),
        ("transaction.isolation.mode", "read_committed"),
        ("quote.sql.identifiers", "NEVER"),
        ("timestamp.granularity", "MICROS_LONG"),
        ("validate.non.null", "FALSE"),
    ],
)
def test_choices_are_accepted_in_any_case(key: str, value: str) -> None:
    assert errors(**{key: value, "timestamp.column.name": "at"}) == []


def test_keys_of_the_jvm_without_effect_are_warnings() -> None:
    _, findings = validated(poll_linger_ms="5000", max_buffer_size="0")

    assert {(item.code, item.key, item.severity) for item in findings} == {
        ("config.ignored_key", "poll.linger.ms", "warning"),
        ("config.ignored_key", "max.buffer.size", "warning"),
    }
    assert all(len(item.message) > 40 for item in findings)


def test_a_password_is_never_shown() -> None:
    config = SqlSourceConfig.parse(
        {**LEAST, "connection.url": "postgresql://u:hunter2@h/d"} | {"connection.password": "hunter2"}
    )

    assert "hunter2" not in repr(config)
    assert "hunter2" not in str(config)


@pytest.mark.parametrize(("text", "pause"), [("5000", True), ("30s", True), ("0 3 * * *", False), ("x", False)])
def test_durations_and_cron_expressions_are_told_apart(text: str, pause: bool) -> None:
    assert is_duration(text) is pause


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        pytest.param({"mode": ""}, "mode", id="e2"),
        pytest.param({"table_include_list": ".*"}, "table.include.list", id="e4"),
        pytest.param({"table_whitelist": None}, "table.whitelist", id="e5"),
        pytest.param({"query": "SELECT 1 AS id", "incrementing_column_name": "id"}, "table.whitelist", id="e6"),
        pytest.param(
            {"query": "WITH a AS (SELECT 1 AS id) SELECT * FROM a", "mode": "bulk", "table_whitelist": None},
            None,
            id="e7-differs",
        ),
        pytest.param({"table_whitelist": None, "table_exclude_list": ".*"}, "table.include.list", id="e9"),
        pytest.param({"topic_prefix": "a b"}, "topic.prefix", id="e10"),
        pytest.param({"topic_prefix": "x" * 250}, "topic.prefix", id="e10-long"),
        pytest.param({"transaction_isolation_mode": "SQL_SERVER_SNAPSHOT"}, "transaction.isolation.mode", id="e11"),
    ],
)
def test_keys_are_validated_as_in_the_compatibility_list(keys: dict[str, str | None], wrong: str | None) -> None:
    assert {key for _, key in errors(**keys)} == ({wrong} if wrong else set())


@pytest.mark.parametrize(
    ("name", "default", "other"),
    [
        ("table.names.qualify", "true", "false"),
        ("sql.quote.identifiers", "true", "false"),
        ("timestamp.initial.ms", "0", "1700000000000"),
        ("incrementing.initial", "-1", "100"),
    ],
)
def test_connect_rest_7_keys_of_aivens_connector_are_accepted_at_their_default_only(
    name: str, default: str, other: str
) -> None:
    assert SqlSourceConfig.validate_properties({**LEAST, name: default})[1] == []
    (finding,) = SqlSourceConfig.validate_properties({**LEAST, name: other})[1]
    assert (finding.code, finding.key, finding.severity) == ("config.invalid_value", name, "error")
    assert finding.hint
