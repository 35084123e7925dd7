"""Values of headers as texts, as Kafka Connect's ``Values`` and SimpleHeaderConverter read and write them.

Reading infers a type: the smallest integer, a float of 32 bits, ISO dates, lists and maps in JSON's form; anything
else is a text. So ``5`` is a number, ``1,2`` is 1 (what follows the first token is ignored), and ``TRUE`` is a text.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Mapping
from datetime import date, time
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from headrace import DataError, Schema, Type
from headrace import schema as schemas
from headrace_transforms.java_dates import DAY, civil_of
from headrace_transforms.java_numbers import single, text_of_real
from headrace_transforms.times import DATE, TIME, TIMESTAMP, date_of, milliseconds_of, time_of, timestamp_of

_DELIMITERS = frozenset(':,{}[]"')
_INTEGERS = ((Type.INT8, 8), (Type.INT16, 16), (Type.INT32, 32), (Type.INT64, 64))
_NUMBERS = (Type.INT8, Type.INT16, Type.INT32, Type.INT64, Type.FLOAT32, Type.FLOAT64)
_LARGEST_EXPONENT = 10_000
_DEEPEST = 100
"""Lists and maps within each other; a text with more is a text, as it is bytes for Kafka Connect."""
_MOMENTS: Mapping[str | None, Callable[[int], date | time]] = {
    schemas.DATE: lambda days: date_of(days * DAY),
    schemas.TIME: time_of,
    schemas.TIMESTAMP: timestamp_of,
}


class TypedValue(NamedTuple):
    """A value and its schema; both None is null."""

    schema: Schema | None
    value: Any


class _NoElementError(Exception):
    """A list or a map is not in the form of one."""


def header_bytes(schema: Schema | None, value: Any) -> bytes | None:
    """Return the value as SimpleHeaderConverter writes it. Raise DataError."""
    return None if value is None else text_of(schema, value).encode()


def text_of(schema: Schema | None, value: Any, *, embedded: bool = False) -> str:
    """Return the text of a value; ``embedded``: of one inside of a list, map or struct. Raise DataError."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value) if embedded else value
        case float():
            return text_of_real(value, is_single=schema is not None and schema.type is Type.FLOAT32)
        case int() | Decimal():
            return str(value)
        case bytes():
            written = b2a_base64(value, newline=False).decode()
            return _quoted(written) if embedded else written
        case date() | time():
            return text_of_moment(milliseconds_of(value))
        case list():
            items = schema.items if schema is not None else None
            return "[" + ",".join(text_of(items, item, embedded=True) for item in value) + "]"
        case dict():
            return "{" + ",".join(_entries(schema, value)) + "}"
    raise DataError(f"{type(value).__name__} cannot be the value of a header", code="transform.unsupported_type")


def text_of_moment(moment: int) -> str:
    """Return the text of a ``java.util.Date``, whose form depends on the moment and not on the type."""
    if moment < DAY:
        return TIME.format(moment)
    return DATE.format(moment) if civil_of(moment).milliseconds == 0 else TIMESTAMP.format(moment)


def parse_text(text: str) -> TypedValue:
    """Return the value that a text stands for."""
    if not text:
        return TypedValue(schemas.STRING, text)
    return _Parser(text).parse(embedded=False)


def _entries(schema: Schema | None, value: Mapping[Any, Any]) -> list[str]:
    if schema is not None and schema.type is Type.STRUCT:
        return [
            f"{_quoted(name)}:{text_of(kind, value.get(name), embedded=True)}" for name, kind in schema.by_name.items()
        ]
    keys, items = (schema.keys, schema.items) if schema is not None else (None, None)
    return [
        f"{text_of(keys, name, embedded=True)}:{text_of(items, item, embedded=True)}" for name, item in value.items()
    ]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class _Parser:
    """Tokens are the delimiters and the texts between them; a backslash takes the meaning of the sign after it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def parse(self, *, embedded: bool) -> TypedValue:
        if self._at >= len(self._tokens) or self._depth > _DEEPEST:
            raise _NoElementError
        self._depth += 1
        try:
            return self._parse(embedded=embedded)
        finally:
            self._depth -= 1

    def _parse(self, *, embedded: bool) -> TypedValue:
        if embedded and self._take('"'):
            return self._quoted_text()
        for word, constant in (
            ("null", TypedValue(None, None)),
            ("true", TypedValue(schemas.BOOLEAN, True)),
            ("false", TypedValue(schemas.BOOLEAN, False)),
        ):
            if self._take(word):
                return constant
        start = self._at
        try:
            if self._take("["):
                return self._list()
            if self._take("{"):
                return self._map()
        except _NoElementError:
            self._at = start
        token = self._tokens[self._at]
        self._at += 1
        found = self._scalar(token.strip())
        if found is not None:
            return found
        if embedded:
            raise _NoElementError
        return TypedValue(schemas.STRING, self._text if token.strip() else token)

    def _take(self, expected: str) -> bool:
        """Take the next token when it is the expected one; tokens of spaces before it are skipped."""
        at = self._at
        while at < len(self._tokens) and not self._tokens[at].strip():
            at += 1
        if at < len(self._tokens) and self._tokens[at].strip() == expected:
            self._at = at + 1
            return True
        return False

    def _quoted_text(self) -> TypedValue:
        made: list[str] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token == '"':
                text = "".join(made)
                return _moment(text) or TypedValue(schemas.STRING, text)
            made.append(token)
        raise _NoElementError

    def _list(self) -> TypedValue:
        values: list[Any] = []
        kinds: list[Schema | None] = []
        while not self._take("]"):
            if self._take(","):
                raise _NoElementError
            schema, value = self.parse(embedded=True)
            values.append(value)
            kinds.append(schema)
            if not self._take(",") and not self._ahead("]"):
                raise _NoElementError
        common = _common(kinds)
        return TypedValue(Schema(Type.ARRAY, items=common), [_aligned(common, value) for value in values])

    def _map(self) -> TypedValue:
        entries: list[tuple[Any, Any]] = []
        keys: list[Schema | None] = []
        kinds: list[Schema | None] = []
        while not self._take("}"):
            key_schema, name = self.parse(embedded=True)
            if name is None or not self._take(":"):
                raise _NoElementError
            if isinstance(name, (list, dict)):
                raise _NoElementError  # not the key of a dictionary
            schema, value = self.parse(embedded=True)
            entries.append((name, value))
            keys.append(key_schema)
            kinds.append(schema)
            self._take(",")
        key_kind, kind = _common(keys), _common(kinds)
        made = {_aligned(key_kind, name): _aligned(kind, value) for name, value in entries}
        return TypedValue(Schema(Type.MAP, keys=key_kind, items=kind), made)

    def _ahead(self, expected: str) -> bool:
        at = self._at
        found = self._take(expected)
        self._at = at
        return found

    def _scalar(self, token: str) -> TypedValue | None:
        if not token or not (token[0].isdigit() or token[0] in "+-"):
            return None
        if token[0].isdigit():
            # Colons are tokens of their own, so a time or a timestamp is five tokens.
            together = token + "".join(self._tokens[self._at : self._at + 4])
            if len(self._tokens) >= self._at + 4 and (moment := _moment(together)) is not None:
                self._at += 4
                return moment
            if (moment := _moment(token)) is not None:
                return moment
        return _number(token)


def _tokens(text: str) -> list[str]:
    tokens = []
    start = at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] in _DELIMITERS:
            if start < at:
                tokens.append(text[start:at])
            tokens.append(text[at])
            at += 1
            start = at
        else:
            at += 1
    if start < len(text):
        tokens.append(text[start:])
    return tokens


def _moment(token: str) -> TypedValue | None:
    token = token.replace("\\:", ":")
    try:
        match len(token):
            case 10:
                return TypedValue(schemas.DATE_SCHEMA, date_of(DATE.parse(token)))
            case 13:
                return TypedValue(schemas.TIME_SCHEMA, time_of(TIME.parse(token)))
            case 24:
                return TypedValue(schemas.TIMESTAMP_SCHEMA, timestamp_of(TIMESTAMP.parse(token)))
    except ValueError:
        pass
    return None


def _number(token: str) -> TypedValue | None:
    try:
        number = Decimal(token)
    except InvalidOperation:
        return None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or "_" in token:
        return None  # NaN and infinity are texts
    if abs(number.adjusted()) < _LARGEST_EXPONENT and number == number.to_integral_value():
        whole = int(number)
        for kind, bits in _INTEGERS:
            if -(1 << (bits - 1)) <= whole < 1 << (bits - 1):
                return TypedValue(Schema(kind), whole)
    if exponent != 0:
        real = float(number)
        if abs(single(real)) != float("inf"):
            return TypedValue(schemas.FLOAT32, single(real))
        if abs(real) != float("inf"):
            return TypedValue(schemas.FLOAT64, real)
    return TypedValue(schemas.decimal(-exponent), number)


def _common(kinds: list[Schema | None]) -> Schema | None:
    """Return the schema of all elements; None when they have none in common.

    Raise _NoElementError for a null after an element with a schema, as Kafka Connect does.
    """
    common: Schema | None = None
    for kind in kinds:
        if common is None:
            common = kind
        elif kind is None:
            raise _NoElementError
        elif common.type in _NUMBERS and kind.type in _NUMBERS:
            common = max(common, kind, key=lambda number: _NUMBERS.index(number.type))
        elif common != kind:
            # Kafka Connect takes the last schema of several lists or maps, whatever their elements are.
            common = kind if common.type is kind.type and kind.type in (Type.ARRAY, Type.MAP) else None
    return common


def _aligned(schema: Schema | None, value: Any) -> Any:
    """Return the value in the type of the schema. Raise _NoElementError when it has no such form."""
    if schema is None:
        return value
    if value is None:
        raise _NoElementError
    if schema.type not in (*_NUMBERS, Type.STRING):
        return value
    if (schema.type is Type.STRING) is not isinstance(value, str):
        raise _NoElementError
    if schema.name in _MOMENTS:
        return _MOMENTS[schema.name](value) if isinstance(value, int) else value
    return float(value) if schema.type in (Type.FLOAT32, Type.FLOAT64) else value
