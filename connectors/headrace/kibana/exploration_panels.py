"""Panels over what the exploration model writes: selections (`pick`), with or without labels, and scores (`learn`).

Such an index is recognized by its fields. Pure functions. The state of experiments: :mod:`experiment_panels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace.kibana.field_kinds import NUMBERS, TERMS, FieldFacts
from headrace.kibana.panel_choice import COUNT, Panel, PanelColumn, head_panels

_SPLIT, _TOP = 5, 10
_SELECTION = ("version", "assigned", "probability", "calibrated", "propensity")
_CONVERSION = "conversion."
"""Fields of the right side of the join that makes labels (``as: conversion``)."""
_SCORE = ("version", "candidate", "probability", "calibrated", "impressions", "conversions")


def exploration_panels(facts: Sequence[FieldFacts], time_field: str) -> list[Panel]:
    """Return the panels of an index with selections or scores; empty for other indices."""
    known = {each.title: each for each in facts if each.field.aggregatable and each.field.type in TERMS | NUMBERS}
    if known.keys() >= set(_SCORE):
        return [*head_panels("Scores", time_field), *_scores(known, time_field)]
    if known.keys() >= set(_SELECTION):
        converted = [each for each in facts if each.field.aggregatable and each.title.startswith(_CONVERSION)]
        return [*head_panels("Selections", time_field), *_selections(known, time_field, converted[:1])]
    return []


def _selections(known: Mapping[str, FieldFacts], time_field: str, converted: Sequence[FieldFacts]) -> list[Panel]:
    """``converted``: a field that selections with a conversion have."""
    version, assigned = known["version"], known["assigned"]
    conversions = [
        PanelColumn("conversions", "count", "Conversions", each.field.path, each.field.type) for each in converted
    ]
    panels = []
    if time_field:
        by_version = (_time(time_field), _terms(version, _SPLIT), COUNT)
        panels.append(Panel("by-version", "Selections over time by version", "lnsXY", by_version))
        for column in conversions:
            shown = (_time(time_field), replace(_terms(version, _SPLIT), order_by=column.id), column)
            panels.append(Panel("conversions", "Conversions over time by version", "lnsXY", shown))
    expected = _sum(known["calibrated"], "Conversions expected")
    columns: tuple[PanelColumn, ...] = (
        _terms(version, _TOP),
        COUNT,
        *conversions,
        expected,
        _percentile(known["probability"], 50, "Median probability"),
    )
    title = "Selections, conversions" if conversions else "Selections"
    panels.append(Panel("versions", f"{title} and expected conversions by version", "lnsDatatable", columns))
    panels.append(Panel("assigned", "Users by assigned version", "lnsPie", (_terms(assigned, _TOP), COUNT)))
    if time_field:
        for name, title in (
            ("calibrated", "Probability of conversion, calibrated"),
            ("propensity", "Propensity of the selection"),
        ):
            columns = (_time(time_field), *(_percentile(known[name], number) for number in (5, 50, 95)))
            panels.append(Panel(name, f"{title}, over time", "lnsXY", columns))
    return panels


def _scores(known: Mapping[str, FieldFacts], time_field: str) -> list[Panel]:
    raw, calibrated = known["probability"], known["calibrated"]
    columns = (
        _terms(known["version"], _TOP),
        COUNT,
        _percentile(raw, 50, "Median, as the model predicts", "raw"),
        _percentile(calibrated, 50, "Median, calibrated"),
    )
    panels = [Panel("calibration", "Calibration by version", "lnsDatatable", columns)]
    candidates = (
        _terms(known["candidate"], _TOP),
        COUNT,
        _max(known["impressions"], "Impressions"),
        _max(known["conversions"], "Conversions"),
        _percentile(calibrated, 50, "Median score"),
    )
    panels.append(Panel("candidates", "Most scored candidates", "lnsDatatable", candidates))
    if time_field:
        spread = (_time(time_field), *(_percentile(calibrated, number) for number in (5, 50, 95)))
        panels.append(Panel("scores", "Scores over time", "lnsXY", spread))
    return panels


def _time(time_field: str) -> PanelColumn:
    return PanelColumn("time", "date_histogram", time_field, time_field, "date")


def _terms(facts: FieldFacts, size: int) -> PanelColumn:
    return PanelColumn("values", "terms", facts.title, facts.field.path, facts.field.type, size, COUNT.id)


def _sum(facts: FieldFacts, label: str) -> PanelColumn:
    return PanelColumn("sum", "sum", label, facts.field.path, facts.field.type)


def _max(facts: FieldFacts, label: str) -> PanelColumn:
    return PanelColumn(facts.title, "max", label, facts.field.path, facts.field.type)


def _percentile(facts: FieldFacts, number: int, label: str = "", ident: str = "") -> PanelColumn:
    shown = label or ("Median" if number == 50 else f"{number}th percentile")
    return PanelColumn(ident or f"p{number}", "percentile", shown, facts.field.path, facts.field.type, number)
