"""Compares the indices with the database: ids and values of every row of every table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from elasticsearch import Elasticsearch, NotFoundError
from elasticsearch.helpers import scan
from psycopg.rows import dict_row

from demo.loader import connect
from demo.tables import Table

Rows = Mapping[str, Mapping[str, Any]]
"""By document id: column → value of the driver, or field → value of the JSON."""


@dataclass(frozen=True, slots=True)
class TableComparison:
    """The number of rows and of documents, and one sentence per difference."""

    table: Table
    rows: int
    documents: int
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Return whether there are no differences."""
        return not self.differences


def compare(database: str, client: Elasticsearch, table: Table) -> TableComparison:
    """Read table and index completely into memory (tens of thousands of rows) and compare them."""
    rows, documents = read_rows(database, table), read_documents(client, table)
    return TableComparison(table, len(rows), len(documents), tuple(differences(rows, documents)))


def read_rows(database: str, table: Table) -> dict[str, dict[str, Any]]:
    """Return the rows that the index must contain."""
    with connect(database) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return {
            str(row.pop(table.key) if table.key_only else row[table.key]): row for row in cursor.execute(table.expected)
        }


def read_documents(client: Elasticsearch, table: Table) -> dict[str, dict[str, Any]]:
    """Return the documents of the index; empty if there is no index yet."""
    try:
        client.indices.refresh(index=table.index)
        hits = scan(client, index=table.index, size=5_000, query={"query": {"match_all": {}}})
        return {hit["_id"]: hit["_source"] for hit in hits}
    except NotFoundError:
        return {}


def differences(rows: Rows, documents: Rows) -> list[str]:
    """Return one sentence for each missing, extra or different document, in the order of ids."""
    found = []
    for id_ in sorted(rows.keys() | documents.keys(), key=lambda text: (len(text), text)):
        if id_ not in documents:
            found.append(f"{id_}: the row has no document")
        elif id_ not in rows:
            found.append(f"{id_}: the document has no row")
        else:
            row, document = rows[id_], documents[id_]
            if missing := sorted(row.keys() ^ document.keys()):
                found.append(f"{id_}: only in the row or the document: {', '.join(missing)}")
            found.extend(
                f"{id_}: {name} is {row[name]!r} in the database, {document[name]!r} in the index"
                for name in row.keys() & document.keys()
                if not same(row[name], document[name])
            )
    return found


def same(value: Any, found: Any) -> bool:
    """Return whether ``found`` in JSON equals ``value`` of the database exactly."""
    match value:
        case datetime():
            return moment(found) == value
        case Decimal():
            return not isinstance(found, bool) and _number(found) == value
        case dict() | list():
            # PostgreSQL's json arrives as text, as in Kafka Connect: compare the structure, not blanks.
            return bool((json.loads(found) if isinstance(found, str) else found) == value)
        case _:
            return type(found) is type(value) and bool(found == value)


def moment(found: object) -> datetime | None:
    """Parse a time that the source wrote (ISO 8601, UTC without a zone); return None if it is not a time."""
    if not isinstance(found, str):
        return None
    try:
        parsed = datetime.fromisoformat(found)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _number(found: object) -> Decimal | None:
    try:
        return Decimal(str(found))
    except InvalidOperation:
        return None
