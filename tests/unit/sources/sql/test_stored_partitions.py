"""Changes of stored offsets: partitions of other JDBC drivers are accepted, unusable changes are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import ConfigError
from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.stored_partitions import OffsetChange, resolve_offset_changes

ORDERS, ITEMS = TableName("public", "orders"), TableName("public", "items")
OFFSET = {"incrementing": 50}


def resolve(partition: dict[str, Any], offset: Any = OFFSET, mode: str = "incrementing") -> OffsetChange:
    [change] = resolve_offset_changes([(partition, offset)], [ORDERS, ITEMS], mode, "", "shop")
    return change


@pytest.mark.parametrize("table", ["public.orders", "shop.public.orders"])
@pytest.mark.parametrize("mode", ["incrementing", "timestamp+incrementing"])
def test_connect_rest_1_a_table_is_found_with_and_without_its_database(table: str, mode: str) -> None:
    offset = {"incrementing": 50, "timestamp": 1714564800123}
    assert resolve({"protocol": "1", "table": table}, offset, mode) == (
        {"protocol": "1", "table": "public.orders"},
        offset,
    )


def test_the_order_of_names_in_a_partition_does_not_matter() -> None:
    partition, _ = resolve({"table": "public.orders", "protocol": "1"})
    assert list(partition) == ["protocol", "table"]


@pytest.mark.parametrize(
    "partition", [{"table": "orders"}, {"protocol": "1", "table": "public.items", "part": "snapshot"}]
)
def test_partitions_of_older_connectors_and_of_snapshots_are_kept(partition: dict[str, str]) -> None:
    assert resolve(partition) == (partition, OFFSET)


def test_the_partition_of_a_query_is_accepted_only_for_a_connector_with_a_query() -> None:
    query = {"query": "query"}
    assert resolve_offset_changes([(query, OFFSET)], [None], "incrementing", "", "shop") == [(query, OFFSET)]
    with pytest.raises(ConfigError):
        resolve(query)


@pytest.mark.parametrize(
    "partition",
    [
        {"x": "y"},
        {"protocol": "1", "table": "public.missing"},
        {"protocol": "1", "table": "other.public.orders"},
        {"protocol": "0", "table": "public.orders"},
    ],
)
def test_connect_rest_2_an_unknown_partition_is_refused_with_the_known_ones(partition: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="no source partition") as refused:
        resolve(partition)
    assert '{"protocol":"1","table":"public.orders"}' in refused.value.hint


@pytest.mark.parametrize(
    ("offset", "mode"),
    [({"incrementing": "50"}, "incrementing"), ({"incrementing": 50}, "timestamp"), ({"position": 1}, "incrementing")],
)
def test_an_offset_that_the_mode_cannot_use_is_refused(offset: dict[str, Any], mode: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve({"protocol": "1", "table": "public.orders"}, offset, mode)
    assert refused.value.code == "sql.offset"


def test_an_offset_may_be_deleted() -> None:
    assert resolve({"protocol": "1", "table": "shop.public.orders"}, None)[1] is None


def test_a_position_that_was_stored_with_the_database_before_the_table_is_continued_there(
    drive: Callable[..., SourceDriver], sqlite: Callable[[str], object], path: Path
) -> None:
    sqlite("CREATE TABLE a (id INTEGER PRIMARY KEY); INSERT INTO a VALUES (1), (2);")
    with_database = {"protocol": "1", "table": f"{path}.a"}
    offsets = Offsets()
    offsets.set(with_database, {"incrementing": 1})
    (batch,) = drive(offsets, table_whitelist="a", incrementing_column_name="id").drain()
    assert batch.source_partition == with_database
    assert batch.source_offset == {"incrementing": 2}
