"""RegexRouter and TimestampRouter: other topics for records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby

from headrace import ColumnTransform, ConfigModel, DataError, Finding, Pattern, RecordColumns, compile_pattern, key
from headrace_transforms.java_dates import JavaDateFormat
from headrace_transforms.keys import invalid
from headrace_transforms.sides import JVM
from headrace_transforms.times import current_year

_TOPICS = 1_000
"""Topics for which a router keeps the result."""


class RegexRouterConfig(ConfigModel):
    """Keys of Kafka Connect's RegexRouter."""

    regex: str = key("regex", doc="Regular expression (RE2) that the whole topic matches.", importance="high")
    replacement: str = key(
        "replacement", doc="The new topic; `$1` or `${name}` is a group of the expression.", importance="high"
    )

    def problems(self) -> Iterable[Finding]:
        try:
            pattern = compile_pattern(self.regex)
        except ValueError as error:
            yield invalid("regex", self.regex, str(error), "write a regular expression of RE2")
            return
        try:
            parse_replacement(self.replacement, pattern)
        except ValueError as error:
            yield invalid("replacement", self.replacement, str(error), r"a literal dollar sign is \$")


def parse_replacement(text: str, pattern: Pattern) -> list[str | int]:
    """Return the literals and the numbers of groups of a replacement of Java. Raise ValueError."""
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        if text[at] == "\\":
            if at + 1 == len(text):
                raise ValueError("character to be escaped is missing")
            parts.append(text[at + 1])
            at += 2
        elif text[at] != "$":
            parts.append(text[at])
            at += 1
        elif match := re.compile(r"\$\{([a-zA-Z][a-zA-Z0-9]*)\}").match(text, at):
            if match[1] not in pattern.groupindex:
                raise ValueError(f"No group with name <{match[1]}>")
            parts.append(pattern.groupindex[match[1]])
            at = match.end()
        else:
            number, at = _group_number(text, at + 1, pattern.groups)
            parts.append(number)
    return parts


def _group_number(text: str, at: int, groups: int) -> tuple[int, int]:
    """Return the number at ``at``, with as many digits as there are groups, and where it ends."""
    digits = re.compile(r"[0-9]+").match(text, at)
    if digits is None:
        raise ValueError("Illegal group reference")
    end = at + 1
    while end < digits.end() and int(text[at : end + 1]) <= groups:
        end += 1
    if int(text[at:end]) > groups:
        raise ValueError(f"No group {text[at:end]}")
    return int(text[at:end]), end


class RegexRouter(ColumnTransform):
    """Changes topics by a regular expression. A topic that does not match stays."""

    config_model = RegexRouterConfig
    aliases = (f"{JVM}RegexRouter",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = RegexRouterConfig.parse(properties)
        whole = compile_pattern(config.regex)
        self._parts = parse_replacement(config.replacement, whole)
        self._whole = whole
        # Java replaces the first match, which can be shorter than the topic: the expression's own, and what follows.
        self._first = compile_pattern(f"({config.regex})((?s:.*))")
        self._routed = lru_cache(maxsize=_TOPICS)(self._route)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        topic = self._routed(batch.topic)
        return [batch if topic == batch.topic else replace(batch, topic=topic)]

    def _route(self, topic: str) -> str:
        if self._whole.fullmatch(topic) is None:
            return topic
        first = self._first.fullmatch(topic)
        assert first is not None
        made = [part if isinstance(part, str) else first[part + 1] or "" for part in self._parts]
        return "".join(made) + (first[self._whole.groups + 2] or "")


class TimestampRouterConfig(ConfigModel):
    """Keys of Kafka Connect's TimestampRouter."""

    topic_format: str = key(
        "topic.format",
        default="${topic}-${timestamp}",
        doc="The new topic, in which `${topic}` and `${timestamp}` are replaced.",
        importance="high",
    )
    timestamp_format: str = key(
        "timestamp.format", default="yyyyMMdd", doc="Pattern of Java's SimpleDateFormat, in UTC.", importance="high"
    )

    def problems(self) -> Iterable[Finding]:
        try:
            JavaDateFormat(self.timestamp_format, current_year)
        except ValueError as error:
            yield invalid("timestamp.format", self.timestamp_format, str(error), "see Java's SimpleDateFormat")


class TimestampRouter(ColumnTransform):
    """Makes topics of the records' timestamps."""

    config_model = TimestampRouterConfig
    aliases = (f"{JVM}TimestampRouter",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        config = TimestampRouterConfig.parse(properties)
        self._topic_format = config.topic_format
        self._format = JavaDateFormat(config.timestamp_format, current_year)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        texts = [self._text(moment) for moment in batch.timestamps]
        with_topic = self._topic_format.replace("${topic}", batch.topic)
        routed = []
        start = 0
        for text, run in groupby(texts):
            end = start + sum(1 for _ in run)
            part = batch if end - start == len(batch) else batch.between(start, end)
            routed.append(replace(part, topic=with_topic.replace("${timestamp}", text)))
            start = end
        return routed

    def _text(self, moment: int | None) -> str:
        if moment is None:
            raise DataError("TimestampRouter: the record has no timestamp", code="transform.no_timestamp")
        return self._format.format(moment)
