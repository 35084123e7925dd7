"""Panels are chosen by the types of fields, and never show text, ids or secrets."""

from __future__ import annotations

import json
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import IndexedField
from headrace.kibana.field_kinds import NUMBERS, FieldFacts, FieldKind, identifies, kind_of, time_field_of
from headrace.kibana.lens import WIDTH, layout
from headrace.kibana.panel_choice import MOST_PANELS, choose_panels
from headrace.kibana.saved_objects import dashboard, data_view
from headrace.kibana.stored_panels import read_panels
from tests.unit.examples import packed
from tests.unit.kibana.conftest import ORDERS

TYPES = ("keyword", "text", "long", "double", "date", "boolean", "ip", "geo_point", "flattened", "long/keyword")
WORDS = ("total", "status", "paid", "note", "price", "a", "b", "country", "id", "email", "token", "user", "created")
NAMES = (*WORDS, *(f"offer.{word}" for word in WORDS), "order_id", "updated_at", "changed")
FACTS = st.lists(
    packed(NAMES, TYPES, (True, False), (None, 0, 1, 2, 12, 13, 49, 51, 1_000, 1_001, 5_000), (0, 1, 99, 100, 10_000)),
    max_size=30,
    unique_by=itemgetter(0),
).map(lambda found: [FieldFacts(IndexedField(*facts[:3]), *facts[3:]) for facts in found])


@given(FACTS, st.sampled_from(["", "updated_at"]))
def test_panels_show_only_fields_that_can_be_aggregated_and_identify_nothing(
    facts: list[FieldFacts], time_field: str
) -> None:
    by_path = {each.field.path: each.field for each in facts}
    panels = choose_panels(facts, time_field)

    assert panels[0].title == "Documents"
    assert len(panels) <= MOST_PANELS
    assert len({panel.key for panel in panels}) == len(panels)
    for column in (column for panel in panels for column in panel.columns):
        if column.field in ("", time_field):
            continue
        field = by_path[column.field]
        assert field.aggregatable
        assert not identifies(field.path)
        assert field.type not in ("text", "geo_point", "flattened", "long/keyword")
        assert column.operation not in ("sum", "percentile") or field.type in NUMBERS
        assert column.operation != "date_histogram"


@given(FACTS, st.randoms(use_true_random=False))
def test_the_order_in_which_fields_are_listed_does_not_matter(facts: list[FieldFacts], random: object) -> None:
    shuffled = list(facts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert choose_panels(shuffled, "updated_at") == choose_panels(facts, "updated_at")


@given(FACTS, st.sampled_from(["", "updated_at"]))
def test_panels_do_not_overlap_and_every_stored_panel_is_readable(facts: list[FieldFacts], time_field: str) -> None:
    panels = choose_panels(facts, time_field)
    cells = [
        (x, y)
        for place in layout(panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < WIDTH for x, _ in cells)

    stored = dashboard("default", "c", data_view("default", "i", time_field), panels, "7d", [])
    for panel, found in zip(panels, read_panels(stored), strict=True):
        (layer,) = found.layers
        assert found.accessors == set(layer.columns) == {column.id for column in panel.columns}
        assert found.views.keys() == {layer.id}
        assert found.title == panel.title


def test_the_panels_of_an_index_of_orders() -> None:
    facts = [FieldFacts(field, {"status": 4, "customer": 90}.get(field.path), 1_000) for field in ORDERS]

    assert [(panel.title, panel.chart) for panel in choose_panels(facts, "updated_at")] == [
        ("Documents", "lnsMetric"),
        ("Data as of", "lnsMetric"),
        ("Documents over time by status", "lnsXY"),
        ("Documents by status", "lnsPie"),
        ("Sum of items over time", "lnsXY"),
        ("Documents by paid", "lnsPie"),
        ("total over time", "lnsXY"),
        ("Most frequent customer", "lnsDatatable"),
    ]


def test_without_a_time_nothing_is_shown_over_time() -> None:
    panels = choose_panels([FieldFacts(field) for field in ORDERS], "")

    assert "date_histogram" not in {column.operation for panel in panels for column in panel.columns}
    assert "Values of total" in [panel.title for panel in panels]


@pytest.mark.parametrize(
    ("path", "kind", "distinct", "documents", "expected"),
    [
        ("status", "keyword", None, 0, FieldKind.TERMS),
        ("status.keyword", "keyword", 3, 50, FieldKind.CATEGORY),
        ("country", "keyword", 40, 1_000, FieldKind.TERMS),
        ("title", "keyword", 900, 1_000, None),
        ("source", "keyword", 1, 1_000, None),
        ("code", "keyword", 4_000, 1_000_000, None),
        ("order_id", "long", None, 0, None),
        ("customerId", "keyword", 3, 1_000, None),
        ("user.email", "keyword", 3, 1_000, None),
        ("valid", "boolean", None, 0, FieldKind.BOOLEAN),
        ("paid", "long", None, 0, FieldKind.NUMBER),
        ("at", "date_nanos", None, 0, FieldKind.DATE),
        ("place", "geo_point", None, 0, None),
    ],
)
def test_how_a_field_is_shown(
    path: str, kind: str, distinct: int | None, documents: int, expected: FieldKind | None
) -> None:
    assert kind_of(FieldFacts(IndexedField(path, kind), distinct, documents)) is expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["created_at", "updated_at"], "updated_at"),
        (["born", "created_at"], "created_at"),
        (["b", "a"], "a"),
        (["line.updated_at", "created_at"], "created_at"),
        ([], ""),
    ],
)
def test_the_time_of_a_document_is_that_of_its_last_change(paths: list[str], expected: str) -> None:
    assert time_field_of([IndexedField(path, "date") for path in paths]) == expected


def test_stored_panels_are_one_line_of_json_with_sorted_keys() -> None:
    view = data_view("default", "shop.orders", "updated_at")
    stored = dashboard("default", "search", view, choose_panels([], "updated_at"), "7d", [])
    text = stored["attributes"]["panelsJSON"]

    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
