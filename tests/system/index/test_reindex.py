"""``headrace reindex`` on real engines, beside a worker that writes all the while."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import kafka as kafka_python
import pytest

from headrace.testing.faults import HttpProxy
from headrace.testing.faults.answers import HangUpError
from headrace.testing.waiting import eventually

Search = Any
KEYWORD = {"mapping.fields.n": "keyword"}


class Kill:
    """``kill -9`` of the command when its request arrives, before or after Elasticsearch has done it."""

    def __init__(self, *, done: bool) -> None:
        self.done = done
        self.process: subprocess.Popen[str] | None = None
        self.armed = threading.Event()

    def answer(self, request: Any, passage: Any) -> Any:
        assert self.armed.wait(60)
        assert self.process is not None
        if self.done:
            passage.forward(request)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        raise HangUpError


class Reader:
    """Somebody who searches all the while: the index is never away and never empty."""

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
            answer = httpx.get(f"{self._index.url}/{self._index.name}/_count", timeout=30)
            self.searches += 1
            if answer.status_code != 200 or answer.json()["count"] < self._least:
                there = httpx.get(f"{self._index.url}/_alias/{self._index.name}", timeout=30).text
                self.wrong.append((answer.text[:600], there))


@pytest.fixture
def filled(search: Callable[..., Search]) -> Callable[..., Search]:
    """An index of 300 documents and more, with a worker that runs."""

    def make(**keys: str) -> Search:
        index = search(**keys)
        index.produce(*((f"k{number}", {"n": number}) for number in range(300)))
        index.produce(*((f"k{number}", None) for number in range(0, 300, 10)), ("k1", {"n": 1_001}))
        index.produce(*((f"stays{number}", {"n": number}) for number in range(100)))
        index.run()
        assert len(index.documents()) > 300  # searchable from now on
        return index

    return make


def settled(index: Search) -> None:
    eventually(index.settled, index.box.patience)
    code, report = index.verify()
    assert (code, report["equal"]) == (0, True), report


def test_there_and_back_under_load_without_a_moment_away(
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
            eventually(lambda: written.count > before + 20, index.box.patience)
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


STEPS = [
    ("the write block", r"/_block/write", 0, False),
    ("the write block, done", r"/_block/write", 0, True),
    ("the copy", r"/_clone/", 0, False),
    ("the copy, done", r"/_clone/", 0, True),
    ("the copy becomes what the alias means", r"/_aliases", 0, False),
    ("the copy is what the alias means", r"/_aliases", 0, True),
    ("the new generation is made", r"-000002$", 1, True),
    ("backfill", r"/_bulk", 0, False),
    ("backfill, done", r"/_bulk", 0, True),
    ("positions are noted", r"-000002/_mapping", 0, True),
    ("the previous one is noted", r"-000001/_mapping", 1, True),
    ("the switch", r"/_aliases", 1, False),
    ("the switch, done", r"/_aliases", 1, True),
    ("the end is noted", r"-000002/_mapping", 1, False),
]


def killed(index: Search, proxy: HttpProxy, path: str, nth: int, *, done: bool) -> None:
    """Start a rebuild through the proxy and kill it at that request."""
    kill = Kill(done=done)
    proxy.play(*[None] * nth, kill, path=path)
    kill.process = index.start_reindex(**KEYWORD, **{"connection.url": proxy.url})
    kill.armed.set()
    output, _ = kill.process.communicate(timeout=index.box.patience)
    assert kill.process.returncode == -signal.SIGKILL, output
    assert proxy.left == 0


@pytest.mark.parametrize(("path", "nth", "done"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_killed_at_any_step_it_goes_on(
    filled: Callable[..., Search], trickle: Callable[..., Any], elasticsearch: Any, path: str, nth: int, done: bool
) -> None:
    index = filled()
    with trickle(index), HttpProxy(elasticsearch.url) as proxy:
        killed(index, proxy, path, nth, done=done)
        again = index.reindex(**KEYWORD)
        assert again.returncode == 0, again.stderr + again.stdout
    settled(index)
    assert index.mapping() == {"n": {"type": "keyword"}}
    assert index.states() == {f"{index.name}-000001": "old", f"{index.name}-000002": "live"}


@pytest.mark.parametrize(
    ("path", "nth", "done"),
    [(r"/_block/write", 0, True), (r"/_clone/", 0, True), (r"/_bulk", 0, True), (r"-000001/_mapping", 1, True)],
)
def test_killed_before_the_switch_it_can_be_undone(
    filled: Callable[..., Search], trickle: Callable[..., Any], elasticsearch: Any, path: str, nth: int, done: bool
) -> None:
    index = filled()
    with trickle(index) as written, HttpProxy(elasticsearch.url) as proxy:
        killed(index, proxy, path, nth, done=done)
        undone = index.reindex("--abort")
        assert undone.returncode == 0, undone.stderr
        before = written.count
        eventually(lambda: written.count > before + 5, index.box.patience)
    settled(index)
    assert index.mapping() == {"n": {"type": "long"}}
    assert set(index.states().values()) == {"live"}
    assert len(index.states()) == 1


def test_a_rollback_that_was_killed_goes_on(
    filled: Callable[..., Search], trickle: Callable[..., Any], elasticsearch: Any
) -> None:
    index = filled(**{"index.generations": "true"})
    assert index.reindex(**KEYWORD).returncode == 0
    with trickle(index), HttpProxy(elasticsearch.url) as proxy:
        kill = Kill(done=True)
        proxy.play(kill, path="/_aliases")
        files = [index.worker.worker_file(), index.changed_file(**{"connection.url": proxy.url})]
        kill.process = subprocess.Popen(
            [str(index.box.headrace), "reindex", index.name, *map(str, files), "--rollback"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        kill.armed.set()
        output, _ = kill.process.communicate(timeout=index.box.patience)
        assert kill.process.returncode == -signal.SIGKILL, output

        refused = index.reindex()  # a rebuild while a rollback is not finished
        assert refused.returncode == 2
        assert "reindex.unfinished" in refused.stderr
        assert index.reindex("--abort").returncode == 2
        done = index.reindex("--rollback")
        assert done.returncode == 0, done.stderr
    settled(index)
    assert index.states() == {f"{index.name}-000001": "live", f"{index.name}-000002": "old"}


def test_documents_whose_records_are_gone_are_not_lost_unasked(filled: Callable[..., Search], kafka: Any) -> None:
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


def test_what_retention_has_removed_comes_again_from_the_source(
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
    index.run()
    eventually(lambda: len(index.documents()) == 80, index.box.patience)
    right = index.documents()
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.delete_records({kafka_python.TopicPartition(*place): end for place, end in index.ends().items()})
    admin.close()
    refused = index.reindex(**KEYWORD)
    assert "reindex.would_lose" in refused.stderr

    # A source by another name has no positions yet: it reads all rows once more, to the same topic.
    again = {"name": "rows-again", "config": {"name": "rows-again", **source}}
    httpx.post(f"{index.worker.url}/connectors", json=again, timeout=30).raise_for_status()
    eventually(lambda: sum(index.ends().values()) == 160, index.box.patience)
    done = index.reindex(**KEYWORD)
    assert done.returncode == 0, done.stderr
    assert index.mapping()["n"] == {"type": "keyword"}
    assert index.documents() == right


def test_a_new_generation_that_refuses_documents_is_not_switched_to(filled: Callable[..., Search]) -> None:
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
def test_what_cannot_be_rebuilt_is_said(search: Callable[..., Search], keys: dict[str, str], code: str) -> None:
    index = search()
    changes = {key: value.replace("{name}", index.name) for key, value in keys.items()}
    done = index.reindex(**changes)

    assert done.returncode == 2, done.stderr
    assert code in done.stderr


def test_options_that_contradict_each_other(search: Callable[..., Search]) -> None:
    done = search().reindex("--abort", "--rollback")

    assert done.returncode == 2
    assert "cli.conflicting_options" in done.stderr
