"""Ids of schemas in headers of records, for each format."""

from __future__ import annotations

from uuid import UUID

import pytest

from headrace import BatchHeaders, TaskError, Type
from headrace import schema as s
from headrace.converters.avro.converter import AvroConverter
from headrace.converters.json_schema.converter import JsonSchemaConverter
from headrace.converters.protobuf.converter import ProtobufConverter
from headrace.converters.schema_registry.converter import RegistryConverter
from headrace.converters.schema_registry.wire_format import KEY_HEADER, VALUE_HEADER
from tests.unit.converters.schema_registry.converters import registry_converter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry, served

CONVERTERS = [AvroConverter, JsonSchemaConverter, ProtobufConverter]
SCHEMA = s.struct({"n": s.INT64}, name="N")
CLASS = "io.confluent.kafka.serializers.schema.id.HeaderSchemaIdSerializer"


@pytest.mark.parametrize("kind", CONVERTERS)
@pytest.mark.parametrize(("is_key", "name"), [(True, KEY_HEADER), (False, VALUE_HEADER)])
def test_an_id_that_was_written_into_a_header_is_read_from_it(
    registry: FakeSchemaRegistry, kind: type[RegistryConverter], is_key: bool, name: str
) -> None:
    options = {f"{'key' if is_key else 'value'}_schema_id_serializer": CLASS}
    headers = BatchHeaders(None, 3)
    with registry_converter(kind(), registry, is_key, **options) as converter:
        texts = converter.to_bytes("t", SCHEMA, [{"n": 1}, None, {"n": 2}], headers)
        runs = converter.from_bytes("t", texts, headers)
    assert [value for run in runs for value in run.values] == [{"n": 1}, None, {"n": 2}]
    assert runs[0].schema is not None
    assert [(field.name, field.schema.type) for field in runs[0].schema.fields] == [("n", Type.INT64)]
    ((found, guid),) = headers[0]
    assert found == name
    assert guid is not None
    assert guid[:1] == b"\x01"
    assert f"GET /schemas/guids/{UUID(bytes=guid[1:17])}" in registry.requests
    assert headers[1] == ()


@pytest.mark.parametrize("kind", CONVERTERS)
def test_records_with_and_without_an_id_in_a_header_are_read_from_one_batch(
    registry: FakeSchemaRegistry, kind: type[RegistryConverter]
) -> None:
    headers = BatchHeaders(None, 1)
    with (
        registry_converter(kind(), registry) as plain,
        registry_converter(kind(), registry, value_schema_id_serializer="HeaderSchemaIdSerializer") as other,
    ):
        texts = [*plain.to_bytes("mixed", SCHEMA, [{"n": 1}]), *other.to_bytes("mixed", SCHEMA, [{"n": 2}], headers)]
        runs = plain.from_bytes("mixed", texts, [(), headers[0]])
    assert [value for run in runs for value in run.values] == [{"n": 1}, {"n": 2}]


def test_a_registry_without_guids_cannot_be_used_for_headers() -> None:
    registry = FakeSchemaRegistry()
    registry.has_guids = False
    with (
        served(registry),
        registry_converter(AvroConverter(), registry, value_schema_id_serializer=CLASS) as converter,
        pytest.raises(TaskError, match="has no GUIDs") as caught,
    ):
        converter.to_bytes("t", SCHEMA, [{"n": 1}], BatchHeaders(None, 1))
    assert caught.value.code == "schema_registry.no_guid"
