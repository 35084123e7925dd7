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
        "and with the first record that needs them. `check`: nothing is created or changed; a resource that is "
        "missing or differs fails the task with its name. `none`: nothing is checked.",
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
        doc="true: a new index is named `<name>-000001`, and `<name>` is its alias, as `headrace reindex` needs it. "
        "false: the index is named `<name>`; the first `headrace reindex` replaces it by an alias, and writes wait "
        "for a few seconds.",
        group=INDICES,
    )
    index_aliases: CommaList = key(
        "index.aliases", default="", doc="Further aliases of every index, for readers.", group=INDICES
    )
    index_template: str = key(
        "index.template",
        default="",
        doc="Name of an index template to create and update, composed of `<name>@settings`, `<name>@mappings` and, if "
        "it exists, `<name>@custom`. For indices that Elasticsearch creates: rollover, data streams, time buckets.",
        group=INDICES,
    )
    index_template_patterns: CommaList = key(
        "index.template.patterns",
        default="",
        doc="Index patterns of the template. Default: the names of the topics' indices.",
        group=INDICES,
        importance="low",
    )
    index_template_priority: int = key(
        "index.template.priority",
        default=300,
        ge=0,
        doc="Of several templates that match an index, the one with the highest priority applies. The templates of "
        "Elasticsearch have 100.",
        group=INDICES,
        importance="low",
    )
    lifecycle_policy: str = key(
        "index.lifecycle.policy",
        default="",
        doc="ILM policy of new indices. It must exist, unless one of the three keys below defines it.",
        group=INDICES,
    )
    lifecycle_rollover_age: str = key(
        "index.lifecycle.rollover.max.age", default="", doc="Age at which to roll over, e.g. `30d`.", group=INDICES
    )
    lifecycle_rollover_size: str = key(
        "index.lifecycle.rollover.max.primary.shard.size",
        default="",
        doc="Size of a primary shard at which to roll over, e.g. `50gb`.",
        group=INDICES,
    )
    lifecycle_delete_after: str = key(
        "index.lifecycle.delete.after",
        default="",
        doc="Time from the rollover of an index to its deletion.",
        group=INDICES,
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
        doc="Mapping of strings in a schema: `text` with a subfield `keyword` (as Kafka Connect; counts as two fields "
        "of the index), `keyword` (exact values: ids, codes, categories), `text` (full text).",
        group=MAPPING,
    )
    mapping_ignore_above: int = key(
        "mapping.keyword.ignore.above",
        default=256,
        ge=1,
        le=32_766,
        doc="Longer strings are stored but not indexed as `keyword`.",
        group=MAPPING,
        importance="low",
    )
    mapping_decimals: Annotated[Literal["double", "scaled_float", "keyword"], LOWER] = key(
        "mapping.decimals",
        default="double",
        doc="Mapping of decimals in a schema. `scaled_float` indexes all digits, with a scaling factor derived from "
        "the scale (up to 18 decimal places). The document contains all digits in any case.",
        group=MAPPING,
    )
    mapping_maps: Annotated[Literal["object", "flattened"], LOWER] = key(
        "mapping.maps",
        default="object",
        doc="Mapping of maps with string keys. `object`: every key is a field. `flattened`: one field for all keys.",
        group=MAPPING,
    )
    mapping_dynamic: Annotated[Literal["", "true", "false", "strict", "runtime"], LOWER] = key(
        "mapping.dynamic",
        default="",
        doc="`dynamic` of the mapping: how Elasticsearch treats unmapped fields. Empty: its default, `true`.",
        group=MAPPING,
    )
    mapping_fields: dict[str, str] = prefix_key(
        "mapping.fields.",
        doc="Mapping of single fields; it takes precedence over the schema: `mapping.fields.sku: keyword`, "
        "`mapping.fields.price: scaled_float scaling_factor=100`, `mapping.fields.lines: nested`, "
        "`mapping.fields.lines.seen: date format=yyyy-MM-dd`.",
        group=MAPPING,
        importance="medium",
    )
    mapping_file: str = key(
        "mapping.file",
        default="",
        doc="YAML or JSON file with a mapping in the format of Elasticsearch (`properties`, `dynamic_templates` …). "
        "`mapping.fields` take precedence over it, and it takes precedence over the schema. Every worker needs it. "
        "Over REST, `connector.files.allowed.paths` of the worker must include it.",
        group=MAPPING,
        file=True,
    )
    mapping_conflicts: Annotated[Literal["wait", "ignore"], LOWER] = key(
        "mapping.conflicts",
        default="wait",
        doc="What to do when the index maps a field differently from the schema or the declared mapping. `wait`: "
        "nothing is written and the status shows the conflict, until it is resolved. `ignore`: Elasticsearch accepts "
        "or refuses each document; refused documents go to the dead letter queue.",
        group=MAPPING,
    )

    json_fields: CommaList = key(
        "json.fields",
        default="",
        doc="String fields that contain JSON (a `json` or `jsonb` column of PostgreSQL): the document contains the "
        "parsed objects and lists instead of the string. Names, with dots for fields in objects: "
        "`payload, customer.tags`; `*` selects all fields whose schema is named `io.debezium.data.Json`. With a schema "
        "they are mapped according to `mapping.maps`. A record whose string is not JSON is refused with the name of "
        "the field.",
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
                text = f"'{name}' defines a lifecycle policy, and 'index.lifecycle.policy' is not set"
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
