"""kafka-python's exceptions mapped to the table of :mod:`headrace.broker.client_errors`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors as kafka_errors

from headrace.broker.client_errors import (
    AUTHENTICATION,
    BROKER_ERRORS,
    CERTIFICATE,
    FAILED,
    INVALID_SETTING,
    NO_OFFSET,
    REBALANCE,
    RECORD_REFUSED,
    TRANSACTION_ABORTED,
    TRUNCATED,
    UNREACHABLE,
    BrokerFailure,
    ErrorKind,
    FailureSource,
    client_error,
    not_authorized,
)
from headrace.errors import HeadraceError


class UntrustedCertificateError(kafka_errors.KafkaConnectionError):  # type: ignore[misc]
    """The broker's certificate is not trusted."""


_CLIENT_ERRORS: dict[type[Exception], ErrorKind] = {
    UntrustedCertificateError: CERTIFICATE,
    kafka_errors.CommitFailedError: REBALANCE,
    kafka_errors.KafkaConfigurationError: INVALID_SETTING,
    kafka_errors.KafkaConnectionError: UNREACHABLE,
    kafka_errors.KafkaTimeoutError: UNREACHABLE,
    kafka_errors.LogTruncationError: TRUNCATED,
    kafka_errors.NoOffsetForPartitionError: NO_OFFSET,
    kafka_errors.TransactionAbortedError: TRANSACTION_ABORTED,
}


def translate(error: Exception, doing: str, failure: BrokerFailure | None = None) -> HeadraceError:
    """Return headrace's error for ``error``. ``doing`` completes "cannot …"; ``failure``: the last broker failure."""
    if isinstance(error, HeadraceError):
        return error
    return client_error(kind_of(error), doing, _reason(error), failure)


@contextmanager
def translated(doing: str, client: FailureSource | None = None) -> Iterator[None]:
    """Raise kafka-python's exceptions as headrace's."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise translate(error, doing, client.failure() if client is not None else None) from error


def broker_failure(address: str, error: Exception) -> BrokerFailure:
    """Return the failure of a connection to the broker at ``address``."""
    return BrokerFailure(address, kind_of(error), _reason(error))


def kind_of(error: Exception) -> ErrorKind:
    """Return the entry of the table."""
    if is_collateral(error):
        return RECORD_REFUSED
    if (kind := BROKER_ERRORS.get(getattr(error, "errno", None) or 0)) is not None:
        return kind
    if isinstance(error, kafka_errors.AuthorizationError):
        return not_authorized("")
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
        return AUTHENTICATION
    return next((kind for cls, kind in _CLIENT_ERRORS.items() if isinstance(error, cls)), FAILED)


def is_collateral(error: Exception) -> bool:
    """Return whether the broker refused the record only because another record of its batch is invalid."""
    # There is no class of its own: only the text distinguishes it. With another text it is sent again, not lost.
    return type(error) is kafka_errors.KafkaError and "part of a batch" in str(error)


def _reason(error: Exception) -> str:
    """Return the exception's text, without the class name where there is one."""
    parts: list[str] = []
    for part in error.args:
        if isinstance(part, (set, frozenset, list, tuple)):
            parts += sorted(map(str, part))
        elif part not in (None, ""):
            parts.append(str(part))
    text = ", ".join(parts) or getattr(error, "description", "") or ""
    return " ".join(text.split()) or type(error).__name__.removesuffix("Error")
