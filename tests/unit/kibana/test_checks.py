"""Broken packs fail with the name of the panel and the fix."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from headrace import IndexedField
from headrace.kibana.pack import Pack
from headrace.kibana.query_check import QueryCheck
from headrace.kibana.structure_check import structure_findings
from tests.unit.kibana.conftest import ORDERS, RecordedData, searchable

MakePack = Callable[..., Pack]
Break = Callable[[dict[str, Any]], None]


def broken(pack: Pack, kind: str, change: Break) -> Pack:
    objects = copy.deepcopy(pack.objects)
    for item in objects:
        if item["type"] == kind:
            change(item)
    return Pack(pack.space, objects, pack.rules)


def panels(change: Break) -> Break:
    """Return a change of the first panel of a dashboard."""

    def changed(item: dict[str, Any]) -> None:
        found = json.loads(item["attributes"]["panelsJSON"])
        change(found[0])
        item["attributes"]["panelsJSON"] = json.dumps(found)

    return changed


def _layer(panel: dict[str, Any]) -> dict[str, Any]:
    (layer,) = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].values()
    return dict(layer)


@pytest.mark.parametrize(
    ("kind", "change", "code", "said"),
    [
        ("dashboard", lambda item: item.update(typeMigrationVersion="10.4.0"), "kibana.too_new", "10.4.0"),
        ("dashboard", lambda item: item.pop("typeMigrationVersion"), "kibana.no_version", "migrations"),
        ("search", lambda item: item["attributes"].update(tabs=[]), "kibana.unknown_attribute", "'tabs'"),
        ("index-pattern", lambda item: item.update(id="other"), "kibana.dangling_reference", "not in the pack"),
        ("tag", lambda item: item.update(type="widget"), "kibana.unknown_type", "'widget'"),
        ("tag", lambda item: item.update(id="same"), "kibana.repeated_id", "2 objects"),
        ("dashboard", lambda item: item["attributes"].update(optionsJSON="{"), "kibana.bad_attribute", "optionsJSON"),
        ("dashboard", lambda item: item["attributes"].update(panelsJSON='{"a":1}'), "kibana.bad_panel", "cannot be"),
        (
            "dashboard",
            panels(lambda panel: panel["gridData"].update(x=40)),
            "kibana.layout",
            "panel 'Documents' is not inside",
        ),
        (
            "dashboard",
            panels(lambda panel: panel["gridData"].update(w=20)),
            "kibana.layout",
            "overlaps panel 'Documents'",
        ),
        (
            "dashboard",
            panels(lambda panel: panel.update(panelIndex="p", gridData=panel["gridData"] | {"i": "p"})),
            "kibana.dangling_reference",
            "panel 'Documents': the dashboard has no reference",
        ),
        (
            "dashboard",
            panels(lambda panel: _layer(panel)["columns"].pop("count")),
            "kibana.bad_panel",
            "panel 'Documents': the visualization shows columns",
        ),
    ],
)
def test_a_broken_structure_is_found(kind: str, change: Break, code: str, said: str, make_pack: MakePack) -> None:
    findings = structure_findings(broken(make_pack(), kind, change))

    assert code in {finding.code for finding in findings}
    assert any(said in finding.message for finding in findings if finding.code == code)
    assert all(finding.hint for finding in findings)


def test_a_rule_with_another_kind_of_id_is_found(make_pack: MakePack) -> None:
    pack = make_pack()
    rules = tuple({**rule, "id": "5d1c2f6e-9f0a-5a86-9b0e-6a1d3c9e7b42"} for rule in pack.rules)

    (finding,) = structure_findings(Pack(pack.space, pack.objects, rules))
    assert finding.code == "kibana.bad_rule"


def check(pack: Pack, data: RecordedData) -> list[tuple[str, str, str]]:
    found = QueryCheck([searchable(data)]).findings(pack)
    return [(finding.code, finding.key, finding.hint) for finding in found]


def with_fields(**types: str) -> RecordedData:
    """Return the data of orders with other types; an empty type removes the field."""
    fields = [
        IndexedField(field.path, types.get(field.path, field.type), types.get(field.path) != "text")
        for field in ORDERS
        if types.get(field.path) != ""
    ]
    return RecordedData({"shop.orders": fields})


def test_every_panel_of_a_pack_that_fits_is_run(make_pack: MakePack) -> None:
    data = RecordedData({"shop.orders": ORDERS})
    checker = QueryCheck([searchable(data)])

    assert checker.findings(make_pack()) == []
    assert len(checker.results) == len(data.searches) == 8
    assert all(request["query"]["range"]["updated_at"]["gte"] == "now-7d" for _, request in data.searches)


def test_a_renamed_field_is_found_although_elasticsearch_would_sum_it(make_pack: MakePack) -> None:
    data = with_fields(total="")
    data.indices["shop.orders"] = [*data.indices["shop.orders"], IndexedField("totals", "double")]

    assert ("kibana.unmapped_field", "total over time", "did you mean 'totals'?") in check(make_pack(), data)


@pytest.mark.parametrize(
    ("types", "panel", "hint"),
    [
        ({"total": "keyword"}, "total over time", "--live"),
        ({"status": "text"}, "Most frequent status", "keyword"),
        ({"updated_at": "keyword"}, "Documents over time", "--live"),
    ],
)
def test_a_field_of_another_type_is_found(types: dict[str, str], panel: str, hint: str, make_pack: MakePack) -> None:
    found = [each for each in check(make_pack(), with_fields(**types)) if each[1].startswith(panel)]

    assert {code for code, _, _ in found} == {"kibana.wrong_type"}
    assert all(hint in text for _, _, text in found)


def test_an_empty_index_and_a_time_range_without_data_are_found(make_pack: MakePack) -> None:
    data = RecordedData({"shop.orders": ORDERS}, documents=0)

    found = check(make_pack(), data)
    assert {code for code, _, _ in found} == {"kibana.no_data"}
    assert len(found) == 8


def test_a_refused_query_is_found_with_its_reason(make_pack: MakePack) -> None:
    data = RecordedData({"shop.orders": ORDERS})
    data.refused = True

    found = QueryCheck([searchable(data)]).findings(make_pack())
    assert {finding.code for finding in found} == {"kibana.query_failed"}
    assert all("no such aggregation" in finding.message for finding in found)


def test_a_column_order_with_unknown_columns_is_found_and_the_query_still_runs(make_pack: MakePack) -> None:
    pack = broken(make_pack(), "dashboard", panels(lambda panel: _layer(panel)["columnOrder"].append("gone")))

    assert [finding.code for finding in structure_findings(pack)] == ["kibana.bad_panel"]
    assert check(pack, RecordedData({"shop.orders": ORDERS})) == []


def test_a_data_view_of_no_sink_and_one_without_an_index_are_found(make_pack: MakePack) -> None:
    assert [code for code, _, _ in check(make_pack(), RecordedData({}))] == ["kibana.no_index"]
    other = QueryCheck([searchable(RecordedData({"other": ORDERS}), "other")])
    assert [finding.code for finding in other.findings(make_pack())] == ["kibana.unknown_index"]


def test_a_panel_that_is_not_read_is_reported_and_not_taken_as_checked(make_pack: MakePack) -> None:
    def as_esql(panel: dict[str, Any]) -> None:
        sources = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]
        sources["textBased"] = sources.pop("formBased")

    pack = broken(make_pack(), "dashboard", panels(as_esql))
    found = QueryCheck([searchable(RecordedData({"shop.orders": ORDERS}))]).findings(pack)
    assert [(finding.code, finding.severity) for finding in found] == [("kibana.not_checked", "warning")]
