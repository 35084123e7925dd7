"""Validates changes to stored offsets, and accepts the partition names of other versions of JDBC drivers.

The JVM's connector names a table as its driver does. Since 42.7.5 pgjdbc puts the database in front
(``shop.public.orders``), earlier versions do not (``public.orders``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from headrace import ConfigError, SourceOffset, SourcePartition, TaskError
from headrace_sources.sql.cursor.position import partition_of, position_of
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.chunk_plan import chunk_plan_partition

OffsetChange = tuple[SourcePartition, SourceOffset | None]

_SHOWN = 10
_CHUNK_PLAN = ("protocol", "table", "part")


def resolve_offset_changes(
    changes: Sequence[OffsetChange], tables: Sequence[TableName | None], mode: str, catalog: str, database: str
) -> list[OffsetChange]:
    """Return ``changes`` with the partitions under which the tasks look. Raise ConfigError for unusable ones.

    ``tables``: those that are read, None for the query. ``catalog`` as for :func:`partition_of`; ``database`` is the
    one that the connection is made to.
    """
    positions, others = _known_partitions(tables, mode, catalog, database)
    resolved: list[OffsetChange] = []
    for partition, offset in changes:
        key = _key(partition)
        if key in positions:
            _require_usable(offset, mode)
            resolved.append((positions[key], offset))
        elif key in others:
            resolved.append((others[key], offset))
        else:
            raise _unknown(partition, [partition_of(table, mode, catalog) for table in tables])
    return resolved


def unusable_offsets(
    stored: Sequence[tuple[SourcePartition, SourceOffset]], mode: str, *, reads_query: bool
) -> list[tuple[SourcePartition, str]]:
    """Return the partitions from whose offsets no task continues, with the reason, without asking the database.

    A table may have offsets in several forms; the task prefers the newest form, so an older one is not reported.
    """
    found = []
    for partition, offset in stored:
        reason = _reason_against(partition, offset, mode, reads_query=reads_query)
        if reason:
            found.append((partition, reason))
    return found


def _reason_against(partition: SourcePartition, offset: SourceOffset, mode: str, *, reads_query: bool) -> str:
    names = list(partition)
    if names == [*_CHUNK_PLAN]:
        return ""  # how far headrace itself has read a table
    if sorted(names) not in (["query"], ["table"], ["protocol", "table"]):
        return "it is not a partition of a JDBC source"
    if names == ["table", "protocol"]:
        return "protocol must come before table: the keys of offsets are compared as bytes"
    if mode == "bulk":
        return "mode bulk reads everything again, and uses no stored position"
    if ("query" in partition) != reads_query:
        known = "a table" if reads_query else "a query"
        return f"it is the position of {known}, which the connector does not read"
    if partition.get("protocol", "1") != "1":
        return f"version {partition['protocol']} of the protocol is unknown"
    try:
        position = position_of(offset, mode)
    except TaskError as error:
        return error.message
    return "" if position is not None else f"it has nothing that mode {mode} uses"


def _known_partitions(
    tables: Sequence[TableName | None], mode: str, catalog: str, database: str
) -> tuple[dict[str, SourcePartition], dict[str, SourcePartition]]:
    """Return partitions of positions, and those of other offsets, by their keys."""
    positions: dict[str, SourcePartition] = {}
    others: dict[str, SourcePartition] = {}
    for table in tables:
        own = partition_of(table, mode, catalog)
        if table is not None:
            plan, oldest = chunk_plan_partition(table), partition_of(table, "bulk")
            others[_key(plan)] = plan
            positions[_key(oldest)] = oldest
            if database and not catalog and mode != "bulk":
                positions[_key(partition_of(table, mode, database))] = own
        positions[_key(own)] = own
    return positions, others


def _key(partition: SourcePartition) -> str:
    return orjson.dumps(dict(partition), option=orjson.OPT_SORT_KEYS).decode()


def _require_usable(offset: SourceOffset | None, mode: str) -> None:
    if not offset or mode == "bulk":
        return
    try:
        position = position_of(offset, mode)
    except TaskError as error:
        raise ConfigError(error.message, code="sql.offset", hint="send whole numbers") from error
    if position is None:
        names = [name for name in ("timestamp", "incrementing") if name in mode]
        raise ConfigError(
            f"the offset {_text(offset)} has nothing that mode {mode} uses, so that all rows would be read again",
            code="sql.offset",
            hint=f"give {' and '.join(names)}, or null to read from the beginning",
        )


def _unknown(partition: SourcePartition, known: Sequence[SourcePartition]) -> ConfigError:
    shown = ", ".join(_text(item) for item in known[:_SHOWN])
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ConfigError(
        f"this connector has no source partition {_text(partition)}; its offset would never be used",
        code="sql.unknown_partition",
        hint=f"known: {shown}{more}",
    )


def _text(value: Any) -> str:
    return orjson.dumps(dict(value)).decode()
