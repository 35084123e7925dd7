"""Selects a candidate for each request, by the version of the experiment that the request's unit has.

A selection has everything that is needed to compute it again: the traffic and the models by their numbers, the columns
that the models read, the seed, and the exact probability with which the candidate is selected. Equal requests, tables
and models give equal selections, byte by byte.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import orjson

from headrace import Segments
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.features import level_of
from headrace_streams.exploration.traffic import bucket_of
from headrace_streams.expressions import Projection
from headrace_streams.operators.decided_requests import (
    DECISION,
    UnusableDecisionError,
    decision_of,
    without_decisions,
)
from headrace_streams.operators.followed_experiment import KnownModels, traffic_at
from headrace_streams.operators.operator import Operator, StepPlace, StepRefusal, StepResult, Tables
from headrace_streams.operators.selector import Candidates, SelectionRequest, Selector
from headrace_streams.operators.stateless import evaluate
from headrace_streams.rows import Rows

Offered = list[tuple[str, dict[str, Any]]]
"""Ids and rows of the table of candidates, in the order of the ids."""


@dataclass(frozen=True)
class Pick(Operator):
    """One selection for each request that has candidates; the others are in the stream ``none``."""

    experiment: Experiment
    table: str
    """The global table of candidates; its key is the id."""
    fixed: Projection | None
    """The conditions on the candidate alone, which are evaluated once for a batch."""
    condition: Projection | None
    """The other conditions, over the request with the candidate as a column."""
    most: int
    with_candidates: bool
    with_propensities: bool
    models_table: str
    log_table: str
    place: StepPlace
    known: KnownModels = field(default_factory=KnownModels, compare=False)

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        return self.select(rows, tables, self.offered(tables[self.table]))

    def select(self, rows: Rows, tables: Tables, offer: tuple[Offered, int]) -> StepResult:
        """Select among what :meth:`offered` has returned for the table of candidates."""
        experiment = self.experiment
        offered, failed = offer
        models = self.known.at_head(experiment, tables[self.models_table])
        traffic = traffic_at(experiment, tables[self.log_table].get(experiment.name))
        refusals: list[StepRefusal] = []
        requests: list[SelectionRequest] = []
        empty: list[int] = []
        values: dict[int, dict[str, Any]] = {}
        for row, value in enumerate(rows.values):
            request, unit = value.get(experiment.request), value.get(experiment.unit)
            if absent := [
                name
                for name, found in ((experiment.request, request), (experiment.unit, unit))
                if found is None or isinstance(found, (list, dict, float))
            ]:
                text = f"a request needs a text or an integer in column '{absent[0]}'"
                refusals.append(self.place.refusal(rows.origins[row], absent[0], text, "experiment.request"))
                continue
            if rows.headers is not None:
                try:
                    decision = decision_of(rows.headers[row], experiment.name, level_of(request), level_of(unit))
                except UnusableDecisionError as error:
                    refusals.append(self.place.refusal(rows.origins[row], DECISION, str(error), "experiment.decision"))
                    continue
                if decision is not None:
                    if decision["selected"] is None:
                        empty.append(row)
                    else:
                        values[row] = decision
                    continue
            bucket = bucket_of(experiment.salt, level_of(unit))
            candidates, refused = self._candidates(value, rows.origins[row], offered)
            refusals += refused
            if candidates:
                columns, missing = self.columns_of(value, candidates)
                assigned = traffic.allocation.version_of(bucket)
                requests.append(
                    SelectionRequest(row, level_of(request), level_of(unit), bucket, assigned, columns, missing)
                )
            elif not refused:
                empty.append(row)
        if refusals:  # the records are refused, and the framework processes the batch without them
            return StepResult({"": rows.only([])}, refusals)
        decided = len(values)
        selector = Selector(experiment, self.with_candidates, self.with_propensities)
        for version in dict.fromkeys(item.assigned for item in requests):
            mine = [item for item in requests if item.assigned == version]
            for item, value in zip(mine, selector.select(version, mine, models, traffic), strict=True):
                values[item.row] = {**value, "traffic": traffic.number, "selected_at": rows.times[item.row]}
        order = sorted(values)
        made = rows.only(order).with_values([values[row] for row in order])
        made = Rows(
            [rows.values[row][experiment.request] for row in order],
            made.values,
            made.times,
            made.origins,
            without_decisions(made.headers),
        )
        counts = {
            "degraded": sum("degraded" in value for value in values.values()),
            "incomplete": sum(bool(value["missing"]) for value in values.values()),
            "unusable_candidates": failed,
            "decided": decided,
        }
        return StepResult({"": made, "none": rows.only(empty)}, counts=counts)

    def offered(self, table: Mapping[Any, Any]) -> tuple[Offered, int]:
        """Return the candidates that fulfil the conditions on the candidate alone, by id, and how many have none:
        a row whose condition cannot be evaluated is no candidate."""
        everything = sorted(((level_of(key), row) for key, row in table.items()), key=lambda item: item[0])
        if self.fixed is None or not everything:
            return everything, 0
        name = self.experiment.candidate
        values, refused = self.fixed.evaluate([{name: row} for _, row in everything])
        bad = {item.row for item in refused}
        good = [item for number, item in enumerate(everything) if number not in bad]
        return [item for item, kept in zip(good, values, strict=True) if all(part is True for part in kept)], len(bad)

    def _candidates(self, value: dict[str, Any], origin: int, offered: Offered) -> tuple[Offered, list[StepRefusal]]:
        found = offered
        if self.condition is not None and offered:
            name = self.experiment.candidate
            rows = Rows(
                [None] * len(offered),
                [{**value, name: row} for _, row in offered],
                [0] * len(offered),
                [origin] * len(offered),
            )
            _, values, refusals = evaluate(self.condition, rows, self.place)
            if refusals:
                return [], refusals[:1]
            found = [item for item, kept in zip(offered, values, strict=True) if all(part is True for part in kept)]
        if len(found) > self.most:
            request = level_of(value.get(self.experiment.request))
            found = sorted(sorted(found, key=lambda item: _lottery(request, item[0]))[: self.most], key=lambda c: c[0])
        return found, []

    def columns_of(self, value: dict[str, Any], candidates: Offered) -> tuple[Candidates, list[str]]:
        """Return the rows of the models, and the columns without a value in the request or in any candidate."""
        experiment = self.experiment
        missing: dict[str, None] = {}
        shared: dict[str, Any] = {}
        own: list[tuple[str, list[str]]] = []
        for column in experiment.columns:
            if not experiment.of_candidate(column):
                shared[column] = _plain(_at(value, column.split(".")))
                if column in experiment.numbers:
                    shared[column] = as_number(shared[column])
                if shared[column] is None:
                    missing[column] = None
            elif column != experiment.candidate:
                own.append((column, column.split(".")[1:]))
        made: Candidates = []
        for key, row in candidates:
            columns = {experiment.candidate: key, **shared}
            for column, path in own:
                found = _plain(_at(row, path))
                columns[column] = found = as_number(found) if column in experiment.numbers else found
                if found is None:
                    missing[column] = None
            made.append((key, columns))
        return made, list(missing)

    def describe(self) -> str:
        return f"pick from {self.table} by experiment {self.experiment.name}, at most {self.most} candidates"


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, so that learning from the record sees the bits that were predicted with. Null, NaN
    and infinities are missing values."""
    kind = value.__class__
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if -(1 << 53) <= value <= 1 << 53 else str(value)
    if isinstance(value, (float, Decimal)):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, (list, dict)):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()
    return str(value)


def as_number(value: Any) -> Any:
    """A number feature that holds something else is missing, too: one bad row must not stop all selections."""
    return value if value.__class__ in (int, float) else None


def _lottery(request: str, candidate: str) -> bytes:
    return hashlib.blake2b(f"{request}\x1f{candidate}".encode(), digest_size=8).digest()
