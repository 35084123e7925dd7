"""Chooses the panels of a dashboard from the fields of an index. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from headrace.kibana.field_kinds import WHOLE_NUMBERS, FieldFacts, FieldKind, in_order, kind_of

MOST_PANELS = 8
_SPLIT, _TOP, _SLICES = 5, 10, 12
"""Values in a legend, in a table and in a pie."""

Operation = Literal["count", "max", "sum", "percentile", "terms", "date_histogram"]
Chart = Literal["lnsMetric", "lnsXY", "lnsPie", "lnsDatatable"]


@dataclass(frozen=True)
class PanelColumn:
    """One value or one grouping of a panel's query. ``number``: of terms their size, of a percentile which one."""

    id: str
    operation: Operation
    label: str
    field: str = ""
    type: str = ""
    """Elasticsearch's type of the field."""
    number: int = 0
    order_by: str = ""
    """For terms: the column that determines which values are shown."""

    @property
    def groups(self) -> bool:
        """Whether the column divides the documents."""
        return self.operation in ("terms", "date_histogram")


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard. ``key`` is its stable name within the dashboard."""

    key: str
    title: str
    chart: Chart
    columns: tuple[PanelColumn, ...]


COUNT = PanelColumn("count", "count", "Documents")


def choose_panels(fields: Sequence[FieldFacts], time_field: str) -> list[Panel]:
    """Return at most eight panels: how many documents, how new they are, then the most telling fields.

    ``time_field`` is empty when documents have no time; then there are no panels over time.
    """
    shown: dict[FieldKind, list[FieldFacts]] = {kind: [] for kind in FieldKind}
    for facts in in_order(fields):
        if (kind := kind_of(facts)) is not None:
            shown[kind].append(facts)
    groups = [*shown[FieldKind.CATEGORY], *shown[FieldKind.BOOLEAN], *shown[FieldKind.TERMS]]
    numbers = shown[FieldKind.NUMBER]
    panels = head_panels("Documents", time_field)
    if time_field:
        panels.append(_over_time(time_field, (shown[FieldKind.CATEGORY] or shown[FieldKind.BOOLEAN])[:1]))
    by_group = [_by_value(facts, numbers[:1]) for facts in groups]
    by_number = list(_of_numbers(numbers, time_field))
    pairs = zip_longest(by_group, by_number)
    panels += [panel for pair in pairs for panel in pair if panel is not None]
    return panels[:MOST_PANELS]


def head_panels(title: str, time_field: str) -> list[Panel]:
    """Return how many documents there are and, with a time field, as of when."""
    panels = [Panel("documents", title, "lnsMetric", (COUNT,))]
    if time_field:
        newest = PanelColumn("newest", "max", "Newest", time_field, "date")
        panels.append(Panel("data-as-of", "Data as of", "lnsMetric", (newest,)))
    return panels


def _over_time(time_field: str, split: Sequence[FieldFacts]) -> Panel:
    columns = [_time(time_field)]
    title = "Documents over time"
    for facts in split:
        columns.append(_terms(facts, _SPLIT, COUNT.id))
        title += f" by {facts.title}"
    return Panel("over-time", title, "lnsXY", (*columns, COUNT))


def _by_value(facts: FieldFacts, numbers: Sequence[FieldFacts]) -> Panel:
    """Return a pie for few values, else a table with the sum of a number."""
    if kind_of(facts) in (FieldKind.BOOLEAN, FieldKind.CATEGORY):
        columns = (_terms(facts, _SLICES, COUNT.id), COUNT)
        return Panel(f"share:{facts.field.path}", f"Documents by {facts.title}", "lnsPie", columns)
    table = (_terms(facts, _TOP, COUNT.id), COUNT, *map(_sum, numbers))
    return Panel(f"top:{facts.field.path}", f"Most frequent {facts.title}", "lnsDatatable", table)


def _of_numbers(numbers: Sequence[FieldFacts], time_field: str) -> Iterator[Panel]:
    for facts in numbers:
        path, title = facts.field.path, facts.title
        typical = (_percentile(facts, 50), _percentile(facts, 95))
        if not time_field:
            yield Panel(f"values:{path}", f"Values of {title}", "lnsDatatable", (_sum(facts), *typical))
        elif facts.field.type in WHOLE_NUMBERS:
            yield Panel(f"sum:{path}", f"Sum of {title} over time", "lnsXY", (_time(time_field), _sum(facts)))
        else:
            yield Panel(f"percentiles:{path}", f"{title} over time", "lnsXY", (_time(time_field), *typical))


def _time(time_field: str) -> PanelColumn:
    return PanelColumn("time", "date_histogram", time_field, time_field, "date")


def _terms(facts: FieldFacts, size: int, order_by: str) -> PanelColumn:
    return PanelColumn("values", "terms", facts.title, facts.field.path, facts.field.type, size, order_by)


def _sum(facts: FieldFacts) -> PanelColumn:
    return PanelColumn("sum", "sum", f"Sum of {facts.title}", facts.field.path, facts.field.type)


def _percentile(facts: FieldFacts, number: int) -> PanelColumn:
    label = "Median" if number == 50 else f"{number}th percentile"
    return PanelColumn(f"p{number}", "percentile", label, facts.field.path, facts.field.type, number)
