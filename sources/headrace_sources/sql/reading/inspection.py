"""Inspects a table or the query in the database: whether it can be read as configured, with warnings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches

from sqlalchemy import Connection, inspect

from headrace import Finding
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.configuration.syntax import inner_text
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.dialects.dialect import TableName
from headrace_sources.sql.reading.read_spec import Paging, describe
from headrace_sources.sql.rows.row_schema import find_column
from headrace_sources.sql.rows.types import INTEGERS, TIMESTAMPS, Column, Kind
from headrace_sources.sql.tables.queries import Cursor, Relation, in_order, without_cursor
from headrace_sources.sql.tables.selection import WantedCursor, topic_of, wanted_cursor

TOPIC_NAME = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
TOPIC_NAME_CODE = "sql.topic_name"
HIDDEN_ROWS_CODE = "sql.row_security"
"""Of the error about a table whose topic has a name that Kafka refuses; other tables are read."""
_PAGED_LEVELS = ("DEFAULT", "READ_COMMITTED", "READ_UNCOMMITTED")


@dataclass(frozen=True)
class ReadTarget:
    """The relation to read as the database describes it, with its spelling of names."""

    relation: Relation
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    cursor: Cursor
    keys: tuple[str, ...]
    unique: tuple[str, ...]
    """Columns in which no two rows are equal: the primary key, unless other tables inherit from this one."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Columns that name a row in messages."""
        return self.primary_key or self.keys or self.cursor.names


def inspect_relation(
    connection: Connection, dialect: Dialect, config: SqlSourceConfig, table: TableName | None
) -> tuple[ReadTarget | None, list[Finding]]:
    """Return the target, None if an error keeps it from being read, and all errors and warnings."""
    query = inner_text(config.query, connection.dialect.name) if table is None else ""
    relation = Relation(table, query, config.quoting == "always")
    if not TOPIC_NAME.fullmatch(topic_of(config, table)):
        return None, [_illegal_topic(connection, topic_of(config, table), relation)]
    primary_key = dialect.primary_key(connection, table) if table else ()
    columns = describe(connection, dialect, relation)
    findings: list[Finding] = []
    wanted = wanted_cursor(config, table)
    findings += wanted.findings
    timestamps = tuple(_column(name, columns, relation, wanted.timestamps_key, findings) for name in wanted.timestamps)
    incrementing = _incrementing(config, wanted, columns, primary_key, relation, findings)
    keys = _keys(config, columns, primary_key, relation, findings)
    findings += _delete_findings(config, columns, keys, relation)
    cursor = Cursor(tuple(timestamps), incrementing)
    if any(item.severity == "error" for item in findings):
        return None, findings
    by_name = {column.name: column for column in columns}
    findings += _cursor_findings(
        config, wanted, dialect.timestamps_by_value, relation, [by_name[n] for n in timestamps],
        by_name.get(incrementing),
    )  # fmt: skip
    inheriting = dialect.inheriting(connection, table) if table else ()
    findings += _inheritance_findings(inheriting, relation, keys)
    if table and dialect.hides_rows(connection, table):
        findings.append(_hidden_rows(connection, dialect, relation))
    target = ReadTarget(relation, columns, primary_key, cursor, keys, () if inheriting else primary_key)
    return (None if any(item.severity == "error" for item in findings) else target), findings


def unread_rows(connection: Connection, target: ReadTarget) -> list[Finding]:
    """Return a warning if there are rows whose cursor is NULL."""
    by_name = {column.name: column for column in target.columns}
    stamps = [by_name[name] for name in target.cursor.timestamps]
    nullable = bool(stamps) and all(column.nullable for column in stamps)
    nullable |= bool(target.cursor.incrementing) and by_name[target.cursor.incrementing].nullable
    if not nullable or connection.execute(without_cursor(target.relation, target.cursor)).first() is None:
        return []
    names = ", ".join(target.cursor.names)
    text = f"{target.relation} has rows where {names} is NULL: they are never read"
    return [Finding("sql.null_cursor", text, _cursor_key(target.cursor), f"give {names} a value", severity="warning")]


def index_findings(connection: Connection, dialect: Dialect, target: ReadTarget) -> list[Finding]:
    """Return a warning if no index begins with the cursor: each poll then reads and sorts all rows."""
    table, cursor = target.relation.table, target.cursor
    if not cursor.names:
        return []
    if table is None or not _is_table(connection, table):
        # For a query or a view only the planner can tell.
        hint = dialect.sort_hint(connection, in_order(target.relation, cursor))
        text = (
            f"no index gives {target.relation} in the order of {cursor.names[0]}: every poll reads and sorts all of it"
        )
        return [Finding("sql.no_index", text, _cursor_key(cursor), hint, severity="warning")] if hint else []
    wanted = _wanted_index(connection, cursor)
    if _plain(wanted[0]) in map(_plain, dialect.index_heads(connection, table)):
        return []
    preparer = connection.dialect.identifier_preparer
    name = preparer.quote_identifier("_".join((table.name, *cursor.names))[:63])
    place = preparer.quote_identifier(table.name)
    if table.schema:
        place = f"{preparer.quote_identifier(table.schema)}.{place}"
    make = dialect.create_index(place, name, wanted)
    text = f"no index of {target.relation} begins with {', '.join(wanted)}: every poll reads and sorts the whole table"
    return [Finding("sql.no_index", text, _cursor_key(cursor), f"run: {make};", severity="warning")]


def paging_of(connection: Connection, dialect: Dialect, config: SqlSourceConfig, target: ReadTarget) -> Paging:
    """Return how the table is divided into pages: only where an index finds a page without sorting the whole table.

    At isolation levels that promise one view of the data one statement reads all rows.
    """
    table, cursor = target.relation.table, target.cursor
    if table is None or config.isolation not in _PAGED_LEVELS:
        return Paging.NONE
    if not _is_table(connection, table):
        return Paging.NONE
    if not cursor.names:
        return Paging.KEY if target.unique and dialect.pages_by(_of_key(target)) else Paging.NONE
    if _plain(_wanted_index(connection, cursor)[0]) not in map(_plain, dialect.index_heads(connection, table)):
        return Paging.NONE
    if cursor.incrementing and target.unique == (cursor.incrementing,):
        return Paging.ROWS
    return Paging.TIES if dialect.asks_page_ends or dialect.has_ties(connection) else Paging.NONE


def one_reader(connection: Connection, dialect: Dialect, config: SqlSourceConfig, target: ReadTarget) -> str | None:
    """Return why only one connection at a time can read the table from its beginning; None = several can."""
    table = target.relation.table
    if table is None:
        return "a query has no primary key by which it could be split"
    if not dialect.reads_in_parallel:
        return f"headrace does not support it for {connection.dialect.name}"
    if config.isolation not in _PAGED_LEVELS:
        return f"{config.isolation} promises one view of the data, which several connections do not have"
    if not target.primary_key or not _is_table(connection, table):
        return "it has no primary key by which it could be split"
    if not target.unique:
        return "other tables inherit from it, so its primary key is not unique"
    if not dialect.pages_by(_of_key(target)):
        return "its primary key is of a type by which this database cannot be read in pages"
    if target.keys and not {*target.primary_key} <= {*target.keys}:
        return "rows of equal record key would be sent in another order: the key is not the primary key"
    if config.timestamp_initial is not None and "timestamp" in config.mode:
        return "timestamp.initial leaves out its beginning"
    return None


def parallel_findings(
    connection: Connection, dialect: Dialect, config: SqlSourceConfig, target: ReadTarget
) -> list[Finding]:
    """Return a warning if several connections are configured and cannot be used."""
    if config.parallelism == 1:
        return []
    reason = one_reader(connection, dialect, config, target)
    if reason is None:
        return []
    text = f"{target.relation} is read by one connection at a time: {reason}"
    hint = "remove snapshot.parallelism, or accept it"
    return [Finding("sql.one_reader", text, "snapshot.parallelism", hint, severity="warning")]


def _illegal_topic(connection: Connection, topic: str, relation: Relation) -> Finding:
    """Return the error about a table whose topic Kafka refuses."""
    text = f"{relation} is not read: '{topic}' is not the name of a topic (letters, digits, '.', '_', '-'; at most 249)"
    hint = "read it by a connector of its own, with a topic's name in topic.prefix"
    if relation.table is not None:
        quote = connection.dialect.identifier_preparer.quote_identifier
        hint += f" and query: SELECT * FROM {'.'.join(quote(part) for part in relation.table if part)}"
    return Finding(TOPIC_NAME_CODE, text, "topic.prefix", hint)


def _hidden_rows(connection: Connection, dialect: Dialect, relation: Relation) -> Finding:
    grantee = dialect.grantee(connection)
    text = f"row level security of {relation} hides rows from user {grantee}: rows that no policy shows are never read"
    hint = f"if all rows are wanted, run as a superuser: ALTER ROLE {grantee} BYPASSRLS;"
    return Finding(HIDDEN_ROWS_CODE, text, "connection.user", hint, severity="warning")


def _inheritance_findings(inheriting: Sequence[str], relation: Relation, keys: Sequence[str]) -> list[Finding]:
    if not inheriting or not keys:
        return []
    listed = ", ".join(inheriting)
    text = (
        f"{relation} is read with the rows of {listed}, which inherit from it: the key {', '.join(keys)} is not unique "
        "over all of them, and a sink keeps one document of rows with equal keys"
    )
    hint = (
        f"read it by query: SELECT tableoid::regclass::text AS origin, * FROM {relation.table}, "
        f"with pk.mode: fields and pk.fields: {','.join(['origin', *keys])}"
    )
    return [Finding("sql.inherited_rows", text, "pk.mode", hint, severity="warning")]


def _of_key(target: ReadTarget) -> list[Column]:
    by_name = {column.name: column for column in target.columns}
    return [by_name[name] for name in target.primary_key]


def _is_table(connection: Connection, table: TableName) -> bool:
    return table.name in inspect(connection).get_table_names(table.schema)


def _wanted_index(connection: Connection, cursor: Cursor) -> list[str]:
    """Return the expressions of an index that reads in the cursor's order."""
    preparer = connection.dialect.identifier_preparer
    quoted = [preparer.quote_identifier(name) for name in cursor.timestamps]
    if len(quoted) > 1:
        quoted = [f"(COALESCE({', '.join(quoted)}))"]
    if cursor.incrementing:
        quoted.append(preparer.quote_identifier(cursor.incrementing))
    return quoted


def _plain(expression: str) -> str:
    """Return an expression without quotes and spaces, for comparison."""
    return re.sub(r"[\s\"`()]", "", expression).lower()


def _column(name: str, columns: Sequence[Column], relation: Relation, key: str, findings: list[Finding]) -> str:
    names = [column.name for column in columns]
    # The JVM's connector, which appends its WHERE to the query, needs "t.column" where two tables have the column.
    candidates = [name] if relation.table else [name, name.rpartition(".")[2]]
    for candidate in candidates:
        with suppress(KeyError):
            return names[find_column(names, candidate)]
    close = get_close_matches(name, names, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"its columns: {', '.join(names)}"
    findings.append(Finding("sql.missing_column", f"{relation} has no column '{name}'", key, hint))
    return name


def _incrementing(
    config: SqlSourceConfig,
    wanted: WantedCursor,
    columns: Sequence[Column],
    primary_key: Sequence[str],
    relation: Relation,
    findings: list[Finding],
) -> str:
    if "incrementing" not in config.mode:
        return ""
    if wanted.incrementing:
        return _column(wanted.incrementing, columns, relation, wanted.incrementing_key, findings)
    if len(primary_key) == 1 and any(c.name == primary_key[0] and c.kind in INTEGERS for c in columns):
        return primary_key[0]
    text = f"{relation} has no primary key of one integer column to be the incrementing column"
    hint = "name the column whose values grow; a table without one: mode bulk, or leave it out (table.exclude.list)"
    findings.append(Finding("sql.missing_column", text, wanted.incrementing_key, hint))
    return ""


def _keys(
    config: SqlSourceConfig,
    columns: Sequence[Column],
    primary_key: tuple[str, ...],
    relation: Relation,
    findings: list[Finding],
) -> tuple[str, ...]:
    if config.pk_mode == "fields" or (config.pk_mode == "auto" and config.pk_fields):
        return tuple(_column(name, columns, relation, "pk.fields", findings) for name in config.pk_fields)
    if config.pk_mode == "primary_key" and not primary_key:
        text = f"{relation} has no primary key"
        hint = "name the key's columns in pk.fields and set pk.mode to fields, or set pk.mode to none"
        findings.append(Finding("sql.no_primary_key", text, "pk.mode", hint))
    return primary_key if config.pk_mode in ("auto", "primary_key") else ()


def _delete_findings(
    config: SqlSourceConfig, columns: Sequence[Column], keys: Sequence[str], relation: Relation
) -> list[Finding]:
    findings: list[Finding] = []
    if config.delete_detection == "none":
        return findings
    if not keys:
        text = f"delete.detection {config.delete_detection} needs a record key, and {relation} has none"
        hint = "name the key's columns in pk.fields"
        findings.append(Finding("sql.no_primary_key", text, "pk.fields", hint))
    if config.delete_detection == "soft":
        _column(config.soft_column, columns, relation, "delete.soft.column", findings)
    return findings


def _cursor_findings(
    config: SqlSourceConfig,
    wanted: WantedCursor,
    by_value: bool,
    relation: Relation,
    timestamps: Sequence[Column],
    incrementing: Column | None,
) -> Iterable[Finding]:
    for column in timestamps:
        if not by_value and column.kind not in TIMESTAMPS and column.kind is not Kind.UNKNOWN:
            text = f"{relation}: '{column.name}' is of type {column.kind.value}, not a timestamp"
            yield Finding("sql.cursor_type", text, wanted.timestamps_key, "name a column of a timestamp type")
    if not by_value and len({column.kind for column in timestamps}) > 1:
        text = f"{relation}: of {', '.join(c.name for c in timestamps)} some have a time zone and some have not"
        yield Finding("sql.cursor_type", text, wanted.timestamps_key, "name columns of one type")
    if incrementing and not (
        incrementing.kind in INTEGERS
        or incrementing.kind is Kind.UNKNOWN
        or (incrementing.kind is Kind.DECIMAL and not incrementing.scale)
    ):
        text = f"{relation}: '{incrementing.name}' is of type {incrementing.kind.value}, not a whole number"
        hint = "name an integer column; for other ids use mode timestamp"
        yield Finding("sql.cursor_type", text, wanted.incrementing_key, hint)
    if relation.table is None or not config.validate_non_null:
        return  # whether a query's columns can be NULL is unknown
    hint = "ALTER the column to NOT NULL, or set validate.non.null to false: rows with NULL there are never read"
    if timestamps and all(column.nullable for column in timestamps):
        names = ", ".join(column.name for column in timestamps)
        text = f"{relation}: {names} can be NULL"
        yield Finding("sql.nullable_cursor", text, wanted.timestamps_key, hint)
    if incrementing and incrementing.nullable:
        text = f"{relation}: {incrementing.name} can be NULL"
        yield Finding("sql.nullable_cursor", text, wanted.incrementing_key, hint)


def _cursor_key(cursor: Cursor) -> str:
    return "timestamp.column.name" if cursor.timestamps else "incrementing.column.name"
