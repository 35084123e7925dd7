"""Keys of the Protobuf converter, as Confluent's ProtobufConverter has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from headrace import Finding, FixedKey, key
from headrace.converters.schema_registry.configuration import OptionalPackage, SchemaRegistryConfig

_REFERENCES = "written schemas need no references: the types that they import are known to every registry"


class ProtobufConverterConfig(SchemaRegistryConfig):
    """Keys of Confluent's ProtobufConverter and of its registry client."""

    converter: ClassVar = "ProtobufConverter"

    enhanced: bool = key(
        "enhanced.protobuf.schema.support",
        default=False,
        doc="Name structs, enums and unions with their package when reading.",
    )
    scrub_names: bool = key(
        "scrub.invalid.names",
        default=False,
        doc="Replace characters that Protobuf does not allow in names. false: such records are refused.",
    )
    int_for_enums: bool = key("int.for.enums", default=False, doc="Read enums as their numbers, not as their names.")
    optional_for_nullables: bool = key(
        "optional.for.nullables",
        default=False,
        doc="Write optional fields with the label `optional`, so that null is not 0 or an empty text, and read only "
        "such fields as optional.",
    )
    optional_for_proto2: bool = key(
        "optional.for.proto2", default=True, doc="Read an optional field of proto2 that is not set as null."
    )
    wrapper_for_nullables: bool = key(
        "wrapper.for.nullables",
        default=False,
        doc="Write optional fields as wrappers (`google.protobuf.StringValue`, …), and read wrappers as optional "
        "fields.",
    )
    wrapper_for_primitives: bool = key("wrapper.for.raw.primitives", default=True, doc="Read wrappers as their values.")
    struct_for_nulls: bool = key(
        "generate.struct.for.nulls", default=False, doc="Read a message that is not set as a struct of defaults."
    )
    index_for_unions: bool = key(
        "generate.index.for.unions",
        default=True,
        doc="Add the position of a `oneof` to the name of its field (`choice_0`).",
        importance="low",
    )
    flattens_unions: bool = key(
        "flatten.unions", default=False, doc="Read the members of a `oneof` as fields of the record."
    )

    ignored_keys: ClassVar[Mapping[str, str]] = {
        **SchemaRegistryConfig.ignored_keys,
        "specific.protobuf.key.type": "it concerns Java classes",
        "specific.protobuf.value.type": "it concerns Java classes",
        "derive.type": "it concerns Java classes",
        "reference.lookup.only": _REFERENCES,
        "skip.known.types": _REFERENCES,
        "reference.subject.name.strategy": _REFERENCES,
    }
    fixed_keys: ClassVar[Mapping[str, FixedKey]] = {**SchemaRegistryConfig.fixed_keys}

    def packages(self) -> Iterable[OptionalPackage]:
        return (
            OptionalPackage("google.protobuf", "protobuf", "protobuf"),
            OptionalPackage("google.type", "googleapis-common-protos", "protobuf"),
            OptionalPackage("grpc_tools", "grpcio-tools", "protobuf"),
        )

    def problems(self) -> Iterable[Finding]:
        yield from super().problems()
        if self.optional_for_nullables and self.wrapper_for_nullables:
            text = "optional.for.nullables and wrapper.for.nullables are both set"
            yield Finding("config.conflict", text, "wrapper.for.nullables", "keep one of the two")
