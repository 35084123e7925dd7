"""Facts of a message's fields that schemas and values are read by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.connect_names import FIELD_META

WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


class MessageField(NamedTuple):
    """A field of a message."""

    descriptor: FieldDescriptor
    proto: FieldDescriptorProto
    is_proto2: bool

    @property
    def name(self) -> str:
        return str(self.descriptor.name)

    @property
    def is_message(self) -> bool:
        return self.proto.type in (FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_GROUP)

    @property
    def is_enum(self) -> bool:
        return self.proto.type == FieldDescriptorProto.TYPE_ENUM

    @property
    def is_repeated(self) -> bool:
        return self.proto.label == FieldDescriptorProto.LABEL_REPEATED

    @property
    def is_map(self) -> bool:
        """Whether it is a map, or a list of entries, as which Kafka Connect's converter writes maps."""
        return self.is_true_map or (
            self.is_repeated
            and self.is_message
            and str(self.message.name).endswith("Entry")
            and [(part.name, part.is_repeated) for part in fields_of(self.message)]
            == [("key", False), ("value", False)]
        )

    @property
    def is_true_map(self) -> bool:
        return self.is_repeated and self.is_message and bool(self.message.GetOptions().map_entry)

    @property
    def message_name(self) -> str:
        """The full name of the type of a message."""
        return str(self.message.full_name) if self.is_message else ""

    @property
    def message(self) -> Descriptor:
        """The type of a message."""
        assert self.descriptor.message_type is not None
        return self.descriptor.message_type

    @property
    def enum(self) -> EnumDescriptor:
        """The type of an enum."""
        assert self.descriptor.enum_type is not None
        return self.descriptor.enum_type

    @property
    def oneof(self) -> OneofDescriptor | None:
        """The ``oneof`` that the field is a member of; None for that of a single optional field."""
        return None if self.proto.proto3_optional else self.descriptor.containing_oneof

    @property
    def is_marked_optional(self) -> bool:
        """Whether the file says ``optional``."""
        if self.proto.proto3_optional:
            return True
        is_optional = self.is_proto2 and self.proto.label == FieldDescriptorProto.LABEL_OPTIONAL
        return is_optional and self.descriptor.containing_oneof is None

    def may_be_unset(self, config: ProtobufConverterConfig) -> bool:
        """Return whether a value that is not set is null, and not the default of its type."""
        if self.is_repeated:
            return False
        if self.is_message:
            return not config.struct_for_nulls
        return self.proto.proto3_optional or (config.optional_for_proto2 and self.is_marked_optional)

    def parameters(self) -> Mapping[str, str]:
        """Return the parameters of the option ``(confluent.field_meta)``."""
        return meta_parameters(self.proto)


def meta_parameters(field: FieldDescriptorProto) -> dict[str, str]:
    """Return the parameters of a field's option ``(confluent.field_meta)``, sorted: a map has no order of its own."""
    return dict(sorted(_Options.FromString(field.options.SerializeToString()).field_meta.params.items()))


def set_meta_parameters(field: FieldDescriptorProto, parameters: Mapping[str, str]) -> None:
    """Set the option ``(confluent.field_meta)``."""
    field.options.MergeFromString(_Options(field_meta={"params": dict(parameters)}).SerializeToString())


def fields_of(descriptor: Descriptor) -> list[MessageField]:
    """Return the fields of a message in the order of the file."""
    proto, file = DescriptorProto(), FileDescriptorProto()
    descriptor.CopyToProto(proto)
    descriptor.file.CopyToProto(file)
    is_proto2 = file.syntax in ("", "proto2")
    return [MessageField(*pair, is_proto2) for pair in zip(descriptor.fields, proto.field, strict=True)]


def _options_class() -> Any:
    """Return a message that reads Confluent's option, whatever extensions other libraries have registered."""
    file = FileDescriptorProto(name="options.proto", package="headrace", syntax="proto3")
    one, many = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    text, part = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_MESSAGE
    options = file.message_type.add(name="Options")
    options.field.add(name="field_meta", number=FIELD_META, type=part, type_name=".headrace.Meta", label=one)
    meta = file.message_type.add(name="Meta")
    meta.field.add(name="params", number=2, type=part, type_name=".headrace.Meta.ParamsEntry", label=many)
    entry = meta.nested_type.add(name="ParamsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=text, label=one)
    entry.field.add(name="value", number=2, type=text, label=one)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("headrace.Options"))


_Options = _options_class()
