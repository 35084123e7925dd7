"""Packs are built the same everywhere, have stable ids, and survive their files."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import IndexedField
from headrace.errors import ConfigError, Finding, InfrastructureError
from headrace.kibana.build import BuildOptions, build_pack
from headrace.kibana.ids import content_hash, object_id, rule_id
from headrace.kibana.pack import Pack, read_pack, write_pack
from headrace.kibana.saved_objects import content, mark_of, marked
from headrace.kibana.structure_check import structure_findings
from tests.unit.kibana.conftest import ORDERS, RecordedData, searchable

MakePack = Callable[..., Pack]
NAMES = st.lists(st.text(max_size=8), min_size=1, max_size=3)


@given(NAMES, NAMES)
def test_ids_are_equal_only_for_equal_names(first: list[str], second: list[str]) -> None:
    assert (object_id(*first) == object_id(*second)) == (first == second)
    assert (rule_id(*first) == rule_id(*second)) == (first == second)


@given(NAMES)
def test_ids_of_rules_have_the_form_that_kibana_accepts(names: list[str]) -> None:
    assert uuid.UUID(rule_id(*names)).version == 4
    assert uuid.UUID(object_id(*names)).version == 5


def test_ids_do_not_change_from_release_to_release() -> None:
    """A changed id makes every dashboard a new one, and links to the old one break."""
    assert object_id("dashboard", "default", "search", "shop.orders") == "335bd5c3-a084-5947-8838-b81a83ab443c"
    assert rule_id("silence", "default", "search", "shop.orders") == "1827fc11-1185-4e98-86b7-096daf047478"


def test_the_same_sinks_give_the_same_files(make_pack: MakePack, tmp_path: Path) -> None:
    paths = write_pack(make_pack(), tmp_path / "a")
    again = write_pack(make_pack(list(reversed(ORDERS))), tmp_path / "b")

    assert [path.name for path in paths] == ["pack.json", "saved-objects.ndjson", "rules.ndjson"]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_a_pack_is_read_as_it_was_written(make_pack: MakePack, tmp_path: Path) -> None:
    pack = make_pack(space="team-a")
    write_pack(pack, tmp_path)
    found = read_pack(tmp_path)

    assert (found.space, found.rules) == ("team-a", pack.rules)
    assert sorted(map(json.dumps, found.objects)) == sorted(json.dumps(item, sort_keys=True) for item in pack.objects)
    assert structure_findings(found) == []


def test_a_new_field_changes_only_the_lines_that_show_it(make_pack: MakePack, tmp_path: Path) -> None:
    write_pack(make_pack([field for field in ORDERS if field.path != "items"]), tmp_path / "a")
    write_pack(make_pack(), tmp_path / "b")
    before, after = ((tmp_path / each / "saved-objects.ndjson").read_text().splitlines() for each in "ab")

    changed = [line for line, other in zip(after, before, strict=True) if line != other]
    assert [json.loads(line)["type"] for line in changed] == ["search", "dashboard"]


def test_every_object_of_another_space_has_another_id(make_pack: MakePack) -> None:
    ids = [{item["id"] for item in (*pack.objects, *pack.rules)} for pack in (make_pack(), make_pack(space="team-a"))]
    assert ids[0].isdisjoint(ids[1])


def test_a_mark_survives_and_says_what_was_built(make_pack: MakePack) -> None:
    item = make_pack().of_type("dashboard")[0]

    built, stored = mark_of(item)
    assert built == stored == content_hash(content(item))
    assert mark_of(marked(item, "abc123")) == (built, "abc123")
    assert content(marked(item, "abc123")) == content(item)


def test_dead_letters_of_other_connectors_have_their_own_search_and_alert() -> None:
    data = RecordedData({"shop.orders": ORDERS, "dead": ORDERS})
    sink = searchable(data, "shop.orders", "dead")._replace(dead_letters=frozenset(["dead"]))
    pack = build_pack([sink], BuildOptions(), [])

    assert "headrace · dead letters · dead" in [item["attributes"]["title"] for item in pack.of_type("search")]
    assert [rule["name"] for rule in pack.rules] == [
        "headrace · search · no new documents in shop.orders for 1h",
        "headrace · search · dead letters in dead",
    ]


def test_missing_facts_are_warnings_that_say_what_to_do(make_pack: MakePack) -> None:
    findings: list[Finding] = []
    assert len(make_pack((), findings=findings).of_type("dashboard")) == 1
    assert [(finding.code, finding.severity) for finding in findings] == [("kibana.no_fields", "warning")]
    assert "--live" in findings[0].hint

    findings.clear()
    pack = make_pack([IndexedField("status", "keyword")], findings=findings)
    assert (pack.rules, [finding.code for finding in findings]) == ((), ["kibana.no_time"])
    assert "timeFieldName" not in pack.of_type("index-pattern")[0]["attributes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_fields": {"shop.orderz": "updated_at"}}, "no sink writes to an index 'shop.orderz'"),
        ({"time_fields": {"shop.orders": "status"}}, "has no date field 'status'"),
        ({"time_range": "a week"}, "--time-range a week: not a period"),
        ({"silence": "0m"}, "--silence 0m: not a period"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, object], message: str, make_pack: MakePack) -> None:
    with pytest.raises(ConfigError, match=message):
        make_pack(**options)


def test_live_fields_are_asked_once_with_the_number_of_their_values() -> None:
    data = RecordedData({"shop.orders": ORDERS})
    build_pack([searchable(data)], BuildOptions(live=True), [])

    ((index, request),) = data.searches
    assert index == "shop.orders"
    assert request["aggs"].keys() == {"customer", "status", "paid"}


def test_a_missing_index_is_an_error_with_live() -> None:
    with pytest.raises(InfrastructureError) as refused:
        build_pack([searchable(RecordedData({}))], BuildOptions(live=True), [])
    assert refused.value.code == "kibana.no_index"


@pytest.mark.parametrize(
    ("file", "text", "place", "message"),
    [
        ("pack.json", "[]", "pack.json:1:1", "not a JSON object"),
        ("pack.json", '{"format":9,"space":"x"}', "pack.json:1:1", "newer than this headrace"),
        ("saved-objects.ndjson", "\n{", "saved-objects.ndjson:2:1", "not JSON"),
        ("rules.ndjson", "{}", "rules.ndjson:1:1", "no 'id'"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    file: str, text: str, place: str, message: str, make_pack: MakePack, tmp_path: Path
) -> None:
    write_pack(make_pack(), tmp_path)
    (tmp_path / file).write_text(text)

    with pytest.raises(ConfigError) as refused:
        read_pack(tmp_path)
    (finding,) = refused.value.findings
    assert finding.code == "kibana.bad_pack"
    assert str(finding.location).endswith(place)
    assert message in finding.message
