"""Expressions have the semantics of SQL, and refuse invalid values."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_streams.expressions import Columns, ColumnType, ExpressionError, compile_expressions, parse_expression
from headrace_streams.expressions.semantics import like, like_pattern

_COLUMNS = ["a", "b", "c", "0", "1", "2", "-3", "NULL"]


@st.composite
def number_texts(draw: st.DrawFn, depth: int = 3) -> str:
    """An expression with a number or null as its value."""

    def number() -> str:
        return draw(number_texts(depth - 1))

    match draw(st.integers(0, 5)) if depth else 0:
        case 0:
            return draw(st.sampled_from(_COLUMNS))
        case 1:
            return f"({number()} {draw(st.sampled_from('+-*'))} {number()})"
        case 2:
            return f"COALESCE({number()}, {number()})"
        case 3:
            return f"NULLIF({number()}, {number()})"
        case 4:
            return f"(CASE WHEN {draw(condition_texts(depth - 1))} THEN {number()} ELSE {number()} END)"
        case _:
            return f"(CASE {number()} WHEN {number()} THEN {number()} END)"


@st.composite
def condition_texts(draw: st.DrawFn, depth: int = 3) -> str:
    """An expression with true, false or null as its value."""
    below = max(0, depth - 1)
    no = st.sampled_from(["", "NOT "])

    def number() -> str:
        return draw(number_texts(below))

    match draw(st.integers(0, 5 if depth else 3)):
        case 0:
            return f"({number()} {draw(st.sampled_from(['=', '<>', '<', '<=', '>', '>=']))} {number()})"
        case 1:
            return f"({number()} IS {draw(no)}NULL)"
        case 2:
            return f"({number()} {draw(no)}IN ({number()}, {number()}))"
        case 3:
            return f"({number()} BETWEEN {number()} AND {number()})"
        case 4:
            left, right = draw(condition_texts(below)), draw(condition_texts(below))
            return f"({left} {draw(st.sampled_from(['AND', 'OR']))} {right})"
        case _:
            return f"(NOT {draw(condition_texts(below))})"


rows = st.fixed_dictionaries({name: st.none() | st.integers(-3, 3) for name in "abc"})


def evaluate(text: str, row: dict[str, Any]) -> Any:
    values, refused = compile_expressions({"x": parse_expression(text)}, Columns()).evaluate([row])
    if refused:
        raise refused[0].error
    return values[0][0]


@pytest.fixture(scope="module")
def sqlite() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


@given(number_texts() | condition_texts(), rows)
def test_nulls_and_conditions_are_evaluated_as_by_sqlite(
    sqlite: sqlite3.Connection, text: str, row: dict[str, int | None]
) -> None:
    ((expected,),) = sqlite.execute(f"SELECT {text} FROM (SELECT :a AS a, :b AS b, :c AS c)", row)

    result = evaluate(text, row)

    assert (int(result) if isinstance(result, bool) else result) == expected


@given(st.lists(rows, max_size=8), st.lists(number_texts(), min_size=1, max_size=3))
def test_a_batch_has_the_values_of_its_rows(batch: list[dict[str, int | None]], texts: list[str]) -> None:
    parsed = {f"x{number}": parse_expression(text) for number, text in enumerate(texts)}
    values, refused = compile_expressions(parsed, Columns()).evaluate(batch)

    assert refused == []
    singles = [compile_expressions({"x": expression}, Columns()) for expression in parsed.values()]
    assert values == [tuple(single.evaluate([row])[0][0][0] for single in singles) for row in batch]


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("3 / 2", {}, 1.5),
        ("-7 % 3", {}, -1),
        ("o.x.y", {"o": {"x": {"y": 5}}}, 5),
        ("o.x.y", {"o": {}}, None),
        ("items[1]", {"items": [1, 2]}, 2),
        ("items[7]", {"items": [1, 2]}, None),
        ("UPPER(s) || '!'", {"s": "ab"}, "AB!"),
        ("s LIKE 'a_c%'", {"s": "abcd"}, True),
        ("ROUND(x)", {"x": 2.5}, 3.0),
        ("SUBSTRING(s, 2, 2)", {"s": "abcd"}, "bc"),
        ("CAST(s AS INT) + 1", {"s": "41"}, 42),
        ("CAST(t AS TIMESTAMP)", {"t": "2026-01-01T00:00:00Z"}, datetime(2026, 1, 1, tzinfo=UTC)),
        ("d + 1", {"d": Decimal("1.50")}, Decimal("2.50")),
        ("d * 1.0", {"d": Decimal("1.50")}, 1.5),
        ("5 > a", {"a": 1}, True),
        ("a = 1.0", {"a": 1}, True),
        ("country IN ('DE', 'FR')", {"country": "FR"}, True),
        ("a <> 0 AND 1 / a > 0", {"a": 0}, False),
        ("COALESCE(0, a) IS NULL", {"a": 1}, False),
        ("COALESCE(COALESCE(-3, a), 1) IS NULL", {"a": None}, False),
    ],
)
def test_an_expression_has_the_expected_value(text: str, row: dict[str, Any], expected: Any) -> None:
    result = evaluate(text, row)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "row", "code", "message"),
    [
        ("a / b", {"a": 1, "b": 0}, "stream.division_by_zero", "division by zero"),
        ("a + 1", {"a": "x"}, "stream.wrong_type", "cannot add string and integer"),
        ("a + b", {"a": "x", "b": "y"}, "stream.wrong_type", "cannot add string and string"),
        ("a + 1", {"a": True}, "stream.wrong_type", "cannot add boolean and integer"),
        ("a = 'x'", {"a": 1}, "stream.wrong_type", "cannot compare integer and string"),
        ("a < b", {"a": {}, "b": {}}, "stream.wrong_type", "cannot compare object and object"),
        ("a.b", {"a": 1}, "stream.wrong_type", "a value of type integer has no column 'b'"),
        ("NOT a", {"a": 1}, "stream.wrong_type", "a condition is of type integer, not boolean"),
        ("CAST(a AS INT)", {"a": "x"}, "stream.cast", "cannot cast a value of type string to integer"),
        ("UPPER(a)", {"a": 1}, "stream.wrong_type", "cannot apply UPPER to integer"),
    ],
)
def test_a_record_with_an_invalid_value_is_refused(text: str, row: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(text, row)
    assert (caught.value.code, caught.value.message) == (code, message)


TYPED = Columns({"n": ColumnType.INTEGER, "s": ColumnType.STRING, "o": Columns({"x": ColumnType.DOUBLE}, True)}, True)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("m + 1", "stream.unknown_column", "unknown column 'm'"),
        ("o.y", "stream.unknown_column", "unknown column 'y'"),
        ("s.y", "stream.unknown_column", "'s' is of type string and has no column 'y'"),
        ("s + 1", "stream.wrong_type", "an operand is of type string"),
        ("n = s", "stream.wrong_type", "compares integer with string"),
        ("n AND TRUE", "stream.wrong_type", "needs boolean"),
        ("n +", "stream.syntax", "is not an expression"),
        ("'a", "stream.syntax", "a quote is not closed"),
        ("SELECT 1", "stream.syntax", "is a statement"),
        ("FOO(n)", "stream.unsupported", "the function FOO is not supported"),
        ("CAST(n AS JSON)", "stream.unsupported", "CAST to JSON"),
        ("s LIKE n", "stream.unsupported", "the pattern of LIKE"),
        ("SUM(n)", "stream.unsupported", "the function SUM"),
    ],
)
def test_an_invalid_expression_is_refused_before_the_start(text: str, code: str, words: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expressions({"x": parse_expression(text)}, TYPED)
    assert caught.value.code == code
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "pattern", "matches"),
    [
        ("a" * 10_000, "%a%a%a%a%a%a%a%a%a%b", False),
        ("a" * 1_000_000, "%a" + "_" * 90 + "b%", False),
        ("a" * 100_000, "%" + "a" * 10 + "%b%", False),
        ("a\nb", "a_b", True),
        ("xaxbx", "%a%b%", True),
        ("xbxax", "%a%b%", False),
        ("a\nbä", "a%b_", True),
        ("a\nb", "a%", True),
        ("a.b", "a.b", True),
        ("axb", "a.b", False),
        ("a\\d", "a\\d", True),
        ("ab", "AB", False),
        ("ä€😀", "ä_😀", True),
        ("", "%", True),
        ("(?i)[x]+", "(?i)[_]+", True),
    ],
)
def test_like_is_matched_in_linear_time(text: str, pattern: str, matches: bool) -> None:
    """Python's ``re`` would hold the interpreter, and with it all tasks, for hours."""
    assert like(text, like_pattern(pattern)) is matches


def test_a_huge_pattern_is_refused() -> None:
    with pytest.raises(ExpressionError, match="longer than"):
        like_pattern("a" * 20_000)
