"""JSON as Kafka Connect writes it: ``{"schema": …, "payload": …}``, or the payload alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal, TypeVar

import orjson

from headrace import (
    UPPER,
    BatchHeaders,
    ConfigModel,
    Converter,
    DataError,
    Decoded,
    Headers,
    JsonForm,
    JsonValues,
    Schema,
    are_json_objects,
    json_bytes,
    key,
    which_are_json_objects,
)
from headrace.converters.json_columns import Direction, JsonColumn, compile_column
from headrace.converters.json_leaves import NeedsExactNumbers, decoding_leaf, encoding_leaf
from headrace.converters.json_plain import dump_plain, dump_plain_values
from headrace.converters.json_schemas import schema_from_json, schema_to_json
from headrace.converters.json_texts import loads, loads_exactly

K = TypeVar("K")
V = TypeVar("V")

_HEAD, _MIDDLE, _END = b'{"schema":', b',"payload":', b"}"
_REMEMBERED_HEADS = 8  # for schemas that alternate in one topic, such as versions of one table


class JsonConverterConfig(ConfigModel):
    """Keys of Connect's JsonConverter."""

    schemas_enable: bool = key(
        "schemas.enable",
        default=True,
        doc='Write `{"schema": …, "payload": …}` and expect it when reading; false: the payload alone.',
        importance="high",
    )
    schemas_cache_size: int = key("schemas.cache.size", default=1000, ge=1, doc="Most schemas to keep prepared.")
    decimal_format: Annotated[Literal["BASE64", "NUMERIC"], UPPER] = key(
        "decimal.format",
        default="BASE64",
        doc="How decimals are written: `BASE64` (unscaled bytes) or `NUMERIC` (JSON numbers). Both are read.",
    )
    replace_null: bool = key(
        "replace.null.with.default", default=True, doc="A null whose schema has a default becomes the default."
    )


class JsonConverter(Converter):
    """Connect's JsonConverter. Differs in two ways: a null value is always a tombstone, whatever its schema; a payload
    that contradicts its schema is refused, where Connect reads 0, false or null."""

    config_model = JsonConverterConfig
    aliases = ("org.apache.kafka.connect.json.JsonConverter",)

    def configure(self, properties: Mapping[str, str], *, is_key: bool) -> None:
        self._config = JsonConverterConfig.parse(properties)
        numeric, replace_nulls = self._config.decimal_format == "NUMERIC", self._config.replace_null
        self._numeric = numeric
        self._encode = Direction(encoding_leaf(numeric=numeric), encodes=True, replace_nulls=replace_nulls)
        self._decode = Direction(decoding_leaf, encodes=False, replace_nulls=replace_nulls)
        self._form = JsonForm(numeric, self._write_payloads, self._read_payloads)
        self._encodings: dict[Schema, tuple[bytes, JsonColumn]] = {}
        self._decodings: dict[bytes, tuple[Schema, JsonColumn]] = {}
        self._heads: dict[bytes, tuple[Schema, JsonColumn] | None] = {}

    def to_bytes(
        self, topic: str, schema: Schema | None, values: Sequence[Any], headers: BatchHeaders | None = None
    ) -> list[bytes | None]:
        enveloped = self._config.schemas_enable
        head = _HEAD + b"null" + _MIDDLE if schema is None else self._encoding(schema)[0]
        if isinstance(values, JsonValues) and values.form is self._form:
            payloads = list(values.texts)
        else:
            payloads = self._write_payloads(schema, values)
        if not enveloped:
            return payloads
        return [None if payload is None else b"%b%b}" % (head, payload) for payload in payloads]

    def from_bytes(self, topic: str, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Decoded]:
        if not self._config.schemas_enable:
            return self._read_plain(values)
        runs: list[Decoded] = []
        start = 0
        while start < len(values):
            value = values[start]
            if value is None:
                end = _while(values, start, lambda other: other is None)
                run = Decoded(start, None, [None] * (end - start))
            else:
                head, known = self._head(value)
                end = _while(values, start, lambda other, head=head: _has_head(other, head))  # type: ignore[misc]
                end = max(end, start + 1)
                run = Decoded(start, known[0] if known else None, _read(values[start:end], head, known))
            runs.append(run)
            start = end
        return _merged(runs)

    def json_form(self) -> JsonForm:
        return self._form

    def _write_payloads(self, schema: Schema | None, values: Sequence[Any]) -> list[bytes | None]:
        if schema is None:
            if None not in values:
                return [*dump_plain_values(values)]
            return [None if value is None else dump_plain(value) for value in values]
        return _dump_column(self._encoding(schema)[1], values)

    def _read_payloads(self, schema: Schema | None, texts: Sequence[bytes | None]) -> list[Any]:
        if schema is None:
            return [loads(text) if text else None for text in texts]
        column = compile_column(schema, self._decode)
        present = [text for text in texts if text is not None]
        try:
            read = iter(column.run(list(map(loads, present))))
        except NeedsExactNumbers:
            read = iter(column.run(list(map(loads_exactly, present))))
        return [None if text is None else next(read) for text in texts]

    def _read_plain(self, values: Sequence[bytes | None]) -> list[Decoded]:
        """Return runs in which objects on one line stay text; all other values are parsed."""
        if not values:
            return []
        if are_json_objects(values):
            return [Decoded(0, None, self._unparsed(values))]
        runs: list[Decoded] = []
        start = 0
        for is_text, run in groupby(which_are_json_objects(values)):
            end = start + sum(1 for _ in run)
            members = values[start:end]
            runs.append(
                Decoded(start, None, self._unparsed(members) if is_text else self._read_payloads(None, members))
            )
            start = end
        return runs

    def _unparsed(self, values: Sequence[bytes | None]) -> JsonValues:
        return JsonValues([value or None for value in values], None, self._form)

    def _encoding(self, schema: Schema) -> tuple[bytes, JsonColumn]:
        """Return the constant part of the envelope, and the function that converts values to plain JSON."""

        def make() -> tuple[bytes, JsonColumn]:
            written = orjson.dumps(schema_to_json(schema, numeric=self._numeric))
            return _HEAD + written + _MIDDLE, compile_column(schema, self._encode)

        return _remember(self._encodings, schema, make, self._config.schemas_cache_size)

    def _decoding(self, written: Any) -> tuple[Schema, JsonColumn] | None:
        if written is None:
            return None

        def make() -> tuple[Schema, JsonColumn]:
            schema = schema_from_json(written)
            return schema, compile_column(schema, self._decode)

        canonical = orjson.dumps(written, default=str)
        return _remember(self._decodings, canonical, make, self._config.schemas_cache_size)

    def _head(self, value: bytes) -> tuple[bytes, tuple[Schema, JsonColumn] | None]:
        """Return the bytes before the payload, equal in all messages of the schema; empty if in another form."""
        for head, known in self._heads.items():
            if _has_head(value, head):
                return head, known
        try:
            known = self._decoding(_envelope(loads(value))["schema"])
        except NeedsExactNumbers:
            known = self._decoding(_envelope(loads_exactly(value))["schema"])
        head = _find_head(value)
        if head:
            _remember(self._heads, head, lambda: known, _REMEMBERED_HEADS)
        return head, known


def _dump_column(column: JsonColumn, values: Sequence[Any]) -> list[bytes | None]:
    present = [value for value in values if value is not None]
    try:
        written = json_bytes(column.run(present))
    except TypeError as error:  # for example texts that are not valid Unicode
        raise DataError(f"cannot be written as JSON: {error}") from error
    if len(present) == len(values):
        return [*written]
    rest = iter(written)
    return [None if value is None else next(rest) for value in values]


def _read(values: Sequence[bytes | None], head: bytes, known: tuple[Schema, JsonColumn] | None) -> list[Any]:
    """Return the payloads of messages that begin with ``head``; if it is empty, of any messages."""

    def payloads(load: Callable[[bytes], Any]) -> list[Any]:
        if head:
            size = len(head)
            return [load(value[size:-1]) for value in values if value is not None]
        return [_envelope(load(value))["payload"] for value in values if value is not None]

    if known is None:
        return payloads(loads)
    try:
        return known[1].run(payloads(loads))
    except NeedsExactNumbers:
        return known[1].run(payloads(loads_exactly))


def _envelope(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict) or message.keys() != {"schema", "payload"}:
        raise DataError(
            'a message with "schemas.enable" is a JSON object with exactly the fields "schema" and "payload"',
            hint="plain JSON is read with schemas.enable=false",
        )
    return message


def _find_head(value: bytes) -> bytes:
    """Return the bytes before the payload of a message in the form that Connect and headrace write."""
    if not value.startswith(_HEAD) or not value.endswith(_END):
        return b""
    at = value.find(_MIDDLE)
    while at >= 0:
        try:
            orjson.loads(value[len(_HEAD) : at])
        except orjson.JSONDecodeError:  # the pattern is inside the schema, for example in its documentation
            at = value.find(_MIDDLE, at + 1)
        else:
            return value[: at + len(_MIDDLE)]
    return b""


def _has_head(value: bytes | None, head: bytes) -> bool:
    return value is not None and bool(head) and value.startswith(head) and value.endswith(_END)


def _while(values: Sequence[bytes | None], start: int, holds: Callable[[bytes | None], bool]) -> int:
    end = start
    while end < len(values) and holds(values[end]):
        end += 1
    return end


def _merged(runs: list[Decoded]) -> list[Decoded]:
    """Join adjacent runs of one schema that were written in different forms."""
    merged = []
    for _, group in groupby(runs, lambda run: run.schema):
        members = list(group)
        if len(members) > 1:
            members[0] = members[0]._replace(values=[value for run in members for value in run.values])
        merged.append(members[0])
    return merged


def _remember(cache: dict[K, V], item: K, make: Callable[[], V], limit: int) -> V:
    """Return ``cache[item]``, created when it is missing; the oldest is removed when there are too many."""
    if item not in cache:
        made = make()
        if len(cache) >= limit:
            del cache[next(iter(cache))]
        cache[item] = made
    return cache[item]
