"""Tells systemd that the worker has started, what it waits for, and that its threads are alive (``Type=notify``).

The protocol is a datagram on a Unix socket: https://www.freedesktop.org/software/systemd/man/sd_notify.html
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, MutableMapping

import structlog

from headrace.runtime.api import Health

log = structlog.stdlib.get_logger("headrace.worker")
_TICK = 1.0
"""Seconds between two looks at the worker."""


class ServiceNotifier:
    """Works on a thread of its own. Without the variables of systemd it does nothing. Call ``start`` and ``stop`` once.

    The watchdog is notified while the worker is live: systemd restarts one whose threads have ended or hang, and none
    that waits for Kafka.
    """

    def __init__(
        self,
        liveness: Callable[[], Health],
        health: Callable[[], Health],
        environment: MutableMapping[str, str] = os.environ,
        tick: float = _TICK,
    ) -> None:
        """``environment``: its variables are removed, so that no other process uses them."""
        self._liveness, self._health, self._tick = liveness, health, tick
        self._address = environment.pop("NOTIFY_SOCKET", "")
        watched = int(environment.pop("WATCHDOG_USEC", "0"))
        mine = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = watched > 0 and mine
        if self._watchdog:
            self._tick = min(tick, watched / 1_000_000 / 3)
        self._socket: socket.socket | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="service-notify", daemon=True)

    def start(self) -> None:
        if not self._address:
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._thread.start()

    def stop(self) -> None:
        """Say that the service stops."""
        self._stopping.set()
        if self._socket is not None:
            self._thread.join()
            self._send("STOPPING=1")
            self._socket.close()

    def _run(self) -> None:
        ready, told = False, ""
        while not self._stopping.is_set():
            health = self._health()
            lines = []
            if not ready and health.status == "healthy":
                ready = True
                lines.append("READY=1")
            if health.message != told:
                told = health.message
                lines.append(f"STATUS={told}")
            if self._watchdog and self._liveness().status == "healthy":
                lines.append("WATCHDOG=1")
            if lines:
                self._send("\n".join(lines))
            self._stopping.wait(self._tick)

    def _send(self, text: str) -> None:
        assert self._socket is not None
        # A name that begins with @ is of Linux' abstract namespace.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(text.encode(), address)
        except OSError as error:
            log.warning("systemd is not notified", reason=str(error))
