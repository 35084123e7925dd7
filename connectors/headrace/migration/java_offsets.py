"""Reads the offset file of a JVM standalone worker: a serialized ``HashMap<byte[], byte[]>``.

Only that form is read, so nothing in the file can name a class to load or a method to call. The grammar is that of
Java's Object Serialization Stream Protocol, version 5:
https://docs.oracle.com/en/java/javase/17/docs/specs/serialization/protocol.html
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from headrace.errors import ConfigError

MAGIC = b"\xac\xed\x00\x05"
_NULL, _REFERENCE, _CLASS, _OBJECT, _ARRAY, _BLOCK, _END = 0x70, 0x71, 0x72, 0x73, 0x75, 0x77, 0x78
_FIRST_HANDLE = 0x7E0000
_MAP, _BYTES = "java.util.HashMap", "[B"
_FIELDS = {_MAP: (b"F", "loadFactor", b"I", "threshold"), _BYTES: ()}
_VERSIONS = {_MAP: 362498820763181265, _BYTES: -5984413125824719648}
"""serialVersionUID of the two classes."""
_FLAGS = {_MAP: 0x03, _BYTES: 0x02}  # SC_SERIALIZABLE, with SC_WRITE_METHOD for the map


class _Stream:
    """The bytes of a file, read once. Raises ValueError for everything that is not of the form."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self._handles: list[object] = []

    def map(self) -> dict[bytes, bytes | None]:
        self._expect(MAGIC, "the beginning of a Java object")
        self._type(_OBJECT, "an object")
        self._description(_MAP)
        self._handles.append(None)
        self._take(8)  # loadFactor and threshold: of the table in memory
        self._type(_BLOCK, "the size of the map")
        if self._number(">B") != 8:
            raise ValueError("the size of the map has another form")
        self._number(">i")  # buckets
        count = self._number(">i")
        found: dict[bytes, bytes | None] = {}
        for _ in range(count):
            key = self._bytes()
            if key is None:
                raise ValueError("an entry without a key")
            found[key] = self._bytes()
        self._type(_END, "the end of the map")
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes follow the map")
        return found

    def _description(self, name: str) -> None:
        """Read the description of a class, or a reference to an earlier one."""
        kind = self._number(">B")
        if kind == _REFERENCE:
            if self._referenced() != name:
                raise ValueError(f"a reference to another class than {name}")
            return
        if kind != _CLASS:
            raise ValueError(f"the description of {name} is missing")
        found = self._text()
        if found != name:
            raise ValueError(f"an object of the class {found} in place of {name}")
        if self._number(">q") != _VERSIONS[name]:
            raise ValueError(f"another version of {name}")
        self._handles.append(name)
        if self._number(">B") != _FLAGS[name]:
            raise ValueError(f"{name} is serialized in another form")
        fields: list[bytes | str] = []
        for _ in range(self._number(">h")):
            fields += [self._take(1), self._text()]
        if tuple(fields) != _FIELDS[name]:
            raise ValueError(f"{name} has other fields")
        self._type(_END, "the end of a description")
        self._type(_NULL, "no superclass")

    def _bytes(self) -> bytes | None:
        kind = self._number(">B")
        if kind == _NULL:
            return None
        if kind == _REFERENCE:
            known = self._referenced()
            if not isinstance(known, bytes):
                raise ValueError("a reference to something else than bytes")
            return known
        if kind != _ARRAY:
            raise ValueError("an entry that is not an array of bytes")
        self._description(_BYTES)
        place = len(self._handles)
        self._handles.append(None)
        value = self._take(self._number(">i"))
        self._handles[place] = value
        return value

    def _referenced(self) -> object:
        place = self._number(">i") - _FIRST_HANDLE
        if not 0 <= place < len(self._handles):
            raise ValueError("a reference to nothing")
        return self._handles[place]

    def _type(self, kind: int, what: str) -> None:
        self._expect(bytes([kind]), what)

    def _expect(self, wanted: bytes, what: str) -> None:
        if not self._data.startswith(wanted, self._at):
            raise ValueError(f"{what} is missing at byte {self._at}")
        self._at += len(wanted)

    def _text(self) -> str:
        return self._take(self._number(">H")).decode()

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(value)

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if length < 0 or end > len(self._data):
            raise ValueError(f"the file ends at byte {len(self._data)}, within a value")
        part, self._at = self._data[self._at : end], end
        return part


def read_java_offsets(data: bytes, file: str) -> Mapping[bytes, bytes | None]:
    """Return the keys and values of an offset file, in its order. ``file`` is its name, for messages.

    Raise ConfigError ``migrate.offset_file``. An empty file holds no offsets.
    """
    if not data:
        return {}
    try:
        return _Stream(data).map()
    except ValueError as error:
        raise ConfigError(
            f"{file} is not an offset file of a standalone worker of Kafka Connect: {error}",
            code="migrate.offset_file",
            hint="name the file in offset.storage.file.filename of the JVM worker, and stop that worker first",
        ) from error
