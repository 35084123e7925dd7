"""Configurations with transforms and Avro that people published (hosts, names and passwords replaced).

They are valid as they are, and move data: sources from SQLite to Kafka, sinks from Kafka to documents, with a registry.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headrace import Converter
from headrace import schema as schemas
from headrace.registry import PluginKind, Registry
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from tests.unit.converters.schema_registry.converters import avro_converter, read_one
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry, served
from tests.unit.transforms.conftest import StageMaker
from tests.unit.transforms.task_run import TaskRun
from tests.unit.transforms.test_in_tasks import consumed
from tests.unit.transforms.test_public_configurations import as_properties, written

FILE = Path(__file__).parent / "public_avro_configurations.json"
CONFIGURATIONS = {item["name"]: as_properties(item) for item in json.loads(FILE.read_text(encoding="utf-8"))}
AVRO = "io.confluent.connect.avro.AvroConverter"
WORKER = {
    f"{side}.converter{rest}": value
    for side in ("key", "value")
    for rest, value in (("", AVRO), (".schema.registry.url", "http://schema-registry:8081"))
}
"""Connectors that name no converter belong to workers whose converters are these."""


class Moved(NamedTuple):
    """A table with one row, and the record that it becomes."""

    table: str
    columns: str
    row: tuple[Any, ...]
    topic: str
    key: Any
    value: Mapping[str, Any]
    """Fields of the record; there may be others."""
    record: str | None = None
    """Name of the record's schema."""


PURCHASE = ("id INTEGER PRIMARY KEY, credit_card TEXT, amount INTEGER", (7, "4111", 30))
CUSTOMER = ("customers", "id INTEGER PRIMARY KEY, email TEXT", (7, "li@example.org"))
SOURCES = {
    "jdbc-customers": Moved(*CUSTOMER, "customers", 7, {"id": 7}, "org.example.shop.Customer"),
    "purchases-source": Moved(
        "purchases", *PURCHASE, "purchases", "4111", {"amount": 30}, "com.example.model.Purchase"
    ),
    "sales-transactions": Moved(
        "sales_transactions",
        "category TEXT, price INTEGER, timestamp TIMESTAMP NOT NULL",
        ("books", 12, "2024-02-29 12:30:00"),
        "sales-transactions",
        "books",
        {"price": 12.0},
        "com.example.sales.sales_transactions",
    ),
    "jdbc-purchases-view": Moved(
        "user_purchases",
        "user_id INTEGER PRIMARY KEY, email TEXT, creation_date TIMESTAMP NOT NULL",
        (7, "li@example.org", "2024-02-29 12:30:00"),
        "jdbc.connect.view.purchases",
        {"user_id": 7, "email": "li@example.org"},
        {"user_id": 7},
        "PurchasesRecords",
    ),
    "client-duplicates": Moved(
        "clientduplicates",
        "id INTEGER PRIMARY KEY, oldclientid TEXT, newclientid TEXT, ts TIMESTAMP NOT NULL",
        (7, "a", "b", "2024-02-29 12:30:00"),
        "ClientDuplicatesFound",
        7,
        {"oldclientid": "a", "newclientid": "b"},
        "org.example.kafkaevent.duplicates.ClientDuplicatesFound",
    ),
    "contracts": Moved(
        "contracts",
        "id INTEGER PRIMARY KEY, ts TIMESTAMP NOT NULL",
        (7, "2024-02-29 12:30:00"),
        "Contracts",
        7,
        {"id": 7},
        "kafkaevent.Contracts",
    ),
    "Driver-Connector": Moved(
        "driver",
        "id INTEGER PRIMARY KEY, driverkey TEXT, timestamp TIMESTAMP NOT NULL",
        (7, "d7", "2024-02-29 12:30:00"),
        "driver-avro",
        "d7",
        {"id": 7},
    ),
    "books": Moved(
        "books",
        "id INTEGER PRIMARY KEY, isbn TEXT, title TEXT",
        (7, "978", "x"),
        "books",
        "978",
        {"title": "x"},
        "org.example.pipelines.domain.model.book.BookRecord",
    ),
    "source-jdbc-mysql-01": Moved(*CUSTOMER, "mysql-01-customers", {"id": 7}, {"email": "li@example.org"}),
    "source-jdbc-mysql-02": Moved(*CUSTOMER, "mysql-02-customers", 7, {"email": "li@example.org"}),
    "movement-jdbc-source": Moved(
        "movement",
        "id INTEGER PRIMARY KEY, amount INTEGER",
        (7, 5),
        "test-postgresql-jdbc-movement",
        None,
        {"amount": 5},
        "com.example.cdc.account.Movement",
    ),
    "mysql-source": Moved(
        "application",
        "id INTEGER PRIMARY KEY, name TEXT, last_modified TIMESTAMP NOT NULL",
        (7, "x", "2024-02-29 12:30:00"),
        "mysql-application",
        None,
        {"name": "x"},
        "application",
    ),
}


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeSchemaRegistry]:
    with served(FakeSchemaRegistry()) as found:
        yield found


@pytest.fixture
def task() -> Iterator[TaskRun]:
    run = TaskRun()
    yield run
    run.stop()


def test_there_are_at_least_twelve() -> None:
    assert len(CONFIGURATIONS) >= 12


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_public_configuration_is_valid(stage_maker: StageMaker, name: str) -> None:
    _, findings = stage_maker.validator.connector(CONFIGURATIONS[name], trusted=True)
    assert [finding for finding in findings if finding.severity == "error"] == []


def local(name: str, registry: FakeSchemaRegistry, database: Path | None = None) -> dict[str, str]:
    """Return the configuration with the addresses of this test."""
    given = CONFIGURATIONS[name]
    made = {
        key: value for key, value in WORKER.items() if key.split(".converter")[0] + ".converter" not in given
    } | given
    made = {key: registry.url if key.endswith("schema.registry.url") else value for key, value in made.items()}
    if database is not None:
        made |= {"connection.url": f"jdbc:sqlite:{database}", "poll.interval.ms": "50"}
        made.pop("connection.user", None)
        made.pop("connection.password", None)
        if "query" in made:
            made["query"] = made["query"].replace("purchases.user_purchases", "user_purchases")  # SQLite has no schemas
    return made


@pytest.mark.parametrize("name", SOURCES)
def test_a_row_becomes_a_record(task: TaskRun, registry: FakeSchemaRegistry, tmp_path: Path, name: str) -> None:
    moved = SOURCES[name]
    database = tmp_path / "rows.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"CREATE TABLE {moved.table} ({moved.columns})")
        connection.execute(f"INSERT INTO {moved.table} VALUES ({', '.join('?' * len(moved.row))})", moved.row)
        connection.commit()
    properties = local(name, registry, database)
    task.start(properties)
    eventually(lambda: task.error is not None or task.kafka.records(moved.topic))
    task.stop()

    assert task.error is None
    (record,) = task.kafka.records(moved.topic)
    with avro_converter(registry) as converter:
        schema, value = read_one(converter, record.value, moved.topic)
    assert schema is not None
    assert moved.record in (None, schema.name)
    assert moved.value.items() <= value.items()
    assert key_of(properties, record.key, moved.topic) == moved.key


def key_of(properties: Mapping[str, str], key: bytes | None, topic: str) -> Any:
    """Return the key as the converter of the configuration reads it."""
    converter: Converter = Registry().find(PluginKind.CONVERTER, properties["key.converter"]).cls()
    prefix = "key.converter."
    own = {name.removeprefix(prefix): value for name, value in properties.items() if name.startswith(prefix)}
    converter.configure(own, is_key=True)
    (run,) = converter.from_bytes(topic, [key], [()])
    converter.close()
    return run.values[0]


@pytest.mark.parametrize(
    ("name", "row", "document"),
    [
        ("sink-elastic-test-02-e", {"COL1": 1}, {"COL1": 1, "MSG_TS": 1_700_000_000_000}),
        ("sink-elastic-finance", {"transaction_date": 1_700_000_000_000}, {"transaction_date": 1_700_000_000_000}),
    ],
)
def test_records_become_documents(
    stage_maker: StageMaker, registry: FakeSchemaRegistry, name: str, row: dict[str, Any], document: dict[str, Any]
) -> None:
    described = schemas.struct(dict.fromkeys(row, schemas.INT64))
    topic = CONFIGURATIONS[name]["topics"]
    with avro_converter(registry) as converter:
        (value,) = converter.to_bytes(topic, described, [row])
    properties = local(name, registry)
    stages = stage_maker(properties)
    (batch,), failures = stages.decode(consumed([value]))
    stages.close()
    previewer = ElasticsearchSinkConnector().previewer(stage_maker.validator.require_connector(properties).own)

    assert not failures
    assert previewer is not None
    (write,) = previewer.writes(batch)
    assert written(write)[2] == document
