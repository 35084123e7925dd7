"""Files that schemas import and that no registry keeps: Google's types, and Confluent's, which no package has.

Confluent's are stated by what their bytes are: names, numbers and types of fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from google.protobuf import timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.type import date_pb2, timeofday_pb2

from headrace.converters.protobuf.connect_names import DECIMAL_MESSAGE, FILES, META_FILE

FOLDER_OF_GOOGLE_TYPES = Path(date_pb2.__file__).parents[2]
TEXTS = {
    META_FILE: """syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta {
  string doc = 1;
  map<string, string> params = 2;
  repeated string tags = 3;
  repeated Rule rules = 4;
}
message Rule { string name = 1; string doc = 2; string expr = 3; string sql = 4; }
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
""",
    FILES[DECIMAL_MESSAGE]: """syntax = "proto3";
package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
""",
}


def known_file(name: str) -> FileDescriptorProto:
    """Return a file that our own schemas import."""
    return _COMPILED[name]


def _file(module: object) -> FileDescriptorProto:
    copy = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(copy)  # type: ignore[attr-defined]
    return copy


def _decimal() -> FileDescriptorProto:
    made = FileDescriptorProto(name=FILES[DECIMAL_MESSAGE], package="confluent.type", syntax="proto3")
    message = made.message_type.add(name="Decimal")
    kinds = (
        ("value", FieldDescriptorProto.TYPE_BYTES),
        ("precision", FieldDescriptorProto.TYPE_UINT32),
        ("scale", FieldDescriptorProto.TYPE_INT32),
    )
    for number, (name, kind) in enumerate(kinds, 1):
        message.field.add(name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    return made


def _by_name(files: Iterable[FileDescriptorProto]) -> dict[str, FileDescriptorProto]:
    return {file.name: file for file in files}


_COMPILED = _by_name([_decimal(), *map(_file, (timestamp_pb2, wrappers_pb2, date_pb2, timeofday_pb2))])
