"""Record what a JVM worker of Kafka Connect stores in its three topics, with file and JDBC connectors.

HEADRACE_TEST_CONNECT_PLUGINS=FOLDER python scripts/record_connect_topics.py

writes tests/golden/connect_group/topics.jsonl. ``FOLDER`` has Aiven's JDBC source, which scripts/build_competitors.py
builds; all else comes from Maven Central by the lock files. Addresses, folders, times, versions and generations are
replaced, so that no record depends on the machine or the time. The session key is left out.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
from sqlalchemy import make_url

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from headrace.broker.kafka_python import KafkaPythonClients  # noqa: E402 - the folder of the project is not on the path
from headrace.embedded import EmbeddedStack  # noqa: E402
from headrace.testing.waiting import eventually  # noqa: E402
from tests.engines.connect import PLUGINS_VARIABLE, ConnectWorker  # noqa: E402
from tests.golden.connect.requests import SINK, SOURCE  # noqa: E402
from tests.golden.connect_group.topics import FILE, TOPICS  # noqa: E402

_TIMEOUT = 120.0
_STRING = "org.apache.kafka.connect.storage.StringConverter"
_SETTINGS = {
    "group.id": "recorded",
    "key.converter": _STRING,
    "value.converter": _STRING,
    "offset.flush.interval.ms": "200",
    "scheduled.rebalance.max.delay.ms": "0",
    **{f"{kind}.storage.replication.factor": "1" for kind in ("config", "offset", "status")},
    **dict(zip((f"{kind}.storage.topic" for kind in ("config", "offset", "status")), TOPICS, strict=True)),
}
_JDBC = {
    "connector.class": "io.aiven.connect.jdbc.JdbcSourceConnector",
    "poll.interval.ms": "200",
    "table.whitelist": "orders",
    "incrementing.column.name": "id",
    "timestamp.column.name": "updated_at",
}
_MODES = {
    "by-id": ("mode", "topic.prefix", "incrementing.column.name", "table.whitelist"),
    "by-time": ("mode", "topic.prefix", "timestamp.column.name", "table.whitelist"),
    "by-both": ("mode", "topic.prefix", "incrementing.column.name", "timestamp.column.name", "table.whitelist"),
    "by-query": ("mode", "topic.prefix", "incrementing.column.name", "query"),
}
_TABLE = """
CREATE TABLE orders (id bigserial PRIMARY KEY, updated_at timestamp NOT NULL);
INSERT INTO orders (updated_at) VALUES ('2026-01-01 00:00:00.007'), ('2026-01-01 00:00:01.123456');
"""


def main() -> int:
    """Write the records, after all positions were stored."""
    if not os.environ.get(PLUGINS_VARIABLE):
        raise SystemExit(f"set {PLUGINS_VARIABLE} to a folder with Aiven's JDBC source")
    with tempfile.TemporaryDirectory(prefix="connect-topics-") as name:
        folder = Path(name)
        (folder / "input.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
        stack = EmbeddedStack(folder / "data", engines=("kafka", "postgres"))
        stack.start()
        worker = ConnectWorker(folder / "connect", stack.kafka.bootstrap_servers, _SETTINGS)
        try:
            worker.start()
            records = list(_record(worker, stack, folder))
        finally:
            worker.stop()
            stack.stop()
        replaced = {str(folder): "/folder", f"127.0.0.1:{worker.port}": "jvm:8083"}
        replaced[str(make_url(stack.postgres.url).port)] = "5432"
    lines = [_replaced(json.dumps(item, separators=(",", ":"), ensure_ascii=False), replaced) for item in records]
    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} records of Kafka Connect {worker.version}, {FILE.stat().st_size:,} bytes")
    return 0


def _record(worker: ConnectWorker, stack: EmbeddedStack, folder: Path) -> Iterator[dict[str, Any]]:
    url = make_url(stack.postgres.url)
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(False), autocommit=True) as connection:
        connection.execute(_TABLE)
    lines = {"connector.class": SOURCE, "file": str(folder / "input.txt"), "topic": "lines"}
    _create(worker, "lines", lines)
    _create(worker, "copy", {"connector.class": SINK, "file": str(folder / "output.txt"), "topics": "lines"})
    for name in ("paused", "stopped"):
        _create(worker, name, lines)
    for name, keys in _MODES.items():
        mode = {"by-time": "timestamp", "by-both": "timestamp+incrementing"}.get(name, "incrementing")
        own = {**_JDBC, "mode": mode, "topic.prefix": f"{name}.", "query": "SELECT * FROM orders"}
        jdbc = f"jdbc:postgresql://{url.host}:{url.port}/{url.database}"
        login = {
            "connection.url": jdbc,
            "connection.user": url.username or "",
            "connection.password": url.password or "",
        }
        _create(worker, name, {**{key: own[key] for key in ("connector.class", "poll.interval.ms", *keys)}, **login})
    for name in ("lines", "paused", "stopped", *_MODES):
        eventually(lambda name=name: _offsets(worker, name), _TIMEOUT)  # type: ignore[misc]
    eventually((folder / "output.txt").exists, _TIMEOUT)
    for name, state in (("paused", "pause"), ("stopped", "stop")):
        httpx.put(f"{worker.url}/connectors/{name}/{state}", timeout=60).raise_for_status()
        wanted = state.upper().replace("PAUSE", "PAUSED").replace("STOP", "STOPPED")
        eventually(lambda name=name, wanted=wanted: _state(worker, name) == wanted, _TIMEOUT)  # type: ignore[misc]
    worker.stop()
    clients = KafkaPythonClients({"bootstrap.servers": stack.kafka.bootstrap_servers})
    latest: dict[tuple[str, str], str | None] = {}
    with closing(clients.admin({})) as admin, closing(clients.reader({})) as reader:
        for topic in TOPICS:
            ends = admin.end_offsets([topic])
            reader.assign(admin.begin_offsets([topic]))
            while any(reader.positions()[place] < end for place, end in ends.items()):
                for batch in reader.poll(1, 10_000):
                    for text, data in zip(batch.keys, batch.values, strict=True):
                        entry = topic, (text or b"").decode()
                        latest.pop(entry, None)  # at the place of its last record, as after compaction
                        latest[entry] = None if data is None else data.decode()
    ordered = list(latest.items())
    for topic in TOPICS:
        found = [(key, value) for (place, key), value in ordered if place == topic and key != "session-key"]
        # The order of records has a meaning in the config topic only; it differs from run to run in the others.
        for key, value in found if topic == TOPICS[0] else sorted(found):
            yield {"topic": topic, "key": key, "value": value}


def _create(worker: ConnectWorker, name: str, config: Mapping[str, str]) -> None:
    def created() -> bool:
        answer = httpx.put(f"{worker.url}/connectors/{name}/config", json=dict(config), timeout=60)
        if answer.status_code == 400:
            raise RuntimeError(answer.text)
        return answer.status_code in (200, 201)  # 409 while the group rebalances

    eventually(created, _TIMEOUT)


def _offsets(worker: ConnectWorker, name: str) -> list[Any]:
    answer = httpx.get(f"{worker.url}/connectors/{name}/offsets", timeout=60)
    return list(answer.json()["offsets"]) if answer.status_code == 200 else []


def _state(worker: ConnectWorker, name: str) -> str:
    answer = httpx.get(f"{worker.url}/connectors/{name}/status", timeout=60)
    return str(answer.json()["connector"]["state"]) if answer.status_code == 200 else ""


def _replaced(text: str, replaced: Mapping[str, str]) -> str:
    for known, other in replaced.items():
        text = text.replace(known, other)
    text = re.sub(r'(\\"generation\\":)\d+', r"\g<1>1", text)
    text = re.sub(r'(\\"discoverTimestamp\\":)\d+', r"\g<1>0", text)
    # Some statuses have a version, others not: it depends on when the JVM has loaded the class.
    return re.sub(r'(\\"version\\":)(?:null|\\".*?\\")', r"\g<1>null", text)


if __name__ == "__main__":
    sys.exit(main())
