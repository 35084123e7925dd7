"""Filter: drops the records that its predicate selects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace import ColumnTransform, ConfigModel, RecordColumns
from headrace_transforms.sides import JVM


class FilterTransform(ColumnTransform):
    """Drops every record it is given, so it needs a predicate; without one it drops all records."""

    config_model = ConfigModel
    aliases = (f"{JVM}Filter",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        ConfigModel.parse(properties)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        return []
