"""Decides on single requests over HTTP: the steps between an input and the step that selects, for one record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from headrace import CommandError, ConfigError, RetriableError, SinkBatch, StreamDecision, StreamOutput, TopicPartition
from headrace_streams.exploration.features import level_of
from headrace_streams.operators.decided_requests import with_decision
from headrace_streams.operators.deduplicate import Deduplicate
from headrace_streams.operators.operator import StepRefusal, Tables
from headrace_streams.operators.pick import Offered, Pick
from headrace_streams.plan import Plan, PlannedInput, PlannedStep
from headrace_streams.rows import Rows, merge


class RequestDecider:
    """Runs the steps before the one that selects, and that one. Used by one thread at a time."""

    def __init__(self, plan: Plan) -> None:
        """Raise ConfigError when the plan has not exactly one step that selects, or steps with state before it."""
        found = [step for step in plan.steps if isinstance(step.operator, Pick)]
        if len(found) != 1:
            raise _refused(f"the application has {len(found)} steps with 'pick', and decisions need exactly one")
        self._step = found[0]
        operator = self._step.operator
        assert isinstance(operator, Pick)
        self._pick = operator
        self.source, self._path = _path(plan, self._step)
        self._offered: tuple[Offered, int] = ([], 0)
        self.table_changed = True
        """The table of candidates has changed since the last preparation."""

    @property
    def table(self) -> str:
        """The name of the table of candidates."""
        return self._pick.table

    def prepare(self, tables: Tables) -> None:
        """Follow the models, and evaluate the conditions on the candidates alone. Raise TaskError."""
        if self.table_changed:
            self._offered, self.table_changed = self._pick.offered(tables[self._pick.table]), False
        try:
            self._pick.known.at_head(self._pick.experiment, tables[self._pick.models_table])
        except RetriableError:
            return  # some of their records are still on the way

    def batch(self, request: Mapping[str, Any], moment: int) -> SinkBatch:
        """Return the request as a batch of its input."""
        topic = self.source.topic
        return SinkBatch(TopicPartition(topic, 0), topic, [0], [self._key(request)], [dict(request)], [moment], [()])

    def decide(
        self, rows: Rows, refusals: Sequence[StepRefusal], tables: Tables, moment: int, began: float
    ) -> StreamDecision:
        """Return the decision on the request in ``rows``, as read from ``batch``. Raise CommandError.

        The record has the time of the clock: Kafka deletes by it, and event times may be old.
        """
        _raise_first(refusals)
        request = rows.values[0]
        streams = {self.source.name: rows}
        for step in self._path:
            given = [streams[name] for name in step.sources if name in streams and len(streams[name])]
            if not given:
                continue
            result = step.operator.process(merge(given), tables, {})
            _raise_first(result.refusals)
            streams |= {f"{step.name}.{name}" if name else step.name: made for name, made in result.streams.items()}
        asked = [streams[name] for name in self._step.sources if name in streams and len(streams[name])]
        if not asked or len(merged := merge(asked)) != 1:
            text = f"the request does not reach step '{self._step.name}' as one record: a step before it drops it"
            raise CommandError(text, code="experiment.request", hint="send what the application selects for")
        result = self._pick.select(merged, tables, self._offered)
        _raise_first(result.refusals)
        made = result.streams[""]
        decision = {**made.values[0], "latency_ms": round((time.perf_counter() - began) * 1000, 3)} if len(made) else {}
        if not decision:
            experiment = self._pick.experiment
            decision = {
                "experiment": experiment.name,
                "request": level_of(merged.values[0][experiment.request]),
                "unit": level_of(merged.values[0][experiment.unit]),
                "selected": None,
            }
        record = StreamOutput(
            self.source.topic, [self._key(request)], [request], [moment], [-1], [with_decision(decision)]
        )
        return StreamDecision({name: part for name, part in decision.items() if name != "candidates"}, record)

    def _key(self, request: Mapping[str, Any]) -> Any:
        return request.get(self.source.key_column or self._pick.experiment.request)


def _path(plan: Plan, pick: PlannedStep) -> tuple[PlannedInput, list[PlannedStep]]:
    """Return the input of the requests, and the steps from it to the one that selects, in order."""
    inputs = {item.name: item for item in plan.inputs if not item.is_table}
    through = {item.stream: item.source for item in plan.repartitions}
    reached: list[PlannedInput] = []
    path: list[PlannedStep] = []

    def visit(stream: str) -> None:
        if stream in inputs:
            reached.append(inputs[stream])
            return
        step = through.get(stream) or _step_of(plan, stream)
        if step in path:
            return
        if step.operator.stateful and not isinstance(step.operator, Deduplicate):
            raise _refused(f"step '{step.name}' before '{pick.name}' has state, which a single request does not")
        for source in step.sources:
            visit(source)
        path.append(step)

    for source in pick.sources:
        visit(source)
    if len({item.name for item in reached}) != 1:
        raise _refused(f"the requests of '{pick.name}' come from several inputs")
    return reached[0], path


def _step_of(plan: Plan, stream: str) -> PlannedStep:
    found = [step for step in plan.steps if stream == step.name or stream.startswith(f"{step.name}.")]
    return max(found, key=lambda step: len(step.name))


def _refused(text: str) -> ConfigError:
    return ConfigError(
        f"decisions over HTTP are not possible: {text}",
        code="stream.no_decisions",
        hint="remove decide.enabled, or let 'pick' read an input with steps without state between them",
    )


def _raise_first(refusals: Sequence[StepRefusal]) -> None:
    for refusal in refusals:
        error = refusal.error
        raise CommandError(error.message, code=error.code, hint=error.hint) from error
