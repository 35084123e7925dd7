"""Mistakes in an application are reported before it starts, with their key or their location in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cli.loading import load
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.planning import make_plan

BASE = {
    "inputs.views.topic": "impressions",
    "inputs.views.columns.offer_id": "integer",
    "inputs.views.columns.country": "string",
    "tables.offers": "offers",
    "outputs.out": "last",
}
WINDOW = {
    "steps.last.window.by": "offer_id",
    "steps.last.window.tumbling": "1m",
    "steps.last.window.grace": "0",
    "steps.last.window.aggregate.n": "count(*)",
}
JOIN = {
    "inputs.clicks.topic": "clicks",
    "inputs.clicks.columns.id": "integer",
    "inputs.clicks.columns.name": "string",
    "steps.last.join.left": "views",
    "steps.last.join.right": "clicks",
    "steps.last.join.by": "offer_id",
    "steps.last.join.right_by": "id",
    "steps.last.join.within": "1h",
    "steps.last.join.grace": "0",
}
SESSION = {key.replace("tumbling", "session"): text for key, text in WINDOW.items()}
HOPPING = {key.replace("tumbling", "hopping"): text for key, text in WINDOW.items()}
DEDUPLICATE = {
    "steps.last.deduplicate.by": "offer_id",
    "steps.last.deduplicate.within": "1h",
    "steps.last.deduplicate.grace": "1m",
}
TOP = {
    "steps.last.top.by": "country",
    "steps.last.top.order": "offer_id DESC",
    "steps.last.top.limit": "3",
    "steps.last.top.tumbling": "1h",
    "steps.last.top.grace": "1m",
}


STAGED = {**JOIN, "steps.last.join.type": "left", "steps.last.join.stages": "5m, 30m"}


def findings(keys: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return severity or code, key and message of each finding."""
    _, found = make_plan("app", ApplicationKeys.parse({**BASE, **keys}))
    return [(item.code, item.key, item.message) for item in found]


def test_a_topic_with_dots_as_the_name_of_an_output_is_an_error_that_says_how_to_write_it() -> None:
    _, found = make_plan("app", ApplicationKeys.parse({**BASE, "outputs.shop.views": "views"}))
    (hint,) = [item.hint for item in found if item.key == "outputs.shop.views"]
    assert hint == "if shop.views is a topic, name it as a property: outputs.<name>.topic: shop.views"


@pytest.mark.parametrize(
    ("keys", "code", "key", "words"),
    [
        ({"steps.last.filter": "offr_id > 1"}, "stream.unknown_column", "steps.last.filter", "'offr_id'"),
        (
            {"steps.last.filter": "country > 1"},
            "stream.wrong_type",
            "steps.last.filter",
            "compares string with integer",
        ),
        ({"steps.last.filter": "offer_id"}, "stream.wrong_type", "steps.last.filter", "not a condition"),
        ({"steps.last.filter": "offer_id >"}, "stream.syntax", "steps.last.filter", "at character"),
        ({"steps.last.filtr": "offer_id > 1"}, "config.unknown_key", "steps.last.filtr", "'steps.last.filtr'"),
        ({"steps.last.add.x": "country + 1"}, "stream.wrong_type", "steps.last.add.x", "needs integer"),
        (
            {"steps.last.from": "view", "steps.last.filter": "TRUE"},
            "stream.unknown_stream",
            "steps.last.from",
            "'view'",
        ),
        ({"steps.last.lookup.offer": "ofers[offer_id]"}, "stream.unknown_table", "steps.last.lookup.offer", "'ofers'"),
        ({"steps.last.lookup.offer": "offers"}, "stream.syntax", "steps.last.lookup.offer", "is not a lookup"),
        ({"steps.last.call": "no_such_module:f"}, "stream.function", "steps.last.call", "cannot be imported"),
        ({"steps.last.call": "json:no_such"}, "stream.function", "steps.last.call", "has no function 'no_such'"),
        ({"steps.last.batch": "true"}, "stream.operation", "steps.last", "exactly one operation, and has none"),
        (
            {"steps.last.filter": "TRUE", "steps.last.add.x": "1"},
            "stream.operation",
            "steps.last",
            "has filter and add",
        ),
        (
            {**WINDOW, "steps.last.window.aggregate.n": "summ(x)"},
            "stream.unsupported",
            "steps.last.window.aggregate.n",
            "",
        ),
        (
            {**WINDOW, "steps.last.window.aggregate.n": "sum(country)"},
            "stream.wrong_type",
            "steps.last.window.aggregate.n",
            "needs a number",
        ),
        ({**WINDOW, "steps.last.window.by": "offer_id + 1"}, "stream.syntax", "steps.last.window.by", "has no name"),
        (
            {**WINDOW, "steps.last.window.tumbling": "0"},
            "config.invalid_value",
            "steps.last.window.tumbling",
            "at least 1",
        ),
        (
            {**JOIN, "steps.last.join.right": "click"},
            "stream.unknown_stream",
            "steps.last.join",
            "'click'",
        ),
        ({**JOIN, "steps.last.join.right_by": "ids"}, "stream.unknown_column", "steps.last.join.right_by", "'ids'"),
        (
            {**JOIN, "steps.last.join.right_by": "name"},
            "stream.wrong_type",
            "steps.last.join.right_by",
            "integer on the left side and string on the right",
        ),
        (
            {**JOIN, "steps.last.join.right_by": "id, name"},
            "stream.operation",
            "steps.last.join.right_by",
            "1 expressions, and the right side 2",
        ),
        ({**JOIN, "steps.last.join.as": "country"}, "config.duplicate_name", "steps.last.join", "'country'"),
        ({**JOIN, "steps.last.from": "views"}, "config.conflict", "steps.last.from", "'from' and a join"),
        ({**JOIN, "steps.last.join.type": "outer"}, "config.invalid_value", "steps.last.join.type", "outer"),
        (
            {key: text for key, text in WINDOW.items() if "tumbling" not in key},
            "config.missing_key",
            "steps.last.window",
            "no size",
        ),
        (
            {**WINDOW, "steps.last.window.hopping": "1m"},
            "config.conflict",
            "steps.last.window.hopping",
            "has tumbling and hopping",
        ),
        (
            {**WINDOW, "steps.last.window.advance": "10s"},
            "config.conflict",
            "steps.last.window.advance",
            "belongs to hopping windows",
        ),
        (HOPPING, "config.missing_key", "steps.last.window.advance", "needs 'advance'"),
        (
            {**STAGED, "steps.last.join.stages": "5m, 60m"},
            "config.invalid_value",
            "steps.last.join.stages",
            "'60m' is not a duration between 0 and 'within'",
        ),
        (
            {**STAGED, "steps.last.join.type": "inner"},
            "config.conflict",
            "steps.last.join.stages",
            "belongs to left joins",
        ),
        (
            {**STAGED, "steps.last.join.as": "stage"},
            "config.duplicate_name",
            "steps.last.join.stages",
            "column 'stage'",
        ),
        (
            {**HOPPING, "steps.last.window.advance": "61s"},
            "config.invalid_value",
            "steps.last.window.advance",
            "longer than the window",
        ),
        (
            {**SESSION, "steps.last.window.emit": "change"},
            "config.conflict",
            "steps.last.window.emit",
            "no results on change",
        ),
        (
            {**SESSION, "steps.last.window.tumbling": "1m"},
            "config.conflict",
            "steps.last.window.session",
            "has tumbling and session",
        ),
        (
            {"steps.last.deduplicate.by": "offer_id", "steps.last.deduplicate.grace": "1m"},
            "config.missing_key",
            "steps.last.deduplicate.within",
            "within",
        ),
        (
            {**DEDUPLICATE, "steps.last.deduplicate.by": "offr_id"},
            "stream.unknown_column",
            "steps.last.deduplicate.by",
            "offr_id",
        ),
        ({**TOP, "steps.last.top.order": "score DESC"}, "stream.unknown_column", "steps.last.top.order", "'score'"),
        ({**TOP, "steps.last.top.order": "offer_id DOWN"}, "stream.syntax", "steps.last.top.order", "offer_id DOWN"),
        ({**TOP, "steps.last.top.limit": "0"}, "config.invalid_value", "steps.last.top.limit", "at least 1"),
        (
            {**TOP, "inputs.views.columns.items": "array", "steps.last.top.order": "items"},
            "stream.wrong_type",
            "steps.last.top.order",
            "no order",
        ),
        ({"steps.last.filter": "TRUE", "outputs.impressions": "last"}, "config.conflict", "outputs", "without end"),
        ({"steps.last.filter": "TRUE", "outputs.b": "lst"}, "stream.unknown_stream", "outputs.b.from", "'lst'"),
        (
            {"steps.last.filter": "TRUE", "inputs.views.columns.x": "int4"},
            "config.invalid_value",
            "inputs.views.columns.x",
            "int4",
        ),
    ],
)
def test_one_mistake_gives_one_finding_at_its_key(keys: dict[str, str], code: str, key: str, words: str) -> None:
    (found,) = findings(keys)

    assert found[:2] == (code, key)
    assert words in found[2]


def test_all_mistakes_are_reported_at_once_and_none_follows_from_another() -> None:
    keys = {"steps.a.add.x": "nothing", "steps.a.add.y": "country + 1", "steps.b.filter": "x > 1"}
    keys |= {"steps.last.from": "views", "steps.last.filter": "country = 1"}

    assert [key for _, key, _ in findings(keys)] == ["steps.a.add.x", "steps.a.add.y", "steps.last.filter"]


def test_a_step_that_is_defined_below_is_named() -> None:
    keys = {"steps.a.from": "last", "steps.a.filter": "TRUE", "steps.last.from": "views", "steps.last.filter": "TRUE"}
    _, found = make_plan("app", ApplicationKeys.parse({**BASE, **keys}))
    assert [(item.key, item.hint) for item in found] == [
        ("steps.a.from", "it is defined below: move it before the step that reads it")
    ]


def test_a_step_without_readers_is_a_warning() -> None:
    keys = {"steps.a.filter": "TRUE", "steps.last.from": "views", "steps.last.filter": "TRUE"}
    _, found = make_plan("app", ApplicationKeys.parse({**BASE, **keys}))
    assert [(item.code, item.key, item.severity) for item in found] == [("stream.unused", "steps.a", "warning")]


def test_a_key_that_the_input_declares_needs_no_repartition() -> None:
    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **WINDOW, "inputs.views.key": "offer_id"}))
    assert found == []
    assert plan.repartitions == ()
    assert plan.followed == (("last", "impressions"),)

    replaced = {"steps.a.add.offer_id": "1", "inputs.views.key": "offer_id"}
    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **replaced, **WINDOW}))
    assert found == []
    assert [item.topic for item in plan.repartitions] == ["app-last-repartition"]


def test_a_join_reads_inputs_in_place_when_both_declare_its_key() -> None:
    keyed = {"inputs.views.key": "offer_id", "inputs.clicks.key": "id"}
    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **JOIN, **keyed}))
    assert found == []
    assert plan.repartitions == ()
    assert plan.stores() == {"last": ("impressions", "clicks")}


@pytest.mark.parametrize("keyed", [{}, {"inputs.views.key": "offer_id"}, {"inputs.clicks.key": "id"}])
def test_a_join_repartitions_both_sides_unless_both_declare_its_key(keyed: dict[str, str]) -> None:
    """One side alone is not enough: the keys of internal topics have other bytes, so other partitions."""
    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **JOIN, **keyed}))
    assert found == []
    topics = ("app-last.left-repartition", "app-last.right-repartition")
    assert plan.stores() == {"last": topics}
    assert plan.topology().repartitions == dict.fromkeys(topics, ("impressions", "clicks"))


def test_columns_of_a_join_are_known_in_later_steps() -> None:
    steps = {**JOIN, "steps.more.add.x": "upper(clicks.name)", "outputs.out": "more"}
    assert findings(steps) == []
    (found,) = findings({**steps, "steps.more.add.x": "clicks.nam"})
    assert found[:2] == ("stream.unknown_column", "steps.more.add.x")


def test_what_deduplicates_by_the_key_of_the_input_is_in_its_partition() -> None:
    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **DEDUPLICATE, "inputs.views.key": "offer_id"}))
    assert found == []
    assert plan.repartitions == ()

    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **DEDUPLICATE}))
    assert found == []
    assert [item.topic for item in plan.repartitions] == ["app-last-repartition"]


def test_a_window_by_the_key_of_a_step_before_needs_no_second_repartition() -> None:
    first = {key.replace("last", "first"): text for key, text in DEDUPLICATE.items()}
    plan, _ = make_plan("app", ApplicationKeys.parse({**BASE, **first, **WINDOW}))
    assert [item.topic for item in plan.repartitions] == ["app-first-repartition"]

    first["steps.first.deduplicate.by"] = "country AS offer_id"  # not the column of this name
    plan, _ = make_plan("app", ApplicationKeys.parse({**BASE, **first, **WINDOW}))
    assert [item.topic for item in plan.repartitions] == ["app-first-repartition", "app-last-repartition"]


def test_findings_have_their_location_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    text = "name: app\nconnector.class: Stream\ninputs:\n  views: {topic: t, columns: {a: integer}}\nsteps:\n  one:\n"
    path.write_text(text + "    add:\n      x: a + 1\n      y: b + 1\noutputs:\n  out: one\n", encoding="utf-8")

    loaded = load([path])

    assert [(str(item.location), item.code) for item in loaded.findings] == [(f"{path}:9:10", "stream.unknown_column")]


DEEP = ["(" * 3_000, "NOT " * 5_000 + "true", " + ".join(["offer_id"] * 5_000), "*".join(["offer_id"] * 400)]


@pytest.mark.parametrize("text", [*DEEP, "offer_id" + "[0]" * 5_000, "9" * 5_000 + " > 1"])
@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ("steps.last.filter", "steps.last"),
        ("steps.last.add.x", "steps.last"),
        ("steps.last.key_by", "steps.last"),
        ("steps.last.lookup.x", "steps.last"),
        ("steps.last.window.by", "steps.last"),
        ("steps.last.window.aggregate.m", "steps.last"),
        ("inputs.views.time", "inputs.views"),
    ],
)
def test_an_expression_of_any_size_is_a_finding_at_most(keys: str, named: str, text: str) -> None:
    given = {keys: f"offers[{text}]" if "lookup" in keys else text}
    if "window" in keys:
        given = {**WINDOW, **given}
    elif "inputs" in keys:
        given["steps.last.filter"] = "true"
    found = findings(given)
    assert found
    assert found[0][1].startswith(named)


LOOKUP = {
    "inputs.views.key": "offer_id",
    "tables.prices.topic": "prices",
    "tables.prices.scope": "partitioned",
    "steps.last.lookup.price": "prices[offer_id]",
}


def test_a_table_is_read_in_place_when_it_is_looked_up_by_the_key_of_the_input() -> None:
    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **LOOKUP}))
    assert found == []
    topology = plan.topology()
    assert topology.inputs == ("impressions", "prices")
    assert topology.tables == ("offers",)
    assert topology.repartitions == {}
    assert topology.stores == {"last": ("prices", "impressions")}
    assert topology.aligned == (("prices", "impressions"),)


def test_a_table_is_repartitioned_when_it_is_looked_up_by_another_column() -> None:
    plan, found = make_plan("app", ApplicationKeys.parse({**BASE, **LOOKUP, "inputs.views.key": "country"}))
    assert found == []
    topics = ("app-last.table-repartition", "app-last.stream-repartition")
    assert plan.topology().repartitions == dict.fromkeys(topics, ("impressions", "prices"))
    assert plan.topology().aligned == (topics,)


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"tables.prices.scope": "global", "tables.prices.time": "at"}, "tables.prices.time", "partitioned tables"),
        ({"tables.prices.topic": "impressions"}, "tables.prices", "is read by an input"),
        ({"tables.prices.scope": "local"}, "tables.prices.scope", "local"),
    ],
)
def test_a_mistake_in_a_table_is_named(keys: dict[str, str], key: str, words: str) -> None:
    ((_, found, message),) = findings({**LOOKUP, **keys})
    assert found == key
    assert words in message
