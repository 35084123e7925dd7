"""The task of a stream application: runs the plan over batches."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace import (
    Changes,
    ConfigError,
    DataError,
    RefusedResult,
    Rejection,
    Segments,
    SinkBatch,
    StepCounts,
    StreamContext,
    StreamDecision,
    StreamOutput,
    StreamResult,
    StreamTask,
    StreamTopology,
    TopicPartition,
    WorkerEvent,
)
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.event_times import event_times
from headrace_streams.expressions import ExpressionError
from headrace_streams.expressions.functions import epoch_milliseconds
from headrace_streams.function_watchdog import FunctionWatchdog
from headrace_streams.operators.call import Call
from headrace_streams.operators.grouping import TIME_SEGMENT
from headrace_streams.operators.join_records import LEFT, RIGHT
from headrace_streams.operators.operator import StepPlace, StepRefusal
from headrace_streams.operators.stateless import evaluate
from headrace_streams.operators.table_rows import scalar_key
from headrace_streams.plan import Plan, PlannedInput, PlannedOutput, PlannedStep, PlannedTable, Repartition
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows, merge
from headrace_streams.window_results import MadeResult, WindowResults, result_details, without

if TYPE_CHECKING:
    from headrace_streams.request_decider import RequestDecider

_STORED_AFTER = 1_000
"""Milliseconds by which the time of a silent partition must have advanced before that alone is stored."""


class _Target(NamedTuple):
    """A topic to which a stream is written; ``details``: of records that cannot be written."""

    topic: str
    stream: str
    details: Mapping[str, str]


class StreamApplicationTask(StreamTask):
    """Runs one plan. Holds the rows of the global tables; all other state is kept by the framework."""

    _watchdog: FunctionWatchdog | None = None
    _decider: RequestDecider | None = None

    def start(self, context: StreamContext) -> StreamTopology:
        plan, findings = make_plan(context.task.connector, ApplicationKeys.parse(context.properties))
        if any(finding.severity == "error" for finding in findings):
            raise ConfigError(findings=findings)
        self._plan = plan
        self._config_origin = context.config_origin
        calls = {step.name: step.operator for step in plan.steps if isinstance(step.operator, Call)}
        self._watchdog = FunctionWatchdog(calls, context.set_status_reason, context.log) if calls else None
        if self._watchdog is not None:
            self._watchdog.start()
        self._tables: dict[str, dict[Any, Any]] = {table.name: {} for table in plan.tables}
        self._keys: dict[str, dict[Any, Any]] = {table.name: {} for table in plan.tables if table.key_column}
        """For tables with a key column: the table's key of each record key, because tombstones have no columns."""
        self._targets = [_Target(item.topic, item.stream, self._written_at(item)) for item in plan.outputs]
        self._targets += [_Target(item.topic, item.stream, {"step": item.stream}) for item in plan.repartitions]
        self._inputs = {item.topic: item for item in plan.inputs}
        self._repartitions = {item.topic: item for item in plan.repartitions}
        self._steps = {topic: _reachable(plan, topic) for topic in (*self._inputs, *self._repartitions)}
        self._stores = {step.name: step.operator for step in plan.steps if step.operator.stateful}
        return plan.topology()

    def prepare_decisions(self) -> None:
        if self._decider is None:
            module = importlib.import_module("headrace_streams.request_decider")  # it needs numpy
            self._decider = module.RequestDecider(self._plan)
        self._decider.prepare(self._tables)

    def decide(self, request: Mapping[str, Any], moment: int, began: float) -> StreamDecision:
        assert self._decider is not None
        refusals: list[StepRefusal] = []
        rows = self._read(self._decider.source, self._decider.batch(request, moment), refusals, {})
        return self._decider.decide(rows, refusals, self._tables, moment, began)

    def stop(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stop()

    def update_table(self, batch: SinkBatch) -> Sequence[Rejection]:
        rejections = []
        for table in self._plan.tables:
            if table.topic != batch.topic_partition.topic or table.partitioned:
                continue
            for key, value, offset in zip(batch.keys, batch.values, batch.offsets, strict=True):
                try:
                    self._update_row(table, key, value)
                except DataError as error:
                    rejections.append(Rejection(batch.topic_partition, offset, error))
        return rejections

    def _update_row(self, table: PlannedTable, record_key: Any, value: Any) -> None:
        rows = self._tables[table.name]
        if self._decider is not None and table.name == self._decider.table:
            self._decider.table_changed = True
        record_key = scalar_key(record_key)
        if value is not None and not isinstance(value, dict):
            text = f"table {table.name}: the value is not an object"
            raise DataError(text, code="stream.not_an_object", hint="set value.converter so that values are objects")
        key = record_key
        if table.key_column:
            previous = self._keys[table.name].pop(record_key, None)
            if previous is not None:
                rows.pop(previous, None)
            if value is None:
                return
            key = value.get(table.key_column)
            self._keys[table.name][record_key] = key
        if key is None or isinstance(key, (list, dict)):
            raise DataError(f"table {table.name}: the key is not a scalar", code="stream.table_key")
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value

    def process(self, batch: SinkBatch, state: Mapping[str, Segments]) -> StreamResult:
        topic = batch.topic_partition.topic
        source = self._inputs.get(topic)
        refusals: list[StepRefusal] = []
        steps: dict[str, StepCounts] = {}
        if source is None:
            name = self._repartitions[topic].stream
            rows = Rows(batch.keys, list(batch.values), batch.timestamps, batch.offsets, _headers(batch))
        else:
            name = source.name
            rows = self._read(source, batch, refusals, steps)
        return self._run(batch.topic_partition, {name: rows}, state, refusals, steps, None)

    def event_times(self, batch: SinkBatch) -> Sequence[int]:
        source = self._inputs.get(batch.topic_partition.topic)
        if source is None or source.time is None:
            return batch.timestamps
        return event_times(source.time, batch)

    def advance(self, topic_partition: TopicPartition, silent: int, state: Mapping[str, Segments]) -> StreamResult:
        return self._run(topic_partition, {}, state, [], {}, silent)

    def accounts(self, store: str, state: Segments) -> Mapping[str, Mapping[str, int]]:
        accounts = self._stores[store].accounts(state)
        return {f"{store}.{suffix}" if suffix else store: account for suffix, account in accounts.items()}

    def open_records(self, store: str, state: Segments) -> Mapping[str, int]:
        counts = self._stores[store].open_records(state)
        return {f"{store}.{suffix}" if suffix else store: count for suffix, count in counts.items()}

    def shown_state(self, store: str, key: Any, state: Mapping[int, Mapping[Any, Any]]) -> list[Mapping[str, Any]]:
        # The times of a partition have keys, too, and are of no group.
        held = {segment: entries for segment, entries in state.items() if segment != TIME_SEGMENT}
        step = next(item for item in self._plan.steps if item.operator.stateful and item.store == store)
        return list(step.operator.shown_state(key, held))

    def _run(
        self,
        place: TopicPartition,
        streams: dict[str, Rows],
        state: Mapping[str, Segments],
        refusals: list[StepRefusal],
        steps: dict[str, StepCounts],
        silent: int | None,
    ) -> StreamResult:
        """Run the steps that a topic reaches. ``silent``: without records, for so many milliseconds."""
        changes: dict[str, Changes] = {}
        outputs: list[StreamOutput] = []
        results = WindowResults()
        refused_results: list[RefusedResult] = []
        events: list[WorkerEvent] = []
        worthwhile = False
        for step in self._steps[place.topic]:
            given = [streams[item] for item in step.sources if item in streams and len(streams[item])]
            operator = step.operator
            stored = state[step.store] if operator.stateful else {}
            if given:
                merged = merge(given)
                result = operator.process(merged, self._tables, stored)
                while refused := [item for item in result.refusals if item.origin < 0 and item.result is None]:
                    # Several records made the row, so none of them is refused for it: the step runs without the row.
                    refused_results += [self._refused_result(item, results) for item in refused]
                    rest = without(merged, (item.origin for item in refused))
                    result = operator.process(rest, self._tables, stored)
                steps[step.name] = StepCounts(len(merged), result.dropped, result.late, result.counts)
            elif silent is not None and operator.stateful:
                result = operator.advance_time(silent, self._sides(place.topic, step.name), stored)
                steps[step.name] = StepCounts(0, result.dropped, result.late, result.counts)
                # Time alone is stored now and then only: it would be a transaction for each partition without records.
                stored_alone = len(result.changes) == 1 and silent < max(_STORED_AFTER, operator.span() // 64)
                has_results = any(map(len, result.streams.values()))
                worthwhile |= bool(result.changes) and (has_results or not stored_alone)
            else:
                continue
            for item in result.refusals:
                if item.result is None:
                    refusals.append(item)
                else:
                    refused_results.append(self._refused_result(item, results, step.name))
            events += result.events
            if result.changes:
                changes[step.store] = result.changes
            for suffix, made in result.streams.items():
                rows = results.numbered(step.name, made) if operator.stateful else made
                streams[f"{step.name}.{suffix}" if suffix else step.name] = rows
        if silent is not None and not worthwhile:
            return StreamResult()
        rejections = [self._rejection(place, item) for item in refusals]
        if rejections:
            return StreamResult(rejections=rejections)
        for target, stream, details in self._targets:
            written = streams.get(stream)
            # The stream of a repartition topic is written by batches of other topics, and read from its own batches.
            if written is not None and len(written) and target != place.topic:
                columns = (written.keys, written.values, written.times, written.origins, written.headers)
                outputs.append(StreamOutput(target, *columns, details, results.details_of))
        return StreamResult(outputs, changes, [], steps, refused_results, events)

    def _written_at(self, output: PlannedOutput) -> Mapping[str, str]:
        """Return what dead letters say about records that cannot be written to an output."""
        if not output.key:
            return {"step": output.stream}
        return {"step": output.stream, "key": output.key, "location": self._config_origin(output.key)}

    def _sides(self, topic: str, join: str) -> list[str]:
        """Return the sides of a join that a topic feeds."""
        reached = {step.name for step in self._steps[topic]}
        return [side for side in (LEFT, RIGHT) if f"{join}.{side}" in reached]

    def _read(
        self, source: PlannedInput, batch: SinkBatch, refusals: list[StepRefusal], steps: dict[str, StepCounts]
    ) -> Rows:
        place = StepPlace(source.name, source.key)
        rows = Rows(batch.keys, list(batch.values), batch.timestamps, batch.offsets, _headers(batch))
        if source.is_table:
            return rows  # their order is that of event time already, and their steps check them
        kinds = {value.__class__ for value in rows.values}
        if kinds != {dict}:
            nulls = sum(value is None for value in rows.values)
            if nulls:
                steps[source.name] = StepCounts(len(rows), dropped=nulls)
            for value, offset in zip(rows.values, rows.origins, strict=True):
                if value is not None and not isinstance(value, dict):
                    text = "the value is not an object"
                    refusals.append(place.refusal(offset, "value", text, "stream.not_an_object"))
            rows = rows.only([n for n, value in enumerate(rows.values) if isinstance(value, dict)])
        if source.key_column is not None and len(rows):
            rows = _with_key_column(source.key_column, rows, place, refusals)
        if source.time is not None:
            rows, values, refused = evaluate(source.time, rows, place)
            refusals += refused
            rows = _with_times(rows, [value for (value,) in values], source, place, refusals)
        return rows

    def _rejection(self, place: TopicPartition, refusal: StepRefusal) -> Rejection:
        return Rejection(place, refusal.origin, self._located(refusal.error))

    def _refused_result(self, refusal: StepRefusal, results: WindowResults, step: str = "") -> RefusedResult:
        """Return the refusal of a result. ``step``: that could not make it."""
        made = MadeResult(step, *refusal.result) if refusal.result is not None else results.of(refusal.origin)
        return RefusedResult(self._located(refusal.error, made), made.key, made.value, made.time)

    def _located(self, error: DataError, result: MadeResult | None = None) -> DataError:
        """Return the error with the place of its expression in the file. ``result``: that was refused."""
        key, part = self._plan.written_at(error.details["key"])
        location = f"{self._config_origin(key)}{f', {part}' if part else ''}"
        message, details = error.message, {**error.details, "key": key, "location": location}
        if result is not None:  # there is no record whose letter or offset could be named instead
            message, details = f"{message} ({location})", {**details, **result_details(result)}
        located = DataError(message, code=error.code, hint=error.hint, details=details)
        located.__cause__ = error.__cause__
        return located


def _headers(batch: SinkBatch) -> list[Any] | None:
    return batch.headers if any(batch.headers) else None


def _with_key_column(column: str, rows: Rows, place: StepPlace, refusals: list[StepRefusal]) -> Rows:
    """Return the rows whose key is the configured column; refuse the others, whose state is in another partition."""
    keys = [next(iter(key.values())) if isinstance(key, dict) and len(key) == 1 else key for key in rows.keys]
    if keys == [value.get(column) for value in rows.values]:
        return rows
    good = []
    for number, key in enumerate(keys):
        if key == rows.values[number].get(column):
            good.append(number)
        else:
            text = f"the record's key is not equal to column '{column}'"
            refusals.append(place.refusal(rows.origins[number], column, text, "stream.key_column"))
    return rows.only(good)


def _with_times(
    rows: Rows, values: Sequence[Any], source: PlannedInput, place: StepPlace, refusals: list[StepRefusal]
) -> Rows:
    if {value.__class__ for value in values} <= {int}:
        return Rows(rows.keys, rows.values, list(values), rows.origins, rows.headers)
    assert source.time is not None
    expression = next(iter(source.time.expressions.values()))
    times, good = [], []
    for number, value in enumerate(values):
        try:
            times.append(epoch_milliseconds(value))
        except ExpressionError as error:
            refusals.append(place.refusal(rows.origins[number], expression.text, error, key=expression.key))
        else:
            good.append(number)
    rows = rows.only(good)
    return Rows(rows.keys, rows.values, times, rows.origins, rows.headers)


def _reachable(plan: Plan, topic: str) -> list[PlannedStep]:
    """Return the steps that records of a topic can reach, in order."""
    starts: set[str] = {item.name for item in plan.inputs if item.topic == topic}
    starts |= {item.stream for item in plan.repartitions if item.topic == topic}
    keyed = {item.source.name: item for item in plan.repartitions if item.topic != topic}
    found: list[PlannedStep] = []
    reached = set(starts)
    for step in _in_order(plan, list(keyed.values())):
        if any(source in reached or source.split(".")[0] in reached for source in step.sources):
            found.append(step)
            if step.name not in keyed:  # its records continue when they are read from the repartition topic
                reached.add(step.name)
    return found


def _in_order(plan: Plan, repartitions: Sequence[Repartition]) -> list[PlannedStep]:
    """Return the steps of the plan, and before each the one that makes the keys of its repartition topic."""
    before = {item.stream: item.source for item in repartitions}
    ordered: list[PlannedStep] = []
    for step in plan.steps:
        ordered += [before[source] for source in step.sources if source in before]
        ordered.append(step)
    return ordered
