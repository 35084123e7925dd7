"""Client of a worker's REST API. Its errors are headrace's, and carry the worker's message."""

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
RESPONSE_TIMEOUT = 100.0
"""Seconds; a worker itself responds within 90."""


class WorkerResponse(NamedTuple):
    """A successful response; ``body`` is None when it is empty."""

    status: int
    body: Any


class WorkerClient:
    """Client of one worker, headrace's or Kafka Connect's. Opens one connection per request; keeps no state."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        """``url`` is ``http(s)://[user:password@]host[:port][/prefix]``. Raises ConfigError."""
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
        """Return the names of all connectors, sorted."""
        return sorted(self.request("GET", "/connectors").body)

    def of_connector(self, method: str, name: str, rest: str = "", body: Any = None) -> WorkerResponse:
        """Send a request to ``/connectors/{name}{rest}``. Raises NotFoundError with the most similar names."""
        try:
            return self.request(method, f"/connectors/{quote(name, safe='')}{rest}", body)
        except NotFoundError as error:
            names = self.connectors()
            if name in names:
                raise  # the connector exists; the worker's message says what does not
            hint = nearest(name, names) or (f"it has: {', '.join(names)}" if names else "it has no connectors")
            text = f"there is no connector named '{name}' at {self.url}"
            raise NotFoundError(text, code="connector.not_found", hint=hint) from error

    def request(self, method: str, path: str, body: Any = None) -> WorkerResponse:
        """Send a request to an encoded path. Raises InfrastructureError, or the error that the response means."""
        headers, payload = dict(self._headers), None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body).encode()
        connection_class = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = connection_class(self._host or "", self._port, timeout=CONNECT_TIMEOUT)
        try:
            connection.connect()
            connection.sock.settimeout(RESPONSE_TIMEOUT)
            connection.request(method, self._prefix + path, payload, headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
        except TimeoutError as error:
            text = f"the worker at {self.url} did not respond within {RESPONSE_TIMEOUT:.0f} s"
            raise InfrastructureError(
                text,
                code="worker.timeout",
                hint="the request may have taken effect: see `headrace connectors status`",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()
        if status >= 400:
            raise self._error(status, content)
        return WorkerResponse(status, self._json(status, content) if content else None)

    def _json(self, status: int, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._not_a_worker(status) from error

    def _error(self, status: int, content: bytes) -> HeadraceError:
        body = self._json(status, content)
        if not isinstance(body, dict) or not isinstance(body.get("message"), str):
            return self._not_a_worker(status)
        message = body["message"]
        if status == 400 and body.get("findings"):
            return ConfigError(message, findings=_findings(body["findings"]))
        match status:
            case 400:
                return CommandError(message, code="worker.refused")
            case 404:
                return NotFoundError(message)
            case 409:
                return ConflictError(message, hint="" if "already exists" in message else "try again in a few seconds")
            case 503:
                return RetriableError(message, code="worker.busy", hint="try again in a few seconds")
        return HeadraceError(f"the worker responded with status {status}: {message}", code="worker.error")

    def _unreachable(self, error: Exception) -> InfrastructureError:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return InfrastructureError(
            f"cannot connect to a worker at {self.url}: {why}",
            code="worker.unreachable",
            hint="start a worker with `headrace run`, or set its address with --url or HEADRACE_URL",
        )

    def _not_a_worker(self, status: int) -> InfrastructureError:
        return InfrastructureError(
            f"{self.url} responded with status {status}, but it is not the REST API of a worker",
            code="worker.not_a_worker",
            hint="check --url and HEADRACE_URL; the response may also come from a proxy",
        )


def _findings(items: Sequence[dict[str, str]]) -> list[Finding]:
    return [Finding(item["code"], item["message"], item.get("key", ""), item.get("hint", "")) for item in items]


def _bad_url() -> ConfigError:
    # The text is not repeated: it may hold a password.
    return ConfigError(
        "the worker's URL is not of the form http://host:port", code="cli.bad_url", hint=f"for example {DEFAULT_URL}"
    )
