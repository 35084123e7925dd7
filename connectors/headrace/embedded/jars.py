"""Fetches the engines' jars: what the lock file names, from a Maven repository, checked, into one cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from threading import Event
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from headrace.embedded.lock import FileLock
from headrace.embedded.maven import MIRROR_VARIABLE, Repository, local_repository, repository
from headrace.errors import EnvironmentFault

LOCK_FILE = Path(__file__).parent / "engines.lock.json"
_CHUNK = 1 << 18
_TIMEOUT = 30  # seconds without a byte
_TRIES = 3
_PARALLEL = 8


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock file. ``coordinate`` is ``group:artifact:version[:classifier]``, ``size`` bytes."""

    coordinate: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Below any Maven repository (https://maven.apache.org/repositories/layout.html)."""
        group, artifact, version, *classifier = self.coordinate.split(":")
        name = "-".join([artifact, version, *classifier])
        return f"{group.replace('.', '/')}/{artifact}/{version}/{name}.jar"

    @property
    def name(self) -> str:
        """The artifact alone, ``netty-common``."""
        return self.coordinate.split(":")[1]


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine consists of."""

    version: str
    jars: tuple[Jar, ...]


@cache
def locked(engine: str) -> Engine:
    """The lock file's entry for ``kafka`` or ``elasticsearch``."""
    entry = json.loads(LOCK_FILE.read_text(encoding="utf-8"))[engine]
    return Engine(entry["version"], tuple(Jar(**line) for line in entry["jars"]))


def cache_folder() -> Path:
    """``HEADRACE_CACHE``/jars, else ``~/.cache/headrace/jars``."""
    if named := os.environ.get("HEADRACE_CACHE"):
        return Path(named).expanduser() / "jars"
    return Path.home() / ".cache" / "headrace" / "jars"


def fetch(jars: Iterable[Jar], *, folder: Path | None = None) -> list[Path]:
    """The jars' files in the order asked for; what is missing is fetched first, several at a time.

    A file in the cache had the right SHA-256 when it was put there, so later only its size is looked at. A broken
    download is resumed by the next call. Two processes may fetch into one folder: the second waits for the first.
    Raises EnvironmentFault if a jar cannot be had; nothing wrong is left in the cache.
    """
    wanted, folder = list(jars), folder or cache_folder()
    if _missing(wanted, folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "fetch.lock").held():
                _fetch_all(_missing(wanted, folder), folder)
        except OSError as error:
            raise EnvironmentFault(
                f"the cache folder {folder} cannot be written: {error.strerror or error}",
                code="embedded.cache",
                hint="name another folder in HEADRACE_CACHE",
            ) from error
    return [folder / jar.path for jar in wanted]


def _missing(jars: Iterable[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not _has_size(folder / jar.path, jar.size)]


def _has_size(file: Path, size: int) -> bool:
    try:
        return file.stat().st_size == size
    except FileNotFoundError:
        return False


def _fetch_all(jars: Sequence[Jar], folder: Path) -> None:
    if not jars:
        return  # another process fetched them while this one waited
    source, failed = repository(), Event()
    with _progress(jars, source) as advance, ThreadPoolExecutor(_PARALLEL, "fetch") as pool:

        def one(jar: Jar) -> None:
            if failed.is_set():
                return
            try:
                _fetch_one(jar, folder / jar.path, source, advance)
            except BaseException:
                failed.set()
                raise

        # The longest first: they decide how long it takes.
        for task in [pool.submit(one, jar) for jar in sorted(jars, key=lambda jar: -jar.size)]:
            task.result()


def _fetch_one(jar: Jar, target: Path, source: Repository, advance: Callable[[int], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    from_maven = local_repository() / jar.path
    if _has_size(from_maven, jar.size) and _sha256(from_maven) == jar.sha256:
        shutil.copyfile(from_maven, part)
        part.replace(target)
        advance(jar.size)
        return
    url = f"{source.url}/{jar.path}"
    for attempt in range(1, _TRIES + 1):
        try:
            _download(url, part, jar, source, advance)
            break
        except HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                raise _fault(url, f"the repository answers {error.code} {error.reason}") from error
            if attempt == _TRIES:
                raise _fault(url, f"the repository answers {error.code} {error.reason}") from error
        except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
            if attempt == _TRIES:
                raise _fault(url, str(getattr(error, "reason", error)) or type(error).__name__) from error
    found = _sha256(part)
    if found != jar.sha256:
        part.unlink()
        raise _fault(url, f"its SHA-256 is {found}, the lock file says {jar.sha256}")
    part.replace(target)


def _download(url: str, part: Path, jar: Jar, source: Repository, advance: Callable[[int], None]) -> None:
    """Append what ``part`` lacks; a repository that knows no ranges (status 200) sends all of it again."""
    have = part.stat().st_size if part.exists() else 0
    if have > jar.size:
        part.unlink()
        have = 0
    if have == jar.size:
        advance(have)
        return
    headers = {**source.headers, "User-Agent": "headrace", **({"Range": f"bytes={have}-"} if have else {})}
    with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as answer:
        resumed = answer.status == 206
        if resumed:
            advance(have)
        size = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            # A repository that sends more than the lock file says must not fill the disk.
            while size <= jar.size and (chunk := answer.read(_CHUNK)):
                file.write(chunk)
                size += len(chunk)
                advance(len(chunk))
    if size < jar.size:
        advance(-size)
        raise ConnectionError(f"the answer ended after {size} of {jar.size} bytes")


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _fault(url: str, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{url} cannot be fetched: {why}",
        code="embedded.download",
        hint=f"name a Maven repository that this machine reaches in {MIRROR_VARIABLE}; what is complete is kept",
    )


@contextmanager
def _progress(jars: Sequence[Jar], source: Repository) -> Iterator[Callable[[int], None]]:
    """A bar on stderr for a person, one line for a log."""
    total = sum(jar.size for jar in jars)
    what = f"fetching {len(jars)} jars ({total / 1e6:.0f} MB) from {source.url}"
    if not sys.stderr.isatty():
        sys.stderr.write(f"{what}\n")
        yield lambda count: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
