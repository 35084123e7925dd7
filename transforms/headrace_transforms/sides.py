"""Base of transforms that exist for keys and for values, and what they have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from typing import Any, ClassVar, TypeVar

from headrace import ColumnTransform, DataError, JsonValues, RecordColumns, Schema, Type

T = TypeVar("T")

JVM = "org.apache.kafka.connect.transforms."
"""The package of the classes whose names are aliases."""

SCHEMAS = 16
"""Schemas for which a transform keeps what it computed; a topic rarely has more at the same time."""


class SideTransform(ColumnTransform):
    """A transform of the keys (``X$Key``) or of the values (``X$Value``) of records."""

    on_key: ClassVar[bool]
    nulls_stay: ClassVar[bool] = True
    """Whether a null key or value stays as it is, with its schema. False: :meth:`convert` is given it."""

    @property
    def reads_values(self) -> bool:
        return not self.on_key

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        if not self.nulls_stay:
            return [self._convert(batch)]
        values = self.side_of(batch)[1]
        if not any(value is None for value in values):
            return [self._convert(batch)]
        return list(self._between_nulls(batch, values))

    def side_of(self, batch: RecordColumns) -> tuple[Schema | None, Sequence[Any]]:
        """Return the schema and the column that this transform works on."""
        return (batch.key_schema, batch.keys) if self.on_key else (batch.value_schema, batch.values)

    @abstractmethod
    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        """Return the new schema and column. Raise DataError."""

    def with_side(self, batch: RecordColumns, schema: Schema | None, values: Sequence[Any]) -> RecordColumns:
        """Return the batch with another schema and column."""
        if self.on_key:
            return replace(batch, key_schema=schema, keys=values)
        return replace(batch, value_schema=schema, values=values)

    def _convert(self, batch: RecordColumns) -> RecordColumns:
        return self.with_side(batch, *self.convert(*self.side_of(batch), batch))

    def _between_nulls(self, batch: RecordColumns, values: Sequence[Any]) -> Iterator[RecordColumns]:
        start = 0
        for null, run in groupby(value is None for value in values):
            end = start + sum(1 for _ in run)
            part = batch.between(start, end)
            yield part if null else self._convert(part)
            start = end


def rows_of(batch: RecordColumns, rows: Sequence[int]) -> RecordColumns:
    """Return the batch with only the records of these rows. JSON texts stay texts."""
    values = batch.values
    return replace(
        batch,
        keys=[batch.keys[row] for row in rows],
        values=values.only(rows) if isinstance(values, JsonValues) else [values[row] for row in rows],
        timestamps=[batch.timestamps[row] for row in rows],
        headers=[batch.headers[row] for row in rows],
        places=[batch.places[row] for row in rows],
    )


def remembered(function: Callable[[Schema], T]) -> Callable[[Schema], T]:
    """Return the function with a memory of its last results."""
    return lru_cache(maxsize=SCHEMAS)(function)


def require_maps(values: Sequence[Any], purpose: str) -> None:
    """Raise DataError when a value without a schema is not a map."""
    for value in values:
        if not isinstance(value, dict):
            raise DataError(
                f"{purpose} needs a map or a struct, and found {kind_of(value)}", code="transform.not_a_map"
            )


def require_struct(schema: Schema, values: Sequence[Any], purpose: str) -> None:
    """Raise DataError when the values are not structs, or one is null."""
    if schema.type is not Type.STRUCT:
        raise DataError(f"{purpose} needs a map or a struct, and found {schema.type.value}", code="transform.not_a_map")
    require_maps(values, purpose)


def kind_of(value: object) -> str:
    """Return the kind of a value in words."""
    return "null" if value is None else type(value).__name__


def with_defaults(schema: Schema, values: Sequence[dict[str, Any]], *, replace_null: bool) -> Sequence[dict[str, Any]]:
    """Return structs in which a null is replaced by the default of its field, as Kafka Connect's copies of structs."""
    defaults = {field.name: field.schema.default for field in schema.fields if field.schema.default is not None}
    if not defaults or not replace_null:
        return values
    return [_filled(value, defaults) for value in values]


def _filled(value: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    missing = {name: default for name, default in defaults.items() if value.get(name) is None}
    return {**value, **missing} if missing else value


def basics(schema: Schema, **changes: Any) -> Schema:
    """Return a schema with the name, version, documentation and parameters of another one, and nothing else of it."""
    copied = {"name": schema.name, "version": schema.version, "doc": schema.doc, "parameters": schema.parameters}
    return Schema(**{"type": schema.type, **copied, **changes})
