"""Making librdkafka's clients: with the callbacks that tell what is wrong, and not before a broker has answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException

from headrace.broker.librdkafka.brokers import Brokers
from headrace.broker.librdkafka.failures import lets_nobody_in, translate
from headrace.errors import ConfigError, Finding, RetriableError

_LOOK = 0.1  # seconds between two looks at what went wrong, while waiting for the first answer
CRITICAL, _DEBUG = 2, 7  # levels of syslog


class _Client(Protocol):
    def cluster_id(self, timeout: float = -1) -> str: ...

    def poll(self, timeout: float = -1) -> Any: ...


C = TypeVar("C", bound=_Client)


def open_client(
    make: Callable[[dict[str, Any]], C], properties: Mapping[str, Any], timeout: float, close: Callable[[C], object]
) -> tuple[C, Brokers]:
    """A client that a broker has answered. Raises ConfigError, RetriableError, InfrastructureError.

    ``timeout`` are seconds; ``close`` is called when it is given up.
    """
    servers = properties.get("bootstrap.servers")
    if not servers:
        finding = Finding("kafka.missing_setting", "bootstrap.servers is not set", "bootstrap.servers", "name a broker")
        raise ConfigError(findings=[finding])
    brokers = Brokers(servers, properties.get("fetch.wait.max.ms", 0) / 1000)
    arguments = {
        # What it logs, we raise or tell as trouble.
        "log_level": _DEBUG if "debug" in properties else CRITICAL,
        **properties,
        "error_cb": brokers.on_error,
    }
    if "statistics.interval.ms" in properties:
        arguments["stats_cb"] = brokers.on_statistics
    doing = f"reach Kafka at {servers}"
    try:
        client = make(arguments)
    except KafkaException as error:
        raise translate(error.args[0], doing) from error
    try:
        _wait(client, brokers, doing, timeout)
    except BaseException:
        close(client)
        raise
    brokers.well()
    return client, brokers


def _wait(client: _Client, brokers: Brokers, doing: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            client.cluster_id(timeout=_LOOK)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
        else:
            return
        client.poll(0)  # lets it tell what is wrong
        failure = brokers.failure()
        if (failure is not None and lets_nobody_in(failure)) or time.monotonic() >= deadline:
            if failure is None and reason.code() == KafkaError._TIMED_OUT:
                raise RetriableError(f"cannot {doing}: no answer within {timeout:g} s", code="kafka.unreachable")
            raise translate(reason, doing, failure)
