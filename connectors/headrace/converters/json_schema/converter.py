"""Confluent's JsonSchemaConverter."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.converters.json_schema.configuration import JsonSchemaConverterConfig
from headrace.converters.schema_registry.converter import RegistryConverter


class JsonSchemaConverter(RegistryConverter):
    """Confluent's JsonSchemaConverter. Differs in three ways: a value that contradicts the type of its schema is
    refused, where Confluent's reads 0, false or null; a null in a required field is refused, not left out; a schema
    that the registry refuses fails the task, and no record is skipped for it."""

    config_model = JsonSchemaConverterConfig
    aliases = ("io.confluent.connect.json.JsonSchemaConverter",)

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        config = JsonSchemaConverterConfig.parse(properties)
        # Only here: all converters are imported to find one, and this takes time.
        from headrace.converters.json_schema.json_schema_format import JsonSchemaFormat

        self.use(config, JsonSchemaFormat(config), is_key=is_key)
