"""Plans joins of two streams, and the repartition topics that bring the records of a key into one partition."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from headrace import Duration, Finding
from headrace_streams.configuration import JoinKeys, NamedKeys, StepKeys, read_join
from headrace_streams.expressions import Columns, ColumnType, Projection
from headrace_streams.operators.interval_join import STAGE, IntervalJoin, JoinSide
from headrace_streams.operators.join_records import LEFT, RIGHT
from headrace_streams.operators.operator import StepPlace
from headrace_streams.operators.stateless import KeyBy
from headrace_streams.plan import PlannedStep, Repartition
from headrace_streams.planning.builder import PlanBuilder, PlanError, StreamInfo

_DURATION: TypeAdapter[int] = TypeAdapter(Duration)


def plan_join(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    keys, findings = read_join(entry.prefix, entry.keys.join)
    builder.findings += findings
    if keys is None:
        raise PlanError()
    prefix = f"{entry.prefix}.join"
    right_key = f"{prefix}.right_by" if keys.right_by else f"{prefix}.by"
    left, right = builder.streams[keys.left], builder.streams[keys.right]
    left_by = builder.groups(f"{prefix}.by", keys.by, left.columns)
    right_by = builder.groups(right_key, keys.right_by or keys.by, right.columns)
    right_by = _with_names_of(builder, right_key, left_by, right_by, right.columns)
    names = tuple(left_by.expressions)
    column = keys.column or keys.right
    if column in names or column in left.columns.types:
        text = f"column '{column}', which a join adds, exists already"
        raise PlanError(Finding("config.duplicate_name", text, prefix, "set 'as' to another name"))
    sides = (
        _Side(LEFT, keys.left, left, left_by, f"{prefix}.by"),
        _Side(RIGHT, keys.right, right, right_by, right_key),
    )
    followed = _plan_sides(builder, entry.name, sides)
    builder.followed += [(entry.name, topic) for topic in followed]
    stages = _stages(prefix, keys, column, left.columns)
    operator = IntervalJoin(keys.type, names, column, keys.before, keys.within, keys.grace, stages)
    left_keyed, right_keyed = (names if side.columns == names else None for side in sides)
    streams = {
        "": StreamInfo(left.columns.with_columns({column: right.columns}), followed, left_keyed),
        "late": StreamInfo(left.columns, followed, left_keyed),
        "late_right": StreamInfo(right.columns, followed, right_keyed),
    }
    if stages:
        pending = left.columns.with_columns({column: right.columns, STAGE: ColumnType.INTEGER})
        streams["pending"] = StreamInfo(pending, followed, left_keyed)
    builder.add_step(entry.name, tuple(f"{entry.name}.{side.name}" for side in sides), operator, streams)


def _stages(prefix: str, keys: JoinKeys, column: str, columns: Columns) -> tuple[int, ...]:
    """Return the ages of provisional results in milliseconds, ascending."""
    if not keys.stages:
        return ()
    place = f"{prefix}.stages"
    if keys.type != "left":
        text = "'stages' belongs to left joins: an inner join has no result without a match"
        raise PlanError(Finding("config.conflict", text, place, "set type: left, or remove stages"))
    if STAGE in (column, *columns.types):
        text = f"column '{STAGE}', which provisional results have, exists already"
        raise PlanError(Finding("config.duplicate_name", text, place, "rename the column in a step before"))
    found = set()
    for text in keys.stages:
        age = _milliseconds(text)
        if age is None or not 0 < age < keys.within:
            message = f"'{text}' is not a duration between 0 and 'within'"
            raise PlanError(Finding("config.invalid_value", message, place, "write stages: 5m, 1h"))
        found.add(age)
    return tuple(sorted(found))


def _milliseconds(text: str) -> int | None:
    try:
        return _DURATION.validate_python(text)
    except ValidationError:
        return None


class _Side:
    """One side of a join while it is planned."""

    def __init__(self, name: str, source: str, stream: StreamInfo, by: Projection, key: str) -> None:
        self.name = name
        self.source = source
        self.stream = stream
        self.by = by
        self.key = key
        self.columns = tuple(item.column or "" for item in by.expressions.values())


def _with_names_of(builder: PlanBuilder, key: str, left: Projection, right: Projection, columns: Columns) -> Projection:
    """Return the expressions of the right side with the names of the left: equal keys have equal bytes then."""
    if len(left.expressions) != len(right.expressions):
        text = f"the left side has {len(left.expressions)} expressions, and the right side {len(right.expressions)}"
        raise PlanError(Finding("stream.operation", text, key, "write as many for 'right_by' as for 'by'"))
    for (name, kind), other in zip(left.types.items(), right.types.values(), strict=True):
        unknown = {ColumnType.ANY, ColumnType.NULL} & {kind, other}
        if not unknown and kind is not other and not (kind.numeric and other.numeric):
            text = f"'{name}' is of type {kind} on the left side and {other} on the right: they are never equal"
            raise PlanError(Finding("stream.wrong_type", text, key, "convert one with CAST, in a step before"))
    named = dict(zip(left.expressions, right.expressions.values(), strict=True))
    return builder.compiled(key, named, columns)


def _plan_sides(builder: PlanBuilder, step: str, sides: tuple[_Side, _Side]) -> tuple[str, ...]:
    """Add the step that prepares each side, and return the topics that both sides come from."""
    topics = tuple(dict.fromkeys(topic for side in sides for topic in side.stream.topics))
    in_place = _are_in_place(builder, sides, topics)
    followed: list[str] = []
    for side in sides:
        source = side.source
        if not in_place:
            # A name with a dot: no step of the user has one, so neither has another topic.
            source = f"{step}.{side.name}-repartition"
            topic = f"{builder.application}-{source}"
            keyed = PlannedStep(source, (side.source,), KeyBy(side.by, StepPlace(step, side.key)))
            builder.repartitions.append(Repartition(topic, source, keyed, topics))
            followed.append(topic)
        operator = JoinSide(side.name, side.by, StepPlace(step, side.key))
        builder.steps.append(PlannedStep(f"{step}.{side.name}", (source,), operator))
    return topics if in_place else tuple(followed)


def _are_in_place(builder: PlanBuilder, sides: tuple[_Side, _Side], topics: tuple[str, ...]) -> bool:
    """Return whether records of a key are in the partition of the same number already.

    Both sides need the key of the join, and keys with the same bytes: those of internal topics are not encoded by the
    converters that other topics have.
    """
    names = tuple(sides[0].by.expressions)
    by_key = all(side.stream.keyed_by == side.columns and (len(names) == 1 or side.columns == names) for side in sides)
    internal = {item.topic for item in builder.repartitions}
    return by_key and len({topic in internal for topic in topics}) == 1
