"""The fault proxies in front of real engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
import psycopg
import pytest

from headrace.broker.interfaces import KafkaClients, NewTopic, RebalanceListener
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.embedded import Kafka
from headrace.errors import RetriableError
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.data_comparison import topic_entries
from headrace.testing.faults import HttpProxy, ItemErrors, NoAnswer, TcpProxy
from headrace.testing.recording_consumer import TIMEOUT
from headrace.testing.waiting import eventually
from tests.engines.addresses import HttpAddress, SqlAddress, libpq_url


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TcpProxy, str]]:
    """A proxy that a broker advertises to clients, and the broker's own address."""
    kafka = Kafka(tmp_path_factory.mktemp("kafka"), settings={"offsets.topic.num.partitions": "1"})
    with TcpProxy(f"127.0.0.1:{kafka.port}") as proxy:
        kafka.brokers[0].advertised_port = proxy.port
        with kafka:
            assert kafka.bootstrap_servers == proxy.address
            yield proxy, kafka.brokers[0].internal_address


@pytest.fixture(params=[KafkaPythonClients, LibrdkafkaClients], ids=["kafka-python", "librdkafka"])
def kafka_clients(request: pytest.FixtureRequest, proxied: tuple[TcpProxy, str]) -> KafkaClients:
    """Each client, with short timeouts."""
    short = {"bootstrap.timeout.ms": "3000", "request.timeout.ms": "1500"}
    made: KafkaClients = request.param({"bootstrap.servers": proxied[0].address, **short})
    return made


def _patient(proxy: TcpProxy) -> KafkaClients:
    return KafkaPythonClients({"bootstrap.servers": proxy.address, "bootstrap.timeout.ms": "60000"})


T = TypeVar("T")


def _again(call: Callable[[], T]) -> T:
    """Retry as a task does: a busy machine may not respond within the short timeouts."""
    answers: list[T] = []

    def answered() -> bool:
        try:
            answers.append(call())
        except RetriableError:
            return False
        return True

    eventually(answered, TIMEOUT)
    return answers[0]


@pytest.mark.parametrize("fault", ["refuse", "blackhole"])
def test_an_unreachable_broker_is_named_and_no_record_is_lost(
    kafka_clients: KafkaClients, proxied: tuple[TcpProxy, str], fault: str, unique_name: str
) -> None:
    proxy, _ = proxied
    admin, producer = _again(lambda: kafka_clients.admin({})), _again(lambda: kafka_clients.producer({}))
    _again(lambda: admin.create_topics([NewTopic(unique_name, 1)]))
    first = producer.send(EncodedBatch(unique_name, [b"0"], [b'"0"']))
    assert producer.flush(TIMEOUT)
    getattr(proxy, fault)()
    second = producer.send(EncodedBatch(unique_name, [b"1"], [b'"1"']))
    eventually(lambda: proxy.address in (producer.connection_problem() or ""), TIMEOUT)
    assert not second.done()
    with pytest.raises(RetriableError, match=proxy.address):
        kafka_clients.admin({})
    proxy.restore()
    assert producer.flush(TIMEOUT)
    assert (first.error(), second.error(), producer.connection_problem()) == (None, None, None)
    producer.close(TIMEOUT)
    admin.close()
    assert [(entry.key, entry.value) for entry in topic_entries(_patient(proxy), unique_name)] == [("0", 0), ("1", 1)]


def test_a_lost_acknowledgement_doubles_no_record(
    kafka_clients: KafkaClients, proxied: tuple[TcpProxy, str], unique_name: str
) -> None:
    """The broker stores the batch, its response is lost: the idempotent producer retries, and it is stored once."""
    proxy, round_it = proxied
    direct = _again(lambda: KafkaPythonClients({"bootstrap.servers": round_it}).admin({}))
    admin, producer = _again(lambda: kafka_clients.admin({})), _again(lambda: kafka_clients.producer({}))
    _again(lambda: admin.create_topics([NewTopic(unique_name, 1)]))
    producer.send(EncodedBatch(unique_name, [b"0"], [b'"0"']))
    assert producer.flush(TIMEOUT)
    proxy.hold_answers()
    delivery = producer.send(EncodedBatch(unique_name, [b"1"], [b'"1"']))
    eventually(lambda: direct.end_offsets([unique_name]) == {TopicPartition(unique_name, 0): 2}, TIMEOUT)
    direct.close()
    assert not delivery.done()
    proxy.cut()
    proxy.restore()
    assert producer.flush(TIMEOUT)
    assert delivery.error() is None
    producer.close(TIMEOUT)
    admin.close()
    assert [entry.value for entry in topic_entries(_patient(proxy), unique_name)] == [0, 1]


def test_an_abandoned_producer_does_not_write_when_the_broker_is_available_again(
    kafka_clients: KafkaClients, proxied: tuple[TcpProxy, str], unique_name: str
) -> None:
    """Its task was abandoned during an outage, with records that the client had accepted and retries."""
    proxy, round_it = proxied
    direct = _again(lambda: KafkaPythonClients({"bootstrap.servers": round_it}).admin({}))
    producer = _again(lambda: kafka_clients.producer({}))
    _again(lambda: direct.create_topics([NewTopic(unique_name, 1)]))
    producer.send(EncodedBatch(unique_name, [b"0"], [b'"0"']))
    assert producer.flush(TIMEOUT)
    proxy.refuse()
    deliveries = [producer.send(EncodedBatch(unique_name, [b"%d" % n], [b'"k"'])) for n in range(1, 4)]
    assert not producer.flush(0.5)
    eventually(producer.abandon, TIMEOUT)
    proxy.restore()
    producer.flush(TIMEOUT)  # would send the remaining records
    assert all(isinstance(delivery.error(), Exception) for delivery in deliveries if delivery.done())
    producer.close(TIMEOUT)
    assert direct.end_offsets([unique_name]) == {TopicPartition(unique_name, 0): 1}
    direct.close()


def test_a_commit_without_a_response_times_out(
    kafka_clients: KafkaClients, proxied: tuple[TcpProxy, str], unique_name: str
) -> None:
    """The group's coordinator stops responding, and responds again later."""
    proxy, _ = proxied
    admin, producer = _again(lambda: kafka_clients.admin({})), _again(lambda: kafka_clients.producer({}))
    _again(lambda: admin.create_topics([NewTopic(unique_name, 1)]))
    producer.send(EncodedBatch(unique_name, [b"0", b"1"], [b'"0"', b'"1"']))
    assert producer.flush(TIMEOUT)
    producer.close(TIMEOUT)
    consumer = _again(lambda: kafka_clients.consumer(unique_name, {}))
    consumer.subscribe([unique_name], None, RebalanceListener(lambda _: None, lambda _: None))
    eventually(lambda: _again(lambda: consumer.poll(0.2, 10)), TIMEOUT)
    place = TopicPartition(unique_name, 0)
    _again(lambda: consumer.commit({place: 1}))
    proxy.blackhole()
    with pytest.raises(RetriableError, match="commit"):
        consumer.commit({place: 2})
    proxy.restore()

    def committed() -> bool:
        consumer.poll(0.2, 10)
        consumer.commit({place: 2})
        return admin.committed(unique_name) == {place: 2}

    eventually(lambda: _again(committed), TIMEOUT)
    consumer.close()
    admin.close()


def test_faults_of_a_proxy_reach_a_postgres_client(postgres: SqlAddress) -> None:
    url = libpq_url(postgres.url)
    with TcpProxy(url.partition("@")[2].partition("/")[0]) as proxy:
        there = url.replace(proxy.target[0] + f":{proxy.target[1]}", proxy.address)
        with psycopg.connect(there) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            proxy.cut()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")


def test_faults_of_a_proxy_reach_an_elasticsearch_client(elasticsearch: HttpAddress, unique_name: str) -> None:
    body = "".join(f'{{"index":{{"_id":"{n}"}}}}\n{{"n":{n}}}\n' for n in range(4))
    with HttpProxy(elasticsearch.url) as proxy, httpx.Client(base_url=proxy.url, timeout=60) as client:
        proxy.play(ItemErrors(), NoAnswer(), path="_bulk")

        def bulk() -> httpx.Response:
            headers = {"Content-Type": "application/x-ndjson"}
            return client.post(f"/{unique_name}/_bulk?refresh=true", content=body, headers=headers)

        statuses = [item["index"]["status"] for item in bulk().json()["items"]]
        assert statuses == [429, 201, 429, 201]
        assert client.get(f"/{unique_name}/_count").json()["count"] == 2
        with pytest.raises(httpx.RemoteProtocolError):
            bulk()
        assert client.get(f"/{unique_name}/_count").json()["count"] == 4
