"""Builds a new generation of an index while the live one serves, then switches: the sink's part of ``reindex``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
import structlog

from headrace import (
    ConfigError,
    ConflictError,
    DataError,
    NotFoundError,
    Rebuild,
    Rebuilder,
    Schema,
    SinkBatch,
    StoredEntry,
    TopicPartition,
)
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.index_catalog import IndexCatalog, IndexState
from headrace_sinks.elasticsearch.cluster.preflight import require_elasticsearch
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.provisioner import new_index
from headrace_sinks.elasticsearch.indices.rebuild_rules import rebuild_obstacle
from headrace_sinks.elasticsearch.indices.router import IndexRouter
from headrace_sinks.elasticsearch.mappings.compatibility import additions, conflicts
from headrace_sinks.elasticsearch.mappings.schema_mapping import document_mapping, merged
from headrace_sinks.elasticsearch.mappings.widened_mapping import widened
from headrace_sinks.elasticsearch.rebuild.document_copy import copy_documents
from headrace_sinks.elasticsearch.rebuild.generations import (
    BUILDING,
    LIVE,
    OLD,
    Generations,
    GenerationStore,
    noted_positions,
    to_note,
)
from headrace_sinks.elasticsearch.verification.index_scan import IndexScan, entry_of, split_name

log = structlog.stdlib.get_logger("headrace.reindex")
_NOT_THE_WRITERS = ("index.name", "index.generations", "index.aliases", "index.template", "data.stream.retention")
"""Keys (and those below them) that must not affect where a rebuild writes."""


class _Rebuild(NamedTuple):
    """The generations of an alias, and the one being written."""

    found: Generations
    new: IndexState


class ElasticsearchRebuilder(Rebuilder):
    """Rebuilds indices that headrace owns; the state is stored in the indices, so an interrupted rebuild resumes."""

    def __init__(self, config: ElasticsearchSinkConfig, properties: Mapping[str, str]) -> None:
        """Raise ConfigError when a rebuild during operation would not produce the same documents."""
        if (obstacle := rebuild_obstacle(config)) is not None:
            raise ConfigError(findings=[obstacle])
        self._config = config
        self._properties = properties
        self._client = ElasticsearchClient(config)
        require_elasticsearch(self._client)
        self._catalog = IndexCatalog(self._client)
        self._store = GenerationStore(self._catalog)
        self._scan = IndexScan(self._catalog)
        self._pairs: dict[str, _Rebuild] = {}
        self._aliases: dict[str, str] = {}
        """Topic → alias."""
        self._rollback = self._in_use = False
        self._wanted: dict[str, dict[str, Any]] = {}
        """Alias → mapping that the new generation must have."""
        self._prepared: set[tuple[str, Schema]] = set()
        """Topics with schemas that their new generation accepts."""
        self._policy = config.policy(compact_maps=config.compact_map_entries)

    def begin(self, topics: Sequence[str], *, rollback: bool) -> Rebuild:
        self._rollback = rollback
        self._prepared.clear()
        self._aliases = names = self._names(topics)
        found = [self._found(name, rollback) for name in dict.fromkeys(names.values())]
        # The switch is atomic, storing its end is not: one switched index implies all.
        switched = self._in_use = any(each.switched for each in found)
        self._pairs = {
            each.alias: _Rebuild(each, each.live if switched else self._new(each, rollback)) for each in found
        }
        positions: dict[TopicPartition, int] = {}
        for each, new in self._pairs.values():
            if each.switched and bool(new.meta.get("back")) != rollback:
                raise _unfinished(each.alias, rollback=rollback)
            positions |= noted_positions(new)
        writers = {topic: self._writer_properties(self._pairs[name].new.name) for topic, name in names.items()}
        return Rebuild(writers, positions, switched)

    def prepare(self, batches: Sequence[SinkBatch]) -> bool:
        if self._rollback or self._in_use:
            return True
        fits = True
        for batch in batches:
            schema, name = batch.value_schema, self._aliases.get(batch.topic)
            if schema is None or not schema.fields or name is None or self._config.ignores_schema(batch.topic):
                continue
            if (batch.topic, schema) not in self._prepared:
                fits = self._prepare_schema(name, schema) and fits
                self._prepared.add((batch.topic, schema))
        return fits

    def save_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        for name, pair in self._pairs.items():
            index = self._store.fresh(pair.new)
            self._store.note(index, **{**index.meta, "positions": to_note(positions)})
            self._pairs[name] = pair._replace(new=self._store.fresh(index))

    def entries(self, *, new: bool) -> Iterator[Sequence[StoredEntry]]:
        for name, pair in self._pairs.items():
            yield from self._scan.entries(pair.new.name if new else pair.found.live.name, name)

    def lookup(self, names: Sequence[bytes], *, new: bool) -> Mapping[bytes, StoredEntry]:
        by_name: dict[str, list[str]] = defaultdict(list)
        for full in names:
            name, ident = split_name(full)
            by_name[name].append(ident)
        present = {}
        for name, idents in by_name.items():
            pair = self._pairs[name]
            for hit in self._scan.hits(pair.new.name if new else pair.found.live.name, idents):
                entry = entry_of(name, hit)
                present[entry.name] = entry
        return present

    def copy(self, names: Sequence[bytes]) -> Sequence[DataError]:
        by_name: dict[str, list[str]] = defaultdict(list)
        for full in names:
            name, ident = split_name(full)
            by_name[name].append(ident)
        errors: list[DataError] = []
        for name, idents in by_name.items():
            live, new = self._pairs[name].found.live.name, self._pairs[name].new.name
            keep_version = bool(self._config.external_version_header)
            errors += copy_documents(self._client, self._scan, idents, live, new, keep_version=keep_version)
        return errors

    def switch(self, written: Mapping[TopicPartition, int]) -> None:
        for pair in self._pairs.values():
            # Store before the switch: afterwards the position of the live generation is unknown.
            live = self._store.fresh(pair.found.live)
            self._store.note(live, alias=pair.found.alias, state=OLD, positions=to_note(written))
        self._store.switch(list(self._pairs.values()), self._config.index_aliases)
        self._in_use = True

    def finish(self) -> None:
        for name, pair in self._pairs.items():
            index = self._store.fresh(pair.new)
            self._store.note(index, alias=name, state=LIVE)

    def abort(self, topics: Sequence[str]) -> Sequence[str]:
        undone = []
        for name in dict.fromkeys(self._names(topics).values()):
            if self._store.unblock(name):
                undone.append(f"index '{name}' takes writes again")
                continue
            found = self._store.find(name)
            if found is None:
                continue
            if found.switched:
                raise ConflictError(
                    f"'{name}' has been switched to {found.live.name} already",
                    code="reindex.switched",
                    hint="run `headrace reindex` again to finish, then --rollback returns to the previous generation",
                )
            building = found.in_state(BUILDING)
            if building is not None and building.meta.get("back"):
                self._store.note(building, alias=name, state=OLD, positions=building.meta.get("positions", {}))
                undone.append(f"{building.name} is an old generation again")
            elif building is not None:
                self._store.delete(building.name, owner=name)
                undone.append(f"{building.name} deleted")
            if found.live.meta.get("state") == OLD:
                self._store.note(found.live, alias=name, state=LIVE)
        return undone

    def delete_previous_generations(self, topics: Sequence[str]) -> Sequence[str]:
        deleted = []
        for name in dict.fromkeys(self._names(topics).values()):
            found = self._store.find(name)
            if found is None or found.switched or found.in_state(BUILDING):
                continue
            for index in found.others:
                if index.meta.get("state") == OLD:
                    self._store.delete(index.name, owner=name)
                    deleted.append(index.name)
        return deleted

    def describe(self, topics: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]] = []
        for name in dict.fromkeys(self._names(topics).values()):
            found = self._store.find(name)
            if found is None:
                rows.append({"name": name, "generation": name, "state": LIVE, "documents": self._scan.count(name)})
                continue
            for index in sorted((found.live, *found.others)):
                state = str(index.meta.get("state", "unknown"))
                if index.name == found.live.name:
                    state = "switched" if found.switched else LIVE
                count = self._scan.count(index.name)
                rows.append({"name": name, "generation": index.name, "state": state, "documents": count})
        return rows

    def close(self) -> None:
        self._client.close()

    def _found(self, name: str, rollback: bool) -> Generations:
        found = self._store.find(name)
        if found is not None:
            return self._store.finish_alias(found)
        if rollback:
            raise _no_previous_generation(name)
        return self._store.make_alias(name)

    def _prepare_schema(self, name: str, schema: Schema) -> bool:
        """Add the schema's fields to the new generation; return False if it has to be created again."""
        declared = self._config.declared()
        before = self._wanted[name]
        wanted = merged(widened(before, document_mapping(schema, self._policy)), declared)
        changed = list(conflicts(before, wanted, declared))
        if changed:
            listed = ", ".join(f"'{item.path}' {item.wants}" for item in changed)
            log.info("records have another type, the rebuild starts again", index=name, fields=listed)
        elif missing := additions(before, wanted):
            self._catalog.add_fields(self._pairs[name].new.name, missing)
        self._wanted[name] = wanted
        return not changed

    def _new(self, found: Generations, rollback: bool) -> IndexState:
        """Return the generation to write: the unfinished one, or a new one (``rollback``: the previous one)."""
        building = found.in_state(BUILDING)
        if building is not None and bool(building.meta.get("back")) != rollback:
            raise _unfinished(found.alias, rollback=rollback)
        if building is not None and (rollback or self._is_current(building, found.alias)):
            return building
        if rollback:
            old = found.in_state(OLD)
            if old is None:
                raise _no_previous_generation(found.alias)
            self._store.note(old, **{**old.meta, "state": BUILDING, "back": True})
            return self._store.fresh(old)
        if building is not None:
            log.info("the rebuild starts again with another definition", index=building.name)
            self._store.delete(building.name, owner=found.alias)
        return self._create(found)

    def _is_current(self, building: IndexState, name: str) -> bool:
        """Whether an unfinished generation can be continued; its fields are wanted then."""
        if building.meta.get("definition") != self._definition():
            return False
        wanted = self._wanted.setdefault(name, {"properties": building.mapping.get("properties", {})})
        return not list(conflicts(building.mapping, wanted, self._config.declared()))

    def _create(self, found: Generations) -> IndexState:
        declared = self._config.declared()
        wanted = self._wanted[found.alias] = merged(self._wanted.get(found.alias, {}), declared)
        note = {"alias": found.alias, "state": BUILDING, "definition": self._definition()}
        mapping = {**wanted, "_meta": {**declared.get("_meta", {}), "headrace": note}}
        body = new_index(self._config, found.alias, mapping, alias=False)
        body.pop("aliases", None)  # added with the switch
        name = found.next_name
        self._catalog.create(name, body)
        index = self._catalog.target(name)
        assert index is not None
        return index

    def _definition(self) -> str:
        """Return a digest of all settings that determine a generation's contents."""
        config = self._config
        parts = [
            config.new_index_settings(),
            config.declared(),
            repr(self._policy),
            [config.schema_ignore, config.topic_schema_ignore, config.key_ignore, config.topic_key_ignore],
        ]
        return blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()

    def _names(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the index name of each topic. Raise DataError, ConflictError."""
        targets = IndexRouter(self._config, log)
        names = {}
        for topic in topics:
            name = targets.of_topic(topic)
            if name is None:
                raise ConflictError(
                    f"records of topic '{topic}' choose their index",
                    code="reindex.not_supported",
                    hint="only an index with a fixed name can be rebuilt",
                )
            names[topic] = name
        return names

    def _writer_properties(self, index: str) -> dict[str, str]:
        kept = {name: value for name, value in self._properties.items() if not name.startswith(_NOT_THE_WRITERS)}
        # The previous generation keeps its own mapping. A new one has been prepared for all records.
        management = "none" if self._rollback else "create"
        return {**kept, "index.name": index, "index.management": management, "mapping.conflicts": "ignore"}


def _no_previous_generation(name: str) -> NotFoundError:
    return NotFoundError(
        f"'{name}' has no previous generation", code="reindex.nothing_old", hint="`headrace reindex --status` lists all"
    )


def _unfinished(name: str, *, rollback: bool) -> ConflictError:
    kind, again = ("rebuild", "`headrace reindex`") if rollback else ("rollback", "`headrace reindex --rollback`")
    return ConflictError(
        f"a {kind} of '{name}' is not finished",
        code="reindex.unfinished",
        hint=f"finish it with {again}, or undo it with --abort",
    )
