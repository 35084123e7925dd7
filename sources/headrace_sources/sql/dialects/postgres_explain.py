"""Answers of PostgreSQL's planner: whether a statement is read in order without a sort, and its estimate of rows.

The order is checked with sequential scans and sorts made expensive: a plan that sorts nevertheless has no index to
use, however small the table still is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import orjson
import psycopg
from sqlalchemy import Connection, Select, TextClause

_EXPENSIVE = "SET LOCAL enable_seqscan TO off; SET LOCAL enable_sort TO off; SET LOCAL enable_incremental_sort TO off"


def sort_hint(connection: Connection, query: Select[Any]) -> str | None:
    """Return what to do so that ``query`` needs no sort; None = it needs none. Ends the transaction."""
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, psycopg.Connection)
    compiled = query.compile(dialect=connection.dialect)
    connection.rollback()
    try:
        with raw.cursor() as cursor:
            cursor.execute(_EXPENSIVE)
            cursor.adapters.register_loader("json", psycopg.types.json.JsonLoader)
            cursor.execute(f"EXPLAIN (VERBOSE, FORMAT JSON) {compiled.string}", compiled.params)
            found = cursor.fetchone()
    finally:
        raw.rollback()
    assert found is not None
    nodes = list(_nodes(found[0][0]["Plan"]))
    sort = next((node for node in nodes if node["Node Type"] in ("Sort", "Incremental Sort")), None)
    if sort is None:
        return None
    return _hint(str(sort["Sort Key"][0]), nodes, connection)


def estimate(connection: Connection, query: Select[Any] | TextClause) -> int | None:
    """Return the estimated rows of ``query``; None if it cannot be explained. The transaction stays open."""
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, psycopg.Connection)
    compiled = query.compile(dialect=connection.dialect)
    connection.exec_driver_sql("SAVEPOINT headrace_estimate")
    try:
        with closing(raw.cursor()) as cursor:
            found = cursor.execute(f"EXPLAIN (FORMAT JSON) {compiled.string}".encode(), compiled.params).fetchone()
    except psycopg.Error:  # running it raises the same error, with its own message
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT headrace_estimate")
        return None
    return int(orjson.loads(found[0])[0]["Plan"]["Plan Rows"]) if found else None


def _hint(key: str, nodes: list[Mapping[str, Any]], connection: Connection) -> str:
    tables = {str(node["Alias"]): node for node in nodes if "Relation Name" in node}
    alias, _, column = key.rpartition(".")
    node = tables.get(alias) if alias else next(iter(tables.values())) if len(tables) == 1 else None
    if node is None or not column.strip('"').isidentifier():
        return f"{key} is computed: use a column of a table as the cursor, with an index on it"
    place = ".".join(
        connection.dialect.identifier_preparer.quote_identifier(str(node[part])) for part in ("Schema", "Relation Name")
    )
    return f"run: CREATE INDEX CONCURRENTLY ON {place} ({column});"


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
