"""A SQL statement and the YAML steps that it stands for give equal plans; everything else is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.loading import load
from headrace.files import parse_config_file
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.plan import Plan
from headrace_streams.planning import make_plan
from tests.unit.streams.conftest import MakeApplication

BASE = """
name: app
connector.class: Stream
inputs:
  views: {topic: impressions, time: shown_at}
  clicks: {topic: conversions, time: clicked_at}
tables:
  offers: offers
  users: {topic: users, key: user_id}
steps:
  x:
"""
OUTPUT = "\noutputs:\n  out: x\n"

EQUAL = {
    "all records": ("SELECT * FROM views", "merge: views"),
    "filter": (
        "SELECT * FROM views WHERE country = 'DE' AND NOT (loi = 0)",
        "from: views\nfilter: country = 'DE' AND NOT (loi = 0)",
    ),
    "select": (
        "SELECT v.offer_id, cpi / loi AS epi FROM views AS v",
        "from: views\nselect: {offer_id: offer_id, epi: cpi / loi}",
    ),
    "added columns": ("SELECT *, cpi / loi AS epi FROM views", "from: views\nadd: {epi: cpi / loi}"),
    "select after filter": (
        "SELECT offer_id FROM views v WHERE v.loi > 1",
        "-where: {from: views, filter: loi > 1}\nfrom: x-where\nselect: {offer_id: offer_id}",
    ),
    "table by the record's key": (
        "SELECT * FROM views v LEFT JOIN offers AS offer ON offer.ROWKEY = v.offer_id",
        'from: views\nlookup: {offer: "offers[offer_id]"}',
    ),
    "table by its key column, records without a row dropped": (
        "SELECT * FROM views JOIN users ON views.user = users.user_id",
        'from: views\nlookup: {users: "users[user]"}\nmissing: drop',
    ),
    "two tables": (
        "SELECT *, offers.cpi AS cpi FROM views JOIN users ON users.user_id = user LEFT JOIN offers "
        "ON offers.rowkey = users.offer",
        '-lookup: {from: views, lookup: {users: "users[user]"}, missing: drop}\n'
        '-lookup-2: {from: x-lookup, lookup: {offers: "offers[users.offer]"}}\n'
        "from: x-lookup-2\nadd: {cpi: offers.cpi}",
    ),
    "left join": (
        "SELECT * FROM views v LEFT JOIN clicks AS click WITHIN 24 HOURS GRACE PERIOD 10 MINUTES "
        "ON v.view_id = click.view_id",
        "join: {type: left, left: views, right: clicks, by: view_id, within: 24h, grace: 10m, as: click}",
    ),
    "inner join with an interval before, and two columns": (
        "SELECT * FROM views v JOIN clicks WITHIN ('1m', INTERVAL '2' DAY) GRACE PERIOD '0' "
        "ON clicks.id = v.view_id AND v.site = clicks.site",
        "join: {left: views, right: clicks, by: 'view_id, site', right_by: 'id, site', before: 1m, within: 2d, "
        "grace: 0, as: clicks}",
    ),
    "tumbling window": (
        "SELECT offer_id, window_start, window_end, count(*) AS n, max(v.cpi / v.loi) AS best FROM views v "
        "GROUP BY v.offer_id, TUMBLE('1m', GRACE => '10s')",
        "from: views\nwindow: {by: offer_id, tumbling: 1m, grace: 10s, aggregate: {n: count(*), best: max(cpi / loi)}}",
    ),
    "hopping window on change": (
        "SELECT window_end, window_start, lower(country) AS land, count(*) AS n FROM views "
        "GROUP BY HOP('10m', '5m', GRACE => '0', EMIT => 'change'), lower(country)",
        "from: views\nwindow: {by: LOWER(country) AS land, hopping: 10m, advance: 5m, grace: 0, emit: change, "
        "aggregate: {n: count(*)}}",
    ),
    "sliding window of approximate aggregates": (
        "SELECT user, window_start, window_end, approx_count_distinct(site) AS n, approx_quantile(cpi, 0.5) AS p50 "
        "FROM views GROUP BY user, SLIDE('10m', GRACE => '1m')",
        "from: views\nwindow: {by: user, sliding: 10m, grace: 1m, "
        "aggregate: {n: approx_distinct(site), p50: 'approx_quantile(cpi, 0.5)'}}",
    ),
    "sessions, filtered and selected": (
        "SELECT user, sum(cpi) / count(*) AS mean FROM views WHERE cpi > 0 "
        "GROUP BY user, SESSION(GAP => '30m', GRACE => '1m') HAVING count(*) > 2",
        "-where: {from: views, filter: cpi > 0}\n"
        "-window: {from: x-where, window: {by: user, session: 30m, grace: 1m, "
        "aggregate: {aggregate_1: sum(cpi), aggregate_2: count(*)}}}\n"
        "-having: {from: x-window, filter: aggregate_2 > 2}\n"
        "from: x-having\nselect: {user: user, mean: aggregate_1 / aggregate_2}",
    ),
}


def plan_of(path: Path, steps: str) -> Plan:
    """Return the plan of a file with these steps; those that begin with '-' are steps of their own, before ``x``."""
    before = "".join(f"  x{line}\n" for line in steps.splitlines() if line.startswith("-"))
    own = "".join(f"    {line}\n" for line in steps.splitlines() if not line.startswith("-"))
    path.write_text(BASE.replace("  x:\n", f"{before}  x:\n") + own + OUTPUT, encoding="utf-8")
    file = parse_config_file(path)
    assert file.findings == ()
    keys = {name: text for name, text in file.properties.items() if name not in ("name", "connector.class")}
    plan, findings = make_plan("app", ApplicationKeys.parse(keys))
    assert findings == []
    return plan


def as_step(statement: str) -> str:
    return "sql: |\n" + "\n".join(f"  {line}" for line in statement.splitlines())


@pytest.mark.parametrize("name", EQUAL)
def test_the_statement_and_the_steps_give_equal_plans(tmp_path: Path, name: str) -> None:
    statement, steps = EQUAL[name]
    path = tmp_path / "app.yaml"
    assert [line.lower() for line in plan_of(path, as_step(statement)).explain()] == [
        line.lower() for line in plan_of(path, steps).explain()
    ]


@pytest.mark.parametrize("name", ["all records", "filter", "select after filter", "two tables"])
def test_plans_are_equal_in_all_their_parts(tmp_path: Path, name: str) -> None:
    statement, steps = EQUAL[name]
    path = tmp_path / "app.yaml"
    assert plan_of(path, as_step(statement)) == plan_of(path, steps)


COLUMNS = st.sampled_from(["offer_id", "country", "cpi", "loi", "offer.cpi"])
NUMBERS = st.integers(0, 9).map(str)
OPERANDS = st.one_of(COLUMNS, NUMBERS)
TERMS = st.builds("{} {} {}".format, OPERANDS, st.sampled_from("+-*/%"), OPERANDS)
CONDITIONS = st.recursive(
    st.builds("{} {} {}".format, TERMS, st.sampled_from(["=", "<>", "<", ">="]), OPERANDS)
    | st.builds("{} IS NULL".format, COLUMNS)
    | st.builds("{} IN (1, 2)".format, COLUMNS),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner),
    max_leaves=4,
)


@given(
    condition=st.none() | CONDITIONS,
    columns=st.dictionaries(st.sampled_from("abcd"), TERMS | CONDITIONS, max_size=3),
    alias=st.sampled_from(["", "v"]),
    star=st.booleans(),
)
def test_any_filter_and_selection_gives_the_plan_of_its_steps(
    condition: str | None, columns: dict[str, str], alias: str, star: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    listed = ", ".join((["*"] if star or not columns else []) + [f"{text} AS {name}" for name, text in columns.items()])
    where = f" WHERE {condition}" if condition else ""
    statement = f"SELECT {listed} FROM views {alias}{where}"
    word = "add" if star else "select"
    step = f"{word}: {{{', '.join(f'{name}: {text!r}' for name, text in columns.items())}}}"
    if condition and columns:
        steps = f"-where: {{from: views, filter: {condition!r}}}\nfrom: x-where\n{step}"
    elif condition:
        steps = f"from: views\nfilter: {condition!r}"
    else:
        steps = f"from: views\n{step}" if columns else "merge: views"
    path = tmp_path_factory.mktemp("statements") / "app.yaml"
    assert plan_of(path, as_step(statement)) == plan_of(path, steps)


REFUSED = [
    ("SELECT DISTINCT a FROM views", "DISTINCT", 8),
    ("SELECT a FROM views ORDER BY a", "ORDER BY", 21),
    ("SELECT a FROM views LIMIT 3", "LIMIT", 21),
    ("WITH q AS (SELECT a FROM views) SELECT a FROM q", "WITH", 1),
    ("SELECT a FROM (SELECT a FROM views) AS s", "a subquery in FROM", 23),
    ("SELECT a FROM views WHERE a IN (SELECT b FROM clicks)", "a subquery", 40),
    ("SELECT a FROM views UNION ALL SELECT a FROM clicks", "UNION", 21),
    ("SELECT a FROM views RIGHT JOIN clicks ON views.a = clicks.a", "RIGHT JOIN", 32),
    ("SELECT a FROM views FULL OUTER JOIN clicks ON views.a = clicks.a", "FULL OUTER JOIN", 37),
    ("SELECT a FROM views CROSS JOIN clicks", "CROSS JOIN", 32),
    ("SELECT a FROM views JOIN clicks USING (a)", "USING", 26),
    ("SELECT a FROM views, clicks", "no ON", 22),
    ("SELECT a FROM views JOIN clicks ON views.a = clicks.a", "no WITHIN", 26),
    ("SELECT a FROM views JOIN clicks WITHIN 1 HOUR ON views.a = clicks.a", "no GRACE PERIOD", 33),
    (
        "SELECT a FROM views JOIN clicks WITHIN 1 HOUR GRACE PERIOD '0' ON views.a > clicks.a",
        "'views.a > clicks.a' in ON",
        67,
    ),
    ("SELECT a FROM views JOIN clicks WITHIN 1 YEAR ON views.a = clicks.a", "expected a duration", 40),
    ("SELECT a FROM views JOIN offers ON offers.cpi = views.a", "read by its key", 36),
    ("SELECT a FROM views JOIN users WITHIN 1 HOUR ON users.user_id = a", "WITHIN belongs to joins of streams", 32),
    ("SELECT a FROM offers", "'offers' is a table", 15),
    ("SELECT a FROM views AS v JOIN users AS v ON v.user_id = a", "'v' is used twice", 31),
    ("SELECT a, count(*) AS n FROM views GROUP BY a", "needs one window", 36),
    ("SELECT a, count(*) AS n FROM views GROUP BY a, TUMBLE('1m')", "TUMBLE has no grace", 48),
    ("SELECT a, count(*) AS n FROM views GROUP BY a, TUMBLE(1, GRACE => '0')", "'1' is not a duration", 55),
    ("SELECT a, count(*) AS n FROM views GROUP BY a, TUMBLE('1m', GRACES => '0')", "no argument GRACES", 71),
    ("SELECT a, count(*) FROM views GROUP BY a, TUMBLE('1m', GRACE => '0')", "'COUNT(*)' has no name", 11),
    ("SELECT b, count(*) AS n FROM views GROUP BY a, TUMBLE('1m', GRACE => '0')", "'b' is neither in GROUP BY", 8),
    ("SELECT a FROM views GROUP BY a, TUMBLE('1m', GRACE => '0')", "without an aggregate", 1),
    ("SELECT count(*) AS n FROM views GROUP BY TUMBLE('1m', GRACE => '0')", "no columns besides the window", 33),
    ("SELECT * FROM views GROUP BY a, TUMBLE('1m', GRACE => '0')", "'*' with GROUP BY", 8),
    ("SELECT count(*) AS n FROM views", "the aggregate 'COUNT(*)'", 8),
    ("SELECT a FROM views WHERE sum(a) > 1", "WHERE has the aggregate", 27),
    ("SELECT a FROM views HAVING a > 1", "HAVING needs GROUP BY", 21),
    ("SELECT rank() OVER (PARTITION BY a) AS r FROM views", "OVER", 8),
    ("SELECT a + 1 FROM views", "'a + 1' has no name", 8),
    ("SELECT a, b AS a FROM views", "column 'a' is selected twice", 11),
    ("SELECT soundex(a) AS s FROM views", "the function SOUNDEX", 8),
    ("SELECT clicks.* FROM views", "'clicks.*'", 8),
    ("SELECT a FROM view", "unknown stream 'view'", 15),
    ("SELECT a FROM views; SELECT b FROM views", "one statement, and here are 2", 20),
    ("INSERT INTO t SELECT a FROM views", "INSERT", 1),
    ("SELECT a FRM views", "not readable as SQL", 14),
    ("SELECT 'a FROM views", "a quote or comment is not closed", 1),
    ("SELECT 1 AS a", "no FROM", 1),
]


@pytest.mark.parametrize(("statement", "words", "column"), REFUSED)
def test_what_is_outside_of_the_subset_is_refused_by_name_and_location(
    tmp_path: Path, statement: str, words: str, column: int
) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(f"{BASE.lstrip()}    sql: |\n      {statement}\n{OUTPUT}", encoding="utf-8")
    (found,) = [item for item in load([path]).findings if item.severity == "error"]
    assert words in found.message
    assert found.key == "steps.x.sql"
    assert str(found.location) == f"{path}:12:{6 + column}"
    assert f"(line 1, column {column} of the statement)" in found.message


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("|\n\n      SELECT a\n      FROM view", "14:12"),
        ("|-\n      SELECT a\n        FROM view", "13:14"),
        ("SELECT a FROM view", "11:24"),
        ('"SELECT a FROM view"', "11:25"),
        (">\n      SELECT a\n      FROM view", "11:5"),
    ],
)
def test_a_place_in_a_text_is_located_in_the_file_where_its_lines_are_lines_of_the_file(
    tmp_path: Path, value: str, place: str
) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(f"{BASE.lstrip()}    sql: {value}\n{OUTPUT}", encoding="utf-8")
    (found,) = [item for item in load([path]).findings if item.severity == "error"]
    assert str(found.location) == f"{path}:{place}"


def test_a_step_has_a_statement_or_another_operation(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(f"{BASE.lstrip()}    sql: SELECT a FROM views\n    filter: a > 1\n{OUTPUT}", encoding="utf-8")
    (found,) = load([path]).findings
    assert (found.code, found.key, found.message) == (
        "config.conflict",
        "steps.x.filter",
        "step 'x' has 'sql' and 'filter'",
    )


@given(st.text(alphabet="SELECT FROMviews,()*'\"`=<>1;.JOIN WITHIN GROUP BY TUMBLE-/\n", max_size=60))
def test_no_text_makes_the_translation_fail_otherwise_than_by_findings(text: str) -> None:
    make_plan("app", ApplicationKeys.parse({"inputs.views": "v", "steps.x.sql": text, "outputs.out": "x"}))


def test_a_record_that_a_statement_refuses_names_the_line_of_the_statement(make_application: MakeApplication) -> None:
    text = """
inputs: {views: impressions}
steps:
  x:
    sql: |
      SELECT offer_id,
             cpi / loi AS epi
      FROM views
outputs: {out: x}
"""
    settings = {"errors_tolerance": "all", "errors_deadletterqueue_topic_name": "dead"}
    application = make_application(text, {"impressions": 1, "out": 1}, **settings)
    application.send("impressions", [{"offer_id": 1, "cpi": 1, "loi": 0}, {"offer_id": 2, "cpi": 3, "loi": 2}])
    task = application.start()
    application.wait_until_processed()
    task.stop()

    assert application.committed("out") == [{"offer_id": 2, "epi": 1.5}]
    (letter,) = application.broker.records("dead")
    headers = {name: (value or b"").decode() for name, value in letter.headers}
    assert headers["__headrace.errors.key"] == "steps.x.sql"
    place = application.location("8:5")
    assert headers["__headrace.errors.location"] == f"{place}, line 2, column 8 of the statement"
