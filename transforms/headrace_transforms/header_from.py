"""HeaderFrom: headers made of fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from headrace import DataError, Finding, RecordColumns, Schema, key
from headrace_transforms.keys import Names, ReplaceNullConfig, invalid
from headrace_transforms.sides import (
    JVM,
    SideTransform,
    basics,
    remembered,
    require_maps,
    require_struct,
    with_defaults,
)
from headrace_transforms.simple_header_converter import header_column

_PURPOSE = "HeaderFrom"


class HeaderFromConfig(ReplaceNullConfig):
    """Keys of Kafka Connect's HeaderFrom."""

    fields: Names = key("fields", doc="Fields of the key or value.", importance="high")
    headers: Names = key("headers", doc="Names of the headers, in the order of `fields`.", importance="high")
    operation: Literal["move", "copy"] = key(
        "operation", doc="`move` removes the fields, `copy` leaves them.", importance="high"
    )

    def problems(self) -> Iterable[Finding]:
        if len(self.fields) != len(self.headers):
            reason = "'fields' config must have the same number of elements as 'headers' config."
            yield invalid("headers", ",".join(self.headers), reason, "name one header for each field")


class HeaderFrom(SideTransform):
    """Adds fields as headers. Headers of the same name stay."""

    config_model = HeaderFromConfig
    nulls_stay = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = HeaderFromConfig.parse(properties)
        self._names = dict(zip(config.fields, config.headers, strict=True))
        self._pairs = list(zip(config.fields, config.headers, strict=True))
        self._moves, self._replace_null = config.operation == "move", config.replace_null
        self._schema_of = remembered(self._remaining)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        schema, values = self.side_of(batch)
        if schema is None:
            require_maps(values, _PURPOSE)
        else:
            require_struct(schema, values, _PURPOSE)
            missing = [name for name, _ in self._pairs if name not in schema.by_name]
            if missing:
                raise DataError(
                    f"HeaderFrom: the struct has no field '{missing[0]}'",
                    code="transform.no_field",
                    hint="fields: " + ", ".join(field.name for field in schema.fields),
                )
        filled = values if schema is None else with_defaults(schema, values, replace_null=self._replace_null)
        columns = [self._header(batch.topic, header, schema, name, filled) for name, header in self._pairs]
        headers = [[*own, *added] for own, *added in zip(batch.headers, *columns, strict=True)]
        return [replace(self.with_side(batch, *self.convert(schema, filled, batch)), headers=headers)]

    def _header(
        self, topic: str, header: str, schema: Schema | None, field: str, values: Sequence[Any]
    ) -> list[tuple[str, bytes | None]]:
        """Return the header of each record that is made of a field."""
        kind = schema.by_name[field] if schema is not None else None
        column = [value.get(field) for value in values]
        return [(header, written) for written in header_column(self.header_converter, topic, header, kind, column)]

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        if not self._moves:
            return schema, list(values)
        moved = self._names.keys()
        rest = [{name: item for name, item in value.items() if name not in moved} for value in values]
        return None if schema is None else self._schema_of(schema), rest

    def _remaining(self, schema: Schema) -> Schema:
        return basics(schema, fields=tuple(field for field in schema.fields if field.name not in self._names))


class HeaderFromKey(HeaderFrom):
    """HeaderFrom for keys."""

    on_key = True
    aliases = (f"{JVM}HeaderFrom$Key",)


class HeaderFromValue(HeaderFrom):
    """HeaderFrom for values."""

    on_key = False
    aliases = (f"{JVM}HeaderFrom$Value",)
