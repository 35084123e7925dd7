"""Makes the plan of an application from its configuration, or reports everything that is wrong with it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from headrace import Finding
from headrace_streams.configuration import (
    ApplicationKeys,
    InputKeys,
    NamedKeys,
    OutputKeys,
    StepKeys,
    TableKeys,
    read_section,
)
from headrace_streams.expressions import Columns
from headrace_streams.plan import Plan, PlannedInput, PlannedOutput, PlannedTable
from headrace_streams.planning import (
    deduplicate_operations,
    join_operations,
    step_operations,
    top_operations,
    window_operations,
)
from headrace_streams.planning.builder import PlanBuilder, PlanError, StreamInfo
from headrace_streams.planning.statement_steps import TranslatedSteps, translate_steps

_NAME = re.compile(r"[A-Za-z_][\w-]*")


class Planner:
    """Reads the sections of a configuration in order."""

    def __init__(self, builder: PlanBuilder, keys: ApplicationKeys) -> None:
        self._builder = builder
        self._keys = keys
        self._table_inputs: dict[str, PlannedInput] = {}
        """The changes of partitioned tables, by table."""
        self.translated = TranslatedSteps()
        """The steps of SQL statements; complete after :meth:`plan`."""

    def plan(self) -> Plan:
        """Return the plan; complete only when there are no findings that are errors."""
        inputs = self._inputs()
        self._read_tables(inputs)
        self._read_experiments()
        self.translated = translate_steps(self._builder, self._keys.steps)
        entries = self._section("steps", self.translated.flat, StepKeys)
        previous = inputs[0].name if len(inputs) == 1 else ""
        names = [entry.name for entry in entries]
        for entry in entries:
            self._builder.guarded(entry, partial(self._step, entry, previous, names))
            previous = entry.name
        outputs = self._outputs(previous)
        self._report_unused(entries)
        tables = tuple(self._builder.tables.values())
        return Plan(
            (*inputs, *(self._table_inputs[name] for name in self._builder.partitioned_tables)),
            tables,
            tuple(self._builder.steps),
            tuple(self._builder.repartitions),
            (*outputs, *self._builder.outputs),
            tuple(self._builder.followed),
            tuple(self._builder.aligned),
            {key: (place.key, str(place)) for key, place in self.translated.places.items()},
            self._builder.shared,
        )

    # Sections

    def _section(self, section: str, flat: Mapping[str, str], model: type[Any]) -> list[NamedKeys[Any]]:
        entries, findings = read_section(section, flat, model)
        self._builder.findings += findings
        self._builder.failed |= {
            item.key.split(".")[1] for item in findings if item.severity == "error" and "." in item.key
        }
        for entry in entries:
            if section in ("inputs", "tables", "steps") and not _NAME.fullmatch(entry.name):
                text = f"'{entry.name}' is not a name: letters, digits, '_' and '-' are allowed"
                self._builder.report("config.invalid_value", text, entry.prefix, "rename it")
        return entries

    def _inputs(self) -> list[PlannedInput]:
        found: list[PlannedInput] = []
        for entry in self._section("inputs", self._keys.inputs, InputKeys):
            self._builder.guarded(entry, partial(self._input, entry, found))
        if not self._keys.inputs:
            self._builder.report(
                "config.missing_key", "the application has no inputs", "inputs", "name a topic to read"
            )
        return found

    def _input(self, entry: NamedKeys[InputKeys], found: list[PlannedInput]) -> None:
        keys = entry.keys
        topic = keys.topic or entry.name
        columns = self._builder.columns_of_topic(f"{entry.prefix}.columns", topic, keys.columns)
        time = None
        if keys.time is not None:
            time = self._builder.compile(f"{entry.prefix}.time", {"time": keys.time}, columns)
        if keys.key_column is not None:
            self._builder.require_column(f"{entry.prefix}.key", columns, keys.key_column)
        self._builder.streams[entry.name] = StreamInfo(
            columns, (topic,), (keys.key_column,) if keys.key_column else None
        )
        if any(item.topic == topic for item in found):
            hint = "read it once, and use the input in several steps"
            raise PlanError(Finding("config.conflict", f"topic '{topic}' is read by two inputs", entry.prefix, hint))
        found.append(PlannedInput(entry.name, topic, columns, time, keys.key_column, entry.prefix))

    def _read_tables(self, inputs: Iterable[PlannedInput]) -> None:
        read = {item.topic for item in inputs}
        for entry in self._section("tables", self._keys.tables, TableKeys):
            self._builder.guarded(entry, partial(self._table, entry, read))

    def _table(self, entry: NamedKeys[TableKeys], read: set[str]) -> None:
        keys = entry.keys
        topic = keys.topic or entry.name
        columns = self._builder.columns_of_topic(f"{entry.prefix}.columns", topic, keys.columns)
        if keys.key_column is not None:
            self._builder.require_column(f"{entry.prefix}.key", columns, keys.key_column)
        table = PlannedTable(entry.name, topic, columns, keys.key_column, keys.scope == "partitioned")
        time = None
        if keys.time is not None:
            if not table.partitioned:
                text = "'time' belongs to partitioned tables: changes of a global one apply when they are read"
                hint = "remove it, or set scope: partitioned"
                raise PlanError(Finding("config.conflict", text, f"{entry.prefix}.time", hint))
            time = self._builder.compile(f"{entry.prefix}.time", {"time": keys.time}, columns)
        if table.partitioned:
            if topic in read:
                text = f"topic '{topic}' is read by an input or a partitioned table already"
                hint = "look up one table in several steps, or set scope: global"
                raise PlanError(Finding("config.conflict", text, entry.prefix, hint))
            read.add(topic)
        made = PlannedInput(table.stream, topic, columns, time, None, entry.prefix, is_table=True)
        self._table_inputs[entry.name] = made
        self._builder.tables[entry.name] = table

    def _read_experiments(self) -> None:
        """Experiments need numpy and scipy, which other applications do not."""
        if not self._keys.experiments:
            return
        try:
            module = importlib.import_module("headrace_streams.planning.experiments")
        except ModuleNotFoundError as error:
            text = f"experiments need numpy and scipy: {error}"
            self._builder.report("experiment.extra", text, "experiments", "pip install 'headrace[exploration]'")
            return
        module.read_experiments(self._builder, self._keys.experiments)

    def _outputs(self, last: str) -> tuple[PlannedOutput, ...]:
        found = []
        for entry in self._section("outputs", self._keys.outputs, OutputKeys):
            source = entry.keys.source or last
            if source in self._builder.failed:
                continue
            if source not in self._builder.streams:
                self._builder.report_unknown_stream(f"{entry.prefix}.from", source)
                continue
            self._builder.used.add(source)
            found.append(PlannedOutput(entry.keys.topic or entry.name, source, entry.prefix))
        if not self._keys.outputs:
            self._builder.report(
                "config.missing_key", "the application has no outputs", "outputs", "name a topic to write"
            )
        read = {topic for stream in self._builder.streams.values() for topic in stream.topics}
        for output in found:
            if output.topic in read:
                text = f"topic '{output.topic}' is read and written: its records would be processed without end"
                self._builder.report("config.conflict", text, "outputs", "write to another topic")
        return tuple(found)

    def _report_unused(self, entries: Iterable[NamedKeys[StepKeys]]) -> None:
        for entry in entries:
            streams = {
                name for name in self._builder.streams if name == entry.name or name.startswith(f"{entry.name}.")
            }
            if streams and not streams & self._builder.used:
                text = f"step '{entry.name}' is not used: no step and no output reads it"
                self._builder.report(
                    "stream.unused", text, entry.prefix, "remove it, or add an output", severity="warning"
                )

    def _step(self, entry: NamedKeys[StepKeys], previous: str, names: list[str]) -> None:
        keys = entry.keys
        given = [name for name in StepKeys.OPERATIONS if getattr(keys, name)]
        if len(given) != 1:
            listed = " and ".join(given) if given else "none"
            text = f"step '{entry.name}' must have exactly one operation, and has {listed}"
            hint = "divide it into several steps" if given else f"operations: {', '.join(StepKeys.OPERATIONS)}"
            raise PlanError(Finding("stream.operation", text, entry.prefix, hint))
        if entry.name in self._builder.streams:
            text = f"'{entry.name}' is already the name of an input"
            raise PlanError(Finding("config.duplicate_name", text, entry.prefix, "rename the step"))
        if keys.merge:
            sources = keys.merge
            source_key = f"{entry.prefix}.merge"
        elif keys.join:
            if keys.source is not None:
                text = f"step '{entry.name}' has 'from' and a join"
                raise PlanError(Finding("config.conflict", text, f"{entry.prefix}.from", "remove it"))
            sources = tuple(keys.join[side] for side in ("left", "right") if side in keys.join)
            source_key = f"{entry.prefix}.join"
        else:
            sources = (keys.source or previous,)
            source_key = f"{entry.prefix}.from"
        for name in sources:
            if name in self._builder.failed or (
                name and name not in self._builder.streams and name.split(".")[0] in self._builder.failed
            ):
                raise PlanError()
            if name not in self._builder.streams:
                if not name:
                    text = f"step '{entry.name}' needs 'from': there are several inputs"
                    raise PlanError(Finding("config.missing_key", text, source_key, "name the stream to read"))
                self._builder.report_unknown_stream(source_key, name, later=name in names)
                raise PlanError()
        self._builder.used |= set(sources)
        _OPERATIONS[given[0]](self._builder, entry, sources)


def _plan_by_experiment(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    if not builder.experiments:
        text = f"step '{entry.name}' needs an experiment, and the application declares none"
        failed = "experiments" in builder.failed
        raise PlanError(*[] if failed else [Finding("experiment.unknown", text, entry.prefix, "declare experiments:")])
    operations = importlib.import_module("headrace_streams.planning.experiment_operations")
    (operations.plan_pick if entry.keys.pick else operations.plan_learn)(builder, entry, sources)


_OPERATIONS: dict[str, Callable[[PlanBuilder, NamedKeys[StepKeys], tuple[str, ...]], None]] = {
    "filter": step_operations.plan_filter,
    "select": step_operations.plan_select,
    "add": step_operations.plan_add_columns,
    "lookup": step_operations.plan_lookup,
    "branch": step_operations.plan_branch,
    "flat_map": step_operations.plan_flat_map,
    "merge": step_operations.plan_merge,
    "key_by": step_operations.plan_key_by,
    "call": step_operations.plan_call,
    "window": window_operations.plan_window,
    "join": join_operations.plan_join,
    "deduplicate": deduplicate_operations.plan_deduplicate,
    "top": top_operations.plan_top,
    "pick": _plan_by_experiment,
    "learn": _plan_by_experiment,
}


def make_plan(
    application: str, keys: ApplicationKeys, known: Mapping[str, Columns] | None = None
) -> tuple[Plan, list[Finding]]:
    """Return the plan and all findings; with errors among them, the plan is not complete.

    ``known``: the columns of topics, where the configuration declares none.
    """
    builder = PlanBuilder(application, known)
    planner = Planner(builder, keys)
    plan = planner.plan()
    return plan, [planner.translated.located(finding) for finding in builder.findings]
