"""Creates converters of a registry for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from headrace import Converter, Schema
from headrace.converters.avro.converter import AvroConverter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry

C = TypeVar("C", bound=Converter)


@contextmanager
def registry_converter(
    made: C, registry: FakeSchemaRegistry | str, is_key: bool = False, /, **options: str
) -> Iterator[C]:
    """Yield the converter, configured; options have ``_`` in place of points."""
    url = registry if isinstance(registry, str) else registry.url
    made.configure(
        {"schema.registry.url": url} | {name.replace("_", "."): value for name, value in options.items()}, is_key=is_key
    )
    try:
        yield made
    finally:
        made.close()


@contextmanager
def avro_converter(
    registry: FakeSchemaRegistry | str, is_key: bool = False, /, **options: str
) -> Iterator[AvroConverter]:
    """Yield an Avro converter, as :func:`registry_converter`."""
    with registry_converter(AvroConverter(), registry, is_key, **options) as made:
        yield made


def read_one(converter: Converter, value: bytes | None, topic: str = "t") -> tuple[Schema | None, Any]:
    """Return schema and value of one record."""
    (run,) = converter.from_bytes(topic, [value], [()])
    (found,) = run.values
    return run.schema, found
