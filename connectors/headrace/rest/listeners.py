"""Parses ``listeners`` and opens their sockets."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from headrace.errors import ConfigError, Finding, InfrastructureError

DEFAULT_PORT = 8083
BACKLOG = 128
EXAMPLE = "http://127.0.0.1:8084"


class Listener(NamedTuple):
    """Where to listen. ``0.0.0.0`` and ``::`` mean all addresses, port 0 any free port."""

    host: str
    port: int
    tls: bool = False

    def is_loopback(self) -> bool:
        """Return whether only this machine can connect."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name, which may mean any address

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listeners(texts: Sequence[str], key: str = "listeners") -> list[Listener]:
    """``http://host:port`` or ``https://…`` each; without host all addresses. Raises ConfigError with all findings.

    ``key``: the configuration key of ``texts``.
    """
    if not texts:
        text = f"Invalid value  for configuration {key}: at least one listener is needed"
        raise ConfigError(findings=[Finding("config.invalid_value", text, key, f"for example {EXAMPLE}")])
    parsed = [_parse(text, key) for text in texts]
    findings = [item for item in parsed if isinstance(item, Finding)]
    if findings:
        raise ConfigError(findings=findings)
    return [item for item in parsed if isinstance(item, Listener)]


def _parse(text: str, key: str) -> Listener | Finding:
    shown = text.rpartition("@")[2]  # the text before @ may be a password
    scheme = text.partition("://")[0].lower()
    try:
        parts = urlsplit(text)
        if scheme in ("http", "https") and parts.path in ("", "/"):
            port = DEFAULT_PORT if parts.port is None else parts.port
            return Listener(parts.hostname or "0.0.0.0", port, scheme == "https")
    except ValueError:
        pass  # a port that is not a number, an unclosed bracket: reported below
    message = f"Invalid value {shown} for configuration {key}: not of the form http://host:port or https://host:port"
    return Finding("config.invalid_value", message, key, f"for example {EXAMPLE}")


def listen(listener: Listener) -> socket.socket:
    """Return a socket that accepts connections. Raises InfrastructureError."""
    try:
        addresses = socket.getaddrinfo(listener.host, listener.port, type=socket.SOCK_STREAM)
        # localhost may resolve to ::1 first, but clients connect to 127.0.0.1
        family, kind, protocol, _, address = min(addresses, key=lambda item: item[0] is not socket.AF_INET)
        with contextlib.ExitStack() as cleanup:
            opened = cleanup.enter_context(socket.socket(family, kind, protocol))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            # Listen here, not on the server's thread: two sockets can be bound to one port until one of them listens.
            opened.listen(BACKLOG)
            cleanup.pop_all()
            return opened
    except OSError as error:
        raise _listen_error(listener, error) from error


def _listen_error(listener: Listener, error: OSError) -> InfrastructureError:
    what = f"the REST API cannot listen on {listener}"
    elsewhere = f"in the worker's settings, for example listeners: {EXAMPLE}"
    if error.errno == errno.EADDRINUSE:
        return InfrastructureError(
            f"{what}: another process is using this port (perhaps another worker)",
            code="rest.port_in_use",
            hint=f"stop that process, or choose another port with 'listeners' {elsewhere}",
        )
    return InfrastructureError(
        f"{what}: {error.strerror or error}",
        code="rest.cannot_listen",
        hint=f"choose an address of this machine and a port above 1023 with 'listeners' {elsewhere}",
    )


def url_of(listener: Listener, opened: socket.socket) -> str:
    """Return the URL of the socket for clients on this machine, with its actual port."""
    return client_url(listener._replace(port=opened.getsockname()[1]))


def client_url(listener: Listener) -> str:
    """Return the URL of a listener for clients on this machine."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)
    return f"http{'s' if listener.tls else ''}://{Listener(reachable, listener.port)}"
