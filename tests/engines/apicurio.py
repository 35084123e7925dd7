"""A real schema registry, Apicurio, with Confluent's API; in memory."""

from __future__ import annotations

import shutil
import tarfile
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import httpx

from headrace.embedded.artifacts import sha256
from headrace.embedded.engine import Engine
from headrace.embedded.java import java_command
from headrace.embedded.maven import local_repository, repository
from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import HOST, free_port

VERSION = "3.3.3"
_FOLDER = f"io/apicurio/apicurio-registry-app/{VERSION}"
_ARCHIVE = f"apicurio-registry-app-{VERSION}-all.tar.gz"
_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
_API = "/apis/ccompat/v7"


class Apicurio(Engine):
    """One registry, without a password. Its ids and schemas are lost when it ends."""

    name = "apicurio"
    title = "Apicurio Registry"

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        super().__init__(folder, port)
        self._management_port = free_port()

    @property
    def url(self) -> str:
        """The address of Confluent's API."""
        return f"http://{HOST}:{self.port}{_API}"

    @property
    def version(self) -> str:
        return VERSION

    @property
    def log_path(self) -> Path:
        return self.folder / "registry.log"

    def prepare(self) -> None:
        if not (self.folder / "app").exists():
            made = self.folder / "app.new"
            shutil.rmtree(made, ignore_errors=True)
            with tarfile.open(_archive()) as archive:
                archive.extractall(made, filter="data")
            made.rename(self.folder / "app")

    def command(self) -> list[str]:
        (jar,) = (self.folder / "app").rglob("quarkus-run.jar")
        options = [
            f"-Dquarkus.http.host={HOST}",
            f"-Dquarkus.http.port={self.port}",
            f"-Dquarkus.management.port={self._management_port}",
        ]
        return java_command(
            "io.quarkus.bootstrap.runner.QuarkusEntryPoint", class_path=[jar], heap="384m", options=options
        )

    def answers(self, process: SupervisedProcess) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", f"{_API}/subjects")
            return process.alive and connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def _archive() -> Path:
    """Return the archive from Maven's own cache, or download it."""
    found = local_repository() / _FOLDER / _ARCHIVE
    if not found.exists():
        source = repository()
        found.parent.mkdir(parents=True, exist_ok=True)
        part = found.with_name(f"{_ARCHIVE}.part")
        url = f"{source.url}/{_FOLDER}/{_ARCHIVE}"
        with httpx.stream("GET", url, headers=source.headers, follow_redirects=True, timeout=60) as answer:
            answer.raise_for_status()
            with part.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
        part.rename(found)
    if sha256(found) != _SHA256:
        raise ValueError(f"{found} is not the release of Apicurio {VERSION}: delete it")
    return found
