"""Faults of Kafka, and of members of consumer groups."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kafka.admin import ACLOperation, ConfigResource, ConfigResourceType, NewTopic, ResourceType
from kafka.errors import TopicAlreadyExistsError

from headrace.errors import RetriableError
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.faults.case import Case, Cases
from tests.faults.table import SEEN
from tests.faults.world import HEALED, World, document, documents, rebuild, send


def kafka_down(case: Case, world: World) -> None:
    topic = world.topic()
    names = [world.source(world.table()), world.sink(topic)]
    world.kafka_proxy.refuse()
    for name in names:
        case.says(name)
    world.kafka_proxy.restore()
    for name in names:
        case.heals(name)


def topic_created_again(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    for number in range(3):
        send(world, topic, b'{"n": %d}' % number)
    eventually(lambda: documents(world, topic) == 1, HEALED)
    with world.admin() as admin:
        former = topic_id(admin, topic)
        admin.delete_topics([topic])
        eventually(lambda: is_created(admin, topic, former), HEALED)
    send(world, topic, b'{"n": -1}')
    case.says(name)
    rebuild(world, name, "--copy-lost")
    send(world, topic, b'{"n": -2}')
    case.heals(name)
    answer = HTTP.post(f"{world.worker.url}/v1/connectors/{name}/acknowledge", timeout=30)
    assert answer.status_code == 200, answer.text
    assert "deleted and created again" not in world.said(name)
    assert document(world, topic) == {"n": -2}


def topic_id(admin: Any, topic: str) -> str | None:
    """Return None when the topic does not exist."""
    (found,) = admin.describe_topics([topic])
    return None if found["error_code"] else str(found["topic_id"])


def is_created(admin: Any, topic: str, former: str | None) -> bool:
    """Create a topic whose predecessor may not be deleted yet; a client that asks for it may also create it."""
    with suppress(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(topic, 1, 1)])
    return topic_id(admin, topic) not in (None, former)


def idle_tasks(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic, runs=False, tasks_max="4")
    case.says(name)
    world.sink(topic, tasks_max="1")
    case.heals(name)


def missing_acl(case: Case, world: World) -> None:
    table = world.table()
    with world.admin() as admin:
        admin.create_topics([NewTopic(f"f_{table}", 1, 1)])
    with world.forbidden(f"f_{table}"):
        name = world.source(table, runs=False)
        said = case.says(name)
        assert f"--operation Write --topic f_{table}" in said
        # `headrace check` names it, too.
        for admin in world.admins():
            allowed = admin.topic_operations([f"f_{table}"])[f"f_{table}"]
            assert {"READ", "DESCRIBE"} <= allowed
            assert "WRITE" not in allowed
    case.heals(name)
    # `headrace check` also names groups as which a sink may not read.
    group = f"g_{table}"

    def may_read() -> list[bool] | None:
        try:
            return [admin.may_read_as(group) for admin in world.admins()]
        except RetriableError:  # no answer within its seconds on a busy machine
            return None

    eventually(lambda: may_read() == [True, True], SEEN)
    with world.forbidden(group, ACLOperation.READ, ResourceType.GROUP):
        # Brokers learn of an ACL shortly after it was accepted.
        eventually(lambda: may_read() == [False, False], SEEN)


def large_record(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"INSERT INTO {table} (note) VALUES (repeat('x', 2000000))")
    case.says(name)
    config = world.source_config(table) | {"producer.override.max.request.size": "5000000"}
    with world.admin() as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, f"f_{table}", {"max.message.bytes": "5000000"})])
    world.create(name, config)
    case.heals(name)


def forbidden_dead_letters(case: Case, world: World) -> None:
    topic, letters = world.topic(), world.topic()
    keys: dict[str, Any] = {"errors_tolerance": "all", "errors_deadletterqueue_topic_name": letters}
    name = world.sink(topic, errors_deadletterqueue_topic_replication_factor="1", **keys)
    with world.forbidden(letters):
        send(world, topic, b"no JSON")
        case.says(name)
    eventually(lambda: all(task["state"] == "RUNNING" for task in world.status(name)["tasks"]), HEALED)


def killed_worker(case: Case, world: World) -> None:
    topic = world.topic()
    worker = world.process("killed")
    config = {"connector.class": "ElasticsearchSink", "connection.url": f"http://{world.search_wire.address}"}
    timeouts = {"consumer.override.session.timeout.ms": "20000", "consumer.override.heartbeat.interval.ms": "1000"}
    worker.write(topic, {**config, **timeouts, "topics": topic, "key.ignore": "false", "schema.ignore": "true"})
    worker.start()
    case.cleanup.callback(lambda: worker.process.poll() is None and worker.kill())
    eventually(lambda: "partitions assigned" in worker.log, HEALED)
    worker.kill()
    worker.start()
    case.says(topic, worker)
    case.heals(topic, worker)
    assert worker.stop() == 0


def same_sink(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    second = world.process("second")
    config = HTTP.get(f"{world.worker.url}/connectors/{name}/config", timeout=30).json()
    second.write(name, {key: value for key, value in config.items() if key != "name"})
    second.start()
    case.cleanup.callback(lambda: second.process.poll() is None and second.kill())

    def worker_that_reports() -> Any:
        """one of both says that another member has the partition"""
        return next((each for each in (world.worker, second) if case.row.says[0] in world.said(name, each)), None)

    eventually(worker_that_reports, SEEN)
    case.says(name, worker_that_reports())
    assert second.stop() == 0
    case.heals(name)


CASES: Cases = {
    "9": kafka_down,
    "10": topic_created_again,
    "11": idle_tasks,
    "12": missing_acl,
    "13": large_record,
    "20": forbidden_dead_letters,
    "23": killed_worker,
    "25b": same_sink,
}
