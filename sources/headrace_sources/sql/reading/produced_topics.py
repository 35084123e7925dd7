"""Describes the topics that records are sent to, by the configuration alone or by the database."""

from __future__ import annotations

from collections.abc import Iterator

from headrace import ProducedTopic, schema
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.configuration.syntax import find_zone
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.inspection import ReadTarget
from headrace_sources.sql.rows.types import TypeMapping
from headrace_sources.sql.tables.selection import topic_of


def configured_topics(config: SqlSourceConfig) -> Iterator[ProducedTopic]:
    """Yield the topics that the configuration alone determines: of the query, and of tables that are named."""
    if config.query:
        yield _produced(config, None, _configured_key(config))
    for name in config.whitelist if not config.query else ():
        namespace, _, bare = name.replace('"', "").rpartition(".")
        if namespace or "${schema}" not in config.topic_format:
            yield _produced(config, TableName(namespace or None, bare), _configured_key(config))


def inspected_topic(config: SqlSourceConfig, target: ReadTarget) -> ProducedTopic:
    """Return the topic of an inspected table, or of the query."""
    zone = find_zone(config.timezone)
    assert zone is not None, "the configuration was validated"
    mapping = TypeMapping(config.numeric, config.granularity, zone, config.temporal == "text", config.not_finite)
    fields = {column.name: mapping.schema_of(column) for column in target.columns}
    return _produced(config, target.relation.table, bool(target.keys), fields, target.cursor.incrementing)


def _configured_key(config: SqlSourceConfig) -> bool | None:
    """Return whether records have a key; None where only the table's primary key decides."""
    if config.pk_mode == "auto" and not config.pk_fields:
        return False if config.query else None
    return config.pk_mode != "none"


def _produced(
    config: SqlSourceConfig,
    table: TableName | None,
    keyed: bool | None,
    fields: dict[str, schema.Schema] | None = None,
    incrementing: str = "",
) -> ProducedTopic:
    columns = incrementing or config.incrementing or "<columns>"
    if fields is None:
        logical = "timestamp" in config.mode and config.granularity == "connect_logical" and config.temporal != "text"
        fields = dict.fromkeys(config.timestamps, schema.TIMESTAMP_SCHEMA) if logical else {}
    return ProducedTopic(
        topic_of(config, table),
        keyed,
        key_name="pk.mode" if config.pk_mode == "none" else "pk.fields",
        key_fix="pk.mode: auto" if config.pk_mode == "none" and table else f"pk.mode: fields, pk.fields: {columns}",
        deletes_by=f"delete.detection: {config.delete_detection}" if config.delete_detection != "none" else "",
        fields=fields,
    )
