"""A topic, the sink that indexes it in a separate worker, and the commands for the index."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.broker.interfaces import NewTopic
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.errors import RetriableError
from headrace.records import EncodedBatch, TopicPartition
from headrace.testing.waiting import eventually
from tests.engines import canaries
from tests.engines.http import HTTP

PATIENT = {"bootstrap.timeout.ms": "60000"}
"""Of the test's own clients, which do not try again when a broker that is there is slow with its first answer."""


class Search:
    """A topic, the sink that indexes it, and helpers for both."""

    def __init__(self, worker: Any, box: Any, kafka: Any, url: str, name: str, **keys: str) -> None:
        self.worker, self.box, self.url, self.name = worker, box, url, name
        self.kafka_clients = KafkaPythonClients({"bootstrap.servers": kafka.bootstrap_servers, **PATIENT})
        self._admin = self.kafka_clients.admin({})
        self._admin.create_topics([NewTopic(name, 2)])
        self.producer = self.kafka_clients.producer({})
        self.file = worker.write(
            name,
            {
                "connector.class": "ElasticsearchSink",
                "connection.url": url,
                "topics": name,
                "schema.ignore": True,
                "key.converter": "StringConverter",
                "behavior.on.null.values": "delete",
                "consumer.override.metadata.max.age.ms": "500",
                **keys,
            },
        )

    def renew_producer(self) -> None:
        """Replace the producer, whose metadata of a deleted topic is outdated."""
        self.producer.close(5)
        self.producer = self.kafka_clients.producer({})

    def produce(self, *records: tuple[str | None, Any]) -> None:
        keys = [None if key is None else key.encode() for key, _ in records]
        values = [None if value is None else json.dumps(value).encode() for _, value in records]
        delivery = self.producer.send(EncodedBatch(self.name, values, keys))
        assert self.producer.flush(60)
        assert delivery.error() is None

    def settled(self) -> bool:
        """Wait until all records are written and committed."""
        try:
            ends = {item: end for item, end in self.ends().items() if end}
            return bool(ends) and self._admin.committed(f"connect-{self.name}") == ends
        except RetriableError:
            return False  # the group's coordinator is just starting

    def ends(self) -> dict[TopicPartition, int]:
        """Return the end offset of each partition."""
        return dict(self._admin.end_offsets([self.name]))

    def close(self) -> None:
        self.producer.close(5)
        self._admin.close()

    def run(self) -> None:
        """Start the worker and wait until all records are written."""
        self.worker.start()
        eventually(self.settled, self.box.timeout)

    def verify(self, *options: str | Path, by_url: bool = False) -> tuple[int, dict[str, Any]]:
        files = [self.worker.worker_file(), *(["--url", self.worker.url] if by_url else [self.file])]
        done = self.box.command("verify", self.name, *files, "--json", *options)
        assert done.returncode in (0, 1, 2), done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}

    def changed_file(self, **changes: str) -> Path:
        """Write the connector's file with other keys, of which the running worker is not informed."""
        path: Path = self.worker.folder / "changed" / self.file.name
        path.parent.mkdir(exist_ok=True)
        config: dict[str, Any] = yaml.safe_load(self.file.read_text())
        path.write_text(yaml.safe_dump(config | changes))
        return path

    def reindex(self, *options: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run ``headrace reindex`` until it ends. ``changes`` of the file are keys with dots."""
        files = [self.worker.worker_file(), self.changed_file(**changes)]
        done: subprocess.CompletedProcess[str] = self.box.command("reindex", self.name, *files, *options)
        return done

    def start_reindex(self, **changes: str) -> subprocess.Popen[str]:
        files = [self.worker.worker_file(), self.changed_file(**changes)]
        arguments = [str(self.box.headrace), "reindex", self.name, *map(str, files)]
        environment = self.box.command_environment()
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    def states(self) -> dict[str, str]:
        """Return generations and their states."""
        done = self.reindex("--status", "--json")
        assert done.returncode == 0, done.stderr
        return {row["generation"]: row["state"] for row in json.loads(done.stdout)}

    def mapping(self) -> dict[str, Any]:
        """Return the fields of the index behind the name."""
        ((_, body),) = HTTP.get(f"{self.url}/{self.name}/_mapping").raise_for_status().json().items()
        found: dict[str, Any] = body["mappings"]["properties"]
        return found

    def documents(self) -> dict[str, Any]:
        found: dict[str, Any] = self.box.documents(self.url, self.name)
        return found

    def put(self, ident: str, document: Any) -> None:
        HTTP.put(f"{self.url}/{self.name}/_doc/{ident}", json=document).raise_for_status()

    def delete(self, ident: str) -> None:
        HTTP.delete(f"{self.url}/{self.name}/_doc/{ident}").raise_for_status()


class Trickle:
    """Writes to the topic until the end of the ``with``: new keys, changed ones, tombstones."""

    def __init__(self, index: Search) -> None:
        self._index = index
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trickle")
        self.error: Exception | None = None
        self.last: dict[str, Any] = {}
        self.count = 0
        """Records so far."""

    def __enter__(self) -> Trickle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        numbers = random.Random(7)
        try:
            while not self._stop.wait(0.02):
                key = f"k{numbers.randrange(400)}"
                value = None if numbers.random() < 0.2 else {"n": numbers.randrange(1_000_000)}
                self._index.produce((key, value))
                self.last[key] = value
                self.count += 1
        except Exception as error:  # shown at the end of the with, on the test's thread
            self.error = error


@pytest.fixture
def trickle() -> Callable[[Search], Trickle]:
    return Trickle


@pytest.fixture
def search(
    make_worker: Callable[..., Any], box: Any, kafka: Any, elasticsearch: Any, unique_name: str
) -> Iterator[Callable[..., Search]]:
    made: list[Search] = []

    def make(**keys: str) -> Search:
        # A configuration that comes over REST may use only listed variables.
        worker = make_worker(
            kafka.bootstrap_servers, config_providers_env_param_allowlist_pattern=canaries.API_KEY_VARIABLE
        )
        made.append(Search(worker, box, kafka, elasticsearch.url, unique_name, **keys))
        return made[-1]

    yield make
    for each in made:
        each.close()
        HTTP.delete(f"{elasticsearch.url}/{unique_name}*")


@pytest.fixture
def filled(search: Callable[..., Search]) -> Callable[..., Search]:
    """An index of at least 300 documents, with a running worker."""

    def make(**keys: str) -> Search:
        index = search(**keys)
        index.produce(*((f"k{number}", {"n": number}) for number in range(300)))
        index.produce(*((f"k{number}", None) for number in range(0, 300, 10)), ("k1", {"n": 1_001}))
        index.produce(*((f"stays{number}", {"n": number}) for number in range(100)))
        index.run()
        assert len(index.documents()) > 300  # searchable from now on
        return index

    return make
