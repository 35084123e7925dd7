"""Panels over the state of experiments: what `learn` counts at each look, and the log of transitions.

Such an index is recognized by its fields; the names of versions are parts of them. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from headrace.kibana.field_kinds import NUMBERS, TERMS, FieldFacts
from headrace.kibana.panel_choice import COUNT, Panel, PanelColumn, head_panels

_LOOK = {"experiment", "traffic", "open"}
_TRANSITION = {"experiment", "transition", "number", "by", "current"}
_CONVERSIONS, _RATE, _UNITS = (re.compile(rf"counts\.(.+)\.{name}") for name in ("conversions", "rate", "units"))
_SHARE = re.compile(r"shares\.(.+)")
_ACTION = re.compile(r"decision\.versions\.(.+)\.action")
_MOST_VERSIONS, _TOP = 8, 10


def experiment_panels(facts: Sequence[FieldFacts], time_field: str) -> list[Panel]:
    """Return the panels of an index with looks or transitions of experiments; empty for other indices."""
    known = {each.title: each for each in facts if each.field.aggregatable and each.field.type in TERMS | NUMBERS}
    if known.keys() >= _LOOK and (conversions := _of_versions(known, _CONVERSIONS)):
        return [*head_panels("Looks at the test", time_field), *_looks(known, conversions, time_field)]
    if known.keys() >= _TRANSITION:
        return [*head_panels("Transitions", time_field), *_transitions(known, time_field)]
    return []


def _looks(known: Mapping[str, FieldFacts], conversions: Mapping[str, FieldFacts], time_field: str) -> list[Panel]:
    """Counts begin again with each change of the traffic, so that the highest of an interval is the last one."""
    values = {
        "conversions": ("Conversions by version, since the traffic changed", conversions),
        "rates": ("Conversion rate by version", _of_versions(known, _RATE)),
        "units": ("Users by version, since the traffic changed", _of_versions(known, _UNITS)),
        "shares": ("Share of the traffic by version", _of_versions(known, _SHARE)),
        "open": ("Selections that wait for their label", {"Selections": known["open"]}),
    }
    panels = [_highest(key, title, fields, time_field) for key, (title, fields) in values.items() if fields]
    for version, action in list(_of_versions(known, _ACTION).items())[:1] if time_field else ():
        states = (_time(time_field), _terms(action, "Decision"), COUNT)
        panels.append(Panel("decisions", f"Decisions on {version}, by look", "lnsXY", states))
    return panels


def _transitions(known: Mapping[str, FieldFacts], time_field: str) -> list[Panel]:
    panels = []
    if shares := _of_versions(known, _SHARE):
        panels.append(_highest("shares", "Share of the traffic by version", shares, time_field))
    if time_field:
        kinds = (_time(time_field), _terms(known["transition"], "Transition"), COUNT)
        panels.append(Panel("transitions", "Transitions over time", "lnsXY", kinds))
    for name, title in (("transition", "Transitions"), ("current", "Current version"), ("by", "Made by")):
        panels.append(Panel(name, title, "lnsDatatable", (_terms(known[name], title), COUNT)))
    return panels


def _highest(key: str, title: str, fields: Mapping[str, FieldFacts], time_field: str) -> Panel:
    """Return the highest values over time, or in a table of one row when documents have no time."""
    columns = [
        PanelColumn(f"max-{number}", "max", label, each.field.path, each.field.type)
        for number, (label, each) in enumerate(fields.items())
    ]
    if not time_field:
        return Panel(key, title, "lnsDatatable", tuple(columns))
    return Panel(key, title, "lnsXY", (_time(time_field), *columns))


def _of_versions(known: Mapping[str, FieldFacts], pattern: re.Pattern[str]) -> dict[str, FieldFacts]:
    """Return the fields that a pattern matches, by the version in their names."""
    found = {match[1]: each for title, each in sorted(known.items()) if (match := pattern.fullmatch(title))}
    return dict(list(found.items())[:_MOST_VERSIONS])


def _time(time_field: str) -> PanelColumn:
    return PanelColumn("time", "date_histogram", time_field, time_field, "date")


def _terms(facts: FieldFacts, label: str) -> PanelColumn:
    return PanelColumn("values", "terms", label, facts.field.path, facts.field.type, _TOP, COUNT.id)
