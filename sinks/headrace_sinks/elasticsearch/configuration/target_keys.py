"""Keys that route records: index names, data streams, shard routing, ingest pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from headrace import LOWER, UPPER, CommaList, ConfigModel, Finding, compile_pattern, key
from headrace_sinks.elasticsearch.naming.name_rules import invalid_part_reason
from headrace_sinks.elasticsearch.naming.name_templates import NameTemplate

TARGETS = "Targets"


class TargetKeys(ConfigModel):
    """The routing part of the sink's configuration."""

    index_name: str = key(
        "index.name",
        default="",
        doc="Template of the index name: text with expressions in braces: `{topic}`; `{1}` or `{name}`, a group of "
        "`index.name.regex`; `{value:customer.region}`, `{key}`, `{key:tenant}`, `{header:tenant}`; "
        "`{time:%Y.%m.%d}` (timestamp of the record, UTC); `{time(placed_at):%Y.%m}` (a field of the value). "
        "Default: the topic's name in lower case. The part of a name that comes from a record may contain only "
        "letters, digits, `.`, `_` and `-`, and must follow literal text, so that a record cannot select an "
        "unintended index; a record that violates this is refused. A key whose records go to different indices has "
        "one document in each.",
        group=TARGETS,
    )
    index_name_regex: str = key(
        "index.name.regex",
        default="",
        doc="Regular expression that the whole name of the topic must match; its groups can be used in `index.name`.",
        group=TARGETS,
    )
    index_name_allowed: CommaList = key(
        "index.name.allowed",
        default="",
        doc="Patterns of names that `index.name` may produce, with `*` as wildcard: `shop-*, audit`. Required when "
        "`index.name` begins with an expression of the record.",
        group=TARGETS,
        importance="low",
    )
    index_name_limit: int = key(
        "index.name.limit",
        default=1_000,
        ge=1,
        doc="Maximum number of indices per day that the records of a task may select. Records beyond it are refused.",
        group=TARGETS,
        importance="low",
    )
    data_stream_type: Annotated[Literal["NONE", "LOGS", "METRICS"], UPPER] = key(
        "data.stream.type",
        default="NONE",
        doc="Write to the data stream `<type>-<dataset>-<namespace>`. A matching index template must exist: the "
        "built-in ones for `logs-*-*` and `metrics-*-*`, or the one of `index.template`.",
        group=TARGETS,
    )
    data_stream_dataset: str = key(
        "data.stream.dataset",
        default="",
        doc='The dataset: at most 100 bytes, lower case, none of `\\ / * ? " < > |`, blank, `, # : -`.',
        group=TARGETS,
    )
    data_stream_namespace: str = key(
        "data.stream.namespace",
        default="${topic}",
        doc="The namespace, with the same rules. `${topic}` is the topic's name in lower case, truncated to 100 bytes; "
        "`-` in it is kept.",
        group=TARGETS,
    )
    data_stream_timestamp_field: CommaList = key(
        "data.stream.timestamp.field",
        default="",
        doc="Fields of the value: the first one that is present becomes `@timestamp`. Default, and when none is "
        "present: the Kafka timestamp of the record. A value that has `@timestamp` keeps it.",
        group=TARGETS,
    )
    routing_type: Annotated[Literal["none", "key", "value"], LOWER] = key(
        "routing.type",
        default="none",
        doc="What determines the shard instead of the id: `key` (the record key) or `value` (a field of the value, "
        "see `routing.type.record.value.path`). The same document must always have the same routing.",
        group=TARGETS,
        importance="low",
    )
    routing_path: str = key(
        "routing.type.record.value.path",
        default="",
        doc="JSON pointer of the field for `routing.type: value`: `/customer/id`. Missing or null: no routing.",
        group=TARGETS,
        importance="low",
    )
    ingest_pipeline: str = key(
        "ingest.pipeline",
        default="",
        doc="Ingest pipeline for all documents; it must exist. No effect with `write.method` upsert and update.",
        group=TARGETS,
        importance="low",
    )

    def name_template(self) -> NameTemplate | None:
        """Return the compiled ``index.name``, None when it is not set."""
        if not self.index_name:
            return None
        return NameTemplate(self.index_name, self.index_name_regex, self.index_name_allowed)

    def target_problems(self) -> Iterable[Finding]:
        """Yield violations of rules over several of these keys."""
        yield from self._name_problems()
        yield from self._stream_problems()
        if (self.routing_type == "value") != bool(self.routing_path):
            text = "'routing.type: value' and 'routing.type.record.value.path' belong together"
            yield Finding("config.conflict", text, "routing.type.record.value.path", "set both or neither")
        elif self.routing_path and not self.routing_path.startswith("/"):
            text = (
                f"Invalid value {self.routing_path} for configuration routing.type.record.value.path: no JSON pointer"
            )
            yield Finding("config.invalid_value", text, "routing.type.record.value.path", "write it as /customer/id")

    def _name_problems(self) -> Iterator[Finding]:
        if not self.index_name:
            for name, given in (
                ("index.name.regex", self.index_name_regex),
                ("index.name.allowed", self.index_name_allowed),
            ):
                if given:
                    yield Finding("config.conflict", f"'{name}' needs 'index.name'", name, "set 'index.name' too")
            return
        if self.data_stream_type != "NONE":
            text = "'index.name' and 'data.stream.type' both say where records go"
            yield Finding("config.conflict", text, "index.name", "keep one of the two")
        try:
            compile_pattern(self.index_name_regex)
        except ValueError as error:
            text = f"Invalid value {self.index_name_regex} for configuration index.name.regex: {error}"
            yield Finding("config.invalid_value", text, "index.name.regex", "write a regular expression of RE2")
            return
        try:
            self.name_template()
        except ValueError as error:
            text = f"Invalid value {self.index_name} for configuration index.name: {error}"
            yield Finding("config.invalid_value", text, "index.name", "for example orders-{time:%Y.%m}")

    def _stream_problems(self) -> Iterator[Finding]:
        streams = self.data_stream_type != "NONE"
        if streams != bool(self.data_stream_dataset):
            text = "'data.stream.type' and 'data.stream.dataset' belong together"
            missing = "data.stream.dataset" if streams else "data.stream.type"
            yield Finding("config.conflict", text, missing, "set both, for example LOGS and orders; or neither")
        if not streams and self.data_stream_timestamp_field:
            text = "'data.stream.timestamp.field' is set and 'data.stream.type' is not"
            yield Finding(
                "config.conflict", text, "data.stream.timestamp.field", "set 'data.stream.type', or remove it"
            )
        namespace = self.data_stream_namespace.replace("${topic}", "topic")
        for name, text in (("data.stream.dataset", self.data_stream_dataset), ("data.stream.namespace", namespace)):
            if why := invalid_part_reason(text):
                said = f"Invalid value {text} for configuration {name}: {why}"
                yield Finding(
                    "config.invalid_value", said, name, 'lower case, none of \\ / * ? " < > | , # : - and blank'
                )
        if not namespace:
            said = "Invalid value for configuration data.stream.namespace: it is empty"
            yield Finding("config.invalid_value", said, "data.stream.namespace", "for example default")
