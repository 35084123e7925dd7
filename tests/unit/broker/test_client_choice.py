from __future__ import annotations

import sys

import pytest

from headrace.broker.client_choice import choose
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.errors import ConfigError, RetriableError


@pytest.fixture
def without_librdkafka(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make confluent-kafka look uninstalled."""
    for name in [*sys.modules]:
        if name.startswith("headrace.broker.librdkafka"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)


def test_the_faster_client_is_used_when_it_is_installed() -> None:
    choice = choose("auto")
    assert (choice.name, choice.reason) == ("confluent", "installed")
    assert "librdkafka" in choice.title
    assert isinstance(choice.open({}), LibrdkafkaClients)


def test_the_configured_client_is_used() -> None:
    assert isinstance(choose("kafka-python").open({}), KafkaPythonClients)
    assert isinstance(choose("confluent").open({}), LibrdkafkaClients)


@pytest.mark.usefixtures("without_librdkafka")
def test_kafka_python_is_chosen_with_a_reason_when_librdkafka_is_missing() -> None:
    choice = choose("auto")
    assert choice.name == "kafka-python"
    assert "headrace[fast]" in choice.reason


@pytest.mark.usefixtures("without_librdkafka")
def test_a_configured_client_that_is_not_installed_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError) as caught:
        choose("confluent")
    (finding,) = caught.value.findings
    assert finding.code == "kafka.client_missing"
    assert "headrace[fast]" in finding.hint


def test_a_reader_accepts_the_consumer_settings_of_its_client() -> None:
    """``headrace verify`` passes it the settings that ``headrace validate`` has accepted."""
    clients = choose("confluent").open({"bootstrap.servers": "127.0.0.1:1", "bootstrap.timeout.ms": "200"})
    with pytest.raises(RetriableError) as caught:
        clients.reader({"queued.min.messages": "1", "group.id": "g", "group.instance.id": "i"})
    assert caught.value.code == "kafka.unreachable"
    with pytest.raises(ConfigError):
        clients.reader({"queued.min.mesages": "1"})
