"""``headrace preview`` shows what would be written and refused, and writes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace import DataError, PreviewedWrite, Previewer, SinkBatch, TopicPartition
from headrace import schema as schemas
from headrace.cli.main import app
from headrace.verification.preview import preview_sink
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from tests.unit.verification.conftest import GROUP, SinkScenario

WORKER = "bootstrap.servers: 127.0.0.1:9\nvalue.converter.schemas.enable: false\n"
SOURCE = """name: rows
connector.class: SqlSource
connection.url: sqlite:///rows.db
table.whitelist: rows
topic.prefix: t.
mode: incrementing
incrementing.column.name: id
delete.detection: reconcile
pk.fields: id
transforms: mask,odd
transforms.mask.type: org.apache.kafka.connect.transforms.MaskField$Value
transforms.mask.fields: card
transforms.odd.type: RegexRouter
transforms.odd.regex: t\\.(.*)
transforms.odd.replacement: shop-$1
"""


class UpperPreviewer(Previewer):
    """Writes values in capitals; refuses records without a key."""

    def writes(self, batch: SinkBatch) -> Sequence[PreviewedWrite | DataError | None]:
        return [
            DataError("no key") if key is None else PreviewedWrite("index", f"i/{key}", value.upper())
            for key, value in zip(batch.keys, batch.values, strict=True)
        ]

    def mapping(self, batch: SinkBatch) -> Mapping[str, Mapping[str, Any]]:
        return {"i": {"type": "text"}}


def test_the_newest_records_of_all_partitions_are_shown(scenario: SinkScenario) -> None:
    scenario.produce(*((str(number), f"v{number}") for number in range(50)))
    before = scenario.kafka.groups[GROUP].committed.copy()
    preview = preview_sink(scenario.history, UpperPreviewer(), 5)

    ends = scenario.history.ends()
    assert preview.read == len(preview.records) == 5
    offsets = {(record.place.split(" ")[0], int(record.place.split(" ")[2])) for record in preview.records}
    expected = {
        (str(item), offset)
        for number, (item, end) in enumerate(sorted(ends.items()))
        for offset in range(end - (3 if number == 0 else 2), end)
    }
    assert offsets == expected
    assert all(record.write and record.write.content == str(record.value).upper() for record in preview.records)
    assert preview.mappings == {"i": {"type": "text"}}
    assert scenario.kafka.groups[GROUP].committed == before


def test_records_that_a_sink_would_refuse_are_shown_with_the_reason(scenario: SinkScenario) -> None:
    scenario.produce(("k", "v"), (None, "w"))
    preview = preview_sink(scenario.history, UpperPreviewer(), 10)

    assert [record.key for record in preview.records] == ["k"]
    assert [(item.stage, item.error.message) for item in preview.refused] == [("TASK_PUT", "no key")]
    assert preview.dropped == 0


def test_a_sink_without_a_previewer_shows_values(scenario: SinkScenario) -> None:
    scenario.produce(("k", "v"))
    (record,) = preview_sink(scenario.history, None, 1).records
    assert (record.value, record.write) == ("v", None)


def test_elasticsearch_shows_documents_deletions_and_mappings_without_connecting() -> None:
    properties = {
        "connection.url": "http://127.0.0.1:9",
        "topics": "orders",
        "behavior.on.null.values": "delete",
        "key.ignore": "false",
    }
    previewer = ElasticsearchSinkConnector().previewer(properties)
    described = schemas.struct({"n": schemas.INT32, "at": schemas.TIMESTAMP_SCHEMA})
    batch = SinkBatch(
        TopicPartition("orders", 0), "orders", [5, 6, 7], ["a", "b", None], [{"n": 1, "at": None}, None, {"n": 2}],
        [1, 2, 3], [(), (), ()], None, described,
    )  # fmt: skip
    first, second, third = previewer.writes(batch)

    assert isinstance(first, PreviewedWrite)
    assert (first.action, first.target, json.loads(first.content)) == ("index", "orders/a", {"n": 1, "at": None})
    assert second == PreviewedWrite("delete", "orders/b", "")
    assert isinstance(third, DataError)
    assert previewer.mapping(batch)["orders"]["properties"] == {"n": {"type": "integer"}, "at": {"type": "date"}}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("rows.db") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, card TEXT)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", [(number, "4111") for number in range(1, 9)])
    connection.close()
    (tmp_path / "worker.yaml").write_text(WORKER)
    (tmp_path / "rows.yaml").write_text(SOURCE)
    return tmp_path


def test_rows_of_a_source_are_shown_as_they_would_be_sent(files: Path) -> None:
    result = CliRunner().invoke(app, ["preview", "worker.yaml", "rows.yaml", "--records", "2", "--json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)

    assert shown["read"] == 2
    assert [(item["topic"], json.loads(item["value"])) for item in shown["records"]] == [
        ("shop-rows", {"id": 1, "card": ""}),
        ("shop-rows", {"id": 2, "card": ""}),
    ]
    assert sorted(path.name for path in files.iterdir()) == ["rows.db", "rows.yaml", "worker.yaml"]


def test_rows_that_a_transform_refuses_are_shown_with_exit_code_1(files: Path) -> None:
    bad = "transforms.mask.type: Cast$Value\ntransforms.mask.spec: card:boolean,id:string,nothing:int8\n"
    text = SOURCE.replace("transforms.mask.type: org.apache.kafka.connect.transforms.MaskField$Value\n", bad)
    text = text.replace("transforms.mask.fields: card\n", "").replace("card:boolean", "card:int8")
    (files / "rows.yaml").write_text(text)
    result = CliRunner().invoke(app, ["preview", "worker.yaml", "rows.yaml", "--records", "1"])

    assert result.exit_code == 1, result.output
    assert "t.rows, row 1 of its batch refused TRANSFORMATION: Cast: card: the number does not fit into 8 bits" in (
        " ".join(result.stderr.split())
    )
    assert "1 read, 0 would be written, 1 refused" in result.stderr


def test_a_file_without_a_connector_is_an_error_that_says_what_to_do(files: Path) -> None:
    result = CliRunner().invoke(app, ["preview", "worker.yaml"])
    assert result.exit_code != 0
    assert "preview.which_connector" in str(result.exception) or "the files do not define one connector" in str(
        result.exception
    )
