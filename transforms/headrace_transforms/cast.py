"""Cast: other types of fields, or of the whole key or value."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
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
_KINDS = frozenset({bool, int, float, str, bytes})
"""Values without a schema that can be cast."""
_Cast = Callable[[Any], Any]


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
        self._plain = [(name, _caster(None, target)) for name, target in self._fields.items()]

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
            return None, [_with_casts(value, self._plain) for value in values]
        require_struct(schema, values, _PURPOSE)
        values = with_defaults(schema, values, replace_null=self._replace_null)
        casts = [
            (field.name, _caster(field.schema, self._fields[field.name]))
            for field in schema.fields
            if field.name in self._fields
        ]
        return self._schema_of(schema), [_with_casts(value, casts) for value in values]

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


def _with_casts(value: Mapping[str, Any], casts: Sequence[tuple[str, _Cast]]) -> dict[str, Any]:
    made = {**value}
    for name, cast in casts:
        made[name] = _applied(cast, made.get(name), name)
    return made


def _applied(cast: _Cast, value: Any, name: str) -> Any:
    if value is None:
        return None
    try:
        return cast(value)
    except ValueError as error:
        raise DataError(f"Cast: {name}: {error}", code="transform.cannot_cast") from error


def _caster(schema: Schema | None, target: Type) -> _Cast:
    """Return a function that casts values of the schema. It raises ValueError."""
    is_date = schema is not None and schema.name == schemas.DATE
    is_single = schema is not None and schema.type is Type.FLOAT32
    if target is Type.STRING:
        cast = _to_text(is_single=is_single)
    elif target is Type.BOOLEAN:
        cast = _to_boolean
    elif target in _BITS:
        cast = _to_whole(_BITS[target])
    else:
        cast = _to_single if target is Type.FLOAT32 else _to_real
    if schema is None:
        return lambda value: cast(value) if value.__class__ in _KINDS else _refuse(value, target)
    if schema.type in (Type.STRUCT, Type.ARRAY, Type.MAP):
        return lambda value: _refuse(value, target)
    if schema.name is None or target is Type.STRING:
        return cast
    return lambda value: cast(_number_of_moment(value, is_date=is_date) if isinstance(value, (date, time)) else value)


def _refuse(value: Any, target: Type) -> Any:
    raise ValueError(f"{kind_of(value)} cannot be cast to {target.value}")


def _to_whole(bits: int) -> _Cast:
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def cast(value: Any) -> int:
        if value.__class__ is int and lowest <= value <= highest:
            number: int = value
            return number
        return read_whole(value, bits) if isinstance(value, str) else _whole(value, bits)

    return cast


def _whole(value: Any, bits: int) -> int:
    if isinstance(value, (bytes, bytearray)):
        raise ValueError("bytes cannot be cast to a number")  # noqa: TRY004 (of a record)
    return narrowed(value, bits) if isinstance(value, float) else wrapped(int(value), bits)


def _to_boolean(value: Any) -> bool:
    return value.lower() == "true" if isinstance(value, str) else _whole(value, 64) != 0


def _to_real(value: Any) -> float:
    if isinstance(value, (bytes, bytearray)):
        raise ValueError("bytes cannot be cast to a number")  # noqa: TRY004 (of a record)
    return read_real(value) if isinstance(value, str) else float(value)


def _to_single(value: Any) -> float:
    return single(_to_real(value))


def _to_text(*, is_single: bool) -> _Cast:
    def cast(value: Any) -> str:
        if value.__class__ is str:
            text: str = value
            return text
        if value.__class__ is int:
            return str(value)
        return _text(value, is_single=is_single)

    return cast


def _number_of_moment(value: date | time, *, is_date: bool) -> int:
    moment = milliseconds_of(value)
    return moment // DAY if is_date else moment


def _text_of_moment(moment: int) -> str:
    """Return the text of a ``java.util.Date``, whose form depends on the moment and not on the type."""
    if moment < DAY:
        return TIME.format(moment)
    return DATE.format(moment) if civil_of(moment).milliseconds == 0 else TIMESTAMP.format(moment)


def _text(value: Any, *, is_single: bool) -> str:
    if isinstance(value, (date, time)):
        return _text_of_moment(milliseconds_of(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return text_of_real(value, is_single=is_single)
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
