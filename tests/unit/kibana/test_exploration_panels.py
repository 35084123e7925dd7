"""Dashboards over what the exploration model writes."""

from __future__ import annotations

import pytest

from headrace.kibana.exploration_panels import exploration_panels
from headrace.kibana.field_kinds import NUMBERS, FieldFacts
from headrace.kibana.panel_choice import MOST_PANELS
from headrace.plugin import IndexedField


def facts(*names: str) -> list[FieldFacts]:
    words = {"version", "assigned", "candidate"}
    return [
        FieldFacts(IndexedField(f"{name}.keyword", "keyword") if name in words else IndexedField(name, "double"))
        for name in names
    ]


SELECTIONS = facts("version", "assigned", "probability", "calibrated", "propensity", "seq")
SCORES = facts("version", "candidate", "probability", "calibrated", "impressions", "conversions")


@pytest.mark.parametrize("time_field", ["at", ""])
@pytest.mark.parametrize("fields", [SELECTIONS, SCORES], ids=["selections", "scores"])
def test_panels_use_the_fields_of_the_index(fields: list[FieldFacts], time_field: str) -> None:
    panels = exploration_panels(fields, time_field)
    types = {each.field.path: each.field.type for each in fields}
    assert 2 < len(panels) <= MOST_PANELS
    assert len({panel.key for panel in panels}) == len(panels)
    assert any(panel.chart == "lnsXY" for panel in panels) == bool(time_field)
    for panel in panels:
        assert len({column.id for column in panel.columns}) == len(panel.columns)
        for column in panel.columns:
            if column.operation in ("terms", "sum", "percentile"):
                assert types[column.field] == column.type
                assert (column.operation == "terms") != (column.type in NUMBERS)


def test_other_indices_are_not_taken_for_the_models() -> None:
    assert exploration_panels(facts("version", "probability"), "at") == []
    text = FieldFacts(IndexedField("version", "text", aggregatable=False))
    assert exploration_panels([*SELECTIONS[1:], text], "at") == []
