"""A registry of all tests of the module, and converters that use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry, served


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeSchemaRegistry]:
    with served(FakeSchemaRegistry()) as found:
        yield found
