import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.compare import differences, moment, same

MOMENT = datetime(2019, 11, 24, 0, 0, 34, 762830, UTC)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (MOMENT, "2019-11-24T00:00:34.762830"),
        (MOMENT, "2019-11-24T01:00:34.762830+01:00"),
        (Decimal("1.50"), 1.5),
        (Decimal("2.00"), 2),
        ({"a": 1.0}, '{"a": 1.0}'),
        ({"a": 1.0}, {"a": 1.0}),
        (None, None),
        (7, 7),
        ("live", "live"),
        (-0.49917162609493676, -0.49917162609493676),
    ],
)
def test_values_are_equal_in_every_notation(value: Any, found: Any) -> None:
    assert same(value, found)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (MOMENT, "2019-11-24T00:00:34.762"),  # digits lost
        (MOMENT, 1574553634762),
        (MOMENT, None),
        (Decimal("1.50"), "AJY="),  # Connect's base64
        (Decimal("1.50"), 1.51),
        (Decimal(1), True),
        (1, True),
        (1, "1"),
        ({"a": 1.0}, '{"a": 2.0}'),
        (None, ""),
    ],
)
def test_similar_values_are_not_equal(value: Any, found: Any) -> None:
    assert not same(value, found)


ROWS = st.dictionaries(
    st.integers(0, 99).map(str),
    st.fixed_dictionaries(
        {
            "at": st.integers(-(10**15), 10**15).map(lambda moment: MOMENT + timedelta(microseconds=moment)),
            "price": st.integers(0, 100_000).map(lambda cents: Decimal(cents) / 100),
            "features": st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        }
    ),
    min_size=1,
)


def document(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "at": row["at"].replace(tzinfo=None).isoformat(),
        "price": float(row["price"]),
        "features": json.dumps(row["features"]),
    }


@given(ROWS)
def test_an_exact_copy_has_no_differences(rows: dict[str, dict[str, Any]]) -> None:
    assert differences(rows, {id_: document(row) for id_, row in rows.items()}) == []


@given(ROWS, st.data())
def test_every_change_is_found(rows: dict[str, dict[str, Any]], data: st.DataObject) -> None:
    documents = {id_: document(row) for id_, row in rows.items()}
    id_ = data.draw(st.sampled_from(sorted(rows)))
    kind = data.draw(st.sampled_from(["missing", "surplus", "value", "field"]))
    if kind == "missing":
        del documents[id_]
    elif kind == "surplus":
        id_ = "100"
        documents[id_] = {}
    elif kind == "value":
        documents[id_]["price"] = float(rows[id_]["price"] + 1)
    else:
        del documents[id_]["at"]

    assert len(differences(rows, documents)) >= 1
    assert all(difference.startswith(f"{id_}: ") for difference in differences(rows, documents))


@given(st.datetimes(MOMENT.replace(year=2, tzinfo=None), MOMENT.replace(year=9000, tzinfo=None)), st.integers(-12, 12))
def test_times_are_parsed_in_any_zone(naive: datetime, hours: int) -> None:
    at = naive.replace(tzinfo=UTC)

    assert moment(at.astimezone(timezone(timedelta(hours=hours))).isoformat()) == at
    assert moment(naive.isoformat()) == at


@pytest.mark.parametrize("text", [None, 5, "yesterday"])
def test_other_texts_are_not_times(text: object) -> None:
    assert moment(text) is None
