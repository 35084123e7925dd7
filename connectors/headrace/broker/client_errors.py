"""The errors of Kafka clients, one table for all adapters: code, consequence, message and hint of each.

An error that a broker sends has the same number in every client: :data:`BROKER_ERRORS`
(https://kafka.apache.org/protocol#protocol_error_codes). Errors that a client detects itself are mapped to the kinds
of this module by its adapter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from headrace.errors import (
    ConfigError,
    DataError,
    Finding,
    HeadraceError,
    InfrastructureError,
    RetriableError,
    TaskError,
)

_REFUSAL_DELAY = (
    5.0  # seconds to the next attempt: people correct credentials, which takes longer than a network failure
)


class ErrorKind(NamedTuple):
    """``message`` may contain ``{doing}``, the text after "cannot …", and ``{reason}``, the client's own text."""

    code: str
    consequence: type[HeadraceError]
    message: str = "cannot {doing}: {reason}"
    hint: str = ""
    delay: float | None = None
    resource: str = ""
    """The type of resource that lacks an ACL: topic, group, cluster, transactional.id."""

    def error(self, doing: str, reason: str) -> HeadraceError:
        """Return the error of this kind."""
        text = self.message.format(doing=doing, reason=reason)
        if self.consequence is ConfigError:
            return ConfigError(findings=[Finding(self.code, text, hint=self.hint)])
        if self.consequence is RetriableError:
            return RetriableError(text, code=self.code, hint=self.hint, delay=self.delay)
        return self.consequence(text, code=self.code, hint=self.hint)


UNREACHABLE = ErrorKind("kafka.unreachable", RetriableError)
FAILED = ErrorKind("kafka.failed", RetriableError)
REBALANCE = ErrorKind("kafka.rebalance", RetriableError, "cannot {doing}: the group is being rebalanced")
AUTHENTICATION = ErrorKind(
    "kafka.authentication",
    RetriableError,
    "Kafka refused the credentials: {reason}",
    "check security.protocol, sasl.mechanism and the credentials, here and in Kafka",
    _REFUSAL_DELAY,
)
CERTIFICATE = ErrorKind(
    "kafka.certificate",
    RetriableError,
    "Kafka's certificate is not trusted: {reason}",
    "set ssl.cafile to the certificate of its authority, and use the host name that the broker's certificate contains",
    _REFUSAL_DELAY,
)
RECORD_TOO_LARGE = ErrorKind(
    "data.record_too_large",
    DataError,
    "the record is too large for Kafka: {reason}",
    "raise max.request.size of the producer and max.message.bytes of the topic",
)
RECORD_REFUSED = ErrorKind(
    "data.refused",
    DataError,
    "Kafka refused the record: {reason}",
    "a compacted topic refuses records without key",
)
INVALID_SETTING = ErrorKind("kafka.invalid_setting", ConfigError, "invalid Kafka client settings: {reason}")
PRODUCER_FENCED = ErrorKind(
    "kafka.producer_fenced",
    TaskError,
    # The broker raises the epoch also when it aborts a transaction that took too long.
    "cannot {doing}: Kafka accepts this producer no longer, because a newer producer uses the same transactional.id, "
    "or a transaction was open for longer than transaction.timeout.ms: {reason}",
    "stop the other process or give each its own transactional.id; if there is no other, raise transaction.timeout.ms",
)
TRANSACTION_ABORTED = ErrorKind(
    "kafka.transaction_aborted",
    RetriableError,
    "cannot {doing}: the transaction was aborted: {reason}",
)
NO_OFFSET = ErrorKind("kafka.no_offset", InfrastructureError, hint="set auto.offset.reset to earliest or latest")
TOO_OLD = ErrorKind("kafka.too_old", InfrastructureError, hint="use a broker of Kafka 2.1 or newer")
TRUNCATED = ErrorKind(
    "kafka.truncated", InfrastructureError, hint="the cluster lost records: choose the offset to continue from"
)
INVALID_TOPIC_NAME = ErrorKind(
    "kafka.invalid_topic", InfrastructureError, hint="use letters, digits, '.', '_' and '-', at most 249"
)


def not_authorized(resource: str) -> ErrorKind:
    """Return the error of a missing ACL on ``resource`` (topic, group; empty: unknown)."""
    named = f" ({resource}: {{reason}})" if resource else " ({reason})"
    hint = "ask the administrator of the cluster for the ACLs that this operation needs"
    message = f"cannot {{doing}}: not authorized{named}"
    return ErrorKind("kafka.not_authorized", InfrastructureError, message, hint, resource=resource)


# What is being done, and the operation for which the user needs an ACL
# (https://kafka.apache.org/documentation/#operations_resources_and_protocols).
_OPERATIONS = (
    (re.compile(r"write to (?P<topic>\S+)"), "Write"),
    (re.compile(r"create (?:the topic )?(?P<topic>[^,\s]+)"), "Create"),
    (re.compile(r"read the offsets of group (?P<group>\S+)"), "Describe"),
    (re.compile(r"(?:read as a member of|commit the positions of|move the offsets of) group (?P<group>\S+)"), "Read"),
    (re.compile(r"join the worker group (?P<group>\S+)"), "Read"),
    (re.compile(r"read\b"), "Read"),
)
# The text of a client: "Subscribed topic not available: orders: Broker: Topic authorization failed"
_NAMED = re.compile(r"(?:not available: |^)(?P<name>[\w.-]+)(?=[:,]|$)")


def missing_acl(resource: str, doing: str, reason: str) -> str:
    """Return the ACL that is missing and the command that adds it; empty when ``doing`` does not name the operation."""
    for pattern, operation in _OPERATIONS:
        found = pattern.match(doing)
        if found is not None and resource in ("topic", "group", "cluster"):
            name = found.groupdict().get(resource) or ((said := _NAMED.search(reason)) and said["name"]) or "NAME"
            return acl_command(resource, name, operation)
    return ""


def acl_command(resource: str, name: str, operation: str) -> str:
    """Return what to grant, and the command that does it. ``resource``: topic, group, transactional-id, or cluster."""
    option = "--cluster" if resource == "cluster" else f"--{resource} {name}"
    named = "the CLUSTER" if resource == "cluster" else f"{resource.upper().replace('-', '_')} {name}"
    spelled = "".join(part.capitalize() for part in operation.split("_"))
    command = f"kafka-acls.sh --add --allow-principal User:NAME --operation {spelled} {option}"
    return f"grant the worker's user {operation.upper()} on {named}: {command}"


def transactional_id_refused(error: InfrastructureError, transactional_id: str) -> InfrastructureError:
    """Return the error of a producer that could not be initialised, with the ACL that it needs."""
    if error.code != "kafka.not_authorized":
        return error
    return InfrastructureError(
        f"cannot use the transactional.id {transactional_id}: {error.message}",
        code=error.code,
        hint=acl_command("transactional-id", transactional_id, "Write"),
    )


BROKER_ERRORS: Mapping[int, ErrorKind] = {
    1: NO_OFFSET,  # OFFSET_OUT_OF_RANGE
    7: UNREACHABLE,  # REQUEST_TIMED_OUT
    10: RECORD_TOO_LARGE,
    17: INVALID_TOPIC_NAME,
    18: RECORD_TOO_LARGE,  # RECORD_LIST_TOO_LARGE
    22: REBALANCE,  # ILLEGAL_GENERATION
    23: ErrorKind(
        "kafka.group_protocol",
        InfrastructureError,
        hint="give all members of the group one common partition.assignment.strategy",
    ),
    24: ErrorKind("kafka.invalid_group", InfrastructureError, hint="choose another group.id"),
    25: REBALANCE,  # UNKNOWN_MEMBER_ID
    26: ErrorKind("kafka.invalid_setting", InfrastructureError, hint="correct session.timeout.ms"),
    27: REBALANCE,  # REBALANCE_IN_PROGRESS
    29: not_authorized("topic"),
    30: not_authorized("group"),
    31: not_authorized("cluster"),
    32: RECORD_REFUSED,  # INVALID_TIMESTAMP
    33: AUTHENTICATION,  # UNSUPPORTED_SASL_MECHANISM
    34: AUTHENTICATION,  # ILLEGAL_SASL_STATE
    35: TOO_OLD,  # UNSUPPORTED_VERSION
    37: ErrorKind("kafka.invalid_topic", InfrastructureError, hint="choose at least 1 partition"),
    38: ErrorKind("kafka.invalid_topic", InfrastructureError, hint="choose at most the number of brokers"),
    40: ErrorKind("kafka.invalid_topic", InfrastructureError, hint="correct the topic's settings"),
    44: ErrorKind("kafka.policy", InfrastructureError, hint="ask the administrator of the cluster for its rules"),
    47: PRODUCER_FENCED,  # INVALID_PRODUCER_EPOCH
    48: TRANSACTION_ABORTED,  # INVALID_TXN_STATE
    49: TRANSACTION_ABORTED,  # INVALID_PRODUCER_ID_MAPPING: the transactional.id expired
    53: not_authorized("transactional.id"),
    58: AUTHENTICATION,
    76: ErrorKind("kafka.invalid_setting", InfrastructureError, hint="correct compression.type"),
    81: ErrorKind("kafka.group_full", InfrastructureError, hint="run fewer tasks, or raise group.max.size"),
    82: ErrorKind("kafka.fenced", InfrastructureError, hint="give every member its own group.instance.id"),
    87: RECORD_REFUSED,  # INVALID_RECORD
    90: PRODUCER_FENCED,
    120: TRANSACTION_ABORTED,  # TRANSACTION_ABORTABLE
}
_EXPLAINED_BY_ITSELF = (AUTHENTICATION, CERTIFICATE)


class BrokerFailure(NamedTuple):
    """Why a broker cannot be reached. ``address`` is host:port."""

    address: str
    kind: ErrorKind
    reason: str

    @property
    def is_refusal(self) -> bool:
        """Whether the broker answers, and one side does not accept the other's credentials or certificate."""
        return self.kind in _EXPLAINED_BY_ITSELF

    def error(self) -> HeadraceError:
        return self.kind.error(f"reach the broker {self.address}", self.reason)

    def describe(self) -> str:
        """Return one sentence about it."""
        if self.is_refusal:
            return f"broker {self.address}: {self.error()}"
        return f"broker {self.address} does not answer: {self.reason}"


class FailureSource(Protocol):
    """A client that knows which broker it cannot reach."""

    def failure(self) -> BrokerFailure | None:
        """Return the failure that explains others best; None when all brokers answer. Never blocks."""
        ...


def client_error(kind: ErrorKind, doing: str, reason: str, failure: BrokerFailure | None = None) -> HeadraceError:
    """Return the error that a client reported, or the ``failure`` of a broker where that explains it better."""
    if kind.code == "kafka.not_authorized" and (acl := missing_acl(kind.resource, doing, reason)):
        return kind._replace(hint=acl).error(doing, reason)
    speaks_for_itself = issubclass(kind.consequence, DataError) or kind.code == "kafka.not_authorized"
    if speaks_for_itself or kind in _EXPLAINED_BY_ITSELF or failure is None:
        return kind.error(doing, reason)
    if failure.is_refusal:
        return failure.error()
    if kind in (UNREACHABLE, FAILED):
        return UNREACHABLE.error(doing, failure.describe())
    return kind.error(doing, reason)
