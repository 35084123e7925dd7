"""Confluent's AvroConverter."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.converters.avro.configuration import AvroConverterConfig
from headrace.converters.schema_registry.converter import RegistryConverter


class AvroConverter(RegistryConverter):
    """Confluent's AvroConverter. Differs in three ways: bytes behind a value are refused; a schema that the registry
    refuses fails the task, and no record is skipped for it; a schema's version is that of ``connect.version`` only."""

    config_model = AvroConverterConfig
    aliases = ("io.confluent.connect.avro.AvroConverter",)

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        config = AvroConverterConfig.parse(properties)
        # Only here: all converters are imported to find one, and fastavro may not be installed.
        from headrace.converters.avro.avro_format import AvroFormat

        self.use(config, AvroFormat(config), is_key=is_key)
