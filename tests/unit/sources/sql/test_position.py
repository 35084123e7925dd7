"""Stored positions equal those of the JDBC connector, byte for byte, and are read back unchanged."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import make_url

from headrace import RetriableError, TaskError
from headrace.testing.contexts import Offsets
from headrace_sources.sql.cursor.position import (
    QUERY_PARTITION,
    BadCursorError,
    CursorCodec,
    StoredPosition,
    partition_of,
    stored_catalogs,
    stored_positions,
)
from headrace_sources.sql.dialects import dialect_for
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.rows.timestamps import LocalCodec, MomentCodec

USERS = TableName("public", "users")
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
IDS = st.integers(-(2**63), 2**63 - 1)


def text(value: Any) -> str:
    return orjson.dumps(value).decode()


def stored(offset: dict[str, Any], mode: str = "timestamp+incrementing") -> StoredPosition | None:
    offsets = Offsets()
    offsets.set(partition_of(USERS, mode), offset)
    return stored_positions(offsets, [USERS], mode)[USERS]


def test_e32_the_partition_of_a_table_is_that_of_the_jdbc_connector() -> None:
    assert text(partition_of(USERS, "timestamp")) == '{"protocol":"1","table":"public.users"}'


def test_e32_the_partition_of_a_table_of_sql_server_is_that_of_the_jdbc_connector() -> None:
    database = dialect_for(make_url("mssql+pyodbc://h/shop"), UTC, "connect_logical")
    assert text(partition_of(USERS, "timestamp", database.catalog)) == '{"protocol":"1","table":"shop.public.users"}'


def test_e35_the_partition_of_a_table_in_mode_bulk_is_that_of_the_jdbc_connector() -> None:
    assert text(partition_of(USERS, "bulk")) == '{"table":"users"}'


@pytest.mark.parametrize("mode", ["bulk", "incrementing", "timestamp"])
def test_e34_the_partition_of_a_query_is_that_of_the_jdbc_connector(mode: str) -> None:
    assert text(partition_of(None, mode)) == '{"query":"query"}' == text(dict(QUERY_PARTITION))


def test_a_table_without_schema_is_named_by_its_name() -> None:
    assert text(partition_of(TableName(None, "users"), "incrementing")) == '{"protocol":"1","table":"users"}'


@pytest.mark.parametrize(
    ("position", "json"),
    [
        (StoredPosition(incrementing=7), '{"incrementing":7}'),
        (StoredPosition(incrementing=-1), '{"incrementing":-1}'),
        (
            StoredPosition(datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)),
            '{"timestamp":1714564800123,"timestamp_nanos":123456000}',
        ),
        (
            StoredPosition(datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC), 42),
            '{"incrementing":42,"timestamp":1714564800123,"timestamp_nanos":123456000}',
        ),
        # java.sql.Timestamp before 1970: milliseconds are floored, nanoseconds count upwards from the second.
        (
            StoredPosition(datetime(1969, 12, 31, 23, 59, 59, 500000, tzinfo=UTC)),
            '{"timestamp":-500,"timestamp_nanos":500000000}',
        ),
        (StoredPosition(), "{}"),
    ],
)
def test_e26_e27_offsets_are_written_as_the_jvm_writes_them(position: StoredPosition, json: str) -> None:
    assert text(position.to_json()) == json


@given(st.builds(StoredPosition, MOMENTS, st.none() | IDS))
def test_a_position_with_a_timestamp_is_read_back_unchanged(position: StoredPosition) -> None:
    assert stored(orjson.loads(text(position.to_json()))) == position


@given(IDS)
def test_a_position_with_an_id_is_read_back_unchanged(identity: int) -> None:
    assert stored(StoredPosition(incrementing=identity).to_json(), "incrementing") == StoredPosition(
        incrementing=identity
    )


@given(MOMENTS, st.integers(0, 999))
def test_nanoseconds_of_the_jvm_are_truncated_and_never_rounded_up(moment: datetime, below: int) -> None:
    offset = StoredPosition(moment).to_json()
    offset["timestamp_nanos"] += below

    assert stored(offset, "timestamp") == StoredPosition(moment)


def test_an_offset_without_nanoseconds_has_its_milliseconds() -> None:
    assert stored({"timestamp": 1714564800123}, "timestamp") == StoredPosition(
        datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
    )


def test_the_position_of_another_mode_is_used_as_far_as_it_applies() -> None:
    both = StoredPosition(datetime(2024, 5, 1, tzinfo=UTC), 7).to_json()

    assert stored(both, "incrementing") == StoredPosition(incrementing=7)
    assert stored(both, "timestamp") == StoredPosition(datetime(2024, 5, 1, tzinfo=UTC))
    assert stored({"incrementing": 7}, "timestamp") is None
    assert stored({"incrementing": 7}, "timestamp+incrementing") is None
    assert stored({}, "incrementing") is None


def test_an_older_partition_is_used_only_without_an_offset_of_the_newer() -> None:
    offsets = Offsets()
    offsets.set({"table": "users"}, {"incrementing": 3})
    assert stored_positions(offsets, [USERS], "incrementing") == {USERS: StoredPosition(incrementing=3)}

    offsets.set({"protocol": "1", "table": "public.users"}, {"incrementing": 9})
    assert stored_positions(offsets, [USERS], "incrementing") == {USERS: StoredPosition(incrementing=9)}


def test_each_table_has_its_own_position() -> None:
    orders, offsets = TableName("public", "orders"), Offsets()
    offsets.set(partition_of(orders, "incrementing"), {"incrementing": 5})

    found = stored_positions(offsets, [USERS, orders], "incrementing")

    assert found == {USERS: None, orders: StoredPosition(incrementing=5)}


@pytest.mark.parametrize(
    "offset",
    [
        {"incrementing": "7"},
        {"incrementing": 7.5},
        {"incrementing": True},
        {"timestamp": "yesterday", "incrementing": 1},
        {"timestamp": 1, "timestamp_nanos": "x", "incrementing": 1},
        {"timestamp": 10**18, "incrementing": 1},
    ],
)
def test_an_unusable_offset_is_refused_with_a_remedy(offset: dict[str, Any]) -> None:
    with pytest.raises(TaskError) as raised:
        stored(offset)

    assert raised.value.code == "sql.offset"
    assert "headrace connectors offsets" in raised.value.hint


def test_reads_of_an_unreachable_store_are_retried() -> None:
    with pytest.raises(RetriableError):
        stored_positions(Offsets(unreachable=True), [USERS], "incrementing")


def test_a_timestamp_of_any_zone_is_stored_in_utc() -> None:
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)

    assert moment + timedelta(0) == moment
    assert StoredPosition(moment.astimezone()).to_json() == StoredPosition(moment).to_json()


def test_positions_with_the_database_in_front_of_the_table_are_continued() -> None:
    offsets = Offsets()
    offsets.set({"protocol": "1", "table": "shop.public.users"}, {"incrementing": 7})
    found = stored_positions(offsets, [USERS], "incrementing", database="shop")
    assert found[USERS] == StoredPosition(incrementing=7)
    assert stored_positions(offsets, [USERS], "incrementing", database="other")[USERS] is None


@pytest.mark.parametrize(
    ("stored", "catalog"),
    [
        ([], ""),
        (["public.users"], ""),
        (["shop.public.users"], "shop"),
        (["public.users", "shop.public.users"], ""),
        (["other.public.users"], ""),
    ],
)
def test_positions_stay_in_the_partition_in_which_they_were_found(stored: list[str], catalog: str) -> None:
    """Otherwise the JVM's connector would continue at an outdated one when it takes over again."""
    offsets = Offsets()
    for name in stored:
        offsets.set({"protocol": "1", "table": name}, {"incrementing": 7})
    assert stored_catalogs(offsets, [USERS], "incrementing", database="shop") == {USERS: catalog}


def test_the_position_of_the_own_partition_takes_precedence() -> None:
    offsets = Offsets()
    offsets.set({"protocol": "1", "table": "shop.public.users"}, {"incrementing": 7})
    offsets.set({"protocol": "1", "table": "public.users"}, {"incrementing": 9})
    found = stored_positions(offsets, [USERS], "incrementing", database="shop")
    assert found[USERS] == StoredPosition(incrementing=9)


SPECIAL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=30),
    st.binary(max_size=8),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.datetimes(datetime(1, 1, 1), datetime(1, 1, 3), timezones=st.timezones()),
    st.datetimes(datetime(9999, 12, 30), timezones=st.timezones()),
    st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "0000-00-00 00:00:00", "24:00:00"]),
    st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("1E400"), Decimal("7.5"), 2**63, -(2**63)]),
)
CODECS = [CursorCodec((0,), -1, (), MomentCodec()), CursorCodec((0,), -1, (), LocalCodec(ZoneInfo("Europe/Berlin"))),
          CursorCodec((), 0, (), None), CursorCodec((0,), 0, (), MomentCodec())]  # fmt: skip


@given(SPECIAL, st.sampled_from(CODECS))
def test_f9a_every_cursor_value_has_a_position_or_is_refused(value: Any, codec: CursorCodec) -> None:
    """A position can be compared, stored and continued from; all other values raise the error that names the row."""
    aware = getattr(value, "tzinfo", None) is not None
    assume(not (aware and isinstance(codec.codec, LocalCodec)))  # drivers give naive values there
    row = (value,)
    with suppress(BadCursorError):
        position = codec.of(row)
        with suppress(OverflowError, ValueError):  # the reader reports these as bad values, too
            stored_position = codec.to_stored(position)
            assert codec.from_stored(stored_position) <= position
            assert stored_position.to_json()
