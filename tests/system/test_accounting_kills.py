"""Records are refused, filtered, expired, superseded and retried while the worker is killed: all are accounted for.

What must be in the index, in the dead letter queue and in the accounts is computed from what was produced, and from
what another Kafka client reads. headrace has no transform of its own yet, so the filter is a plugin of this test.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

ROUNDS = 20
SEED = 20261201
PARTITIONS = 3
EXPIRING = PARTITIONS
"""A partition that receives records only while the worker is down; retention removes half of them."""
EXPIRED = 10
STEPS = 12
"""Steps of the producer in a round; the worker is killed at one of them."""
REFUSED, INVALID = "elasticsearch.document_rejected", b"{no JSON"
FILTER = """
from headrace import ConfigModel, Transform

class DropMarked(Transform):
    config_model = ConfigModel

    def configure(self, properties):
        pass

    def apply(self, record):
        return None if isinstance(record.value, dict) and "drop" in record.value else record
"""


@dataclass
class Model:
    """Produced records, and their expected outcomes. The partition of a key never changes."""

    documents: dict[str, Any] = field(default_factory=dict)
    """By key: the document of the last record that was not refused or filtered."""
    waiting: dict[str, Any] = field(default_factory=dict)
    """By key: documents that are refused until the index has their field."""
    dead: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset of all records that must have been refused."""
    filtered: set[tuple[int, int]] = field(default_factory=set)


class Topic:
    """Produces the records of a round, and reads the topic with a separate client."""

    def __init__(self, bootstrap: str, name: str, model: Model) -> None:
        self.name, self.model = name, model
        self._producer = KafkaProducer(bootstrap_servers=bootstrap)
        self._transactions = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=name)
        self._transactions.init_transactions()
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",  # after records have expired
            enable_auto_commit=False,
        )
        partitions = [TopicPartition(name, number) for number in range(PARTITIONS + 1)]
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning(*partitions)
        self.readable: dict[int, list[int]] = {item.partition: [] for item in partitions}
        """By partition: all offsets that have a record for a reader."""

    def send(self, key: str, value: Any, *, partition: int, producer: KafkaProducer | None = None) -> Any:
        encoded = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        return (producer or self._producer).send(self.name, encoded, key.encode(), partition=partition)

    def steps(self, number: int, count: int, chance: random.Random) -> None:
        for _ in range(count):
            self._step(number, chance)

    def _step(self, number: int, chance: random.Random) -> None:
        """Produce some records of each kind."""
        model = self.model
        for _ in range(chance.randint(2, 12)):  # superseded by later ones, or by tombstones
            key = f"k{chance.randrange(90)}"
            value = None if chance.random() < 0.15 else {"n": chance.randrange(10**6)}
            self.send(key, value, partition=int(key[1:]) % PARTITIONS)
            if value is None:
                model.documents.pop(key, None)
            else:
                model.documents[key] = value
        name = f"{number}-{chance.randrange(10**9)}"
        partition = chance.randrange(PARTITIONS)
        filtered = [self.send(f"filtered-{name}", {"drop": True}, partition=partition)]
        late = {f"field{number}": 1}
        dead = [self.send(f"late-{name}", late, partition=partition)]
        if chance.random() < 0.3:  # a newer record wins over a letter that is retried
            self.send(f"late-{name}", {"n": number}, partition=partition)
            model.documents[f"late-{name}"] = {"n": number}
        else:
            model.waiting[f"late-{name}"] = late
        if chance.random() < 0.3:
            dead.append(self.send(f"invalid-{name}", INVALID, partition=partition))
        if chance.random() < 0.4:
            self.transaction(f"transaction-{name}", partition, commit=chance.random() < 0.6)
        self._producer.flush(60)
        model.dead |= set(map(place, dead))
        model.filtered |= set(map(place, filtered))

    def transaction(self, key: str, partition: int, *, commit: bool) -> None:
        self._transactions.begin_transaction()
        for number in range(3):
            self.send(f"{key}-{number}", {"n": number}, partition=partition, producer=self._transactions)
        if commit:
            self._transactions.commit_transaction()
            self.model.documents.update({f"{key}-{number}": {"n": number} for number in range(3)})
        else:
            self._transactions.abort_transaction()

    def expire(self, number: int) -> None:
        """Produce records, of which retention removes the first half before the worker can read them."""
        futures = [self.send(f"expiring-{number}-{row}", {"n": row}, partition=EXPIRING) for row in range(2 * EXPIRED)]
        self._producer.flush(60)
        first_kept = futures[EXPIRED].get(60).offset
        self._admin.delete_records({TopicPartition(self.name, EXPIRING): first_kept})
        kept = {f"expiring-{number}-{row}": {"n": row} for row in range(EXPIRED, 2 * EXPIRED)}
        self.model.documents.update(kept)

    def read(self) -> dict[int, int]:
        """Read to the end. Return the offset after the last readable record of each partition."""
        ends = self._consumer.end_offsets(list(self._consumer.assignment()))
        while any(self._consumer.position(item) < end for item, end in ends.items()):
            for item, records in self._consumer.poll(timeout_ms=500).items():
                self.readable[item.partition] += [record.offset for record in records]
        return {partition: offsets[-1] + 1 for partition, offsets in self.readable.items() if offsets}

    def close(self) -> None:
        for client in (self._producer, self._transactions, self._admin, self._consumer):
            client.close()


def place(future: Any) -> tuple[int, int]:
    """Return partition and offset of a sent record."""
    found = future.get(60)
    return found.partition, found.offset


class Sink:
    """The connector in its worker, as its REST API and Kafka show it."""

    def __init__(self, worker: Any, kafka: Any, name: str, queue: str) -> None:
        self.worker, self.name = worker, name
        self._path = f"/v1/connectors/{name}"
        self._admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        self._letters = KafkaConsumer(
            bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
        )
        self._queue = TopicPartition(queue, 0)
        self.dead: set[tuple[int, int]] = set()
        """Partition and offset of all records that have a dead letter."""
        self.resumed_at: dict[int, int] = {}
        """By partition: the committed offset with which the worker was started."""

    def committed(self) -> dict[int, int]:
        """Return the committed offset of each partition; nothing while a new broker prepares the group."""
        group = f"connect-{self.name}"
        try:
            found = self._admin.list_group_offsets(group)[group]
        except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError):
            return {}
        return {item.partition: int(meta.offset) for item, meta in found.items()}

    def records(self) -> Any:
        (task,) = self.worker.get(f"{self._path}/records")["tasks"]
        return task

    def retry(self) -> None:
        body = {"group": REFUSED}
        HTTP.post(f"{self.worker.url}{self._path}/dead-letters/retry", json=body, timeout=60).raise_for_status()

    def retried(self) -> bool:
        job = self.worker.get(f"{self._path}/dead-letters/job")
        assert job["error"] is None, job
        return bool(job["state"] != "RUNNING")

    def conditions(self) -> dict[str, Any]:
        return {found["code"]: found for found in self.worker.get(f"{self._path}/conditions")["conditions"]}

    def acknowledge(self) -> None:
        HTTP.post(f"{self.worker.url}{self._path}/acknowledge", timeout=60).raise_for_status()

    def read_letters(self) -> set[tuple[int, int]]:
        """Read the dead letter queue to its end."""
        if not self._letters.assignment():
            self._letters.assign([self._queue])
            self._letters.seek_to_beginning(self._queue)
        (end,) = self._letters.end_offsets([self._queue]).values()
        while self._letters.position(self._queue) < end:
            for records in self._letters.poll(timeout_ms=500).values():
                for record in records:
                    headers = dict(record.headers)
                    partition, offset = (headers[f"__connect.errors.{name}"] for name in ("partition", "offset"))
                    self.dead.add((int(partition), int(offset)))
        return self.dead

    def close(self) -> None:
        self._admin.close()
        self._letters.close()


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a transform, for the processes that the test starts."""
    folder = tmp_path / "plugins"
    metadata = folder / "drop_marked-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "drop_marked.py").write_text(FILTER)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: drop-marked\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[headrace.transforms]\nDropMarked = drop_marked:DropMarked\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def topic(kafka: Any, unique_name: str) -> Iterator[Topic]:
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.create_topics({unique_name: {"num_partitions": PARTITIONS + 1, "replication_factor": 1}})
    admin.close()
    topic = Topic(kafka.bootstrap_servers, unique_name, Model())
    yield topic
    topic.close()


@pytest.fixture
def sink(
    kafka: Any, elasticsearch: Any, make_worker: Callable[..., Any], unique_name: str, plugins: None
) -> Iterator[Sink]:
    strict = {"mappings": {"dynamic": "strict", "properties": {"n": {"type": "integer"}}}}
    HTTP.put(f"{elasticsearch.url}/{unique_name}", json=strict, timeout=60).raise_for_status()
    worker = make_worker(kafka.bootstrap_servers, kafka_client="confluent")
    queue = f"{unique_name}-dead"
    config = {
        "connector.class": "ElasticsearchSink",
        "connection.url": elasticsearch.url,
        "topics": unique_name,
        "schema.ignore": "true",
        "key.converter": "StringConverter",
        "behavior.on.null.values": "delete",
        "transforms": "drop",
        "transforms.drop.type": "DropMarked",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": queue,
        # A killed member gets its partitions at once when it returns, so that a round takes seconds.
        "consumer.override.group.instance.id": unique_name,
    }
    worker.write("sink", {**config, "name": f"{unique_name}-sink"})
    sink = Sink(worker, kafka, f"{unique_name}-sink", queue)
    yield sink
    sink.close()


@pytest.mark.timeout(600)
def test_every_record_is_accounted_for_in_every_round(topic: Topic, sink: Sink, elasticsearch: Any, box: Any) -> None:
    worker, model = sink.worker, topic.model
    for partition in range(PARTITIONS + 1):
        topic.send(f"first-{partition}", {"n": partition}, partition=partition)
        model.documents[f"first-{partition}"] = {"n": partition}
    worker.start()
    drain(topic, sink, box)

    without_record = 0
    for number in range(ROUNDS):
        seed = SEED + number
        try:
            play_round(number, random.Random(seed), topic, sink, elasticsearch.url)
            drain(topic, sink, box)
            without_record += compare(topic, sink, elasticsearch.url, box)
        except Exception as error:
            error.add_note(f"round {number}, seed {seed}")
            raise
    assert worker.stop() == 0
    assert len(model.dead) > ROUNDS * STEPS
    assert without_record > 0


def play_round(number: int, chance: random.Random, topic: Topic, sink: Sink, url: str) -> None:
    """Produce while the worker runs, retries letters and is killed; let records expire; start the worker again."""
    written, topic.model.waiting = topic.model.waiting, {}
    fields = {f"field{number - 1}": {"type": "integer"}}
    HTTP.put(f"{url}/{topic.name}/_mapping", json={"properties": fields}, timeout=60).raise_for_status()
    topic.model.documents.update(written)
    sink.retry()
    last = chance.randrange(STEPS)
    topic.steps(number, last, chance)
    sink.worker.require_balance()
    pause = chance.uniform(0, 0.3)
    producing = threading.Thread(target=topic.steps, args=(number, STEPS - last, chance))
    producing.start()
    threading.Event().wait(pause)  # a random time until the kill
    sink.worker.kill()
    producing.join()
    topic.expire(number)
    sink.resumed_at = sink.committed()
    sink.worker.start()
    sink.retry()


def drain(topic: Topic, sink: Sink, box: Any) -> None:
    """Wait until all records are written and committed."""
    ends = topic.read()
    eventually(lambda: sink.committed() == ends, box.timeout)


def compare(topic: Topic, sink: Sink, url: str, box: Any) -> int:
    """Compare index, letters, conditions and accounts with what was produced.

    Return the number of offsets that have no record, because of transactions.
    """
    model = topic.model
    eventually(sink.retried, box.timeout)
    eventually(lambda: explained(sink.records()["partitions"]), box.timeout)
    assert box.documents(url, topic.name) == model.documents
    assert sink.read_letters() == model.dead
    condition = sink.conditions()["records.removed_unread"]
    first = sink.resumed_at[EXPIRING]
    example = f"{topic.name}-{EXPIRING}: offsets {first} to {first + EXPIRED - 1}"
    assert (condition["count"], condition["example"]) == (EXPIRED, example)
    sink.acknowledge()

    task = sink.records()
    counts, accounts = task["counts"], task["partitions"]
    assert task["balance"] == counts["in_flight"] == 0, task
    read = {
        (partition, offset)
        for partition, start in sink.resumed_at.items()
        for offset in topic.readable[partition]
        if offset >= start
    }
    assert counts["read"] == len(read), task
    assert counts["filtered"] == len(read & model.filtered), task
    assert counts["dead_lettered"] == len(read & model.dead), task
    for account in accounts:
        partition = int(account["partition"].rpartition("-")[2])
        start, end = sink.resumed_at[partition], topic.readable[partition][-1] + 1
        offsets = sum(offset >= start for offset in topic.readable[partition])
        lost = EXPIRED if partition == EXPIRING else 0
        expected = {"start": start, "next": end, "read": offsets, "retention": lost, "unexplained": 0, "balance": 0}
        expected |= {"partition": account["partition"], "no_record": end - start - lost - offsets}
        assert account == expected
    return sum(account["no_record"] for account in accounts)


def explained(accounts: Any) -> bool:
    """Return whether all partitions have an account and the causes of all gaps are known."""
    return len(accounts) == PARTITIONS + 1 and not any(account["unexplained"] for account in accounts)
