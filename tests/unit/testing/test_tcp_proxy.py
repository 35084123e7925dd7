"""The TCP proxy injects faults into open and new connections, and leaves no thread or socket."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from headrace.testing.faults import TcpProxy
from headrace.testing.waiting import eventually

QUIET = 0.15
"""Seconds without an answer that count as silence; an echo over loopback takes less than a millisecond."""


class Echo(socketserver.BaseRequestHandler):
    """Echoes received bytes and records them."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65_536):
                self.server.heard += data  # type: ignore[attr-defined]
                self.request.sendall(data)
        except OSError:
            return


@pytest.fixture
def server() -> Iterator[socketserver.ThreadingTCPServer]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.heard = b""  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: socketserver.ThreadingTCPServer) -> Iterator[TcpProxy]:
    with TcpProxy(f"127.0.0.1:{server.server_address[1]}") as proxy:
        yield proxy
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tcp-proxy")]


@pytest.fixture
def dial(proxy: TcpProxy) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def dial() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", proxy.port), timeout=10))
        return opened[-1]

    yield dial
    for each in opened:
        each.close()


def echoes(connection: socket.socket, text: bytes) -> bool:
    connection.sendall(text)
    heard = b""
    while len(heard) < len(text):
        heard += connection.recv(65_536)
    return heard == text


def is_silent(connection: socket.socket) -> bool:
    """Return whether no byte has arrived and the connection is open."""
    connection.settimeout(QUIET)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def test_all_bytes_are_forwarded(dial: Callable[[], socket.socket], proxy: TcpProxy) -> None:
    one, two = dial(), dial()
    assert echoes(one, b"hello")
    assert echoes(two, bytes(range(256)) * 20_000)  # five times its buffer per direction
    assert proxy.connections == 2


def test_the_end_of_one_direction_is_forwarded(dial: Callable[[], socket.socket], proxy: TcpProxy) -> None:
    connection = dial()
    connection.sendall(b"last words")
    connection.shutdown(socket.SHUT_WR)
    heard = b""
    while data := connection.recv(100):
        heard += data
    assert heard == b"last words"
    eventually(lambda: proxy.connections == 0)


def test_a_cut_resets_open_connections_and_accepts_new_ones(dial: Callable[[], socket.socket], proxy: TcpProxy) -> None:
    connection = dial()
    assert echoes(connection, b"1")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert echoes(dial(), b"2")


def test_connections_are_refused_until_restore_on_the_same_port(
    dial: Callable[[], socket.socket], proxy: TcpProxy
) -> None:
    connection = dial()
    assert echoes(connection, b"1")
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        dial()
    proxy.restore()
    assert echoes(dial(), b"2")


def test_a_black_hole_holds_all_bytes_until_restore(dial: Callable[[], socket.socket], proxy: TcpProxy) -> None:
    connection = dial()
    assert echoes(connection, b"1")
    proxy.blackhole()
    connection.sendall(b"late")
    new = dial()
    new.sendall(b"new")
    assert is_silent(connection)
    assert is_silent(new)
    proxy.restore()
    assert connection.recv(10) == b"late"
    assert new.recv(10) == b"new"


def test_requests_are_forwarded_while_answers_are_held(
    dial: Callable[[], socket.socket], proxy: TcpProxy, server: socketserver.ThreadingTCPServer
) -> None:
    connection = dial()
    proxy.hold_answers()
    connection.sendall(b"write this")
    eventually(lambda: server.heard == b"write this")  # type: ignore[attr-defined]
    assert is_silent(connection)
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_a_delay_applies_to_both_directions_and_ends_at_once(
    dial: Callable[[], socket.socket], proxy: TcpProxy
) -> None:
    connection = dial()
    assert echoes(connection, b"1")
    proxy.delay(0.05)
    start = time.monotonic()
    assert echoes(connection, b"2")
    assert time.monotonic() - start >= 0.1
    proxy.delay(1_000)
    connection.sendall(b"3")
    assert is_silent(connection)
    proxy.restore()
    assert connection.recv(1) == b"3"


def test_a_throttle_limits_the_rate_and_ends_at_once(dial: Callable[[], socket.socket], proxy: TcpProxy) -> None:
    connection = dial()
    proxy.throttle(100_000)
    start = time.monotonic()
    assert echoes(connection, b"x" * 20_000)
    assert time.monotonic() - start >= 0.2
    proxy.throttle(10)
    connection.sendall(b"y" * 1_000)
    proxy.restore()
    heard = b""
    while len(heard) < 1_000:
        heard += connection.recv(2_000)
    assert heard == b"y" * 1_000


def test_the_connection_closes_when_the_engine_is_unavailable(proxy: TcpProxy) -> None:
    with TcpProxy("127.0.0.1:1") as nowhere, socket.create_connection(("127.0.0.1", nowhere.port)) as connection:
        connection.settimeout(10)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_closed_proxy_refuses_connections_and_calls(server: socketserver.ThreadingTCPServer) -> None:
    proxy = TcpProxy(f"127.0.0.1:{server.server_address[1]}")
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        assert echoes(connection, b"1")
        proxy.close()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    with pytest.raises(RuntimeError, match="closed"):
        proxy.cut()
