"""ExtractField: a field in place of the whole key or value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headrace import DataError, Finding, RecordColumns, Schema, Type, key
from headrace_transforms.field_path import FieldSyntaxConfig, parse_path
from headrace_transforms.sides import JVM, SideTransform, require_maps

_PURPOSE = "ExtractField"


class ExtractFieldConfig(FieldSyntaxConfig):
    """Keys of Kafka Connect's ExtractField."""

    field: str = key("field", doc="The field to extract.", importance="high")

    def problems(self) -> Iterable[Finding]:
        yield from self.path_problems("field", [self.field])


class ExtractField(SideTransform):
    """Replaces maps and structs by one of their fields. A null stays null."""

    config_model = ExtractFieldConfig
    nulls_stay = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = ExtractFieldConfig.parse(properties)
        self._path, self._replace_null = parse_path(config.field, config.syntax), config.replace_null

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        path = self._path
        require_maps([value for value in values if value is not None], _PURPOSE)
        if schema is None:
            if len(path.names) == 1:
                (name,) = path.names
                return None, [None if value is None else value.get(name) for value in values]
            return None, [path.value_in(value) for value in values]
        if schema.type is not Type.STRUCT:
            raise DataError(
                f"ExtractField needs a map or a struct, and found {schema.type.value}", code="transform.not_a_map"
            )
        described = path.schema_in(schema)
        if described is None:
            raise DataError(
                f"ExtractField: the struct has no field '{path.text}'",
                code="transform.no_field",
                hint="fields: " + ", ".join(field.name for field in schema.fields),
            )
        return described, [path.struct_value_in(schema, value, replace_null=self._replace_null) for value in values]


class ExtractFieldKey(ExtractField):
    """ExtractField for keys."""

    on_key = True
    aliases = (f"{JVM}ExtractField$Key",)


class ExtractFieldValue(ExtractField):
    """ExtractField for values."""

    on_key = False
    aliases = (f"{JVM}ExtractField$Value",)
