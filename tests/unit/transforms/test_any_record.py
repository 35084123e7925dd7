"""Every transform passes, drops or refuses any record: nothing that a topic holds fails a task with another error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace import Field, RecordColumns, Schema, Transform, Type
from headrace import schema as schemas
from headrace.pipeline.transformations import Step, transform
from headrace.registry import PluginKind, Registry

REGISTRY = Registry()
NAMES = ["a", "b", "a.b", "op", "source", "after", "before", "payload", "id"]
KEYS: Mapping[str, Mapping[str, str]] = {
    "Cast": {"spec": "a:int8,b:string"},
    "DropHeaders": {"headers": "a"},
    "ExtractField": {"field": "a.b", "field.syntax.version": "V2"},
    "ExtractTopic": {"field": "a"},
    "HeaderFrom": {"fields": "a,b", "headers": "x,y", "operation": "move"},
    "HoistField": {"field": "a"},
    "InsertField": {"static.field": "a", "static.value": "x", "timestamp.field": "b"},
    "InsertHeader": {"header": "h", "value.literal": "[1,2"},
    "MaskField": {"fields": "a,b"},
    "MessageTimestampRouter": {
        "message.timestamp.keys": "a,b",
        "message.timestamp.format": "yyyy-MM-dd",
        "topic.timestamp.format": "yyyy",
    },
    "RegexRouter": {"regex": "(.*)", "replacement": "$1"},
    "ReplaceField": {"exclude": "a", "renames": "b:c"},
    "SetSchemaMetadata": {"schema.name": "x"},
    "Sql": {"select.c": "a + b", "where": "a > 1"},
    "TimestampConverter": {"field": "a", "target.type": "Timestamp", "format": "yyyy-MM-dd"},
    "ValueToKey": {"fields": "a,b"},
    "EventRouter": {"table.expand.json.payload": "true", "table.fields.additional.placement": "a:envelope"},
    "ExtractNewRecordState": {"delete.tombstone.handling.mode": "rewrite", "add.fields": "op,b", "route.by.field": "a"},
}
SCALARS: dict[Schema, st.SearchStrategy[Any]] = {
    schemas.BOOLEAN: st.booleans(),
    schemas.INT8: st.integers(-128, 127),
    schemas.INT64: st.integers(-(2**63), 2**63 - 1),
    schemas.FLOAT32: st.floats(width=32),
    schemas.FLOAT64: st.floats(),
    schemas.STRING: st.text(max_size=12),
    schemas.BYTES: st.binary(max_size=4),
    schemas.DATE_SCHEMA: st.dates(),
    schemas.TIME_SCHEMA: st.times(),
    schemas.TIMESTAMP_SCHEMA: st.datetimes(timezones=st.just(UTC)),
    schemas.decimal(2): st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-1000, max_value=1000),
}
PLAIN = st.recursive(
    st.one_of(st.none(), *SCALARS.values()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)),
    max_leaves=8,
)


@st.composite
def described(draw: st.DrawFn, depth: int = 2) -> tuple[Schema, Any]:
    """Return a schema, and a value that it describes."""
    kinds = ["scalar", "struct", "array", "map"] if depth else ["scalar"]
    kind = draw(st.sampled_from(kinds))
    optional = draw(st.booleans())
    if kind == "scalar":
        schema, value = draw(st.sampled_from(list(SCALARS)).flatmap(lambda s: st.tuples(st.just(s), SCALARS[s])))
    elif kind == "struct":
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
        members = {name: draw(described(depth - 1)) for name in names}
        schema = Schema(
            Type.STRUCT,
            name=draw(st.sampled_from([None, "x.Envelope"])),
            fields=tuple(Field(name, member) for name, (member, _) in members.items()),
        )
        value = {name: item for name, (_, item) in members.items()}
    else:
        items, item = draw(described(depth - 1))
        schema = schemas.array(items) if kind == "array" else schemas.mapping(schemas.STRING, items)
        value = [item] if kind == "array" else {"k": item}
    if optional and draw(st.booleans()):
        value = None
    return (schema.as_optional() if optional else schema), value


def made(name: str) -> Transform:
    found: Transform = REGISTRY.find(PluginKind.TRANSFORM, name).cls()
    found.configure(KEYS.get(name.partition("$")[0], {}))
    return found


TRANSFORMS = {plugin.name: made(plugin.name) for plugin in REGISTRY.plugins(PluginKind.TRANSFORM)}


def run(name: str, schema: Schema | None, value: Any) -> None:
    columns = RecordColumns(
        "t", [value, "k"], [value, value], [1, None], [[("h", b"\xff")], ()], [7, 8], schema, schema, 3
    )
    batches, refused = transform([Step(TRANSFORMS[name])], columns, split=False)
    places = [place for batch in batches for place in batch.places] + [item.place for item in refused]
    assert sorted(set(places)) == sorted(places)
    assert set(places) <= {7, 8}
    for batch in batches:
        assert len(batch.keys) == len(batch.values) == len(batch.timestamps) == len(batch.headers) == len(batch)


@given(value=PLAIN)
def test_any_value_without_a_schema_is_passed_dropped_or_refused(value: Any) -> None:
    for name in TRANSFORMS:
        run(name, None, value)


@given(item=described())
def test_any_value_with_a_schema_is_passed_dropped_or_refused(item: tuple[Schema, Any]) -> None:
    for name in TRANSFORMS:
        run(name, *item)
