"""Makes the plan of an application from its configuration, or reports everything that is wrong with it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from headrace import Finding, nearest
from headrace_streams.configuration import (
    ApplicationKeys,
    InputKeys,
    NamedKeys,
    OutputKeys,
    StepKeys,
    TableKeys,
    read_section,
    read_window,
)
from headrace_streams.expressions import (
    Columns,
    ColumnType,
    Expression,
    ExpressionError,
    Projection,
    compile_expressions,
    parse_expression,
)
from headrace_streams.expressions.types import DECLARABLE
from headrace_streams.operators.aggregates import Aggregate, parse_aggregate
from headrace_streams.operators.operator import Operator, StepPlace
from headrace_streams.operators.stateless import Branch, Call, Filter, FlatMap, KeyBy, Lookup, Merge, Select
from headrace_streams.operators.tumbling import WINDOW_COLUMNS, TumblingWindow
from headrace_streams.plan import GlobalTable, Plan, PlannedInput, PlannedOutput, PlannedStep, Repartition

_NAME = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True)
class StreamInfo:
    """What is known of a stream when the plan is made."""

    columns: Columns
    topics: tuple[str, ...]
    """Where its records come from: inputs or repartition topics."""
    keyed_by: tuple[str, ...] | None = None
    """The columns that are the key; None: not known."""


class Planner:
    """Makes one plan. Problems are collected in ``findings``; a step with a problem is left out."""

    def __init__(self, application: str, keys: ApplicationKeys) -> None:
        self._application = application
        self._keys = keys
        self.findings: list[Finding] = []
        self._streams: dict[str, StreamInfo] = {}
        self._failed: set[str] = set()
        """Names whose definition has a problem, so that what refers to them is not reported as well."""
        self._tables: dict[str, GlobalTable] = {}
        self._steps: list[PlannedStep] = []
        self._repartitions: list[Repartition] = []
        self._followed: list[tuple[str, str]] = []
        self._used: set[str] = set()

    def plan(self) -> Plan:
        """Return the plan; complete only when there are no findings that are errors."""
        inputs = self._inputs()
        self._read_tables()
        entries = self._section("steps", self._keys.steps, StepKeys)
        previous = inputs[0].name if len(inputs) == 1 else ""
        names = [entry.name for entry in entries]
        for entry in entries:
            self._guarded(entry, partial(self._step, entry, previous, names))
            previous = entry.name
        outputs = self._outputs(previous)
        self._report_unused(entries)
        tables = tuple(self._tables.values())
        return Plan(
            tuple(inputs), tables, tuple(self._steps), tuple(self._repartitions), outputs, tuple(self._followed)
        )

    # Sections

    def _section(self, section: str, flat: Mapping[str, str], model: type[Any]) -> list[NamedKeys[Any]]:
        entries, findings = read_section(section, flat, model)
        self.findings += findings
        self._failed |= {item.key.split(".")[1] for item in findings if item.severity == "error" and "." in item.key}
        for entry in entries:
            if section in ("inputs", "tables", "steps") and not _NAME.fullmatch(entry.name):
                text = f"'{entry.name}' is not a name: letters, digits, '_' and '-' are allowed"
                self._report("config.invalid_value", text, entry.prefix, "rename it")
        return entries

    def _inputs(self) -> list[PlannedInput]:
        found: list[PlannedInput] = []
        for entry in self._section("inputs", self._keys.inputs, InputKeys):
            self._guarded(entry, partial(self._input, entry, found))
        if not self._keys.inputs:
            self._report("config.missing_key", "the application has no inputs", "inputs", "name a topic to read")
        return found

    def _input(self, entry: NamedKeys[InputKeys], found: list[PlannedInput]) -> None:
        keys = entry.keys
        columns = self._declared(f"{entry.prefix}.columns", keys.columns)
        time = None
        if keys.time is not None:
            time = self._compile(f"{entry.prefix}.time", {"time": keys.time}, columns)
        topic = keys.topic or entry.name
        self._streams[entry.name] = StreamInfo(columns, (topic,), (keys.key_column,) if keys.key_column else None)
        if any(item.topic == topic for item in found):
            hint = "read it once, and use the input in several steps"
            raise _PlanError(Finding("config.conflict", f"topic '{topic}' is read by two inputs", entry.prefix, hint))
        found.append(PlannedInput(entry.name, topic, columns, time, keys.key_column, entry.prefix))

    def _read_tables(self) -> None:
        for entry in self._section("tables", self._keys.tables, TableKeys):

            def read(entry: NamedKeys[TableKeys] = entry) -> None:
                columns = self._declared(f"{entry.prefix}.columns", entry.keys.columns)
                topic = entry.keys.topic or entry.name
                self._tables[entry.name] = GlobalTable(entry.name, topic, columns, entry.keys.key_column)

            self._guarded(entry, read)

    def _outputs(self, last: str) -> tuple[PlannedOutput, ...]:
        found = []
        for entry in self._section("outputs", self._keys.outputs, OutputKeys):
            source = entry.keys.source or last
            if source in self._failed:
                continue
            if source not in self._streams:
                self._report_unknown_stream(f"{entry.prefix}.from", source)
                continue
            self._used.add(source)
            found.append(PlannedOutput(entry.keys.topic or entry.name, source))
        if not self._keys.outputs:
            self._report("config.missing_key", "the application has no outputs", "outputs", "name a topic to write")
        read = {topic for stream in self._streams.values() for topic in stream.topics}
        for output in found:
            if output.topic in read:
                text = f"topic '{output.topic}' is read and written: its records would be processed without end"
                self._report("config.conflict", text, "outputs", "write to another topic")
        return tuple(found)

    def _report_unused(self, entries: Iterable[NamedKeys[StepKeys]]) -> None:
        for entry in entries:
            streams = {name for name in self._streams if name == entry.name or name.startswith(f"{entry.name}.")}
            if streams and not streams & self._used:
                text = f"step '{entry.name}' is not used: no step and no output reads it"
                self._report("stream.unused", text, entry.prefix, "remove it, or add an output", severity="warning")

    # Steps

    def _step(self, entry: NamedKeys[StepKeys], previous: str, names: list[str]) -> None:
        keys = entry.keys
        given = [name for name in StepKeys.OPERATIONS if getattr(keys, name)]
        if len(given) != 1:
            listed = " and ".join(given) if given else "none"
            text = f"step '{entry.name}' must have exactly one operation, and has {listed}"
            hint = "divide it into several steps" if given else f"operations: {', '.join(StepKeys.OPERATIONS)}"
            raise _PlanError(Finding("stream.operation", text, entry.prefix, hint))
        if entry.name in self._streams:
            text = f"'{entry.name}' is already the name of an input"
            raise _PlanError(Finding("config.duplicate_name", text, entry.prefix, "rename the step"))
        if keys.merge:
            sources = keys.merge
            source_key = f"{entry.prefix}.merge"
        else:
            sources = (keys.source or previous,)
            source_key = f"{entry.prefix}.from"
        for name in sources:
            if name in self._failed or (name and name not in self._streams and name.split(".")[0] in self._failed):
                raise _PlanError()
            if name not in self._streams:
                if not name:
                    text = f"step '{entry.name}' needs 'from': there are several inputs"
                    raise _PlanError(Finding("config.missing_key", text, source_key, "name the stream to read"))
                self._report_unknown_stream(source_key, name, later=name in names)
                raise _PlanError()
        self._used |= set(sources)
        _OPERATIONS[given[0]](self, entry, sources)

    def _add(self, name: str, sources: tuple[str, ...], operator: Operator, streams: Mapping[str, StreamInfo]) -> None:
        self._steps.append(PlannedStep(name, sources, operator))
        for suffix, stream in streams.items():
            self._streams[f"{name}.{suffix}" if suffix else name] = stream

    def _filter(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        stream = self._streams[sources[0]]
        key = f"{entry.prefix}.filter"
        condition = self._compile(key, {"filter": entry.keys.filter or ""}, stream.columns)
        self._require_boolean(key, condition)
        self._add(entry.name, sources, Filter(condition, StepPlace(entry.name, key)), {"": stream})

    def _select(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        self._project(entry, sources, "select", entry.keys.select)

    def _add_columns(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        self._project(entry, sources, "add", entry.keys.add)

    def _project(
        self, entry: NamedKeys[StepKeys], sources: tuple[str, ...], word: str, texts: Mapping[str, str]
    ) -> None:
        stream = self._streams[sources[0]]
        key = f"{entry.prefix}.{word}"
        columns = self._compile(key, texts, stream.columns, each=True)
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
        self._add(entry.name, sources, operator, {"": StreamInfo(made, stream.topics, keyed)})

    def _lookup(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        if len(entry.keys.lookup) != 1:
            text = f"step '{entry.name}' looks up {len(entry.keys.lookup)} columns"
            raise _PlanError(Finding("stream.operation", text, entry.prefix, "write one step for each"))
        ((column, text),) = entry.keys.lookup.items()
        key = f"{entry.prefix}.lookup.{column}"
        node = self._parse(key, text).node
        if not isinstance(node, exp.Bracket) or not isinstance(node.this, exp.Column) or len(node.expressions) != 1:
            problem = f"'{text}' is not a lookup"
            raise _PlanError(Finding("stream.syntax", problem, key, "write <table>[<expression>]: offers[offer_id]"))
        name = node.this.name
        if name not in self._tables:
            if name in self._failed:
                raise _PlanError()
            hint = nearest(name, self._tables) or f"there are: {', '.join(self._tables) or 'no tables'}"
            raise _PlanError(Finding("stream.unknown_table", f"unknown table '{name}'", key, hint))
        stream, table = self._streams[sources[0]], self._tables[name]
        inner = node.expressions[0]
        projection = self._compiled(key, {column: Expression(inner.sql(), inner)}, stream.columns)
        missing = {"dead_letter": "refuse"}.get(entry.keys.missing, entry.keys.missing)
        operator = Lookup(projection, column, name, missing, StepPlace(entry.name, key))
        keyed = None if stream.keyed_by and column in stream.keyed_by else stream.keyed_by
        made = StreamInfo(stream.columns.with_columns({column: table.columns}), stream.topics, keyed)
        self._add(entry.name, sources, operator, {"": made})

    def _branch(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        stream = self._streams[sources[0]]
        key = f"{entry.prefix}.branch"
        conditions = self._compile(key, entry.keys.branch, stream.columns, each=True)
        self._require_boolean(key, conditions)
        operator = Branch(conditions, StepPlace(entry.name, key))
        self._add(entry.name, sources, operator, dict.fromkeys(entry.keys.branch, stream))

    def _flat_map(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        if len(entry.keys.flat_map) != 1:
            text = f"step '{entry.name}' must have one flat_map"
            raise _PlanError(Finding("stream.operation", text, entry.prefix, "write one step for each"))
        stream = self._streams[sources[0]]
        ((column, _),) = entry.keys.flat_map.items()
        key = f"{entry.prefix}.flat_map"
        array = self._compile(key, entry.keys.flat_map, stream.columns, each=True)
        if not array.types[column].may_be(ColumnType.ARRAY):
            text = f"'{array.expressions[column].text}' is of type {array.types[column]}, not an array"
            raise _PlanError(Finding("stream.wrong_type", text, f"{key}.{column}"))
        made = StreamInfo(stream.columns.with_columns({column: ColumnType.ANY}), stream.topics, stream.keyed_by)
        self._add(entry.name, sources, FlatMap(array, column, StepPlace(entry.name, key)), {"": made})

    def _merge(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        streams = [self._streams[name] for name in sources]
        columns = streams[0].columns
        for stream in streams[1:]:
            columns = columns.merged(stream.columns)
        topics = tuple(dict.fromkeys(topic for stream in streams for topic in stream.topics))
        keyed = streams[0].keyed_by if len({stream.keyed_by for stream in streams}) == 1 else None
        self._add(entry.name, sources, Merge(), {"": StreamInfo(columns, topics, keyed)})

    def _key_by(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        stream = self._streams[sources[0]]
        key = f"{entry.prefix}.key_by"
        groups = self._groups(key, entry.keys.key_by or "", stream.columns)
        # The records are still in their old partitions: what groups by this key is repartitioned.
        made = StreamInfo(stream.columns, stream.topics)
        self._add(entry.name, sources, KeyBy(groups, StepPlace(entry.name, key)), {"": made})

    def _call(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        key = f"{entry.prefix}.call"
        path = entry.keys.call or ""
        function = self._function(key, path)
        stream = self._streams[sources[0]]
        operator = Call(function, path, entry.keys.batch, StepPlace(entry.name, key))
        self._add(entry.name, sources, operator, {"": StreamInfo(Columns(), stream.topics)})

    def _function(self, key: str, path: str) -> Callable[[Any], Any]:
        module, _, name = path.partition(":")
        if not module or not name:
            raise _PlanError(Finding("stream.function", f"'{path}' is not module:function", key))
        try:
            found = getattr(importlib.import_module(module), name, None)
        except Exception as error:  # whatever the user's module raises while it is imported
            text = f"module '{module}' cannot be imported: {type(error).__name__}: {error}"
            hint = "install it, or set PYTHONPATH to its folder"
            raise _PlanError(Finding("stream.function", text, key, hint)) from error
        if not callable(found):
            raise _PlanError(Finding("stream.function", f"module '{module}' has no function '{name}'", key))
        return found  # type: ignore[no-any-return]

    def _window(self, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
        keys, findings = read_window(entry.prefix, entry.keys.window)
        self.findings += findings
        if keys is None:
            raise _PlanError()
        prefix = f"{entry.prefix}.window"
        stream = self._streams[sources[0]]
        groups = self._groups(f"{prefix}.by", keys.by, stream.columns)
        aggregates: list[Aggregate] = []
        arguments: dict[str, Expression] = {}
        if not keys.aggregate:
            raise _PlanError(
                Finding(
                    "config.missing_key", f"step '{entry.name}' has no aggregates", prefix, "add aggregate.<column>"
                )
            )
        for name, text in keys.aggregate.items():
            key = f"{prefix}.aggregate.{name}"
            with self._about(key):
                if name in groups.expressions or name in WINDOW_COLUMNS:
                    raise ExpressionError(f"column '{name}' exists already", code="config.duplicate_name")
                aggregate = parse_aggregate(name, text)
            aggregates.append(aggregate)
            if aggregate.argument is not None:
                arguments[name] = aggregate.argument
        values = self._compiled(f"{prefix}.aggregate", arguments, stream.columns, each=True)
        for aggregate in aggregates:
            if aggregate.function.numeric and not values.types[aggregate.name].may_be(
                ColumnType.INTEGER, ColumnType.DOUBLE, ColumnType.DECIMAL
            ):
                text = f"'{aggregate.text}' needs a number, and its argument is of type {values.types[aggregate.name]}"
                raise _PlanError(Finding("stream.wrong_type", text, f"{prefix}.aggregate.{aggregate.name}"))
        place = StepPlace(entry.name, prefix)
        operator = TumblingWindow(groups, values, tuple(aggregates), keys.tumbling, keys.grace, keys.emit, place)
        source, followed = self._partitioned(entry.name, sources[0], stream, groups)
        types: dict[str, ColumnType | Columns] = dict(groups.types)
        types |= dict.fromkeys(WINDOW_COLUMNS, ColumnType.INTEGER)
        for aggregate in aggregates:
            known = values.types.get(aggregate.name, ColumnType.ANY)
            types[aggregate.name] = aggregate.type if aggregate.type is not ColumnType.ANY else known
        result = StreamInfo(Columns(types, complete=True), (followed,), tuple(groups.expressions))
        late = StreamInfo(stream.columns, (followed,), tuple(groups.expressions))
        self._followed.append((entry.name, followed))
        self._add(entry.name, (source,), operator, {"": result, "late": late})

    def _partitioned(self, step: str, source: str, stream: StreamInfo, groups: Projection) -> tuple[str, str]:
        """Return the stream to read so that all records of a group are in one partition, and its topic."""
        columns = tuple(item.column or "" for item in groups.expressions.values())
        if len(stream.topics) == 1 and stream.keyed_by == columns:
            return source, stream.topics[0]
        topic, name = f"{self._application}-{step}-repartition", f"{step}-repartition"
        keyed = PlannedStep(name, (source,), KeyBy(groups, StepPlace(step, f"steps.{step}.window.by")))
        self._repartitions.append(Repartition(topic, name, keyed, stream.topics))
        return name, topic

    # Expressions

    def _groups(self, key: str, text: str, columns: Columns) -> Projection:
        """Compile a list of expressions; each has a name: that of its column, or its alias."""
        try:
            query = sqlglot.parse_one(f"SELECT {text}")
        except SqlglotError as error:
            raise _PlanError(Finding("stream.syntax", f"'{text}' is not a list of expressions", key)) from error
        if not isinstance(query, exp.Select) or any(query.args[name] for name in query.args if name != "expressions"):
            raise _PlanError(Finding("stream.syntax", f"'{text}' is not a list of expressions", key))
        named: dict[str, Expression] = {}
        for node in query.expressions:
            if not node.alias_or_name:
                hint = f"write {node.sql()} AS <name>"
                raise _PlanError(Finding("stream.syntax", f"'{node.sql()}' has no name", key, hint))
            inner = node.this if isinstance(node, exp.Alias) else node
            named[node.alias_or_name] = Expression(inner.sql(), inner)
        return self._compiled(key, named, columns)

    def _parse(self, key: str, text: str) -> Expression:
        with self._about(key):
            return parse_expression(text)

    def _compile(self, key: str, texts: Mapping[str, str], columns: Columns, *, each: bool = False) -> Projection:
        """Compile expressions. ``each``: the configuration key of each is ``key.<name>``."""
        parsed = {name: self._parse(f"{key}.{name}" if each else key, text) for name, text in texts.items()}
        return self._compiled(key, parsed, columns, each=each)

    def _compiled(
        self, key: str, parsed: Mapping[str, Expression], columns: Columns, *, each: bool = False
    ) -> Projection:
        failed = False
        for name, expression in parsed.items():  # one by one, so that each problem is reported at its line
            try:
                compile_expressions({name: expression}, columns)
            except ExpressionError as error:
                self._report(error.code, error.message, f"{key}.{name}" if each else key, error.hint)
                failed = True
        if failed:
            raise _PlanError()
        return compile_expressions(parsed, columns)

    def _require_boolean(self, key: str, conditions: Projection) -> None:
        for name, kind in conditions.types.items():
            if not kind.may_be(ColumnType.BOOLEAN):
                text = f"'{conditions.expressions[name].text}' is of type {kind}, not a condition"
                place = key if name == "filter" else f"{key}.{name}"
                raise _PlanError(Finding("stream.wrong_type", text, place, "write a comparison"))

    def _declared(self, key: str, texts: Mapping[str, str]) -> Columns:
        types: dict[str, ColumnType | Columns] = {}
        for name, text in texts.items():
            kind = DECLARABLE.get(text.strip().lower())
            if kind is None:
                hint = nearest(text, DECLARABLE) or f"types: {', '.join(DECLARABLE)}"
                self._report("config.invalid_value", f"unknown type '{text}'", f"{key}.{name}", hint)
            types[name] = kind or ColumnType.ANY
        return Columns(types, complete=bool(texts))

    # Findings

    def _about(self, key: str) -> _ReportedAt:
        return _ReportedAt(key)

    def _guarded(self, entry: NamedKeys[Any], make: Callable[[], object]) -> None:
        try:
            make()
        except _PlanError as error:
            self.findings += error.findings
            self._failed.add(entry.name)

    def _report_unknown_stream(self, key: str, name: str, *, later: bool = False) -> None:
        hint = nearest(name, self._streams) or f"there are: {', '.join(self._streams) or 'none'}"
        if later:
            hint = "it is defined below: move it before the step that reads it"
        self._report("stream.unknown_stream", f"unknown stream '{name}'", key, hint)

    def _report(self, code: str, message: str, key: str, hint: str = "", severity: str = "error") -> None:
        self.findings.append(Finding(code, message, key, hint, severity=severity))


class _PlanError(Exception):
    """A part of the plan cannot be made. Without findings: they are reported already."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__(*findings)
        self.findings = findings


class _ReportedAt:
    """Turns an ExpressionError inside of the block into a finding about a key."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ExpressionError):
            raise _PlanError(Finding(error.code, error.message, self._key, error.hint)) from error


_OPERATIONS: dict[str, Callable[[Planner, NamedKeys[StepKeys], tuple[str, ...]], None]] = {
    "filter": Planner._filter,
    "select": Planner._select,
    "add": Planner._add_columns,
    "lookup": Planner._lookup,
    "branch": Planner._branch,
    "flat_map": Planner._flat_map,
    "merge": Planner._merge,
    "key_by": Planner._key_by,
    "call": Planner._call,
    "window": Planner._window,
}


def make_plan(application: str, keys: ApplicationKeys) -> tuple[Plan, list[Finding]]:
    """Return the plan and all findings; with errors among them, the plan is not complete."""
    planner = Planner(application, keys)
    plan = planner.plan()
    return plan, planner.findings
