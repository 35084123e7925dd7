"""What librdkafka says about the brokers it talks to, kept until it is known to be over.

librdkafka connects by itself, for ever, and tells of a failure once (then every 30 s); it never tells that a broker is
back. That shows in its statistics, or in records that move.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

import orjson
from confluent_kafka import KafkaError

# "sasl_ssl://host:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
_ADDRESSED = re.compile(r"^(?:\w+://)?(?P<address>[^/\s]+:\d+)/\S+: (?P<reason>.*)$", re.S)
_TECHNICAL = re.compile(r"(?: \(after \d+ms in state \w+[^)]*\))+$|, \d+ identical error\(s\) suppressed")
_WELL = ("UP", "UPDATE", "INIT")  # INIT: nobody needs a connection to it
_SILENT = 5.0  # seconds without a byte on a connection where an answer is due
_TOLD = {
    KafkaError._AUTHENTICATION,
    KafkaError._MSG_TIMED_OUT,  # of a request: the broker is silent
    KafkaError._RESOLVE,
    KafkaError._SSL,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}


class Failure(NamedTuple):
    """``address`` is host:port, ``code`` one of librdkafka's, ``reason`` its words."""

    address: str
    code: int
    reason: str


class Brokers:
    """Its callbacks run inside the client's calls, on the caller's thread.

    ``servers`` are those to begin with. ``longest_wait``: seconds that a broker may keep an answer back in good health.
    """

    def __init__(
        self, servers: str = "", longest_wait: float = 0.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.servers = servers
        self._silence = _SILENT + longest_wait
        self._monotonic = monotonic
        self._due_since: dict[str, float] = {}  # by host:port; an answer is due, and nothing was heard since
        self._failures: dict[str, Failure] = {}  # by host:port
        self._group: str | None = None  # state of the connection to the group's coordinator, by the last statistics
        self._failed_since = False  # something failed since the last statistics

    def on_error(self, error: KafkaError) -> None:
        """``error_cb``."""
        found = _ADDRESSED.match(error.str())
        if error.code() in _TOLD and found is not None:
            self._failed_since = True
            address = found["address"]
            self._failures[address] = Failure(address, error.code(), _plain(found["reason"]))

    def on_statistics(self, text: str) -> None:
        """``stats_cb``: forget brokers that are well again, note those that are silent: of them nothing else tells."""
        found = orjson.loads(text)
        self._group, self._failed_since = found.get("cgrp", {}).get("state"), False
        now = self._monotonic()
        for name, broker in found["brokers"].items():
            address = name.rpartition("/")[0].rpartition("//")[2]
            if not address:
                continue  # the group's coordinator, which also is there by its address
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
                self._failures[address] = Failure(address, KafkaError._TIMED_OUT, reason)

    def coordinator_away(self) -> bool:
        """Whether the broker that coordinates the group is away, or may be: a broker failed a moment ago."""
        return self._failed_since or self._group not in (None, "up")

    def well(self) -> None:
        """Something moves."""
        self._failures.clear()
        self._failed_since = False

    def failure(self) -> Failure | None:
        """A broker that cannot be reached, and why. A refusal to log in comes first: it explains the others."""
        failures = list(self._failures.values())
        return next((item for item in failures if item.code != KafkaError._TRANSPORT), next(iter(failures), None))


def _plain(reason: str) -> str:
    return " ".join(_TECHNICAL.sub("", reason).split())
