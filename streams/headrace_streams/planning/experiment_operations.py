"""Plans the steps of experiments: ``pick`` and ``learn``. Only applications with experiments import this module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sqlglot import exp

from headrace import ConfigError, ConfigModel, Finding, nearest
from headrace_streams.configuration import NamedKeys, StepKeys, read_operation
from headrace_streams.experiment_configuration import LearnKeys, PickKeys
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.expressions import Columns, Expression, Projection
from headrace_streams.operators.interval_join import IntervalJoin
from headrace_streams.operators.join_records import LEFT
from headrace_streams.operators.learn import LABEL, LATE, SELECTION, Learn, ToLearning
from headrace_streams.operators.operator import StepPlace
from headrace_streams.operators.pick import Pick
from headrace_streams.operators.stateless import Merge
from headrace_streams.plan import PlannedOutput, PlannedStep, PlannedTable, Repartition
from headrace_streams.planning.builder import PlanBuilder, PlanError, StreamInfo

K = TypeVar("K", bound=ConfigModel)

# Event times may be old, and Kafka deletes by them.
_LOG = {"cleanup.policy": "delete", "retention.ms": "-1"}
_MODELS = {"cleanup.policy": "compact"}


def plan_pick(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    keys = _keys(builder, entry, "pick", PickKeys)
    prefix = f"{entry.prefix}.pick"
    experiment = _experiment(builder, prefix, keys.experiment)
    if keys.candidates not in builder.tables:
        if keys.candidates in builder.failed:
            raise PlanError()
        hint = nearest(keys.candidates, builder.tables) or f"there are: {', '.join(builder.tables) or 'no tables'}"
        text = f"unknown table '{keys.candidates}'"
        raise PlanError(Finding("stream.unknown_table", text, f"{prefix}.candidates", hint))
    stream, table = builder.streams[sources[0]], builder.tables[keys.candidates]
    if table.partitioned:
        text = f"table '{keys.candidates}' is partitioned, and a request needs the candidates of all partitions"
        raise PlanError(Finding("config.conflict", text, f"{prefix}.candidates", "use a global table"))
    _check_columns(prefix, experiment, stream.columns, table.columns)
    fixed, condition = _conditions(builder, f"{prefix}.where", keys.where, experiment, stream.columns, table.columns)
    models, log = _follow(builder, experiment)
    operator = Pick(
        experiment,
        keys.candidates,
        fixed,
        condition,
        keys.most,
        keys.with_candidates,
        keys.with_propensities,
        models,
        log,
        StepPlace(entry.name, prefix),
    )
    streams = {"": StreamInfo(Columns(), stream.topics), "none": stream}
    builder.add_step(entry.name, sources, operator, streams)


def plan_learn(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    keys = _keys(builder, entry, "learn", LearnKeys)
    prefix = f"{entry.prefix}.learn"
    experiment = _experiment(builder, prefix, keys.experiment)
    join, selections = _labels(builder, entry, sources[0], experiment)
    if any(isinstance(step.operator, Learn) and step.operator.experiment is experiment for step in builder.steps):
        text = f"experiment '{experiment.name}' is learned by two steps"
        raise PlanError(Finding("config.conflict", text, prefix, "remove one of them"))
    given = {SELECTION: selections, LABEL: sources[0], LATE: f"{sources[0]}.late"}
    builder.used |= set(given.values()) | {entry.name}
    for kind, source in given.items():
        operator = ToLearning(
            kind, experiment.name, join.column, StepPlace(entry.name, prefix), experiment.rules.metric
        )
        builder.steps.append(PlannedStep(f"{entry.name}.{kind}", (source,), operator))
    # One partition has all records of an experiment: their order is what learning depends on.
    source, topic = f"{entry.name}-repartition", f"{builder.application}-{entry.name}-repartition"
    keyed = PlannedStep(source, tuple(f"{entry.name}.{kind}" for kind in given), Merge())
    topics = tuple(dict.fromkeys(topic for name in given.values() for topic in builder.streams[name].topics))
    builder.repartitions.append(Repartition(topic, source, keyed, topics))
    builder.followed.append((entry.name, topic))
    _, log = _follow(builder, experiment)
    made = StreamInfo(Columns(), (topic,))
    streams = dict.fromkeys(("", "counts", "transitions", "models"), made)
    builder.add_step(entry.name, (source,), Learn(experiment, log), streams)
    builder.outputs.append(PlannedOutput(experiment.models_topic, f"{entry.name}.models"))
    builder.outputs.append(PlannedOutput(experiment.log_topic, f"{entry.name}.transitions"))


def _keys(builder: PlanBuilder, entry: NamedKeys[StepKeys], operation: str, model: type[K]) -> K:
    try:
        keys, warnings = read_operation(entry.prefix, operation, getattr(entry.keys, operation), model)
    except ConfigError as error:
        raise PlanError(*error.findings) from error
    builder.findings += warnings
    return keys


def _experiment(builder: PlanBuilder, prefix: str, name: str) -> Experiment:
    found: Experiment | None = builder.experiments.get(name)
    if found is None:
        if "experiments" in builder.failed:
            raise PlanError()
        hint = nearest(name, builder.experiments) or f"there are: {', '.join(builder.experiments)}"
        text = f"unknown experiment '{name}'"
        raise PlanError(Finding("experiment.unknown", text, f"{prefix}.experiment", hint))
    return found


def _follow(builder: PlanBuilder, experiment: Experiment) -> tuple[str, str]:
    """Return the names of the tables of the models and of the log. No name of the user has a colon."""
    models, log = f"experiment:{experiment.name}:models", f"experiment:{experiment.log_topic}"
    builder.tables[models] = PlannedTable(models, experiment.models_topic, Columns(), None)
    builder.tables[log] = PlannedTable(log, experiment.log_topic, Columns(), None)
    builder.shared[experiment.models_topic] = _MODELS
    builder.shared[experiment.log_topic] = _LOG
    return models, log


def _labels(
    builder: PlanBuilder, entry: NamedKeys[StepKeys], labels: str, experiment: Experiment
) -> tuple[IntervalJoin, str]:
    """Return the join that makes the labels, and the stream of selections on its left side."""
    steps = {step.name: step for step in builder.steps}
    join = steps[labels].operator if labels in steps else None
    if not isinstance(join, IntervalJoin) or join.kind != "left":
        text = f"step '{entry.name}' learns from '{labels}', which is no left join: a selection needs exactly one label"
        hint = "join the selections with their conversions (type: left) in a step before"
        raise PlanError(Finding("experiment.labels", text, f"{entry.prefix}.from", hint))
    if join.after != experiment.within:
        text = (
            f"step '{labels}' waits {join.after} ms for conversions, and the objective of experiment "
            f"'{experiment.name}' counts them for {experiment.within} ms"
        )
        key = f"experiments.{experiment.name}.objective.within"
        raise PlanError(Finding("experiment.labels", text, key, f"set both to the same time as steps.{labels}.join"))
    (source,) = steps[f"{labels}.{LEFT}"].sources
    through = {item.stream: item.source.sources[0] for item in builder.repartitions}
    return join, through.get(source, source)


def _check_columns(prefix: str, experiment: Experiment, request: Columns, candidate: Columns) -> None:
    """Raise PlanError for a column that cannot exist, because all columns are declared."""
    needed = [experiment.unit, experiment.request, *(c for c in experiment.columns if c != experiment.candidate)]
    for column in needed:
        own = experiment.of_candidate(column)
        first = column.split(".")[1 if own else 0]
        known = candidate if own else request
        if known.complete and first not in known.types:
            hint = nearest(first, known.types) or f"there are: {', '.join(known.types)}"
            text = f"experiment '{experiment.name}' needs column '{column}', which does not exist"
            raise PlanError(Finding("stream.unknown_column", text, prefix, hint))
    if experiment.candidate in request.types:
        text = f"column '{experiment.candidate}' of the request has the name of the candidates"
        raise PlanError(Finding("config.duplicate_name", text, prefix, "rename 'candidate' of the experiment"))


def _conditions(
    builder: PlanBuilder, place: str, text: str | None, experiment: Experiment, request: Columns, candidate: Columns
) -> tuple[Projection | None, Projection | None]:
    """Return the parts of a condition that depend on the candidate alone, and the others."""
    if text is None:
        return None, None
    name = experiment.candidate
    columns = request.with_columns({name: candidate})
    builder.require_boolean(place, builder.compile(place, {"filter": text}, columns))
    node = builder.parse(place, text).node
    parts = list(node.flatten()) if isinstance(node, exp.And) else [node]
    fixed = [part for part in parts if _first_names(part) <= {name}]
    rest = [part for part in parts if part not in fixed]
    return _compiled(builder, place, fixed, columns), _compiled(builder, place, rest, columns)


def _compiled(builder: PlanBuilder, place: str, parts: Sequence[exp.Expr], columns: Columns) -> Projection | None:
    if not parts:
        return None
    named = {f"part{number}": Expression(part.sql(), part) for number, part in enumerate(parts)}
    return builder.compiled(place, named, columns)


def _first_names(node: exp.Expr) -> set[str]:
    return {column.parts[0].name for column in node.find_all(exp.Column)}
