"""The HTTP server of a worker: uvicorn on a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Any

import structlog
import uvicorn

from headrace.dead_letters.service import DeadLetterService
from headrace.errors import InfrastructureError
from headrace.registry import Registry
from headrace.rest.access_settings import RestAccess
from headrace.rest.admin_ports import AdminPorts
from headrace.rest.app import create_app
from headrace.rest.authentication import Authenticator
from headrace.rest.connections import DeadlineProtocol, TlsHandshake, handle_loop_error
from headrace.rest.limits import RepeatedLines, RepeatedRecords, RestLimits, default_limits
from headrace.rest.listeners import BACKLOG, listen, parse_listeners, url_of
from headrace.rest.log_levels import LogLevels
from headrace.rest.metrics_routes import DEFAULT_EXPOSITION, Exposition
from headrace.rest.options import NO_OPTIONS, RestOptions
from headrace.runtime.api import WorkerApi
from headrace.runtime.group_api import WorkerGroupApi

log = structlog.stdlib.get_logger(__name__)

logging.getLogger("uvicorn.error").addFilter(RepeatedRecords(RepeatedLines()))

START_TIMEOUT = 10.0
DRAIN_TIMEOUT = 2
"""Seconds that a stopping server waits for running requests."""


class RestServer:
    """Serves the REST API: ``bind``, ``start``, ``stop``. ``stop`` may be called twice.

    Ports are bound before the worker is created: its id contains the port, and a port in use is reported first.
    """

    def __init__(
        self,
        listeners: Sequence[str],
        options: RestOptions = NO_OPTIONS,
        limits: RestLimits | None = None,
        access: RestAccess | None = None,
        exposition: Exposition = DEFAULT_EXPOSITION,
        admin_listeners: Sequence[str] | None = None,
    ) -> None:
        """``listeners`` and ``admin_listeners`` as in the worker's settings; without ``access`` everything is allowed.

        Raises ConfigError.
        """
        self._access = access or RestAccess(Authenticator())
        common = parse_listeners(listeners)
        self._admin = admin_listeners
        self._common = len(common)
        self._listeners = [*common, *(parse_listeners(admin_listeners) if admin_listeners else ())]
        names = {listener.host for listener in self._listeners} | {socket.gethostname()}
        self._options = options._replace(allowed_hosts=(*options.allowed_hosts, *names))
        self._limits = limits or default_limits()
        self._exposition = exposition
        self._sockets: list[socket.socket] = []
        self._server: _UvicornServer | None = None
        self._thread: threading.Thread | None = None
        self.urls: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The URL of the first listener, for clients on this machine. Known once bound."""
        return self.urls[0]

    def bind(self) -> None:
        """Bind the ports. Raises InfrastructureError (``rest.port_in_use``)."""
        try:
            for listener in self._listeners:
                self._sockets.append(listen(listener))
        except InfrastructureError:
            self._close_sockets()
            raise
        self.urls = tuple(map(url_of, self._listeners, self._sockets))

    def start(
        self,
        api: WorkerApi,
        registry: Registry,
        dead_letters: DeadLetterService | None = None,
        group: WorkerGroupApi | None = None,
        levels: LogLevels | None = None,
    ) -> None:
        """Serve on the bound ports. Raises InfrastructureError.

        ``group``: of which the worker is a member. ``levels``: of the worker's loggers.
        """
        app = create_app(
            api,
            registry,
            self._options,
            dead_letters,
            self._limits,
            self._access.authenticator,
            self._exposition,
            group,
            levels,
        )
        if self._admin is not None:
            app = AdminPorts(app, {opened.getsockname()[1] for opened in self._sockets[self._common :]})
        self._server = _UvicornServer(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=functools.partial(DeadlineProtocol, limits=self._limits),  # type: ignore[arg-type]
                backlog=BACKLOG,
                ws="none",
                lifespan="off",
                log_config=None,  # logging belongs to the application
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=DRAIN_TIMEOUT,
            ),
            [opened for listener, opened in zip(self._listeners, self._sockets, strict=True) if listener.tls],
            self._access.tls,
            self._limits,
        )
        self._thread = threading.Thread(target=self._serve, args=(self._server,), name="rest", daemon=True)
        self._thread.start()
        if not self._server.start_decided.wait(START_TIMEOUT) or not self._server.started:
            self.stop()
            raise InfrastructureError(
                "the REST API did not start", code="rest.not_started", hint="see the worker's log"
            )
        log.info("rest.listening", urls=self.urls)

    def stop(self) -> None:
        """Accept no more requests, wait for running ones up to the timeout, answer the rest 503, and return."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(DRAIN_TIMEOUT + 3.0)  # uvicorn checks for the exit between ticks
            self._server = self._thread = None
        self._close_sockets()

    def _serve(self, server: _UvicornServer) -> None:
        # Off the main thread uvicorn installs no signal handlers.
        try:
            server.run(sockets=self._sockets)
        except Exception:  # nothing above this thread could handle it
            log.exception("rest.server_failed")
        finally:
            server.start_decided.set()

    def _close_sockets(self) -> None:
        for opened in self._sockets:
            opened.close()
        self._sockets = []


class _UvicornServer(uvicorn.Server):
    """Signals when it has started or failed to start, and serves https on some of its sockets (uvicorn: on all)."""

    def __init__(
        self,
        config: uvicorn.Config,
        tls_sockets: Sequence[socket.socket],
        context: ssl.SSLContext | None,
        limits: RestLimits,
    ) -> None:
        super().__init__(config)
        self.start_decided = threading.Event()
        self._tls_sockets = tls_sockets
        self._context = context
        self._limits = limits

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handle_loop_error)
        await super().startup([opened for opened in sockets or () if opened not in self._tls_sockets])
        for opened in self._tls_sockets:
            self.servers.append(await loop.create_server(self._handshake, sock=opened, backlog=BACKLOG))
        self.start_decided.set()

    def _handshake(self) -> asyncio.Protocol:
        assert self._context is not None, "there are https listeners"
        return TlsHandshake(self._protocol, self.server_state.connections, self._context, self._limits)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
