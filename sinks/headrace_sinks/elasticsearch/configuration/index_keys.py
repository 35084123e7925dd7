"""Keys for provisioning indices: settings, templates, lifecycle, aliases, and mappings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from headrace import LOWER, CommaList, ConfigError, ConfigModel, Finding, key, prefix_key
from headrace_sinks.elasticsearch.mappings.declared_mapping import declared_fields, read_mapping_file
from headrace_sinks.elasticsearch.mappings.schema_mapping import MappingPolicy

INDICES, MAPPING = "Index Management", "Mapping"
_PERIOD = re.compile(r"\d+(d|h|m|s|ms|micros|nanos)")
_SIZE = re.compile(r"\d+(b|kb|mb|gb|tb|pb)")
_TEMPLATE_NAME = re.compile(r"[^\s,#*?\"<>|\\/A-Z_][^\s,#*?\"<>|\\/A-Z]*")


class IndexKeys(ConfigModel):
    """The index management part of the sink's configuration."""

    topics: CommaList = key("topics", default="", doc="Topics to read.", importance="high", group="Common")

    index_management: Annotated[Literal["create", "check", "none"], LOWER] = key(
        "index.management",
        default="create",
        doc="`create`: lifecycle policy, templates, indices, aliases and new fields of mappings are created at start "
        "and with the first record that needs them. `check`: nothing is created or changed; a missing or different "
        "resource stops the task and is named. `none`: nothing is checked.",
        group=INDICES,
    )
    index_settings: dict[str, str] = prefix_key(
        "index.settings.",
        doc="Settings of new indices and of the template, as in Elasticsearch: `index.settings.number_of_shards`, "
        "`index.settings.mapping.total_fields.limit`, `index.settings.analysis.analyzer.…`.",
        group=INDICES,
        importance="medium",
    )
    index_generations: bool = key(
        "index.generations",
        default=False,
        doc="true: a new index is called `<name>-000001` and `<name>` is an alias of it, ready for `headrace reindex`. "
        "false: the index itself is called `<name>`; the first `headrace reindex` makes the alias, "
        "for which writes wait a few seconds.",
        group=INDICES,
    )
    index_aliases: CommaList = key(
        "index.aliases", default="", doc="Further aliases of every index, for readers.", group=INDICES
    )
    index_template: str = key(
        "index.template",
        default="",
        doc="Name of an index template to keep, composed of `<name>@settings`, `<name>@mappings` and, if it "
        "exists, `<name>@custom`. For indices that Elasticsearch creates: rollover, data streams, time buckets.",
        group=INDICES,
    )
    index_template_patterns: CommaList = key(
        "index.template.patterns",
        default="",
        doc="Index patterns of the template; when not given, the names that the topics' indices have.",
        group=INDICES,
        importance="low",
    )
    index_template_priority: int = key(
        "index.template.priority",
        default=300,
        ge=0,
        doc="Where several templates match an index the highest priority counts; Elasticsearch's own have 100.",
        group=INDICES,
        importance="low",
    )
    lifecycle_policy: str = key(
        "index.lifecycle.policy",
        default="",
        doc="ILM policy of new indices. It must exist, or one of the three keys below says what it does.",
        group=INDICES,
    )
    lifecycle_rollover_age: str = key(
        "index.lifecycle.rollover.max.age", default="", doc="Roll over after, e.g. `30d`.", group=INDICES
    )
    lifecycle_rollover_size: str = key(
        "index.lifecycle.rollover.max.primary.shard.size",
        default="",
        doc="Roll over when a primary shard is as large as, e.g. `50gb`.",
        group=INDICES,
    )
    lifecycle_delete_after: str = key(
        "index.lifecycle.delete.after", default="", doc="Delete an index so long after it rolled over.", group=INDICES
    )
    data_stream_retention: str = key(
        "data.stream.retention",
        default="",
        doc="Data stream lifecycle, part of `index.template`: how long documents are kept, e.g. `90d`.",
        group=INDICES,
    )

    mapping_strings: Annotated[Literal["text+keyword", "keyword", "text"], LOWER] = key(
        "mapping.strings",
        default="text+keyword",
        doc="Texts of a schema: `text` with a subfield `keyword` (as Kafka Connect; two of the index's fields each), "
        "`keyword` (exact values: ids, codes, categories), `text` (prose).",
        group=MAPPING,
    )
    mapping_ignore_above: int = key(
        "mapping.keyword.ignore.above",
        default=256,
        ge=1,
        le=32_766,
        doc="Longer texts are kept but not found by `keyword`.",
        group=MAPPING,
        importance="low",
    )
    mapping_decimals: Annotated[Literal["double", "scaled_float", "keyword"], LOWER] = key(
        "mapping.decimals",
        default="double",
        doc="Decimals of a schema. `scaled_float` keeps their digits, with the scaling factor that the scale says "
        "(up to 18 digits behind the point). The document holds all digits in any case.",
        group=MAPPING,
    )
    mapping_maps: Annotated[Literal["object", "flattened"], LOWER] = key(
        "mapping.maps",
        default="object",
        doc="Maps with text keys: `object` makes every key a field; `flattened` one field for all, however many keys.",
        group=MAPPING,
    )
    mapping_dynamic: Annotated[Literal["", "true", "false", "strict", "runtime"], LOWER] = key(
        "mapping.dynamic",
        default="",
        doc="What Elasticsearch does with fields that no mapping names; empty = its default, `true`.",
        group=MAPPING,
    )
    mapping_fields: dict[str, str] = prefix_key(
        "mapping.fields.",
        doc="Mapping of single fields, before what the schema says: `mapping.fields.sku: keyword`, "
        "`mapping.fields.price: scaled_float scaling_factor=100`, `mapping.fields.lines: nested`, "
        "`mapping.fields.lines.seen: date format=yyyy-MM-dd`.",
        group=MAPPING,
        importance="medium",
    )
    mapping_file: str = key(
        "mapping.file",
        default="",
        doc="YAML or JSON file with a mapping as Elasticsearch writes it (`properties`, `dynamic_templates` …); "
        "`mapping.fields` come before it, it comes before the schema. Every worker needs the file.",
        group=MAPPING,
    )
    mapping_conflicts: Annotated[Literal["wait", "ignore"], LOWER] = key(
        "mapping.conflicts",
        default="wait",
        doc="When the index maps a field differently from the schema or the declared mapping. `wait`: nothing is "
        "written and the status shows the conflict, until it is resolved. `ignore`: Elasticsearch decides for every "
        "document; refused documents go to the dead letter queue.",
        group=MAPPING,
    )

    json_fields: CommaList = key(
        "json.fields",
        default="",
        doc="Fields whose texts are JSON (a `json` or `jsonb` column of PostgreSQL): the document contains the parsed "
        "objects and lists instead of the text. Names, with dots for fields in objects: `payload, customer.tags`; `*` "
        "stands for all that the schema calls `io.debezium.data.Json`. With a schema they are mapped as `mapping.maps` "
        "says. A text that is not JSON is refused with the field's name.",
        group=MAPPING,
    )

    def declared(self) -> dict[str, Any]:
        """Return the declared mapping, empty when there is none. Raise ConfigError."""
        body = read_mapping_file(Path(self.mapping_file)) if self.mapping_file else {}
        if self.mapping_dynamic:
            body = {**body, "dynamic": self.mapping_dynamic}
        return declared_fields(self.mapping_fields, body)

    def policy(self, *, compact_maps: bool) -> MappingPolicy:
        """Return the options for mapping types of a schema."""
        return MappingPolicy(
            self.mapping_strings,
            self.mapping_ignore_above,
            self.mapping_decimals,
            self.mapping_maps,
            compact_maps,
            tuple(self.json_fields),
        )

    def new_index_settings(self) -> dict[str, str]:
        """Return the flat settings of a new index."""
        settings = {f"index.{name.removeprefix('index.')}": value for name, value in self.index_settings.items()}
        if self.lifecycle_policy:
            settings["index.lifecycle.name"] = self.lifecycle_policy
        return settings

    def index_problems(self, *, streams: bool, external: bool) -> Iterable[Finding]:
        """Yield violations. ``streams``: records go to data streams; ``external``: to existing indices."""
        yield from self._lifecycle()
        yield from self._template(streams)
        yield from self._without_effect(streams, external)
        try:
            self.declared()
        except ConfigError as error:
            yield from error.findings

    def phases(self) -> dict[str, Any]:
        """Return the phases of the ILM policy that headrace manages; empty when it manages none."""
        rollover = {
            name: value
            for name, value in (
                ("max_age", self.lifecycle_rollover_age),
                ("max_primary_shard_size", self.lifecycle_rollover_size),
            )
            if value
        }
        phases: dict[str, Any] = {}
        if rollover:
            phases["hot"] = {"min_age": "0ms", "actions": {"rollover": rollover}}
        if self.lifecycle_delete_after:
            phases["delete"] = {"min_age": self.lifecycle_delete_after, "actions": {"delete": {}}}
        return phases

    def _lifecycle(self) -> Iterator[Finding]:
        for name, value, form, example in (
            ("index.lifecycle.rollover.max.age", self.lifecycle_rollover_age, _PERIOD, "30d"),
            ("index.lifecycle.rollover.max.primary.shard.size", self.lifecycle_rollover_size, _SIZE, "50gb"),
            ("index.lifecycle.delete.after", self.lifecycle_delete_after, _PERIOD, "90d"),
            ("data.stream.retention", self.data_stream_retention, _PERIOD, "90d"),
        ):
            if value and not form.fullmatch(value):
                text = f"Invalid value {value} for configuration {name}: not as Elasticsearch writes it"
                yield Finding("config.invalid_value", text, name, f"write for example {example}")
            if value and name.startswith("index.lifecycle") and not self.lifecycle_policy:
                text = f"'{name}' says what a lifecycle policy does, and 'index.lifecycle.policy' names none"
                yield Finding("config.conflict", text, name, "name the policy in 'index.lifecycle.policy'")

    def _template(self, streams: bool) -> Iterator[Finding]:
        name = "index.template"
        if self.index_template and not _TEMPLATE_NAME.fullmatch(self.index_template):
            text = f"Invalid value {self.index_template} for configuration {name}: no name that Elasticsearch accepts"
            yield Finding("config.invalid_value", text, name, "lower-case letters, digits, '-', '.', not '_' first")
        if self.index_template_patterns and not self.index_template:
            text = "'index.template.patterns' belongs to 'index.template', which is not set"
            yield Finding("config.conflict", text, "index.template.patterns", "name the template in 'index.template'")
        if self.data_stream_retention and not self.index_template:
            text = "'data.stream.retention' is part of a template, and 'index.template' names none"
            yield Finding("config.conflict", text, "data.stream.retention", "name one in 'index.template'")
        if self.data_stream_retention and not streams:
            text = "'data.stream.retention' makes a template for data streams, and records go to indices"
            hint = "set 'data.stream.type'; for indices 'index.lifecycle.delete.after'"
            yield Finding("config.conflict", text, "data.stream.retention", hint)

    def _without_effect(self, streams: bool, external: bool) -> Iterator[Finding]:
        """Yield keys for new indices where this configuration creates none."""
        if self.index_management == "none":
            where, unused = "with index.management: none", [*self._of_new_indices(), *self._of_mappings()]
            unused += ["index.template"] if self.index_template else []
        elif external and not self.index_template:
            where, unused = "on what 'external.resource.usage' names", [*self._of_new_indices(), *self._of_mappings()]
        elif streams and not self.index_template:
            where, unused = "on data streams without 'index.template'", list(self._of_new_indices())
        else:
            where, unused = "", []
        if self.index_generations and (streams or external or self.index_management == "none"):
            unused.append("index.generations")
        for name in unused:
            text = f"'{name}' has no effect {where or 'on data streams'}"
            yield Finding("config.no_effect", text, name, severity="warning")

    def _of_new_indices(self) -> Iterator[str]:
        yield from (f"index.settings.{name}" for name in self.index_settings)
        yield from ["index.lifecycle.policy"] if self.lifecycle_policy else []
        yield from ["index.aliases"] if self.index_aliases else []

    def _of_mappings(self) -> Iterator[str]:
        yield from (f"mapping.fields.{name}" for name in self.mapping_fields)
        yield from ["mapping.file"] if self.mapping_file else []
        yield from ["mapping.dynamic"] if self.mapping_dynamic else []
