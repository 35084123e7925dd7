"""Kafka Connect's data model: schemas of keys and values.

A :class:`Schema` describes a value; ``None`` in place of a schema means *schemaless* (plain JSON-like values).
Python values by schema type:

========================  ======================================================
INT8 … INT64              ``int`` within the width
FLOAT32, FLOAT64          ``float``
BOOLEAN, STRING, BYTES    ``bool``, ``str``, ``bytes``
ARRAY, MAP                ``list``, ``dict``
STRUCT                    ``dict`` by field name; a field of ``None`` is null
Decimal (logical)         ``decimal.Decimal``
Date, Time (logical)      ``datetime.date``, ``datetime.time``
Timestamp (logical)       ``datetime.datetime``, aware, UTC
========================  ======================================================

Names and versions of the logical types are those of ``org.apache.kafka.connect.data``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any


class Type(enum.Enum):
    """Schema types; the value is the name in the JSON envelope."""

    BOOLEAN = "boolean"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float"
    FLOAT64 = "double"
    STRING = "string"
    BYTES = "bytes"
    ARRAY = "array"
    MAP = "map"
    STRUCT = "struct"


INTEGERS = frozenset({Type.INT8, Type.INT16, Type.INT32, Type.INT64})
PRIMITIVES = frozenset(Type) - {Type.ARRAY, Type.MAP, Type.STRUCT}

DECIMAL = "org.apache.kafka.connect.data.Decimal"
DATE = "org.apache.kafka.connect.data.Date"
TIME = "org.apache.kafka.connect.data.Time"
TIMESTAMP = "org.apache.kafka.connect.data.Timestamp"


@dataclass(frozen=True)
class Field:
    """One member of a STRUCT."""

    name: str
    schema: Schema


@dataclass(frozen=True)
class Schema:
    """An immutable description of a value. Compare with ``==``; hash is cached, so it serves as a dictionary key."""

    type: Type
    optional: bool = False
    name: str | None = None
    version: int | None = None
    doc: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    default: Any = field(default=None, hash=False)
    fields: tuple[Field, ...] = ()
    items: Schema | None = None  # ARRAY element; MAP value
    keys: Schema | None = None  # MAP key

    @cached_property
    def by_name(self) -> Mapping[str, Schema]:
        """Schemas of a STRUCT's fields by name."""
        return {member.name: member.schema for member in self.fields}

    def parameter(self, name: str) -> str | None:
        """Return the value of the parameter, None when it is not set."""
        return dict(self.parameters).get(name)

    def as_optional(self) -> Schema:
        """Return the same schema with null allowed."""
        return self if self.optional else replace(self, optional=True)


BOOLEAN = Schema(Type.BOOLEAN)
INT8 = Schema(Type.INT8)
INT16 = Schema(Type.INT16)
INT32 = Schema(Type.INT32)
INT64 = Schema(Type.INT64)
FLOAT32 = Schema(Type.FLOAT32)
FLOAT64 = Schema(Type.FLOAT64)
STRING = Schema(Type.STRING)
BYTES = Schema(Type.BYTES)
DATE_SCHEMA = Schema(Type.INT32, name=DATE, version=1)
TIME_SCHEMA = Schema(Type.INT32, name=TIME, version=1)
TIMESTAMP_SCHEMA = Schema(Type.INT64, name=TIMESTAMP, version=1)


def decimal(scale: int, precision: int | None = None) -> Schema:
    """Return a Decimal of a fixed scale; the precision is a parameter, as in Connect's JDBC source."""
    parameters = [("scale", str(scale))]
    if precision is not None:
        parameters.append(("connect.decimal.precision", str(precision)))
    return Schema(Type.BYTES, name=DECIMAL, version=1, parameters=tuple(parameters))


def array(items: Schema) -> Schema:
    """Return an ARRAY of ``items``."""
    return Schema(Type.ARRAY, items=items)


def mapping(keys: Schema, values: Schema) -> Schema:
    """Return a MAP from ``keys`` to ``values``."""
    return Schema(Type.MAP, keys=keys, items=values)


def struct(fields: Mapping[str, Schema], name: str | None = None) -> Schema:
    """Return a STRUCT with ``fields`` in the given order."""
    return Schema(Type.STRUCT, name=name, fields=tuple(Field(key, schema) for key, schema in fields.items()))
