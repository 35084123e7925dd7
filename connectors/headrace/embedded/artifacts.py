"""The lock file: the jars of each Java engine with their sizes and SHA-256 sums."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LOCK_FILE = Path(__file__).parent / "engines.lock.json"


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock file: ``coordinate`` is ``group:artifact:version[:classifier]``, ``size`` is in bytes."""

    coordinate: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """The path below a Maven repository (Maven's repository layout)."""
        group, artifact, version, *classifier = self.coordinate.split(":")
        name = "-".join([artifact, version, *classifier])
        return f"{group.replace('.', '/')}/{artifact}/{version}/{name}.jar"

    @property
    def name(self) -> str:
        """The artifact without version, ``netty-common``."""
        return self.coordinate.split(":")[1]


@dataclass(frozen=True, slots=True)
class LockedEngine:
    """Version and jars of an engine."""

    version: str
    jars: tuple[Jar, ...]


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@cache
def locked(engine: str, file: Path = LOCK_FILE) -> LockedEngine:
    """Return the entry for ``kafka``, ``elasticsearch`` (8) or ``elasticsearch-9``, or one of another lock ``file``."""
    entry = json.loads(file.read_text(encoding="utf-8"))[engine]
    return LockedEngine(entry["version"], tuple(Jar(**line) for line in entry["jars"]))
