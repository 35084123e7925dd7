"""Packs of dashboards are checked against a real Elasticsearch: every field, every query, every kind of mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.main import app
from tests.engines.http import HTTP

NOW = datetime.now(UTC)


def offers() -> list[dict[str, Any]]:
    """Return documents as those of the demo's table offers."""
    return [
        {
            "offer_id": number,
            "score": number / 7,
            "features": {"item_feature_1": f"hash-{number % 4}"},
            "status": ("live", "paused")[number % 2],
            "payout": 1.25 * (number % 5),
            "clicks": number % 11,
            "note": f"offer number {number} with words of its own, which no panel shows",
            "updated_at": (NOW - timedelta(minutes=number)).isoformat(),
        }
        for number in range(200)
    ]


class DemoIndex:
    """An index that Elasticsearch has mapped itself, and the file of a sink that writes to it."""

    def __init__(self, url: str, name: str, folder: Path) -> None:
        self.url, self.name, self.folder = url, name, folder
        self.sink = folder / "search.yaml"
        lines = ["name: search", "connector.class: ElasticsearchSink", f"connection.url: {url}", f"topics: {name}"]
        self.sink.write_text("\n".join(lines) + "\n")
        self.pack = folder / "pack"

    def write(self, documents: list[dict[str, Any]]) -> None:
        body = "".join(f'{{"index":{{}}}}\n{json.dumps(document)}\n' for document in documents)
        answer = HTTP.post(
            f"{self.url}/{self.name}/_bulk?refresh=true", content=body, headers={"content-type": "application/x-ndjson"}
        )
        assert answer.raise_for_status().json()["errors"] is False

    def replace(self, mapping: dict[str, Any]) -> None:
        """Create the index again, with another mapping and without documents."""
        HTTP.delete(f"{self.url}/{self.name}").raise_for_status()
        HTTP.put(f"{self.url}/{self.name}", json={"mappings": {"properties": mapping}}).raise_for_status()

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["kibana", *arguments])

    def findings(self) -> dict[str, str]:
        """Return the codes of a failed check by panel."""
        answer = self.run("check", str(self.pack), str(self.sink), "--json")
        assert answer.exit_code == 1, answer.output
        return {each["key"]: each["code"] for each in json.loads(answer.stdout)["findings"]}


@pytest.fixture
def demo(elasticsearch: Any, unique_name: str, tmp_path: Path) -> Iterator[DemoIndex]:
    index = DemoIndex(elasticsearch.url, unique_name, tmp_path)
    yield index
    HTTP.delete(f"{elasticsearch.url}/{unique_name}*")


@pytest.fixture
def built(demo: DemoIndex) -> DemoIndex:
    demo.write(offers())
    answer = demo.run("build", str(demo.sink), "--live", "-o", str(demo.pack))
    assert answer.exit_code == 0, answer.output
    return demo


def test_all_panels_of_an_index_that_elasticsearch_mapped_return_data(built: DemoIndex) -> None:
    pictures = built.folder / "pictures"
    answer = built.run("check", str(built.pack), str(built.sink), "--json", "--preview", str(pictures))

    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert found["findings"] == []
    panels = [line.removeprefix(f"headrace · search · {built.name}: ") for line in found["panels"]]
    assert panels == [
        "Documents: 200 documents",
        "Data as of: 200 documents",
        "Documents over time by status: 200 documents",
        "Documents by status: 200 documents",
        "Sum of clicks over time: 200 documents",
        "Documents by features.item_feature_1: 200 documents",
        "payout over time: 200 documents",
        "score over time: 200 documents",
    ]
    (picture,) = pictures.iterdir()
    shown = {text.text for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")}
    assert {"Documents", "Data as of", "200", "live", "paused", "live  50%", "hash-1  25%"} <= shown


def test_a_pack_that_does_not_fit_the_index_fails_with_the_panel(built: DemoIndex) -> None:
    keyword = {"type": "keyword"}
    built.replace({"status": {"type": "text"}, "payout": keyword, "clicks": keyword, "updated_at": {"type": "date"}})

    found = built.findings()
    assert found["payout over time"] == "kibana.wrong_type"
    assert found["Documents by status"] == "kibana.unmapped_field"  # status.keyword
    assert found["score over time"] == "kibana.unmapped_field"
    assert found["Documents"] == "kibana.no_data"


def test_documents_outside_of_the_time_range_are_no_data_and_the_newest_is_named(demo: DemoIndex) -> None:
    demo.write([{"status": "live", "updated_at": "2019-11-30T00:00:00Z"}])
    demo.run("build", str(demo.sink), "--live", "-o", str(demo.pack))

    answer = demo.run("check", str(demo.pack), str(demo.sink))
    assert answer.exit_code == 1
    assert "from now-7d to now; the newest 'updated_at' is 2019-11-30T00:00:00.000Z" in answer.output
    demo.run("build", str(demo.sink), "--live", "--time-range", "9000d", "-o", str(demo.pack))
    assert demo.run("check", str(demo.pack), str(demo.sink)).exit_code == 0


def test_a_pack_that_was_broken_by_hand_fails(built: DemoIndex) -> None:
    path = built.pack / "saved-objects.ndjson"
    objects = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    (dashboard,) = (item for item in objects if item["type"] == "dashboard")
    dashboard["typeMigrationVersion"] = "10.9.0"
    dashboard["references"] = dashboard["references"][1:]
    path.write_text("".join(json.dumps(item) + "\n" for item in objects), encoding="utf-8")

    found = built.findings()
    assert found[f"headrace · search · {built.name}"] == "kibana.too_new"
    assert found["Documents"] == "kibana.dangling_reference"
