"""The predicates of Kafka Connect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace import ColumnPredicate, ConfigModel, Finding, JsonValues, RecordColumns, compile_pattern, key
from headrace_transforms.keys import invalid
from headrace_transforms.sides import JVM


class HasHeaderKeyConfig(ConfigModel):
    """Keys of Kafka Connect's HasHeaderKey."""

    name: str = key("name", doc="Name of the header.", min_length=1)


class HasHeaderKey(ColumnPredicate):
    """Holds for records that have a header of the name."""

    config_model = HasHeaderKeyConfig
    aliases = (f"{JVM}predicates.HasHeaderKey",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        self._name = HasHeaderKeyConfig.parse(properties).name

    def select(self, batch: RecordColumns) -> Sequence[bool]:
        wanted = self._name
        return [any(name == wanted for name, _ in headers) for headers in batch.headers]


class RecordIsTombstone(ColumnPredicate):
    """Holds for records with a null value."""

    config_model = ConfigModel
    aliases = (f"{JVM}predicates.RecordIsTombstone",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        ConfigModel.parse(properties)

    def select(self, batch: RecordColumns) -> Sequence[bool]:
        values = batch.values.texts if isinstance(batch.values, JsonValues) else batch.values
        return [value is None for value in values]


class TopicNameMatchesConfig(ConfigModel):
    """Keys of Kafka Connect's TopicNameMatches."""

    pattern: str = key("pattern", doc="Regular expression (RE2) that the whole topic matches.", min_length=1)

    def problems(self) -> Iterable[Finding]:
        try:
            compile_pattern(self.pattern)
        except ValueError as error:
            yield invalid("pattern", self.pattern, str(error), "write a regular expression of RE2")


class TopicNameMatches(ColumnPredicate):
    """Holds for records whose topic matches."""

    config_model = TopicNameMatchesConfig
    aliases = (f"{JVM}predicates.TopicNameMatches",)
    reads_values = False

    def configure(self, properties: Mapping[str, str]) -> None:
        self._pattern = compile_pattern(TopicNameMatchesConfig.parse(properties).pattern)

    def select(self, batch: RecordColumns) -> Sequence[bool]:
        return [self._pattern.fullmatch(batch.topic) is not None] * len(batch)
