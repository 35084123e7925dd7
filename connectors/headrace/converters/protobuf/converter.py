"""Confluent's ProtobufConverter."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.schema_registry.converter import RegistryConverter


class ProtobufConverter(RegistryConverter):
    """Confluent's ProtobufConverter. Differs in two ways: numbers of 64 bits without a sign above those of INT64 are
    refused, where Confluent's reads negative ones; a schema that the registry refuses fails the task, and no record is
    skipped for it."""

    config_model = ProtobufConverterConfig
    aliases = ("io.confluent.connect.protobuf.ProtobufConverter",)

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        config = ProtobufConverterConfig.parse(properties)
        # Only here: all converters are imported to find one, and protobuf may not be installed.
        from headrace.converters.protobuf.protobuf_format import ProtobufFormat

        self.use(config, ProtobufFormat(config), is_key=is_key)
