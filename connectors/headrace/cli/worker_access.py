"""How commands log in to a worker: options of the command group, or environment variables."""

from __future__ import annotations

import functools
import getpass
import os
import ssl
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from headrace.errors import ConfigError

CaFileOption = Annotated[
    Path | None, typer.Option("--ca-file", envvar="HEADRACE_CA_FILE", help="PEM file that signs the worker's TLS.")
]
CertificateOption = Annotated[
    Path | None,
    typer.Option("--cert", envvar="HEADRACE_CERT", help="PEM file with a client certificate and its private key."),
]
UserOption = Annotated[
    str | None,
    typer.Option("--user", envvar="HEADRACE_USER", help="User; the password is HEADRACE_PASSWORD, or is requested."),
]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", envvar="HEADRACE_TOKEN_FILE", help="File with a token (HEADRACE_TOKEN).")
]
UrlOption = Annotated[str, typer.Option("--url", envvar="HEADRACE_URL", help="Address of the worker's REST API.")]
WorkerFileOption = Annotated[
    Path | None,
    typer.Option("--worker", envvar="HEADRACE_WORKER", help="The worker's file: its first listener replaces --url."),
]


class WorkerAccess(NamedTuple):
    """Credentials for a worker. Secrets come from files, the environment or the terminal: options show in lists of
    processes.
    """

    user: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    certificate: Path | None = None
    url: str | None = None

    @classmethod
    def current(cls) -> WorkerAccess:
        """Return the access of the running command's options, else that of the environment."""
        if (given := _given.get()) is not None:
            return given
        files = [os.environ.get(f"HEADRACE_{name}") for name in ("TOKEN_FILE", "CA_FILE", "CERT")]
        token_file, ca_file, certificate = (Path(text) if text else None for text in files)
        return cls(os.environ.get("HEADRACE_USER") or None, token_file, ca_file, certificate)

    def credentials(self) -> tuple[str, str] | str | None:
        """Return user and password, or a token. Raises ConfigError."""
        if self.token_file is not None:
            return _text_of(self.token_file)
        if self.user is not None:
            return self.user, _password(self.user)
        return os.environ.get("HEADRACE_TOKEN") or None

    def tls(self) -> ssl.SSLContext:
        """Return a context that verifies the worker. Raises ConfigError."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate)
        except (OSError, ValueError) as error:
            text = f"the file of --ca-file or --cert cannot be used: {getattr(error, 'strerror', None) or error}"
            raise ConfigError(text, code="cli.bad_certificate", hint="name PEM files") from error
        return context


_given: ContextVar[WorkerAccess | None] = ContextVar("worker access", default=None)


def worker_access(
    user: UserOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    cert: CertificateOption = None,
    worker: WorkerFileOption = None,
) -> None:
    """Callback of command groups that use a worker's REST API."""
    access = WorkerAccess(user, token_file, ca_file, cert, _url_of(worker) if worker is not None else None)
    _given.set(access)


def _url_of(worker: Path) -> str:
    from headrace.cli.loading import load  # late: only this option reads configuration files
    from headrace.rest.listeners import client_url, parse_listeners

    return client_url(parse_listeners(load([worker], worker=worker).require().listeners)[0])


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        text = f"the token file {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(text, code="cli.bad_token_file", hint="check --token-file and HEADRACE_TOKEN_FILE") from error


def _password(user: str) -> str:
    if (password := os.environ.get("HEADRACE_PASSWORD")) is not None:
        return password
    if not sys.stdin.isatty():
        text = f"there is no password for the user {user}"
        raise ConfigError(text, code="cli.no_password", hint="set HEADRACE_PASSWORD, or use a token")
    return _asked(user)


@functools.cache
def _asked(user: str) -> str:
    return getpass.getpass(f"Password of {user}: ")
