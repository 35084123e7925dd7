"""Alert rules, as Kibana's ``/api/alerting/rule`` takes them. Imported as saved objects they would be disabled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from headrace.kibana.ids import content_hash, rule_id

AlertRule = dict[str, Any]
"""``id`` and the body of the request that creates the rule."""

OWNED = ("name", "schedule", "params", "rule_type_id")
"""What headrace decides. Actions, and whether a rule is enabled, belong to the users of Kibana."""
_MARK_TAG = re.compile(r"headrace-content:([0-9a-f]+)(?:/([0-9a-f]+))?")
_SILENCE, _DEAD_LETTERS = "silence", "dead-letters"
"""Kinds of rules, part of their ids."""
_DURATION = re.compile(r"(\d+)([smhd])")


def silence_rule(space: str, connector: str, index: str, time_field: str, period: str) -> AlertRule:
    """Return a rule that fires when an index has had no new document for a period, such as ``1h``."""
    name = f"headrace · {connector} · no new documents in {index} for {period}"
    params = _threshold(index, time_field, period, "<", 1)
    return _rule(rule_id(_SILENCE, space, connector, index), name, "1m", params, connector)


def dead_letter_rule(space: str, connector: str, index: str, time_field: str) -> AlertRule:
    """Return a rule that fires when dead letters arrive in an index."""
    name = f"headrace · {connector} · dead letters in {index}"
    params = _threshold(index, time_field, "5m", ">", 0)
    return _rule(rule_id(_DEAD_LETTERS, space, connector, index), name, "1m", params, connector)


def is_made_by_headrace(rule: Mapping[str, Any], space: str) -> bool:
    """Return whether headrace made a rule of the space: the id of a copy does not follow from connector and index."""
    connectors = [tag.removeprefix("headrace:") for tag in rule.get("tags", ()) if tag.startswith("headrace:")]
    indices = rule.get("params", {}).get("index", ())
    kinds = (_SILENCE, _DEAD_LETTERS)
    return any(
        rule_id(kind, space, connector, index) == rule["id"]
        for kind in kinds
        for connector in connectors
        for index in indices
    )


def is_period(text: str) -> bool:
    """Return whether a text is a period as Kibana writes it: a whole number above 0 and s, m, h or d."""
    found = _DURATION.fullmatch(text)
    return found is not None and int(found[1]) > 0


def marked_rule(rule: AlertRule, stored: str = "") -> AlertRule:
    """Return the rule with a tag by which a later change of its content is found; see ``saved_objects.marked``."""
    built, _ = rule_mark(rule)
    digest = built or content_hash(rule_content(rule))
    mark = f"headrace-content:{digest}{'/' + stored if stored else ''}"
    return {**rule, "tags": [*_other_tags(rule), mark]}


def rule_mark(rule: Mapping[str, Any]) -> tuple[str, str]:
    """Return the digests of what headrace built and of what Kibana stored; empty without a mark."""
    for tag in rule.get("tags", []):
        if found := _MARK_TAG.fullmatch(tag):
            return found[1], found[2] or found[1]
    return "", ""


def with_tags_of(rule: AlertRule, present: Iterable[str]) -> AlertRule:
    """Return the rule with the tags that users added to it."""
    added = [tag for tag in present if not _MARK_TAG.fullmatch(tag) and tag not in rule["tags"]]
    return {**rule, "tags": [*added, *rule["tags"]]}


def rule_content(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what headrace decides of a rule."""
    return {name: rule.get(name) for name in OWNED}


def _other_tags(rule: Mapping[str, Any]) -> list[str]:
    return [tag for tag in rule["tags"] if not _MARK_TAG.fullmatch(tag)]


def _rule(ident: str, name: str, interval: str, params: dict[str, Any], connector: str) -> AlertRule:
    return marked_rule(
        {
            "id": ident,
            "name": name,
            "consumer": "stackAlerts",
            "rule_type_id": ".index-threshold",
            "schedule": {"interval": interval},
            "params": params,
            "actions": [],
            "enabled": True,
            "tags": ["headrace", f"headrace:{connector}"],
        }
    )


def _threshold(index: str, time_field: str, period: str, comparator: str, limit: int) -> dict[str, Any]:
    found = _DURATION.fullmatch(period)
    assert found is not None
    return {
        "index": [index],
        "timeField": time_field,
        "aggType": "count",
        "groupBy": "all",
        "timeWindowSize": int(found[1]),
        "timeWindowUnit": found[2],
        "thresholdComparator": comparator,
        "threshold": [limit],
    }
