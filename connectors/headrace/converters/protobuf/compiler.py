"""Compiles texts of Protobuf files: the only user of ``grpc_tools``.

protoc runs in a process of its own: it writes its errors to the standard error of its process only.
"""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from headrace import DataError, RetriableError
from headrace.converters.protobuf.connect_names import META_FILE
from headrace.converters.protobuf.known_files import FOLDER_OF_GOOGLE_TYPES, TEXTS
from headrace.converters.schema_registry.registry_client import SchemaText

MAIN = "headrace_main_schema.proto"
_TARGET = "headrace_target.proto"
_LONGEST_SECONDS = 60


def compile_proto(text: SchemaText) -> FileDescriptorSet:
    """Return the file of a schema, which is the last, and all that it imports, each after those that it needs.

    Raise DataError for a schema that is not valid.
    """
    files = {**TEXTS, **{reference.name: reference.text for reference in text.references}, MAIN: text.text}
    compiled = {name: found for name, given in files.items() if (found := _decoded(name, given)) is not None}
    with TemporaryDirectory(prefix="headrace-protoc-") as name:
        folder = Path(name)
        (folder / _TARGET).write_text(f'syntax = "proto3"; import public "{MAIN}";', "utf-8")
        for path, given in files.items():
            if path not in compiled:
                target = _within(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(_completed(given), "utf-8")
        (folder / "compiled").write_bytes(FileDescriptorSet(file=compiled.values()).SerializeToString())
        _run(folder, has_compiled=bool(compiled))
        made = FileDescriptorSet.FromString((folder / "out").read_bytes())
    return FileDescriptorSet(file=[file for file in made.file if file.name != _TARGET])


def _run(folder: Path, *, has_compiled: bool) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{FOLDER_OF_GOOGLE_TYPES}"]
    command += ["--include_imports", f"--descriptor_set_out={folder / 'out'}"]
    command += [f"--descriptor_set_in={folder / 'compiled'}"] if has_compiled else []
    try:
        done = subprocess.run([*command, _TARGET], capture_output=True, timeout=_LONGEST_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RetriableError("protoc does not end, by which Protobuf schemas are read") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if "warning:" not in line]
        reason = lines[0].removeprefix(f"{folder}/").removeprefix(f"{MAIN}:") if lines else "protoc ends with an error"
        raise invalid(re.sub(r"^(\d+):(\d+): ", r"line \1: ", reason))


def _completed(text: str) -> str:
    """Return the text with the import of the file whose options it uses: Kafka Connect's converter omits it."""
    if "(confluent." not in text or META_FILE in text:
        return text
    return f'{text}\nimport "{META_FILE}";\n'


def _within(folder: Path, name: str) -> Path:
    """Return where a file is written. Its name comes from the registry, and must not leave the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise invalid(f"'{name}' is no name of an imported file")
    return folder / path


def _decoded(name: str, given: str) -> FileDescriptorProto | None:
    """Return the file whose text is a compiled file in base64, as some clients register it."""
    try:
        found = FileDescriptorProto.FromString(base64.b64decode(given, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return None
    if not found.message_type:
        return None
    found.name = name
    return found


def invalid(reason: str) -> DataError:
    return DataError(f"the Protobuf schema cannot be used: {reason}", code="protobuf.invalid_schema")
