"""A log in a Kafka topic has what any worker has written, and loses nothing when Kafka is away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.errors import InfrastructureError, RetriableError
from headrace.records import EncodedBatch
from headrace.settings import WorkerSettings
from headrace.stores import ConfigStore
from headrace.stores.config_fold import Command, RestartRequest
from headrace.stores.group_topics import ensure_topics, group_topics
from headrace.stores.kafka_log import BackgroundLog, KafkaLog
from headrace.stores.log_writers import ProducerWriter
from headrace.stores.statuses import outdated
from headrace.testing.waiting import eventually

GROUP = {
    "bootstrap.servers": "x:1",
    "group.id": "g",
    "config.storage.topic": "configs",
    "offset.storage.topic": "offsets",
    "status.storage.topic": "statuses",
}
Open = Callable[..., KafkaLog]


@pytest.fixture
def kafka() -> InMemoryKafka:
    made = InMemoryKafka()
    made.create("configs", 1, {"cleanup.policy": "compact"})
    return made


@pytest.fixture
def open_log(kafka: InMemoryKafka) -> Iterator[Open]:
    opened: list[KafkaLog] = []

    def make(**options: Any) -> KafkaLog:
        opened.append(KafkaLog(kafka, "configs", "test", poll=0.01, **options))
        opened[-1].start(threading.Event())
        return opened[-1]

    yield make
    for log in opened:
        log.close()


def test_entries_of_one_worker_are_read_by_another(open_log: Open) -> None:
    first, second = open_log(), open_log()
    first.append({"a": {"n": 1}, "b": "text"})
    first.append({"a": None})
    second.refresh()
    assert second.read() == {"b": "text"}
    assert open_log().read() == {"b": "text"}


def test_the_offset_is_that_after_the_last_record(open_log: Open) -> None:
    log = open_log()
    assert log.offset() == 0
    log.append({"a": 1, "b": 2})
    assert log.offset() == 2
    assert log.wait_for_offset(2, 0)
    assert not log.wait_for_offset(3, 0.01)


def test_records_that_are_not_json_are_left_out(kafka: InMemoryKafka, open_log: Open) -> None:
    kafka.producer({}).send(EncodedBatch("configs", [b"{", b"1"], [b"broken", b"good"]))
    log = open_log()
    assert log.read() == {"good": 1}
    assert log.offset() == 2


def test_a_worker_that_may_not_write_writes_nothing(kafka: InMemoryKafka, open_log: Open) -> None:
    log = open_log(writer=ProducerWriter(kafka, {}, lambda: False))
    with pytest.raises(RetriableError, match="not a member of its group"):
        log.append({"a": 1})
    assert kafka.records("configs") == []


def test_a_failed_append_may_be_repeated(kafka: InMemoryKafka, open_log: Open) -> None:
    log = open_log()
    kafka.fail_sends(RetriableError("the broker is away", code="kafka.unreachable"))
    with pytest.raises(RetriableError, match="cannot write to configs: the broker is away"):
        log.append({"a": 1})
    log.append({"a": 1})
    assert log.read() == {"a": 1}


def test_commands_that_were_there_before_the_start_are_not_carried_out(kafka: InMemoryKafka, open_log: Open) -> None:
    ConfigStore(open_log(), shared=True).put_restart("a", include_tasks=True, only_failed=False)
    log = KafkaLog(kafka, "configs", "test")
    store = ConfigStore(log, shared=True, replaying=lambda: log.replaying)
    seen: list[Command] = []
    store.on_change(seen.extend)
    log.start(threading.Event())
    assert seen == []
    store.put_restart("b", include_tasks=False, only_failed=True)
    assert seen == [RestartRequest("b", include_tasks=False, only_failed=True)]
    log.close()


class TestBackgroundLog:
    def test_values_are_visible_at_once_and_written_when_kafka_is_back(
        self, kafka: InMemoryKafka, open_log: Open
    ) -> None:
        log = BackgroundLog(open_log())
        kafka.hold_deliveries()
        log.append({"a": 1})
        log.append({"a": 2, "b": 1})
        assert (log.get("a"), log.read()) == (2, {"a": 2, "b": 1})
        log.append({"b": None})
        assert log.read() == {"a": 2}
        kafka.release()
        eventually(lambda: open_log().read() == {"a": 2})
        log.close()

    def test_a_status_does_not_replace_that_of_the_worker_that_has_the_task_now(
        self, kafka: InMemoryKafka, open_log: Open
    ) -> None:
        log = BackgroundLog(open_log(), outdated)
        running = {"state": "RUNNING", "worker_id": "b:1", "generation": 5}
        open_log().append({"status-task-a-0": running})
        eventually(lambda: log.get("status-task-a-0") == running)
        log.append({"status-task-a-0": {"state": "UNASSIGNED", "worker_id": "a:1", "generation": 4}})
        log.append({"other": 1})
        eventually(lambda: open_log().get("other") == 1)
        assert open_log().get("status-task-a-0") == running
        log.close()

    def test_a_status_of_a_group_that_has_ended_is_replaced_whatever_its_generation_was(self, open_log: Open) -> None:
        """A cluster that was taken over has statuses of high generations, and its group may begin again with one."""
        open_log().append({"status-task-a-0": {"state": "RUNNING", "worker_id": "jvm:1", "generation": 50}})
        log = BackgroundLog(open_log(), outdated)
        failed = {"state": "FAILED", "worker_id": "a:1", "generation": 1}
        log.append({"status-task-a-0": failed})
        eventually(lambda: open_log().get("status-task-a-0") == failed)
        log.close()


class TestTopics:
    def test_topics_of_a_group_are_created_compacted(self) -> None:
        kafka = InMemoryKafka()
        settings = WorkerSettings.parse({**GROUP, "offset.storage.min.insync.replicas": "2"})
        ensure_topics(kafka.admin({}), group_topics(settings))
        assert kafka.topics() == {
            "configs": {"cleanup.policy": "compact"},
            "offsets": {"cleanup.policy": "compact", "min.insync.replicas": "2"},
            "statuses": {"cleanup.policy": "compact"},
        }
        sizes = {name: len(kafka.partitions_of(name)) for name in kafka.topics()}
        assert sizes == {"configs": 1, "offsets": 25, "statuses": 5}
        ensure_topics(kafka.admin({}), group_topics(settings))  # existing topics are not changed

    @pytest.mark.parametrize(
        ("topic", "partitions", "config", "text"),
        [
            ("offsets", 25, {}, r"offsets \(offset.storage.topic\) has cleanup.policy=delete"),
            ("configs", 2, {"cleanup.policy": "compact"}, r"configs \(config.storage.topic\) has 2 partitions"),
        ],
    )
    def test_a_topic_with_other_settings_is_refused_with_what_to_do(
        self, topic: str, partitions: int, config: dict[str, str], text: str
    ) -> None:
        kafka = InMemoryKafka()
        kafka.create(topic, partitions, config)
        with pytest.raises(InfrastructureError, match=text) as refused:
            ensure_topics(kafka.admin({}), group_topics(WorkerSettings.parse(GROUP)))
        assert refused.value.hint
