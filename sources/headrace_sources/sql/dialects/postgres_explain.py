"""Whether PostgreSQL can read in a cursor's order without sorting, told by its planner.

Sequential scans and sorts are made dear before it is asked: a plan that sorts all the same has no index to go by,
however small the table still is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from sqlalchemy import Connection, Select

_DEAR = "SET LOCAL enable_seqscan TO off; SET LOCAL enable_sort TO off; SET LOCAL enable_incremental_sort TO off"


def sort_hint(connection: Connection, query: Select[Any]) -> str | None:
    """None when ``query`` needs no sort, else what to do about it. The transaction is ended."""
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, psycopg.Connection)
    compiled = query.compile(dialect=connection.dialect)
    connection.rollback()
    try:
        with raw.cursor() as cursor:
            cursor.execute(_DEAR)
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


def _hint(key: str, nodes: list[Mapping[str, Any]], connection: Connection) -> str:
    tables = {str(node["Alias"]): node for node in nodes if "Relation Name" in node}
    alias, _, column = key.rpartition(".")
    node = tables.get(alias) if alias else next(iter(tables.values())) if len(tables) == 1 else None
    if node is None or not column.strip('"').isidentifier():
        return f"{key} is computed: let the cursor be a column of a table that has an index on it"
    place = ".".join(
        connection.dialect.identifier_preparer.quote_identifier(str(node[part])) for part in ("Schema", "Relation Name")
    )
    return f"run: CREATE INDEX CONCURRENTLY ON {place} ({column});"


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
