"""Keys of the JSON Schema converter, as Confluent's JsonSchemaConverter has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

from headrace import UPPER, FixedKey, key
from headrace.converters.schema_registry.configuration import OptionalPackage, SchemaRegistryConfig


class JsonSchemaConverterConfig(SchemaRegistryConfig):
    """Keys of Confluent's JsonSchemaConverter and of its registry client."""

    converter: ClassVar = "JsonSchemaConverter"

    validates: bool = key(
        "json.fail.invalid.schema",
        default=False,
        doc="Check all keywords of the schema (`pattern`, `minimum`, …) for records that are written and read. Needs "
        "the extra `json-schema`. false: only types are checked.",
    )
    additional_properties: bool = key(
        "object.additional.properties",
        default=True,
        doc="Let written schemas allow properties that they do not name.",
    )
    optional_if_not_required: bool = key(
        "use.optional.for.nonrequired",
        default=False,
        doc="Properties that a schema does not list as `required` are optional fields.",
    )
    decimal_format: Annotated[Literal["BASE64", "NUMERIC"], UPPER] = key(
        "decimal.format",
        default="BASE64",
        doc="How decimals are written: `BASE64` (unscaled bytes) or `NUMERIC` (JSON numbers). Both are read.",
    )
    flattens_single: bool = key(
        "flatten.singleton.unions",
        default=True,
        doc="Read a `oneOf`, `anyOf` or `allOf` of one schema as that schema.",
        importance="low",
    )

    ignored_keys: ClassVar[Mapping[str, str]] = {
        **SchemaRegistryConfig.ignored_keys,
        "json.fail.unknown.properties": "it concerns Java classes",
        "json.key.type": "it concerns Java classes",
        "json.value.type": "it concerns Java classes",
        "json.oneof.for.nullables": "it concerns schemas of Java classes",
        "json.schema.spec.version": "it concerns schemas of Java classes",
        "json.write.dates.iso8601": "it concerns Java classes",
        "json.default.property.inclusion": "it concerns Java classes",
        "type.property": "it concerns Java classes",
    }
    fixed_keys: ClassVar[Mapping[str, FixedKey]] = {
        **SchemaRegistryConfig.fixed_keys,
        "json.indent.output": FixedKey(("false",), "records are written without white space"),
        "preserve.additional.properties": FixedKey(("false",), "properties that a schema does not name are left out"),
        "ignore.modern.dialects": FixedKey(("false",), "all dialects have the same keywords for types"),
    }

    def packages(self) -> Iterable[OptionalPackage]:
        return (OptionalPackage("jsonschema_rs", "jsonschema-rs", "json-schema"),) if self.validates else ()
