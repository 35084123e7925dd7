"""Which tables there are, which of them are meant, and whether they can be read the way the configuration says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from sqlalchemy import Connection, inspect

from headrace import ConfigError, Finding
from headrace_sources.sql.config import SqlSourceConfig
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.dialects.generic import TableName
from headrace_sources.sql.queries import Cursor, Relation, without_cursor
from headrace_sources.sql.reader import describe
from headrace_sources.sql.rows import find_column
from headrace_sources.sql.types import INTEGERS, TIMESTAMPS, Column, Kind


@dataclass(frozen=True)
class Target:
    """What to read, as it was found in the database. Names are spelt as there."""

    relation: Relation
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    cursor: Cursor
    keys: tuple[str, ...]

    @property
    def identity(self) -> tuple[str, ...]:
        """Columns that name a row in messages."""
        return self.primary_key or self.keys or self.cursor.names


def wanted_tables(connection: Connection, database: Database, config: SqlSourceConfig) -> list[TableName]:
    """Tables that the white or black list means, sorted. Raises ConfigError with every name that means nothing."""
    existing = list_tables(connection, database, config)
    listed = config.whitelist or config.blacklist
    key = "table.whitelist" if config.whitelist else "table.blacklist"
    known = {name for table in existing for name in _names(table)}
    unknown = [name for name in listed if not any(_means(name, table, config) for table in existing)]
    if unknown:
        raise ConfigError(findings=[_missing_table(name, known, key, connection) for name in unknown])
    chosen = [
        table for table in existing if any(_means(name, table, config) for name in listed) == bool(config.whitelist)
    ]
    if not chosen:
        text = f"no table is left: table.blacklist names all {len(existing)}"
        raise ConfigError(findings=[Finding("sql.missing_table", text, key, "shorten table.blacklist")])
    if clashes := list(_clashes(chosen, config.topic_prefix)):
        raise ConfigError(findings=clashes)
    return chosen


def list_tables(connection: Connection, database: Database, config: SqlSourceConfig) -> list[TableName]:
    """All tables of the wanted types and schemas, sorted."""
    inspector = inspect(connection)
    types = {item.upper() for item in config.table_types}
    default = inspector.default_schema_name
    found: set[TableName] = set()
    for name in inspector.get_schema_names():
        if name in database.system_schemas or not _like(config.schema_pattern, name):
            continue
        # SQLite's only schema is no part of a table's name.
        schema = None if connection.dialect.name == "sqlite" else name
        if schema is None and name != default and default is not None:
            continue
        if types & {"TABLE", "PARTITIONED TABLE", "BASE TABLE"}:
            found.update(TableName(schema, table) for table in inspector.get_table_names(schema))
        if "VIEW" in types:
            found.update(TableName(schema, table) for table in inspector.get_view_names(schema))
        if "MATERIALIZED VIEW" in types:
            found.update(TableName(schema, table) for table in inspector.get_materialized_view_names(schema))
    return sorted(found, key=str)


def look_at(
    connection: Connection, database: Database, config: SqlSourceConfig, table: TableName | None
) -> tuple[Target | None, list[Finding]]:
    """What is there, and everything that keeps it from being read (then there is no target) or is unwise."""
    relation = Relation(table, config.query, config.quoting == "always")
    primary_key = database.primary_key(connection, table) if table else ()
    columns = describe(connection, database, relation)
    findings: list[Finding] = []
    timestamps = tuple(_column(name, columns, relation, "timestamp.column.name", findings) for name in _stamps(config))
    incrementing = _incrementing(config, columns, primary_key, relation, findings)
    keys = _keys(config, columns, primary_key, relation, findings)
    cursor = Cursor(tuple(timestamps), incrementing)
    if any(item.severity == "error" for item in findings):
        return None, findings
    by_name = {column.name: column for column in columns}
    findings += _cursor_findings(
        config, database.timestamps_by_value, relation, [by_name[n] for n in timestamps], by_name.get(incrementing)
    )
    target = Target(relation, columns, primary_key, cursor, keys)
    return (None if any(item.severity == "error" for item in findings) else target), findings


def unread_rows(connection: Connection, target: Target) -> list[Finding]:
    """A warning when there are rows whose cursor is NULL."""
    by_name = {column.name: column for column in target.columns}
    stamps = [by_name[name] for name in target.cursor.timestamps]
    nullable = bool(stamps) and all(column.nullable for column in stamps)
    nullable |= bool(target.cursor.incrementing) and by_name[target.cursor.incrementing].nullable
    if not nullable or connection.execute(without_cursor(target.relation, target.cursor)).first() is None:
        return []
    names = ", ".join(target.cursor.names)
    text = f"{target.relation} has rows where {names} is NULL: they are never read"
    return [Finding("sql.null_cursor", text, _cursor_key(target.cursor), f"give {names} a value", severity="warning")]


def index_findings(connection: Connection, database: Database, target: Target) -> list[Finding]:
    """A warning when no index begins with the cursor: each poll then reads and sorts the whole table."""
    table, cursor = target.relation.table, target.cursor
    if table is None or not cursor.names or table.name not in inspect(connection).get_table_names(table.schema):
        return []
    preparer = connection.dialect.identifier_preparer
    quoted = [preparer.quote_identifier(name) for name in cursor.timestamps]
    first = quoted[0] if len(quoted) == 1 else f"COALESCE({', '.join(quoted)})"
    wanted = [first] if quoted else [preparer.quote_identifier(cursor.incrementing)]
    if _plain(wanted[0]) in map(_plain, database.index_heads(connection, table)):
        return []
    if cursor.timestamps and cursor.incrementing:
        wanted.append(preparer.quote_identifier(cursor.incrementing))
    if len(quoted) > 1:
        wanted[0] = f"({wanted[0]})"
    name = preparer.quote_identifier("_".join((table.name, *cursor.names))[:63])
    place = preparer.quote_identifier(table.name)
    if table.schema:
        place = f"{preparer.quote_identifier(table.schema)}.{place}"
    make = database.create_index(place, name, wanted)
    text = f"no index of {target.relation} begins with {', '.join(wanted)}: every poll reads and sorts the whole table"
    return [Finding("sql.no_index", text, _cursor_key(cursor), f"run: {make};", severity="warning")]


def _plain(expression: str) -> str:
    """For comparing names and expressions that were quoted and spaced by different hands."""
    return re.sub(r"[\s\"`()]", "", expression).lower()


def _stamps(config: SqlSourceConfig) -> tuple[str, ...]:
    return config.timestamps if "timestamp" in config.mode else ()


def _column(name: str, columns: Sequence[Column], relation: Relation, key: str, findings: list[Finding]) -> str:
    names = [column.name for column in columns]
    try:
        return names[find_column(names, name)]
    except KeyError:
        close = get_close_matches(name, names, n=2, cutoff=0.6)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"its columns: {', '.join(names)}"
        findings.append(Finding("sql.missing_column", f"{relation} has no column '{name}'", key, hint))
        return name


def _incrementing(
    config: SqlSourceConfig,
    columns: Sequence[Column],
    primary_key: Sequence[str],
    relation: Relation,
    findings: list[Finding],
) -> str:
    key = "incrementing.column.name"
    if "incrementing" not in config.mode:
        return ""
    if config.incrementing:
        return _column(config.incrementing, columns, relation, key, findings)
    if len(primary_key) == 1 and any(c.name == primary_key[0] and c.kind in INTEGERS for c in columns):
        return primary_key[0]
    text = f"{relation} has no primary key of one integer column to be the incrementing column"
    findings.append(Finding("sql.missing_column", text, key, "name the column whose values grow"))
    return ""


def _keys(
    config: SqlSourceConfig,
    columns: Sequence[Column],
    primary_key: tuple[str, ...],
    relation: Relation,
    findings: list[Finding],
) -> tuple[str, ...]:
    if config.pk_mode == "fields":
        return tuple(_column(name, columns, relation, "pk.fields", findings) for name in config.pk_fields)
    if config.pk_mode == "primary_key" and not primary_key:
        text = f"{relation} has no primary key"
        hint = "name the key's columns in pk.fields and set pk.mode to fields, or set pk.mode to none"
        findings.append(Finding("sql.no_primary_key", text, "pk.mode", hint))
    return primary_key if config.pk_mode == "primary_key" else ()


def _cursor_findings(
    config: SqlSourceConfig,
    by_value: bool,
    relation: Relation,
    timestamps: Sequence[Column],
    incrementing: Column | None,
) -> Iterable[Finding]:
    for column in timestamps:
        if not by_value and column.kind not in TIMESTAMPS and column.kind is not Kind.UNKNOWN:
            text = f"{relation}: '{column.name}' is of type {column.kind.value}, not a timestamp"
            yield Finding("sql.cursor_type", text, "timestamp.column.name", "name a column of a timestamp type")
    if not by_value and len({column.kind for column in timestamps}) > 1:
        text = f"{relation}: of {', '.join(c.name for c in timestamps)} some have a time zone and some have not"
        yield Finding("sql.cursor_type", text, "timestamp.column.name", "name columns of one type")
    if incrementing and not (
        incrementing.kind in INTEGERS
        or incrementing.kind is Kind.UNKNOWN
        or (incrementing.kind is Kind.DECIMAL and not incrementing.scale)
    ):
        text = f"{relation}: '{incrementing.name}' is of type {incrementing.kind.value}, not a whole number"
        hint = "name an integer column; for other ids use mode timestamp"
        yield Finding("sql.cursor_type", text, "incrementing.column.name", hint)
    if relation.table is None or not config.validate_non_null:
        return  # of a query's columns nobody knows whether they can be NULL
    hint = "ALTER the column to NOT NULL, or set validate.non.null to false: rows with NULL there are never read"
    if timestamps and all(column.nullable for column in timestamps):
        names = ", ".join(column.name for column in timestamps)
        text = f"{relation}: {names} can be NULL"
        yield Finding("sql.nullable_cursor", text, "timestamp.column.name", hint)
    if incrementing and incrementing.nullable:
        text = f"{relation}: {incrementing.name} can be NULL"
        yield Finding("sql.nullable_cursor", text, "incrementing.column.name", hint)


def _cursor_key(cursor: Cursor) -> str:
    return "timestamp.column.name" if cursor.timestamps else "incrementing.column.name"


def _names(table: TableName) -> tuple[str, ...]:
    return table.name, str(table), ".".join(f'"{part}"' for part in table if part)


def _means(name: str, table: TableName, config: SqlSourceConfig) -> bool:
    if config.quoting == "never":
        return name.lower() in [known.lower() for known in _names(table)]
    return name in _names(table)


def _missing_table(name: str, known: Iterable[str], key: str, connection: Connection) -> Finding:
    close = get_close_matches(name, sorted(known), n=2, cutoff=0.6)
    database = connection.engine.url.database
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    else:
        hint = "views need VIEW in table.types; tables of other users need a grant"
    return Finding("sql.missing_table", f"there is no table '{name}' in database '{database}'", key, hint)


def _clashes(tables: Sequence[TableName], prefix: str) -> Iterable[Finding]:
    for name in sorted({table.name for table in tables}):
        same = [str(table) for table in tables if table.name == name]
        if len(same) > 1:
            text = f"{' and '.join(same)} would both go to topic {prefix}{name}"
            hint = "name one of them with its schema in table.whitelist; make a second connector for the other"
            yield Finding("sql.ambiguous_topic", text, "table.whitelist", hint)


def _like(pattern: str | None, name: str) -> bool:
    """SQL LIKE."""
    if pattern is None:
        return True
    parts = {"%": ".*", "_": "."}
    return re.fullmatch("".join(parts.get(char, re.escape(char)) for char in pattern), name) is not None
