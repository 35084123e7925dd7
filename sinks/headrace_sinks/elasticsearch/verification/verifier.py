"""What documents there should be and what there are: the sink's part of ``headrace verify``.

What a record should leave is read off the very line that the task would send for it, so the two cannot disagree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
import structlog

from headrace import ConfigError, DataError, Finding, Rejection, RetriableError, SinkBatch, StoredEntry, Verifier
from headrace_sinks.elasticsearch.cluster.answers import judge_items, judge_request
from headrace_sinks.elasticsearch.cluster.catalog import Catalog, Denied
from headrace_sinks.elasticsearch.cluster.checks import require_elasticsearch
from headrace_sinks.elasticsearch.cluster.client import Client
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.readiness import Indices
from headrace_sinks.elasticsearch.indices.targets import Refused, Targets
from headrace_sinks.elasticsearch.sending.lines import LineEncoder
from headrace_sinks.elasticsearch.sending.writer import MEDIA_TYPE, bulk_path
from headrace_sinks.elasticsearch.verification.scan import Scan, digest, entry_of, full_name, split_name

_TRIES = 5
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "ms": 0.001}

log = structlog.stdlib.get_logger("headrace.verify")


class ElasticsearchVerifier(Verifier):
    """Documents are named ``index/id``, the index being the name that is written to."""

    def __init__(self, config: ElasticsearchSinkConfig) -> None:
        """Raises ConfigError where a record does not say what its document must be."""
        require_idempotent(config)
        self._config = config
        self._client = Client(config)
        require_elasticsearch(self._client)
        self._catalog = Catalog(self._client)
        self._scan = Scan(self._catalog)
        self._targets = Targets(config, log)
        self._indices = Indices(self._client, config, log, self._targets)
        self._encoder = LineEncoder(config)
        self._names = set(config.resources().values())
        """Targets that records or the configuration name; others are nobody's business of ours."""
        for topic in config.topics if not self._names else ():
            with suppress(DataError):  # its records are refused, and counted
                self._names.update(filter(None, [self._targets.of_topic(topic)]))

    def expected_entries(self, batch: SinkBatch) -> Sequence[StoredEntry | DataError | None]:
        known: dict[int, StoredEntry | DataError] = {}
        for offset, line in self._lines(batch, known):
            known[offset] = _parsed(line)
        return [known.get(offset) for offset in batch.offsets]

    def stored_entries(self) -> Iterator[Sequence[StoredEntry]]:
        for target in sorted(self._names):
            yield from self._scan.entries(target, target)

    def lookup(self, names: Sequence[bytes]) -> Mapping[bytes, StoredEntry]:
        entries = (entry_of(target, hit) for target, hit in self._hits(names))
        return {entry.name: entry for entry in entries}

    def write(self, batch: SinkBatch, present: Sequence[StoredEntry | None]) -> Sequence[Rejection]:
        """A document whose version is above the record's keeps it: the new content is written in its place."""
        unfit: list[Refused] = []
        for part, name in self._targets.split(batch, unfit):
            self._indices.ensure(part, name)
        there = dict(zip(batch.offsets, present, strict=True))
        known: dict[int, StoredEntry | DataError] = {}
        offsets, lines = [], []
        for offset, line in self._lines(batch, known):
            now = there[offset]
            offsets.append(offset)
            lines.append(_over(line, now.version) if now is not None else line)
        refused = {offset: error for offset, error in known.items() if isinstance(error, DataError)}
        refused.update((offsets[place], error) for place, error in self._send(lines))
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
        self._send(lines)

    def version_retention(self) -> float:
        """Elasticsearch remembers the version of a deleted document for ``index.gc_deletes``."""
        longest = 0.0
        for target in self._names:
            try:
                found = self._catalog.behind(target)
            except Denied:
                found = []
            for index in found:
                longest = max(longest, _seconds(index.settings.get("index.gc_deletes", "60s")))
        return longest

    def close(self) -> None:
        self._client.close()

    def _lines(self, batch: SinkBatch, refused: dict[int, StoredEntry | DataError]) -> Iterator[tuple[int, bytes]]:
        """The line of each record by its offset, as the task sends it."""
        unfit: list[Refused] = []
        for part, name in self._targets.split(batch, unfit):
            self._names.add(name)
            encoded = self._encoder.encode(part, name, 0, len(part))
            refused.update(encoded.refused)
            yield from zip(encoded.offsets, encoded.lines, strict=True)
        refused.update((offset, error) for _, offset, error in unfit)

    def _hits(self, names: Sequence[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
        by_target: dict[str, list[str]] = defaultdict(list)
        for name in names:
            target, ident = split_name(name)
            by_target[target].append(ident)
        for target, idents in by_target.items():
            for hit in self._scan.hits(target, idents):
                yield target, hit

    def _send(self, lines: Sequence[bytes]) -> list[tuple[int, DataError]]:
        """Places of lines that were refused. A newer document wins: it is written by somebody who knows better."""
        places, refused = list(range(len(lines))), list[tuple[int, DataError]]()
        for _ in range(_TRIES):
            if not places:
                return refused
            body = b"".join(lines[place] for place in places)
            answer = self._client.request("POST", bulk_path(self._client), body, MEDIA_TYPE)
            judge_request(answer)
            if answer.status != 200:
                raise RetriableError(
                    f"a repair was refused as a whole (HTTP {answer.status})", code="elasticsearch.repair"
                )
            judgement = judge_items(answer, len(places), versioned=True)
            refused += [(places[place], error) for place, error in judgement.refused]
            places, reason = [places[place] for place in judgement.again], judgement.reason
        raise reason or RetriableError("a repair did not come to an end", code="elasticsearch.repair")


def _parsed(line: bytes) -> StoredEntry:
    """What a line of a bulk request leaves in its index."""
    head, _, document = line.partition(b"\n")
    ((kind, target),) = orjson.loads(head).items()
    name = full_name(target["_index"], target["_id"])
    version = target.get("version", -1)
    return StoredEntry(name, version, b"" if kind == "delete" else digest(orjson.loads(document)))


def _over(line: bytes, version: int) -> bytes:
    """The same write, allowed over a document of this version."""
    head, newline, document = line.partition(b"\n")
    ((kind, target),) = orjson.loads(head).items()
    if "version" in target:
        target |= {"version": max(target["version"], version), "version_type": "external_gte"}
    return orjson.dumps({kind: target}) + newline + document


def _seconds(text: str) -> float:
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(number) * _UNITS.get(text[len(number) :], 1.0)


def require_idempotent(config: ElasticsearchSinkConfig) -> None:
    """Raises ConfigError where the last record of a key does not tell its document."""
    if config.merges():
        text, key = "documents are merged from many records, so no record says what one must be", "write.method"
    elif config.use_autogenerated_ids:
        text, key = "Elasticsearch makes the ids, so no record says which document is its own", "use.autogenerated.ids"
    elif config.ingest_pipeline:
        text, key = "an ingest pipeline changes documents, so no record says what one must be", "ingest.pipeline"
    elif config.streams() and not config.key_ignore:
        text, key = "a data stream keeps the first record of a key and refuses later ones", "key.ignore"
    else:
        return
    raise ConfigError(findings=[Finding("verify.not_supported", text, key, "verify and reindex need plain writes")])
