"""Sends documents to data streams of Elasticsearch, and creates their templates."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx
import orjson

from headrace.errors import ConfigError, Finding, HeadraceError, InfrastructureError, RetriableError
from headrace.metrics_settings import MetricsSettings
from headrace.reporter.data_streams import DataStream

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_ERRNO = re.compile(r"^\[(?:Errno|SSL)[^\]]*\] ")
_PRIVILEGES = (
    "grant manage_index_templates, and create_doc and auto_configure for metrics-headrace.worker-* and "
    "logs-headrace.events-*"
)


class ReporterAccess(NamedTuple):
    """Address and credentials of Elasticsearch. ``credentials``: user and password, or an API key."""

    url: str
    credentials: tuple[str, str] | str | None = None
    tls: ssl.SSLContext | None = None


def reporter_access(settings: MetricsSettings) -> ReporterAccess:
    """Return the access of a worker's settings. Raise ConfigError for a CA file that cannot be read."""
    assert settings.reporter_url is not None
    credentials: tuple[str, str] | str | None = None
    if settings.reporter_api_key is not None:
        credentials = settings.reporter_api_key.get_secret_value()
    elif settings.reporter_user is not None and settings.reporter_password is not None:
        credentials = (settings.reporter_user, settings.reporter_password.get_secret_value())
    try:
        tls = ssl.create_default_context(cafile=settings.reporter_ca_file)
    except (OSError, ValueError) as error:
        text = f"the file of metrics.elasticsearch.ca.file cannot be used: {error}"
        finding = Finding("config.invalid_value", text, "metrics.elasticsearch.ca.file", "name a PEM file")
        raise ConfigError(findings=[finding]) from error
    return ReporterAccess(settings.reporter_url, credentials, tls)


def open_http(access: ReporterAccess) -> httpx.Client:
    """Return a client with the credentials; it connects with its first request."""
    headers = {"accept": "application/json"}
    if isinstance(access.credentials, str):
        headers["authorization"] = f"ApiKey {access.credentials}"
    return httpx.Client(
        auth=access.credentials if isinstance(access.credentials, tuple) else None,
        headers=headers,
        timeout=_TIMEOUT,
        trust_env=False,
        verify=(access.tls or ssl.create_default_context()) if access.url.startswith("https:") else False,
    )


class StreamDocument(NamedTuple):
    """A document and the data stream that it goes to."""

    stream: str
    source: bytes


class BulkClient:
    """Used from one thread. Methods raise RetriableError, and InfrastructureError when Elasticsearch refuses them."""

    def __init__(self, access: ReporterAccess) -> None:
        self._url = access.url.rstrip("/")
        self._http = open_http(access)

    def close(self) -> None:
        self._http.close()

    def put_template(self, stream: DataStream) -> None:
        self._request("PUT", f"/_index_template/{stream.template}", orjson.dumps(stream.body))

    def send(self, documents: Sequence[StreamDocument]) -> list[str]:
        """Write documents. Return the reasons of those that were refused; they need not be sent again."""
        lines: list[bytes] = []
        for document in documents:
            lines += [b'{"create":{"_index":%s}}' % orjson.dumps(document.stream), document.source]
        body = b"\n".join(lines) + b"\n"
        answer = self._request("POST", "/_bulk", body, kind="application/x-ndjson")
        items = [next(iter(item.values())) for item in answer.get("items", ())]
        if any(item.get("status") == 429 for item in items):
            raise RetriableError(f"Elasticsearch at {self._url} is overloaded", code="reporter.overloaded")
        return [str(item["error"].get("reason", item["error"])) for item in items if "error" in item]

    def _request(self, method: str, place: str, body: bytes, kind: str = "application/json") -> dict[str, Any]:
        try:
            answer = self._http.request(method, self._url + place, content=body, headers={"content-type": kind})
        except httpx.TransportError as error:
            why = _ERRNO.sub("", str(error)) or type(error).__name__
            raise RetriableError(
                f"Elasticsearch at {self._url} cannot be reached: {why}", code="reporter.unreachable"
            ) from error
        if answer.status_code >= 300:
            raise self._error(method, place, answer)
        found: dict[str, Any] = answer.json()
        return found

    def _error(self, method: str, place: str, answer: httpx.Response) -> HeadraceError:
        text = f"Elasticsearch at {self._url} answered {method} {place} with status {answer.status_code}"
        if answer.status_code in (401, 403):
            return InfrastructureError(text, code="reporter.denied", hint=_PRIVILEGES)
        if answer.status_code == 429 or answer.status_code >= 500:
            return RetriableError(text, code="reporter.unavailable")
        return InfrastructureError(f"{text}: {answer.text[:300]}", code="reporter.refused", hint="see its log")
