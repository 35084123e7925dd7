"""A small HTTP client for a worker's REST API; its errors are ours, with the worker's own words in them."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from headrace.config import nearest
from headrace.errors import (
    CommandError,
    ConfigError,
    ConflictError,
    Finding,
    HeadraceError,
    InfrastructureError,
    NotFoundError,
    RetriableError,
)

DEFAULT_URL = "http://127.0.0.1:8083"
CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 100.0
"""Seconds; a worker itself gives up after 90."""


class Answer(NamedTuple):
    """A successful answer; ``body`` is None when it is empty."""

    status: int
    body: Any


class WorkerClient:
    """Talks to one worker, headrace's or Kafka Connect's. One connection per request; no state but the address."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        """``http(s)://[user:password@]host[:port][/prefix]``. Raises ConfigError."""
        try:
            parts = urlsplit(url)
            self._host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _bad_url() from error
        if parts.scheme not in ("http", "https") or not self._host:
            raise _bad_url()
        self._tls = parts.scheme == "https"
        self._port = port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._prefix}"
        """For messages: without user and password."""

    def connectors(self) -> list[str]:
        """Names, sorted."""
        return sorted(self.request("GET", "/connectors").body)

    def of_connector(self, method: str, name: str, rest: str = "", body: Any = None) -> Answer:
        """Ask ``/connectors/{name}{rest}``. Raises NotFoundError that names the nearest connectors."""
        try:
            return self.request(method, f"/connectors/{quote(name, safe='')}{rest}", body)
        except NotFoundError as error:
            names = self.connectors()
            if name in names:
                raise  # the connector is there; the worker's words say what is not
            hint = nearest(name, names) or (f"connectors here: {', '.join(names)}" if names else "there are none yet")
            text = f"there is no connector named '{name}' at {self.url}"
            raise NotFoundError(text, code="connector.not_found", hint=hint) from error

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """``path`` is already encoded. Raises InfrastructureError (nobody there) and what the worker's answer means."""
        headers, payload = dict(self._headers), None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body).encode()
        connection_class = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = connection_class(self._host or "", self._port, timeout=CONNECT_TIMEOUT)
        try:
            connection.connect()
            connection.sock.settimeout(ANSWER_TIMEOUT)
            connection.request(method, self._prefix + path, payload, headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
        except TimeoutError as error:
            text = f"the worker at {self.url} did not answer in time"
            raise InfrastructureError(
                text, code="worker.timeout", hint="look at its log; then ask for the status"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if status >= 400:
            raise self._error(status, content)
        return Answer(status, self._json(status, content) if content else None)

    def _json(self, status: int, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._stranger(status) from error

    def _error(self, status: int, content: bytes) -> HeadraceError:
        body = self._json(status, content)
        if not isinstance(body, dict) or not isinstance(body.get("message"), str):
            return self._stranger(status)
        message = body["message"]
        if status == 400 and body.get("findings"):
            return ConfigError(message, findings=_findings(body["findings"]))
        match status:
            case 400:
                return CommandError(message, code="worker.refused")
            case 404:
                return NotFoundError(message)
            case 409:
                return ConflictError(message, hint="" if "already exists" in message else "try again in a moment")
            case 503:
                return RetriableError(message, code="worker.busy", hint="try again in a moment")
        return HeadraceError(f"the worker answered {status}: {message}", code="worker.error")

    def _unreachable(self, error: Exception) -> InfrastructureError:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return InfrastructureError(
            f"no worker answers at {self.url}: {why}",
            code="worker.unreachable",
            hint="start one with `headrace run`, or say where it is with --url or HEADRACE_URL",
        )

    def _stranger(self, status: int) -> InfrastructureError:
        return InfrastructureError(
            f"what answers at {self.url} ({status}) is not the REST API of a worker",
            code="worker.not_a_worker",
            hint="check --url and HEADRACE_URL; a proxy in between may also answer by itself",
        )


def _findings(items: Sequence[dict[str, str]]) -> list[Finding]:
    return [Finding(item["code"], item["message"], item.get("key", ""), item.get("hint", "")) for item in items]


def _bad_url() -> ConfigError:
    # The text is not repeated: it may hold a password.
    return ConfigError("the worker's URL is not of the form http://host:port", code="cli.bad_url", hint=DEFAULT_URL)
