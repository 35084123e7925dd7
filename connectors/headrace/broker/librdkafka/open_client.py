"""Create librdkafka's clients with error callbacks, and wait until a broker has responded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.error_mapping import translate
from headrace.errors import ConfigError, Finding, RetriableError

_POLL_INTERVAL = 0.1  # seconds between two checks for errors while waiting for the first response
_FIRST_POLL = 0.03
CRITICAL, _DEBUG = 2, 7  # levels of syslog


class _ConnectableClient(Protocol):
    def cluster_id(self, timeout: float = -1) -> str: ...

    def poll(self, timeout: float = -1) -> Any: ...

    def list_topics(self, topic: str, timeout: float = -1) -> Any: ...


C = TypeVar("C", bound=_ConnectableClient)


def open_client(
    make: Callable[[dict[str, Any]], C], properties: Mapping[str, Any], timeout: float, close: Callable[[C], object]
) -> tuple[C, BrokerMonitor]:
    """Return a client that a broker has answered. Raise ConfigError, RetriableError or InfrastructureError.

    ``timeout`` in seconds; ``close`` is called when it expires.
    """
    servers = properties.get("bootstrap.servers")
    if not servers:
        finding = Finding("kafka.missing_setting", "bootstrap.servers is not set", "bootstrap.servers", "name a broker")
        raise ConfigError(findings=[finding])
    monitor = BrokerMonitor(servers, properties.get("fetch.wait.max.ms", 0) / 1000)
    arguments = {
        # What librdkafka logs is raised, or reported by ``connection_problem``.
        "log_level": _DEBUG if "debug" in properties else CRITICAL,
        **properties,
        "error_cb": monitor.on_error,
    }
    if "statistics.interval.ms" in properties:
        arguments["stats_cb"] = monitor.on_statistics
    doing = f"reach Kafka at {servers}"
    try:
        client = make(arguments)
    except KafkaException as error:
        raise translate(error.args[0], doing) from error
    try:
        _wait(client, monitor, doing, timeout)
    except BaseException:
        close(client)
        raise
    monitor.clear()
    return client, monitor


def _wait(client: _ConnectableClient, monitor: BrokerMonitor, doing: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    interval = _FIRST_POLL
    while True:
        try:
            client.cluster_id(timeout=interval)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
        else:
            return
        interval = _POLL_INTERVAL
        _connect(client)
        client.poll(0)  # runs the error callback
        failure = monitor.failure()
        if (failure is not None and failure.is_refusal) or time.monotonic() >= deadline:
            if failure is None and reason.code() == KafkaError._TIMED_OUT:
                raise RetriableError(f"cannot {doing}: no answer within {timeout:g} s", code="kafka.unreachable")
            raise translate(reason, doing, failure)


def _connect(client: _ConnectableClient) -> None:
    """Make a client connect now that has no connection yet.

    A consumer looks for its group's coordinator when it is created. If that is before its connections are ready, it
    tries again after a second only, and nothing else makes it connect. Any request does; this one has a small answer.
    """
    with contextlib.suppress(KafkaException):  # the caller asks what the problem is
        client.list_topics("__consumer_offsets", timeout=_POLL_INTERVAL)
