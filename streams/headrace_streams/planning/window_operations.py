"""Plans windows, and the repartition topics that bring the records of a group into one partition."""

from __future__ import annotations

from headrace import Finding
from headrace_streams.configuration import NamedKeys, StepKeys, WindowKeys, read_window
from headrace_streams.expressions import Columns, ColumnType, Expression, ExpressionError, Projection
from headrace_streams.operators.aggregates import FUNCTIONS, MERGEABLE_FUNCTIONS, Aggregate, parse_aggregate
from headrace_streams.operators.grouping import WINDOW_COLUMNS, Grouping
from headrace_streams.operators.operator import Operator, StepPlace
from headrace_streams.operators.session_windows import SessionWindow
from headrace_streams.operators.sliding_windows import SlidingWindow
from headrace_streams.operators.stateless import KeyBy
from headrace_streams.operators.time_windows import TimeWindow
from headrace_streams.plan import PlannedStep, Repartition
from headrace_streams.planning.builder import PlanBuilder, PlanError, StreamInfo

_KINDS = ("tumbling", "hopping", "sliding", "session")


def plan_window(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    keys, findings = read_window(entry.prefix, entry.keys.window)
    builder.findings += findings
    if keys is None:
        raise PlanError()
    prefix = f"{entry.prefix}.window"
    _check_kind(prefix, keys)
    stream = builder.streams[sources[0]]
    groups = builder.groups(f"{prefix}.by", keys.by, stream.columns)
    aggregates: list[Aggregate] = []
    arguments: dict[str, Expression] = {}
    if not keys.aggregate:
        raise PlanError(
            Finding("config.missing_key", f"step '{entry.name}' has no aggregates", prefix, "add aggregate.<column>")
        )
    functions = FUNCTIONS if keys.session is None else MERGEABLE_FUNCTIONS
    for name, text in keys.aggregate.items():
        key = f"{prefix}.aggregate.{name}"
        with builder.about(key):
            if name in groups.expressions or name in WINDOW_COLUMNS:
                raise ExpressionError(f"column '{name}' exists already", code="config.duplicate_name")
            aggregate = parse_aggregate(name, text, functions)
        aggregates.append(aggregate)
        if aggregate.argument is not None:
            arguments[name] = aggregate.argument
    values = builder.compiled(f"{prefix}.aggregate", arguments, stream.columns, each=True)
    for aggregate in aggregates:
        if aggregate.function.numeric and not values.types[aggregate.name].may_be(
            ColumnType.INTEGER, ColumnType.DOUBLE, ColumnType.DECIMAL
        ):
            text = f"'{aggregate.text}' needs a number, and its argument is of type {values.types[aggregate.name]}"
            raise PlanError(Finding("stream.wrong_type", text, f"{prefix}.aggregate.{aggregate.name}"))
    operator = _operator(keys, Grouping(groups, values, tuple(aggregates), StepPlace(entry.name, prefix)))
    source, followed = partitioned(builder, entry.name, sources[0], stream, groups, f"{prefix}.by")
    types: dict[str, ColumnType | Columns] = dict(groups.types)
    types |= dict.fromkeys(WINDOW_COLUMNS, ColumnType.INTEGER)
    for aggregate in aggregates:
        known = values.types.get(aggregate.name, ColumnType.ANY)
        types[aggregate.name] = aggregate.type if aggregate.type is not ColumnType.ANY else known
    result = StreamInfo(Columns(types, complete=True), (followed,), tuple(groups.expressions))
    late = StreamInfo(stream.columns, (followed,), key_columns(groups))
    builder.followed.append((entry.name, followed))
    builder.add_step(entry.name, (source,), operator, {"": result, "late": late})


def _check_kind(prefix: str, keys: WindowKeys) -> None:
    """Raise PlanError unless the window has one size, and what belongs to it."""
    given = [name for name in _KINDS if getattr(keys, name) is not None]
    if not given:
        text, hint = "the window has no size", f"set one of {', '.join(_KINDS)}"
        raise PlanError(Finding("config.missing_key", text, prefix, hint))
    if len(given) > 1:
        text = f"a window has one size, and this one has {' and '.join(given)}"
        raise PlanError(Finding("config.conflict", text, f"{prefix}.{given[1]}", f"remove {given[1]}"))
    if (keys.session is not None or keys.sliding is not None) and keys.emit == "change":
        kind = "sessions" if keys.session is not None else "sliding windows"
        text = f"{kind} have no results on change: a later record may change which of them there are"
        raise PlanError(Finding("config.conflict", text, f"{prefix}.emit", "remove emit"))
    key = f"{prefix}.advance"
    if keys.hopping is None:
        if keys.advance is not None:
            text, hint = "'advance' belongs to hopping windows", "write hopping: <size>, or remove advance"
            raise PlanError(Finding("config.conflict", text, key, hint))
    elif keys.advance is None:
        text, hint = "a hopping window needs 'advance'", "set the time from the start of a window to the next start"
        raise PlanError(Finding("config.missing_key", text, key, hint))
    elif keys.advance > keys.hopping:
        text = "'advance' is longer than the window: records between two windows would be in none"
        raise PlanError(Finding("config.invalid_value", text, key, "set at most the size of the window"))


def _operator(keys: WindowKeys, grouping: Grouping) -> Operator:
    if keys.session is not None:
        return SessionWindow(grouping, keys.session, keys.grace)
    if keys.sliding is not None:
        return SlidingWindow(grouping, keys.sliding, keys.grace)
    size = keys.tumbling or keys.hopping
    assert size is not None  # _check_kind
    return TimeWindow(grouping, size, keys.advance or size, keys.grace, keys.emit)


def partitioned(
    builder: PlanBuilder, step: str, source: str, stream: StreamInfo, groups: Projection, key: str
) -> tuple[str, str]:
    """Return the stream to read so that all records of a group are in one partition, and its topic.

    ``key``: the configuration key of the groups.
    """
    if len(stream.topics) == 1 and stream.keyed_by is not None and stream.keyed_by == key_columns(groups):
        return source, stream.topics[0]
    topic, name = f"{builder.application}-{step}-repartition", f"{step}-repartition"
    keyed = PlannedStep(name, (source,), KeyBy(groups, StepPlace(step, key)))
    builder.repartitions.append(Repartition(topic, name, keyed, stream.topics))
    return name, topic


def key_columns(groups: Projection) -> tuple[str, ...] | None:
    """Return the columns of the stream that are the key of these groups; None when an expression is no column."""
    columns = tuple(item.column for item in groups.expressions.values())
    return None if None in columns else tuple(str(column) for column in columns)
