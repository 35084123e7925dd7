"""The configuration of the SQL source: its keys with the rules over several of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Self

from pydantic import TypeAdapter, ValidationError

from headrace import Duration, Finding, FixedKey, LocalUse, key
from headrace_sources.sql.configuration.keys import PK_MODE_DOC, RECORDS, PkMode, SqlSourceKeys
from headrace_sources.sql.configuration.syntax import (
    entry_error,
    find_zone,
    is_plain_name,
    limits_rows,
    nearest_zones,
    pattern_error,
    query_findings,
)
from headrace_sources.sql.configuration.urls import connection_url
from headrace_sources.sql.confinement.local_resources import url_uses

_TOPIC = re.compile(r"[a-zA-Z0-9._-]*")
_PLACEHOLDER = re.compile(r"\$\{(table|schema)\}")
_DURATION: TypeAdapter[int] = TypeAdapter(Duration)
# Keys of the JVM's connector that must not be ignored, with what to write instead.
_INSTEAD = {
    "incrementing.initial": "leave it out: the first read begins with the smallest value, negative ones included",
    "jdbc.credentials.provider.class": "use connection.user and connection.password with placeholders: ${env:NAME}",
}


class SqlSourceConfig(SqlSourceKeys):
    """Keys of the SQL source connector."""

    # Aiven's connector has these keys; tools write them out at their defaults.
    fixed_keys: ClassVar[Mapping[str, FixedKey]] = {
        "table.names.qualify": FixedKey(("true",), "names of tables are always qualified with their schema"),
        "sql.quote.identifiers": FixedKey(("true",), "names are always quoted"),
        "timestamp.initial.ms": FixedKey(("0",), "timestamp.initial says where to begin"),
        "incrementing.initial": FixedKey(("-1",), "the first read begins with the smallest value"),
    }

    @classmethod
    def validate_properties(cls, properties: Mapping[str, str]) -> tuple[Self | None, list[Finding]]:
        """Parse as every model does. Keys that only the JVM's connector has get a hint what to write instead."""
        model, findings = super().validate_properties(properties)
        return model, [
            Finding(item.code, item.message, item.key, _INSTEAD[item.key]) if item.key in _INSTEAD else item
            for item in findings
        ]

    @classmethod
    def local_uses(cls, properties: Mapping[str, str]) -> Iterable[LocalUse]:
        """Yield what keys use of the worker's machine, parts of the URL included."""
        yield from super().local_uses(properties)
        exact = {item.name for item in cls.definitions()}
        parameters = {
            name.removeprefix("connection.").strip(): text.strip()
            for name, text in properties.items()
            if name.startswith("connection.") and name not in exact
        }
        password = properties.get("connection.password", "").strip() or None
        url, _ = connection_url(properties.get("connection.url", "").strip(), None, password, parameters)
        if url is not None:
            yield from url_uses(url, parameters)

    @property
    def query(self) -> str:
        """The query, masked or not; empty = tables are read."""
        return self.query_masked.get_secret_value().strip() if self.query_masked else self.query_text

    @property
    def overlap_ids(self) -> int | None:
        """``cursor.overlap`` in mode incrementing."""
        return None if self.overlap is None else int(self.overlap)

    @property
    def overlap_span(self) -> int | None:
        """``cursor.overlap`` in the other modes, in milliseconds."""
        return None if self.overlap is None else _DURATION.validate_python(self.overlap)

    @property
    def temporal(self) -> str:
        """The effective ``temporal.out.of.range``."""
        asked = re.search(r"zeroDateTimeBehavior=convert_?to_?null", self.url, re.IGNORECASE)
        return self.temporal_mode or ("null" if asked else "fail")

    @property
    def numeric(self) -> str:
        """The effective numeric mapping."""
        return self.numeric_mapping or ("precision_only" if self.numeric_precision_mapping else "none")

    def problems(self) -> Iterable[Finding]:
        """Rules over several keys."""
        return config_problems(self)


class JdbcSourceConfig(SqlSourceConfig):
    """The same keys; defaults that existing files rely on are those of the JVM's JDBC source."""

    pk_mode: PkMode = key("pk.mode", default="none", doc=PK_MODE_DOC, importance="high", group=RECORDS)


def config_problems(config: SqlSourceConfig) -> Iterable[Finding]:
    """Yield every problem that can be found without connecting, in the order in which the JVM's JDBC source checks."""
    url, findings = connection_url(config.url, config.user, None, config.parameters)
    yield from findings
    backend = url.get_backend_name() if url is not None else ""
    yield from _isolation(config, backend)
    yield from _sources(config)
    yield from _query(config, backend)
    yield from _columns(config)
    yield from _overlap(config)
    yield from _deletes(config)
    yield from _zone(config)
    yield from _topic(config)
    yield from _keys(config)
    yield from _names(config)


def is_duration(text: str) -> bool:
    """Return whether ``text`` is a duration (``5000``, ``30s``), not a cron expression."""
    try:
        _DURATION.validate_python(text)
    except ValidationError:
        return False
    return True


def _isolation(config: SqlSourceConfig, backend: str) -> Iterable[Finding]:
    if config.isolation == "SQL_SERVER_SNAPSHOT" and backend not in ("mssql", ""):
        text = f"SQL_SERVER_SNAPSHOT is an isolation level of SQL Server, and connection.url is one of {backend}"
        hint = "use REPEATABLE_READ, the nearest level of other databases"
        yield Finding("config.invalid_value", text, "transaction.isolation.mode", hint)


def _sources(config: SqlSourceConfig) -> Iterable[Finding]:
    lists = {
        "table.whitelist": config.whitelist,
        "table.blacklist": config.blacklist,
        "table.include.list": config.include,
        "table.exclude.list": config.exclude,
    }
    given = [name for name, value in lists.items() if value]
    if config.query_text and config.query_masked:
        yield Finding("sql.two_queries", "query and query.masked exclude each other", "query", "remove one of them")
    if config.query:
        for name in given:
            text = f"query and {name} exclude each other"
            yield Finding("sql.query_and_tables", text, name, f"remove {name}, or query")
        return
    old = [name for name in given if name in ("table.whitelist", "table.blacklist")]
    new = [name for name in given if name not in old]
    if old and new:
        text = f"{old[0]} and {new[0]} exclude each other"
        yield Finding("sql.two_table_lists", text, new[0], f"remove {' and '.join(old)}, or {' and '.join(new)}")
    elif config.whitelist and config.blacklist:
        text = "table.blacklist has no effect together with table.whitelist"
        yield Finding("config.no_effect", text, "table.blacklist", "remove one of them", severity="warning")
    elif config.exclude and not config.include:
        text = "table.exclude.list needs table.include.list"
        yield Finding("sql.no_tables", text, "table.include.list", "write .* there to read every other table")
    elif not given and config.tables is None:
        hint = "name tables in table.whitelist or table.include.list, or write a query"
        yield Finding("sql.no_tables", "no table and no query is configured", "table.whitelist", hint)
    for name in ("table.include.list", "table.exclude.list"):
        for pattern in lists[name]:
            if reason := pattern_error(pattern):
                text = f"Invalid value {pattern} for configuration {name}: it is not a regular expression: {reason}"
                yield Finding("config.invalid_value", text, name, r"write a literal dot as \.")


def _query(config: SqlSourceConfig, backend: str) -> Iterable[Finding]:
    if config.query:
        key = "query.masked" if config.query_masked else "query"
        yield from query_findings(config.query, backend, key, incremental=config.mode != "bulk")
    if config.mode == "timestamp" and limits_rows(config.query_suffix):
        text = "query.suffix limits rows, and mode timestamp would lose those of equal timestamp behind the limit"
        hint = "remove the limit (results are streamed), or use mode timestamp+incrementing"
        yield Finding("sql.query_limit", text, "query.suffix", hint)


def _columns(config: SqlSourceConfig) -> Iterable[Finding]:
    if "timestamp" in config.mode and not config.timestamps and (config.query or not config.timestamps_mapping):
        text = f"mode {config.mode} needs timestamp.column.name"
        yield Finding("config.missing_key", text, "timestamp.column.name", "name the column that every update changes")
    if "incrementing" in config.mode and not config.incrementing and config.query:
        text = f"mode {config.mode} with a query needs incrementing.column.name"
        yield Finding("config.missing_key", text, "incrementing.column.name", "name a column of the query's result")
    yield from _mapping(config, "timestamp", "timestamp.columns.mapping", config.timestamps_mapping)
    yield from _mapping(config, "incrementing", "incrementing.column.mapping", config.incrementing_mapping)


def _mapping(config: SqlSourceConfig, mode: str, key: str, entries: Sequence[str]) -> Iterable[Finding]:
    for entry in entries:
        if reason := entry_error(entry):
            text = f"Invalid value {entry} for configuration {key}: {reason}"
            yield Finding("config.invalid_value", text, key, r"write public\.orders:column")
    if entries and config.query:
        text = f"{key} is for tables, and a query is read"
        yield Finding("sql.query_and_tables", text, key, f"name the query's column in {mode}.column.name")
    elif entries and mode not in config.mode:
        text = f"{key} has no effect with mode {config.mode}"
        yield Finding("config.no_effect", text, key, "remove it", severity="warning")


def _deletes(config: SqlSourceConfig) -> Iterable[Finding]:
    if config.delete_detection == "none":
        return
    if config.pk_mode == "none":
        text = f"delete.detection {config.delete_detection} needs a record key, and pk.mode is none"
        yield Finding("config.missing_key", text, "pk.mode", "set pk.mode to primary_key, or to fields with pk.fields")
    if config.delete_detection == "soft":
        if not config.soft_column:
            text = "delete.detection soft needs delete.soft.column"
            yield Finding("config.missing_key", text, "delete.soft.column", "name the column that marks deleted rows")
        return
    schedule = config.reconcile_schedule
    if not is_duration(schedule) and len(schedule.split()) != 5:
        text = f"Invalid value {schedule} for configuration delete.reconcile.schedule: neither duration nor cron"
        yield Finding("config.invalid_value", text, "delete.reconcile.schedule", "write 1h, 30m, or '0 3 * * *'")


def _overlap(config: SqlSourceConfig) -> Iterable[Finding]:
    if config.overlap is None:
        return
    text = f"Invalid value {config.overlap} for configuration cursor.overlap: "
    if config.mode == "bulk" or config.gap_free == "off":
        text = f"cursor.overlap has no effect with {'mode bulk' if config.mode == 'bulk' else 'cursor.gap.free off'}"
        yield Finding("config.no_effect", text, "cursor.overlap", "remove it", severity="warning")
    elif config.mode == "incrementing":
        if not config.overlap.isdecimal():
            text += "in mode incrementing it is a number of ids"
            yield Finding("config.invalid_value", text, "cursor.overlap", "write a whole number such as 1000")
    elif not is_duration(config.overlap):
        text += f"in mode {config.mode} it is a duration"
        yield Finding("config.invalid_value", text, "cursor.overlap", "write 30s, 5m, or milliseconds")


def _zone(config: SqlSourceConfig) -> Iterable[Finding]:
    if find_zone(config.timezone) is None:
        text = f"Invalid value {config.timezone} for configuration db.timezone: no such time zone"
        yield Finding("config.invalid_value", text, "db.timezone", nearest_zones(config.timezone))


def _topic(config: SqlSourceConfig) -> Iterable[Finding]:
    hint = "at most 249 of: letters, digits, '.', '_', '-'"
    if len(config.topic_prefix) > 249 or not _TOPIC.fullmatch(config.topic_prefix):
        text = f"Invalid value {config.topic_prefix} for configuration topic.prefix: it is not part of a topic's name"
        yield Finding("config.invalid_value", text, "topic.prefix", hint)
    if config.query and not config.topic_prefix:
        text = "with a query topic.prefix is the whole topic name and must not be empty"
        yield Finding("config.missing_key", text, "topic.prefix", "write the topic's name")
    if not _TOPIC.fullmatch(_PLACEHOLDER.sub("", config.topic_format)):
        text = f"Invalid value {config.topic_format} for configuration topic.name.format: it gives no valid topic name"
        hint = f"placeholders are ${{table}} and ${{schema}}; besides, {hint}"
        yield Finding("config.invalid_value", text, "topic.name.format", hint)
    elif "${table}" not in config.topic_format and not config.query:
        text = f"topic.name.format {config.topic_format} sends the rows of all tables to one topic"
        hint = "write ${table} into it, unless the tables have the same columns"
        yield Finding("sql.one_topic", text, "topic.name.format", hint, severity="warning")


def _keys(config: SqlSourceConfig) -> Iterable[Finding]:
    if config.pk_mode == "fields" and not config.pk_fields:
        yield Finding("config.missing_key", "pk.mode fields needs pk.fields", "pk.fields", "name the key's columns")
    if config.pk_mode == "primary_key" and config.query:
        text = "a query has no primary key"
        yield Finding("sql.no_primary_key", text, "pk.mode", "use pk.mode fields and name columns in pk.fields")
    if config.pk_mode in ("none", "primary_key") and config.pk_fields:
        text = f"pk.fields has no effect with pk.mode {config.pk_mode}"
        yield Finding("config.no_effect", text, "pk.fields", "set pk.mode to fields", severity="warning")


def _names(config: SqlSourceConfig) -> Iterable[Finding]:
    """Without quotes, a name such as ``orders limit 1--`` would be a part of the statement."""
    if config.quoting == "always":
        return
    names = {
        "table.whitelist": [part for name in config.whitelist for part in name.split(".")],
        "timestamp.column.name": config.timestamps,
        "incrementing.column.name": [config.incrementing] if config.incrementing else [],
        "pk.fields": config.pk_fields,
        "delete.soft.column": [config.soft_column] if config.soft_column else [],
    }
    for name_key, values in names.items():
        for name in values:
            if not is_plain_name(name.strip()):
                text = f"Invalid value {name} for configuration {name_key}: it is no plain identifier, which "
                text += "quote.sql.identifiers: never requires"
                yield Finding("config.invalid_value", text, name_key, "set quote.sql.identifiers: always")
