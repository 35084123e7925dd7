"""``headrace check`` finds columns that topics do not have, and missing permissions, before an application starts."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from headrace.app import newest_records
from headrace.broker.in_memory import InMemoryKafka
from headrace.cli.validate import check_files
from headrace.errors import Finding
from headrace.pair_checks import KafkaTopic
from headrace.records import EncodedBatch
from headrace.settings import WorkerSettings
from tests.unit.streams.conftest import VALIDATOR

WORKER = """bootstrap.servers: broker:9092
key.converter: JsonConverter
key.converter.schemas.enable: false
value.converter: JsonConverter
value.converter.schemas.enable: false
offset.storage.file.filename: offsets.jsonl
"""
APPLICATION = """name: app
connector.class: Stream
inputs:
  views: {topic: impressions, time: shown_at, key: offer_id}
tables:
  offers: {topic: offers}
steps:
  enriched:
    lookup: {offer: "offers[offer_id]"}
  scored:
    add: {epi: offer.cpi / offer.lio, name: UPPER(user_id)}
  counted:
    window: {by: offer_id, tumbling: 1m, grace: 0, aggregate: {n: count(*)}}
outputs:
  scores: scored
  counts: counted
"""
VIEW = {"offer_id": 1, "shown_at": 5, "user_id": 7}
OFFER = {"cpi": 1.5, "loi": 3}
FIELDS = {"offer_id": "int64", "shown_at": "int64", "user_id": "int64", "cpi": "double", "loi": "int32"}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "worker.yaml").write_text(WORKER, encoding="utf-8")
    (tmp_path / "app.yaml").write_text(APPLICATION, encoding="utf-8")
    return tmp_path


def with_schema(value: Mapping[str, Any]) -> dict[str, Any]:
    fields = [{"field": name, "type": FIELDS[name]} for name in value]
    return {"schema": {"type": "struct", "fields": fields}, "payload": value}


def findings(topics: Mapping[str, Sequence[Any]], *more: str) -> list[Finding]:
    """Return the findings about the application when the topics have these records."""
    kafka = InMemoryKafka()
    for topic, values in topics.items():
        kafka.create(topic, 2)
        producer = kafka.producer({})
        producer.send(EncodedBatch(topic, [orjson.dumps(value) for value in values]))
        producer.close(1)
    settings, _ = VALIDATOR.worker({"bootstrap.servers": "unused:9092"})
    assert isinstance(settings, WorkerSettings)
    found = check_files(
        [Path("worker.yaml"), Path("app.yaml"), *map(Path, more)],
        admin_check=lambda _: "cluster",
        sample_lookup=lambda names: newest_records(kafka, settings, names),
    )
    return [finding for finding in found if finding.code.startswith("stream.")]


def shown(found: Sequence[Finding]) -> list[tuple[str, str, str, str, str]]:
    return [(str(item.location), item.severity, item.code, item.message, item.hint) for item in found]


def test_schemas_of_topics_make_unknown_columns_and_wrong_types_errors() -> None:
    text = Path("worker.yaml").read_text("utf-8")
    Path("worker.yaml").write_text(text.replace("value.converter.schemas.enable: false", ""), encoding="utf-8")

    found = findings({"impressions": [with_schema(VIEW)], "offers": [with_schema(OFFER)]})

    assert shown(found) == [
        ("app.yaml:11:28", "error", "stream.unknown_column", "unknown column 'lio'", "did you mean 'loi'?"),
        (
            "app.yaml:11:45",
            "error",
            "stream.wrong_type",
            "'UPPER(user_id)' needs string, and an operand is of type integer",
            "convert it by CAST",
        ),
    ]


def test_records_without_schemas_make_them_warnings() -> None:
    found = findings({"impressions": [VIEW], "offers": [OFFER]})

    assert [(item.severity, item.code) for item in found] == [
        ("warning", "stream.unknown_column"),
        ("warning", "stream.wrong_type"),
    ]
    assert found[0].message == "unknown column 'lio', as far as the newest records show"
    assert str(found[0].location) == "app.yaml:11:28"


@pytest.mark.parametrize(
    ("views", "offers"),
    [
        ([{**VIEW, "user_id": None}], [{**OFFER, "lio": 1}]),
        ([VIEW, {**VIEW, "user_id": "x"}], [OFFER, {"lio": 1}]),  # several types: any
        ([], []),
        ([7, "x"], [None]),  # nothing is known of records that are not objects
    ],
)
def test_columns_that_any_record_has_are_known(views: list[Any], offers: list[Any]) -> None:
    assert findings({"impressions": views, "offers": offers}) == []


def test_the_key_column_is_checked() -> None:
    renamed = {**VIEW, "offer": 1}
    del renamed["offer_id"]
    codes = {(item.key, item.code) for item in findings({"impressions": [renamed]})}
    assert ("inputs.views.key", "stream.unknown_column") in codes
    assert ("steps.enriched.lookup.offer", "stream.unknown_column") in codes


def test_declared_types_are_compared_with_the_records() -> None:
    text = APPLICATION.replace(
        "key: offer_id}", "key: offer_id, columns: {offer_id: string, shown_at: integer, user_id: string}}"
    )
    Path("app.yaml").write_text(text, encoding="utf-8")

    (one, other) = [item for item in findings({"impressions": [VIEW]}) if item.code == "stream.wrong_type"]

    assert one.message.startswith("column 'offer_id' is declared string, and is integer in topic impressions")
    assert other.key == "inputs.views.columns.user_id"


def test_records_that_were_written_with_schemas_are_recognized() -> None:
    (found,) = findings({"impressions": [with_schema(VIEW)]})
    assert (found.code, found.severity) == ("stream.envelope", "error")
    assert "value.converter.schemas.enable: true" in found.hint


def test_the_columns_of_a_source_in_the_same_files_are_known_before_the_topic_exists() -> None:
    with sqlite3.connect("rows.db") as connection:
        connection.execute("CREATE TABLE offers (id INTEGER NOT NULL PRIMARY KEY, cpi REAL, loi INTEGER)")
    connection.close()
    source = "name: rows\nconnector.class: SqlSource\nconnection.url: sqlite:///rows.db\ntable.whitelist: offers\n"
    Path("rows.yaml").write_text(f"{source}topic.prefix: ''\nmode: bulk\n", encoding="utf-8")

    found = findings({}, "rows.yaml")

    assert [(str(item.location), item.severity, item.message) for item in found] == [
        ("app.yaml:11:28", "error", "unknown column 'lio'")
    ]


def test_missing_permissions_are_named_with_their_command() -> None:
    granted = {
        "impressions": {"DESCRIBE"},
        "offers": {"DESCRIBE", "READ"},
        "scores": {"DESCRIBE", "WRITE"},
        "counts": {"DESCRIBE", "WRITE"},
        "app-counted-repartition": {"DESCRIBE", "READ", "WRITE"},
    }
    text = APPLICATION.replace(", key: offer_id", "")
    Path("app.yaml").write_text(text, encoding="utf-8")

    found = check_files(
        [Path("worker.yaml"), Path("app.yaml")],
        admin_check=lambda _: "cluster",
        topic_lookup=lambda named, _: {
            name: KafkaTopic(1, "delete", frozenset(granted[name])) for name in named if name in granted
        },
    )

    missing = [(item.severity, item.message, item.cause) for item in found if item.code == "kafka.not_authorized"]
    assert missing == [
        ("error", "cannot read impressions: the worker's user has no READ on TOPIC impressions", "environment"),
        (
            "warning",
            "cannot delete processed records of app-counted-repartition: the worker's user has no DELETE on TOPIC "
            "app-counted-repartition",
            "environment",
        ),
    ]
    hints = [item.hint for item in found if item.code == "kafka.not_authorized"]
    assert hints[1].endswith("--operation Delete --topic app-counted-repartition")
