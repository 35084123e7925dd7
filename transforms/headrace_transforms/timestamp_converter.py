"""TimestampConverter: dates and times as texts, numbers, and Connect's logical types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, time
from typing import Any, Literal

from headrace import DataError, Field, Finding, RecordColumns, Schema, Type, key
from headrace import schema as schemas
from headrace_transforms.java_dates import JavaDateFormat
from headrace_transforms.keys import ReplaceNullConfig, invalid
from headrace_transforms.sides import (
    JVM,
    SideTransform,
    basics,
    kind_of,
    remembered,
    require_maps,
    require_struct,
    with_defaults,
)
from headrace_transforms.times import current_year, date_of, milliseconds_of, time_of, timestamp_of

_PURPOSE = "TimestampConverter"
_PER_MILLISECOND = {"nanoseconds": 1_000_000, "microseconds": 1_000}
_LARGEST = 2**63 - 1
_LOGICAL = {schemas.TIMESTAMP: "Timestamp", schemas.DATE: "Date", schemas.TIME: "Time"}
_SCHEMAS = {
    "string": schemas.STRING,
    "unix": schemas.INT64,
    "Date": schemas.DATE_SCHEMA,
    "Time": schemas.TIME_SCHEMA,
    "Timestamp": schemas.TIMESTAMP_SCHEMA,
}


class TimestampConverterConfig(ReplaceNullConfig):
    """Keys of Kafka Connect's TimestampConverter."""

    field: str = key("field", default="", doc="Field to convert; empty: the whole key or value.", importance="high")
    target: Literal["string", "unix", "Date", "Time", "Timestamp"] = key(
        "target.type", doc="What it becomes.", importance="high"
    )
    format: str = key("format", default="", doc="Pattern of texts, of Java's SimpleDateFormat.")
    precision: Literal["nanoseconds", "microseconds", "milliseconds", "seconds"] = key(
        "unix.precision", default="milliseconds", doc="Unit of numbers since 1970.", importance="low"
    )

    def problems(self) -> Iterable[Finding]:
        if self.target == "string" and not self.format:
            text = "TimestampConverter requires format option to be specified when using string timestamps"
            yield Finding("config.missing_key", text, "format", "for example yyyy-MM-dd HH:mm:ss")
        elif self.format:
            try:
                JavaDateFormat(self.format, current_year)
            except ValueError as error:
                yield invalid("format", self.format, str(error), "see Java's SimpleDateFormat")


class TimestampConverter(SideTransform):
    """Converts dates and times. A null stays null."""

    config_model = TimestampConverterConfig
    nulls_stay = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = TimestampConverterConfig.parse(properties)
        self._field, self._target, self._precision = config.field, config.target, config.precision
        self._replace_null = config.replace_null
        self._format = JavaDateFormat(config.format, current_year) if config.format else None
        self._write = self._writer()
        self._schema_of = remembered(self._converted_schema)

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        present = [value for value in values if value is not None]
        if not self._field:
            read = self._reader(schema)
            return None if schema is None else self._schema_of(schema), [
                self._converted(read, value) for value in values
            ]
        name = self._field
        if schema is None:
            require_maps(present, _PURPOSE)
            read = self._reader(None)
            return None, [
                None if value is None else {**value, name: self._converted(read, value.get(name))} for value in values
            ]
        require_struct(schema, present, _PURPOSE)
        converted = self._schema_of(schema)
        filled = with_defaults(schema, present, replace_null=self._replace_null)
        if name in schema.by_name:
            read = self._reader(schema.by_name[name])
            filled = [{**value, name: self._converted(read, value.get(name))} for value in filled]
        rest = iter(filled)
        return converted, [None if value is None else next(rest) for value in values]

    def _converted_schema(self, schema: Schema) -> Schema:
        target = _SCHEMAS[self._target]
        if not self._field:
            return replace(target, optional=schema.optional)
        fields = tuple(
            Field(field.name, replace(target, optional=field.schema.optional)) if field.name == self._field else field
            for field in schema.fields
        )
        return basics(schema, fields=fields, optional=schema.optional, default=schema.default)

    def _converted(self, read: Callable[[Any], int], value: Any) -> Any:
        if value is None:
            return None
        try:
            return self._write(read(value))
        except ValueError as error:
            raise DataError(f"TimestampConverter: {error}", code="transform.bad_timestamp") from error

    def _reader(self, schema: Schema | None) -> Callable[[Any], int]:
        """Return the function that reads values of the schema as milliseconds. Raise DataError."""
        if schema is None:
            return self._read_any
        if schema.name in _LOGICAL:
            return milliseconds_of
        if schema.type is Type.STRING:
            return self._read_text
        if schema.type is Type.INT64:
            return self._read_number
        raise DataError(
            f"TimestampConverter: a field of type {schema.type.value} is no date or time",
            code="transform.bad_timestamp",
            hint="it converts texts, int64, Date, Time and Timestamp; Cast makes int64 of other numbers",
        )

    def _read_any(self, value: Any) -> int:
        match value:
            case bool() | float():
                pass
            case int():
                return self._read_number(value)
            case str():
                return self._read_text(value)
            case date() | time():
                return milliseconds_of(value)
        raise ValueError(f"{kind_of(value)} is no date or time")

    def _read_text(self, value: str) -> int:
        if self._format is None:
            raise ValueError("texts need the key 'format'")
        return self._format.parse(value)

    def _read_number(self, value: int) -> int:
        if self._precision == "seconds":
            return max(min(value * 1_000, _LARGEST), -_LARGEST - 1)
        divisor = _PER_MILLISECOND.get(self._precision, 1)
        return value // divisor if value >= 0 else -(-value // divisor)

    def _writer(self) -> Callable[[int], Any]:
        match self._target:
            case "string":
                assert self._format is not None
                return self._format.format
            case "unix":
                return self._write_number
            case "Date":
                return date_of
            case "Time":
                return time_of
        return timestamp_of

    def _write_number(self, moment: int) -> int:
        if self._precision == "seconds":
            return moment // 1_000 if moment >= 0 else -(-moment // 1_000)
        return max(min(moment * _PER_MILLISECOND.get(self._precision, 1), _LARGEST), -_LARGEST - 1)


class TimestampConverterKey(TimestampConverter):
    """TimestampConverter for keys."""

    on_key = True
    aliases = (f"{JVM}TimestampConverter$Key",)


class TimestampConverterValue(TimestampConverter):
    """TimestampConverter for values."""

    on_key = False
    aliases = (f"{JVM}TimestampConverter$Value",)
