"""HTTP requests to Elasticsearch nodes: failover, TLS, proxy. The only user of ``elastic_transport``."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import urllib3
from elastic_transport import ConnectionError as NodeConnectionError
from elastic_transport import ConnectionTimeout, HttpHeaders, NodeConfig, NodePool, TransportError, Urllib3HttpNode
from elastic_transport.client_utils import url_to_node_config

from headrace import ConfigError, Finding, InfrastructureError, RetriableError
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig

_DEAD_NODE_FIRST, _DEAD_NODE_LONGEST = 1.0, 30.0
_WRITES = "/_tasks?actions=indices:data/write/*&filter_path=nodes.*.tasks.*.headers"
_TUNNEL_DENIED = "Tunnel connection failed: 407"
"""Message of ``http.client``."""
_COMPRESSION = 3
"""gzip level: most of the compression at a third of the default level's time."""


class ElasticsearchResponse(NamedTuple):
    """Status, headers and body of a response."""

    status: int
    headers: HttpHeaders
    body: bytes

    def json(self) -> Any:
        """Return the parsed body; None when it is not JSON (a proxy's page)."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def lenient_json(self) -> Any:
        """Return the parsed body as :meth:`json`, also when documents in it hold invalid UTF-8 or lone surrogates."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            pass
        try:
            return json.loads(self.body.decode(errors="surrogateescape"))
        except ValueError:
            return None


class ElasticsearchClient:
    """Sends requests to several nodes; thread-safe."""

    def __init__(self, config: ElasticsearchSinkConfig) -> None:
        """Open no connection yet. Raise ConfigError when a certificate file cannot be used."""
        self._compress = config.connection_compression
        self.compatible_with: str = "" if config.compatibility == "none" else config.compatibility
        """Major version of the requested compatibility mode; empty = none."""
        self._connect_timeout = config.connection_timeout / 1000
        self.read_timeout = config.read_timeout / 1000
        """Seconds."""
        urls = list(dict.fromkeys(config.connection_url))
        self._connection_hint = _connection_hint(config, urls)
        through = f" (through the proxy {config.proxy_host}:{config.proxy_port})" if config.proxy_host else ""
        self.address = ", ".join(urls) + through
        self._tries = len(urls)
        node_class = _through_proxy(config) if config.proxy_host else Urllib3HttpNode
        self._pool = NodePool(
            _node_configs(urls, config),
            node_class,
            dead_node_backoff_factor=_DEAD_NODE_FIRST,
            max_dead_node_backoff=_DEAD_NODE_LONGEST,
        )
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        media_type: str = "application/json",
        *,
        opaque_id: str = "",
        read_timeout: float | None = None,
    ) -> ElasticsearchResponse:
        """Send to a node; when it cannot be reached, once to each other node. Return the response, whatever its status.

        A request with ``opaque_id``, by which :meth:`is_running` finds it, is sent to one node only: it may have been
        executed there although the connection broke. ``read_timeout``: seconds, at most ``read.timeout.ms``.
        Raise RetriableError when no node answers, InfrastructureError when a node's certificate is not trusted.
        """
        headers = HttpHeaders({"accept": _versioned_media_type("application/json", self.compatible_with)})
        if opaque_id:
            headers["x-opaque-id"] = opaque_id
        if body is not None:
            headers["content-type"] = _versioned_media_type(media_type, self.compatible_with)
            if self._compress:
                headers["content-encoding"] = "gzip"
                body = gzip.compress(body, _COMPRESSION)
        failure: TransportError | None = None
        # urllib3's own object: elastic_transport has only one timeout for both.
        read = self.read_timeout if read_timeout is None else min(read_timeout, self.read_timeout)
        timeout: Any = urllib3.Timeout(connect=self._connect_timeout, read=read)
        for _ in range(1 if opaque_id else self._tries):
            with self._lock:
                node = self._pool.get()
            try:
                meta, answer = node.perform_request(method, path, body=body, headers=headers, request_timeout=timeout)
            except TransportError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise _untrusted(node.base_url, error) from error
                if _TUNNEL_DENIED in str(error):
                    raise proxy_denied("HTTP 407") from error
                failure = error
                with self._lock:
                    self._pool.mark_dead(node)
                if not isinstance(error, NodeConnectionError):
                    break  # a timeout: the node may still be executing the request
            else:
                with self._lock:
                    self._pool.mark_live(node)
                return ElasticsearchResponse(meta.status, meta.headers, answer)
        assert failure is not None
        raise self._unreachable(failure) from failure

    def is_running(self, opaque_id: str) -> bool:
        """Return whether the cluster is still executing a write request with this id. A request that has not arrived
        yet is not found; without the privilege ``monitor`` none is. Raise as :meth:`request` does."""
        answer = self.request("GET", _WRITES)
        return b'"%b"' % opaque_id.encode() in answer.body

    def close(self) -> None:
        """Close idle connections; the others close after their response."""
        for node in self._pool.all():
            node.close()

    def _unreachable(self, error: TransportError) -> RetriableError:
        hint = self._connection_hint
        if isinstance(error, ConnectionTimeout):
            limits = f"{self._connect_timeout:g} s to connect, {self.read_timeout:g} s for the answer"
            text = f"Elasticsearch at {self.address} did not answer in time ({limits})"
            return RetriableError(text, code="elasticsearch.timeout", hint="'read.timeout.ms' allows more")
        text = f"Elasticsearch at {self.address} cannot be reached: {_cause(error)}"
        return RetriableError(text, code="elasticsearch.unreachable", hint=hint)


def proxy_denied(said: str) -> InfrastructureError:
    """Return the error for a proxy that refuses the credentials."""
    return InfrastructureError(
        f"the proxy refused the credentials ({said})",
        code="elasticsearch.proxy_denied",
        hint="check 'proxy.username' and 'proxy.password'",
    )


def _connection_hint(config: ElasticsearchSinkConfig, urls: list[str]) -> str:
    """Return the hint for an unreachable cluster."""
    names = "'connection.url' and 'proxy.host' are" if config.proxy_host else "'connection.url' is"
    hint = f"check that it is running, and that {names} correct"
    if config.keystore is None and any(url.startswith("https") for url in urls):
        hint += "; if the cluster requires a client certificate, set 'elastic.https.ssl.keystore.location'"
    return hint


def _node_configs(urls: list[str], config: ElasticsearchSinkConfig) -> list[NodeConfig]:
    headers = HttpHeaders()
    if config.connection_api_key is not None:
        headers["authorization"] = f"ApiKey {config.connection_api_key.get_secret_value()}"
    elif config.connection_username is not None and config.connection_password is not None:
        pair = f"{config.connection_username}:{config.connection_password.get_secret_value()}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    options: dict[str, Any] = {"headers": headers, "connections_per_node": config.max_in_flight_requests + 1}
    tls: dict[str, Any] = {}
    if config.keystore is not None:
        return [_with_client_certificate(url, options, config) for url in urls]
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


def _with_client_certificate(url: str, options: dict[str, Any], config: ElasticsearchSinkConfig) -> NodeConfig:
    node = url_to_node_config(url, use_default_ports_for_scheme=True).replace(**options)
    if node.scheme != "https":
        return node
    ca_file = _readable(config.ca_file) if config.ca_file is not None else None
    context = ssl.create_default_context(cafile=ca_file)
    if config.trust_all_certificates or not config.host_name_check:
        context.check_hostname = False
    if config.trust_all_certificates:
        context.verify_mode = ssl.CERT_NONE
    name, keystore = "elastic.https.ssl.keystore.location", config.keystore or ""
    password = config.key_password.get_secret_value() if config.key_password is not None else ""
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(keystore, password=password)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "no certificate with its private key in PEM form, or the key's password is wrong"
        if isinstance(error, ssl.SSLError):
            reason = "no certificate with its private key in PEM form, or the key's password is wrong"
        text = f"Invalid value {keystore} for configuration {name}: {reason}"
        hint = "put the certificate and its key into one PEM file; 'elastic.https.ssl.key.password' opens the key"
        raise ConfigError(findings=[Finding("config.invalid_value", text, name, hint)]) from error
    return node.replace(ssl_context=context)


def _through_proxy(config: ElasticsearchSinkConfig) -> type[Urllib3HttpNode]:
    """Return a node class that sends through the proxy: absolute URLs for http, a tunnel (CONNECT) for https."""
    proxy = f"http://{config.proxy_host}:{config.proxy_port}"
    credentials = None
    if config.proxy_username is not None and config.proxy_password is not None:
        pair = f"{config.proxy_username}:{config.proxy_password.get_secret_value()}"
        credentials = urllib3.make_headers(proxy_basic_auth=pair)

    class ProxiedNode(Urllib3HttpNode):
        def __init__(self, node: NodeConfig) -> None:
            super().__init__(node)
            direct: Any = self.pool
            manager = urllib3.ProxyManager(
                proxy,
                proxy_headers=credentials,
                maxsize=node.connections_per_node,
                block=True,
                **direct.conn_kw,
                **_tls_of(direct),
            )
            if node.scheme == "https":
                self.pool = manager.connection_from_host(node.host, node.port, "https")
            else:
                self.pool = _AbsoluteUrlPool(manager, self.base_url)  # type: ignore[assignment]

    return ProxiedNode


def _tls_of(pool: Any) -> dict[str, Any]:
    """Copy the certificate settings of elastic_transport's pool."""
    if not isinstance(pool, urllib3.HTTPSConnectionPool):
        return {}
    return {
        "ca_certs": pool.ca_certs,
        "cert_reqs": pool.cert_reqs,
        "assert_hostname": pool.assert_hostname,
        "assert_fingerprint": pool.assert_fingerprint,
    }


class _AbsoluteUrlPool:
    """A connection pool to an HTTP proxy, which needs absolute URLs."""

    def __init__(self, manager: urllib3.ProxyManager, base_url: str) -> None:
        self._manager, self._base_url = manager, base_url

    def urlopen(self, method: str, target: str, **arguments: Any) -> Any:
        # urllib3 would add an "Accept" header of its own to one in another spelling.
        headers = {name.title(): value for name, value in arguments.pop("headers", {}).items()}
        headers.update(self._manager.proxy_headers)
        return self._manager.urlopen(method, self._base_url + target, redirect=False, headers=headers, **arguments)

    def close(self) -> None:
        self._manager.clear()


def _versioned_media_type(media_type: str, major: str) -> str:
    """Return the media type that requests the compatibility mode of a major version."""
    if not major:
        return media_type
    kind = media_type.rpartition("/")[2]
    return f"application/vnd.elasticsearch+{kind}; compatible-with={major}"


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


def _untrusted(url: str, error: TransportError) -> InfrastructureError:
    return InfrastructureError(
        f"the certificate of {url} is not trusted: {_cause(error)}",
        code="elasticsearch.untrusted_certificate",
        hint="name the authority's certificate (PEM) in 'elastic.https.ssl.truststore.location'",
    )


def _cause(error: BaseException) -> str:
    """Return the innermost reason: urllib3 wraps the system's error several times."""
    inner: BaseException = error
    while (deeper := _inner(inner)) is not None:
        inner = deeper
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__


def _inner(error: BaseException) -> BaseException | None:
    for candidate in (*getattr(error, "errors", ()), error.__cause__, error.__context__):
        if isinstance(candidate, BaseException) and candidate is not error:
            return candidate
    return None
