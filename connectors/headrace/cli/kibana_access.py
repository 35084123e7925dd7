"""Where Kibana is and how commands log in to it: options, or environment variables."""

from __future__ import annotations

import getpass
import os
import ssl
import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.output import redact_output
from headrace.errors import ConfigError
from headrace.kibana.client import KibanaAccess
from headrace.redaction import Redactor, secrets_in

KibanaUrl = Annotated[
    str, typer.Option("--kibana", envvar="KIBANA_URL", help="Address of Kibana, with its base path.", metavar="URL")
]
KibanaUser = Annotated[
    str | None,
    typer.Option(
        "--user",
        envvar="HEADRACE_KIBANA_USER",
        help="User; the password is HEADRACE_KIBANA_PASSWORD, or is requested. An API key is HEADRACE_KIBANA_API_KEY.",
    ),
]
KibanaCaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", envvar="HEADRACE_KIBANA_CA_FILE", help="PEM file that signs the TLS of Kibana."),
]
KibanaCertificate = Annotated[
    Path | None,
    typer.Option(
        "--cert", envvar="HEADRACE_KIBANA_CERT", help="PEM file with a client certificate and its private key."
    ),
]
LOCAL = "http://127.0.0.1:5601"


def kibana_access(url: str, user: str | None, ca_file: Path | None, certificate: Path | None) -> KibanaAccess:
    """Return the access of a command, and hide its secrets in the command's output. Raise ConfigError.

    Secrets come from the environment or the terminal: options show in lists of processes.
    """
    credentials = _credentials(user)
    secret = credentials[1] if isinstance(credentials, tuple) else credentials or ""
    redact_output(Redactor(secrets_in({"url": url, "password": secret})))
    return KibanaAccess(url, credentials, _tls(ca_file, certificate))


def _credentials(user: str | None) -> tuple[str, str] | str | None:
    key = os.environ.get("HEADRACE_KIBANA_API_KEY")
    if user is None:
        return key or None
    if key:
        text = "both an API key and a user are set"
        hint = "unset HEADRACE_KIBANA_API_KEY, or leave out --user and HEADRACE_KIBANA_USER"
        raise ConfigError(text, code="cli.conflicting_options", hint=hint)
    if (password := os.environ.get("HEADRACE_KIBANA_PASSWORD")) is not None:
        return user, password
    if not sys.stdin.isatty():
        text = f"there is no password for the user {user} of Kibana"
        raise ConfigError(text, code="cli.no_password", hint="set HEADRACE_KIBANA_PASSWORD, or use an API key")
    return user, getpass.getpass(f"Password of {user} for Kibana: ")


def _tls(ca_file: Path | None, certificate: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate)
    except (OSError, ValueError) as error:
        text = f"the file of --ca-file or --cert cannot be used: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(text, code="cli.bad_certificate", hint="name PEM files") from error
    return context
