"""Plans the operations without state: each function reads the keys of a step and adds it to the plan."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from headrace import UNDECLARED, Finding, declaration_of, nearest
from headrace_streams.configuration import NamedKeys, StepKeys
from headrace_streams.expressions import Columns, ColumnType
from headrace_streams.operators.call import Call
from headrace_streams.operators.operator import StepPlace
from headrace_streams.operators.stateless import Branch, Filter, FlatMap, KeyBy, Lookup, Merge, Select
from headrace_streams.planning.builder import PlanBuilder, PlanError, StreamInfo
from headrace_streams.planning.table_operations import plan_partitioned_lookup

_FUNCTION_TIMEOUT = 30_000  # milliseconds


def plan_filter(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    stream = builder.streams[sources[0]]
    key = f"{entry.prefix}.filter"
    condition = builder.compile(key, {"filter": entry.keys.filter or ""}, stream.columns)
    builder.require_boolean(key, condition)
    builder.add_step(entry.name, sources, Filter(condition, StepPlace(entry.name, key)), {"": stream})


def plan_select(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    _project(builder, entry, sources, "select", entry.keys.select)


def plan_add_columns(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    _project(builder, entry, sources, "add", entry.keys.add)


def _project(
    builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...], word: str, texts: Mapping[str, str]
) -> None:
    stream = builder.streams[sources[0]]
    key = f"{entry.prefix}.{word}"
    columns = builder.compile(key, texts, stream.columns, each=True)
    keep = word == "add"
    types: dict[str, ColumnType | Columns] = dict(columns.types)
    for name, expression in columns.expressions.items():  # a column keeps what is known of its own columns
        known = stream.columns.types.get(expression.column or "")
        if isinstance(known, Columns):
            types[name] = known
    made = stream.columns.with_columns(types) if keep else Columns(types, complete=True)
    kept = {name for name, item in columns.expressions.items() if item.column == name}
    keyed = stream.keyed_by
    if keyed is not None and any(name not in kept and (not keep or name in texts) for name in keyed):
        keyed = None
    operator = Select(columns, StepPlace(entry.name, key), keep)
    builder.add_step(entry.name, sources, operator, {"": StreamInfo(made, stream.topics, keyed)})


def plan_lookup(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    if len(entry.keys.lookup) != 1:
        text = f"step '{entry.name}' looks up {len(entry.keys.lookup)} columns"
        raise PlanError(Finding("stream.operation", text, entry.prefix, "write one step for each"))
    ((column, text),) = entry.keys.lookup.items()
    key = f"{entry.prefix}.lookup.{column}"
    parsed = builder.parse(key, text)
    node = parsed.node
    if not isinstance(node, exp.Bracket) or not isinstance(node.this, exp.Column) or len(node.expressions) != 1:
        problem = f"'{text}' is not a lookup"
        raise PlanError(Finding("stream.syntax", problem, key, "write <table>[<expression>]: offers[offer_id]"))
    name = node.this.name
    if name not in builder.tables:
        if name in builder.failed:
            raise PlanError()
        hint = nearest(name, builder.tables) or f"there are: {', '.join(builder.tables) or 'no tables'}"
        raise PlanError(Finding("stream.unknown_table", f"unknown table '{name}'", key, hint))
    stream, table = builder.streams[sources[0]], builder.tables[name]
    inner = node.expressions[0]
    projection = builder.compiled(key, {column: parsed.part(inner)}, stream.columns)
    missing = {"dead_letter": "refuse"}.get(entry.keys.missing, entry.keys.missing)
    if table.partitioned:
        if missing == "wait":
            text = f"table '{name}' is partitioned: a row that comes later is not the row at the time of the record"
            hint = "remove missing: wait, or set scope: global"
            raise PlanError(Finding("config.conflict", text, f"{entry.prefix}.missing", hint))
        plan_partitioned_lookup(builder, entry, sources[0], projection, table, missing)
        return
    operator = Lookup(projection, column, name, missing, StepPlace(entry.name, key))
    keyed = None if stream.keyed_by and column in stream.keyed_by else stream.keyed_by
    made = StreamInfo(stream.columns.with_columns({column: table.columns}), stream.topics, keyed)
    builder.add_step(entry.name, sources, operator, {"": made})


def plan_branch(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    stream = builder.streams[sources[0]]
    key = f"{entry.prefix}.branch"
    conditions = builder.compile(key, entry.keys.branch, stream.columns, each=True)
    builder.require_boolean(key, conditions)
    operator = Branch(conditions, StepPlace(entry.name, key))
    builder.add_step(entry.name, sources, operator, dict.fromkeys(entry.keys.branch, stream))


def plan_flat_map(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    if len(entry.keys.flat_map) != 1:
        text = f"step '{entry.name}' must have one flat_map"
        raise PlanError(Finding("stream.operation", text, entry.prefix, "write one step for each"))
    stream = builder.streams[sources[0]]
    ((column, _),) = entry.keys.flat_map.items()
    key = f"{entry.prefix}.flat_map"
    array = builder.compile(key, entry.keys.flat_map, stream.columns, each=True)
    if not array.types[column].may_be(ColumnType.ARRAY):
        text = f"'{array.expressions[column].text}' is of type {array.types[column]}, not an array"
        raise PlanError(Finding("stream.wrong_type", text, f"{key}.{column}"))
    made = StreamInfo(stream.columns.with_columns({column: ColumnType.ANY}), stream.topics, stream.keyed_by)
    builder.add_step(entry.name, sources, FlatMap(array, column, StepPlace(entry.name, key)), {"": made})


def plan_merge(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    streams = [builder.streams[name] for name in sources]
    columns = streams[0].columns
    for stream in streams[1:]:
        columns = columns.merged(stream.columns)
    topics = tuple(dict.fromkeys(topic for stream in streams for topic in stream.topics))
    keyed = streams[0].keyed_by if len({stream.keyed_by for stream in streams}) == 1 else None
    builder.add_step(entry.name, sources, Merge(), {"": StreamInfo(columns, topics, keyed)})


def plan_key_by(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    stream = builder.streams[sources[0]]
    key = f"{entry.prefix}.key_by"
    groups = builder.groups(key, entry.keys.key_by or "", stream.columns)
    # The records are still in their old partitions: what groups by this key is repartitioned.
    made = StreamInfo(stream.columns, stream.topics)
    builder.add_step(entry.name, sources, KeyBy(groups, StepPlace(entry.name, key)), {"": made})


def plan_call(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    key = f"{entry.prefix}.call"
    path = entry.keys.call or ""
    function = import_function(key, path)
    stream = builder.streams[sources[0]]
    declared = declaration_of(function)
    batch = declared.batch if entry.keys.batch is None else entry.keys.batch
    if batch != declared.batch and declared is not UNDECLARED:
        text = f"'{path}' is declared with batch={declared.batch} by @headrace.stream"
        raise PlanError(Finding("config.conflict", text, f"{entry.prefix}.batch", "remove batch"))
    columns = builder.declared(key, declared.columns)
    timeout = entry.keys.function_timeout or _FUNCTION_TIMEOUT
    operator = Call(function, path, batch, timeout, StepPlace(entry.name, key))
    builder.add_step(entry.name, sources, operator, {"": StreamInfo(columns, stream.topics)})


def import_function(key: str, path: str) -> Callable[[Any], Any]:
    module, _, name = path.partition(":")
    if not module or not name:
        raise PlanError(Finding("stream.function", f"'{path}' is not module:function", key))
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        text = f"module '{module}' cannot be imported: {type(error).__name__}: {error}"
        hint = "install it, or set PYTHONPATH to its folder"
        raise PlanError(Finding("stream.function", text, key, hint)) from error
    if not callable(found):
        raise PlanError(Finding("stream.function", f"module '{module}' has no function '{name}'", key))
    return found  # type: ignore[no-any-return]
