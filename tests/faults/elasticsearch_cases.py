"""Faults of Elasticsearch and of mappings."""

from __future__ import annotations

import json
from typing import Any

from headrace.testing.faults import StatusFault
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP
from tests.faults.case import Case, Cases
from tests.faults.world import HEALED, World, block, documents, rebuild, send

TYPED: dict[str, Any] = {
    "value_converter": "JsonConverter",
    "value_converter_schemas_enable": "true",
    "key_converter": "JsonConverter",
    "key_converter_schemas_enable": "false",
}


def changed_type(case: Case, world: World) -> None:
    table = world.table(columns="id serial PRIMARY KEY, note text, amount integer")
    world.source(table, **TYPED)
    name = world.sink(f"f_{table}", schema_ignore="false", **TYPED)
    eventually(lambda: documents(world, f"f_{table}") == 1, HEALED)
    world.sql(f"ALTER TABLE {table} ALTER amount TYPE bigint; INSERT INTO {table} (amount) VALUES ({1 << 40})")
    case.says(name)
    rebuild(world, name)
    case.heals(name)
    eventually(lambda: documents(world, f"f_{table}") == 2, HEALED)


def search_down(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    world.search_wire.refuse()
    send(world, topic)
    case.says(name)
    world.search_wire.restore()
    case.heals(name)
    eventually(lambda: documents(world, topic) == 1, HEALED)


def search_overloaded(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    world.search_proxy.always(StatusFault(429), path="_bulk")
    send(world, topic)
    case.says(name)
    world.search_proxy.restore()
    case.heals(name)


def disks_full(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    send(world, topic)
    eventually(lambda: documents(world, topic) == 1, HEALED)
    block(world, topic, True)
    send(world, topic)
    case.says(name)
    block(world, topic, None)
    case.heals(name)


def conflicting_mapping(case: Case, world: World) -> None:
    topic = world.topic()
    place = f"{world.elasticsearch}/{topic}"
    HTTP.put(place, json={"mappings": {"properties": {"n": {"type": "integer"}}}}, timeout=30).raise_for_status()
    name = world.sink(topic, schema_ignore="false", **TYPED)
    field = {"field": "n", "type": "int64", "optional": True}
    record = {"schema": {"type": "struct", "fields": [field]}, "payload": {"n": 1 << 40}}
    send(world, topic, json.dumps(record).encode())
    case.says(name)
    rebuild(world, name)
    case.heals(name)
    eventually(lambda: documents(world, topic) == 1, HEALED)


def deleted_index(case: Case, world: World) -> None:
    topic = world.topic()
    name = world.sink(topic)
    send(world, topic)
    eventually(lambda: documents(world, topic) == 1, HEALED)
    HTTP.delete(f"{world.elasticsearch}/{topic}", timeout=30).raise_for_status()
    send(world, topic)
    case.says(name)
    eventually(lambda: documents(world, topic) == 1, HEALED)


def inactive_shard(case: Case, world: World) -> None:
    def allocate(what: str | None) -> None:
        body = {"transient": {"cluster.routing.allocation.enable": what}}
        HTTP.put(f"{world.elasticsearch}/_cluster/settings", json=body, timeout=30).raise_for_status()

    topic = world.topic()
    name = world.sink(topic)
    case.cleanup.callback(lambda: allocate(None))
    allocate("none")
    send(world, topic)
    case.says(name)
    allocate(None)
    case.heals(name)


CASES: Cases = {
    "7": changed_type,
    "14": search_down,
    "15": search_overloaded,
    "16": disks_full,
    "17": conflicting_mapping,
    "18": deleted_index,
    "19": inactive_shard,
}
