"""HTTP connections with deadlines, and a limit on their number: slow and idle clients cannot keep others out."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from headrace.rest.authentication import CERTIFICATE_STATE
from headrace.rest.limits import RepeatedLines, RestLimits
from headrace.rest.tls import subject_of

log = structlog.stdlib.get_logger(__name__)

_lines = RepeatedLines()


class DeadlineProtocol(H11Protocol):
    """uvicorn's protocol, which waits for headers and for reading clients without limit, with deadlines.

    When there are too many connections, the one that has let the server wait longest is closed. A client that sends
    its request at once is therefore served, whatever the others do.
    """

    def __init__(self, *arguments: Any, limits: RestLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        opened = transport.get_extra_info("ssl_object")
        if opened is not None and (certificate := opened.getpeercert()):
            self.app_state = {**self.app_state, CERTIFICATE_STATE: subject_of(certificate)}
        self._expect_request()
        make_room(self, self.connections, self._limits)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._cancel()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()  # begins the next request when it was received already
        if self._is_answering():
            self._cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self.loop.call_later(self._limits.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel()
        self.resume_writing()

    def waits_since(self) -> float | None:
        """Return since when the client lets the server wait for the rest of a request; None when it does not."""
        return None if self._is_answering() and not self.cycle.more_body else self._since

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_request(self) -> None:
        self._cancel()
        self._since = self.loop.time()
        # Not closed but aborted: closing waits until the client has read what it was sent.
        self._deadline = self.loop.call_later(self._limits.header_timeout, self.transport.abort)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class TlsHandshake(asyncio.Protocol):
    """A connection until its TLS handshake has ended: it counts as any other, and has the time of a request's headers.

    asyncio's own servers tell a protocol of a connection after the handshake only, so that clients which never begin
    one are not counted.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        connections: set[Any],
        context: ssl.SSLContext,
        limits: RestLimits,
    ) -> None:
        """``make_protocol`` returns the protocol of the connection after the handshake."""
        self._make_protocol = make_protocol
        self._connections = connections
        self._context = context
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._early: list[bytes] = []
        """What the client has sent after the handshake, until the other protocol has the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._connections.add(self)
        make_room(self, self._connections, self._limits)
        self._handshake = self._loop.create_task(self._secure())

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def waits_since(self) -> float | None:
        """Return when the client connected: the server has waited for it since."""
        return self._since

    def shutdown(self) -> None:
        """End the connection, because the server stops."""
        self.transport.abort()

    async def _secure(self) -> None:
        try:
            secured = await self._loop.start_tls(
                self.transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._limits.header_timeout,
            )
        except OSError:
            return  # asyncio has closed the connection: no TLS, a certificate that is not trusted, or no answer in time
        finally:
            self._connections.discard(self)
        if secured is None or secured.is_closing():  # the client has disconnected, or was
            return
        protocol = self._make_protocol()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        for data in self._early:
            protocol.data_received(data)


def make_room(newest: DeadlineProtocol | TlsHandshake, connections: set[Any], limits: RestLimits) -> None:
    """If there are too many connections, close the one that has let the server wait longest."""
    if len(connections) <= limits.connections:
        return
    waiting = [(since, item) for item in connections - {newest} if (since := item.waits_since()) is not None]
    closed = min(waiting, key=lambda pair: pair[0])[1] if waiting else newest
    connections.discard(closed)
    closed.transport.abort()
    if (suppressed := _lines.admit("too many connections")) is not None:
        log.warning("rest.too_many_connections", limit=limits.connections, closed_before=suppressed)


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log errors of the event loop; those of accepting connections, which it repeats very often, once per interval."""
    message = str(context.get("message", ""))
    if not message.startswith("socket.accept()"):
        loop.default_exception_handler(context)
    elif (suppressed := _lines.admit(message)) is not None:
        reason = str(context.get("exception") or message)
        log.warning(
            "rest.cannot_accept",
            reason=reason,
            suppressed=suppressed,
            hint="the process may not open more files: raise its limit (ulimit -n)",
        )
