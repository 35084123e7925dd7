"""Client of a worker's REST API. Errors are those of :mod:`headrace.errors`, with the worker's message."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from headrace.cli.worker_access import WorkerAccess
from headrace.config import nearest
from headrace.errors import (
    AuthenticationError,
    CommandError,
    ConfigError,
    ConflictError,
    Finding,
    HeadraceError,
    InfrastructureError,
    NotFoundError,
    PermissionDeniedError,
    RetriableError,
)

DEFAULT_URL = "http://127.0.0.1:8083"
CONNECT_TIMEOUT = 5.0
RESPONSE_TIMEOUT = 100.0
"""Seconds; a worker itself responds within 90."""


_AGAIN = "try again in a few seconds"
_ERRNO = re.compile(r"^\[(?:Errno|SSL)[^\]]*\] ")


class WorkerResponse(NamedTuple):
    """A successful response; ``body`` is None when it is empty."""

    status: int
    body: Any


class WorkerClient:
    """Client of one worker, headrace's or Kafka Connect's. Opens one connection per request; keeps no state."""

    def __init__(self, url: str = DEFAULT_URL, access: WorkerAccess | None = None) -> None:
        """``url`` is ``http(s)://[user:password@]host[:port][/prefix]``; its user replaces that of ``access``.

        Without ``access`` those of the command's options and the environment. Raises ConfigError.
        """
        self._access = access or WorkerAccess.current()
        if url == DEFAULT_URL and self._access.url:
            url = self._access.url
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise _bad_url() from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise _bad_url()
        credentials = (parsed.username, parsed.password) if parsed.userinfo else self._access.credentials()
        self._auth = credentials if isinstance(credentials, tuple) else None
        self._headers = {"Accept": "application/json"}
        if isinstance(credentials, str):
            self._headers["Authorization"] = f"Bearer {credentials}"
        self.url = str(parsed.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        """For messages: without user and password."""

    def connectors(self) -> list[str]:
        """Return the names of all connectors, sorted."""
        return sorted(self.request("GET", "/connectors").body)

    def of_connector(
        self, method: str, name: str, rest: str = "", body: Any = None, *, prefix: str = ""
    ) -> WorkerResponse:
        """Send a request to ``{prefix}/connectors/{name}{rest}``. Raises NotFoundError with the most similar names."""
        try:
            return self.request(method, f"{prefix}/connectors/{quote(name, safe='')}{rest}", body)
        except NotFoundError as error:
            names = self.connectors()
            if name in names:
                raise  # the connector exists; the worker's message names the missing object
            hint = nearest(name, names) or (f"it has: {', '.join(names)}" if names else "it has no connectors")
            text = f"there is no connector named '{name}' at {self.url}"
            raise NotFoundError(text, code="connector.not_found", hint=hint) from error

    def request(self, method: str, path: str, body: Any = None) -> WorkerResponse:
        """Send a request to an encoded path. Raises InfrastructureError, or the error that the response means."""
        try:
            response = httpx.request(
                method,
                self.url + path,
                json=body,
                headers=self._headers,
                auth=self._auth,
                timeout=httpx.Timeout(RESPONSE_TIMEOUT, connect=CONNECT_TIMEOUT),
                trust_env=False,  # a worker is not reached through the proxies of the environment
                verify=self._access.tls() if self.url.startswith("https:") else False,
            )
        except httpx.ConnectTimeout as error:
            raise self._unreachable(error) from error
        except httpx.TimeoutException as error:
            text = f"the worker at {self.url} did not respond within {RESPONSE_TIMEOUT:.0f} s"
            hint = "the request may have taken effect: see `headrace connectors status`"
            raise InfrastructureError(text, code="worker.timeout", hint=hint) from error
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            raise self._error(response.status_code, response.content)
        content = response.content
        return WorkerResponse(response.status_code, self._json(response.status_code, content) if content else None)

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
            case 401:
                hint = "set HEADRACE_TOKEN, or HEADRACE_USER and HEADRACE_PASSWORD, or use --token-file or --user"
                return AuthenticationError(message, code=body.get("code"), hint=hint)
            case 403:
                return PermissionDeniedError(message, code=body.get("code"))
            case 404:
                return NotFoundError(message)
            case 409:
                return ConflictError(message, hint="" if "already exists" in message or " → " in message else _AGAIN)
            case 503:
                return RetriableError(message, code=body.get("code") or "worker.busy", hint=_AGAIN)
        return HeadraceError(f"the worker responded with status {status}: {message}", code="worker.error")

    def _unreachable(self, error: Exception) -> InfrastructureError:
        why = _ERRNO.sub("", str(error)) or type(error).__name__
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
