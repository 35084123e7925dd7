"""Drop and TombstoneHandler: records without a key or value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from headrace import LOWER, ColumnTransform, ConfigModel, DataError, JsonValues, RecordColumns, Schema, key
from headrace_transforms.sides import SideTransform, rows_of


class DropConfig(ConfigModel):
    """Keys of Confluent's Drop."""

    behavior: Annotated[Literal["nullify", "retain", "force_optional"], LOWER] = key(
        "schema.behavior",
        default="nullify",
        doc="The schema of the null: none (`nullify`), the same, which must be optional (`retain`), or the same made "
        "optional (`force_optional`).",
    )


class NullSide(SideTransform):
    """Sets keys or values to null."""

    config_model = DropConfig
    nulls_stay = False
    on_key: ClassVar[bool]

    def configure(self, properties: Mapping[str, str]) -> None:
        self._behavior = DropConfig.parse(properties).behavior

    @property
    def reads_values(self) -> bool:
        return False

    def convert(
        self, schema: Schema | None, values: Sequence[Any], batch: RecordColumns
    ) -> tuple[Schema | None, list[Any]]:
        nulls: list[Any] = [None] * len(values)
        if schema is None or self._behavior == "nullify":
            return None, nulls
        if self._behavior == "retain" and not schema.optional:
            raise DataError(
                "Drop: the schema does not allow null",
                code="transform.required_schema",
                hint="set schema.behavior=force_optional or nullify",
            )
        return schema.as_optional(), nulls


class DropKey(NullSide):
    """Drop for keys."""

    on_key = True
    aliases = ("io.confluent.connect.transforms.Drop$Key",)


class DropValue(NullSide):
    """Drop for values."""

    on_key = False
    aliases = ("io.confluent.connect.transforms.Drop$Value",)


class TombstoneHandlerConfig(ConfigModel):
    """Keys of Confluent's and Aiven's TombstoneHandler."""

    behavior: Annotated[Literal["drop_silent", "drop_warn", "ignore", "fail"], LOWER] = key(
        "behavior",
        default="drop_silent",
        doc="`drop_silent` and `drop_warn` drop null values, `ignore` passes them on, `fail` refuses them.",
        importance="high",
    )


class TombstoneHandler(ColumnTransform):
    """Drops, passes on or refuses records with a null value."""

    config_model = TombstoneHandlerConfig
    aliases = (
        "io.confluent.connect.transforms.TombstoneHandler",
        "io.aiven.kafka.connect.transforms.TombstoneHandler",
    )
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        self._behavior = TombstoneHandlerConfig.parse(properties).behavior

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        values = batch.values.texts if isinstance(batch.values, JsonValues) else batch.values
        present = [row for row, value in enumerate(values) if value is not None]
        if len(present) == len(batch) or self._behavior == "ignore":
            return [batch]
        if self._behavior == "fail":
            raise DataError("TombstoneHandler: the value is null", code="transform.tombstone")
        return [rows_of(batch, present)]
