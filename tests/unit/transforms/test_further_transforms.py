"""Transforms of Confluent and Aiven, and Sql."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from headrace import ConfigError, DataError, Record, Transform
from headrace import schema as schemas
from headrace.registry import PluginKind, Registry

REGISTRY = Registry()


def made(name: str, **properties: str) -> Transform:
    transform: Transform = REGISTRY.find(PluginKind.TRANSFORM, name).cls()
    transform.configure({key.replace("_", "."): value for key, value in properties.items()})
    return transform


def applied(transform: Transform, record: Record) -> Record | None:
    result = transform.apply(record)
    assert result is None or isinstance(result, Record)
    return result


@pytest.mark.parametrize(
    ("name", "properties", "record", "topic"),
    [
        ("io.confluent.connect.transforms.ExtractTopic$Value", {"field": "t"}, Record("a", {"t": "b"}), "b"),
        ("io.aiven.kafka.connect.transforms.ExtractTopic$Value", {"field.name": "t"}, Record("a", {"t": 5}), "5"),
        ("ExtractTopic$Key", {}, Record("a", 1, key="k"), "k"),
        ("ExtractTopic$Key", {"field": "t"}, Record("a", 1, key={"t": "x"}), "x"),
        ("ExtractTopic$Header", {"field": "h"}, Record("a", 1, headers=[("h", b"1"), ("h", b"2")]), "2"),
        ("ExtractTopic$Value", {"field": "t", "skip.missing.or.null": "true"}, Record("a", {}), "a"),
        ("ExtractTopic$Header", {"field": "h", "skip.missing.or.null": "true"}, Record("a", {}), "a"),
        (
            "MessageTimestampRouter",
            {
                "topic.format": "foo-${topic}-${timestamp}",
                "message.timestamp.format": "yyyy-MM-dd",
                "topic.timestamp.format": "yyyy.MM.dd",
                "message.timestamp.keys": "timestamp,time,ts",
            },
            Record("bar", {"time": "2019-08-06"}),
            "foo-bar-2019.08.06",
        ),
    ],
)
def test_records_are_routed_by_what_they_hold(
    name: str, properties: Mapping[str, str], record: Record, topic: str
) -> None:
    transform: Transform = REGISTRY.find(PluginKind.TRANSFORM, name).cls()
    transform.configure(properties)
    result = applied(transform, record)
    assert result is not None
    assert (result.topic, result.value, result.key) == (topic, record.value, record.key)


@pytest.mark.parametrize("value", [{}, {"t": None}, {"t": 1.5}, {"t": ""}, "text", None])
def test_a_record_without_a_topic_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="has no text for the topic"):
        made("ExtractTopic$Value", field="t").apply(Record("a", value))


@pytest.mark.parametrize(("behavior", "kept"), [("drop_silent", False), ("drop_warn", False), ("ignore", True)])
def test_tombstones_are_dropped_or_kept(behavior: str, kept: bool) -> None:
    transform = made("io.aiven.kafka.connect.transforms.TombstoneHandler", behavior=behavior)
    assert (applied(transform, Record("a", None)) is not None) is kept
    assert applied(transform, Record("a", 1)) is not None


def test_tombstones_are_refused() -> None:
    with pytest.raises(DataError, match="the value is null"):
        made("TombstoneHandler", behavior="fail").apply(Record("a", None))


@pytest.mark.parametrize(
    ("behavior", "schema"),
    [("nullify", None), ("force_optional", schemas.STRING.as_optional()), ("retain", schemas.STRING.as_optional())],
)
def test_a_key_becomes_null(behavior: str, schema: Any) -> None:
    described = schemas.STRING.as_optional() if behavior == "retain" else schemas.STRING
    record = applied(made("Drop$Key", schema_behavior=behavior), Record("a", 1, key="k", key_schema=described))
    assert record is not None
    assert (record.key, record.key_schema, record.value) == (None, schema, 1)


def test_a_required_key_is_not_retained_as_null() -> None:
    with pytest.raises(DataError, match="does not allow null"):
        made("Drop$Key", schema_behavior="retain").apply(Record("a", 1, key="k", key_schema=schemas.STRING))


ORDER = schemas.struct({"price": schemas.FLOAT64, "quantity": schemas.INT32, "name": schemas.STRING}, "order")


def sql(**properties: str) -> Transform:
    transform: Transform = REGISTRY.find(PluginKind.TRANSFORM, "Sql").cls()
    transform.configure({name.replace("__", "."): value for name, value in properties.items()})
    return transform


def test_expressions_become_fields() -> None:
    transform = sql(select__total="price * quantity", select__label="upper(name)", where="quantity > 1")
    record = applied(transform, Record("a", {"price": 1.5, "quantity": 2, "name": "x"}))
    assert record is not None
    assert record.value == {"price": 1.5, "quantity": 2, "name": "x", "total": 3.0, "label": "X"}
    assert applied(transform, Record("a", {"price": 1.5, "quantity": 1, "name": "x"})) is None
    assert applied(transform, Record("a", None)) is not None


def test_computed_fields_have_schemas() -> None:
    transform = sql(select__total="price * quantity", select__n="quantity", select__big="quantity > 5", keep="false")
    record = applied(transform, Record("a", {"price": 1.5, "quantity": 2, "name": "x"}, ORDER))
    assert record is not None
    assert record.value == {"total": 3.0, "n": 2, "big": False}
    assert record.value_schema is not None
    assert dict(record.value_schema.by_name) == {
        "total": schemas.FLOAT64.as_optional(),
        "n": schemas.INT32,
        "big": schemas.BOOLEAN.as_optional(),
    }
    assert record.value_schema.name == "order"


def test_a_record_that_an_expression_refuses_is_refused() -> None:
    with pytest.raises(DataError, match=r"Sql: price \* 2: "):
        sql(select__x="price * 2").apply(Record("a", {"price": "much"}))
    with pytest.raises(DataError, match="needs a map or a struct"):
        sql(select__x="price * 2").apply(Record("a", [1]))


def test_unknown_columns_of_a_schema_are_named() -> None:
    with pytest.raises(DataError, match="unknown column 'prize'") as raised:
        sql(select__x="prize * 2").apply(Record("a", {"price": 1.0, "quantity": 1, "name": ""}, ORDER))
    assert raised.value.hint == "did you mean 'price'?"


@pytest.mark.parametrize(
    ("properties", "key"), [({}, "where"), ({"where": "a >"}, "where"), ({"select__x": "SELECT 1"}, "select.x")]
)
def test_expressions_are_validated(properties: Mapping[str, str], key: str) -> None:
    with pytest.raises(ConfigError) as raised:
        sql(**properties)
    assert [finding.key for finding in raised.value.findings] == [key]


@pytest.mark.parametrize(
    ("name", "key", "hint"),
    [
        ("ReplaceField$Value", "blacklist", "write 'exclude'"),
        ("ExtractNewRecordState", "operation.header", "write add.headers=op"),
        ("ExtractNewRecordState", "add.source.fields", "list the fields in 'add.fields' as source.NAME"),
    ],
)
def test_removed_keys_are_refused_with_their_replacement(name: str, key: str, hint: str) -> None:
    model = REGISTRY.find(PluginKind.TRANSFORM, name).cls.config_model
    _, (finding,) = model.validate_properties({key: "x"})
    assert (finding.code, finding.key, finding.hint) == ("config.unsupported_key", key, hint)
