"""librdkafka's errors mapped to the table of :mod:`headrace.broker.client_errors`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from headrace.broker.client_errors import (
    AUTHENTICATION,
    BROKER_ERRORS,
    CERTIFICATE,
    FAILED,
    INVALID_SETTING,
    NO_OFFSET,
    PRODUCER_FENCED,
    REBALANCE,
    RECORD_REFUSED,
    TOO_OLD,
    TRUNCATED,
    UNREACHABLE,
    BrokerFailure,
    ErrorKind,
    FailureSource,
    client_error,
)
from headrace.errors import DataError, HeadraceError

_CLIENT_ERRORS: dict[int, ErrorKind] = {
    KafkaError._ALL_BROKERS_DOWN: UNREACHABLE,
    KafkaError._ASSIGNMENT_LOST: REBALANCE,
    KafkaError._AUTHENTICATION: AUTHENTICATION,
    KafkaError._AUTO_OFFSET_RESET: NO_OFFSET,
    KafkaError._FENCED: PRODUCER_FENCED,
    KafkaError._INVALID_ARG: INVALID_SETTING,
    KafkaError._INVALID_DIFFERENT_RECORD: RECORD_REFUSED,
    KafkaError._LOG_TRUNCATION: TRUNCATED,
    KafkaError._MAX_POLL_EXCEEDED: REBALANCE,
    KafkaError._MSG_TIMED_OUT: UNREACHABLE,
    KafkaError._NO_OFFSET: NO_OFFSET,
    KafkaError._PURGE_INFLIGHT: UNREACHABLE,
    KafkaError._PURGE_QUEUE: UNREACHABLE,
    KafkaError._RESOLVE: UNREACHABLE,
    KafkaError._SSL: UNREACHABLE,
    KafkaError._TIMED_OUT: UNREACHABLE,
    KafkaError._TIMED_OUT_QUEUE: UNREACHABLE,
    KafkaError._TRANSPORT: UNREACHABLE,
    KafkaError._UNSUPPORTED_FEATURE: TOO_OLD,
    KafkaError._WAIT_COORD: UNREACHABLE,
}


def translate(error: KafkaError, doing: str, failure: BrokerFailure | None = None) -> HeadraceError:
    """Return headrace's error for ``error``. ``doing`` completes "cannot …"; ``failure``: the last broker failure."""
    reason = _reason(error)
    return client_error(kind_of(error.code(), reason), doing, reason, failure)


@contextmanager
def translated(doing: str, client: FailureSource | None = None) -> Iterator[None]:
    """Raise librdkafka's exceptions as headrace's."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0], doing, client.failure() if client is not None else None) from error


def broker_failure(address: str, code: int, reason: str) -> BrokerFailure:
    """Return the failure of a connection to the broker at ``address``."""
    return BrokerFailure(address, kind_of(code, reason), reason)


def kind_of(code: int, reason: str = "") -> ErrorKind:
    """Return the entry of the table. ``reason``: librdkafka has no code of its own for certificates."""
    if code == KafkaError._SSL and "certificate" in reason:
        return CERTIFICATE
    return BROKER_ERRORS.get(code) or _CLIENT_ERRORS.get(code, FAILED)


def refuses_record(error: KafkaError) -> bool:
    """Return whether the broker refuses a record: this one, or another one of the same request."""
    return issubclass(kind_of(error.code()).consequence, DataError)


def _reason(error: KafkaError) -> str:
    """Return librdkafka's text without its prefixes."""
    text = error.str().removeprefix("Broker: ").removeprefix("Local: ")
    return " ".join(text.split()) or error.name()
