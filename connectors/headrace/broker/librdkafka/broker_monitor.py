"""Tracks which brokers librdkafka cannot reach.

librdkafka reconnects by itself and reports a failure once (then every 30 s); it never reports that a broker is back.
That is visible only in its statistics, or when records move.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import orjson
from confluent_kafka import KafkaError

from headrace.broker.client_errors import BrokerFailure
from headrace.broker.librdkafka.error_mapping import broker_failure

# "sasl_ssl://host:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
_ADDRESSED = re.compile(r"^(?:\w+://)?(?P<address>[^/\s]+:\d+)/\S+: (?P<reason>.*)$", re.S)
_TECHNICAL = re.compile(r"(?: \(after \d+ms in state \w+[^)]*\))+$|, \d+ identical error\(s\) suppressed")
_WELL = ("UP", "UPDATE", "INIT")  # INIT: no connection is needed
_CONNECTED = ("UP", "UPDATE")
_SILENT = 5.0  # seconds without a byte on a connection that waits for a response
_REPORTED = {
    KafkaError._AUTHENTICATION,
    KafkaError._MSG_TIMED_OUT,  # of a request: the broker does not respond
    KafkaError._RESOLVE,
    KafkaError._SSL,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}


class BrokerMonitor:
    """Callbacks for one client, called inside the client's calls, on the caller's thread.

    ``servers``: bootstrap servers. ``longest_wait``: seconds that a healthy broker may hold a response back.
    """

    def __init__(
        self, servers: str = "", longest_wait: float = 0.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.servers = servers
        self._silence = _SILENT + longest_wait
        self._monotonic = monotonic
        self._due_since: dict[str, float] = {}  # by host:port: waiting for a response without a byte since then
        self._failures: dict[str, tuple[int, BrokerFailure]] = {}  # by host:port, with librdkafka's error code
        self._group: str | None = None  # state of the group coordinator's connection in the last statistics
        self._failed_since = False  # something failed since the last statistics
        self.connections = self.received = self.sent = 0
        """Open connections, and bytes since the client was opened; of the last statistics."""

    def on_error(self, error: KafkaError) -> None:
        """``error_cb``."""
        found = _ADDRESSED.match(error.str())
        if error.code() in _REPORTED and found is not None:
            self._failed_since = True
            address = found["address"]
            self._failures[address] = error.code(), broker_failure(address, error.code(), _plain(found["reason"]))

    def on_statistics(self, text: str) -> None:
        """``stats_cb``: remove brokers that respond again, and add silent ones, which librdkafka does not report."""
        found = orjson.loads(text)
        self._group, self._failed_since = found.get("cgrp", {}).get("state"), False
        self.received, self.sent = found.get("rx_bytes", 0), found.get("tx_bytes", 0)
        self.connections = sum(broker["state"] in _CONNECTED for broker in found["brokers"].values())
        now = self._monotonic()
        for name, broker in found["brokers"].items():
            address = name.rpartition("/")[0].rpartition("//")[2]
            if not address:
                continue  # the group's coordinator, which is listed under its address, too
            well = broker["state"] in _WELL
            if well:
                self._failures.pop(address, None)
            if well and not broker["waitresp_cnt"]:
                self._due_since.pop(address, None)
                continue
            since = self._due_since.setdefault(address, now)
            silent = broker["rxidle"] / 1e6  # since the connection's last byte; -1 microseconds = there was none
            if silent >= 0 and now - silent > since:
                self._due_since[address] = now
            elif now - since >= self._silence and address not in self._failures:
                reason = f"nothing for {self._silence:g} s"
                self._failed_since = True
                self._failures[address] = (
                    KafkaError._TIMED_OUT,
                    broker_failure(address, KafkaError._TIMED_OUT, reason),
                )

    def coordinator_away(self) -> bool:
        """Return whether the group's coordinator is, or may be, unreachable: a broker has just failed."""
        return self._failed_since or self._group not in (None, "up")

    def clear(self) -> None:
        """Forget all failures: records move."""
        self._failures.clear()
        self._failed_since = False

    def failure(self) -> BrokerFailure | None:
        """Return a broker that cannot be reached. A refused login comes first: it explains other failures."""
        failures = list(self._failures.values())
        explained = (failure for code, failure in failures if code != KafkaError._TRANSPORT)
        return next(explained, failures[0][1] if failures else None)


def _plain(reason: str) -> str:
    return " ".join(_TECHNICAL.sub("", reason).split())
