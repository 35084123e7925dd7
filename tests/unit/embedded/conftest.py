"""A local Maven repository that can return errors and truncated responses."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headrace.embedded.artifacts import Jar


class MavenRepository:
    """``files`` by path. ``breaks`` says after how many bytes an answer to a path breaks off, once each; ``fails``
    which statuses it answers first."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: dict[str, list[int]] = {}
        self.fails: dict[str, list[int]] = {}
        self.knows_ranges = True
        self.requests: list[tuple[str, str | None]] = []
        self.authorizations: list[str | None] = []
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/repository"

    def publish(self, coordinate: str, content: bytes) -> Jar:
        """Put a jar into the repository and return its line in a lock file."""
        jar = Jar(coordinate, len(content), hashlib.sha256(content).hexdigest())
        self.files[jar.path] = content
        return jar

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.removeprefix("/repository/")
        wanted = request.headers.get("Range")
        self.requests.append((path, wanted))
        self.authorizations.append(request.headers.get("Authorization"))
        if statuses := self.fails.get(path):
            request.send_error(statuses.pop(0))
            return
        content = self.files.get(path)
        if content is None:
            request.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.knows_ranges else 0
        request.send_response(206 if first else 200)
        request.send_header("Content-Length", str(len(content) - first))
        request.end_headers()
        end = self.breaks[path].pop(0) if self.breaks.get(path) else len(content)
        request.wfile.write(content[first:end])

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def maven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MavenRepository]:
    """The repository of this test's process; ``~`` and the cache are empty folders of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    repository = MavenRepository()
    monkeypatch.setenv("HEADRACE_MAVEN_MIRROR", repository.url)
    yield repository
    repository.close()


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str], list[str]]:
    """Makes the command line of a small Python program."""
    return lambda program: [sys.executable, "-I", "-S", "-c", program]
