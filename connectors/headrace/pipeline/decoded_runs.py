"""Runs of decoded values: joins adjacent runs, and matches runs of keys with runs of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from headrace.plugin import Decoded
from headrace.records import JsonValues
from headrace.schema import Schema


def parsed(run: Decoded) -> Decoded:
    """Return the run without JsonValues."""
    return run._replace(values=run.values.parsed()) if isinstance(run.values, JsonValues) else run


def joined(runs: Sequence[Decoded]) -> Iterator[Decoded]:
    """Yield consecutive runs of one schema and one form as one run."""
    for _, group in groupby(_numbered(runs), lambda item: item[0]):
        members = [run for _, run in group]
        columns = [run.values for run in members if isinstance(run.values, JsonValues)]
        if columns:
            texts = [text for column in columns for text in column.texts]
            yield members[0]._replace(values=JsonValues(texts, columns[0].schema, columns[0].form))
        else:
            yield members[0]._replace(values=[value for run in members for value in run.values])


def _numbered(runs: Sequence[Decoded]) -> Iterator[tuple[tuple[int, type, Schema | None], Decoded]]:
    """Yield each run with a key that runs to be joined share."""
    number = 0
    before: Decoded | None = None
    for run in runs:
        if before is not None and run.start != before.start + len(before.values):
            number += 1
        yield (number, type(run.values), run.schema), run
        before = run


def overlaps(keys: Sequence[Decoded], values: Sequence[Decoded]) -> Iterator[tuple[int, int, Decoded, Decoded]]:
    """Yield ``start, end`` of the rows that lie in one run of both sides; refused rows lie in none."""
    left, right = 0, 0
    while left < len(keys) and right < len(values):
        key_run, value_run = keys[left], values[right]
        key_end, value_end = key_run.start + len(key_run.values), value_run.start + len(value_run.values)
        start, end = max(key_run.start, value_run.start), min(key_end, value_end)
        if start < end:
            yield start, end, key_run, value_run
        if key_end <= end or key_end <= value_run.start:
            left += 1
        if value_end <= end or value_end <= key_run.start:
            right += 1
