"""Writes files of Protobuf that ``from_connect.py`` made as texts."""

from __future__ import annotations

import json
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from headrace.converters.protobuf.connect_names import META_FILE
from headrace.converters.protobuf.fields import meta_parameters

_P = FieldDescriptorProto


def proto_text(file: FileDescriptorProto) -> str:
    """Return the text of a file."""
    lines = ['syntax = "proto3";']
    lines += [f"package {file.package};"] if file.package else []
    lines += ["", *(f'import "{name}";' for name in sorted(file.dependency, key=lambda name: name != META_FILE))]
    for message in file.message_type:
        lines += ["", *_message(message, file.package)]
    return "\n".join(lines) + "\n"


def _message(message: DescriptorProto, scope: str) -> Iterator[str]:
    path = f"{scope}.{message.name}" if scope else message.name
    yield f"message {message.name} {{"
    written = set()
    for field in message.field:
        if not field.HasField("oneof_index") or field.proto3_optional:
            yield f"  {_field(field, path)}"
        elif field.oneof_index not in written:
            written.add(field.oneof_index)
            yield f"  oneof {message.oneof_decl[field.oneof_index].name} {{"
            for member in message.field:
                if member.HasField("oneof_index") and member.oneof_index == field.oneof_index:
                    yield f"    {_field(member, path)}"
            yield "  }"
    for nested in message.nested_type:
        yield from (f"  {line}" for line in _message(nested, path))
    for enum in message.enum_type:
        yield from (f"  {line}" for line in _enum(enum))
    yield "}"


def _field(field: FieldDescriptorProto, path: str) -> str:
    is_repeated = field.label == _P.LABEL_REPEATED
    label = "repeated " if is_repeated else "optional " if field.proto3_optional else ""
    return f"{label}{_type(field, path)} {field.name} = {field.number}{_options(field)};"


def _type(field: FieldDescriptorProto, path: str) -> str:
    if not field.type_name:
        return _P.Type.Name(field.type).removeprefix("TYPE_").lower()
    return field.type_name.removeprefix(f".{path}.").removeprefix(".")


def _options(field: FieldDescriptorProto) -> str:
    entries = [
        f"{{ key: {json.dumps(name)}, value: {json.dumps(text)} }}" for name, text in meta_parameters(field).items()
    ]
    return f" [(confluent.field_meta) = {{ params: [{', '.join(entries)}] }}]" if entries else ""


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    if enum.options.allow_alias:
        yield "  option allow_alias = true;"
    yield from (f"  {value.name} = {value.number};" for value in enum.value)
    yield "}"
