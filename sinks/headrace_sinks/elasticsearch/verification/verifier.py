"""Compares indexed documents with records: the sink's part of ``headrace verify``.

The expected document is taken from the bulk line that the task would send, so both use one encoding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
import structlog

from headrace import ConfigError, DataError, Rejection, SinkBatch, StoredEntry, Verifier
from headrace_sinks.elasticsearch.bulk.direct_writes import send_lines
from headrace_sinks.elasticsearch.bulk.line_encoder import BulkLineEncoder
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.index_catalog import IndexCatalog, LookupDeniedError
from headrace_sinks.elasticsearch.cluster.preflight import require_elasticsearch
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.provisioner import IndexProvisioner
from headrace_sinks.elasticsearch.indices.rebuild_rules import verification_obstacle
from headrace_sinks.elasticsearch.indices.router import IndexRouter, RefusedRecord
from headrace_sinks.elasticsearch.verification.index_scan import IndexScan, digest, entry_of, full_name, split_name

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "ms": 0.001}

log = structlog.stdlib.get_logger("headrace.verify")


class ElasticsearchVerifier(Verifier):
    """Compares and repairs documents, named ``index/id`` with the index name that is written to."""

    def __init__(self, config: ElasticsearchSinkConfig) -> None:
        """Raise ConfigError when records do not determine their documents."""
        require_idempotent(config)
        self._config = config
        self._client = ElasticsearchClient(config)
        require_elasticsearch(self._client)
        self._catalog = IndexCatalog(self._client)
        self._scan = IndexScan(self._catalog)
        self._router = IndexRouter(config, log)
        self._provisioner = IndexProvisioner(self._client, config, log, self._router)
        self._encoder = BulkLineEncoder(config)
        self._names = set(config.resources().values())
        """Targets named by records or the configuration; no other index is read."""
        for topic in config.topics if not self._names else ():
            with suppress(DataError):  # its records are refused, and counted
                self._names.update(filter(None, [self._router.of_topic(topic)]))

    def expected_entries(self, batch: SinkBatch) -> Sequence[StoredEntry | DataError | None]:
        known: dict[int, StoredEntry | DataError] = {}
        for offset, line in self._lines(batch, known):
            try:
                known[offset] = _parsed(line)
            except orjson.JSONDecodeError as error:
                text = f"the value is not valid JSON: {error}"
                known[offset] = DataError(text, code="elasticsearch.not_json")
        return [known.get(offset) for offset in batch.offsets]

    def stored_entries(self) -> Iterator[Sequence[StoredEntry]]:
        for target in sorted(self._names):
            yield from self._scan.entries(target, target)

    def lookup(self, names: Sequence[bytes]) -> Mapping[bytes, StoredEntry]:
        entries = (entry_of(target, hit) for target, hit in self._hits(names))
        return {entry.name: entry for entry in entries}

    def write(self, batch: SinkBatch, present: Sequence[StoredEntry | None]) -> Sequence[Rejection]:
        """Write the records' documents; a document with a higher version keeps that version."""
        unusable: list[RefusedRecord] = []
        for part, name in self._router.split(batch, unusable):
            self._provisioner.ensure(part, name)
        there = dict(zip(batch.offsets, present, strict=True))
        known: dict[int, StoredEntry | DataError] = {}
        offsets, lines = [], []
        for offset, line in self._lines(batch, known):
            now = there[offset]
            offsets.append(offset)
            lines.append(_over(line, now.version) if now is not None else line)
        refused = {offset: error for offset, error in known.items() if isinstance(error, DataError)}
        refused.update((offsets[place], error) for place, error in send_lines(self._client, lines))
        return [Rejection(batch.topic_partition, offset, error) for offset, error in sorted(refused.items())]

    def remove(self, surplus: Sequence[StoredEntry]) -> None:
        versions = {entry.name: entry.version for entry in surplus}
        lines = []
        for target, hit in self._hits(list(versions)):
            entry = entry_of(target, hit)
            if entry.version == versions[entry.name]:
                where = {"_index": hit["_index"], "_id": hit["_id"], "routing": hit.get("_routing")}
                guard = {"version": entry.version, "version_type": "external_gte"}
                action = {name: value for name, value in {**where, **guard}.items() if value is not None}
                lines.append(orjson.dumps({"delete": action}) + b"\n")
        send_lines(self._client, lines)

    def versions_are_offsets(self) -> bool:
        return not self._config.external_version_header

    def version_retention(self) -> float:
        """Elasticsearch remembers the version of a deleted document for ``index.gc_deletes``."""
        longest = 0.0
        for target in self._names:
            try:
                found = self._catalog.behind(target)
            except LookupDeniedError:
                found = []
            for index in found:
                longest = max(longest, _seconds(index.settings.get("index.gc_deletes", "60s")))
        return longest

    def close(self) -> None:
        self._client.close()

    def _lines(self, batch: SinkBatch, refused: dict[int, StoredEntry | DataError]) -> Iterator[tuple[int, bytes]]:
        """Yield offset and line of each record, as the task sends it."""
        unusable: list[RefusedRecord] = []
        for part, name in self._router.split(batch, unusable):
            self._names.add(name)
            encoded = self._encoder.encode(part, name, 0, len(part))
            refused.update(encoded.refused)
            yield from zip(encoded.offsets, encoded.lines, strict=True)
        refused.update((offset, error) for _, offset, error in unusable)

    def _hits(self, names: Sequence[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
        by_target: dict[str, list[str]] = defaultdict(list)
        for name in names:
            target, ident = split_name(name)
            by_target[target].append(ident)
        for target, idents in by_target.items():
            for hit in self._scan.hits(target, idents):
                yield target, hit


def _parsed(line: bytes) -> StoredEntry:
    """Return the entry that a bulk line produces."""
    head, _, document = line.partition(b"\n")
    ((kind, target),) = orjson.loads(head).items()
    name = full_name(target["_index"], target["_id"])
    version = target.get("version", -1)
    return StoredEntry(name, version, b"" if kind == "delete" else digest(orjson.loads(document)))


def _over(line: bytes, version: int) -> bytes:
    """Return the write so that it may replace a document of this version."""
    head, newline, document = line.partition(b"\n")
    ((kind, target),) = orjson.loads(head).items()
    if "version" in target:
        target |= {"version": max(target["version"], version), "version_type": "external_gte"}
    return orjson.dumps({kind: target}) + newline + document


def _seconds(text: str) -> float:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(number) * _UNITS.get(text[len(number) :], 1.0)


def require_idempotent(config: ElasticsearchSinkConfig) -> None:
    """Raise ConfigError when the last record of a key does not determine its document."""
    if (obstacle := verification_obstacle(config)) is not None:
        raise ConfigError(findings=[obstacle])
