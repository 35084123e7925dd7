"""Keys of the Avro converter, as Confluent's AvroConverter has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from headrace import FixedKey, key
from headrace.converters.schema_registry.configuration import OptionalPackage, SchemaRegistryConfig


class AvroConverterConfig(SchemaRegistryConfig):
    """Keys of Confluent's AvroConverter and of its registry client."""

    converter: ClassVar = "AvroConverter"

    enhanced: bool = key(
        "enhanced.avro.schema.support",
        default=False,
        doc="Write enums as enums, and name the members of unions with their namespace.",
    )
    meta_data: bool = key(
        "connect.meta.data",
        default=True,
        doc="Write what only Connect's schemas have (`connect.name`, `connect.version`, …) into Avro schemas, and read "
        "it.",
        importance="low",
    )
    scrub_names: bool = key(
        "scrub.invalid.names",
        default=False,
        doc="Replace characters that Avro does not allow in names. false: such records are refused.",
    )
    optional_map_keys: bool = key(
        "allow.optional.map.keys",
        default=False,
        doc="Write maps with optional text keys as Avro maps, not as lists of entries.",
        importance="low",
    )

    ignored_keys: ClassVar[Mapping[str, str]] = {
        **SchemaRegistryConfig.ignored_keys,
        "avro.use.logical.type.converters": "it concerns Java classes",
        "avro.remove.java.properties": "it concerns Java classes",
        "specific.avro.reader": "it concerns Java classes",
    }
    fixed_keys: ClassVar[Mapping[str, FixedKey]] = {
        **SchemaRegistryConfig.fixed_keys,
        "discard.type.doc.default": FixedKey(("false",), "documentation and defaults are kept"),
        "flatten.unions": FixedKey(("false",), "unions are structs with a field for each member"),
    }

    def packages(self) -> Iterable[OptionalPackage]:
        return (OptionalPackage("fastavro", "fastavro", "avro"),)
