"""Builds a pack from sinks: data views, saved searches, dashboards, tags and alert rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headrace.config import nearest
from headrace.errors import ConfigError, Finding
from headrace.kibana.alert_rules import AlertRule, dead_letter_rule, is_period, silence_rule
from headrace.kibana.experiment_panels import experiment_panels
from headrace.kibana.exploration_panels import exploration_panels
from headrace.kibana.field_kinds import DATES, FieldFacts, in_order, time_field_of
from headrace.kibana.pack import Pack
from headrace.kibana.panel_choice import choose_panels
from headrace.kibana.saved_objects import TAG, SavedObject, dashboard, data_view, saved_search, tag_object
from headrace.kibana.sinks import SearchableSink, declared_facts, live_facts
from headrace.plugin import DataTarget

_MOST_COLUMNS = 6
NEVER = "0"
_DESIGNED_RANGE = "1h"
"""What dashboards of workers show at first: --time-range is that of the data, which may be years old."""


class BuildOptions(NamedTuple):
    """``live``: ask Elasticsearch for the fields. ``silence``: time without new documents that is an alert."""

    space: str = "default"
    live: bool = False
    time_range: str = "7d"
    silence: str = "1h"
    time_fields: Mapping[str, str] = {}
    """Index → the field that is the time of its documents."""


def build_pack(sinks: Sequence[SearchableSink], options: BuildOptions, findings: list[Finding]) -> Pack:
    """Return the pack of these sinks. Append warnings about what it lacks. Raise ConfigError for options that name
    unknown indices or fields, InfrastructureError and RetriableError when ``live`` fails."""
    _require_known(sinks, options)
    everything = tag_object(options.space, TAG)
    objects: dict[str, SavedObject] = {}
    rules: list[AlertRule] = []
    for sink in sinks:
        tags = [everything, tag_object(options.space, f"{TAG}:{sink.name}")]
        for target in sink.targets:
            facts = live_facts(sink.data, target) if options.live else declared_facts(target)
            time_field = _time_field(target, facts, options)
            if target.name in sink.dashboards:
                made = _designed(sink, target, time_field, tags, options)
            else:
                findings += _gaps(sink.name, target, facts, time_field, live=options.live)
                made, more = _of_target(sink, target, facts, time_field, tags, options)
                rules += more
            objects |= {item["id"]: item for item in (*tags, *made)}
    return Pack(options.space, tuple(objects.values()), tuple(rules))


def _designed(
    sink: SearchableSink, target: DataTarget, time_field: str, tags: Sequence[SavedObject], options: BuildOptions
) -> list[SavedObject]:
    view = data_view(options.space, target.name, time_field)
    made = [view]
    for each in sink.dashboards[target.name]:
        title = f"headrace · {each.name} · {target.name}"
        made.append(saved_search(options.space, each.name, view, title, each.columns, tags))
        made.append(dashboard(options.space, each.name, view, each.panels, _DESIGNED_RANGE, tags))
    return made


def _of_target(
    sink: SearchableSink,
    target: DataTarget,
    facts: Sequence[FieldFacts],
    time_field: str,
    tags: Sequence[SavedObject],
    options: BuildOptions,
) -> tuple[list[SavedObject], list[AlertRule]]:
    space, dead = options.space, target.topic in sink.dead_letters
    view = data_view(space, target.name, time_field)
    title = f"headrace · {'dead letters' if dead else sink.name} · {target.name}"
    search = saved_search(space, sink.name, view, title, _columns(facts, time_field), tags)
    panels = (
        exploration_panels(facts, time_field)
        or experiment_panels(facts, time_field)
        or choose_panels(facts, time_field)
    )
    shown = dashboard(space, sink.name, view, panels, options.time_range, tags)
    rules = []
    if time_field and dead:
        rules = [dead_letter_rule(space, sink.name, target.name, time_field)]
    elif time_field and options.silence != NEVER:
        rules = [silence_rule(space, sink.name, target.name, time_field, options.silence)]
    return [view, search, shown], rules


def _time_field(target: DataTarget, facts: Sequence[FieldFacts], options: BuildOptions) -> str:
    wanted = options.time_fields.get(target.name)
    if wanted is None:
        return target.time_field or time_field_of(each.field for each in facts)
    dates = [each.field.path for each in facts if each.field.type in DATES]
    if wanted not in dates:
        text = f"--time-field {target.name}={wanted}: '{target.name}' has no date field '{wanted}'"
        listed = f"its date fields: {', '.join(dates)}" if dates else "it has no date fields"
        raise ConfigError(text, code="kibana.bad_time_field", hint=nearest(wanted, dates) or listed)
    return wanted


def _columns(facts: Sequence[FieldFacts], time_field: str) -> list[str]:
    """Return the columns of a saved search: the first fields of the documents, without subfields."""
    paths = {each.field.path for each in facts}
    whole = [each.field.path for each in in_order(facts) if each.field.path.rpartition(".")[0] not in paths]
    return [path for path in whole if path != time_field][:_MOST_COLUMNS]


def _gaps(
    connector: str, target: DataTarget, facts: Sequence[FieldFacts], time_field: str, *, live: bool
) -> list[Finding]:
    if not facts:
        text = f"connector '{connector}': no fields of '{target.name}' are known: its dashboard only counts documents"
        hint = "index a document, and build again"
        if not live:
            hint = "ask Elasticsearch with --live, or declare fields with 'mapping.fields.NAME' or 'mapping.file'"
        return [Finding("kibana.no_fields", text, "topics", hint, severity="warning")]
    if not time_field:
        text = f"connector '{connector}': '{target.name}' has no date field: no panels over time, and no alert rule"
        hint = "map the time of a change as date, for example mapping.fields.updated_at: date"
        return [Finding("kibana.no_time", text, "topics", hint, severity="warning")]
    return []


def _require_known(sinks: Sequence[SearchableSink], options: BuildOptions) -> None:
    names = [target.name for sink in sinks for target in sink.targets]
    for index in options.time_fields:
        if index not in names:
            text = f"--time-field {index}=…: no sink writes to an index '{index}'"
            hint = nearest(index, names) or f"the indices: {', '.join(names)}"
            raise ConfigError(text, code="kibana.bad_time_field", hint=hint)
    periods = [("--time-range", options.time_range)]
    periods += [("--silence", options.silence)] if options.silence != NEVER else []
    for option, text in periods:
        if not is_period(text):
            problem = f"{option} {text}: not a period"
            raise ConfigError(problem, code="kibana.bad_period", hint="write for example 24h, 7d or 30m")
