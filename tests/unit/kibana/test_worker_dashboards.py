"""The dashboards over metrics and events of workers fit the fields that the reporter writes."""

from __future__ import annotations

import pytest

from headrace.kibana.build import BuildOptions, build_pack
from headrace.kibana.panel_choice import MOST_PANELS
from headrace.kibana.structure_check import structure_findings
from headrace.kibana.worker_dashboards import EVENTS, METRICS, worker_data
from headrace.plugin import IndexedField
from headrace.settings import WorkerSettings

SETTINGS = WorkerSettings.parse({"bootstrap.servers": "k:9092", "metrics.elasticsearch.url": "http://a:9200"})


def test_a_worker_that_writes_no_metrics_has_no_dashboards() -> None:
    assert worker_data(None) is None
    assert worker_data(WorkerSettings.parse({"bootstrap.servers": "k:9092"})) is None


def test_the_pack_is_well_formed() -> None:
    workers = worker_data(SETTINGS)
    assert workers is not None
    findings: list[object] = []
    pack = build_pack([workers], BuildOptions(), findings)  # type: ignore[arg-type]
    workers.data.close()
    assert findings == []
    assert list(structure_findings(pack)) == []
    titles = {item["attributes"]["title"] for item in pack.of_type("dashboard")}
    assert titles == {
        f"headrace · operations · {METRICS}",
        f"headrace · stream applications · {METRICS}",
        f"headrace · events · {EVENTS}",
    }
    assert pack.rules == ()


@pytest.mark.parametrize("index", [METRICS, EVENTS])
def test_every_panel_and_column_uses_a_field_of_the_stream(index: str) -> None:
    workers = worker_data(SETTINGS)
    assert workers is not None
    workers.data.close()
    [target] = [target for target in workers.targets if target.name == index]
    types = {field.path: field.type for field in target.fields}
    for dashboard in workers.dashboards[index]:
        assert len(dashboard.panels) <= MOST_PANELS
        assert len({panel.key for panel in dashboard.panels}) == len(dashboard.panels)
        assert {*dashboard.columns} <= types.keys()
        for panel in dashboard.panels:
            ids = [column.id for column in panel.columns]
            assert len(ids) == len(set(ids))
            for column in panel.columns:
                if column.field:
                    assert types[column.field] in (column.type, "long", "double"), (panel.title, column)
    assert target.fields[0] == IndexedField("@timestamp", "date")
