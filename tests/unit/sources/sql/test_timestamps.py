"""Conversion of timestamps to column values and back: a position that is read back is never later than its row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_sources.sql.configuration.syntax import find_zone, nearest_zones
from headrace_sources.sql.dialects.sqlite import NumberCodec, TextCodec
from headrace_sources.sql.rows.timestamps import (
    LocalCodec,
    MomentCodec,
    TimestampCodec,
    floor,
    from_json,
    resolution_of,
    to_json,
)

ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"]
).map(ZoneInfo)
NAIVE = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1))
MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
DIGITS = st.integers(0, 6)


@given(MOMENTS)
def test_offsets_are_read_back_unchanged(moment: datetime) -> None:
    stored = to_json(moment)

    assert 0 <= stored["timestamp_nanos"] < 1_000_000_000
    assert from_json(stored["timestamp"], stored["timestamp_nanos"]) == moment


@given(NAIVE, ZONES)
def test_a_local_value_read_back_is_never_later_than_itself(naive: datetime, zone: tzinfo) -> None:
    codec = LocalCodec(zone)

    assert codec.to_stored(codec.to_moment(naive)) <= naive


@given(NAIVE, ZONES)
def test_a_local_value_that_exists_is_read_back_unchanged(naive: datetime, zone: tzinfo) -> None:
    codec = LocalCodec(zone)
    exists = naive.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == naive

    if exists:
        assert codec.to_stored(codec.to_moment(naive)) == naive
    else:
        assert naive - codec.to_stored(codec.to_moment(naive)) <= timedelta(hours=2)


def test_an_ambiguous_local_value_is_the_first_instant() -> None:
    codec = LocalCodec(ZoneInfo("Europe/Berlin"))

    assert codec.to_moment(datetime(2024, 10, 27, 2, 30)) == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)


def test_a_skipped_local_value_is_read_as_the_earlier_instant() -> None:
    codec = LocalCodec(ZoneInfo("Europe/Berlin"))

    assert codec.to_moment(datetime(2024, 3, 31, 2, 30)) == datetime(2024, 3, 31, 0, 30, tzinfo=UTC)


@given(MOMENTS, ZONES)
def test_a_timestamp_is_read_back_unchanged(moment: datetime, zone: tzinfo) -> None:
    codec = MomentCodec()

    assert codec.to_stored(codec.to_moment(moment.astimezone(zone))) == moment


@given(MOMENTS, DIGITS, ZONES)
def test_bounds_have_the_resolution_and_are_never_after_the_instant(
    moment: datetime, digits: int, zone: tzinfo
) -> None:
    resolution = resolution_of(digits)
    bound = MomentCodec(resolution).bound(moment)

    assert bound <= moment < bound + resolution
    assert bound.microsecond % (resolution // timedelta(microseconds=1) % 1_000_000 or 1_000_000) == 0
    local = LocalCodec(zone, resolution).bound(moment)
    assert local <= LocalCodec(zone).to_stored(moment) < local + resolution


def test_rows_of_the_current_second_are_read_later() -> None:
    """A DATETIME of MySQL has whole seconds: at 12:00:00.7 rows of 12:00:00 may still be added."""
    bound = LocalCodec(UTC, resolution_of(0)).bound(datetime(2024, 5, 1, 12, 0, 0, 700_000, tzinfo=UTC))

    assert bound == datetime(2024, 5, 1, 12, 0, 0)
    assert not datetime(2024, 5, 1, 12, 0, 0) < bound


@given(MOMENTS, st.sampled_from([timedelta(microseconds=1), timedelta(milliseconds=1), timedelta(seconds=1)]))
def test_floor_rounds_down_to_the_resolution(moment: datetime, resolution: timedelta) -> None:
    assert floor(moment, resolution) <= moment < floor(moment, resolution) + resolution
    assert floor(floor(moment, resolution), resolution) == floor(moment, resolution)


@given(MOMENTS, st.sampled_from([" ", "T"]), st.sampled_from(["", "Z", "+00:00"]), DIGITS)
def test_sqlite_text_read_back_never_sorts_after_itself(
    moment: datetime, separator: str, suffix: str, digits: int
) -> None:
    codec = TextCodec(separator, suffix, digits if suffix else None, LocalCodec(UTC))
    fraction = f".{moment.microsecond:06d}"[: digits + 1] if digits else ""
    value = f"{moment.replace(tzinfo=None, microsecond=0).isoformat(separator)}{fraction}{suffix}"

    assert codec.to_stored(codec.to_moment(value)) <= value
    assert codec.to_moment(value) <= moment


@given(MOMENTS, MOMENTS)
def test_sqlite_text_of_a_later_moment_never_sorts_before(one: datetime, other: datetime) -> None:
    for codec in (
        TextCodec(" ", "", None, LocalCodec(UTC)),
        TextCodec("T", "Z", 3, LocalCodec(UTC)),
        NumberCodec(1),
        NumberCodec(1000),
    ):
        if one <= other:
            assert codec.to_stored(one) <= codec.to_stored(other)


@pytest.mark.parametrize("per_second", [1, 1000])
@given(st.integers(-(10**9), 4 * 10**9))
def test_sqlite_numbers_are_read_back_unchanged(per_second: int, value: int) -> None:
    codec = NumberCodec(per_second)

    assert codec.to_stored(codec.to_moment(value)) == value


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (NumberCodec(1), "2024-05-01 12:00:00"),
        (NumberCodec(1), None),
        (TextCodec(" ", "", None, LocalCodec(UTC)), 5),
        (TextCodec(" ", "", None, LocalCodec(UTC)), "2024-05-01T12:00:00"),
        (TextCodec(" ", "", None, LocalCodec(UTC)), "2024-05-01 12:00:00Z"),
        (TextCodec(" ", "Z", 3, LocalCodec(UTC)), "2024-05-01 12:00:00.12Z"),
        (LocalCodec(UTC), 7),
        (MomentCodec(), None),
    ],
)
def test_an_invalid_timestamp_is_refused(codec: TimestampCodec, value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        codec.to_moment(value)


def test_time_zones_are_found_by_name_or_suggested() -> None:
    assert find_zone("UTC") is UTC
    assert find_zone("Etc/UTC") is UTC
    assert find_zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    assert find_zone("Europe/Berlim") is None
    assert find_zone("../../etc/passwd") is None
    assert find_zone("") is None
    assert "Europe/Berlin" in nearest_zones("Europe/Berlim")
    assert "UTC" in nearest_zones("???")
