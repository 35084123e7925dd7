"""Checks the objects of a pack without any system: versions, attributes, references, layout, panels, rules."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from headrace.config import nearest
from headrace.errors import Finding
from headrace.kibana.lens import WIDTH
from headrace.kibana.pack import Pack, title_of
from headrace.kibana.saved_objects import ATTRIBUTES, CORE_VERSION, TYPE_VERSIONS, SavedObject
from headrace.kibana.stored_panels import StoredPanel, UnreadablePanelError, read_panels

_AGAIN = "write the pack again with `headrace kibana build`"


def structure_findings(pack: Pack) -> list[Finding]:
    """Return everything that Kibana would refuse, or show as a broken panel. ``key`` names the object or panel."""
    known = {(item["type"], item["id"]) for item in pack.objects}
    found = list(_repeated_ids(pack))
    for item in pack.objects:
        found += _of_object(item)
        found += _of_references(item, known)
        if item["type"] == "dashboard":
            found += _of_dashboard(item)
    for rule in pack.rules:
        found += _of_rule(rule)
    return found


def _repeated_ids(pack: Pack) -> Iterator[Finding]:
    idents = [(item["type"], item["id"]) for item in pack.objects] + [("rule", rule["id"]) for rule in pack.rules]
    for (kind, ident), times in Counter(idents).items():
        if times > 1:
            yield _finding("kibana.repeated_id", f"{times} objects of type {kind} have the id {ident}", ident)


def _of_object(item: SavedObject) -> Iterator[Finding]:
    kind, title, attributes = item["type"], title_of(item), item["attributes"]
    if kind not in ATTRIBUTES:
        text = f"{title}: headrace makes no objects of type '{kind}'"
        yield _finding("kibana.unknown_type", text, title, nearest(kind, ATTRIBUTES) or _AGAIN)
        return
    for name in sorted(attributes.keys() - ATTRIBUTES[kind]):
        text = f"{title}: Kibana's {kind} objects have no attribute '{name}'"
        yield _finding("kibana.unknown_attribute", text, title, nearest(name, ATTRIBUTES[kind]) or f"remove '{name}'")
    for name, latest in (("coreMigrationVersion", CORE_VERSION), ("typeMigrationVersion", TYPE_VERSIONS[kind])):
        given = item.get(name)
        if not isinstance(given, str) or _version(given) is None:
            text = f"{title}: '{name}' is missing or no version, so Kibana applies migrations that break panels"
            yield _finding("kibana.no_version", text, title, f'"{name}": "{latest}"')
        elif (_version(given) or ()) > (_version(latest) or ()):
            text = f"{title}: '{name}' is {given}; Kibana 8.19 refuses {kind} objects newer than {latest}"
            yield _finding("kibana.too_new", text, title, f'"{name}": "{latest}"')
    for name, value in _json_texts(attributes):
        try:
            json.loads(value)
        except (TypeError, ValueError):
            yield _finding("kibana.bad_attribute", f"{title}: '{name}' is not JSON as text", title)


def _of_references(item: SavedObject, known: set[tuple[str, str]]) -> Iterator[Finding]:
    for reference in item["references"]:
        if (reference.get("type"), reference.get("id")) not in known:
            title = title_of(item)
            text = f"{title}: the reference '{reference.get('name')}' to {reference.get('type')} {reference.get('id')}"
            yield _finding("kibana.dangling_reference", f"{text} names an object that is not in the pack", title)


def _of_dashboard(item: SavedObject) -> Iterator[Finding]:
    title = title_of(item)
    try:
        panels = read_panels(item)
    except UnreadablePanelError as error:
        yield _finding("kibana.bad_panel", f"{title}: the panels cannot be read: {error}", title)
        return
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        yield from _of_panel(panel)
        yield from _of_place(panel, taken)


def _of_panel(panel: StoredPanel) -> Iterator[Finding]:
    columns = frozenset(name for layer in panel.layers for name in layer.columns)
    if missing := panel.accessors - columns:
        listed = ", ".join(sorted(missing))
        text = f"panel '{panel.title}': the visualization shows columns that its layers do not have: {listed}"
        yield _finding("kibana.bad_panel", text, panel.title)
    if not panel.layers:
        yield _finding("kibana.bad_panel", f"panel '{panel.title}' has no layer, so it shows nothing", panel.title)
    for layer in panel.layers:
        if layer.kind != "formBased":
            continue
        if layer.id not in panel.views:
            text = f"panel '{panel.title}': the dashboard has no reference to the data view of layer {layer.id}"
            name = f"{panel.id}:indexpattern-datasource-layer-{layer.id}"
            yield _finding("kibana.dangling_reference", text, panel.title, f"add a reference named {name}")
        if sorted(layer.definition.get("columnOrder", ())) != sorted(layer.columns):
            text = f"panel '{panel.title}': 'columnOrder' does not list the columns of the layer"
            yield _finding("kibana.bad_panel", text, panel.title)


def _of_place(panel: StoredPanel, taken: dict[tuple[int, int], str]) -> Iterator[Finding]:
    try:
        x, y, w, h = (int(panel.grid[name]) for name in "xywh")
    except (KeyError, TypeError, ValueError):
        yield _finding("kibana.layout", f"panel '{panel.title}' has no place: x, y, w, h", panel.title)
        return
    if panel.grid.get("i") != panel.id or x < 0 or y < 0 or w < 1 or h < 1 or x + w > WIDTH:
        text = f"panel '{panel.title}' is not inside of the {WIDTH} columns of the dashboard"
        yield _finding("kibana.layout", text, panel.title)
        return
    cells = [(column, row) for column in range(x, x + w) for row in range(y, y + h)]
    if (other := next((taken[cell] for cell in cells if cell in taken), None)) is not None:
        yield _finding("kibana.layout", f"panel '{panel.title}' overlaps panel '{other}'", panel.title)
    taken.update(dict.fromkeys(cells, panel.title))


def _of_rule(rule: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        version = uuid.UUID(rule["id"]).version
    except (ValueError, AttributeError):
        version = None
    if version not in (1, 4):
        text = f"rule '{rule['name']}': Kibana accepts UUIDs of versions 1 and 4 as ids of rules, not {rule['id']}"
        yield _finding("kibana.bad_rule", text, rule["name"])


def _json_texts(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        if name.endswith("JSON"):
            yield name, value
        elif isinstance(value, dict):
            yield from _json_texts(value)


def _version(text: str) -> tuple[int, ...] | None:
    parts = text.split(".")
    return tuple(map(int, parts)) if len(parts) == 3 and all(part.isdigit() for part in parts) else None


def _finding(code: str, text: str, key: str, hint: str = _AGAIN) -> Finding:
    return Finding(code, text, key, hint)
