"""Plans the removal of duplicates."""

from __future__ import annotations

from headrace_streams.configuration import NamedKeys, StepKeys, read_deduplicate
from headrace_streams.operators.deduplicate import Deduplicate
from headrace_streams.operators.operator import StepPlace
from headrace_streams.planning.builder import PlanBuilder, PlanError, StreamInfo
from headrace_streams.planning.window_operations import key_columns, partitioned


def plan_deduplicate(builder: PlanBuilder, entry: NamedKeys[StepKeys], sources: tuple[str, ...]) -> None:
    keys, findings = read_deduplicate(entry.prefix, entry.keys.deduplicate)
    builder.findings += findings
    if keys is None:
        raise PlanError()
    key = f"{entry.prefix}.deduplicate.by"
    stream = builder.streams[sources[0]]
    groups = builder.groups(key, keys.by, stream.columns)
    operator = Deduplicate(groups, keys.within, keys.grace, StepPlace(entry.name, key))
    source, followed = partitioned(builder, entry.name, sources[0], stream, groups, key)
    made = StreamInfo(stream.columns, (followed,), key_columns(groups))
    builder.followed.append((entry.name, followed))
    builder.add_step(entry.name, (source,), operator, {"": made, "late": made})
