"""Compiled Protobuf files, and the messages in them by their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from headrace.converters.protobuf.compiler import invalid
from headrace.converters.schema_registry.wire_format import FIRST_MESSAGE, MessagePath


@dataclass(frozen=True, eq=False, slots=True)
class ProtobufMessage:
    """A message of a file. Files of different schemas do not share a pool, so the same names may be others."""

    pool: DescriptorPool
    file: FileDescriptorProto
    path: MessagePath
    descriptor: Descriptor

    @property
    def name(self) -> str:
        """The full name, with the package."""
        return str(self.descriptor.full_name)

    @property
    def message_class(self) -> Any:
        """The class of its values."""
        return GetMessageClass(self.descriptor)

    def at(self, path: MessagePath) -> ProtobufMessage:
        """Return the message at another place of the file. Raise DataError when there is none."""
        messages: Sequence[DescriptorProto] = self.file.message_type
        names = [self.file.package] if self.file.package else []
        for position in path or FIRST_MESSAGE:
            present = _messages(messages)
            if not 0 <= position < len(present):
                raise invalid(f"it has no message at the place {'/'.join(map(str, path))}")
            names.append(present[position].name)
            messages = present[position].nested_type
        return ProtobufMessage(self.pool, self.file, path, self.pool.FindMessageTypeByName(".".join(names)))

    def named(self, name: str) -> ProtobufMessage | None:
        """Return the message of the file with a full name."""
        for path, found in _paths(self.file.message_type, self.file.package, ()):
            if found == name:
                return self.at(path)
        return None


def message_of(files: Sequence[FileDescriptorProto], path: MessagePath) -> ProtobufMessage:
    """Return the message at a place of the last file. Raise DataError."""
    pool = DescriptorPool()
    try:
        for file in files:
            pool.Add(file)
        first = _messages(files[-1].message_type)
        if not first:
            raise invalid("it has no message")
        package = files[-1].package
        descriptor = pool.FindMessageTypeByName(f"{package}.{first[0].name}" if package else first[0].name)
    except (TypeError, KeyError) as error:
        raise invalid(str(error)) from error
    return ProtobufMessage(pool, files[-1], FIRST_MESSAGE, descriptor).at(path)


def _paths(messages: Sequence[DescriptorProto], scope: str, path: MessagePath) -> Iterator[tuple[MessagePath, str]]:
    for position, message in enumerate(_messages(messages)):
        name = f"{scope}.{message.name}" if scope else message.name
        yield (*path, position), name
        yield from _paths(message.nested_type, name, (*path, position))


def _messages(messages: Sequence[DescriptorProto]) -> list[DescriptorProto]:
    """Return the messages that are written as such; protoc adds one for each map."""
    return [message for message in messages if not message.options.map_entry]
