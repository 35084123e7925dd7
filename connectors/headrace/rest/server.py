"""The HTTP server of a worker: uvicorn on a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import structlog
import uvicorn

from headrace.errors import InfrastructureError
from headrace.registry import Registry
from headrace.rest.app import create_app
from headrace.rest.listeners import listen, parse_listeners, url_of
from headrace.runtime.api import WorkerApi

log = structlog.stdlib.get_logger(__name__)

START_TIMEOUT = 10.0
DRAIN_TIMEOUT = 2
"""Seconds that a stopping server gives calls under way."""


class RestServer:
    """Serves the REST API: ``bind``, ``start``, ``stop``. Each from any one thread; ``stop`` also twice.

    Ports are taken before there is a worker: its id is the port it really has, and a port in use is told first.
    """

    def __init__(self, listeners: Sequence[str]) -> None:
        """``listeners`` as in the worker's settings. Raises ConfigError."""
        self._listeners = parse_listeners(listeners)
        self._sockets: list[socket.socket] = []
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.urls: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the first listener. Known once bound."""
        return self.urls[0]

    def bind(self) -> None:
        """Take the ports. Raises InfrastructureError (``rest.port_in_use``)."""
        try:
            for listener in self._listeners:
                self._sockets.append(listen(listener))
        except InfrastructureError:
            self._close_sockets()
            raise
        self.urls = tuple(map(url_of, self._listeners, self._sockets))

    def start(self, api: WorkerApi, registry: Registry) -> None:
        """Serve on what was bound. Raises InfrastructureError."""
        self._server = _Server(
            uvicorn.Config(
                create_app(api, registry),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,  # logging belongs to the application
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_TIMEOUT,
            )
        )
        self._thread = threading.Thread(target=self._serve, args=(self._server,), name="rest", daemon=True)
        self._thread.start()
        if not self._server.settled.wait(START_TIMEOUT) or not self._server.started:
            self.stop()
            raise InfrastructureError(
                "the REST API did not start", code="rest.not_started", hint="see the worker's log"
            )
        log.info("rest.listening", urls=self.urls)

    def stop(self) -> None:
        """Take no more calls, give those under way a moment, answer the rest 503, and return."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(DRAIN_TIMEOUT + 3.0)  # its ticks and pauses come on top
            self._server = self._thread = None
        self._close_sockets()

    def _serve(self, server: _Server) -> None:
        # Off the main thread uvicorn installs no signal handlers.
        try:
            server.run(sockets=self._sockets)
        except Exception:  # the thread's border: nobody is above to raise to
            log.exception("rest.server_failed")
        finally:
            server.settled.set()

    def _close_sockets(self) -> None:
        for opened in self._sockets:
            opened.close()
        self._sockets = []


class _Server(uvicorn.Server):
    """Tells when it has started, or will never."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()
