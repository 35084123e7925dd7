"""TCP proxy in front of an engine: it resets, delays, throttles, blocks or refuses connections."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from headrace.embedded.tcp_ports import HOST, free_port
from headrace.testing.faults.closing import ClosingProxy

_CHUNK = 65_536
_HELD = 1_048_576
"""Buffered bytes per direction; a sender of more blocks, as with a full TCP window."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, with RST


@dataclass(frozen=True, slots=True)
class _Line:
    """Faults of the line, for all connections."""

    latency: float = 0.0
    rate: float | None = None
    blocked: bool = False
    muted: bool = False


class TcpProxy(ClosingProxy):
    """Listens on 127.0.0.1 (``port``, ``address``) and forwards to ``target`` (``host:port``).

    A fault applies to open and to new connections until :meth:`restore`. Methods may be called from any thread; the
    fault is in effect when the call returns. A Kafka client connects to the address that the broker advertises: start
    the embedded one with ``broker.advertised_port = proxy.port``.
    """

    def __init__(self, target: str, *, port: int | None = None) -> None:
        host, _, number = target.rpartition(":")
        self.target = (host, int(number))
        self.port = port or free_port()
        self._selector = selectors.DefaultSelector()
        self._connections: set[_ProxiedConnection] = set()
        self._listener: socket.socket | None = None
        self._orders: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._alarm, self._bell = socket.socketpair()
        self._closed = False
        self._line = _Line()
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"tcp-proxy-{self.port}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """Return the number of open connections."""
        return len(self._connections)

    def cut(self) -> None:
        """Reset every open connection, once. New connections work."""
        self._do(self._drop_all)

    def refuse(self) -> None:
        """Reset every open connection and refuse new ones, as a machine whose server is down."""

        def refuse() -> None:
            self._unlisten()
            self._drop_all()

        self._do(refuse)

    def blackhole(self) -> None:
        """Drop all traffic silently in both directions; connections, new ones too, stay open."""
        self._change(lambda line: replace(line, blocked=True))

    def hold_answers(self) -> None:
        """Forward requests, hold back responses; after :meth:`cut`, requests are executed and not acknowledged."""
        self._change(lambda line: replace(line, muted=True))

    def delay(self, seconds: float) -> None:
        """Delay all traffic, in both directions."""
        self._change(lambda line: replace(line, latency=seconds))

    def throttle(self, bytes_per_second: float) -> None:
        """Limit each connection to this rate, per direction."""
        self._change(lambda line: replace(line, rate=bytes_per_second))

    def restore(self) -> None:
        """End all faults. Traffic that was held back on open connections is forwarded."""

        def restore() -> None:
            self._line = _Line()
            for connection in self._connections:
                connection.up.hurry()
                connection.down.hurry()
            self._listen()

        self._do(restore)

    def close(self) -> None:
        """Reset open connections and end the proxy's thread. May be called twice."""
        if not self._closed:
            self._do(self._end)
        self._thread.join()
        # Not by the proxy's thread, which may have ended before the last command has woken it.
        self._alarm.close()
        self._bell.close()

    def _change(self, change: Callable[[_Line], _Line]) -> None:
        def apply() -> None:
            self._line = change(self._line)

        self._do(apply)

    def _do(self, order: Callable[[], None]) -> None:
        if self._closed:
            raise RuntimeError("this proxy is closed")
        done = threading.Event()
        self._orders.append((order, done))
        self._alarm.send(b"!")
        while not done.wait(1):
            if not self._thread.is_alive() and not done.is_set():
                raise RuntimeError("the proxy has ended because of an error of its own")

    # The methods below run on the proxy's thread only.

    def _end(self) -> None:
        self._closed = True

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((HOST, self.port), backlog=256)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ, None)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _drop_all(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)

    def _drop(self, connection: _ProxiedConnection) -> None:
        self._connections.discard(connection)
        for end in connection.ends:
            if end in self._selector.get_map():
                self._selector.unregister(end)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()

    def _run(self) -> None:
        try:
            while not self._closed:
                pauses = [self._tend(connection) for connection in list(self._connections)]
                timeout = min((pause for pause in pauses if pause is not None), default=None)
                for key, _ in self._selector.select(timeout):
                    if key.fileobj is self._bell:
                        self._bell.recv(_CHUNK)
                    elif key.fileobj is self._listener:
                        self._accept()
                while self._orders:
                    order, done = self._orders.popleft()
                    order()
                    done.set()
        finally:
            self._closed = True
            self._unlisten()
            self._drop_all()
            self._selector.close()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has disconnected
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.connect_ex(self.target)  # a failure shows at the first read
        self._connections.add(_ProxiedConnection(client, server))

    def _tend(self, connection: _ProxiedConnection) -> float | None:
        """Forward what is due; return the seconds until the next chunk is due, None when there is none."""
        if self._line.blocked:
            self._watch(connection.client, 0)
            self._watch(connection.server, 0)
            return None
        flows = [connection.up] if self._line.muted else [connection.up, connection.down]
        try:
            for flow in flows:
                flow.read(self._line)
                flow.write()
        except OSError:  # one end has disconnected, or the engine refuses the connection
            self._drop(connection)
            return None
        if connection.up.finished and connection.down.finished:
            self._drop(connection)
            return None
        due = [
            flow for flow in flows if flow.due_now
        ]  # evaluated once: a chunk that becomes due in between must not be missed
        for end in connection.ends:
            reading = any(flow.source is end and flow.takes(self._line) for flow in flows)
            writing = any(flow.target is end for flow in due)
            self._watch(end, reading * selectors.EVENT_READ | writing * selectors.EVENT_WRITE)
        pauses = [flow.pause for flow in flows if flow not in due]
        return min((pause for pause in pauses if pause is not None), default=None)

    def _watch(self, end: socket.socket, events: int) -> None:
        watched = end in self._selector.get_map()
        if events and watched:
            self._selector.modify(end, events, None)
        elif events:
            self._selector.register(end, events, None)
        elif watched:
            self._selector.unregister(end)


class _Flow:
    """One direction of a connection: chunks that were read, and when they may be forwarded."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.finished = False
        self._ended = False
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._last_due = 0.0

    def takes(self, line: _Line) -> bool:
        """Return whether to read more: not more than a slow line forwards in a second."""
        return not self._ended and self._held < min(_HELD, line.rate or _HELD)

    @property
    def due_now(self) -> bool:
        return bool(self._chunks) and self._chunks[0][0] <= time.monotonic()

    @property
    def pause(self) -> float | None:
        """Return the seconds until the first chunk is due; None when there is none."""
        if not self._chunks:
            return None
        return max(0.0, self._chunks[0][0] - time.monotonic())

    def read(self, line: _Line) -> None:
        rate = line.rate
        # A slow line forwards small chunks, so that its rate is steady.
        size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 20)))
        while self.takes(line):
            try:
                data = self.source.recv(size)
            except BlockingIOError:
                return
            if not data:
                self._ended = True
                return
            now = time.monotonic()
            self._last_due = max(now + line.latency, self._last_due) + (len(data) / rate if rate else 0.0)
            self._chunks.append((self._last_due, data))
            self._held += len(data)

    def hurry(self) -> None:
        """Make all buffered chunks due."""
        self._chunks = deque((0.0, data) for _, data in self._chunks)
        self._last_due = 0.0

    def write(self) -> None:
        while self.due_now:
            due, data = self._chunks.popleft()
            try:
                sent = self.target.send(data)
            except BlockingIOError:
                sent = 0
            self._held -= sent
            if sent < len(data):
                self._chunks.appendleft((due, data[sent:]))
                return
        if self._ended and not self._chunks and not self.finished:
            self.finished = True
            self.target.shutdown(socket.SHUT_WR)


class _ProxiedConnection:
    """A client's connection: its socket, and the socket to the engine."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.ends = (client, server)
        self.up, self.down = _Flow(client, server), _Flow(server, client)
