"""librdkafka's errors as headrace's: each by what the reader can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from headrace.broker.librdkafka.brokers import Brokers, Failure
from headrace.errors import ConfigError, DataError, Finding, HeadraceError, InfrastructureError, RetriableError

_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_REFUSED = {KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP, KafkaError._INVALID_DIFFERENT_RECORD}
_AUTHENTICATION = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
}
_AUTHORIZATION = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "",
}
_REBALANCE = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._MAX_POLL_EXCEEDED,
}
_UNREACHABLE = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._PURGE_QUEUE,
    KafkaError._RESOLVE,
    KafkaError._SSL,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._TRANSPORT,
    KafkaError._WAIT_COORD,
    KafkaError.REQUEST_TIMED_OUT,
}
_REFUSED_WAIT = 5.0  # seconds to the next try after a refusal: whoever mends it needs longer than a network
# Somebody must change the cluster or our settings first.
_FAULTS: dict[int, tuple[str, str]] = {
    KafkaError.TOPIC_EXCEPTION: ("kafka.invalid_topic", "use letters, digits, '.', '_' and '-', at most 249"),
    KafkaError.INVALID_REPLICATION_FACTOR: ("kafka.invalid_topic", "choose at most the number of brokers"),
    KafkaError.INVALID_PARTITIONS: ("kafka.invalid_topic", "choose at least 1 partition"),
    KafkaError.INVALID_CONFIG: ("kafka.invalid_topic", "correct the topic's settings"),
    KafkaError.POLICY_VIOLATION: ("kafka.policy", "ask who runs the cluster for its rules"),
    KafkaError.INVALID_GROUP_ID: ("kafka.invalid_group", "choose another group.id"),
    KafkaError.INVALID_SESSION_TIMEOUT: ("kafka.invalid_setting", "correct session.timeout.ms"),
    KafkaError.INCONSISTENT_GROUP_PROTOCOL: (
        "kafka.group_protocol",
        "give all members of the group one common partition.assignment.strategy",
    ),
    KafkaError.GROUP_MAX_SIZE_REACHED: ("kafka.group_full", "run fewer tasks, or raise group.max.size"),
    KafkaError.FENCED_INSTANCE_ID: ("kafka.fenced", "give every member its own group.instance.id"),
    KafkaError.UNSUPPORTED_VERSION: ("kafka.too_old", "use a broker of Kafka 2.1 or newer"),
    KafkaError._UNSUPPORTED_FEATURE: ("kafka.too_old", "use a broker of Kafka 2.1 or newer"),
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: ("kafka.invalid_setting", "correct compression.type"),
    KafkaError._AUTO_OFFSET_RESET: ("kafka.no_offset", "set auto.offset.reset to earliest or latest"),
    KafkaError._NO_OFFSET: ("kafka.no_offset", "set auto.offset.reset to earliest or latest"),
    KafkaError.OFFSET_OUT_OF_RANGE: ("kafka.no_offset", "set auto.offset.reset to earliest or latest"),
    KafkaError._LOG_TRUNCATION: ("kafka.truncated", "the cluster lost records; choose where to go on"),
}


def translate(error: KafkaError, doing: str, failure: Failure | None = None) -> HeadraceError:
    """The one of headrace's errors that ``error`` means.

    ``doing`` completes "cannot …"; ``failure`` is the broker that failed last, the better reason for a timeout.
    """
    code = error.code()
    if code in _TOO_LARGE:
        return DataError(
            f"the record is too large for Kafka: {_reason(error)}",
            code="data.record_too_large",
            hint="raise max.request.size of the producer and max.message.bytes of the topic",
        )
    if code in _REFUSED:
        # The broker's own words do not reach us.
        hint = "a compacted topic refuses records without key"
        return DataError(f"Kafka refused the record: {_reason(error)}", code="data.refused", hint=hint)
    if (refusal := _refusal(code, _reason(error))) is not None:
        return refusal
    if code in _AUTHORIZATION:
        of = _AUTHORIZATION[code]
        named = f" ({of})" if of else ""
        return InfrastructureError(
            f"cannot {doing}: not authorized{named}: {_reason(error)}",
            code="kafka.not_authorized",
            hint="ask who runs the cluster for the ACLs that this needs",
        )
    if failure is not None and (refusal := _refusal(failure.code, failure.reason)) is not None:
        return refusal
    if code in _REBALANCE:
        return RetriableError(f"cannot {doing}: the group is being rebalanced", code="kafka.rebalance")
    if code in _FAULTS:
        name, hint = _FAULTS[code]
        return InfrastructureError(f"cannot {doing}: {_reason(error)}", code=name, hint=hint)
    if code == KafkaError._INVALID_ARG:
        finding = Finding("kafka.invalid_setting", f"invalid Kafka client settings: {_reason(error)}")
        return ConfigError(findings=[finding])
    if failure is not None or code in _UNREACHABLE:
        reason = describe(failure) if failure is not None else _reason(error)
        return RetriableError(f"cannot {doing}: {reason}", code="kafka.unreachable")
    return RetriableError(f"cannot {doing}: {_reason(error)}", code="kafka.failed")


@contextmanager
def translated(doing: str, brokers: Brokers | None = None) -> Iterator[None]:
    """Raise librdkafka's exceptions as headrace's."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0], doing, brokers.failure() if brokers is not None else None) from error


def is_refusal(error: KafkaError) -> bool:
    """Whether the broker refuses a record: this one, or another one of the same request."""
    return error.code() in _TOO_LARGE or error.code() in _REFUSED


def lets_nobody_in(failure: Failure) -> bool:
    """Whether the broker answers, and one side does not let the other in."""
    return _refusal(failure.code, failure.reason) is not None


def describe(failure: Failure) -> str:
    """A sentence about a broker that cannot be reached."""
    if (refusal := _refusal(failure.code, failure.reason)) is not None:
        return f"broker {failure.address}: {refusal}"
    return f"broker {failure.address} does not answer: {failure.reason}"


def _refusal(code: int, reason: str) -> RetriableError | None:
    """Neither side lets the other in. It may heal without us: a password or a certificate is changed over there."""
    if code == KafkaError._SSL and "certificate" in reason:
        return RetriableError(
            f"Kafka's certificate is not trusted: {reason}",
            code="kafka.certificate",
            hint="name the certificate of its authority in ssl.cafile, and the broker as its certificate does",
            delay=_REFUSED_WAIT,
        )
    if code in _AUTHENTICATION:
        return RetriableError(
            f"Kafka refuses to log in: {reason}",
            code="kafka.authentication",
            hint="correct security.protocol, sasl.mechanism and the credentials, here or in Kafka",
            delay=_REFUSED_WAIT,
        )
    return None


def _reason(error: KafkaError) -> str:
    """Its own words, without what only librdkafka's makers can read."""
    text = error.str().removeprefix("Broker: ").removeprefix("Local: ")
    return " ".join(text.split()) or error.name()
