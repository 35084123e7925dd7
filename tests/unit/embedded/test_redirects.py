"""The password of the Maven repository is not sent to the target of a redirect."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.embedded.artifacts import Jar
from headrace.embedded.downloads import download
from headrace.embedded.maven import MIRROR_VARIABLE
from scripts.lock_engines import published_checksum

CONTENT = b"1234abcd"


class Server(ThreadingHTTPServer):
    """Answers every request with a redirect, or with :data:`CONTENT`; records the credentials that it receives."""

    def __init__(self, redirect: str | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.redirect = redirect
        self.credentials: list[str | None] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.credentials.append(self.headers.get("Authorization"))
        if self.server.redirect is not None:
            self.send_response(302)
            self.send_header("Location", self.server.redirect + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""


@contextmanager
def served(redirect: str | None = None) -> Iterator[Server]:
    with Server(redirect) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_the_lock_script_sends_no_password_to_a_redirect_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding 10 of the security review."""
    with served() as other, served(f"http://{other.address}") as mirror:
        monkeypatch.setenv(MIRROR_VARIABLE, f"http://ada:s3cret@{mirror.address}/maven")
        assert published_checksum("a/b/1/b-1.jar", "sha256") == CONTENT.decode()
        assert mirror.credentials[0] is not None
        assert other.credentials == [None]


def test_downloads_of_jars_send_no_password_to_a_redirect_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Finding 10 of the security review."""
    with served() as other, served(f"http://{other.address}") as mirror:
        monkeypatch.setenv(MIRROR_VARIABLE, f"http://ada:s3cret@{mirror.address}/maven")
        monkeypatch.setenv("HOME", str(tmp_path))
        jar = Jar("a:b:1", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        download([jar], tmp_path / "cache", 0.0)
        assert mirror.credentials[0] is not None
        assert other.credentials == [None]
