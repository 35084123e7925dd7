"""kafka-python's exceptions as headrace's: each by what the reader can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors as kafka_errors

from headrace.broker.kafka_python.connection import Client, Failure, UntrustedError
from headrace.errors import ConfigError, DataError, Finding, HeadraceError, InfrastructureError, RetriableError

_TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_REFUSED = (kafka_errors.InvalidRecordError, kafka_errors.InvalidTimestampError)
_AUTHENTICATION = (
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
_REFUSED_WAIT = 5.0  # seconds to the next try after a refusal: whoever mends it needs longer than a network
_REBALANCE = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)
# Somebody must change the cluster or our settings first.
_FAULTS: dict[type[Exception], tuple[str, str]] = {
    kafka_errors.InvalidTopicError: ("kafka.invalid_topic", "use letters, digits, '.', '_' and '-', at most 249"),
    kafka_errors.InvalidReplicationFactorError: ("kafka.invalid_topic", "choose at most the number of brokers"),
    kafka_errors.InvalidPartitionsError: ("kafka.invalid_topic", "choose at least 1 partition"),
    kafka_errors.InvalidConfigurationError: ("kafka.invalid_topic", "correct the topic's settings"),
    kafka_errors.PolicyViolationError: ("kafka.policy", "ask who runs the cluster for its rules"),
    kafka_errors.InvalidGroupIdError: ("kafka.invalid_group", "choose another group.id"),
    kafka_errors.InvalidSessionTimeoutError: ("kafka.invalid_setting", "correct session.timeout.ms"),
    kafka_errors.InconsistentGroupProtocolError: (
        "kafka.group_protocol",
        "give all members of the group one common partition.assignment.strategy",
    ),
    kafka_errors.GroupMaxSizeReachedError: ("kafka.group_full", "run fewer tasks, or raise group.max.size"),
    kafka_errors.FencedInstanceIdError: ("kafka.fenced", "give every member its own group.instance.id"),
    kafka_errors.UnsupportedVersionError: ("kafka.too_old", "use a broker of Kafka 2.1 or newer"),
    kafka_errors.UnsupportedCompressionTypeError: ("kafka.invalid_setting", "correct compression.type"),
    kafka_errors.NoOffsetForPartitionError: ("kafka.no_offset", "set auto.offset.reset to earliest or latest"),
    kafka_errors.OffsetOutOfRangeError: ("kafka.no_offset", "set auto.offset.reset to earliest or latest"),
    kafka_errors.LogTruncationError: ("kafka.truncated", "the cluster lost records; choose where to go on"),
}


def translate(error: Exception, doing: str, failure: Failure | None = None) -> HeadraceError:
    """The one of headrace's errors that ``error`` means.

    ``doing`` completes "cannot …"; ``failure`` is the connection that failed last, the better reason for a timeout.
    """
    if isinstance(error, HeadraceError):
        return error
    if isinstance(error, _TOO_LARGE):
        return DataError(
            f"the record is too large for Kafka: {_reason(error)}",
            code="data.record_too_large",
            hint="raise max.request.size of the producer and max.message.bytes of the topic",
        )
    if isinstance(error, _REFUSED) or is_neighbour(error):
        return DataError(f"Kafka refused the record: {_reason(error)}", code="data.refused")
    if (refusal := _refusal(error)) is not None:
        return refusal
    if isinstance(error, kafka_errors.AuthorizationError):
        return _authorization(error, doing)
    if failure is not None and (refusal := _refusal(failure[1])) is not None:
        return refusal
    if isinstance(error, _REBALANCE):
        return RetriableError(f"cannot {doing}: the group is being rebalanced", code="kafka.rebalance")
    for kind, (code, hint) in _FAULTS.items():
        if isinstance(error, kind):
            return InfrastructureError(f"cannot {doing}: {_reason(error)}", code=code, hint=hint)
    if isinstance(error, kafka_errors.KafkaConfigurationError):
        finding = Finding(
            "kafka.invalid_setting", f"invalid Kafka client settings: {error.args[0] if error.args else error}"
        )
        return ConfigError(findings=[finding])
    if failure is not None or isinstance(error, (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError)):
        reason = describe(failure) if failure is not None else _reason(error)
        return RetriableError(f"cannot {doing}: {reason}", code="kafka.unreachable")
    return RetriableError(f"cannot {doing}: {_reason(error)}", code="kafka.failed")


@contextmanager
def translated(doing: str, client: Client | None = None) -> Iterator[None]:
    """Raise kafka-python's exceptions as headrace's."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise translate(error, doing, client.failure() if client is not None else None) from error


def describe(failure: Failure) -> str:
    """A sentence about a broker that cannot be reached."""
    address, error = failure
    if (refusal := _refusal(error)) is not None:
        return f"broker {address}: {refusal}"
    return f"broker {address} does not answer: {_reason(error)}"


def _refusal(error: Exception) -> RetriableError | None:
    """Neither side lets the other in. It may heal without us: a password or a certificate is changed over there."""
    if isinstance(error, UntrustedError):
        return RetriableError(
            f"Kafka's certificate is not trusted: {_reason(error)}",
            code="kafka.certificate",
            hint="name the certificate of its authority in ssl.cafile, and the broker as its certificate does",
            delay=_REFUSED_WAIT,
        )
    if isinstance(error, _AUTHENTICATION):
        return RetriableError(
            f"Kafka refuses to log in: {_reason(error)}",
            code="kafka.authentication",
            hint="correct security.protocol, sasl.mechanism and the credentials, here or in Kafka",
            delay=_REFUSED_WAIT,
        )
    return None


def _authorization(error: kafka_errors.AuthorizationError, doing: str) -> InfrastructureError:
    what = error.args[0] if error.args else ""
    names = ", ".join(sorted(what)) if isinstance(what, (set, frozenset, list, tuple)) else str(what or "")
    of = {
        kafka_errors.TopicAuthorizationFailedError: "topic",
        kafka_errors.GroupAuthorizationFailedError: "group",
    }.get(type(error), "")
    named = f" ({' '.join(part for part in (of, names) if part)})" if of or names else ""
    return InfrastructureError(
        f"cannot {doing}: not authorized{named}",
        code="kafka.not_authorized",
        hint="ask who runs the cluster for the ACLs that this needs",
    )


def is_neighbour(error: Exception) -> bool:
    """Whether the broker refused the record only because it travelled with one that is bad."""
    # The class is the root of all: only the text tells. With another text it is sent again, not lost.
    return type(error) is kafka_errors.KafkaError and "part of a batch" in str(error)


def _reason(error: Exception) -> str:
    """Its own words, without the class name where there are any."""
    text = ", ".join(str(part) for part in error.args if part not in (None, ""))
    if not text:
        text = getattr(error, "description", "") or ""
    return " ".join(text.split()) or type(error).__name__.removesuffix("Error")
