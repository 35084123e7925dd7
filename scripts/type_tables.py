"""Computes the tables of types of docs/avro.md from the code of source, converter and sink, for generate_docs.py.

Each row has values, which the tests send through the same code and compare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import types

from headrace import Schema, Type
from headrace.converters.avro.avro_types import parse_avro
from headrace.converters.avro.from_connect import AvroSchemas
from headrace.converters.avro.to_connect import ConnectSchemas
from headrace_sinks.elasticsearch.mappings.schema_mapping import mapping
from headrace_sources.sql.dialects.dialect import column_of
from headrace_sources.sql.rows.types import Column, Kind, TypeMapping

PAGE = Path(__file__).parent.parent / "docs" / "avro.md"
_TABLE = re.compile(r"(<!-- computed: ([\w ]+) -->)\n.*?(<!-- end -->)", re.DOTALL)
_FIELD = "v"


class SqlRow(NamedTuple):
    """A SQL type, by its SQLAlchemy type or the column that a dialect makes of it."""

    name: str
    type: types.TypeEngine[Any] | Kind
    values: Sequence[Any]
    numeric: str = "none"
    granularity: str = "connect_logical"
    nullable: bool = False

    def column(self) -> Column:
        if isinstance(self.type, Kind):
            return Column(_FIELD, self.type, self.nullable)
        return column_of(_FIELD, self.type, self.nullable)

    def schema(self) -> Schema:
        """Return the schema that the SQL source gives the column."""
        return TypeMapping(self.numeric, self.granularity, UTC).schema_of(self.column())


class AvroRow(NamedTuple):
    """A type of a registry's schema."""

    name: str
    avro: Any
    values: Sequence[Any]
    """As Connect has them."""

    def schema(self) -> Schema:
        """Return the schema of a record's field of this type, as the converter reads it."""
        record = {"type": "record", "name": "R", "fields": [{"name": _FIELD, "type": self.avro}]}
        described = parse_avro(json.dumps(record))
        return ConnectSchemas(enhanced=True, meta_data=True).translate(described).by_name[_FIELD]


_TEXTS = ["", "Li Na", "grüße 🙂"]
_MOMENT = datetime(2024, 2, 29, 12, 30, 45, 678_000, UTC)
SQL_ROWS = (
    SqlRow("`boolean`", types.BOOLEAN(), [True, False]),
    SqlRow("MariaDB's `tinyint`", Kind.INT8, [-128, 127]),
    SqlRow("`smallint`", types.SMALLINT(), [-(2**15), 2**15 - 1]),
    SqlRow("`integer`", types.INTEGER(), [-(2**31), 2**31 - 1]),
    SqlRow("`bigint`", types.BIGINT(), [-(2**63), 2**63 - 1]),
    SqlRow("`real`", types.REAL(), [0.5, -1.25]),
    SqlRow("`double precision`", types.DOUBLE_PRECISION(), [0.1, 1e300]),
    SqlRow("`numeric(12, 2)`", types.NUMERIC(12, 2), [Decimal("12.30"), Decimal("-9999999999.99")]),
    SqlRow("`numeric(30, 0)`", types.NUMERIC(30, 0), [Decimal(10**29)]),
    SqlRow("`numeric` without precision", types.NUMERIC(), ["12.300000000000000000001"]),
    SqlRow("`numeric(9, 0)`, `numeric.mapping: best_fit`", types.NUMERIC(9, 0), [999_999_999], "best_fit"),
    SqlRow("`numeric(12, 2)`, `numeric.mapping: best_fit`", types.NUMERIC(12, 2), [12.3], "best_fit"),
    SqlRow("`date`", types.DATE(), [date(2024, 2, 29), date(1969, 12, 31)]),
    SqlRow("`time`", types.TIME(), [time(23, 59, 59, 999_000)]),
    SqlRow("`timestamp`, `timestamptz`", types.TIMESTAMP(timezone=True), [_MOMENT]),
    SqlRow(
        "`timestamp`, `timestamp.granularity: micros_long`",
        types.TIMESTAMP(),
        [1_709_209_845_678_901],
        granularity="micros_long",
    ),
    SqlRow("`bytea`, `blob`, `varbinary`", types.LargeBinary(), [b"", b"\x00\xff"]),
    SqlRow("`text`, `varchar`, `uuid`, `json` and all others", types.TEXT(), _TEXTS),
    SqlRow("a column that may be null (`integer`)", types.INTEGER(), [None, 7], nullable=True),
)
AVRO_ROWS = (
    AvroRow("`boolean`", "boolean", [True]),
    AvroRow("`int`", "int", [2**31 - 1]),
    AvroRow("`int` with `connect.type` `int8`, `int16`", {"type": "int", "connect.type": "int16"}, [2**15 - 1]),
    AvroRow("`long`", "long", [2**63 - 1]),
    AvroRow("`float`", "float", [0.5]),
    AvroRow("`double`", "double", [0.1]),
    AvroRow("`string`", "string", _TEXTS),
    AvroRow("`bytes`", "bytes", [b"\x00\xff"]),
    AvroRow("`fixed`", {"type": "fixed", "name": "F", "size": 2}, [b"\x00\xff"]),
    AvroRow("`enum`", {"type": "enum", "name": "E", "symbols": ["A", "B"]}, ["B"]),
    AvroRow("`string`, `uuid`", {"type": "string", "logicalType": "uuid"}, ["550e8400-e29b-41d4-a716-446655440000"]),
    AvroRow(
        "`bytes`, `decimal`",
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        [Decimal("12.30")],
    ),
    AvroRow("`int`, `date`", {"type": "int", "logicalType": "date"}, [date(2024, 2, 29)]),
    AvroRow("`int`, `time-millis`", {"type": "int", "logicalType": "time-millis"}, [time(23, 59, 59, 999_000)]),
    AvroRow("`long`, `timestamp-millis`", {"type": "long", "logicalType": "timestamp-millis"}, [_MOMENT]),
    AvroRow("`long`, `timestamp-micros`", {"type": "long", "logicalType": "timestamp-micros"}, [1_709_209_845_678_901]),
    AvroRow(
        "`long`, `local-timestamp-millis`",
        {"type": "long", "logicalType": "local-timestamp-millis"},
        [1_709_209_845_678],
    ),
    AvroRow("`array` of `long`", {"type": "array", "items": "long"}, [[], [1, 2]]),
    AvroRow("`map` of `long`", {"type": "map", "values": "long"}, [{}, {"a": 1}]),
    AvroRow(
        "`record`",
        {"type": "record", "name": "P", "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "double"}]},
        [{"x": 1, "y": 0.5}],
    ),
    AvroRow("union of `null` and `string`", ["null", "string"], [None, "x"]),
    AvroRow("union of `string` and `long`", ["string", "long"], [{"string": "x", "long": None}]),
)


def types_page() -> str:
    """Return docs/avro.md with its tables computed."""
    tables = {"sql types": _sql_table(), "registry types": _registry_table()}
    text = PAGE.read_text(encoding="utf-8")
    return _TABLE.sub(lambda found: "\n".join([found[1], *tables[found[2]], found[3]]), text)


def avro_of(schema: Schema) -> Any:
    """Return the Avro schema that the converter registers."""
    translator = AvroSchemas(enhanced=False, meta_data=True, scrub_names=False, optional_map_keys=False)
    return translator.translate(schema)


def shown_schema(schema: Schema) -> str:
    """Return Connect's name of a schema."""
    name = (schema.name or "").removeprefix("org.apache.kafka.connect.data.")
    text = name if schema.name and name != schema.name else schema.type.name
    if schema.type in (Type.ARRAY, Type.MAP) and schema.items is not None:
        text += f" of {shown_schema(schema.items)}"
    return f"{text}, optional" if schema.optional else text


def _sql_table() -> Iterator[str]:
    yield "| SQL | Connect | Avro | Elasticsearch |"
    yield "|---|---|---|---|"
    for row in SQL_ROWS:
        schema = row.schema()
        yield f"| {row.name} | {shown_schema(schema)} | {_shown_avro(avro_of(schema))} | {_shown_mapping(schema)} |"


def _registry_table() -> Iterator[str]:
    yield "| Avro | Connect | Elasticsearch |"
    yield "|---|---|---|"
    for row in AVRO_ROWS:
        schema = row.schema()
        yield f"| {row.name} | {shown_schema(schema)} | {_shown_mapping(schema)} |"


def _shown_avro(avro: Any) -> str:
    if isinstance(avro, list):
        return "union of " + " and ".join(map(_shown_avro, avro))
    if isinstance(avro, str):
        return f"`{avro}`"
    facts = [f"`{avro['type']}`"]
    for name in ("logicalType", "precision", "scale"):
        if name in avro:
            facts.append(f"`{avro[name]}`" if name == "logicalType" else f"{name} {avro[name]}")
    if "connect.type" in avro:
        facts.append(f"`connect.type: {avro['connect.type']}`")
    return ", ".join(facts)


def _shown_mapping(schema: Schema) -> str:
    made = mapping(schema)
    if "properties" in made:
        return "`object` with its fields"
    more = ", ".join(f"`{name}`" for name in made.get("fields", ()))
    return f"`{made['type']}`" + (f" with {more}" if more else "")
