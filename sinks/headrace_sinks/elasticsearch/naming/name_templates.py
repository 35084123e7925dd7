"""The template language of ``index.name``: topic, fields of the record, and time.

================================  ==================================================================
``{topic}``                       the topic's name
``{1}``, ``{shop}``               a group of ``index.name.regex``, which must match the topic's name
``{value:customer.region}``       a field of the value
``{key}``, ``{key:tenant}``       the key, or a field of it
``{header:tenant}``               a header
``{time:%Y.%m.%d}``               when the record was written to Kafka, UTC
``{time(placed_at):%Y.%m}``       a field of the value: ISO text, epoch milliseconds
================================  ==================================================================

Parts from a record may contain letters, digits, ``.``, ``_`` and ``-`` only, are lower-cased, and follow text written
by the user (or the name must match ``index.name.allowed``): a record cannot choose an arbitrary index.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Any

from headrace import DataError, JsonValues, SinkBatch, compile_pattern
from headrace_sinks.elasticsearch.naming.name_rules import LONGEST

_PART = re.compile(r"\{([a-z0-9_]+)(?:\(([^(){}]+)\))?(?::([^{}]*))?\}")
_TIME_FORMAT = re.compile(r"(?:%[YmdHGVj]|[a-z0-9._-])+")
_LITERAL = re.compile(r"[a-z0-9._-]*")
_FROM_RECORD = re.compile(r"\w[\w.-]*")
_HOUR = 3_600_000
_DAYS_REMEMBERED = 10_000

NamePart = Callable[[SinkBatch, Sequence[Any] | None, int], str]
"""Returns a part of a record's index name from the batch, its parsed values (when a part needs them) and the row."""


class NameTemplate:
    """A compiled ``index.name``. The constructor raises ValueError when it is malformed, or the expression is."""

    def __init__(self, text: str, regex: str, allowed: Sequence[str]) -> None:
        self.text = text
        self._regex = compile_pattern(regex) if regex else None
        self._allowed = tuple(allowed)
        self._parts: list[str | tuple[str, str | None, str | None]] = []
        end = 0
        for found in _PART.finditer(text):
            self._literal(text[end : found.start()])
            self._parts.append((found[1], found[2], found[3]))
            end = found.end()
        self._literal(text[end:])
        self._check()
        self.needs_values = any(
            part[0] == "value" or part[1] is not None for part in self._parts if not isinstance(part, str)
        )

    def of_topic(self, topic: str) -> str | None:
        """Return the name when it is the same for all records of the topic, else None. Raise DataError."""
        if self.by_record:
            return None
        return self._checked(
            "".join(part if isinstance(part, str) else self._topic_part(part, topic) for part in self._parts)
        )

    @property
    def by_record(self) -> bool:
        """Whether records of one topic can go to different indices."""
        return any(not isinstance(part, str) and self._chosen_by_record(part) for part in self._parts)

    def pattern(self, topic: str) -> str:
        """Return a wildcard for the names that records of the topic can have. Raise DataError."""
        return "".join(
            part if isinstance(part, str) else "*" if self._chosen_by_record(part) else self._topic_part(part, topic)
            for part in self._parts
        )

    def namer(self, topic: str) -> Callable[[SinkBatch, Sequence[Any] | None, int], str]:
        """Return a function that names one record of the topic. Raise DataError; so does the function."""
        picks: list[str | NamePart] = [
            part
            if isinstance(part, str)
            else self._pick(part)
            if self._chosen_by_record(part)
            else self._topic_part(part, topic)
            for part in self._parts
        ]

        def name(batch: SinkBatch, values: Sequence[Any] | None, row: int) -> str:
            return self._checked("".join(pick if isinstance(pick, str) else pick(batch, values, row) for pick in picks))

        return name

    def _literal(self, text: str) -> None:
        if not _LITERAL.fullmatch(text):
            raise ValueError(f"'{text}' is not made of lower-case letters, digits, '.', '_', '-' and parts in braces")
        if text:
            self._parts.append(text)

    def _check(self) -> None:
        before = ""
        for part in self._parts:
            if isinstance(part, str):
                before += part
                continue
            kind, argument, option = part
            if kind == "time":
                if not option or not _TIME_FORMAT.fullmatch(option):
                    raise ValueError("{time:…} needs a format of %Y %m %d %H %G %V %j and plain text, as %Y.%m.%d")
            elif argument is not None:
                raise ValueError(f"only {{time(…):…}} takes a field in parentheses, not {{{kind}}}")
            elif kind in ("value", "header"):
                if not option:
                    raise ValueError(f"{{{kind}:…}} needs a name")
            elif kind not in ("topic", "key") and not self._is_group(kind):
                known = "topic, key, key:…, value:…, header:…, time:…"
                raise ValueError(f"unknown part {{{kind}}}; known: {known}, and groups of 'index.name.regex'")
            if self._chosen_by_record(part) and not before.strip("._-") and not self._allowed:
                raise ValueError(
                    "a record would choose the whole index; write some text before its part, or list the names that "
                    "are meant in 'index.name.allowed'"
                )
            before += "t"

    def _is_group(self, kind: str) -> bool:
        if self._regex is None:
            return False
        return kind in self._regex.groupindex or (kind.isdigit() and 1 <= int(kind) <= self._regex.groups)

    @staticmethod
    def _chosen_by_record(part: tuple[str, str | None, str | None]) -> bool:
        return part[0] in ("value", "key", "header", "time")

    def _topic_part(self, part: tuple[str, str | None, str | None], topic: str) -> str:
        kind = part[0]
        if self._regex is None:
            return _safe(topic, "the topic")
        found = self._regex.fullmatch(topic)
        if found is None:
            raise _no_name(f"'index.name.regex' does not match topic '{topic}'")
        if kind == "topic":
            return _safe(topic, "the topic")
        return _safe(found[int(kind) if kind.isdigit() else kind] or "", f"group {kind} of the topic")

    def _pick(self, part: tuple[str, str | None, str | None]) -> NamePart:
        kind, argument, option = part
        match kind:
            case "time":
                return _time(argument, option or "")
            case "header":
                return lambda batch, values, row: _safe(_header(batch, row, option or ""), f"header '{option}'")
            case "key":
                path = option.split(".") if option else []
                return lambda batch, values, row: _safe(_at(batch.keys[row], path, "the key"), "the key")
        path = (option or "").split(".")
        return lambda batch, values, row: _safe(
            _at(values[row] if values is not None else None, path, "the value"), f"field '{option}'"
        )

    def _checked(self, name: str) -> str:
        if len(name.encode()) > LONGEST:
            raise _no_name(f"it would have more than {LONGEST} bytes")
        if name in ("", ".", "..") or name[0] in "-_+":
            raise _no_name(f"'{name}' is not an index name")
        if self._allowed and not any(fnmatchcase(name, pattern) for pattern in self._allowed):
            raise _no_name(f"'{name}' is none of those in 'index.name.allowed'")
        return name


def _safe(value: Any, what: str) -> str:
    match value:
        case bool():
            text = "true" if value else "false"
        case str() | int():
            text = str(value)
        case None:
            raise _no_name(f"{what} is missing or null")
        case _:
            raise _no_name(f"{what} is a {type(value).__name__}, not text or a whole number")
    if not _FROM_RECORD.fullmatch(text) or ".." in text:
        raise _no_name(f"{what} contains characters that are not allowed in an index name, or is empty")
    return text.lower()


def _at(value: Any, path: Sequence[str], what: str) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            raise _no_name(f"{what} has no field '{'.'.join(path)}'")
        value = value.get(name)
    return value


def _header(batch: SinkBatch, row: int, name: str) -> str | None:
    values = [value for header, value in batch.headers[row] if header == name]
    return values[-1].decode(errors="replace") if values and values[-1] is not None else None


def _time(field: str | None, form: str) -> NamePart:
    known: dict[int, str] = {}

    def said(moment: int) -> str:
        hour = moment // _HOUR
        if (text := known.get(hour)) is None:
            if len(known) > _DAYS_REMEMBERED:
                known.clear()
            try:
                text = known[hour] = datetime.fromtimestamp(hour * 3600, UTC).strftime(form)
            except (OverflowError, ValueError, OSError) as error:
                raise _no_name("the time is out of range") from error
        return text

    if field is None:
        return lambda batch, values, row: said(batch.timestamps[row])
    path = field.split(".")
    return lambda batch, values, row: said(
        _milliseconds(_at(values[row] if values else None, path, "the value"), field)
    )


def _milliseconds(value: Any, field: str) -> int:
    match value:
        case bool():
            pass
        case int():
            return value
        case datetime():
            moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return int(moment.timestamp() * 1000)
        case date():
            return int(datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp() * 1000)
        case str():
            try:
                return _milliseconds(datetime.fromisoformat(value), field)
            except ValueError:
                pass
    raise _no_name(f"field '{field}' is not a time (ISO text or epoch milliseconds)")


def _no_name(why: str) -> DataError:
    return DataError(
        f"the record gives no index name: {why}",
        code="elasticsearch.invalid_index_name",
        hint="see 'index.name'",
    )


def parsed_values(batch: SinkBatch) -> Sequence[Any]:
    """Return the parsed values; an invalid one is None here and is refused when its document is encoded."""
    if not isinstance(batch.values, JsonValues):
        return batch.values
    try:
        return batch.values.parsed()
    except DataError:
        return [_parsed_or_none(batch.values[row : row + 1]) for row in range(len(batch))]


def _parsed_or_none(column: Sequence[Any]) -> Any:
    try:
        return column[0]
    except DataError:
        return None
