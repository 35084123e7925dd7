"""Watches whether Kafka responds: tasks without records would not notice an outage."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from headrace.broker.interfaces import Admin
from headrace.errors import HeadraceError, RetriableError
from headrace.retries import retry

log = structlog.stdlib.get_logger("headrace.worker")
_INTERVAL = 3.0
"""Seconds between two checks."""
_STOP_TIMEOUT = 5.0


class KafkaWatch:
    """Finds the id of the cluster, then checks that Kafka responds, on a thread. Attributes are read on any thread."""

    def __init__(self, open_admin: Callable[[], Admin], refused: Callable[[HeadraceError], None]) -> None:
        """``refused`` is called on the thread when Kafka refuses the worker permanently (wrong settings)."""
        self.cluster_id: str | None = None
        self.not_found = "Kafka does not answer yet."
        """Why ``cluster_id`` is not known yet."""
        self.problem: str | None = None
        """Why Kafka does not respond now, after it did."""
        self._open_admin = open_admin
        self._refused = refused
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster-id", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Request the thread to end."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended, for a limited time: a client may wait for a broker."""
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT)

    def _run(self) -> None:
        def waiting(error: RetriableError, failures: int) -> None:
            if str(error) != self.not_found:
                log.warning("waiting for Kafka", code=error.code, reason=str(error))
            self.not_found = str(error)

        try:
            self.cluster_id = retry(self._ask, stop=self._stopping, on_failure=waiting)
        except RetriableError:
            return  # the worker is stopping
        except HeadraceError as error:
            self._refused(error)
        else:
            log.info("Kafka found", cluster_id=self.cluster_id)
            self._watch()

    def _ask(self) -> str:
        admin = self._open_admin()
        try:
            return admin.cluster_id()
        finally:
            admin.close()

    def _watch(self) -> None:
        admin: Admin | None = None
        while not self._stopping.wait(_INTERVAL):
            try:
                admin = admin or self._open_admin()
                admin.cluster_id()
            except HeadraceError as error:
                if self.problem is None:
                    log.warning("Kafka does not respond", code=error.code, reason=str(error))
                self.problem = str(error)
                if admin is not None:
                    admin.close()  # the next check begins with a connection of its own
                    admin = None
            else:
                if self.problem is not None:
                    log.info("Kafka responds again")
                self.problem = None
        if admin is not None:
            admin.close()
