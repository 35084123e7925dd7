"""Cast: other types of fields, or of the whole key or value."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any, NamedTuple

from headrace import DataError, Field, Finding, RecordColumns, Schema, Type, key
from headrace import schema as schemas
from headrace_transforms.java_dates import DAY, civil_of
from headrace_transforms.java_numbers import narrowed, read_real, read_whole, single, text_of_real, wrapped
from headrace_transforms.keys import Names, ReplaceNullConfig, invalid
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
from headrace_transforms.times import DATE, TIME, TIMESTAMP, milliseconds_of

_PURPOSE = "Cast"
_BITS = {Type.INT8: 8, Type.INT16: 16, Type.INT32: 32, Type.INT64: 64}
_TARGETS = {kind.name.lower(): kind for kind in (*_BITS, Type.FLOAT32, Type.FLOAT64, Type.BOOLEAN, Type.STRING)}
_KINDS: dict[type, Type] = {
    bool: Type.BOOLEAN,
    int: Type.INT64,
    float: Type.FLOAT64,
    str: Type.STRING,
    bytes: Type.BYTES,
}
"""Types of values without a schema."""


class Specification(NamedTuple):
    """What is cast: fields, or the whole value."""

    fields: Mapping[str, Type]
    whole: Type | None


def parse_specification(items: Sequence[str]) -> Specification:
    """Return what ``spec`` says. Raise ValueError."""
    fields: dict[str, Type] = {}
    whole = None
    for item in items:
        *name, kind = (part.strip() for part in item.split(":"))
        target = _TARGETS.get(kind.lower())
        if len(name) > 1:
            raise ValueError(f"'{item}' is not a pair of field and type such as id:int64")
        if target is None:
            raise ValueError(f"'{kind}' is not a type that values can be cast to")
        if name:
            fields[name[0]] = target
        else:
            whole = target
    if whole is not None and len(items) > 1:
        raise ValueError("a cast of the whole value excludes casts of fields")
    return Specification(fields, whole)


class CastConfig(ReplaceNullConfig):
    """Keys of Kafka Connect's Cast."""

    spec: Names = key(
        "spec",
        doc="`field:type,field2:type2`, or one type for the whole value: int8, int16, int32, int64, float32, float64, "
        "boolean, string.",
        importance="high",
    )

    def problems(self) -> Iterable[Finding]:
        try:
            parse_specification(self.spec)
        except ValueError as error:
            yield invalid("spec", ",".join(self.spec), str(error), f"types: {', '.join(_TARGETS)}")


class Cast(SideTransform):
    """Casts fields or whole values as Java does: integers wrap around, floats are cut off."""

    config_model = CastConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        config = CastConfig.parse(properties)
        self._replace_null = config.replace_null
        self._fields, self._whole = parse_specification(config.spec)
        self._schema_of = remembered(self._cast_schema)
        self._plain = {name: _caster(None, target) for name, target in self._fields.items()}

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        if self._whole is not None:
            cast = _caster(schema, self._whole)
            return None if schema is None else self._schema_of(schema), [
                _applied(cast, value, "value") for value in values
            ]
        if schema is None:
            require_maps(values, _PURPOSE)
            return None, [
                {**value, **{name: _applied(cast, value.get(name), name) for name, cast in self._plain.items()}}
                for value in values
            ]
        require_struct(schema, values, _PURPOSE)
        values = with_defaults(schema, values, replace_null=self._replace_null)
        casts = {
            field.name: _caster(field.schema, self._fields[field.name])
            for field in schema.fields
            if field.name in self._fields
        }
        return self._schema_of(schema), [
            {**value, **{name: _applied(cast, value.get(name), name) for name, cast in casts.items()}}
            for value in values
        ]

    def _cast_schema(self, schema: Schema) -> Schema:
        if self._whole is not None:
            default = _applied(_caster(schema, self._whole), schema.default, "default")
            return basics(schema, type=self._whole, optional=schema.optional, default=default)
        fields = tuple(
            Field(field.name, _cast_field(field.schema, self._fields[field.name], field.name))
            if field.name in self._fields
            else field
            for field in schema.fields
        )
        return basics(schema, fields=fields, optional=schema.optional, default=schema.default)


def _cast_field(schema: Schema, target: Type, name: str) -> Schema:
    default = _applied(_caster(schema, target), schema.default, name)
    return Schema(target, optional=schema.optional, default=default)


def _applied(cast: Callable[[Any], Any], value: Any, name: str) -> Any:
    if value is None:
        return None
    try:
        return cast(value)
    except ValueError as error:
        raise DataError(f"Cast: {name}: {error}", code="transform.cannot_cast") from error


def _caster(schema: Schema | None, target: Type) -> Callable[[Any], Any]:
    """Return a function that casts values of the schema. It raises ValueError."""
    if schema is None:
        return lambda value: _cast(value, _kind_without_schema(value), None, target)
    if schema.type in (Type.STRUCT, Type.ARRAY, Type.MAP):
        return lambda value: _refuse(schema.type.value, target)
    return lambda value: _cast(value, schema.type, schema.name, target)


def _kind_without_schema(value: Any) -> Type:
    kind = _KINDS.get(type(value))
    if kind is None:
        raise ValueError(f"{kind_of(value)} cannot be cast without a schema")
    return kind


def _refuse(kind: str, target: Type) -> Any:
    raise ValueError(f"{kind} cannot be cast to {target.value}")


def _cast(value: Any, kind: Type, name: str | None, target: Type) -> Any:
    if isinstance(value, (date, time)):
        if target is Type.STRING:
            return _text_of_moment(milliseconds_of(value))
        value = _number_of_moment(value, name)
    if target is Type.STRING:
        return _text(value, kind)
    if isinstance(value, (bytes, bytearray)):
        _refuse("bytes", target)
    if target is Type.BOOLEAN:
        return value.lower() == "true" if isinstance(value, str) else _whole(value, 64) != 0
    if target in (Type.FLOAT32, Type.FLOAT64):
        number = read_real(value) if isinstance(value, str) else float(value)
        return single(number) if target is Type.FLOAT32 else number
    bits = _BITS[target]
    return read_whole(value, bits) if isinstance(value, str) else _whole(value, bits)


def _whole(value: float | Decimal, bits: int) -> int:
    return narrowed(value, bits) if isinstance(value, float) else wrapped(int(value), bits)


def _number_of_moment(value: date | time, name: str | None) -> int:
    moment = milliseconds_of(value)
    return moment // DAY if name == schemas.DATE else moment


def _text_of_moment(moment: int) -> str:
    """Return the text of a ``java.util.Date``, whose form depends on the moment and not on the type."""
    if moment < DAY:
        return TIME.format(moment)
    return DATE.format(moment) if civil_of(moment).milliseconds == 0 else TIMESTAMP.format(moment)


def _text(value: Any, kind: Type) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return text_of_real(value, is_single=kind is Type.FLOAT32)
    if isinstance(value, (bytes, bytearray)):
        return b2a_base64(value, newline=False).decode()
    return str(value)


class CastKey(Cast):
    """Cast for keys."""

    on_key = True
    aliases = (f"{JVM}Cast$Key",)


class CastValue(Cast):
    """Cast for values."""

    on_key = False
    aliases = (f"{JVM}Cast$Value",)
