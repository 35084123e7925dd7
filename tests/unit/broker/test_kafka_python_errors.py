from __future__ import annotations

import pytest
from kafka import errors

from headrace.broker.kafka_python.error_mapping import UntrustedCertificateError, broker_failure, translate, translated
from headrace.errors import ConfigError, DataError, HeadraceError, InfrastructureError, RetriableError


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (errors.KafkaTimeoutError("slow"), RetriableError, "kafka.unreachable"),
        (errors.KafkaConnectionError("111 ECONNREFUSED"), RetriableError, "kafka.unreachable"),
        (errors.NotLeaderForPartitionError(), RetriableError, "kafka.failed"),
        (errors.UnknownError(), RetriableError, "kafka.failed"),
        (errors.IllegalStateError("closed"), RetriableError, "kafka.failed"),
        (errors.CommitFailedError(), RetriableError, "kafka.rebalance"),
        (errors.RebalanceInProgressError("later"), RetriableError, "kafka.rebalance"),
        (errors.MessageSizeTooLargeError("9 bytes"), DataError, "data.record_too_large"),
        (errors.InvalidRecordError("no key"), DataError, "data.refused"),
        (errors.SaslAuthenticationFailedError("bad password"), RetriableError, "kafka.authentication"),
        (errors.UnsupportedSaslMechanismError("PLAIN"), RetriableError, "kafka.authentication"),
        (UntrustedCertificateError("self-signed"), RetriableError, "kafka.certificate"),
        (errors.TopicAuthorizationFailedError({"orders"}), InfrastructureError, "kafka.not_authorized"),
        (errors.GroupAuthorizationFailedError("g1"), InfrastructureError, "kafka.not_authorized"),
        (errors.InvalidTopicError("x/y"), InfrastructureError, "kafka.invalid_topic"),
        (errors.InvalidReplicationFactorError(), InfrastructureError, "kafka.invalid_topic"),
        (errors.KafkaConfigurationError("acks"), ConfigError, "kafka.invalid_setting"),
    ],
)
def test_each_failure_has_the_expected_error_class(error: Exception, kind: type[HeadraceError], code: str) -> None:
    found = translate(error, "do it")
    assert type(found) is kind
    assert found.code == code
    assert "<class" not in str(found)


@pytest.mark.parametrize("error", [errors.InvalidProducerEpochError, errors.ProducerFencedError])
def test_a_fenced_producer_is_reported_with_both_causes_and_the_reason_of_the_client(error: type[Exception]) -> None:
    found = translate(error("epoch 3 is old"), "commit the transaction")
    assert found.code == "kafka.producer_fenced"
    for said in ("a newer producer", "transaction.timeout.ms", "epoch 3 is old"):
        assert said in str(found)


def test_an_authorization_error_names_the_resource() -> None:
    assert "topic: orders" in str(translate(errors.TopicAuthorizationFailedError({"orders"}), "write to orders"))
    assert "group: g1" in str(translate(errors.GroupAuthorizationFailedError("g1"), "read"))


@pytest.mark.parametrize(
    ("error", "doing", "said"),
    [
        (errors.TopicAuthorizationFailedError(), "write to orders", "WRITE on TOPIC orders: kafka-acls.sh --add"),
        (errors.TopicAuthorizationFailedError(), "create the topic a.b", "--operation Create --topic a.b"),
        (errors.TopicAuthorizationFailedError({"orders"}), "read as a member of group g", "READ on TOPIC orders"),
        (errors.GroupAuthorizationFailedError("g"), "read as a member of group g", "READ on GROUP g"),
        (errors.GroupAuthorizationFailedError("g"), "commit the positions of group g", "READ on GROUP g"),
        (errors.GroupAuthorizationFailedError("g"), "read the offsets of group g", "DESCRIBE on GROUP g"),
        (errors.ClusterAuthorizationFailedError(), "create a", "CREATE on the CLUSTER"),
        (errors.TopicAuthorizationFailedError(), "list the topics", "ask the administrator"),
    ],
)
def test_the_missing_acl_is_named_with_its_command(error: Exception, doing: str, said: str) -> None:
    """Row 12 of the faults."""
    assert said in translate(error, doing).hint


def test_a_timeout_names_the_failed_connection() -> None:
    failure = broker_failure("a:9092", errors.KafkaConnectionError("111 ECONNREFUSED"))
    found = translate(errors.KafkaTimeoutError("slow"), "list the topics", failure)
    assert str(found) == "cannot list the topics: broker a:9092 does not answer: 111 ECONNREFUSED"
    login = broker_failure("a:9092", errors.SaslAuthenticationFailedError("bad password"))
    assert translate(errors.KafkaTimeoutError("slow"), "list the topics", login).code == "kafka.authentication"
    assert login.describe().startswith("broker a:9092: Kafka refused the credentials: bad password → check ")


def test_unexpected_exceptions_are_not_translated() -> None:
    with pytest.raises(ZeroDivisionError), translated("divide"):
        raise ZeroDivisionError
