"""Records of one version of a schema are read as another one, older or newer, in each format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from headrace import Schema
from headrace import schema as s
from headrace.converters.avro.avro_format import AvroFormat
from headrace.converters.avro.configuration import AvroConverterConfig
from headrace.converters.json_schema.configuration import JsonSchemaConverterConfig
from headrace.converters.json_schema.json_schema_format import JsonSchemaFormat
from headrace.converters.protobuf.configuration import ProtobufConverterConfig
from headrace.converters.protobuf.protobuf_format import ProtobufFormat
from headrace.converters.schema_registry.schema_format import SchemaFormat
from tests.unit.converters.described import SIMPLE, Described

URL = {"schema.registry.url": "http://r"}
FORMATS = {
    "avro": AvroFormat(AvroConverterConfig.parse(URL)),
    "json": JsonSchemaFormat(JsonSchemaConverterConfig.parse(URL)),
    "protobuf": ProtobufFormat(ProtobufConverterConfig.parse({**URL, "optional.for.nullables": "true"})),
}


def version(fields: list[Described]) -> Schema:
    return s.struct({f"f{place}": schema.as_optional() for place, (schema, _) in enumerate(fields)}, name="Row")


@pytest.mark.parametrize("mine", FORMATS.values(), ids=FORMATS)
@given(data=st.data(), fields=st.lists(st.sampled_from(SIMPLE), min_size=1, max_size=5))
def test_records_are_read_as_an_older_and_as_a_newer_version(
    mine: SchemaFormat[Any], data: st.DataObject, fields: list[Described]
) -> None:
    sizes = st.integers(1, len(fields))
    written, read_as = fields[: data.draw(sizes)], fields[: data.draw(sizes)]
    row = {f"f{place}": data.draw(st.none() | values) for place, (_, values) in enumerate(written)}
    assume(not any(text in repr(row) for text in ("inf", "nan")))  # which JSON does not have
    theirs, ours = mine.own_schema(version(written)), mine.own_schema(version(read_as))
    texts = mine.writer(version(written), theirs.parsed, "'t'", latest=False).write([row], b"")
    found = mine.reader(theirs.parsed, "'t'", ours.parsed).read(texts, 0)
    assert found == [{f"f{place}": row.get(f"f{place}") for place in range(len(read_as))}]
