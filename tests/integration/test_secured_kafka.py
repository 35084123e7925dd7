"""Kafka with TLS and SASL: valid credentials are accepted, others are refused with the reason within seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.broker.interfaces import KafkaClients, NewTopic
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.embedded import Kafka
from headrace.errors import HeadraceError, RetriableError
from headrace.records import EncodedBatch
from headrace.testing.recording_consumer import TIMEOUT, RecordingConsumer
from headrace.testing.waiting import eventually
from tests.engines.certificates import Authority

USER, PASSWORD = "ada", "correct horse battery"
WRONG = "hunter2-do-not-show"
Connect = Callable[[dict[str, str]], KafkaClients]


@pytest.fixture(scope="module")
def secured(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    folder = tmp_path_factory.mktemp("secured")
    settings = {"offsets.topic.num.partitions": "1", "transaction.state.log.num.partitions": "1"}
    with Kafka(folder, tls_file=authority.server_file(), users={USER: PASSWORD}, settings=settings) as kafka:
        yield kafka


@pytest.fixture(params=[KafkaPythonClients, LibrdkafkaClients], ids=["kafka-python", "confluent"])
def connect(request: pytest.FixtureRequest) -> Callable[[dict[str, str]], KafkaClients]:
    """Return a function that connects with settings, for each client."""
    make: Callable[[dict[str, str]], KafkaClients] = request.param
    return make


@pytest.fixture
def settings(secured: Kafka, authority: Authority) -> dict[str, str]:
    """The settings of a client."""
    return {
        "bootstrap.servers": secured.bootstrap_servers,
        "bootstrap.timeout.ms": "60000",  # a refused client gets the error at once
        "security.protocol": "SASL_SSL",
        "ssl.cafile": str(authority.ca_file),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
    }


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    eventually(lambda: set(threading.enumerate()) <= before)


MAKERS: dict[str, Callable[[KafkaClients], Any]] = {
    "producer": lambda kafka_clients: kafka_clients.producer({}),
    "consumer": lambda kafka_clients: kafka_clients.consumer("g", {}),
    "admin": lambda kafka_clients: kafka_clients.admin({}),
}
kinds = pytest.mark.parametrize("kind", MAKERS)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_records_are_sent_with_a_login_over_tls(
    connect: Connect, settings: dict[str, str], mechanism: str, unique_name: str
) -> None:
    kafka_clients = connect({**settings, "sasl.mechanism": mechanism})
    admin = kafka_clients.admin({})
    admin.create_topics([NewTopic(unique_name, 1, 1)])
    admin.close()
    producer = kafka_clients.producer({})
    producer.send(EncodedBatch(unique_name, [b"secret"]))
    assert producer.flush(TIMEOUT)
    producer.close(TIMEOUT)
    reader = RecordingConsumer(kafka_clients, unique_name).subscribe([unique_name])
    assert reader.read(1) == [b"secret"]
    reader.consumer.close()


def test_a_sasl_jaas_config_is_accepted(connect: Connect, settings: dict[str, str]) -> None:
    user, password = settings.pop("sasl.username"), settings.pop("sasl.password")
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    login = f'{module} required username="{user}" password="{password}";'
    admin = connect({**settings, "sasl.jaas.config": login}).admin({})
    assert admin.cluster_id()
    admin.close()


def refused(connect: Connect, settings: dict[str, str], kind: str) -> HeadraceError:
    with pytest.raises(HeadraceError) as caught:
        MAKERS[kind](connect(settings))
    assert WRONG not in str(caught.value)
    return caught.value


@kinds
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_a_wrong_password_is_named(connect: Connect, settings: dict[str, str], kind: str, mechanism: str) -> None:
    error = refused(connect, {**settings, "sasl.mechanism": mechanism, "sasl.password": WRONG}, kind)
    assert isinstance(error, RetriableError)
    assert error.code == "kafka.authentication"


@kinds
def test_a_certificate_of_an_untrusted_authority_is_an_error_with_its_name(
    connect: Connect, settings: dict[str, str], kind: str, tmp_path: Path
) -> None:
    error = refused(connect, {**settings, "ssl.cafile": str(Authority(tmp_path).ca_file)}, kind)
    assert isinstance(error, RetriableError)
    assert error.code == "kafka.certificate"
    assert "ssl.cafile" in error.hint


def test_a_connection_without_tls_is_retriable_and_names_the_broker(connect: Connect, settings: dict[str, str]) -> None:
    error = refused(
        connect, {**settings, "security.protocol": "SASL_PLAINTEXT", "bootstrap.timeout.ms": "1000"}, "admin"
    )
    assert isinstance(error, RetriableError)
    assert error.code == "kafka.unreachable"
    assert settings["bootstrap.servers"] in str(error)
