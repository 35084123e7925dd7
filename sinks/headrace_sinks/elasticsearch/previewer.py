"""Documents and mappings of records without writing them: the sink's part of ``headrace preview``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog

from headrace import DataError, PreviewedWrite, Previewer, SinkBatch
from headrace_sinks.elasticsearch.bulk.line_encoder import BulkLineEncoder
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.router import IndexRouter, RefusedRecord
from headrace_sinks.elasticsearch.mappings.schema_mapping import document_mapping, merged

log = structlog.stdlib.get_logger("headrace.preview")


class ElasticsearchPreviewer(Previewer):
    """Encodes records as the task does."""

    def __init__(self, config: ElasticsearchSinkConfig) -> None:
        self._config = config
        self._router = IndexRouter(config, log)
        self._encoder = BulkLineEncoder(config)

    def writes(self, batch: SinkBatch) -> Sequence[PreviewedWrite | DataError | None]:
        unusable: list[RefusedRecord] = []
        known: dict[int, PreviewedWrite | DataError] = {}
        for part, name in self._router.split(batch, unusable):
            encoded = self._encoder.encode(part, name, 0, len(part))
            known.update(encoded.refused)
            known.update(zip(encoded.offsets, map(_write_of, encoded.lines), strict=True))
        known.update((offset, error) for _, offset, error in unusable)
        return [known.get(offset) for offset in batch.offsets]

    def mapping(self, batch: SinkBatch) -> Mapping[str, Mapping[str, Any]]:
        schema = batch.value_schema
        if self._config.ignores_schema(batch.topic):
            schema = None
        declared = self._config.declared()
        policy = self._config.policy(compact_maps=self._config.compact_map_entries)
        definition = declared if schema is None else merged(document_mapping(schema, policy), declared)
        return {name: definition for _, name in self._router.split(batch, [])} if definition else {}


def _write_of(line: bytes) -> PreviewedWrite:
    head, _, document = line.partition(b"\n")
    ((action, target),) = orjson.loads(head).items()
    ident = f"/{target['_id']}" if "_id" in target else ""
    return PreviewedWrite(action, f"{target['_index']}{ident}", document.decode(errors="replace").rstrip("\n"))
