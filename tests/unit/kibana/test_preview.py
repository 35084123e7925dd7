"""Pictures of dashboards are well-formed SVG that shows the values of the queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from headrace.errors import ConfigError
from headrace.kibana.field_kinds import FieldFacts
from headrace.kibana.panel_choice import choose_panels
from headrace.kibana.preview import picture, write_previews
from headrace.kibana.query_check import PanelResult
from headrace.kibana.saved_objects import dashboard, data_view
from headrace.kibana.stored_panels import read_panels
from tests.unit.kibana.conftest import ORDERS

HOUR = 3_600_000
_SVG = "{http://www.w3.org/2000/svg}"


def results() -> list[PanelResult]:
    """Return the panels of an index of orders with values, as Elasticsearch responds."""
    facts = [FieldFacts(field, {"status": 2, "customer": 90}.get(field.path), 1_000) for field in ORDERS]
    panels = choose_panels(facts, "updated_at")
    stored = dashboard("default", "search", data_view("default", "shop", "updated_at"), panels, "7d", [])
    found = []
    for panel in read_panels(stored):
        (layer,) = panel.layers
        found.append(PanelResult("headrace · <shop>", panel, layer, 1_234, _answer(layer.columns)))
    return found


def _answer(columns: Mapping[str, Any]) -> dict[str, Any]:
    groups = [name for name, column in columns.items() if column["isBucketed"]]
    values: dict[str, Any] = {
        name: {"values": {"95.0": 2.5}} if column["operationType"] == "percentile" else {"value": 7 * HOUR}
        for name, column in columns.items()
        if not column["isBucketed"] and column["operationType"] != "count"
    }
    for name in reversed(groups):
        keys: list[Any] = [HOUR, 2 * HOUR] if name == "time" else ["a & b", "open"]
        values = {name: {"buckets": [{"key": key, "doc_count": 3, **values} for key in keys], "sum_other_doc_count": 4}}
    return values


def test_a_picture_shows_every_panel_with_its_values() -> None:
    tree = ElementTree.fromstring(picture("headrace · <shop>", results()))
    texts = [element.text for element in tree.iter(f"{_SVG}text")]

    for panel in results():
        assert panel.panel.title in texts
    assert {"headrace · <shop>", "1,234", "1970-01-01 07:00:00 UTC", "a & b", "open  30%", "Other  40%"} <= set(texts)
    assert len(list(tree.iter(f"{_SVG}polyline"))) == 2


def test_a_panel_that_a_user_has_made_in_another_form_is_named_and_not_drawn() -> None:
    metric = next(each for each in results() if each.panel.chart == "lnsMetric")
    definition = {"columns": {**metric.layer.columns, "second": {"isBucketed": False, "operationType": "count"}}}
    other = metric._replace(layer=metric.layer._replace(definition=definition))

    texts = [element.text for element in ElementTree.fromstring(picture("t", [other])).iter(f"{_SVG}text")]
    assert texts == ["t", metric.panel.title, "There is no picture of it"]


def test_a_picture_is_written_for_each_dashboard(tmp_path: Path) -> None:
    (path,) = write_previews(results(), tmp_path / "pictures")

    assert path.suffix == ".svg"
    assert ElementTree.parse(path).getroot().tag == f"{_SVG}svg"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError) as refused:
        write_previews(results(), tmp_path / "file")
    assert refused.value.code == "kibana.bad_folder"
