"""``headrace verify`` on real engines: it finds what was tampered with, and mends it beside a running worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from headrace.broker.kafka_python import KafkaPythonBroker
from headrace.broker.ports import NewTopic
from headrace.errors import RetriableError
from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually

CODES = {"equal": 0, "different": 1, "configuration": 2}


class Search:
    """A topic, the sink that indexes it, and what a test does to both."""

    def __init__(self, worker: Any, box: Any, kafka: Any, url: str, name: str, **keys: str) -> None:
        self.worker, self.box, self.url, self.name = worker, box, url, name
        self.broker = KafkaPythonBroker({"bootstrap.servers": kafka.bootstrap_servers})
        admin = self.broker.admin({})
        admin.create_topics([NewTopic(name, 2)])
        admin.close()
        self.producer = self.broker.producer({})
        self.file = worker.write(
            name,
            {
                "connector.class": "ElasticsearchSink",
                "connection.url": url,
                "topics": name,
                "schema.ignore": True,
                "key.converter": "StringConverter",
                "behavior.on.null.values": "delete",
                "index.settings.gc_deletes": "0ms",
                "consumer.override.metadata.max.age.ms": "500",
                **keys,
            },
        )

    def produce(self, *records: tuple[str | None, Any]) -> None:
        keys = [None if key is None else key.encode() for key, _ in records]
        values = [None if value is None else json.dumps(value).encode() for _, value in records]
        delivery = self.producer.send(EncodedBatch(self.name, values, keys))
        assert self.producer.flush(60)
        assert delivery.error() is None

    def settled(self) -> bool:
        """All is written and committed."""
        admin = self.broker.admin({})
        try:
            ends = {item: end for item, end in admin.end_offsets([self.name]).items() if end}
            return bool(ends) and admin.committed(f"connect-{self.name}") == ends
        except RetriableError:
            return False  # the group's coordinator is just starting
        finally:
            admin.close()

    def run(self) -> None:
        """Start the worker and wait until all is written."""
        self.worker.start()
        eventually(self.settled, self.box.patience)

    def verify(self, *options: str | Path, by_url: bool = False) -> tuple[int, dict[str, Any]]:
        files = [self.worker.worker_file(), *(["--url", self.worker.url] if by_url else [self.file])]
        done = self.box.command("verify", self.name, *files, "--json", *options)
        assert done.returncode in CODES.values(), done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else {"stderr": done.stderr}

    def documents(self) -> dict[str, Any]:
        found: dict[str, Any] = self.box.documents(self.url, self.name)
        return found

    def put(self, ident: str, document: Any) -> None:
        httpx.put(f"{self.url}/{self.name}/_doc/{ident}", json=document, timeout=30).raise_for_status()

    def delete(self, ident: str) -> None:
        httpx.delete(f"{self.url}/{self.name}/_doc/{ident}", timeout=30).raise_for_status()


@pytest.fixture
def search(
    make_worker: Callable[..., Any], box: Any, kafka: Any, elasticsearch: Any, unique_name: str
) -> Iterator[Callable[..., Search]]:
    made: list[Search] = []

    def make(**keys: str) -> Search:
        made.append(Search(make_worker(kafka.bootstrap_servers), box, kafka, elasticsearch.url, unique_name, **keys))
        return made[-1]

    yield make
    for each in made:
        each.producer.close(5)
        httpx.delete(f"{elasticsearch.url}/{unique_name}*", timeout=30)


def test_tampering_is_found_and_mended_beside_a_running_worker(search: Callable[..., Search]) -> None:
    index = search()
    index.produce(*((f"k{number}", {"n": number, "price": 1.50}) for number in range(300)))
    index.produce(("k7", {"n": 70}), ("k8", None))
    index.run()
    right = index.documents()
    assert len(right) == 299

    code, report = index.verify()
    assert (code, report["equal"], report["records"], report["found"]) == (0, True, 302, 299)

    index.delete("k1")
    index.put("k2", {"n": -1})
    index.put("k8", {"n": -2})
    index.put("z", {"n": -3})
    code, report = index.verify(by_url=True)
    assert code == 1
    assert {(item["kind"], item["name"].removeprefix(f"{index.name}/")) for item in report["samples"]} == {
        ("missing", "k1"),
        ("stale", "k2"),
        ("extra", "k8"),
        ("extra", "z"),
    }

    code, report = index.verify("--repair")
    assert (code, report["repaired"], report["unrepaired"]) == (0, 4, 0), report
    assert index.documents() == right
    code, report = index.verify()
    assert (code, report["equal"]) == (0, True)

    # Documents that were repaired take later records as before.
    later = {"k1": {"n": 1001}, "k2": {"n": 1002}, "k8": {"n": 1008}}
    index.produce(*later.items())
    eventually(lambda: index.documents() == right | later, index.box.patience)


def test_records_without_keys_are_named_by_their_place(search: Callable[..., Search]) -> None:
    index = search(**{"key.ignore": "true"})
    index.produce(*((None, {"n": number}) for number in range(50)))
    index.run()
    right = index.documents()
    assert index.verify()[0] == 0

    (first, *_) = right
    index.delete(first)
    code, report = index.verify()
    assert (code, report["missing"], report["samples"][0]["name"]) == (1, 1, f"{index.name}/{first}")
    assert index.verify("--repair")[0] == 0
    assert index.documents() == right


def test_a_schema_with_decimals_and_dates_is_compared_by_content(search: Callable[..., Search]) -> None:
    index = search(**{"schema.ignore": "false", "value.converter": "JsonConverter"})
    fields = [
        {"field": "d", "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "version": 1,
         "parameters": {"scale": "2"}},
        {"field": "on", "type": "int32", "name": "org.apache.kafka.connect.data.Date", "version": 1},
        {"field": "at", "type": "int64", "name": "org.apache.kafka.connect.data.Timestamp", "version": 1},
    ]  # fmt: skip
    envelope = {"schema": {"type": "struct", "fields": fields}, "payload": {"d": "AJY=", "on": 19723, "at": 17}}
    index.produce(("a", envelope))
    index.run()

    assert index.documents() == {"a": {"d": 1.5, "on": "2024-01-01", "at": 17}}
    assert index.verify()[0] == 0


@pytest.mark.parametrize(
    ("keys", "code"),
    [({"write.method": "upsert"}, "verify.not_supported"), ({"use.autogenerated.ids": "true"}, "verify.not_supported")],
)
def test_what_cannot_be_proven_is_said(search: Callable[..., Search], keys: dict[str, str], code: str) -> None:
    index = search(**keys)
    index.produce(("a", {"n": 1}))
    status, report = index.verify()

    assert status == CODES["configuration"]
    assert code in report["stderr"]


def test_names_that_are_wrong(search: Callable[..., Search]) -> None:
    index = search()
    worker = index.worker.worker_file()

    done = index.box.command("verify", "serach", worker, index.file)
    assert done.returncode == 2
    assert "config.missing_connector" in done.stderr
    done = index.box.command("verify", index.name, worker, "--url", "http://127.0.0.1:1")
    assert done.returncode == 3
    done = index.box.command("verify", index.name, index.file)
    assert done.returncode == 2
    assert "worker" in done.stderr


def test_a_source_has_nothing_to_verify(search: Callable[..., Search]) -> None:
    index = search()
    file = index.worker.folder / "gen.yaml"
    file.write_text(yaml.safe_dump({"name": "gen", "connector.class": "DatagenSource", "topic": index.name}))
    done = index.box.command("verify", "gen", index.worker.worker_file(), file)

    assert done.returncode == 2
    assert "is a source" in done.stderr
