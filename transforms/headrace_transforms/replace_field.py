"""ReplaceField: drops and renames fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from headrace import CommaList, DataError, Field, Finding, RecordColumns, Schema, key
from headrace_transforms.keys import ReplaceNullConfig, invalid, pairs
from headrace_transforms.sides import (
    JVM,
    SideTransform,
    basics,
    remembered,
    require_maps,
    require_struct,
    with_defaults,
)

_PURPOSE = "ReplaceField"


class ReplaceFieldConfig(ReplaceNullConfig):
    """Keys of Kafka Connect's ReplaceField."""

    exclude: CommaList = key("exclude", default="", doc="Fields to remove. It wins over `include`.")
    include: CommaList = key("include", default="", doc="Fields to keep, by their old names; empty: all.")
    renames: CommaList = key("renames", default="", doc="Fields to rename: `old:new,old2:new2`.")

    unsupported_keys: ClassVar = {
        "blacklist": ("Kafka Connect 4 ignores it", "write 'exclude'"),
        "whitelist": ("Kafka Connect 4 ignores it", "write 'include'"),
    }

    def problems(self) -> Iterable[Finding]:
        try:
            names = pairs(self.renames)
        except ValueError as error:
            yield invalid("renames", ",".join(self.renames), str(error), "write old:new,old2:new2")
        else:
            for name in [*names, *names.values()]:
                if name != name.strip():
                    hint = "remove the spaces: they would be a part of the name, and no field would be renamed"
                    yield invalid("renames", ",".join(self.renames), f"a space next to the colon of '{name}'", hint)


class ReplaceField(SideTransform):
    """Removes and renames fields of maps and structs."""

    config_model = ReplaceFieldConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        config = ReplaceFieldConfig.parse(properties)
        self._replace_null = config.replace_null
        self._exclude, self._include = frozenset(config.exclude), frozenset(config.include)
        self._renames = pairs(config.renames)
        self._plan = remembered(self._kept_fields)

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        if schema is None:
            require_maps(values, _PURPOSE)
            keeps, renames = self._keeps, self._renames
            if not self._include and not renames:
                exclude = self._exclude
                return None, [{name: item for name, item in value.items() if name not in exclude} for value in values]
            return None, [
                {renames.get(name, name): item for name, item in value.items() if keeps(name)} for value in values
            ]
        require_struct(schema, values, _PURPOSE)
        replaced, names = self._plan(schema)
        values = with_defaults(schema, values, replace_null=self._replace_null)
        return replaced, [{new: value.get(old) for old, new in names} for value in values]

    def _keeps(self, name: str) -> bool:
        return name not in self._exclude and (not self._include or name in self._include)

    def _kept_fields(self, schema: Schema) -> tuple[Schema, list[tuple[str, str]]]:
        kept = [field for field in schema.fields if self._keeps(field.name)]
        names = [(field.name, self._renames.get(field.name, field.name)) for field in kept]
        if len({new for _, new in names}) < len(names):
            raise DataError(
                "ReplaceField: a field would be renamed to the name of another field",
                code="transform.field_exists",
                hint="exclude the other field, or choose another name",
            )
        fields = tuple(Field(new, field.schema) for field, (_, new) in zip(kept, names, strict=True))
        return basics(schema, fields=fields), names


class ReplaceFieldKey(ReplaceField):
    """ReplaceField for keys."""

    on_key = True
    aliases = (f"{JVM}ReplaceField$Key",)


class ReplaceFieldValue(ReplaceField):
    """ReplaceField for values."""

    on_key = False
    aliases = (f"{JVM}ReplaceField$Value",)
