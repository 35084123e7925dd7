"""What the open Kafka clients of a worker have sent and received, as their library reports it."""

from __future__ import annotations

import threading
import weakref
from typing import Literal, NamedTuple, Protocol

ClientRole = Literal["consumer", "producer", "admin_client"]


class ClientTraffic(NamedTuple):
    """The traffic of one client since it was opened."""

    kind: ClientRole
    client_id: str
    connections: int
    """Connections to brokers that are open now."""
    received: int
    """Bytes."""
    sent: int
    """Bytes."""


class TrafficMeter(Protocol):
    """What a client keeps; it is written on the client's thread."""

    connections: int
    received: int
    sent: int


class TrafficRegistry:
    """The meters of open clients; one disappears together with its client. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._meters: weakref.WeakKeyDictionary[TrafficMeter, tuple[ClientRole, str]] = weakref.WeakKeyDictionary()

    def add(self, meter: TrafficMeter, kind: ClientRole, client_id: str) -> None:
        with self._lock:
            self._meters[meter] = kind, client_id

    def snapshot(self) -> list[ClientTraffic]:
        """Return the traffic of each open client."""
        with self._lock:
            known = list(self._meters.items())
        return [
            ClientTraffic(kind, client_id, meter.connections, meter.received, meter.sent)
            for meter, (kind, client_id) in known
        ]
