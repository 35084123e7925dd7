"""Dashboards over what the exploration model writes."""

from __future__ import annotations

import pytest

from headrace.kibana.experiment_panels import experiment_panels
from headrace.kibana.exploration_panels import exploration_panels
from headrace.kibana.field_kinds import NUMBERS, FieldFacts
from headrace.kibana.panel_choice import MOST_PANELS
from headrace.plugin import IndexedField


def facts(*names: str) -> list[FieldFacts]:
    words = {"version", "assigned", "candidate", "experiment", "transition", "by", "current"}
    return [
        FieldFacts(
            IndexedField(f"{name}.keyword", "keyword")
            if name in words or name.endswith("action")
            else IndexedField(name, "double")
        )
        for name in names
    ]


SELECTIONS = facts("version", "assigned", "probability", "calibrated", "propensity", "seq")
SCORES = facts("version", "candidate", "probability", "calibrated", "impressions", "conversions")
LABELS = [*SELECTIONS, *facts("conversion.converted_at")]
LOOKS = facts(
    "experiment",
    "traffic",
    "open",
    *(f"counts.{version}.{name}" for version in ("v1", "v2") for name in ("conversions", "rate", "units")),
    "shares.v1",
    "shares.v2",
    "decision.versions.v2.action",
)
TRANSITIONS = facts("experiment", "transition", "number", "by", "current", "version", "shares.v1", "shares.v2")
FIELDS = {"selections": SELECTIONS, "labels": LABELS, "scores": SCORES, "looks": LOOKS, "transitions": TRANSITIONS}


@pytest.mark.parametrize("time_field", ["at", ""])
@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_panels_use_the_fields_of_the_index(fields: list[FieldFacts], time_field: str) -> None:
    panels = exploration_panels(fields, time_field) or experiment_panels(fields, time_field)
    types = {each.field.path: each.field.type for each in fields}
    assert 2 < len(panels) <= MOST_PANELS
    assert len({panel.key for panel in panels}) == len(panels)
    assert any(panel.chart == "lnsXY" for panel in panels) == bool(time_field)
    for panel in panels:
        assert len({column.id for column in panel.columns}) == len(panel.columns)
        for column in panel.columns:
            assert not column.order_by or column.order_by in {each.id for each in panel.columns}
            if column.field and column.field != time_field:
                assert types[column.field] == column.type
                assert (column.operation == "terms") != (column.type in NUMBERS)


def test_other_indices_are_not_taken_for_the_models() -> None:
    assert exploration_panels(facts("version", "probability"), "at") == []
    text = FieldFacts(IndexedField("version", "text", aggregatable=False))
    assert exploration_panels([*SELECTIONS[1:], text], "at") == []
    assert experiment_panels(facts("experiment", "traffic", "open"), "at") == []


def test_conversions_and_the_state_of_the_test_are_shown_by_version() -> None:
    labels = {panel.key: panel for panel in exploration_panels(LABELS, "at")}
    assert [column.label for column in labels["versions"].columns] == [
        "version",
        "Documents",
        "Conversions",
        "Conversions expected",
        "Median probability",
    ]
    assert labels["conversions"].columns[-1].field == "conversion.converted_at"
    looks = {panel.key: panel for panel in experiment_panels(LOOKS, "at")}
    assert looks.keys() == {
        "documents", "data-as-of", "conversions", "rates", "units", "shares", "open", "decisions",
    }  # fmt: skip
    assert [(column.label, column.field) for column in looks["rates"].columns] == [
        ("at", "at"),
        ("v1", "counts.v1.rate"),
        ("v2", "counts.v2.rate"),
    ]
    assert looks["decisions"].title == "Decisions on v2, by look"
