"""Configurations with transforms that people published (hosts, names and passwords replaced) are valid as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headrace import SourceBatch
from headrace import schema as schemas
from headrace.records import ConsumedBatch, TopicPartition
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from tests.unit.transforms.conftest import StageMaker

FILE = Path(__file__).parent / "public_configurations.json"


def as_properties(given: Mapping[str, Any]) -> dict[str, str]:
    """Return values as texts, as the REST API does."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


CONFIGURATIONS = {item["name"]: as_properties(item) for item in json.loads(FILE.read_text(encoding="utf-8"))}


def test_there_are_at_least_twelve() -> None:
    assert len(CONFIGURATIONS) >= 12


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_public_configuration_is_valid(stage_maker: StageMaker, name: str) -> None:
    _, findings = stage_maker.validator.connector(CONFIGURATIONS[name])
    assert [finding for finding in findings if finding.severity == "error"] == []


@pytest.mark.parametrize("name", ["cdc-jdbc", "jdbc-source", "trucks", "logistics", "postgres-source"])
def test_rows_get_a_column_as_their_key(stage_maker: StageMaker, name: str) -> None:
    stages = stage_maker(CONFIGURATIONS[name])
    column = "user_id" if name == "postgres-source" else "id"
    described = schemas.struct({column: schemas.INT64, "name": schemas.STRING.as_optional()})
    made = stages.encode(SourceBatch("t", [{column: 4711, "name": "x"}, {column: 4712, "name": None}], described))

    assert not made.failures
    assert [key for batch in made.batches for key in batch.keys or ()] == KEYS[name]


def _enveloped(number: int) -> bytes:
    return b'{"schema":{"type":"int64","optional":false},"payload":%d}' % number


PLAIN, ENVELOPED = [b"4711", b"4712"], [_enveloped(4711), _enveloped(4712)]
KEYS = {
    "cdc-jdbc": ENVELOPED,  # the worker's converter, whose default is the envelope
    "jdbc-source": ENVELOPED,
    "postgres-source": ENVELOPED,
    "trucks": PLAIN,
    "logistics": [(4711).to_bytes(8, "big"), (4712).to_bytes(8, "big")],
}


def documents(
    stages_of: StageMaker, name: str, topic: str, *records: tuple[object, object]
) -> list[tuple[str, str, Any]]:
    """Return action, target and document of each record that the sink would write."""
    properties = CONFIGURATIONS[name] | {
        "value.converter": "JsonConverter",
        "value.converter.schemas.enable": "false",
        "key.converter": "JsonConverter",
        "key.converter.schemas.enable": "false",
    }

    def text(value: object) -> bytes | None:
        return None if value is None else json.dumps(value).encode()

    count = len(records)
    consumed = ConsumedBatch(
        TopicPartition(topic, 0),
        list(range(1, count + 1)),
        [text(key) for key, _ in records],
        [text(value) for _, value in records],
        [1_700_000_000_000] * count,
        [()] * count,
    )
    batches, failures = stages_of(properties).decode(consumed)
    assert not failures
    previewer = ElasticsearchSinkConnector().previewer(stages_of.validator.require_connector(properties).own)
    return [written(write) for batch in batches for write in previewer.writes(batch)]


def written(write: Any) -> tuple[str, str, Any]:
    return write.action, write.target, json.loads(write.content) if write.content else None


def event(op: str, before: object, after: object) -> dict[str, object]:
    return {"op": op, "before": before, "after": after, "source": {"table": "customers"}, "ts_ms": 1}


@pytest.mark.parametrize("name", ["customers", "user-sink"])
def test_change_events_become_documents_and_deletions(stage_maker: StageMaker, name: str) -> None:
    topic = CONFIGURATIONS[name]["topics"]
    row = {"id": 7, "name": "Li"}
    made = documents(
        stage_maker,
        name,
        topic,
        ({"id": 7}, event("c", None, row)),
        ({"id": 7}, event("d", row, None)),
        ({"id": 7}, None),
    )

    target = f"{topic}/7"
    assert made[0][1:] == (target, row if name == "customers" else {"doc": row, "doc_as_upsert": True})
    assert [item for item in made[1:] if item[0] == "delete"] == [("delete", target, None)] * 2


def test_events_are_routed_to_an_index_of_the_day(stage_maker: StageMaker) -> None:
    (made,) = documents(stage_maker, "es-movie-sink", "movies", ("k", {"title": "x"}))
    assert made[1].startswith("movies-20231114/")
    assert made[2] == {"title": "x"}


def test_the_time_of_the_record_becomes_a_field(stage_maker: StageMaker) -> None:
    (made,) = documents(stage_maker, "stock", "dc_out_of_stock_events", ("k", {"sku": 1}))
    assert made[2] == {"sku": 1, "timestamp": 1_700_000_000_000}


def test_masked_columns_do_not_leave_the_source(stage_maker: StageMaker) -> None:
    described = schemas.struct({"id": schemas.INT32, "email": schemas.STRING, "ssn": schemas.STRING})
    stages = stage_maker(CONFIGURATIONS["postgres-source-with-masking"])
    made = stages.encode(SourceBatch("t", [{"id": 1, "email": "a@b.c", "ssn": "078-05-1120"}], described))
    (text,) = made.batches[0].values
    assert text is not None
    assert b"078" not in text
    assert json.loads(text)["payload" if b"payload" in text else "id"]
