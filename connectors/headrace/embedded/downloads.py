"""Downloads jars from a Maven repository: in parallel, resumable, checked against the lock file's sums."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Event
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from headrace.embedded.artifacts import Jar
from headrace.embedded.maven import MIRROR_VARIABLE, Repository, local_repository, repository
from headrace.errors import InfrastructureError

_CHUNK = 1 << 18
_TIMEOUT = 10  # seconds without a byte
_TRIES = 3
_PAUSE = 1.0  # seconds before the second try; twice as long before the third
_PARALLEL = 8


class _TryAgain(Exception):
    """The repository or the way to it failed in a way that may pass."""


def sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def download(jars: Sequence[Jar], folder: Path) -> None:
    """Put the jars below ``folder``, laid out as in a Maven repository. The first fault ends it all at once.

    A jar that Maven has fetched before (``~/.m2``) is copied. Raises InfrastructureError for the network, OSError for
    the folder. What is complete is kept, and so is the beginning of what is not.
    """
    source, cancelled = repository(), Event()
    with _progress(jars, source) as advance, ThreadPoolExecutor(_PARALLEL, "fetch") as pool:
        # The longest first: they decide how long it takes.
        ordered = sorted(jars, key=lambda jar: -jar.size)
        tasks = [pool.submit(_Download(jar, folder, source, advance, cancelled).run) for jar in ordered]
        try:
            for task in tasks:
                task.result()
        except BaseException:  # Ctrl+C too
            cancelled.set()
            raise


class _Download:
    """One jar's way into the cache."""

    def __init__(
        self, jar: Jar, folder: Path, source: Repository, advance: Callable[[int], None], cancelled: Event
    ) -> None:
        self._jar, self._source, self._advance, self._cancelled = jar, source, advance, cancelled
        self._target = folder / jar.path
        self._part = self._target.with_name(self._target.name + ".part")
        self._url = f"{source.url}/{jar.path}"

    def run(self) -> None:
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            if not self._copy_from_maven():
                self._fetch()
        except BaseException:
            self._cancelled.set()
            raise

    def _copy_from_maven(self) -> bool:
        file = local_repository() / self._jar.path
        if not file.is_file() or sha256(file) != self._jar.sha256:
            return False
        shutil.copyfile(file, self._part)
        self._part.replace(self._target)
        self._advance(self._jar.size)
        return True

    def _fetch(self) -> None:
        for attempt in range(1, _TRIES + 1):
            if self._cancelled.is_set():
                return
            try:
                self._download()
            except _TryAgain as error:
                if attempt == _TRIES:
                    raise self._fault(str(error)) from error
                self._cancelled.wait(_PAUSE * attempt)
                continue
            if self._cancelled.is_set():
                return
            found = sha256(self._part)
            if found == self._jar.sha256:
                self._part.replace(self._target)
                return
            # What an earlier run had left may have been damaged: once more from the first byte.
            self._part.unlink()
            self._advance(-self._jar.size)
            if attempt == _TRIES:
                raise self._fault(f"its SHA-256 is {found}, the lock file says {self._jar.sha256}")

    def _download(self) -> None:
        """Append what ``part`` lacks; a repository that knows no ranges (status 200) sends all of it again."""
        have = self._part.stat().st_size if self._part.exists() else 0
        if have > self._jar.size:
            self._part.unlink()
            have = 0
        if have == self._jar.size:
            self._advance(have)
            return
        with self._answer(have) as answer:
            size = have if answer.status == 206 else 0
            self._advance(size)
            try:
                with self._part.open("ab" if size else "wb") as file:
                    # A repository that sends more than the lock file says must not fill the disk.
                    while size < self._jar.size and not self._cancelled.is_set():
                        chunk = self._read(answer, self._jar.size - size)
                        file.write(chunk)
                        size += len(chunk)
                        self._advance(len(chunk))
            except BaseException:
                self._advance(-size)
                raise

    def _answer(self, have: int) -> HTTPResponse:
        headers = {**self._source.headers, "User-Agent": "headrace", **({"Range": f"bytes={have}-"} if have else {})}
        try:
            answer: HTTPResponse = urlopen(Request(self._url, headers=headers), timeout=_TIMEOUT)
        except HTTPError as error:
            error.close()
            why = f"the repository answers {error.code} {error.reason}"
            if error.code >= 500 or error.code in (408, 429):
                raise _TryAgain(why) from error
            raise self._fault(why) from error
        except (URLError, HTTPException, OSError) as error:
            raise _TryAgain(_words(error)) from error
        return answer

    @staticmethod
    def _read(answer: HTTPResponse, most: int) -> bytes:
        try:
            chunk = answer.read(min(_CHUNK, most))
        except (HTTPException, OSError) as error:
            raise _TryAgain(_words(error)) from error
        if not chunk:
            raise _TryAgain(f"the answer ended {most} bytes too early")
        return chunk

    def _fault(self, why: str) -> InfrastructureError:
        return InfrastructureError(
            f"{self._url} cannot be fetched: {why}",
            code="embedded.download",
            hint="connect to the network and try again (what is complete is kept), name a Maven repository that this "
            f"machine reaches in {MIRROR_VARIABLE}, or copy the cache folder from a machine that has it",
        )


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


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
