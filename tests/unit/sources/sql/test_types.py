"""Columns become fields by the rules of the JDBC connector, and values match their schemas."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import Schema, Type, schema
from headrace.testing.values import mismatch
from headrace_sources.sql.rows.row_schema import NullInRequiredError, RowSchema, row_schema_of
from headrace_sources.sql.rows.types import Column, Kind, TypeMapping, infer, micros, plain_digits, widen

NOON = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
MICROS = 1714564800123456
NUMERIC = ("none", "precision_only", "best_fit", "best_fit_eager_double")


def mapping(numeric: str = "none", granularity: str = "connect_logical", zone: Any = UTC) -> TypeMapping:
    return TypeMapping(numeric, granularity, zone)


def numeric(precision: int | None, scale: int | None, rule: str) -> Schema:
    return mapping(rule).schema_of(Column("n", Kind.DECIMAL, False, precision, scale))


def shape(*columns: Column, types: TypeMapping | None = None) -> RowSchema:
    return row_schema_of(columns, "t", types or mapping(), lambda column: None)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.BOOLEAN, schema.BOOLEAN),
        (Kind.INT16, schema.INT16),
        (Kind.INT32, schema.INT32),
        (Kind.INT64, schema.INT64),
        (Kind.FLOAT32, schema.FLOAT32),
        (Kind.FLOAT64, schema.FLOAT64),
        (Kind.DATE, schema.DATE_SCHEMA),
        (Kind.TIME, schema.TIME_SCHEMA),
        (Kind.MOMENT, schema.TIMESTAMP_SCHEMA),
        (Kind.LOCAL, schema.TIMESTAMP_SCHEMA),
        (Kind.TEXT, schema.STRING),
        (Kind.BYTES, schema.BYTES),
        (Kind.UNKNOWN, schema.STRING),
    ],
)
def test_each_column_kind_has_its_schema(kind: Kind, expected: Schema) -> None:
    assert mapping().schema_of(Column("c", kind, nullable=False)) == expected
    assert mapping().schema_of(Column("c", kind, nullable=True)) == expected.as_optional()


@pytest.mark.parametrize("rule", NUMERIC)
def test_e45_numeric_9_0_is_int32_unless_the_mapping_is_none(rule: str) -> None:
    assert numeric(9, 0, rule) == (schema.decimal(0, 9) if rule == "none" else schema.INT32)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [(4, schema.INT16), (2, schema.INT8), (18, schema.INT64), (19, schema.decimal(0, 19))],
)
def test_e46_best_fit_chooses_the_smallest_integer(precision: int, expected: Schema) -> None:
    assert numeric(precision, 0, "best_fit") == expected


def test_e47_numeric_10_2_is_a_decimal_or_a_float() -> None:
    assert numeric(10, 2, "none") == schema.decimal(2, 10)
    assert numeric(10, 2, "precision_only") == schema.decimal(2, 10)
    assert numeric(10, 2, "best_fit") == schema.FLOAT64
    assert numeric(20, 2, "best_fit") == schema.decimal(2, 20)
    assert numeric(20, 2, "best_fit_eager_double") == schema.FLOAT64


def test_e50_numeric_without_precision_is_never_a_byte() -> None:
    assert numeric(None, None, "none") == schema.STRING
    assert numeric(None, None, "precision_only") == schema.STRING
    assert numeric(None, None, "best_fit") == schema.FLOAT64
    assert numeric(None, None, "best_fit_eager_double") == schema.FLOAT64


def test_a_numeric_with_a_negative_scale_is_a_decimal_or_an_integer() -> None:
    assert numeric(5, -2, "none") == schema.decimal(-2, 5)
    assert numeric(5, -2, "precision_only") == schema.decimal(-2, 5)
    assert numeric(5, -2, "best_fit") == schema.INT32


@given(st.integers(1, 38), st.integers(-10, 38), st.sampled_from(NUMERIC), st.data())
def test_every_number_of_a_column_fits_its_schema(precision: int, scale: int, rule: str, data: st.DataObject) -> None:
    column = Column("n", Kind.DECIMAL, False, precision, scale)
    digits = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    value = Decimal(f"{digits}E{-scale}")
    found = shape(column, types=mapping(rule))

    [record] = found.convert([(value,)])

    assert mismatch(found.schema, record) is None
    if found.schema.by_name["n"].type is not Type.FLOAT64:
        assert record["n"] == value


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_refused_if_the_schema_cannot_hold_them(bad: str) -> None:
    for column in (Column("n", Kind.DECIMAL, True, 10, 2), Column("n", Kind.DECIMAL, True, 5, -2)):
        with pytest.raises(ValueError, match=bad):
            shape(column).convert([(Decimal(bad),)])
    with pytest.raises((ValueError, OverflowError)):
        shape(Column("n", Kind.DECIMAL, True, 5, 0), types=mapping("best_fit")).convert([(Decimal(bad),)])


def test_numbers_without_precision_are_exact_text() -> None:
    [record] = shape(Column("n", Kind.DECIMAL, True)).convert([(Decimal("1E+30"),)])
    assert record == {"n": "1" + "0" * 30}
    assert plain_digits(Decimal("NaN")) == "NaN"
    assert plain_digits(Decimal("-Infinity")) == "-Infinity"
    assert plain_digits(Decimal("0E-10")) == "0.0000000000"


@pytest.mark.parametrize(
    ("granularity", "expected_schema", "expected"),
    [
        ("connect_logical", schema.TIMESTAMP_SCHEMA, NOON),
        ("micros_long", schema.INT64, MICROS),
        ("nanos_long", schema.INT64, MICROS * 1000),
        ("micros_string", schema.STRING, str(MICROS)),
        ("nanos_string", schema.STRING, str(MICROS * 1000)),
        ("micros_iso_datetime_string", schema.STRING, "2024-05-01T12:00:00.123456"),
        ("nanos_iso_datetime_string", schema.STRING, "2024-05-01T12:00:00.123456000"),
    ],
)
@pytest.mark.parametrize("kind", [Kind.MOMENT, Kind.LOCAL])
def test_e52_timestamps_have_the_configured_granularity(
    granularity: str, expected_schema: Schema, expected: object, kind: Kind
) -> None:
    value = NOON if kind is Kind.MOMENT else NOON.replace(tzinfo=None)
    found = shape(Column("at", kind, nullable=False), types=mapping(granularity=granularity))

    assert found.schema.by_name["at"] == expected_schema
    assert found.convert([(value,)]) == [{"at": expected}]


@pytest.mark.parametrize("granularity", ["micros_iso_datetime_string", "nanos_iso_datetime_string"])
@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.MOMENT_TEXT, "2024-05-01 12:00:00.123456+00", "2024-05-01T12:00:00.123456"),
        (Kind.MOMENT_TEXT, "2024-05-01 12:00:00.12+00", "2024-05-01T12:00:00.120000"),
        (Kind.MOMENT_TEXT, "2024-05-01 12:00:00+00", "2024-05-01T12:00:00.000000"),
        (Kind.LOCAL_TEXT, "2024-05-01 12:00:00.123456", "2024-05-01T12:00:00.123456"),
        (Kind.LOCAL_TEXT, "2024-05-01 12:00:00", "2024-05-01T12:00:00.000000"),
    ],
)
def test_postgres_text_becomes_iso_text(granularity: str, kind: Kind, value: str, expected: str) -> None:
    zeros = "000" if granularity.startswith("nanos") else ""
    found = shape(Column("at", kind), types=mapping(granularity=granularity))

    assert found.convert([(value,), (None,)]) == [{"at": expected + zeros}, {"at": None}]


@pytest.mark.parametrize("value", ["infinity", "0044-03-15 12:00:00 BC", "10000-01-01 00:00:00", ""])
def test_an_unusual_timestamp_text_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"out of range"):
        shape(Column("at", Kind.LOCAL_TEXT), types=mapping(granularity="micros_iso_datetime_string")).convert(
            [(value,)]
        )


def test_local_timestamps_are_in_the_configured_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    naive = datetime(2024, 5, 1, 14, 0, 0, 123456)

    def converted(granularity: str, kind: Kind, value: datetime) -> object:
        found = shape(Column("at", kind), types=mapping(granularity=granularity, zone=berlin))
        [record] = found.convert([(value,)])
        assert mismatch(found.schema, record) is None
        return record["at"]

    assert converted("connect_logical", Kind.LOCAL, naive) == NOON
    assert converted("micros_long", Kind.LOCAL, naive) == MICROS
    assert converted("micros_iso_datetime_string", Kind.LOCAL, naive) == "2024-05-01T14:00:00.123456"
    assert converted("micros_iso_datetime_string", Kind.MOMENT, NOON) == "2024-05-01T14:00:00.123456"


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros(moment)) == moment


def test_rows_become_records_in_column_order() -> None:
    found = shape(Column("b", Kind.INT64, False), Column("a", Kind.TEXT), Column("d", Kind.DATE))

    assert found.convert([(1, "x", date(2024, 5, 1)), (2, None, None)]) == [
        {"b": 1, "a": "x", "d": date(2024, 5, 1)},
        {"b": 2, "a": None, "d": None},
    ]
    assert [field.name for field in found.schema.fields] == ["b", "a", "d"]
    assert found.schema.name == "t"


@given(st.text(max_size=20))
def test_any_column_name_is_safe(name: str) -> None:
    assert shape(Column(name, Kind.INT64)).convert([(7,)]) == [{name: 7}]


def test_a_null_in_a_required_field_is_detected() -> None:
    with pytest.raises(NullInRequiredError):
        shape(Column("a", Kind.INT64, nullable=False)).convert([(1,), (None,)])


def test_a_refused_value_is_named_by_row_and_column() -> None:
    found = shape(Column("a", Kind.INT64), Column("n", Kind.DECIMAL, True, 5, 2))
    place, column, reason = found.find_refused_value([(1, Decimal("1.00")), (2, Decimal("NaN"))])

    assert (place, column.name) == (1, "n")
    assert "NaN" in reason


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None], Kind.BOOLEAN),
        ([1, 2], Kind.INT64),
        ([1, 2.5], Kind.FLOAT64),
        ([b"x", bytearray(b"y")], Kind.BYTES),
        ([NOON], Kind.MOMENT),
        ([NOON.replace(tzinfo=None)], Kind.LOCAL),
        ([1, Decimal("2.5")], Kind.DECIMAL),
        (["a"], Kind.TEXT),
        ([1, "a"], Kind.TEXT),
        ([True, 1], Kind.TEXT),
    ],
)
def test_the_column_kind_is_inferred_from_values(values: list[Any], kind: Kind) -> None:
    found = infer("c", values)
    assert found is not None
    assert found.kind is kind


def test_no_kind_is_inferred_from_nulls() -> None:
    assert infer("c", [None, None]) is None


def test_an_inferred_kind_only_widens() -> None:
    integer, real, words = (Column("c", kind) for kind in (Kind.INT64, Kind.FLOAT64, Kind.TEXT))

    assert widen(None, integer) == integer
    assert widen(integer, real).kind is Kind.FLOAT64
    assert widen(real, integer).kind is Kind.FLOAT64
    assert widen(integer, words).kind is Kind.TEXT
    assert widen(words, integer).kind is Kind.TEXT


def test_times_and_values_with_a_zone_keep_their_instant() -> None:
    found = shape(Column("t", Kind.TIME), Column("at", Kind.MOMENT), types=mapping(granularity="micros_long"))
    east = NOON.astimezone(timezone(timedelta(hours=9)))

    assert found.convert([(time(23, 59, 59, 999999), east)]) == [{"t": time(23, 59, 59, 999999), "at": MICROS}]


def test_f9b_rows_of_a_table_without_columns_are_empty_records() -> None:
    assert shape().convert([(), ()]) == [{}, {}]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [Kind.FLOAT32, Kind.FLOAT64])
def test_f15_a_float_that_json_lacks_is_refused_unless_the_user_chooses(value: float, kind: Kind) -> None:
    column = Column("n", kind, nullable=False)

    with pytest.raises(ValueError, match="finite"):
        shape(column).convert([(value,)])
    null = shape(column, types=TypeMapping("none", "connect_logical", UTC, not_finite="null"))
    assert null.convert([(value,), (1.5,)]) == [{"n": None}, {"n": 1.5}]
    text = shape(column, types=TypeMapping("none", "connect_logical", UTC, not_finite="text"))
    assert text.schema.by_name["n"] == schema.STRING
    assert text.convert([(value,), (1.5,)])[0]["n"] in ("NaN", "Infinity", "-Infinity")
    assert text.convert([(1.5,)]) == [{"n": "1.5"}]


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Decimal("1E+400")])
def test_f15_a_numeric_that_no_float64_holds_is_refused_unless_the_user_chooses(value: Decimal) -> None:
    column = Column("n", Kind.DECIMAL)

    with pytest.raises(ValueError, match="finite"):
        shape(column, types=mapping("best_fit")).convert([(value,)])
    assert shape(column, types=TypeMapping("best_fit", "connect_logical", UTC, not_finite="null")).convert(
        [(value,)]
    ) == [{"n": None}]
    assert shape(column, types=TypeMapping("best_fit", "connect_logical", UTC, not_finite="text")).convert(
        [(value,)]
    ) == [{"n": plain_digits(value)}]


@given(st.floats(), st.sampled_from(["fail", "null", "text"]), st.booleans())
def test_f15_values_agree_with_their_schema(value: float, choice: str, nullable: bool) -> None:
    found = shape(
        Column("n", Kind.FLOAT64, nullable), types=TypeMapping("none", "connect_logical", UTC, not_finite=choice)
    )
    try:
        [record] = found.convert([(value,)])
    except ValueError:
        assert choice == "fail"
        assert value - value != 0
        return
    assert mismatch(found.schema, record) is None
    assert record["n"] is None or isinstance(record["n"], str) or record["n"] - record["n"] == 0
