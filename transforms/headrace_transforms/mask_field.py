"""MaskField: a null value of its type, or a replacement, in place of a field's contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from headrace import DataError, RecordColumns, Schema, Type, key
from headrace_transforms.java_numbers import single, wrapped
from headrace_transforms.keys import Names, ReplaceNullConfig
from headrace_transforms.sides import JVM, SideTransform, kind_of, require_maps, require_struct, with_defaults
from headrace_transforms.times import date_of, time_of, timestamp_of

_PURPOSE = "MaskField"
_BITS = {Type.INT8: 8, Type.INT16: 16, Type.INT32: 32, Type.INT64: 64}


class MaskFieldConfig(ReplaceNullConfig):
    """Keys of Kafka Connect's MaskField."""

    fields: Names = key("fields", doc="Fields to mask.", importance="high")
    replacement: str | None = key(
        "replacement",
        default=None,
        min_length=1,
        doc="Replacement of texts and numbers; without it they become empty, or 0.",
        importance="low",
    )


class MaskField(SideTransform):
    """Masks fields. A null stays null."""

    config_model = MaskFieldConfig
    nulls_stay = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = MaskFieldConfig.parse(properties)
        self._fields, self._replacement, self._replace_null = config.fields, config.replacement, config.replace_null

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        if schema is None:
            require_maps(values, _PURPOSE)
            kinds: dict[str, Schema | None] = dict.fromkeys(self._fields)
        else:
            require_struct(schema, values, _PURPOSE)
            values = with_defaults(schema, values, replace_null=self._replace_null)
            kinds = {name: schema.by_name[name] for name in self._fields if name in schema.by_name}
        return schema, [
            {**value, **{name: self._masked(value.get(name), kind, name) for name, kind in kinds.items()}}
            for value in values
        ]

    def _masked(self, value: Any, schema: Schema | None, name: str) -> Any:
        if value is None:
            return None
        try:
            return _empty(value, schema) if self._replacement is None else _replaced(self._replacement, value, schema)
        except ValueError as error:
            raise DataError(f"MaskField: {name}: {error}", code="transform.cannot_mask") from error


def _empty(value: Any, schema: Schema | None) -> Any:
    match value:
        case bool():
            return False
        case str():
            return ""
        case int():
            return 0
        case float():
            return 0.0
        case Decimal():
            return Decimal(0)
        case datetime():
            return timestamp_of(0)
        case date():
            return date_of(0)
        case time():
            return time_of(0)
        case list():
            return []
        case dict() if schema is None or schema.type is Type.MAP:
            return {}
    raise ValueError(f"{_kind(value)} cannot be masked")


def _replaced(text: str, value: Any, schema: Schema | None) -> Any:
    if isinstance(value, str):
        return text
    if isinstance(value, (bool, bytes, bytearray, date, time, list, dict)):
        raise ValueError(f"{_kind(value)} cannot be masked with a replacement")  # noqa: TRY004 (of a record)
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(f"the replacement '{text}' is not a number") from None
    if isinstance(value, Decimal):
        return number
    if isinstance(value, float):
        real = float(number)
        return single(real) if schema is not None and schema.type is Type.FLOAT32 else real
    return wrapped(int(number), _BITS[schema.type] if schema is not None else 64)


def _kind(value: Any) -> str:
    return "a struct" if isinstance(value, dict) else kind_of(value)


class MaskFieldKey(MaskField):
    """MaskField for keys."""

    on_key = True
    aliases = (f"{JVM}MaskField$Key",)


class MaskFieldValue(MaskField):
    """MaskField for values."""

    on_key = False
    aliases = (f"{JVM}MaskField$Value",)
