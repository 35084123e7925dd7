"""The comparison with real engines."""

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import pytest
from elasticsearch import Elasticsearch

from demo import loader
from demo.compare import compare, read_rows
from demo.tables import Table

SQL = """
CREATE TABLE things (
    id int PRIMARY KEY, price numeric(8, 2), extra jsonb, at timestamptz DEFAULT clock_timestamp()
)"""


class Engine(Protocol):
    url: str


@pytest.fixture
def client(elasticsearch: Engine) -> Iterator[Elasticsearch]:
    with Elasticsearch(elasticsearch.url) as client:
        yield client


@pytest.fixture
def things(database: str, unique_name: str) -> Table:
    with loader.connect(database) as connection:
        connection.execute(SQL)
        connection.execute(
            "INSERT INTO things (id, price, extra) SELECT n, n / 100.0, jsonb_build_object('n', n) "
            "FROM generate_series(1, 50) AS n"
        )
    return Table("things", "things", unique_name, "id", "SELECT * FROM things")


def put(client: Elasticsearch, table: Table, id_: str, row: dict[str, Any]) -> None:
    def encode(value: Any) -> Any:
        match value:
            case datetime():
                return value.replace(tzinfo=None).isoformat(timespec="microseconds")
            case Decimal():
                return float(value)
            case dict():
                return json.dumps(value)
        return value

    client.index(index=table.index, id=id_, document={name: encode(value) for name, value in row.items()})


def test_a_missing_index_is_empty(client: Elasticsearch, database: str, things: Table) -> None:
    comparison = compare(database, client, things)

    assert (comparison.rows, comparison.documents, len(comparison.differences)) == (50, 0, 50)


def test_a_change_of_a_row_or_document_is_found(client: Elasticsearch, database: str, things: Table) -> None:
    for id_, row in read_rows(database, things).items():
        put(client, things, id_, row)
    assert compare(database, client, things).equal

    with loader.connect(database) as connection:
        connection.execute("UPDATE things SET price = 7 WHERE id = 3")
    client.delete(index=things.index, id="4")

    assert compare(database, client, things).differences == (
        "3: price is Decimal('7.00') in the database, 0.03 in the index",
        "4: the row has no document",
    )
