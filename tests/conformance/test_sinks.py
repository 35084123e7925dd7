"""The sinks of headrace pass the conformance suite of sinks."""

import json
from typing import Any
from urllib.request import urlopen

import pytest

from headrace.testing.sink import ReadBack, SinkConformance
from headrace_sinks.console import ConsoleSinkConnector
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector


class TestElasticsearchSink(SinkConformance):
    connector = ElasticsearchSinkConnector

    @pytest.fixture
    def properties(self, elasticsearch: Any) -> dict[str, str]:
        return {"connection.url": elasticsearch.url, "schema.ignore": "true", "batch.size": "7"}

    @pytest.fixture
    def unreachable(self, properties: dict[str, str]) -> dict[str, str] | None:
        return properties | {"connection.url": "http://127.0.0.1:1"}

    @pytest.fixture
    def read_back(self, elasticsearch: Any, topic: str) -> ReadBack:
        def read() -> dict[str, Any]:
            with urlopen(f"{elasticsearch.url}/{topic}/_refresh"):
                pass
            with urlopen(f"{elasticsearch.url}/{topic}/_search?size=1000") as answer:
                return {hit["_id"]: hit["_source"] for hit in json.load(answer)["hits"]["hits"]}

        return read

    @pytest.fixture
    def bad_value(self) -> Any:
        return {"n": "not a number"}  # the first document mapped the field as long


class TestElasticsearchUpsert(TestElasticsearchSink):
    @pytest.fixture
    def properties(self, elasticsearch: Any) -> dict[str, str]:
        return {
            "connection.url": elasticsearch.url,
            "schema.ignore": "true",
            "batch.size": "7",
            "write.method": "upsert",
        }


class TestConsoleSink(SinkConformance):
    connector = ConsoleSinkConnector
    keyed = False

    @pytest.fixture
    def properties(self) -> dict[str, str]:
        return {}

    @pytest.fixture
    def read_back(self, capsys: pytest.CaptureFixture[str]) -> ReadBack:
        lines: list[str] = []

        def read() -> dict[str, Any]:
            lines.extend(line for line in capsys.readouterr().out.splitlines() if line.startswith('{"topic"'))
            return {record["key"]: record["value"] for record in map(json.loads, lines)}

        return read

    @pytest.fixture
    def bad_value(self) -> Any:
        return object()
