"""What the lock file says: which jars each Java engine consists of, their sizes and sums."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LOCK_FILE = Path(__file__).parent / "engines.lock.json"


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock file. ``coordinate`` is ``group:artifact:version[:classifier]``, ``size`` bytes."""

    coordinate: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Below any Maven repository: Maven's repository layout."""
        group, artifact, version, *classifier = self.coordinate.split(":")
        name = "-".join([artifact, version, *classifier])
        return f"{group.replace('.', '/')}/{artifact}/{version}/{name}.jar"

    @property
    def name(self) -> str:
        """The artifact alone, ``netty-common``."""
        return self.coordinate.split(":")[1]


@dataclass(frozen=True, slots=True)
class LockedEngine:
    """What an engine consists of."""

    version: str
    jars: tuple[Jar, ...]


@cache
def locked(engine: str, file: Path = LOCK_FILE) -> LockedEngine:
    """The lock file's entry for ``kafka``, ``elasticsearch`` (8) or ``elasticsearch-9``; ``file`` is another one's."""
    entry = json.loads(file.read_text(encoding="utf-8"))[engine]
    return LockedEngine(entry["version"], tuple(Jar(**line) for line in entry["jars"]))
