"""Plans lookups in tables that have the partitions of the stream."""

from __future__ import annotations

from headrace_streams.configuration import NamedKeys, StepKeys
from headrace_streams.expressions import Projection
from headrace_streams.operators.operator import StepPlace
from headrace_streams.operators.stateless import KeyBy
from headrace_streams.operators.table_rows import PartitionedLookup, TableChanges, TableRowKeys
from headrace_streams.plan import PlannedStep, PlannedTable, Repartition
from headrace_streams.planning.builder import PlanBuilder, StreamInfo


def plan_partitioned_lookup(
    builder: PlanBuilder,
    entry: NamedKeys[StepKeys],
    source: str,
    key: Projection,
    table: PlannedTable,
    missing: str,
) -> None:
    """``key``: the expression of the lookup, by the column that it adds."""
    ((column, expression),) = key.expressions.items()
    place = StepPlace(entry.name, f"{entry.prefix}.lookup.{column}")
    stream = builder.streams[source]
    keys = TableRowKeys(table.key_column, StepPlace(entry.name, f"tables.{table.name}"))
    internal = {item.topic for item in builder.repartitions}
    in_place = stream.keyed_by is not None and stream.keyed_by == (expression.column,)
    if in_place and len(stream.topics) == 1 and stream.topics[0] not in internal:
        rows, topics = f"{entry.name}.table", (table.topic, stream.topics[0])
        builder.steps.append(PlannedStep(rows, (table.stream,), keys))
    else:
        # Both sides: keys of internal topics are encoded differently from those of converters. A name with a dot is
        # that of no other step.
        rows, source_name = f"{entry.name}.table-repartition", f"{entry.name}.stream-repartition"
        topics = (f"{builder.application}-{rows}", f"{builder.application}-{source_name}")
        origins = (*stream.topics, table.topic)
        keyed = PlannedStep(source_name, (source,), KeyBy(key, place))
        builder.repartitions += [
            Repartition(topics[0], rows, PlannedStep(rows, (table.stream,), keys), origins),
            Repartition(topics[1], source_name, keyed, origins),
        ]
        source = source_name
    builder.steps.append(PlannedStep(f"{entry.name}.rows", (rows,), TableChanges(), entry.name))
    builder.followed += [(entry.name, topic) for topic in topics]
    builder.aligned.append(topics)
    builder.partitioned_tables[table.name] = table
    keyed_by = (expression.column,) if expression.column not in (None, column) else None
    made = StreamInfo(stream.columns.with_columns({column: table.columns}), (topics[1],), keyed_by)
    operator = PartitionedLookup(key, column, table.name, missing, place)
    builder.add_step(entry.name, (source,), operator, {"": made})
