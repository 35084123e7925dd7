"""InsertHeader and DropHeaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace import ColumnTransform, ConfigModel, RecordColumns, key
from headrace_transforms.header_texts import parse_text
from headrace_transforms.keys import Names
from headrace_transforms.sides import JVM
from headrace_transforms.simple_header_converter import header_column


class InsertHeaderConfig(ConfigModel):
    """Keys of Kafka Connect's InsertHeader."""

    header: str = key("header", doc="Name of the header.", importance="high")
    literal: str = key(
        "value.literal",
        doc="Its value. What looks like a number, a date, a list or a map is read as one, as in Kafka Connect, and "
        "written by `header.converter`. As a text it has its shortest form: `1.50` becomes `1.5`.",
        importance="high",
    )


class InsertHeader(ColumnTransform):
    """Adds a header with a fixed value. Headers of the same name stay."""

    config_model = InsertHeaderConfig
    aliases = (f"{JVM}InsertHeader",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = InsertHeaderConfig.parse(properties)
        self._name, self._schema_and_value = config.header, parse_text(config.literal)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        schema, value = self._schema_and_value
        (written,) = header_column(self.header_converter, batch.topic, self._name, schema, [value])
        header = (self._name, written)
        return [replace(batch, headers=[[*headers, header] for headers in batch.headers])]


class DropHeadersConfig(ConfigModel):
    """Keys of Kafka Connect's DropHeaders."""

    headers: Names = key("headers", doc="Names of the headers to remove.", importance="high")


class DropHeaders(ColumnTransform):
    """Removes all headers of some names."""

    config_model = DropHeadersConfig
    aliases = (f"{JVM}DropHeaders",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        self._names = frozenset(DropHeadersConfig.parse(properties).headers)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        names = self._names
        return [
            replace(
                batch,
                headers=[
                    [header for header in headers if header[0] not in names] if headers else headers
                    for headers in batch.headers
                ],
            )
        ]
