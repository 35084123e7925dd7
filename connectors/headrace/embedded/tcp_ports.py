"""TCP ports for the engines: free ports outside the range that the system gives to clients."""

from __future__ import annotations

import os
import random
import re
import socket
import threading

from headrace.errors import ConfigError, InfrastructureError

HOST = "127.0.0.1"
PORTS_VARIABLE = "HEADRACE_EMBEDDED_PORTS"
"""Environment variable with the range of ports to choose from, ``21000-21999``."""
# Below every system's ephemeral range (Linux from 32768, macOS from 49152). A client that reconnects to a killed engine
# on an ephemeral port may be given that port as its own and connect to itself.
_DEFAULT_RANGE = range(20000, 32001)
_given: set[int] = set()
_lock = threading.Lock()


def port_range() -> range:
    """Return the ports to choose from. Raise ConfigError when ``HEADRACE_EMBEDDED_PORTS`` is not a range."""
    text = os.environ.get(PORTS_VARIABLE)
    if text is None:
        return _DEFAULT_RANGE
    match = re.fullmatch(r"(\d+)-(\d+)", text.strip())
    first, last = (int(number) for number in match.groups()) if match else (0, 0)
    if not 0 < first <= last <= 65535:
        raise ConfigError(
            f"{PORTS_VARIABLE} is {text!r}, which is not a range of ports",
            code="embedded.port_range",
            hint=f"set the first and the last port: {PORTS_VARIABLE}=21000-21999",
        )
    return range(first, last + 1)


def free_port() -> int:
    """Return a port that is not in use; never the same port twice in a process."""
    ports = port_range()
    with _lock:
        for port in random.sample(ports, len(ports)):
            if port not in _given and is_free(port):
                _given.add(port)
                return port
    raise InfrastructureError(
        f"no free TCP port between {ports[0]} and {ports[-1]}",
        code="embedded.port_in_use",
        hint=f"stop programs that listen there, or set another range in {PORTS_VARIABLE}",
    )


def preferred_port(port: int, count: int = 1) -> int:
    """Return ``port`` if it and the ``count - 1`` ports after it are free, else the first of as many free ports.

    With ``HEADRACE_EMBEDDED_PORTS`` set, a port outside that range is not taken.
    """
    first = port
    if PORTS_VARIABLE in os.environ and port not in port_range():
        first = free_port()
    while not all(is_free(first + step) for step in range(count)):
        first = free_port()
    return first


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now (with ``SO_REUSEADDR``, as servers do)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def require_free(port: int, engine: str) -> None:
    """Raise InfrastructureError if another process listens on the port."""
    if not is_free(port):
        raise InfrastructureError(
            f"{engine} cannot listen on {HOST}:{port}: the port is in use",
            code="embedded.port_in_use",
            hint=f"choose another one (headrace up --{engine}-port), or stop what listens there: lsof -i :{port}",
        )
