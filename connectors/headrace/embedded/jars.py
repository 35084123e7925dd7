"""The cache of jars: missing and damaged jars are downloaded, present ones are checked once per process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headrace.embedded.artifacts import Jar, sha256
from headrace.embedded.lock import FileLock
from headrace.errors import InfrastructureError

# Files whose sum was right, with their modification time: they are not read again by this process.
_checked: set[tuple[Path, int]] = set()


def cache_folder() -> Path:
    """Return ``HEADRACE_CACHE``/jars, or ``~/.cache/headrace/jars``."""
    if named := os.environ.get("HEADRACE_CACHE"):
        return Path(named).expanduser() / "jars"
    return Path.home() / ".cache" / "headrace" / "jars"


def fetch(jars: Iterable[Jar], *, folder: Path | None = None, retry_backoff: float = 1.0) -> list[Path]:
    """Return the jars' files in the given order, after downloading those that are missing or damaged.

    An interrupted download is resumed by the next call. Two processes may fetch into one folder: the second waits for
    the first. A folder that has all jars may be read-only. ``retry_backoff`` is the wait in seconds before a download
    is tried again. Raise InfrastructureError if a jar cannot be downloaded; no damaged jar is left in the cache.
    """
    wanted, folder = list(jars), folder or cache_folder()
    try:
        if _missing(wanted, folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "fetch.lock").held():
                # Another process may have fetched them while this one waited.
                if missing := _missing(wanted, folder):
                    from headrace.embedded.downloads import download  # imports httpx, which most starts do not need

                    download(missing, folder, retry_backoff)
    except OSError as error:
        raise InfrastructureError(
            f"the cache folder {folder} cannot be used: {error.strerror or error}",
            code="embedded.cache",
            hint="free disk space or fix its permissions, or set another folder in HEADRACE_CACHE",
        ) from error
    return [folder / jar.path for jar in wanted]


def _missing(jars: list[Jar], folder: Path) -> list[Jar]:
    """Return the jars to download, each once: two engines may have a jar in common."""
    jars = list(dict.fromkeys(jars))
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
