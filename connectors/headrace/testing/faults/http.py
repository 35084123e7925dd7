"""HTTP proxy in front of Elasticsearch: it injects faults, checks credentials, and speaks TLS."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import sys
import threading
from collections import deque
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from headrace.embedded.tcp_ports import HOST, free_port
from headrace.testing.faults.answers import (
    Answer,
    Fault,
    HangUpError,
    Passage,
    Request,
    StatusFault,
    decompressed,
    passed_on,
)
from headrace.testing.faults.closing import ClosingProxy

_UPSTREAM_TIMEOUT = 120.0


@dataclass(frozen=True)
class Seen:
    """One request that arrived. ``status`` is None when the client got no complete answer."""

    method: str
    path: str
    size: int
    status: int | None
    fault: Fault | None


class HttpProxy(ClosingProxy):
    """Listens on 127.0.0.1 (``url``) and forwards requests to ``target``, an ``http://host:port``.

    ``tls`` makes it speak HTTPS with this server context. With ``basic_auth`` (user, password) or ``api_key`` (as in
    ``Authorization: ApiKey …``) a request without one of them is answered 401. Thread-safe.
    """

    def __init__(
        self,
        target: str,
        *,
        port: int | None = None,
        tls: ssl.SSLContext | None = None,
        basic_auth: tuple[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        parsed = urlsplit(target)
        self.target = (parsed.hostname or HOST, parsed.port or 9200)
        self.tls = tls
        self._credentials = set[str]()
        if basic_auth is not None:
            self._credentials.add("Basic " + base64.b64encode(":".join(basic_auth).encode()).decode())
        if api_key is not None:
            self._credentials.add(f"ApiKey {api_key}")
        self._lock = threading.Lock()
        self._plays: list[tuple[re.Pattern[str], deque[Fault | None]]] = []
        self._standing: list[tuple[re.Pattern[str], Fault]] = []
        self._seen: list[Seen] = []
        self._freed = threading.Event()  # ends the waits of faults; replaced by every restore
        self._server = _Server((HOST, port or free_port()), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="http-proxy", daemon=True
        )
        self._thread.start()
        self._closed = False

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        """The address; with TLS it has the name ``localhost``, for which certificates are issued."""
        return f"https://localhost:{self.port}" if self.tls else f"http://{HOST}:{self.port}"

    def play(self, *faults: Fault | None, path: str = "") -> None:
        """Inject one fault into each of the next requests whose path (with query) matches the regex ``path``, in order.

        None injects nothing into one request. Later calls append to the faults that are left.
        """
        with self._lock:
            self._plays.append((re.compile(path), deque(faults)))

    def always(self, fault: Fault, path: str = "") -> None:
        """Inject the fault into every request whose path matches, until :meth:`restore`, after those of ``play``."""
        with self._lock:
            self._standing.append((re.compile(path), fault))

    def restore(self) -> None:
        """End all faults; requests that hang continue."""
        with self._lock:
            self._plays.clear()
            self._standing.clear()
            freed, self._freed = self._freed, threading.Event()
        freed.set()

    @property
    def left(self) -> int:
        """Return the number of faults of :meth:`play` that were not injected yet."""
        with self._lock:
            return sum(len(faults) for _, faults in self._plays)

    def seen(self, path: str = "") -> list[Seen]:
        """Return the finished requests whose path matches, in the order in which they finished."""
        with self._lock:
            return [each for each in self._seen if re.search(path, each.path)]

    def close(self) -> None:
        """End all connections and threads. Raise an error of the proxy itself. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.restore()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()  # waits for the connections' threads
        if self._server.faults:
            raise self._server.faults[0]

    def serve(self, request: Request, passage: _Upstream) -> Answer | None:
        """Return the answer to a request; None to close the connection. Called on the connection's thread."""
        with self._lock:  # in one step: a restore ends the waits of all requests that have their fault
            fault, passage.freed = self._fault(request.path), self._freed
        try:
            answer = self._answer(request, fault, passage)
        except HangUpError:
            answer = None
        status = answer.status if answer is not None and answer.cut_after is None else None
        with self._lock:
            self._seen.append(Seen(request.method, request.path, len(request.body), status, fault))
        return answer

    def _answer(self, request: Request, fault: Fault | None, passage: Passage) -> Answer:
        if self._credentials and request.headers.get("authorization") not in self._credentials:
            challenge = {"WWW-Authenticate": 'Basic realm="security" charset="UTF-8", ApiKey'}
            return StatusFault(401, headers=challenge).answer(request, passage)
        return passage.forward(request) if fault is None else fault.answer(request, passage)

    def _fault(self, path: str) -> Fault | None:
        for pattern, faults in self._plays:
            if faults and pattern.search(path):
                return faults.popleft()
        return next((fault for pattern, fault in self._standing if pattern.search(path)), None)


class _Upstream:
    """The connection to the engine for one connection of a client, kept open as long."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.freed = threading.Event()
        self._host = f"{target[0]}:{target[1]}"
        self._connection = HTTPConnection(*target, timeout=_UPSTREAM_TIMEOUT)

    def forward(self, request: Request) -> Answer:
        headers = passed_on(request.headers) | {"accept-encoding": "identity", "host": self._host}
        try:
            self._connection.request(request.method, request.path, request.body or None, headers)
            said = self._connection.getresponse()
            return Answer(said.status, passed_on(dict(said.headers.items())), said.read())
        except (OSError, HTTPException):
            self._connection.close()  # the next request connects again
            return Answer(502, {"Content-Type": "text/plain"}, b"the engine behind the proxy does not answer\n")

    def wait(self, seconds: float | None) -> None:
        self.freed.wait(seconds)

    def close(self) -> None:
        self._connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], proxy: HttpProxy) -> None:
        self.proxy = proxy
        self.faults: list[BaseException] = []
        self._open: set[socket.socket] = set()
        super().__init__(address, _ProxyRequestHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def encrypt(self, request: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        """Do the TLS handshake, on the connection's thread. Raise OSError when the client refuses."""
        self._open.discard(request)
        secured = tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        self._open.add(secured)
        try:
            secured.do_handshake()
        except OSError:
            self.shutdown_request(secured)
            raise
        return secured

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(
            error, OSError
        ):  # OSError: the client has disconnected or refuses our TLS
            self.faults.append(error)

    def hang_up(self) -> None:
        for each in list(self._open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client has disconnected


class _ProxyRequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # of an answer in parts, a client's delayed ACK would hold the last for 40 ms
    server: _Server

    def setup(self) -> None:
        if self.server.proxy.tls is not None:
            self.request = self.server.encrypt(self.request, self.server.proxy.tls)
        super().setup()
        self._passage = _Upstream(self.server.proxy.target)

    def finish(self) -> None:
        self._passage.close()
        super().finish()
        if isinstance(self.request, ssl.SSLSocket):
            self.server.shutdown_request(self.request)  # the server knows only the socket below TLS

    def parse_request(self) -> bool:
        """Accept any method; the engine decides which are allowed."""
        if not super().parse_request():
            return False
        setattr(self, f"do_{self.command}", self._serve)
        return True

    def _serve(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.send_error(411)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(
            self.command, self.path, headers, decompressed(body, headers.get("content-encoding", "identity"))
        )
        answer = self.server.proxy.serve(request, self._passage)
        if answer is None:
            self.close_connection = True
            return
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if answer.cut_after is None else answer.body[: answer.cut_after])
        if answer.cut_after is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing: tests use :meth:`HttpProxy.seen`."""
