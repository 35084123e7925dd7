from __future__ import annotations

import json

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.broker.librdkafka.broker_monitor import BrokerMonitor
from headrace.broker.librdkafka.error_mapping import broker_failure, translate, translated
from headrace.errors import ConfigError, DataError, HeadraceError, InfrastructureError, RetriableError

REFUSED = "127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)"


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        (KafkaError._MSG_TIMED_OUT, RetriableError, "kafka.unreachable"),
        (KafkaError._TRANSPORT, RetriableError, "kafka.unreachable"),
        (KafkaError.NOT_LEADER_FOR_PARTITION, RetriableError, "kafka.failed"),
        (KafkaError.UNKNOWN, RetriableError, "kafka.failed"),
        (KafkaError.ILLEGAL_GENERATION, RetriableError, "kafka.rebalance"),
        (KafkaError.REBALANCE_IN_PROGRESS, RetriableError, "kafka.rebalance"),
        (KafkaError.MSG_SIZE_TOO_LARGE, DataError, "data.record_too_large"),
        (KafkaError.INVALID_RECORD, DataError, "data.refused"),
        (KafkaError._AUTHENTICATION, RetriableError, "kafka.authentication"),
        (KafkaError.UNSUPPORTED_SASL_MECHANISM, RetriableError, "kafka.authentication"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, InfrastructureError, "kafka.not_authorized"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, InfrastructureError, "kafka.not_authorized"),
        (KafkaError.TOPIC_EXCEPTION, InfrastructureError, "kafka.invalid_topic"),
        (KafkaError.INVALID_REPLICATION_FACTOR, InfrastructureError, "kafka.invalid_topic"),
        (KafkaError._INVALID_ARG, ConfigError, "kafka.invalid_setting"),
    ],
)
def test_each_failure_has_the_same_error_class_as_with_kafka_python(
    code: int, kind: type[HeadraceError], name: str
) -> None:
    found = translate(KafkaError(code), "do it")
    assert type(found) is kind
    assert found.code == name


@pytest.mark.parametrize("code", [KafkaError.INVALID_PRODUCER_EPOCH, KafkaError._FENCED])
def test_a_fenced_producer_is_reported_with_both_causes_and_the_reason_of_the_client(code: int) -> None:
    found = translate(KafkaError(code, "epoch 3 is old"), "commit the transaction")
    assert found.code == "kafka.producer_fenced"
    for said in ("a newer producer", "transaction.timeout.ms", "epoch 3 is old"):
        assert said in str(found)


def test_a_timeout_names_the_failed_broker() -> None:
    monitor = BrokerMonitor()
    monitor.on_error(KafkaError(KafkaError._TRANSPORT, REFUSED))
    found = translate(KafkaError(KafkaError._TIMED_OUT, "slow"), "list the topics", monitor.failure())
    why = "broker 127.0.0.1:9092 does not answer: Connect to ipv4#127.0.0.1:9092 failed: Connection refused"
    assert str(found) == f"cannot list the topics: {why}"
    login = broker_failure("a:9092", KafkaError._AUTHENTICATION, "bad password")
    assert translate(KafkaError(KafkaError._TIMED_OUT), "list", login).code == "kafka.authentication"
    assert login.describe().startswith("broker a:9092: Kafka refused the credentials: bad password → check ")


def test_kafka_exceptions_are_translated_and_unexpected_ones_are_not() -> None:
    with pytest.raises(RetriableError), translated("read"):
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))
    with pytest.raises(ZeroDivisionError), translated("divide"):
        raise ZeroDivisionError


def statistics(state: str, *, due: int = 0, idle: float = 0.0, group: str | None = None) -> str:
    """Return statistics of librdkafka: ``due`` responses, ``idle`` seconds since the last byte (-1: none)."""
    broker = {"state": state, "waitresp_cnt": due, "rxidle": -1 if idle < 0 else int(idle * 1e6)}
    coordinator = {"state": "UP", "waitresp_cnt": 1, "rxidle": 300_000_000}
    found = {"brokers": {"127.0.0.1:9092/1": broker, "GroupCoordinator": coordinator}}
    return json.dumps(found if group is None else {**found, "cgrp": {"state": group}})


class TestBrokers:
    def test_a_failure_is_kept_until_statistics_show_a_healthy_broker(self) -> None:
        monitor = BrokerMonitor()
        monitor.on_error(KafkaError(KafkaError._TRANSPORT, "sasl_ssl://" + REFUSED))
        monitor.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
        monitor.on_statistics(statistics("TRY_CONNECT"))
        failure = monitor.failure()
        assert failure is not None
        assert failure.address == "127.0.0.1:9092"
        monitor.on_statistics(statistics("UP"))
        assert monitor.failure() is None

    def test_a_refused_login_is_reported_before_other_failures(self) -> None:
        monitor = BrokerMonitor()
        monitor.on_error(KafkaError(KafkaError._TRANSPORT, REFUSED))
        monitor.on_error(KafkaError(KafkaError._AUTHENTICATION, "b:9093/2: SASL authentication error: no"))
        assert monitor.failure() == broker_failure(
            "b:9093", KafkaError._AUTHENTICATION, "SASL authentication error: no"
        )

    def test_a_broker_that_exchanges_data_is_healthy(self) -> None:
        monitor = BrokerMonitor()
        monitor.on_error(KafkaError(KafkaError._TRANSPORT, REFUSED))
        monitor.clear()
        assert monitor.failure() is None

    def test_the_coordinator_is_unavailable_until_statistics_show_it(self) -> None:
        monitor = BrokerMonitor()
        assert not monitor.coordinator_away()
        monitor.on_error(KafkaError(KafkaError._TRANSPORT, REFUSED))
        assert monitor.coordinator_away()
        monitor.on_statistics(statistics("DOWN", group="wait-coord"))
        assert monitor.coordinator_away()
        monitor.on_statistics(statistics("DOWN", group="up"))
        assert not monitor.coordinator_away()

    def test_a_broker_without_responses_for_seconds_is_named(self) -> None:
        """Also after several reconnections."""
        now = 100.0
        monitor = BrokerMonitor(monotonic=lambda: now)
        for state, idle in (("UP", 1.9), ("UP", 3.9), ("APIVERSION_QUERY", -1)):
            monitor.on_statistics(statistics(state, due=1, idle=idle))
            assert monitor.failure() is None
            now += 2
        monitor.on_statistics(statistics("APIVERSION_QUERY", due=1, idle=-1))
        failure = monitor.failure()
        assert failure is not None
        assert failure.describe() == "broker 127.0.0.1:9092 does not answer: nothing for 5 s"
        assert monitor.coordinator_away()
        monitor.on_statistics(statistics("UP", due=1, idle=0.3))
        assert monitor.failure() is None

    def test_a_broker_that_responds_or_has_no_pending_requests_is_healthy(self) -> None:
        now = 100.0
        monitor = BrokerMonitor(longest_wait=0.5, monotonic=lambda: now)
        for number in range(20):
            monitor.on_statistics(statistics("UP", due=1, idle=0.4) if number % 3 else statistics("UP", idle=600))
            assert monitor.failure() is None
            now += 2
        monitor.on_statistics(statistics("UP", due=1, idle=640))  # the first request after a long time
        assert monitor.failure() is None
