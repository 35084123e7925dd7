"""What librdkafka says about the brokers it talks to, kept until it is known to be over.

librdkafka connects by itself, for ever, and tells of a failure once (then every 30 s); it never tells that a broker is
back. That shows in its statistics, or in records that move.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson
from confluent_kafka import KafkaError

# "sasl_ssl://host:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"
_ADDRESSED = re.compile(r"^(?:\w+://)?(?P<address>[^/\s]+:\d+)/\S+: (?P<reason>.*)$", re.S)
_TECHNICAL = re.compile(r"(?: \(after \d+ms in state \w+[^)]*\))+$|, \d+ identical error\(s\) suppressed")
_WELL = ("UP", "UPDATE", "INIT")  # INIT: nobody needs a connection to it
_TOLD = {
    KafkaError._AUTHENTICATION,
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
    """Its callbacks run inside the client's calls, on the caller's thread."""

    def __init__(self) -> None:
        self._failures: dict[str, Failure] = {}  # by host:port

    def on_error(self, error: KafkaError) -> None:
        """``error_cb``."""
        found = _ADDRESSED.match(error.str())
        if error.code() in _TOLD and found is not None:
            address = found["address"]
            self._failures[address] = Failure(address, error.code(), _plain(found["reason"]))

    def on_statistics(self, text: str) -> None:
        """``stats_cb``: forget brokers that are well again."""
        if not self._failures:
            return
        for name, broker in orjson.loads(text)["brokers"].items():
            if broker["state"] in _WELL:
                self._failures.pop(name.rpartition("/")[0].rpartition("//")[2], None)

    def well(self) -> None:
        """Something moves."""
        if self._failures:
            self._failures.clear()

    def failure(self) -> Failure | None:
        """A broker that cannot be reached, and why. A refusal to log in comes first: it explains the others."""
        failures = list(self._failures.values())
        return next((item for item in failures if item.code != KafkaError._TRANSPORT), next(iter(failures), None))


def _plain(reason: str) -> str:
    return " ".join(_TECHNICAL.sub("", reason).split())
