"""Which index a batch goes to; that it exists; and that it takes what is to be written, found out before writing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import structlog

from headrace import (
    DataError,
    Finding,
    HeadraceError,
    InfrastructureError,
    RetriableError,
    Schema,
    SinkBatch,
)
from headrace_sinks.elasticsearch.cluster.catalog import FIELD_LIMIT, Catalog, Denied, Index
from headrace_sinks.elasticsearch.cluster.client import Client
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.targets import Targets
from headrace_sinks.elasticsearch.indices.templates import Templates
from headrace_sinks.elasticsearch.mappings.derived import document_mapping, merged
from headrace_sinks.elasticsearch.mappings.fit import Conflict, additions, conflicts, count

FIRST_GENERATION = "000001"
_LOOK_EVERY = 60.0
"""Seconds between two looks at how many fields an index has got by dynamic mapping."""
_NEARLY = 0.8
_SHOWN = 3
_UNSEEN = object()


class Indices:
    """Remembers what it has seen, so that a batch costs a look into a dictionary."""

    def __init__(
        self,
        client: Client,
        config: ElasticsearchSinkConfig,
        log: structlog.stdlib.BoundLogger,
        targets: Targets | None = None,
        *,
        look_only: bool = False,
    ) -> None:
        """``look_only``: change nothing, only raise what would be raised. Raises ConfigError."""
        self._catalog = Catalog(client)
        self._config = config
        self._log = log
        self._look_only = look_only
        self._declared = config.declared()
        self._policy = config.policy(compact_maps=config.compact_map_entries)
        self._resources = config.resources()
        self._targets = targets or Targets(config, log)
        self._fits: dict[str, set[Schema | None]] = {}
        """Index → the schemas (None = none) that it is known to take."""
        self._last: dict[str, Schema | None] = {}
        """Of the last batch: seldom another one comes, and comparing whole schemas takes its time."""
        self._next_look: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()

    def prepare(self) -> None:
        """At start: policy and templates, and the indices that are there already.

        Raises InfrastructureError, TaskError, and RetriableError: for a conflict too, as it may be mended elsewhere.
        """
        for step in self._steps():
            step()

    def misfits(self) -> Iterator[Finding]:
        """What ``prepare`` would stop at, all of it."""
        for step in self._steps():
            try:
                step()
            except HeadraceError as error:
                yield error.finding("topics")

    def _steps(self) -> Iterator[Callable[[], None]]:
        config = self._config
        if config.index_management == "none":
            return
        names, patterns = self._expected()
        templates = Templates(self._catalog, config, self._log, look_only=self._look_only)
        yield from templates.steps(patterns, data_stream=config.streams())
        for name in [] if config.streams() else dict.fromkeys(names):
            if self._declared or config.index_management == "check":
                yield partial(self._prepare, name, self._declared, create=False)

    def _expected(self) -> tuple[list[str], list[str]]:
        """Names of indices that are known before the first record, and patterns of all that will be."""
        names: list[str] = []
        patterns: list[str] = []
        for topic in () if self._resources else self._config.topics:
            try:
                name, pattern = self._targets.of_topic(topic), self._targets.pattern(topic)
            except DataError:
                continue  # its first record is refused, with the reason
            if name is not None and not self._config.streams():
                names.append(name)
                patterns += [name, f"{name}-*"]
            else:
                patterns.append(pattern)
        if self._config.data_stream_type != "NONE" and not self._config.topics:  # topics.regex: any namespace
            patterns.append(f"{self._config.data_stream_type.lower()}-{self._config.data_stream_dataset}-*")
        return names, list(dict.fromkeys(patterns))

    def ensure(self, batch: SinkBatch, name: str) -> None:
        """Make ``name`` ready for the batch.

        Raises InfrastructureError and RetriableError.
        """
        schema = batch.value_schema if self._maps(batch) else None
        if self._last.get(name, _UNSEEN) is not schema and not self._is_fit(name, schema):
            self._make_fit(name, schema)
        elif time.monotonic() >= self._next_look.get(name, float("inf")):
            self._watch(name)
        self._last[name] = schema

    def forget(self) -> None:
        """An index has vanished: look again."""
        self._fits.clear()
        self._last.clear()

    def wanted(self, schema: Schema | None) -> dict[str, Any]:
        """The mapping of an index for such values: the schema's, below what is declared. Raises TaskError."""
        return merged(document_mapping(schema, self._policy), self._declared) if schema is not None else self._declared

    def _maps(self, batch: SinkBatch) -> bool:
        """Whether the batch says how to map its index. Tombstones and values without a schema say nothing."""
        if self._resources or self._config.ignores_schema(batch.topic):
            return False
        return batch.value_schema is not None and bool(batch.value_schema.fields)

    def _is_fit(self, name: str, schema: Schema | None) -> bool:
        known = self._fits.get(name)
        return known is not None and (schema is None or schema in known)

    def _make_fit(self, name: str, schema: Schema | None) -> None:
        if self._config.index_management != "none":
            if self._resources:
                self._require_resource(name)
            else:
                self._prepare(name, self.wanted(schema), create=True)
                self._next_look[name] = time.monotonic() + _LOOK_EVERY
        self._fits.setdefault(name, set()).add(schema)

    def _require_resource(self, name: str) -> None:
        if not self._catalog.exists(name):
            raise InfrastructureError(
                f"index or alias '{name}' does not exist",
                code="elasticsearch.index_missing",
                hint="create it; 'external.resource.usage' means existing ones",
            )

    def _prepare(self, name: str, wanted: dict[str, Any], *, create: bool) -> None:
        try:
            index = self._catalog.target(name)
        except Denied as error:
            self._tell(name, "mapping not checked", reason=str(error))
            return
        if index is not None:
            self._fit(name, index, wanted)
        elif self._config.index_management == "check":
            raise InfrastructureError(
                f"index '{name}' does not exist",
                code="elasticsearch.index_missing",
                hint="create it, or index.management: create",
            )
        elif create and self._config.streams():
            self._create_stream(name, wanted)
        elif create:
            self._create(name, wanted)

    def _create_stream(self, name: str, wanted: dict[str, Any]) -> None:
        if self._catalog.create_stream(name):
            self._log.info("data stream created", name=name)
            # What only records tell of the mapping no template has.
            if (index := self._catalog.target(name)) is not None:
                self._fit(name, index, wanted)

    def _create(self, name: str, wanted: dict[str, Any]) -> None:
        config = self._config
        new = f"{name}-{FIRST_GENERATION}" if config.index_generations else name
        self._guard(new, count(wanted), 0, _limit(config.new_index_settings()))
        if self._catalog.create(new, new_index(config, name, wanted, alias=new != name)):
            self._log.info("index created", index=new, mapping=_origin(wanted, self._declared))

    def _fit(self, name: str, index: Index, wanted: dict[str, Any]) -> None:
        """Raises RetriableError on conflicts: the index may be rebuilt, and then writing goes on by itself."""
        found = list(conflicts(index.mapping, wanted, self._declared))
        if found and self._config.mapping_conflicts == "wait":
            raise _conflict(index.name, found)
        if found:
            self._tell(name, "mapping conflicts are ignored", fields=[item.path for item in found])
        missing = additions(index.mapping, wanted)
        aliases = [alias for alias in self._config.index_aliases if alias not in index.aliases]
        if self._config.index_management == "check":
            self._refuse(index.name, missing, aliases)
        if self._look_only:
            return
        if missing:
            self._guard(index.name, count({"properties": missing}), count(index.mapping), index.field_limit)
            self._catalog.add_fields(index.name, missing)
            self._log.info("fields added to the mapping", index=index.name, fields=sorted(missing))
        if aliases:
            self._catalog.aliases([{"add": {"index": index.name, "alias": alias}} for alias in aliases])
            self._log.info("aliases added", index=index.name, aliases=aliases)

    def _refuse(self, name: str, missing: dict[str, Any], aliases: Sequence[str]) -> None:
        parts = [f"its mapping lacks {_listed(sorted(missing))}"] if missing else []
        parts += [f"it lacks the aliases {_listed(aliases)}"] if aliases else []
        if parts:
            raise InfrastructureError(
                f"index '{name}' is not as the configuration says: {' and '.join(parts)}",
                code="elasticsearch.index_differs",
                hint="index.management: create adds them",
            )

    def _guard(self, name: str, more: int, have: int, limit: int) -> None:
        if have + more > limit:
            raise RetriableError(
                f"index '{name}' may have {limit} fields; it has {have}, and {more} more are needed",
                code="elasticsearch.field_limit",
                hint=f"raise {FIELD_LIMIT} of the index, map texts as keyword only (mapping.strings), maps as one "
                "field (mapping.maps: flattened), or drop fields with a transform",
                delay=10.0,
            )

    def _watch(self, name: str) -> None:
        """Warn before dynamic mapping has used up the fields that an index may have."""
        self._next_look[name] = time.monotonic() + _LOOK_EVERY
        try:
            index = self._catalog.target(name)
        except Denied:
            del self._next_look[name]
            return
        if index is not None and (fields := count(index.mapping)) >= index.field_limit * _NEARLY:
            self._tell(
                name,
                "an index is nearly full of fields",
                fields=fields,
                limit=index.field_limit,
                next=f"raise {FIELD_LIMIT}, or mapping.dynamic: false; beyond it documents with new fields are refused",
            )

    def _tell(self, name: str, what: str, **about: Any) -> None:
        """A warning, once for each index."""
        if (name, what) not in self._told:
            self._told.add((name, what))
            self._log.warning(what, index=name, **about)


def new_index(config: ElasticsearchSinkConfig, name: str, wanted: dict[str, Any], *, alias: bool) -> dict[str, Any]:
    """The body that creates an index for ``name``; ``alias``: it has another name, and ``name`` is its alias."""
    aliases: dict[str, Any] = {each: {} for each in config.index_aliases}
    if alias:
        aliases[name] = {"is_write_index": True}
    parts = {"settings": config.new_index_settings(), "mappings": wanted, "aliases": aliases}
    return {part: content for part, content in parts.items() if content}


def _conflict(name: str, found: Sequence[Conflict]) -> RetriableError:
    first = found[0]
    listed = [f"'{item.path}' is {item.has} in the index and should be {item.wants}" for item in found[:_SHOWN]]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return RetriableError(
        f"index '{name}' maps fields otherwise than wanted, nothing is written to it: {'; '.join(listed)}{more}",
        code="elasticsearch.mapping_conflict",
        hint="three ways out: `headrace reindex` builds the index anew without downtime; "
        f"'mapping.fields.{first.path}: {first.has.partition(' ')[0]}' keeps the index's type; "
        "mapping.conflicts: ignore lets Elasticsearch judge every document",
        delay=10.0,
    )


def _limit(settings: dict[str, str]) -> int:
    given = settings.get(FIELD_LIMIT, "1000")
    return int(given) if given.isdigit() else 1000  # what is no number Elasticsearch refuses in its own words


def _origin(wanted: dict[str, Any], declared: dict[str, Any]) -> str:
    if not wanted:
        return "dynamic"
    return "declared" if wanted == declared else "from the schema"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
