"""Stream applications in one worker on real Kafka, over inputs that are complete before the worker starts.

A backlog is where joins and windows go wrong: one topic is read ahead of another. All applications start together, and
each test looks at one of them; the last one restarts the worker.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from headrace.broker.interfaces import NewTopic
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.records import EncodedBatch
from headrace.testing.waiting import eventually
from tests.engines.addresses import KafkaAddress
from tests.engines.http import HTTP

START = 1_790_000_000_000
FAR = START + 10_000_000
VIEWS, CLICKED_EACH = 6_000, 3
ORDERED = 8_000
KEYS = 20_000
TOPICS = {
    "apps-views": 2, "apps-clicks": 2, "apps-left": 1, "apps-right": 1, "apps-events": 2,
    "apps-labels": 1, "apps-seconds": 1, "apps-days": 1,
}  # fmt: skip
LABELS = {
    "inputs": {
        "views": {"topic": "apps-views", "time": "at", "key": "id"},
        "clicks": {"topic": "apps-clicks", "time": "at", "key": "id"},
    },
    "steps": {
        "labelled": {
            "join": {"type": "left", "left": "views", "right": "clicks", "by": "id", "within": "10s", "grace": "1s"}
        },
        "labels": {"select": {"id": "id", "clicked": "clicks IS NOT NULL"}},
    },
    "outputs": {"labels": {"topic": "apps-labels", "from": "labels"}},
}
# At most 1,000 records of a partition, here 1 s of event time, are processed before those of another one.
SECONDS = {
    "inputs": {"left": {"topic": "apps-left", "time": "at"}, "right": {"topic": "apps-right", "time": "at"}},
    "steps": {
        "both": {"merge": "left,right"},
        "counted": {"window": {"by": "bucket", "tumbling": "1s", "grace": "1500ms", "aggregate": {"n": "count(*)"}}},
    },
    "outputs": {"seconds": {"topic": "apps-seconds", "from": "counted"}},
}
DAYS = {
    "inputs": {"events": {"topic": "apps-events", "time": "at", "key": "id"}},
    "steps": {"counted": {"window": {"by": "id", "tumbling": "1d", "grace": 0, "aggregate": {"n": "count(*)"}}}},
    "outputs": {"days": {"topic": "apps-days", "from": "counted"}},
}


class Topics:
    """Writes inputs and reads what is committed."""

    def __init__(self, bootstrap: str) -> None:
        self._clients = LibrdkafkaClients({"bootstrap.servers": bootstrap})
        self.admin = self._clients.admin({})
        settings = {"retention.ms": "-1"}
        self.admin.create_topics(NewTopic(name, count, config=settings) for name, count in TOPICS.items())

    def send(self, topic: str, rows: Sequence[Mapping[str, Any]]) -> None:
        producer = self._clients.producer({})
        batch = EncodedBatch(topic, [json.dumps(row).encode() for row in rows], [b"%d" % row["id"] for row in rows])
        delivery = producer.send(batch)
        assert producer.flush(60)
        assert delivery.error() is None
        producer.close(5)

    def rows(self, topic: str) -> list[dict[str, Any]]:
        ends = self.admin.end_offsets([topic])
        reader = self._clients.reader({})
        found: list[dict[str, Any]] = []
        try:
            reader.assign(dict.fromkeys(ends, 0))
            while any(reader.positions().get(place, 0) < end for place, end in ends.items()):
                for batch in reader.poll(0.5, 20_000):
                    found += [json.loads(value or b"null") for value in batch.values]
        finally:
            reader.close()
        return found

    def processed(self, name: str, topic: str) -> bool:
        committed = self.admin.committed(f"connect-{name}")
        ends = self.admin.end_offsets([topic])
        return all(committed.get(place, 0) >= end for place, end in ends.items())


@pytest.fixture(scope="module")
def topics(kafka: KafkaAddress) -> Iterator[Topics]:
    made = Topics(kafka.bootstrap_servers)
    yield made
    made.admin.close()


@pytest.fixture(scope="module")
def worker(topics: Topics, kafka: KafkaAddress, box: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A worker with all applications, started when their inputs are complete."""
    views = [{"id": n, "at": START + n * 10} for n in range(VIEWS)]
    clicks = [{"id": n, "at": START + n * 10 + 5_000} for n in range(0, VIEWS, CLICKED_EACH)]
    ends = [{"id": -n, "at": FAR} for n in range(1, 50)]  # in every partition; they close what is open
    topics.send("apps-views", [*views, *ends])
    topics.send("apps-clicks", [*clicks, *ends])
    for topic in ("apps-left", "apps-right"):
        rows = [{"id": n, "bucket": n % 5, "at": START + n} for n in range(ORDERED)]
        topics.send(topic, [*rows, *({"id": 0, "bucket": n, "at": FAR} for n in range(5))])
    topics.send("apps-events", [{"id": n, "at": START} for n in range(KEYS)])
    folder = tmp_path_factory.mktemp("applications")
    made = box.worker_process(folder, kafka.bootstrap_servers, {"state.dir": str(folder / "state")})
    for name, config in (("labels", LABELS), ("seconds", SECONDS), ("days", DAYS)):
        made.write(name, {"connector.class": "Stream", "commit.interval.ms": "100", **config})
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()


def wait_until_processed(topics: Topics, box: Any, name: str, *inputs: str) -> None:
    def processed() -> bool:
        """all records of the inputs are committed"""
        return all(topics.processed(name, topic) for topic in inputs)

    eventually(processed, box.timeout)


def test_each_left_record_of_a_backlog_has_one_result(worker: Any, topics: Topics, box: Any) -> None:
    wait_until_processed(topics, box, "labels", "apps-views", "apps-clicks")

    eventually(lambda: sum(row["id"] >= 0 for row in topics.rows("apps-labels")) >= VIEWS, box.timeout)

    found = Counter((row["id"], row["clicked"]) for row in topics.rows("apps-labels") if row["id"] >= 0)
    assert found == Counter((n, n % CLICKED_EACH == 0) for n in range(VIEWS))


def test_topics_that_are_read_ahead_make_no_record_late(worker: Any, topics: Topics, box: Any) -> None:
    wait_until_processed(topics, box, "seconds", "apps-left", "apps-right")

    def counted() -> bool:
        """the windows of all records have closed"""
        return sum(int(row["n"]) for row in topics.rows("apps-seconds")) >= 2 * ORDERED

    eventually(counted, box.timeout)
    windows = {(row["bucket"], row["window_start"]): row["n"] for row in topics.rows("apps-seconds")}
    assert len(topics.rows("apps-seconds")) == len(windows)
    first = START // 1000 * 1000
    expected = Counter((n % 5, first + (START - first + n) // 1000 * 1000) for n in range(ORDERED))
    assert windows == {window: 2 * count for window, count in expected.items()}
    metrics = {task["connector"]: task["metrics"] for task in worker.get("/v1/metrics")["tasks"]}
    assert metrics["seconds"].get("stream_late_total", 0) == 0


def test_a_restart_reads_a_checkpoint_and_not_the_whole_changelog(worker: Any, topics: Topics, box: Any) -> None:
    wait_until_processed(topics, box, "days", "apps-events")
    window = {"id": 7, "window_start": START // 86_400_000 * 86_400_000, "n": 1}
    shown = worker.get("/v1/streams/days/state/counted/7")["entries"][0]
    assert {name: shown[name] for name in window} == window
    assert worker.stop() == 0
    changelog = sum(topics.admin.end_offsets(["days-counted-changelog"]).values())
    assert changelog >= KEYS
    topics.send("apps-events", [{"id": 7, "at": START}])

    worker.start()

    wait_until_processed(topics, box, "days", "apps-events")

    def counted() -> bool:
        """the state has both records of the key"""
        answer = HTTP.get(f"{worker.url}/v1/streams/days/state/counted/7").json()
        return [item["n"] for item in answer.get("entries", [])] == [2]

    eventually(counted, box.timeout)
    assert worker.get("/v1/streams/days/state/counted/19999")["entries"][0]["n"] == 1
    restored = [task["metrics"] for task in worker.get("/v1/metrics")["tasks"] if task["connector"] == "days"]
    assert sum(metrics.get("stream_restored_total", 0) for metrics in restored) < KEYS // 10
    assert worker.stop() == 0
