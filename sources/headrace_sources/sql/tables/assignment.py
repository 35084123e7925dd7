"""Assigns tables to tasks, first and after changes, and writes the assignment into task configurations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from headrace import RetriableError
from headrace_sources.sql.configuration.config import SqlSourceConfig
from headrace_sources.sql.dialects.dialect import TableName


def contiguous_blocks(tables: Sequence[TableName], most: int) -> list[list[TableName]]:
    """Return at most ``most`` contiguous blocks, the first ones one longer, as the JDBC connector divides them."""
    count = min(len(tables), most)
    size, longer = divmod(len(tables), count)
    edges = [0, *(size * number + min(number, longer) for number in range(1, count + 1))]
    return [list(tables[start:end]) for start, end in pairwise(edges)]


def reassign(present: Sequence[Sequence[TableName]], tables: Sequence[TableName], most: int) -> list[list[TableName]]:
    """Return ``present`` without tables that are gone and with those that are new, and change as little as possible.

    New tables get a task of their own while there may be more tasks, else they go to the task with the fewest tables.
    Where a task has no table left, the last task takes its number, as numbers have no gaps.
    """
    wanted = set(tables)
    assigned = [[table for table in block if table in wanted] for block in present]
    known = {table for block in assigned for table in block}
    for table in (table for table in tables if table not in known):
        if (empty := next((block for block in assigned if not block), None)) is not None:
            empty.append(table)
        elif len(assigned) < most:
            assigned.append([table])
        else:
            min(assigned, key=len).append(table)
    while not all(assigned):
        last = assigned.pop()
        if last:
            assigned[assigned.index([])] = last
    return assigned


def assigned_tables(config: SqlSourceConfig) -> list[TableName]:
    """Return the tables that the connector wrote into the task's configuration; empty when it wrote none.

    Raise RetriableError for a text of the JVM's connector, whose cluster was taken over: it is replaced at once.
    """
    if not config.tables:
        return []
    try:
        return [TableName(*pair) for pair in json.loads(config.tables)]
    except (ValueError, TypeError) as error:
        raise RetriableError(
            f"the tables of this task were assigned by a worker of Kafka Connect: {config.tables}",
            code="sql.foreign_tables",
            hint="the connector assigns them again as soon as it has read the list of tables from the database",
        ) from error


def assignment_text(tables: Sequence[TableName]) -> str:
    """Return tables as :func:`assigned_tables` reads them."""
    return json.dumps([list(table) for table in tables])
