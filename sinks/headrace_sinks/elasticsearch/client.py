"""Requests to Elasticsearch: the border to ``elastic_transport``. Exceptions and quirks of HTTP end here."""

from __future__ import annotations

import gzip
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import urllib3
from elastic_transport import ConnectionError as NodeConnectionError
from elastic_transport import ConnectionTimeout, HttpHeaders, NodeConfig, NodePool, TransportError, Urllib3HttpNode
from elastic_transport.client_utils import url_to_node_config

from headrace import ConfigError, EnvironmentFault, Finding, RetriableError
from headrace_sinks.elasticsearch.config import ElasticsearchSinkConfig

_DEAD_NODE_FIRST, _DEAD_NODE_LONGEST = 1.0, 30.0
_COMPRESSION = 3
"""gzip level: most of the gain at a third of the default level's time."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: HttpHeaders
    body: bytes

    def json(self) -> Any:
        """The body; None when it is not JSON (a proxy's page)."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


class Client:
    """A few requests at the same time to a few nodes. Safe to use from several threads."""

    def __init__(self, config: ElasticsearchSinkConfig) -> None:
        """Connects to nothing yet. Raises ConfigError when a certificate file cannot be used."""
        self._compress = config.connection_compression
        # urllib3's own object: elastic_transport knows only one timeout for both.
        self._timeout: Any = urllib3.Timeout(connect=config.connection_timeout / 1000, read=config.read_timeout / 1000)
        urls = list(dict.fromkeys(config.connection_url))
        self.address = ", ".join(urls)
        self._tries = len(urls)
        self._pool = NodePool(
            _node_configs(urls, config),
            Urllib3HttpNode,
            dead_node_backoff_factor=_DEAD_NODE_FIRST,
            max_dead_node_backoff=_DEAD_NODE_LONGEST,
        )
        self._lock = threading.Lock()

    def request(
        self, method: str, path: str, body: bytes | None = None, media_type: str = "application/json"
    ) -> Answer:
        """Send to a node; when it cannot be reached, once to each other one. Any status is an answer.

        Raises RetriableError when none answers, EnvironmentFault when a node's certificate is not trusted.
        """
        headers = HttpHeaders({"accept": "application/json"})
        if body is not None:
            headers["content-type"] = media_type
            if self._compress:
                headers["content-encoding"] = "gzip"
                body = gzip.compress(body, _COMPRESSION)
        failure: TransportError | None = None
        for _ in range(self._tries):
            with self._lock:
                node = self._pool.get()
            try:
                meta, answer = node.perform_request(
                    method, path, body=body, headers=headers, request_timeout=self._timeout
                )
            except TransportError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise _untrusted(node.base_url, error) from error
                failure = error
                with self._lock:
                    self._pool.mark_dead(node)
                if not isinstance(error, NodeConnectionError):
                    break  # a timeout: the request may still be at work there
            else:
                with self._lock:
                    self._pool.mark_live(node)
                return Answer(meta.status, meta.headers, answer)
        assert failure is not None
        raise self._unreachable(failure) from failure

    def close(self) -> None:
        """Close connections that are not in use; the others close when their answer has come."""
        for node in self._pool.all():
            node.close()

    def _unreachable(self, error: TransportError) -> RetriableError:
        hint = "is it running, and is 'connection.url' right?"
        if isinstance(error, ConnectionTimeout):
            limits = f"{self._timeout.connect_timeout:g} s to connect, {self._timeout.read_timeout:g} s for the answer"
            text = f"Elasticsearch at {self.address} did not answer in time ({limits})"
            return RetriableError(text, code="elasticsearch.timeout", hint="'read.timeout.ms' allows more")
        text = f"Elasticsearch at {self.address} cannot be reached: {_cause(error)}"
        return RetriableError(text, code="elasticsearch.unreachable", hint=hint)


def _node_configs(urls: list[str], config: ElasticsearchSinkConfig) -> list[NodeConfig]:
    headers = HttpHeaders()
    if config.connection_api_key is not None:
        headers["authorization"] = f"ApiKey {config.connection_api_key.get_secret_value()}"
    elif config.connection_username is not None and config.connection_password is not None:
        pair = f"{config.connection_username}:{config.connection_password.get_secret_value()}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    options: dict[str, Any] = {"headers": headers, "connections_per_node": config.max_in_flight_requests + 1}
    tls: dict[str, Any] = {}
    if config.trust_all_certificates:
        tls |= {"verify_certs": False, "ssl_show_warn": False, "ssl_assert_hostname": False}
    else:
        if config.ca_file is not None:
            tls["ca_certs"] = _readable(config.ca_file)
        if not config.host_name_check:
            tls["ssl_assert_hostname"] = False
    return [
        url_to_node_config(url, use_default_ports_for_scheme=True).replace(
            **options, **(tls if url.startswith("https") else {})
        )
        for url in urls
    ]


def _readable(path: str) -> str:
    name = "elastic.https.ssl.truststore.location"
    try:
        found = b"-----BEGIN CERTIFICATE" in Path(path).read_bytes()
    except OSError as error:
        text = f"Invalid value {path} for configuration {name}: {error.strerror}"
        raise ConfigError(findings=[Finding("config.invalid_value", text, name)]) from error
    if not found:
        text = f"Invalid value {path} for configuration {name}: there is no PEM certificate in it"
        hint = "of a Java store: keytool -exportcert -rfc -keystore store.jks -alias ca > ca.pem"
        raise ConfigError(findings=[Finding("config.invalid_value", text, name, hint)])
    return path


def _untrusted(url: str, error: TransportError) -> EnvironmentFault:
    return EnvironmentFault(
        f"the certificate of {url} is not trusted: {_cause(error)}",
        code="elasticsearch.untrusted_certificate",
        hint="name the authority's certificate (PEM) in 'elastic.https.ssl.truststore.location'",
    )


def _cause(error: BaseException) -> str:
    """The innermost reason: urllib3 wraps the system's error several times."""
    inner: BaseException = error
    while (deeper := _inner(inner)) is not None:
        inner = deeper
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _inner(error: BaseException) -> BaseException | None:
    for candidate in (*getattr(error, "errors", ()), error.__cause__, error.__context__):
        if isinstance(candidate, BaseException) and candidate is not error:
            return candidate
    return None
