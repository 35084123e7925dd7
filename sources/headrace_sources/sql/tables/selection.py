"""Which tables are configured, the topic of each, and the columns that are configured as its cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from headrace import ConfigError, Finding
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.configuration.syntax import like, mapped, matches
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.dialects.dialect import ErrorClass, Listed, TableName
from headrace_sources.sql.tables.queries import Relation, probe


def wanted_tables(connection: Connection, dialect: Dialect, config: SqlSourceConfig) -> list[TableName]:
    """Return the tables that the lists select, sorted. Raise ConfigError with every name that selects none."""
    listed = list_tables(connection, dialect, config)
    name = connection.engine.url.database or ""
    # Where databases are what others call schemas, a bare name means a table of the connection's own database.
    everywhere = not dialect.catalog_is_schema or config.catalog_pattern or config.schema_pattern
    home = None if everywhere or not name else name
    if config.include:
        chosen = _included(listed, config, name)
    else:
        listed += _hidden(connection, dialect, listed, config, home)
        chosen = _listed(listed, config, name, home)
    if clashes := list(_clashes(chosen, config)):
        raise ConfigError(findings=clashes)
    return chosen


def topic_of(config: SqlSourceConfig, table: TableName | None) -> str:
    """Return the topic of a table, or of the query (None)."""
    if table is None:
        return config.topic_prefix
    named = config.topic_format.replace("${schema}", table.schema or "").replace("${table}", table.name)
    return config.topic_prefix + named


@dataclass(frozen=True)
class WantedCursor:
    """Cursor columns as the configuration names them, and by which keys; empty incrementing = the primary key."""

    timestamps: tuple[str, ...] = ()
    incrementing: str = ""
    timestamps_key: str = "timestamp.column.name"
    incrementing_key: str = "incrementing.column.name"
    findings: list[Finding] = field(default_factory=list)


def wanted_cursor(config: SqlSourceConfig, table: TableName | None) -> WantedCursor:
    """Return the cursor of a table, or of the query (None).

    A table may match one entry of a mapping, and must if no other column is configured.
    """
    findings: list[Finding] = []
    timestamps, timestamps_key = config.timestamps, "timestamp.column.name"
    incrementing, incrementing_key = config.incrementing, "incrementing.column.name"
    if table is not None and config.timestamps_mapping and "timestamp" in config.mode:
        found = _entry(config.timestamps_mapping, "timestamp.columns.mapping", table, findings)
        if found or not timestamps:
            timestamps, timestamps_key = found, "timestamp.columns.mapping"
            if not found and not findings:
                text = f"table {table} matches no entry of timestamp.columns.mapping"
                hint = "write an entry for it, or timestamp.column.name for all that have none"
                findings.append(Finding("sql.unmapped_table", text, "timestamp.columns.mapping", hint))
    if table is not None and config.incrementing_mapping and "incrementing" in config.mode:
        column = _entry(config.incrementing_mapping, "incrementing.column.mapping", table, findings)
        if column:
            incrementing, incrementing_key = column[0], "incrementing.column.mapping"
    if "timestamp" not in config.mode:
        timestamps = ()
    if "incrementing" not in config.mode:
        incrementing = ""
    return WantedCursor(timestamps, incrementing, timestamps_key, incrementing_key, findings)


def list_tables(connection: Connection, dialect: Dialect, config: SqlSourceConfig) -> list[Listed]:
    """Return all tables of the configured types, schemas and catalog, sorted. Raise ConfigError for another catalog."""
    schemas = [config.schema_pattern]
    if dialect.catalog_is_schema:
        schemas.append(config.catalog_pattern)
    elif not like(config.catalog_pattern, connection.engine.url.database or ""):
        text = f"catalog.pattern {config.catalog_pattern} is not the connection's database, and no other can be read"
        finding = Finding("sql.missing_database", text, "catalog.pattern", "name that database in connection.url")
        raise ConfigError(findings=[finding])
    types = {item.upper().replace("BASE TABLE", "TABLE") for item in config.table_types}
    if "TABLE" in types:
        types |= {"PARTITIONED TABLE", "PARTITION"}
    return sorted(
        item
        for item in dialect.list_tables(connection, types)
        if all(like(pattern, item.table.schema or "") for pattern in schemas) and item.kind in types
    )


def _hidden(
    connection: Connection, dialect: Dialect, existing: Sequence[Listed], config: SqlSourceConfig, home: str | None
) -> list[Listed]:
    """Return tables of the white list that the catalog does not show because the user may not read them.

    Reading them fails with the GRANT that is missing. MySQL and MariaDB answer the same for tables that do not exist
    when the user has no right on the whole database.
    """
    found = []
    for name in config.whitelist:
        if any(_means(name, item.table, config, home) for item in existing):
            continue
        schema, _, bare = name.replace('"', "").rpartition(".")
        table = TableName(schema or home, bare)
        try:
            connection.execute(probe(Relation(table, quote=config.quoting == "always"))).close()
        except DBAPIError as error:
            connection.rollback()
            if isinstance(error.orig, Exception) and dialect.error_class(error.orig) is ErrorClass.FORBIDDEN:
                found.append(Listed(table, "TABLE"))
    return found


def _listed(existing: Sequence[Listed], config: SqlSourceConfig, database: str, home: str | None) -> list[TableName]:
    """Select by white or black list. ``home``: the schema of bare names and of the black list; None = all."""
    listed = config.whitelist or config.blacklist
    key = "table.whitelist" if config.whitelist else "table.blacklist"
    known = {name for item in existing for name in _names(item.table, home)}
    unknown = [name for name in listed if not any(_means(name, item.table, config, home) for item in existing)]
    if unknown:
        raise ConfigError(findings=[_missing_table(name, known, key, database) for name in unknown])
    if config.whitelist:
        return [item.table for item in existing if any(_means(name, item.table, config, home) for name in listed)]
    chosen = [
        item.table
        for item in existing
        # The rows of a partition are rows of its table, too.
        if item.kind != "PARTITION"
        and home in (None, item.table.schema)
        and not any(_means(name, item.table, config, home) for name in listed)
    ]
    if not chosen:
        text = f"no table is left: table.blacklist names all {len(existing)}"
        raise ConfigError(findings=[Finding("sql.missing_table", text, key, "shorten table.blacklist")])
    return chosen


def _included(existing: Sequence[Listed], config: SqlSourceConfig, database: str) -> list[TableName]:
    """Select by regular expressions."""
    names = [str(item.table) for item in existing]
    chosen = [
        item.table
        for item in existing
        if item.kind != "PARTITION"
        and matches(config.include, str(item.table))
        and not matches(config.exclude, str(item.table))
    ]
    if chosen:
        return chosen
    text = f"table.include.list matches none of the {len(existing)} tables in database '{database}'"
    if any(matches(config.include, name) for name in names):
        text = "table.exclude.list leaves out every table that table.include.list matches"
    close = [found for pattern in config.include for found in get_close_matches(pattern, names, n=1)]
    shown = f"did you mean {' or '.join(map(repr, close))}?" if close else "expressions match the whole name"
    example = f", such as {names[0]}" if names and not close else ""
    raise ConfigError(findings=[Finding("sql.missing_table", text, "table.include.list", shown + example)])


def _entry(entries: Sequence[str], key: str, table: TableName, findings: list[Finding]) -> tuple[str, ...]:
    found = mapped(entries, str(table))
    if len(found) > 1:
        patterns = " and ".join(item.pattern for item in found)
        text = f"table {table} matches several entries of {key}: {patterns}"
        findings.append(Finding("sql.ambiguous_mapping", text, key, "make the expressions exclude each other"))
    return found[0].columns if found else ()


def _names(table: TableName, home: str | None) -> tuple[str, ...]:
    full = str(table), ".".join(f'"{part}"' for part in table if part)
    return (table.name, *full) if home in (None, table.schema) else full


def _means(name: str, table: TableName, config: SqlSourceConfig, home: str | None) -> bool:
    if config.quoting == "never":
        return name.lower() in [known.lower() for known in _names(table, home)]
    return name in _names(table, home)


def _missing_table(name: str, known: Iterable[str], key: str, database: str) -> Finding:
    close = get_close_matches(name, sorted(known), n=2, cutoff=0.6)
    if any(sign in name for sign in "*|+^["):
        instead = "table.include.list" if key == "table.whitelist" else "table.exclude.list"
        hint = f"names are exact here; regular expressions belong into {instead}"
    elif close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    else:
        hint = "views need VIEW in table.types; tables of other users need a grant"
    return Finding("sql.missing_table", f"there is no table '{name}' in database '{database}'", key, hint)


def _clashes(tables: Sequence[TableName], config: SqlSourceConfig) -> Iterable[Finding]:
    if "${table}" not in config.topic_format:
        return  # one topic for all is wanted
    key = "table.include.list" if config.include else "table.whitelist" if config.whitelist else "table.blacklist"
    by_topic: dict[str, list[str]] = {}
    for table in tables:
        by_topic.setdefault(topic_of(config, table), []).append(str(table))
    for topic, same in sorted(by_topic.items()):
        if len(same) > 1:
            text = f"{' and '.join(same)} would both go to topic {topic}"
            hint = "set topic.name.format to ${schema}.${table}, or leave one of them out"
            yield Finding("sql.ambiguous_topic", text, key, hint)
