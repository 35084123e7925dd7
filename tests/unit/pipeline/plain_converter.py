"""A converter for tests of pipelines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace import BatchHeaders, ConfigModel, Converter, DataError, Decoded, Headers, Schema


class PlainConverter(Converter):
    """JSON without schemas; refuses every text that contains "bad"."""

    config_model = ConfigModel

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        pass

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders
    ) -> list[bytes | None]:
        encoded = [None if value is None else json.dumps(value).encode() for value in values]
        if any(value is not None and b"bad" in value for value in encoded):
            raise DataError("a bad value")
        return encoded

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers]) -> list[Decoded]:
        if any(value is not None and b"bad" in value for value in values):
            raise DataError("bad bytes")
        return [Decoded(0, None, [None if value is None else json.loads(value) for value in values])]
