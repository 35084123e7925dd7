"""Downloads of jars from a Maven repository: in parallel, resumed, checked against the sums of the lock file."""

from __future__ import annotations

import shutil
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from headrace.embedded.artifacts import Jar, sha256
from headrace.embedded.maven import MIRROR_VARIABLE, Repository, local_repository, repository
from headrace.errors import InfrastructureError, RetriableError
from headrace.retries import RetryPolicy, retry

_TIMEOUT = 10  # seconds without a byte
_RETRIES = 2
_PARALLEL = 8
# A repository that compressed a jar again would send other bytes than a range of the file.
_HEADERS = {"User-Agent": "headrace", "Accept-Encoding": "identity"}


def download(jars: Sequence[Jar], folder: Path, retry_backoff: float) -> None:
    """Download the jars below ``folder``, in the layout of a Maven repository. The first error ends all downloads.

    A jar in Maven's own cache (``~/.m2``) is copied. Complete jars and the beginnings of others are kept. The second
    attempt follows after at most ``retry_backoff`` seconds, the third after at most twice as many. Raise
    InfrastructureError for errors of the network, OSError for those of the folder.
    """
    source, cancelled = repository(), Event()
    client = httpx.Client(
        headers={**_HEADERS, **source.headers},
        timeout=_TIMEOUT,
        follow_redirects=True,
        verify=ssl.create_default_context(),  # the system's certificates, which include a company's own
    )
    with client, _progress(jars, source) as advance, ThreadPoolExecutor(_PARALLEL, "fetch") as pool:
        # The largest first: they decide how long it takes.
        ordered = sorted(jars, key=lambda jar: -jar.size)
        downloads = [
            _JarDownload(jar, folder, source.url, client, advance, cancelled, retry_backoff) for jar in ordered
        ]
        tasks = [pool.submit(download.run) for download in downloads]
        try:
            for task in tasks:
                task.result()
        except BaseException:  # Ctrl+C too
            cancelled.set()
            raise


class _JarDownload:
    """The download of one jar to ``NAME.part``, which is renamed when its SHA-256 matches."""

    def __init__(
        self,
        jar: Jar,
        folder: Path,
        repository_url: str,
        client: httpx.Client,
        advance: Callable[[int], None],
        cancelled: Event,
        retry_backoff: float,
    ) -> None:
        self._jar, self._client, self._advance, self._cancelled = jar, client, advance, cancelled
        self._policy = RetryPolicy(retry_backoff, tries=_RETRIES)
        self._target = folder / jar.path
        self._part = self._target.with_name(self._target.name + ".part")
        self._url = f"{repository_url}/{jar.path}"

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
        try:
            retry(self._attempt, policy=self._policy, stop=self._cancelled)
        except RetriableError as error:
            if not self._cancelled.is_set():
                raise self._failure(error.message) from error

    def _attempt(self) -> None:
        """Raise RetriableError for what another attempt may fix."""
        if self._cancelled.is_set():
            return
        self._download()
        if self._cancelled.is_set():
            return
        found = sha256(self._part)
        if found != self._jar.sha256:
            # The part that an earlier run left may have been damaged: start again from the first byte, at once.
            self._part.unlink()
            self._advance(-self._jar.size)
            raise RetriableError(f"its SHA-256 is {found}, the lock file says {self._jar.sha256}", delay=0.0)
        self._part.replace(self._target)

    def _download(self) -> None:
        """Append what is missing from ``part``; a repository without ranges (status 200) sends all of it again."""
        have = self._part.stat().st_size if self._part.exists() else 0
        if have > self._jar.size:
            self._part.unlink()
            have = 0
        if have == self._jar.size:
            self._advance(have)
            return
        try:
            with self._client.stream("GET", self._url, headers={"Range": f"bytes={have}-"} if have else {}) as response:
                self._check_status(response)
                self._write(response, have if response.status_code == 206 else 0)
        except httpx.TransportError as error:
            raise RetriableError(str(error) or type(error).__name__) from error

    def _write(self, response: httpx.Response, size: int) -> None:
        self._advance(size)
        try:
            with self._part.open("ab" if size else "wb") as file:
                for received in response.iter_raw():
                    # A repository that sends more than the lock file says must not fill the disk.
                    chunk = received[: self._jar.size - size]
                    file.write(chunk)
                    size += len(chunk)
                    self._advance(len(chunk))
                    if size == self._jar.size or self._cancelled.is_set():
                        return
        except BaseException:
            self._advance(-size)
            raise
        self._advance(-size)
        raise RetriableError(f"the response ended {self._jar.size - size} bytes too early")

    def _check_status(self, response: httpx.Response) -> None:
        if response.status_code in (200, 206):
            return
        why = f"the repository answers {response.status_code} {response.reason_phrase}"
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise RetriableError(why)
        raise self._failure(why)

    def _failure(self, why: str) -> InfrastructureError:
        return InfrastructureError(
            f"cannot download {self._url}: {why}",
            code="embedded.download",
            hint="connect to the network and try again (complete jars are kept), set a Maven repository that this "
            f"machine reaches in {MIRROR_VARIABLE}, or copy the cache folder from a machine that has it",
        )


@contextmanager
def _progress(jars: Sequence[Jar], source: Repository) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal, one line in a log."""
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
