"""Which TCP ports the engines listen on: free ones outside the range that the system gives to clients."""

from __future__ import annotations

import random
import socket
import threading

from headrace.errors import InfrastructureError

HOST = "127.0.0.1"
# Below every system's ephemeral range (Linux from 32768, macOS from 49152). A client that tries again and again to
# reach a killed engine on an ephemeral port may be given that port as its own and connect to itself.
_FIRST, _LAST = 20000, 32000
_given: set[int] = set()
_lock = threading.Lock()


def free_port() -> int:
    """A port nobody listens on, never the same one twice in a process."""
    with _lock:
        for _ in range(1000):
            port = random.randint(_FIRST, _LAST)
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    raise InfrastructureError(f"no free TCP port between {_FIRST} and {_LAST}", code="embedded.port_in_use")


def preferred_port(port: int, count: int = 1) -> int:
    """``port`` if it and the ``count - 1`` ports after it are free, else the first of as many free ones."""
    first = port
    while not all(is_free(first + step) for step in range(count)):
        first = free_port()
    return first


def is_free(port: int) -> bool:
    """Whether a server could listen on it now (``SO_REUSEADDR``, as servers do)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def require_free(port: int, engine: str) -> None:
    """InfrastructureError naming the port if another process listens on it."""
    if not is_free(port):
        raise InfrastructureError(
            f"{engine} cannot listen on {HOST}:{port}: the port is in use",
            code="embedded.port_in_use",
            hint=f"choose another one (headrace up --{engine}-port), or stop what listens there: lsof -i :{port}",
        )
