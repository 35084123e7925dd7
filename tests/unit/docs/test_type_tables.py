"""The tables of types in docs/avro.md are current, and each of their rows is true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from io import BytesIO
from typing import Any

import fastavro
import pytest

from headrace import BatchHeaders, Schema
from headrace import schema as schemas
from headrace.converters.json import JsonConverter
from headrace_sinks.elasticsearch.documents.document_encoder import encoder
from headrace_sinks.elasticsearch.mappings.schema_mapping import mapping
from scripts.type_tables import AVRO_ROWS, PAGE, SQL_ROWS, AvroRow, SqlRow, avro_of, types_page
from tests.unit.converters.schema_registry.converters import avro_converter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry, served


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeSchemaRegistry]:
    with served(FakeSchemaRegistry()) as found:
        yield found


def test_the_tables_are_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == types_page(), "run: python scripts/generate_docs.py"


@pytest.mark.parametrize("row", SQL_ROWS, ids=[row.name for row in SQL_ROWS])
def test_values_of_a_sql_type_are_the_same_behind_avro_and_json(registry: FakeSchemaRegistry, row: SqlRow) -> None:
    described = schemas.struct({"v": row.schema()}, name="Row")
    rows = [{"v": value} for value in row.values]
    with avro_converter(registry) as avro:
        (run,) = avro.from_bytes(row.name, avro.to_bytes(row.name, described, rows), [()] * len(rows))
    (field,) = registry.text(f"{row.name}-value")["fields"]
    as_json = JsonConverter()
    as_json.configure({"schemas.enable": "true"}, is_key=False)
    texts = as_json.to_bytes("t", described, rows, BatchHeaders(None, len(rows)))
    (json_run,) = as_json.from_bytes("t", texts, [()] * len(rows))

    assert list(run.values) == list(json_run.values) == rows
    assert run.schema is not None
    assert run.schema.by_name["v"] == row.schema()
    assert field["type"] == avro_of(row.schema())


@pytest.mark.parametrize("row", AVRO_ROWS, ids=[row.name for row in AVRO_ROWS])
def test_values_of_another_librarys_avro_are_read_and_written_again(registry: FakeSchemaRegistry, row: AvroRow) -> None:
    record = {"type": "record", "name": "R", "fields": [{"name": "v", "type": row.avro}]}
    number = registry.add(f"{row.name}-value", record)
    written = [
        b"\0" + number.to_bytes(4, "big") + _fastavro(record, {"v": _natural(row.schema(), value)})
        for value in row.values
    ]
    with avro_converter(registry, enhanced_avro_schema_support="true") as converter:
        (run,) = converter.from_bytes(row.name, written, [()] * len(written))
        again = converter.to_bytes(f"{row.name} again", run.schema, run.values, BatchHeaders(None, len(written)))

    assert run.schema is not None
    assert run.schema.by_name["v"] == row.schema()
    assert [value["v"] for value in run.values] == list(row.values)
    assert [data[5:] if data else data for data in again] == [data[5:] for data in written]


@pytest.mark.parametrize(
    "row", [*SQL_ROWS, *AVRO_ROWS], ids=[f"{type(row).__name__} {row.name}" for row in (*SQL_ROWS, *AVRO_ROWS)]
)
def test_documents_have_values_that_the_mapping_holds(row: SqlRow | AvroRow) -> None:
    described = row.schema()
    documents = encoder(schemas.struct({"v": described}))([{"v": value} for value in row.values])

    for document, value in zip(documents, row.values, strict=True):
        _check(mapping(described), json.loads(document, parse_float=Decimal)["v"], value)


def _fastavro(schema: Any, row: Any) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), row)
    return buffer.getvalue()


def _natural(schema: Schema, value: Any) -> Any:
    """Return a value as fastavro takes it: of a union its member."""
    if schema.name == "io.confluent.connect.avro.Union":
        return next(item for item in value.values() if item is not None)
    return value


_INTEGERS = {"byte": 7, "short": 15, "integer": 31, "long": 63}


def _check(mapped: dict[str, Any], shown: Any, value: Any) -> None:
    """Check that a field of this mapping holds what the document has, and that nothing of the value is lost."""
    if value is None:
        assert shown is None
        return
    if "properties" in mapped:
        assert isinstance(shown, dict)
        for name, inner in mapped["properties"].items():
            _check(inner, shown.get(name), value.get(name))
        return
    if isinstance(shown, list):
        for item, given in zip(shown, value, strict=True):
            _check(mapped, item, given)
        return
    match mapped["type"]:
        case "boolean" | "text":
            assert shown == value
        case "float" | "double":
            assert Decimal(shown) == (value if isinstance(value, Decimal) else Decimal(repr(value)))
        case "binary":
            assert isinstance(shown, str)
        case "date":
            assert isinstance(shown, (int, str))
            assert isinstance(value, (date, time, datetime))
        case "object":
            assert shown == value
        case kind:
            assert shown == value
            assert -(2 ** _INTEGERS[kind]) <= shown < 2 ** _INTEGERS[kind]
