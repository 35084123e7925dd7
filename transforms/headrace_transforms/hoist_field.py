"""HoistField: a struct or map with the whole key or value as its only field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace import ConfigModel, Field, RecordColumns, Schema, Type, key
from headrace_transforms.sides import JVM, SideTransform


class HoistFieldConfig(ConfigModel):
    """Keys of Kafka Connect's HoistField."""

    field: str = key("field", doc="Name of the field.", importance="high")


class HoistField(SideTransform):
    """Wraps keys or values. A null is wrapped, too."""

    config_model = HoistFieldConfig
    nulls_stay = False

    def configure(self, properties: Mapping[str, str]) -> None:
        self._field = HoistFieldConfig.parse(properties).field

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        name = self._field
        hoisted = None if schema is None else Schema(Type.STRUCT, fields=(Field(name, schema),))
        return hoisted, [{name: value} for value in values]


class HoistFieldKey(HoistField):
    """HoistField for keys."""

    on_key = True
    aliases = (f"{JVM}HoistField$Key",)


class HoistFieldValue(HoistField):
    """HoistField for values."""

    on_key = False
    aliases = (f"{JVM}HoistField$Value",)
