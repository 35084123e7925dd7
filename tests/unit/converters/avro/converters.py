"""Creates Avro converters for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from headrace import Schema
from headrace.converters.avro.converter import AvroConverter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry


@contextmanager
def avro_converter(
    registry: FakeSchemaRegistry | str, is_key: bool = False, /, **options: str
) -> Iterator[AvroConverter]:
    """Yield a converter; options have ``_`` in place of points."""
    url = registry if isinstance(registry, str) else registry.url
    made = AvroConverter()
    made.configure(
        {"schema.registry.url": url} | {name.replace("_", "."): value for name, value in options.items()}, is_key=is_key
    )
    try:
        yield made
    finally:
        made.close()


def read_one(converter: AvroConverter, value: bytes | None, topic: str = "t") -> tuple[Schema | None, Any]:
    """Return schema and value of one record."""
    (run,) = converter.from_bytes(topic, [value])
    (found,) = run.values
    return run.schema, found
