"""Engines behind fault proxies and one worker, for the cases of the fault table."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    NewTopic,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from sqlalchemy import make_url

from headrace.broker.interfaces import Admin
from headrace.broker.kafka_python import KafkaPythonClients
from headrace.broker.librdkafka import LibrdkafkaClients
from headrace.embedded import Kafka
from headrace.testing.faults import HttpProxy, TcpProxy
from headrace.testing.waiting import eventually
from tests.engines.addresses import libpq_url
from tests.engines.http import HTTP

HEALED = 60.0
"""Seconds until a connector must be well again."""


class World:
    """The engines behind their proxies, the worker, and helpers of the cases."""

    def __init__(
        self, folder: Path, kafka: Kafka, postgres: str, elasticsearch: str, box: Any, **settings: str
    ) -> None:
        """``settings``: further keys of the worker, with underscores for dots."""
        self._settings = {name.replace("_", "."): value for name, value in settings.items()}
        self.folder = folder
        self.kafka = kafka
        self.database = postgres
        self.elasticsearch = elasticsearch
        url = make_url(postgres)
        self.sql_proxy = TcpProxy(f"{url.host}:{url.port}")
        self.kafka_proxy = TcpProxy(f"127.0.0.1:{kafka.port}")
        self.search_proxy = HttpProxy(elasticsearch)
        self.search_wire = TcpProxy(self.search_proxy.url.removeprefix("http://"))
        kafka.brokers[0].advertised_port = self.kafka_proxy.port
        self._make_process, self._command = box.worker_process, box.command
        self.worker: Any = None
        self.names: list[str] = []

    def start(self) -> None:
        # For configurations sent over REST; case 1 keeps its password in a file.
        allowed = {"config.providers.file.param.allowed.paths": str(self.folder)}
        self.worker = self.process("worker", **allowed, **self._settings)
        self.sql("CREATE TABLE watched (id serial PRIMARY KEY)")
        self.watched = self.worker.write("watched", self.source_config("watched"))
        self.worker.start()

    def process(self, name: str, **settings: str) -> Any:
        folder = self.folder / f"{name}-{uuid.uuid4().hex[:6]}"
        folder.mkdir()
        short = {f"{client}.request.timeout.ms": "2000" for client in ("producer", "consumer", "admin")}
        return self._make_process(
            folder, self.kafka_proxy.address, {**short, "offset.flush.interval.ms": "200", **settings}
        )

    def close(self) -> None:
        for proxy in (self.sql_proxy, self.kafka_proxy, self.search_wire, self.search_proxy):
            proxy.close()

    def restore(self) -> None:
        """Undo all faults of the proxies, and delete the connectors of a case."""
        for proxy in (self.sql_proxy, self.kafka_proxy, self.search_wire, self.search_proxy):
            proxy.restore()
        if self.worker.process.poll() is None:
            for name in self.names:
                HTTP.delete(f"{self.worker.url}/connectors/{name}", timeout=90)
        self.names.clear()

    def sql(self, statement: str) -> list[Any]:
        with psycopg.connect(libpq_url(self.database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def run(self, command: str, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``headrace COMMAND NAME FILE…`` with the configuration that a connector has."""
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(HTTP.get(f"{self.worker.url}/connectors/{name}/config", timeout=30).json()))
        done: subprocess.CompletedProcess[str] = self._command(command, name, self.worker.worker_file(), file, *options)
        return done

    def source_config(self, table: str, **more: Any) -> dict[str, Any]:
        proxied = make_url(self.database).set(host="127.0.0.1", port=self.sql_proxy.port)
        return {
            "connector.class": "SqlSource",
            "connection.url": proxied.render_as_string(hide_password=False),
            "table.whitelist": table,
            "mode": "incrementing",
            "incrementing.column.name": "id",
            "pk.mode": "primary_key",
            "topic.prefix": "f_",
            "poll.interval.ms": "100",
            **{key.replace("_", "."): value for key, value in more.items()},
        }

    def table(self, rows: int = 1, columns: str = "id serial PRIMARY KEY, note text") -> str:
        name = f"t{uuid.uuid4().hex[:8]}"
        self.sql(f"CREATE TABLE {name} ({columns})")
        if rows:
            self.sql(f"INSERT INTO {name} (note) SELECT 'n' || n FROM generate_series(1, {rows}) AS n")
        return name

    def create(self, name: str, config: dict[str, Any], *, runs: bool = True) -> str:
        self.names.append(name)
        answer = HTTP.put(f"{self.worker.url}/connectors/{name}/config", json=config, timeout=90)
        assert answer.status_code in (200, 201), answer.text
        if runs:
            eventually(lambda: self.is_well(name), HEALED)
        return name

    def source(self, table: str, *, runs: bool = True, **more: Any) -> str:
        return self.create(f"source-{table}", self.source_config(table, **more), runs=runs)

    def sink(self, topic: str, *, runs: bool = True, **more: Any) -> str:
        config = {
            "connector.class": "ElasticsearchSink",
            "connection.url": f"http://{self.search_wire.address}",
            "topics": topic,
            "key.ignore": "false",
            "schema.ignore": "true",
            "consumer.override.session.timeout.ms": "6000",
            "consumer.override.heartbeat.interval.ms": "1000",
            **{key.replace("_", "."): value for key, value in more.items()},
        }
        return self.create(f"sink-{topic}", config, runs=runs)

    def topic(self, partitions: int = 1) -> str:
        name = f"f{uuid.uuid4().hex[:8]}"
        with self.admin() as admin:
            admin.create_topics([NewTopic(name, partitions, 1)])
        return name

    @contextmanager
    def admin(self) -> Iterator[Any]:
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.brokers[0].internal_address)
        try:
            yield admin
        finally:
            admin.close()

    @contextmanager
    def forbidden(
        self,
        name: str,
        operation: ACLOperation = ACLOperation.WRITE,
        kind: ResourceType = ResourceType.TOPIC,
    ) -> Iterator[None]:
        """Allow every operation except this one on a topic or a group."""
        place = ResourcePattern(kind, name)
        rules = [
            ACL("User:*", "*", ACLOperation.ALL, ACLPermissionType.ALLOW, place),
            ACL("User:*", "*", operation, ACLPermissionType.DENY, place),
        ]
        with self.admin() as admin:
            admin.create_acls(rules)
            yield
            pattern = ResourcePatternFilter(kind, name, ACLResourcePatternType.LITERAL)
            admin.delete_acls([ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, pattern)])

    def admins(self) -> Iterator[Admin]:
        """Yield the admin of each Kafka client."""
        for make_clients in (KafkaPythonClients, LibrdkafkaClients):
            admin = make_clients({"bootstrap.servers": self.kafka.brokers[0].internal_address}).admin({})
            yield admin
            admin.close()

    def status(self, name: str, worker: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = (worker or self.worker).get(f"/connectors/{name}/status")
        return found

    def said(self, name: str, worker: Any = None) -> str:
        """Return reasons, failures and conditions of a connector and its tasks."""
        status = self.status(name, worker)
        parts = [status["connector"], *status["tasks"]]
        texts = [part.get(kind) or "" for part in parts for kind in ("reason", "trace")]
        texts += [f"{item['code']}: {item['text']} {item['hint']}" for item in status.get("conditions", ())]
        return "\n".join(texts)

    def is_well(self, name: str, worker: Any = None) -> bool:
        status = self.status(name, worker)
        parts = [status["connector"], *status["tasks"]]
        running = len(parts) > 1 and all(part["state"] == "RUNNING" for part in parts)
        return running and not any(part.get("reason") or part.get("trace") for part in parts)


def send(world: World, topic: str, value: bytes = b'{"n": 1}') -> None:
    send_all(world, topic, [value])


def send_all(world: World, topic: str, values: Sequence[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=world.kafka.brokers[0].internal_address)
    for number, value in enumerate(values, 1):
        producer.send(topic, value, key=str(number).encode())
    producer.flush(30)
    producer.close()


def documents(world: World, topic: str) -> int:
    HTTP.post(f"{world.elasticsearch}/{topic}/_refresh", timeout=30)
    answer = HTTP.get(f"{world.elasticsearch}/{topic}/_count", timeout=30)
    return int(answer.json()["count"]) if answer.status_code == 200 else 0


def document(world: World, topic: str) -> dict[str, Any]:
    """Return the document of the record that :func:`send` sends."""
    found: dict[str, Any] = HTTP.get(f"{world.elasticsearch}/{topic}/_source/1", timeout=30).raise_for_status().json()
    return found


def block(world: World, index: str, wanted: bool | None) -> None:
    body = {"index.blocks.read_only_allow_delete": wanted}
    HTTP.put(f"{world.elasticsearch}/{index}/_settings", json=body, timeout=30).raise_for_status()


def rebuild(world: World, name: str, *options: str) -> None:
    done = world.run("reindex", name, *options)
    assert done.returncode == 0, done.stderr + done.stdout
