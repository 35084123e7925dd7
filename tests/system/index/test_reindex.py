"""``headrace reindex`` on real engines, while a worker writes to the index."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import kafka as kafka_python
import pytest

from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.system.index.rebuilding import KEYWORD, settled

Search = Any


class Reader:
    """Searches continuously, and checks that the index is never missing and never empty."""

    def __init__(self, index: Search, least: int) -> None:
        self._index, self._least = index, least
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader")
        self.searches = 0
        self.wrong: list[Any] = []

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            answer = HTTP.get(f"{self._index.url}/{self._index.name}/_count")
            self.searches += 1
            if answer.status_code != 200 or answer.json()["count"] < self._least:
                there = HTTP.get(f"{self._index.url}/_alias/{self._index.name}").text
                self.wrong.append((answer.text[:600], there))


def test_an_index_is_rebuilt_and_rolled_back_under_load_without_downtime(
    filled: Callable[..., Search], trickle: Callable[..., Any]
) -> None:
    index = filled(**{"index.generations": "true"})
    assert index.mapping() == {"n": {"type": "long"}}
    with trickle(index) as written:
        with Reader(index, 100) as reader:
            done = index.reindex(**KEYWORD)
            assert done.returncode == 0, done.stderr + done.stdout
            assert index.states() == {f"{index.name}-000001": "old", f"{index.name}-000002": "live"}
            assert index.mapping() == {"n": {"type": "keyword"}}

            before = written.count
            eventually(lambda: written.count > before + 20, index.box.timeout)
            done = index.reindex("--rollback")
            assert done.returncode == 0, done.stderr
            assert index.states() == {f"{index.name}-000001": "live", f"{index.name}-000002": "old"}
            assert index.mapping() == {"n": {"type": "long"}}
        assert reader.searches > 0
        assert not reader.wrong, "\n".join(map(str, reader.wrong))
    settled(index)
    assert {key: value for key, value in index.documents().items() if key in written.last} == {
        key: value for key, value in written.last.items() if value is not None
    }

    done = index.reindex(**KEYWORD)
    assert done.returncode == 0, done.stderr
    settled(index)
    done = index.reindex("--drop-old")
    assert done.returncode == 0, done.stderr
    assert index.states() == {f"{index.name}-000003": "live"}


def test_documents_without_records_are_lost_only_on_request(filled: Callable[..., Search], kafka: Any) -> None:
    index = filled()
    right = index.documents()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.delete_records({kafka_python.TopicPartition(index.name, 0): 50})
    admin.close()

    done = index.reindex(**KEYWORD)
    assert done.returncode == 2, done.stdout
    assert "reindex.would_lose" in done.stderr
    assert "gone from the topic" in done.stderr
    assert index.documents() == right
    assert index.mapping() == {"n": {"type": "long"}}

    done = index.reindex("--accept-lost", **KEYWORD)
    assert done.returncode == 0, done.stderr
    assert index.mapping() == {"n": {"type": "keyword"}}
    assert 0 < len(index.documents()) < len(right)
    # Nothing is lost as long as the previous generation is there.
    assert index.reindex("--rollback").returncode == 0
    assert index.documents() == right


def test_records_removed_by_retention_are_sent_again_by_the_source(
    search: Callable[..., Search], kafka: Any, tmp_path: Path
) -> None:
    json_keys = {"key.converter": "JsonConverter", "key.converter.schemas.enable": "false"}
    index = search(**json_keys)
    database = tmp_path / "rows.sqlite"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, n INTEGER)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", [(number, number % 7) for number in range(1, 81)])
    source = {
        **json_keys,
        "connector.class": "SqlSource",
        "connection.url": f"sqlite:///{database}",
        "query": "SELECT * FROM rows",
        "mode": "incrementing",
        "incrementing.column.name": "id",
        "pk.fields": "id",
        "topic.prefix": index.name,
    }
    index.worker.write("rows", source)
    index.worker.settings["connector.files.allowed.paths"] = str(tmp_path)  # for the one that comes over REST
    index.run()
    eventually(lambda: len(index.documents()) == 80, index.box.timeout)
    right = index.documents()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.delete_records({kafka_python.TopicPartition(*place): end for place, end in index.ends().items()})
    admin.close()
    refused = index.reindex(**KEYWORD)
    assert "reindex.would_lose" in refused.stderr

    # A source by another name has no positions yet: it reads all rows once more, to the same topic.
    again = {"name": "rows-again", "config": {"name": "rows-again", **source}}
    HTTP.post(f"{index.worker.url}/connectors", json=again).raise_for_status()
    eventually(lambda: sum(index.ends().values()) == 160, index.box.timeout)
    done = index.reindex(**KEYWORD)
    assert done.returncode == 0, done.stderr
    assert index.mapping()["n"] == {"type": "keyword"}
    assert index.documents() == right


def test_the_alias_does_not_switch_to_a_generation_that_refuses_documents(filled: Callable[..., Search]) -> None:
    index = filled()
    right = index.documents()
    done = index.reindex(**{"mapping.fields.n": "ip", "behavior.on.malformed.documents": "warn"})

    assert done.returncode == 2
    assert "reindex.would_lose" in done.stderr
    assert index.documents() == right


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"write.method": "upsert"}, "verify.not_supported"),
        ({"index.name": "x-{value:n}"}, "reindex.not_supported"),
        ({"external.resource.usage": "INDEX", "topic.to.external.resource.mapping": "{name}:x"}, "reindex.not_supp"),
    ],
)
def test_an_unsupported_configuration_is_refused_with_the_reason(
    search: Callable[..., Search], keys: dict[str, str], code: str
) -> None:
    index = search()
    changes = {key: value.replace("{name}", index.name) for key, value in keys.items()}
    done = index.reindex(**changes)

    assert done.returncode == 2, done.stderr
    assert code in done.stderr


def test_conflicting_options_are_refused(search: Callable[..., Search]) -> None:
    done = search().reindex("--abort", "--rollback")

    assert done.returncode == 2
    assert "cli.conflicting_options" in done.stderr
