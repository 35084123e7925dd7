"""Flatten: fields of nested structs and maps as fields of the outermost one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, time
from decimal import Decimal
from typing import Any, NamedTuple

from headrace import ConfigModel, DataError, Field, RecordColumns, Schema, Type, key
from headrace_transforms.sides import JVM, SideTransform, basics, kind_of, remembered, require_maps, require_struct

_PURPOSE = "Flatten"


class FlattenConfig(ConfigModel):
    """Keys of Kafka Connect's Flatten."""

    delimiter: str = key("delimiter", default=".", doc="Between the names of the parent and of the field.")


class _FlatField(NamedTuple):
    name: str
    path: tuple[str, ...]
    default: Any


class Flatten(SideTransform):
    """Flattens structs and, without a schema, maps. Lists stay as they are."""

    config_model = FlattenConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        self._delimiter = FlattenConfig.parse(properties).delimiter
        self._plan = remembered(self._flat_schema)

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        if schema is None:
            require_maps(values, _PURPOSE)
            return None, [self._flat(value, "", {}) for value in values]
        require_struct(schema, values, _PURPOSE)
        flat, paths = self._plan(schema)
        return flat, [{name: _follow(value, path, default) for name, path, default in paths} for value in values]

    def _flat(self, value: Mapping[Any, Any], prefix: str, flat: dict[str, Any]) -> dict[str, Any]:
        """Add the fields to ``flat``, and return it."""
        for name, item in value.items():
            if not isinstance(name, str):
                raise DataError(
                    f"Flatten: the map has a key that is no text: {kind_of(name)}", code="transform.not_a_map"
                )
            full = f"{prefix}{name}"
            if isinstance(item, dict):
                self._flat(item, f"{full}{self._delimiter}", flat)
            elif isinstance(item, (date, time, Decimal)):
                raise DataError(
                    f"Flatten: {full}: {kind_of(item)} is not supported without a schema",
                    code="transform.unsupported_type",
                )
            else:
                flat[full] = item
        return flat

    def _flat_schema(self, schema: Schema) -> tuple[Schema, list[_FlatField]]:
        """Return the flat schema, and where the values of its fields are."""
        found = list(self._fields(schema, (), optional=schema.optional, default=schema.default))
        names = [self._delimiter.join(path) for path, _ in found]
        if len(set(names)) < len(names):
            raise DataError(
                "Flatten: two fields would have the same name",
                code="transform.field_exists",
                hint="choose another delimiter, or rename one of them before",
            )
        fields = tuple(Field(name, described) for name, (_, described) in zip(names, found, strict=True))
        paths = [path for path, _ in found]
        flat = [_FlatField(name, path, _default_at(schema, path)) for name, path in zip(names, paths, strict=True)]
        return basics(schema, fields=fields), flat

    def _fields(
        self, schema: Schema, parents: tuple[str, ...], *, optional: bool, default: Any
    ) -> Iterator[tuple[tuple[str, ...], Schema]]:
        for field in schema.fields:
            path = (*parents, field.name)
            own = field.schema.default
            if own is None and default is not None:
                own = default.get(field.name)
            may_miss = optional or field.schema.optional
            if field.schema.type is Type.STRUCT:
                yield from self._fields(field.schema, path, optional=may_miss, default=own)
            elif field.schema.type is Type.MAP:
                raise DataError(
                    f"Flatten: {self._delimiter.join(path)}: maps with a schema cannot be flattened",
                    code="transform.unsupported_type",
                    hint="remove the field with ReplaceField before",
                )
            else:
                yield path, replace(field.schema, optional=may_miss, default=own)


def _follow(value: Mapping[str, Any], path: tuple[str, ...], default: Any) -> Any:
    """Return the value at the path, ``default`` when only the last part is null."""
    found: Any = value
    for name in path:
        if found is None:
            return None
        found = found.get(name)
    return default if found is None else found


def _default_at(schema: Schema, path: tuple[str, ...]) -> Any:
    for name in path:
        schema = schema.by_name[name]
    return schema.default


class FlattenKey(Flatten):
    """Flatten for keys."""

    on_key = True
    aliases = (f"{JVM}Flatten$Key",)


class FlattenValue(Flatten):
    """Flatten for values."""

    on_key = False
    aliases = (f"{JVM}Flatten$Value",)
