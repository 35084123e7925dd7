"""A sink pipeline from an in-memory topic to a real Elasticsearch, with a fault proxy between them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from headrace.broker.in_memory import InMemoryKafka
from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.control import TaskControl
from headrace.records import EncodedBatch
from headrace.registry import Registry
from headrace.runtime.config_origins import ConfigOrigins
from headrace.runtime.task_build import TaskBuilder
from headrace.settings import WorkerSettings
from headrace.states import TaskId
from headrace.stores import MemoryLog, OffsetStore
from headrace.testing.data_comparison import compare_index, index_entries, latest, topic_entries
from headrace.testing.faults import HttpProxy
from headrace.testing.waiting import eventually
from headrace.validation import Validator
from tests.engines.http import HTTP
from tests.integration.elasticsearch.repeated_deletes import plugin

DELIVERY_TIMEOUT = 60.0
PARTITIONS = 3


@dataclass
class Member:
    """One task of the group, on a thread."""

    thread: threading.Thread
    stop_event: threading.Event
    metrics: TaskMetrics
    reasons: list[str] = field(default_factory=list)
    error: list[BaseException] = field(default_factory=list)


class Flow:
    """A topic, the sink's tasks that read it, the proxy and the index."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.kafka_clients = InMemoryKafka()
        self.kafka_clients.create(name, PARTITIONS)
        self.proxy = HttpProxy(url)
        self.members: list[Member] = []
        self.sent = 0
        registry = Registry([*Registry().plugins(), plugin()])
        validator = Validator(registry, make_interpolator(registry))
        settings = WorkerSettings.parse(
            {
                "bootstrap.servers": "memory",
                "key.converter.schemas.enable": "false",
                "value.converter.schemas.enable": "false",
            }
        )
        self._builder = TaskBuilder(
            registry, validator, self.kafka_clients, OffsetStore(MemoryLog()), settings, ConfigOrigins()
        )

    def start(self, keys: Mapping[str, str] | None = None, **properties: str) -> Member:
        """Start one more task; ``properties`` have underscores for the dots of keys."""
        config = {
            "name": self.name,
            "connector.class": "ElasticsearchSink",
            "connection.url": self.proxy.url,
            "topics": self.name,
            "retry.backoff.ms": "5",
            "read.timeout.ms": "60s",  # tests of late responses set their own timeout
            "batch.size": "50",
            "errors.tolerance": "all",
            "errors.deadletterqueue.topic.name": f"{self.name}-dead",
            "errors.deadletterqueue.context.headers.enable": "true",
            **{key.replace("_", "."): value for key, value in properties.items()},
            **(keys or {}),
        }
        stop_event, metrics, reasons = threading.Event(), TaskMetrics(), list[str]()

        def set_status_reason(reason: str | None) -> None:
            if reason is not None:
                reasons.append(reason)

        control = TaskControl(
            stop_event,
            threading.Event(),
            metrics,
            structlog.stdlib.get_logger("test"),
            lambda: None,
            set_status_reason,
            0.02,
            5.0,
        )
        pipeline = self._builder.build(TaskId(self.name, len(self.members)), config, control, set_status_reason)
        errors: list[BaseException] = []

        def body() -> None:
            try:
                pipeline.run()
            except BaseException as error:  # checked by the test, on its thread
                errors.append(error)

        member = Member(threading.Thread(target=body, name=f"{self.name}-task"), stop_event, metrics, reasons, errors)
        self.members.append(member)
        member.thread.start()
        return member

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the server, not through the proxy; return the JSON of the response."""
        answer = HTTP.request(method, f"{self.url}/{path}", json=body, timeout=DELIVERY_TIMEOUT)
        return answer.raise_for_status().json()

    def stop(self, member: Member) -> None:
        member.stop_event.set()
        member.thread.join(DELIVERY_TIMEOUT)
        assert not member.thread.is_alive()

    def send(self, values: Sequence[Any], keys: Sequence[Any] | None = None) -> None:
        """Send values, bytes unchanged; keys are the value's ``id`` unless given."""
        producer = self.kafka_clients.producer({})
        encoded = [
            value if value is None or isinstance(value, bytes) else json.dumps(value).encode() for value in values
        ]
        ids = keys if keys is not None else [value["id"] for value in values]
        producer.send(EncodedBatch(self.name, encoded, [json.dumps(each).encode() for each in ids]))
        self.sent += len(values)

    def committed(self) -> int:
        return sum(self.kafka_clients.committed(f"connect-{self.name}").values())

    def settle(self) -> None:
        """Wait until all records are committed; raise if a task has failed."""

        def settled() -> bool:
            for member in self.members:
                for error in member.error:
                    raise error
            return self.committed() == self.sent

        eventually(settled, DELIVERY_TIMEOUT)

    def dead(self) -> list[dict[str, Any]]:
        """Return the dead letters: headers by name, and ``value``."""
        return [
            {
                "value": record.value,
                **{name.rpartition("errors.")[2]: (text or b"").decode() for name, text in record.headers},
            }
            for record in self.kafka_clients.records(f"{self.name}-dead")
        ]

    def check(self, *, without: Sequence[Any] = (), index: str | None = None) -> None:
        """Assert that the index equals the topic's last values, except ids in ``without``."""
        gone = {str(each) for each in without}
        rows = {
            key: value for key, value in latest(topic_entries(self.kafka_clients, self.name)).items() if key not in gone
        }
        comparison = compare_index(rows, index_entries(self.url, index or self.name))
        assert comparison.exact, str(comparison)

    def close(self) -> None:
        self.proxy.restore()
        for member in self.members:
            member.stop_event.set()
        for member in self.members:
            member.thread.join(DELIVERY_TIMEOUT)
        self.proxy.close()
        HTTP.delete(f"{self.url}/{self.name}*", timeout=DELIVERY_TIMEOUT)


@pytest.fixture
def make_flow(unique_name: str) -> Iterator[Callable[..., Flow]]:
    """Return ``make_flow(url)``, which creates a flow to any server."""
    flows: list[Flow] = []

    def make(url: str) -> Flow:
        flows.append(Flow(url, f"{unique_name}_{len(flows)}"))
        return flows[-1]

    yield make
    for flow in flows:
        flow.close()


@pytest.fixture
def flow(elasticsearch: Any, make_flow: Callable[..., Flow]) -> Flow:
    """A flow to the shared server."""
    return make_flow(elasticsearch.url)
