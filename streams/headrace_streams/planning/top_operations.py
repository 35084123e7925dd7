"""Plans the first records of each group and window."""

from __future__ import annotations

import re

from headrace import Finding
from headrace_streams.configuration import NamedKeys, StepKeys, read_top
from headrace_streams.expressions import Columns, ColumnType
from headrace_streams.operators.grouping import WINDOW_COLUMNS, Grouping
from headrace_streams.operators.operator import StepPlace
from headrace_streams.operators.top import Top
from headrace_streams.planning.builder import PlanBuilder, PlanError, StreamInfo
from headrace_streams.planning.window_operations import key_columns, partitioned

_DIRECTION = re.compile(r"\s+(ASC|DESC)\s*$", re.IGNORECASE)


def plan_top(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    keys, findings = read_top(entry.prefix, entry.keys.top)
    builder.findings += findings
    if keys is None:
        raise PlanError()
    prefix = f"{entry.prefix}.top"
    stream = builder.streams[sources[0]]
    groups = builder.groups(f"{prefix}.by", keys.by, stream.columns)
    direction = _DIRECTION.search(keys.order)
    text = keys.order[: direction.start()] if direction else keys.order
    order = builder.compile(f"{prefix}.order", {"order": text}, stream.columns)
    if order.types["order"] in (ColumnType.ARRAY, ColumnType.OBJECT):
        problem = f"'{text}' is of type {order.types['order']}, which has no order"
        raise PlanError(Finding("stream.wrong_type", problem, f"{prefix}.order", "order by a number, text or time"))
    descending = direction is not None and direction[1].upper() == "DESC"
    grouping = Grouping(groups, order, (), StepPlace(entry.name, prefix))
    operator = Top(grouping, descending, keys.limit, keys.tumbling, keys.grace)
    source, followed = partitioned(builder, entry.name, sources[0], stream, groups, f"{prefix}.by")
    types: dict[str, ColumnType | Columns] = {**groups.types}
    types |= dict.fromkeys((*WINDOW_COLUMNS, "rank"), ColumnType.INTEGER)
    made = StreamInfo(stream.columns.with_columns(types), (followed,), tuple(groups.expressions))
    late = StreamInfo(stream.columns, (followed,), key_columns(groups))
    builder.followed.append((entry.name, followed))
    builder.add_step(entry.name, (source,), operator, {"": made, "late": late})
