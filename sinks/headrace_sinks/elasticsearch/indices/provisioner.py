"""Provisions indices before writing: creates them, adds fields, and detects mapping conflicts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from headrace import (
    DataError,
    Finding,
    HeadraceError,
    InfrastructureError,
    JsonValues,
    RetriableError,
    Schema,
    SinkBatch,
)
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.index_catalog import (
    FIELD_LIMIT,
    IndexCatalog,
    IndexState,
    LookupDeniedError,
    no_stream_template,
)
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.rebuild_rules import rebuild_obstacle
from headrace_sinks.elasticsearch.indices.router import IndexRouter
from headrace_sinks.elasticsearch.indices.template_provisioner import TemplateProvisioner
from headrace_sinks.elasticsearch.mappings.compatibility import MappingConflict, additions, conflicts, count
from headrace_sinks.elasticsearch.mappings.schema_mapping import document_mapping, merged
from headrace_sinks.elasticsearch.timings import SinkTimings

FIRST_GENERATION = "000001"
_WARN_AT = 0.8
_CHECK_TIMEOUT = 3.0  # seconds: longer, and a put would block without a status reason
_IDLE_CHECKS = 3.0  # seconds: indices that are not checked by then are checked when the task is idle again
_NO_ANSWER = frozenset({"elasticsearch.timeout", "elasticsearch.unreachable"})
_SHOWN = 3
_UNSEEN = object()


class IndexProvisioner:
    """Creates and checks indices; caches its results, so that a batch costs one dictionary lookup."""

    def __init__(
        self,
        client: ElasticsearchClient,
        config: ElasticsearchSinkConfig,
        log: structlog.stdlib.BoundLogger,
        targets: IndexRouter | None = None,
        *,
        dry_run: bool = False,
        raise_condition: Callable[..., None] = lambda *_, **__: None,
        check_interval: float = SinkTimings.index_check_interval,
    ) -> None:
        """``dry_run``: change nothing and raise what would be raised. Raise ConfigError."""
        self._catalog = IndexCatalog(client)
        self._config = config
        self._log = log
        self._dry_run = dry_run
        self._declared = config.declared()
        self._policy = config.policy(compact_maps=config.compact_map_entries)
        self._resources = config.resources()
        self._router = targets or IndexRouter(config, log)
        self._accepted: dict[str, set[Schema | None]] = {}
        """Index → schemas (None = no schema) that its mapping is known to accept."""
        self._last: dict[str, Schema | None] = {}
        """Index → schema of the last batch, compared by identity, because comparing whole schemas is slow."""
        self._next_check: dict[str, float] = {}
        self._identities: dict[str, tuple[str, str]] = {}
        """Name that is written to → the index behind it when last seen."""
        self._refresh_intervals: dict[str, float] = {}
        self._unchecked: dict[str, None] = {}
        """Names that were written to after their index was last seen, oldest first."""
        self._raise_condition = raise_condition
        self._check_interval = check_interval
        self._warned: set[tuple[str, str]] = set()

    def prepare(self) -> None:
        """At start, provision policy and templates and check the existing indices.

        Raise InfrastructureError, TaskError, and RetriableError, also for a mapping conflict: `reindex` resolves it.
        """
        for step in self._steps():
            step()

    def problems(self) -> Iterator[Finding]:
        """Yield everything that :meth:`prepare` would raise."""
        for step in self._steps():
            try:
                step()
            except HeadraceError as error:
                yield error.finding("topics")

    def _steps(self) -> Iterator[Callable[[], None]]:
        config = self._config
        names, patterns = self._expected()
        if self._dry_run:
            for name in dict.fromkeys([*self._resources.values(), *names]):
                yield partial(self._check_writable, name)
        if config.index_management == "none":
            return
        templates = TemplateProvisioner(self._catalog, config, self._log, dry_run=self._dry_run)
        yield from templates.steps(patterns, data_stream=config.streams())
        for name in [] if config.streams() else dict.fromkeys(names):
            if self._declared or config.index_management == "check":
                yield partial(self._prepare, name, self._declared, create=False)

    def _check_writable(self, name: str) -> None:
        """Raise RetriableError for an alias without write index, InfrastructureError for a stream without template."""
        with suppress(LookupDeniedError):
            index = self._catalog.target(name)
            generated = self._config.index_template or self._resources or not self._config.streams()
            if index is None and not generated and not self._catalog.makes_stream(name):
                raise no_stream_template(name, "no index template with a data_stream part matches it")

    def _expected(self) -> tuple[list[str], list[str]]:
        """Return the index names known before the first record, and patterns of all names."""
        names: list[str] = []
        patterns: list[str] = []
        for topic in () if self._resources else self._config.topics:
            try:
                name, pattern = self._router.of_topic(topic), self._router.pattern(topic)
            except DataError:
                continue  # its records are refused with the reason
            if name is not None:
                names.append(name)
            if name is not None and not self._config.streams():
                patterns += [name, f"{name}-*"]
            else:
                patterns.append(pattern)
        if self._config.data_stream_type != "NONE" and not self._config.topics:  # topics.regex: any namespace
            patterns.append(f"{self._config.data_stream_type.lower()}-{self._config.data_stream_dataset}-*")
        return names, list(dict.fromkeys(patterns))

    def ensure(self, batch: SinkBatch, name: str) -> bool:
        """Provision ``name`` for the batch. Raise InfrastructureError and RetriableError.

        Return False if the batch only deletes and there is no index: nothing is created for it.
        """
        schema = batch.value_schema if self._maps(batch) else None
        if self._last.get(name, _UNSEEN) is not schema and not self._accepts(name, schema):
            if _only_deletes(batch) and self._has_no_index(name):
                return False
            self._provision(name, schema)
        elif time.monotonic() >= self._next_check.get(name, float("inf")):
            self._check_again(name, schema)
        self._last[name] = schema
        if name in self._next_check:
            self._unchecked[name] = None
        return True

    @property
    def searchable_after(self) -> float:
        """Seconds until searches find what was written, at the latest, by the settings that the indices had last."""
        return max(self._refresh_intervals.values(), default=0.0)

    def check_written(self) -> None:
        """Report indices that were deleted since their last check although records were written to them afterwards.

        Nothing is created here. Elasticsearch may have created the index again with the last records; then its
        mapping is provisioned with the next ones. Call it when nothing is in flight. Raise RetriableError.
        """
        deadline = time.monotonic() + _IDLE_CHECKS
        while self._unchecked and time.monotonic() < deadline:
            name = next(iter(self._unchecked))
            try:
                index = self._catalog.target(name, _CHECK_TIMEOUT)
            except LookupDeniedError:
                self._next_check.pop(name, None)
            else:
                if index is None or index.identity != self._identities.get(name, index.identity):
                    self._accepted.pop(name, None)
                    self._last.pop(name, None)
                self._note(name, index)
            del self._unchecked[name]

    def _has_no_index(self, name: str) -> bool:
        if self._config.index_management != "create" or self._resources:
            return False
        try:
            return self._catalog.target(name) is None
        except LookupDeniedError:
            return False

    def forget(self) -> None:
        """Discard the cache after an index was deleted."""
        self._accepted.clear()
        self._last.clear()

    def desired(self, schema: Schema | None) -> dict[str, Any]:
        """Return the mapping for values of a schema; the declared mapping has precedence. Raise TaskError."""
        return merged(document_mapping(schema, self._policy), self._declared) if schema is not None else self._declared

    def _maps(self, batch: SinkBatch) -> bool:
        """Return whether the batch's schema determines the mapping of its index."""
        if self._resources or self._config.ignores_schema(batch.topic):
            return False
        return batch.value_schema is not None and bool(batch.value_schema.fields)

    def _accepts(self, name: str, schema: Schema | None) -> bool:
        known = self._accepted.get(name)
        return known is not None and (schema is None or schema in known)

    def _provision(self, name: str, schema: Schema | None) -> None:
        if self._config.index_management != "none":
            if self._resources:
                self._require_resource(name)
            else:
                self._prepare(name, self.desired(schema), create=True)
            self._next_check[name] = time.monotonic() + self._check_interval
        self._accepted.setdefault(name, set()).add(schema)

    def _require_resource(self, name: str) -> None:
        try:
            index = self._catalog.target(name)
        except LookupDeniedError:
            return
        self._note(name, index)
        if index is None:
            raise InfrastructureError(
                f"index or alias '{name}' does not exist",
                code="elasticsearch.index_missing",
                hint="create it; 'external.resource.usage' requires existing ones",
            )

    def _prepare(self, name: str, desired: dict[str, Any], *, create: bool) -> None:
        try:
            index = self._catalog.target(name)
        except LookupDeniedError as error:
            self._warn_once(name, "mapping not checked", reason=str(error))
            return
        self._note(name, index)
        if index is not None:
            self._reconcile(name, index, desired)
        elif self._config.index_management == "check":
            raise InfrastructureError(
                f"index '{name}' does not exist",
                code="elasticsearch.index_missing",
                hint="create it, or index.management: create",
            )
        elif create and self._config.streams():
            self._create_stream(name, desired)
        elif create:
            self._create(name, desired)

    def _create_stream(self, name: str, desired: dict[str, Any]) -> None:
        if self._catalog.create_stream(name):
            self._log.info("data stream created", name=name)
            # Add the fields that only the schema of the records has.
            if (index := self._catalog.target(name)) is not None:
                self._reconcile(name, index, desired)

    def _create(self, name: str, desired: dict[str, Any]) -> None:
        config = self._config
        new = f"{name}-{FIRST_GENERATION}" if config.index_generations else name
        self._require_room(new, count(desired), 0, _limit(config.new_index_settings()))
        if self._catalog.create(new, new_index(config, name, desired, alias=new != name)):
            self._log.info("index created", index=new, mapping=_origin(desired, self._declared))
            self._note(name, self._catalog.target(name))

    def _reconcile(self, name: str, index: IndexState, desired: dict[str, Any]) -> None:
        """Add missing fields and aliases. Raise RetriableError on conflicts: after a rebuild writing resumes."""
        found = list(conflicts(index.mapping, desired, self._declared))
        if found and self._config.mapping_conflicts == "wait":
            raise _conflict(index.name, found, self._config)
        if found:
            self._warn_once(name, "mapping conflicts are ignored", fields=[item.path for item in found])
        missing = additions(index.mapping, desired)
        aliases = [alias for alias in self._config.index_aliases if alias not in index.aliases]
        if self._config.index_management == "check":
            self._refuse(index.name, missing, aliases)
        if self._dry_run:
            return
        if missing:
            self._require_room(index.name, count({"properties": missing}), count(index.mapping), index.field_limit)
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
                f"index '{name}' differs from the configuration: {' and '.join(parts)}",
                code="elasticsearch.index_differs",
                hint="set index.management: create to add them",
            )

    def _require_room(self, name: str, more: int, have: int, limit: int) -> None:
        if have + more > limit:
            raise RetriableError(
                f"index '{name}' may have {limit} fields; it has {have}, and {more} more are needed",
                code="elasticsearch.field_limit",
                hint=f"raise {FIELD_LIMIT} of the index, map texts as keyword only (mapping.strings), maps as one "
                "field (mapping.maps: flattened), or drop fields with a transform",
                delay=10.0,
            )

    def _check_again(self, name: str, schema: Schema | None) -> None:
        """Provision an index again that was deleted or replaced; warn before a mapping reaches its field limit."""
        self._next_check[name] = time.monotonic() + self._check_interval
        try:
            index = self._catalog.target(name, _CHECK_TIMEOUT)
        except LookupDeniedError:
            del self._next_check[name]
            return
        except RetriableError as error:
            if error.code not in _NO_ANSWER:
                raise
            # The documents meet the same outage. Their request tells the status what it waits for, a blocked check
            # cannot; the index is checked again after the next interval.
            return
        if index is None or index.identity != self._identities.get(name, index.identity):
            self._accepted.pop(name, None)
            self._provision(name, schema)
        elif (fields := count(index.mapping)) >= index.field_limit * _WARN_AT:
            self._warn_once(
                name,
                "an index is close to its field limit",
                fields=fields,
                limit=index.field_limit,
                next=f"raise {FIELD_LIMIT}, or set mapping.dynamic: false; documents with more fields are refused",
            )

    def _note(self, name: str, index: IndexState | None) -> None:
        """Remember the index behind a name and report a deleted one. Another name behind an alias is a rollover."""
        before = self._identities.pop(name, None)
        if index is not None:
            self._identities[name] = index.identity
            self._refresh_intervals[name] = index.refresh_interval
        if before is None or (index is not None and (index.name != before[0] or index.identity == before)):
            return
        reason = f"index '{before[0]}' was deleted while this connector wrote to it: its earlier documents are gone"
        hint = "`headrace verify NAME --repair` writes them again from the topic"
        state = "the index is missing" if index is None else "another index of this name exists"
        self._log.warning("an index was deleted", index=before[0], reason=reason, state=state, next=hint)
        self._raise_condition("elasticsearch.index_deleted", reason, hint, example=f"{before[0]} ({before[1]})")

    def _warn_once(self, name: str, what: str, **about: Any) -> None:
        """Log a warning once per index."""
        if (name, what) not in self._warned:
            self._warned.add((name, what))
            self._log.warning(what, index=name, **about)


def new_index(config: ElasticsearchSinkConfig, name: str, desired: dict[str, Any], *, alias: bool) -> dict[str, Any]:
    """Return the body that creates an index for ``name``; ``alias``: ``name`` becomes its write alias."""
    aliases: dict[str, Any] = {each: {} for each in config.index_aliases}
    if alias:
        aliases[name] = {"is_write_index": True}
    parts = {"settings": config.new_index_settings(), "mappings": desired, "aliases": aliases}
    return {part: content for part, content in parts.items() if content}


def _conflict(name: str, found: Sequence[MappingConflict], config: ElasticsearchSinkConfig) -> RetriableError:
    first = found[0]
    listed = [f"'{item.path}' is {item.has} in the index and should be {item.wants}" for item in found[:_SHOWN]]
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return RetriableError(
        f"index '{name}' maps fields differently from the schema or the declared mapping, nothing is written to it: "
        f"{'; '.join(listed)}{more}",
        code="elasticsearch.mapping_conflict",
        hint=f"{_new_types(config)}; 'mapping.fields.{first.path}: {first.has.partition(' ')[0]}' keeps the index's "
        "type; mapping.conflicts: ignore lets Elasticsearch decide for every document",
        delay=10.0,
    )


def _new_types(config: ElasticsearchSinkConfig) -> str:
    """Return how the fields get the types of the schema."""
    template = config.name_template()
    if rebuild_obstacle(config) is None and not (template is not None and template.by_record):
        return "`headrace reindex NAME FILE…` builds the index again from the topic while the old one is in use"
    if config.streams():
        return "`POST /STREAM/_rollover` starts an index with the types of the template, which may have to be changed"
    if config.resources():
        return "write to another index with these types ('topic.to.external.resource.mapping')"
    return "write to a new index ('index.name') and read the topic again (`headrace connectors offsets NAME --reset`)"


def _only_deletes(batch: SinkBatch) -> bool:
    # Iterating over a column of unparsed texts would parse it.
    values = batch.values.texts if isinstance(batch.values, JsonValues) else batch.values
    return all(value is None for value in values)


def _limit(settings: dict[str, str]) -> int:
    given = settings.get(FIELD_LIMIT, "1000")
    return int(given) if given.isdigit() else 1000  # Elasticsearch refuses it with a message of its own


def _origin(desired: dict[str, Any], declared: dict[str, Any]) -> str:
    if not desired:
        return "dynamic"
    return "declared" if desired == declared else "from the schema"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
