"""A fake Kibana, and packs of an index that needs no Elasticsearch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from headrace import DashboardData, DataTarget, IndexedField, TaskError
from headrace.errors import Finding
from headrace.kibana.build import BuildOptions, build_pack
from headrace.kibana.client import KibanaAccess, KibanaClient
from headrace.kibana.pack import Pack
from headrace.kibana.sinks import SearchableSink
from tests.unit.kibana.fake_kibana import FakeKibana

ORDERS = (
    IndexedField("order_id", "long"),
    IndexedField("customer", "keyword"),
    IndexedField("status", "keyword"),
    IndexedField("paid", "boolean"),
    IndexedField("note", "text", aggregatable=False),
    IndexedField("total", "double"),
    IndexedField("items", "integer"),
    IndexedField("updated_at", "date"),
)


class RecordedData(DashboardData):
    """Fields of indices, and answers to searches; records the searches."""

    def __init__(self, fields: Mapping[str, Sequence[IndexedField]], documents: int = 10) -> None:
        self.indices = dict(fields)
        self.documents = documents
        self.distinct: dict[str, int] = {}
        self.searches: list[tuple[str, Mapping[str, Any]]] = []
        self.refused = False

    def targets(self, topics: Sequence[str]) -> Sequence[DataTarget]:
        return [DataTarget(topic, topic, self.indices.get(topic, ())) for topic in topics]

    def fields(self, name: str) -> Sequence[IndexedField] | None:
        return self.indices.get(name)

    def search(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.searches.append((name, request))
        if self.refused:
            raise TaskError(f"'{name}' cannot be searched: no such aggregation", code="elasticsearch.index_refused")
        found = {
            key: {"value": self.distinct.get(key, 3), "values": {"50.0": 1.0}, "buckets": [{"doc_count": 1}]}
            for key in request.get("aggs", {})
        }
        if not self.documents:
            found = {key: {"value": None} for key in found}
        return {"hits": {"total": {"value": self.documents}}, "aggregations": found}

    def close(self) -> None:
        """There is nothing to release."""


def searchable(data: DashboardData, *topics: str, name: str = "search") -> SearchableSink:
    return SearchableSink(name, data, data.targets(topics or ("shop.orders",)), frozenset())


@pytest.fixture
def make_pack() -> Callable[..., Pack]:
    def make(fields: Sequence[IndexedField] = ORDERS, *, findings: list[Finding] | None = None, **options: Any) -> Pack:
        sink = searchable(RecordedData({"shop.orders": fields}))
        return build_pack([sink], BuildOptions(**options), [] if findings is None else findings)

    return make


@pytest.fixture
def kibana() -> Iterator[FakeKibana]:
    with FakeKibana().serving() as fake:
        yield fake


@pytest.fixture
def client(kibana: FakeKibana) -> Iterator[KibanaClient]:
    opened = KibanaClient(KibanaAccess(kibana.url), "default")
    yield opened
    opened.close()
