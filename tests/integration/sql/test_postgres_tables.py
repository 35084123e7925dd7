"""Selection of tables on a real PostgreSQL: lists, schemas, partitions, created and dropped tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from headrace import ConfigError
from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector

Drive = Callable[..., SourceDriver]
Sql = Callable[..., list[Any]]
Properties = Callable[..., dict[str, str]]


@pytest.fixture(autouse=True)
def schemas(sql: Sql) -> None:
    sql(
        """
        CREATE SCHEMA sales;
        CREATE TABLE orders (id int PRIMARY KEY, updated timestamptz NOT NULL);
        CREATE TABLE sales.orders (nr int PRIMARY KEY, changed timestamptz NOT NULL);
        CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE parts_0 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE VIEW open_orders AS SELECT * FROM orders;
        CREATE MATERIALIZED VIEW totals AS SELECT 1 AS id;
        INSERT INTO orders VALUES (1, '2024-05-01Z'); INSERT INTO sales.orders VALUES (2, '2024-05-01Z');
        INSERT INTO parts VALUES (3);
        """
    )


def topics(connector_properties: dict[str, str], most: int = 10) -> list[list[str]]:
    """Return the tables of each task."""
    found = SqlSourceConnector().task_configs(connector_properties, most)
    return [[f"{schema}.{name}" for schema, name in json.loads(own["tables"])] for own in found]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"table_include_list": r"public\..*"}, {"public.orders", "public.parts"}),
        ({"table_include_list": r".*\.orders", "topic_name_format": "${schema}.${table}"},
         {"public.orders", "sales.orders"}),
        ({"table_include_list": ".*", "table_exclude_list": r"public\.o.*"}, {"public.parts", "sales.orders"}),
        ({"table_include_list": ".*", "table_types": "VIEW,MATERIALIZED VIEW"},
         {"public.open_orders", "public.totals"}),
        ({"table_whitelist": "parts_0"}, {"public.parts_0"}),
        ({"table_blacklist": "public.orders"}, {"public.parts", "sales.orders"}),
        ({"table_include_list": ".*", "schema_pattern": "sal%"}, {"sales.orders"}),
    ],
)  # fmt: skip
def test_lists_and_patterns_select_tables(properties: Properties, keys: dict[str, str], expected: set[str]) -> None:
    assert {table for task in topics(properties(**keys)) for table in task} == expected


def test_two_tables_of_one_name_have_their_own_cursor_columns(properties: Properties) -> None:
    keys = properties(
        table_include_list=r".*\.orders",
        topic_name_format="${schema}.${table}",
        mode="timestamp+incrementing",
        timestamp_columns_mapping=r"public\.orders:[updated],sales\.orders:[changed]",
        incrementing_column_mapping=r"sales\.orders:nr",
    )
    with SourceDriver(SqlSourceConnector, keys) as driver:
        batches = driver.drain()

    assert {batch.topic: batch.values[0] for batch in batches}.keys() == {"t.public.orders", "t.sales.orders"}
    assert {str(batch.source_partition) for batch in batches} == {
        "{'protocol': '1', 'table': 'public.orders'}",
        "{'protocol': '1', 'table': 'sales.orders'}",
    }


def test_two_tables_of_one_name_are_refused_when_they_would_share_a_topic(properties: Properties) -> None:
    with pytest.raises(ConfigError) as raised:
        topics(properties(table_include_list=r".*\.orders"))

    assert raised.value.code == "sql.ambiguous_topic"
    assert "topic.name.format" in str(raised.value)


def test_e41_created_and_dropped_tables_change_the_tasks(properties: Properties, sql: Sql) -> None:
    keys = properties(table_include_list=r"public\..*")
    connector = SqlSourceConnector()
    before = connector.task_configs(keys, 2)

    sql("CREATE TABLE news (id int PRIMARY KEY)")
    after = connector.follow(keys, 2, before)
    assert [own == old for own, old in zip(after, before, strict=True)] == [False, True]

    sql("DROP TABLE news")
    assert connector.follow(keys, 2, after) == before


def test_an_unknown_catalog_is_an_error(properties: Properties) -> None:
    with pytest.raises(ConfigError) as raised:
        topics(properties(table_include_list=".*", catalog_pattern="elsewhere"))

    assert raised.value.findings[0].key == "catalog.pattern"
