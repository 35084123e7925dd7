"""Which task reads which tables: a first division, and one that follows changes and moves as little as can be."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from headrace_sources.sql.dialects.dialect import TableName


def contiguous_blocks(tables: Sequence[TableName], most: int) -> list[list[TableName]]:
    """Contiguous, the first ones one longer; as the JDBC connector divides them."""
    count = min(len(tables), most)
    size, longer = divmod(len(tables), count)
    edges = [0, *(size * place + min(place, longer) for place in range(1, count + 1))]
    return [list(tables[start:end]) for start, end in pairwise(edges)]


def reassign(present: Sequence[Sequence[TableName]], tables: Sequence[TableName], most: int) -> list[list[TableName]]:
    """``present`` without tables that are gone and with those that are new; what need not change does not.

    New tables get a task of their own while there may be more, else they go to the task that has the fewest. Where a
    task has no table left, the last task takes its number, as numbers have no gaps.
    """
    wanted = set(tables)
    shares = [[table for table in share if table in wanted] for share in present]
    known = {table for share in shares for table in share}
    for table in (table for table in tables if table not in known):
        if (empty := next((share for share in shares if not share), None)) is not None:
            empty.append(table)
        elif len(shares) < most:
            shares.append([table])
        else:
            min(shares, key=len).append(table)
    while not all(shares):
        last = shares.pop()
        if last:
            shares[shares.index([])] = last
    return shares
