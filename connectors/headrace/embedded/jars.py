"""The jars' one cache folder: what is missing or damaged is fetched, what is there is checked once per process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headrace.embedded.artifacts import Jar
from headrace.embedded.downloads import download, sha256
from headrace.embedded.lock import FileLock
from headrace.errors import InfrastructureError

# Files that had the right sum, with their time of change: a disk may lie, but not twice in one process.
_checked: set[tuple[Path, int]] = set()


def cache_folder() -> Path:
    """``HEADRACE_CACHE``/jars, else ``~/.cache/headrace/jars``."""
    if named := os.environ.get("HEADRACE_CACHE"):
        return Path(named).expanduser() / "jars"
    return Path.home() / ".cache" / "headrace" / "jars"


def fetch(jars: Iterable[Jar], *, folder: Path | None = None) -> list[Path]:
    """The jars' files in the order asked for; what is missing or damaged is fetched first, several at a time.

    A broken download is resumed by the next call. Two processes may fetch into one folder: the second waits for the
    first. A folder that has everything may be read-only. Raises InfrastructureError if a jar cannot be had; nothing
    wrong is left in the cache.
    """
    wanted, folder = list(jars), folder or cache_folder()
    try:
        if _missing(wanted, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "fetch.lock").held():
                # Another process may have fetched them while this one waited.
                if missing := _missing(wanted, folder):
                    download(missing, folder)
    except OSError as error:
        raise InfrastructureError(
            f"the cache folder {folder} cannot be used: {error.strerror or error}",
            code="embedded.cache",
            hint="make room or mend its rights, or name another folder in HEADRACE_CACHE",
        ) from error
    return [folder / jar.path for jar in wanted]


def _missing(jars: list[Jar], folder: Path) -> list[Jar]:
    with ThreadPoolExecutor(4, "check") as pool:
        sound = pool.map(lambda jar: _is_sound(folder / jar.path, jar), jars)
        return [jar for jar, is_sound in zip(jars, sound, strict=True) if not is_sound]


def _is_sound(file: Path, jar: Jar) -> bool:
    try:
        found = file.stat()
    except FileNotFoundError:
        return False
    if found.st_size != jar.size:
        return False
    if (file, found.st_mtime_ns) not in _checked:
        if sha256(file) != jar.sha256:
            return False
        _checked.add((file, found.st_mtime_ns))
    return True
