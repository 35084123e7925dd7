"""Kibana's saved objects, as 8.19 to 9.x import them: data views, saved searches, dashboards and tags."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from headrace.kibana.ids import canonical, content_hash, object_id
from headrace.kibana.lens import layout, panel_object, panel_references
from headrace.kibana.panel_choice import Panel

SavedObject = dict[str, Any]
"""``type``, ``id``, ``attributes``, ``references`` and versions, as in an export."""

CORE_VERSION = "8.8.0"
TYPE_VERSIONS = {"dashboard": "10.2.0", "index-pattern": "8.0.0", "search": "8.0.0", "tag": "8.0.0"}
"""The oldest model versions that the attributes below need: newer servers migrate them, and every server refuses
objects that are newer than itself."""
ATTRIBUTES = {
    "dashboard": frozenset(
        [
            "title",
            "description",
            "kibanaSavedObjectMeta",
            "timeRestore",
            "timeFrom",
            "timeTo",
            "refreshInterval",
            "controlGroupInput",
            "panelsJSON",
            "optionsJSON",
            "hits",
            "version",
        ]
    ),
    "index-pattern": frozenset(
        [
            "title",
            "name",
            "timeFieldName",
            "sourceFilters",
            "fields",
            "fieldAttrs",
            "fieldFormatMap",
            "runtimeFieldMap",
            "allowHidden",
            "allowNoIndex",
            "type",
            "typeMeta",
        ]
    ),
    "search": frozenset(
        [
            "title",
            "description",
            "columns",
            "sort",
            "grid",
            "hideChart",
            "isTextBasedQuery",
            "timeRestore",
            "kibanaSavedObjectMeta",
            "usesAdHocDataView",
            "rowHeight",
            "rowsPerPage",
            "viewMode",
            "hideAggregatedPreview",
            "breakdownField",
            "refreshInterval",
            "timeRange",
        ]
    ),
    "tag": frozenset(["name", "description", "color"]),
}
"""Attributes that Kibana's schemas of these versions have; others are refused."""
TAG = "headrace"
VIEW_PREFIX = "headrace · "
"""Of the names of data views."""
_LONGEST_TAG = 50
_MARK = re.compile(r" \[headrace ([0-9a-f]+)(?:/([0-9a-f]+))?\]$")


def tag_object(space: str, name: str) -> SavedObject:
    """Return a tag. ``name``: ``headrace``, or that of a connector."""
    label = re.sub(r"[^A-Za-z0-9_:-]", "-", name)
    if len(label) > _LONGEST_TAG:
        label = f"{label[: _LONGEST_TAG - 7]}-{content_hash(name)[:6]}"
    attributes = {"name": label, "description": "Made by headrace kibana", "color": "#54B399"}
    return _saved("tag", object_id("tag", space, name), attributes, [])


def data_view(space: str, index: str, time_field: str) -> SavedObject:
    """Return the data view of an index. Labels, formats and runtime fields belong to the users of Kibana."""
    attributes = {
        "title": index,
        "name": f"{VIEW_PREFIX}{index}",
        "sourceFilters": "[]",
        "fields": "[]",
        "fieldAttrs": "{}",
        "fieldFormatMap": "{}",
        "runtimeFieldMap": "{}",
        "allowHidden": False,
        **({"timeFieldName": time_field} if time_field else {}),
    }
    return _saved("index-pattern", object_id("data-view", space, index), attributes, [])


def saved_search(
    space: str, connector: str, view: SavedObject, title: str, columns: Sequence[str], tags: Sequence[SavedObject]
) -> SavedObject:
    """Return a saved search over a data view, newest documents first."""
    name = "kibanaSavedObjectMeta.searchSourceJSON.index"
    source = {"query": {"query": "", "language": "kuery"}, "filter": [], "indexRefName": name}
    time_field = view["attributes"].get("timeFieldName")
    attributes = {
        "title": title,
        "description": f"Made by headrace from the connector '{connector}'.",
        "columns": list(columns),
        "sort": [[time_field, "desc"]] if time_field else [],
        "grid": {},
        "hideChart": False,
        "isTextBasedQuery": False,
        "timeRestore": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": canonical(source)},
    }
    references = [{"type": "index-pattern", "id": view["id"], "name": name}, *map(tag_reference, tags)]
    index = view["attributes"]["title"]
    return marked(_saved("search", object_id("search", space, connector, index), attributes, references))


def dashboard(
    space: str,
    connector: str,
    view: SavedObject,
    panels: Sequence[Panel],
    time_range: str,
    tags: Sequence[SavedObject],
) -> SavedObject:
    """Return the dashboard of a connector's index. ``time_range`` as Kibana writes it, such as ``24h``."""
    index = view["attributes"]["title"]
    ident = object_id("dashboard", space, connector, index)
    placed = [
        panel_object(ident, view["id"], panel, place) for panel, place in zip(panels, layout(panels), strict=True)
    ]
    ignore = dict.fromkeys(("ignoreFilters", "ignoreQuery", "ignoreTimerange", "ignoreValidations"), False)
    options = {"useMargins": True, "syncColors": True, "syncCursor": True, "syncTooltips": False}
    attributes = {
        "title": f"headrace · {connector} · {index}",
        "description": f"Made by headrace from the connector '{connector}'. Save changes in a copy: "
        "`headrace kibana apply --overwrite` replaces this dashboard.",
        "timeRestore": True,
        "timeFrom": f"now-{time_range}",
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": 10_000},
        "version": 1,
        "panelsJSON": canonical(placed),
        "optionsJSON": canonical({**options, "hidePanelTitles": False}),
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": canonical({"query": {"query": "", "language": "kuery"}, "filter": []})
        },
        "controlGroupInput": {
            "controlStyle": "oneLine",
            "chainingSystem": "HIERARCHICAL",
            "showApplySelections": False,
            "panelsJSON": "{}",
            "ignoreParentSettingsJSON": canonical(ignore),
        },
    }
    references = [reference for panel in placed for reference in panel_references(panel)]
    return marked(_saved("dashboard", ident, attributes, [*references, *map(tag_reference, tags)]))


def tag_reference(tag: SavedObject) -> dict[str, str]:
    """Return the reference by which an object has a tag."""
    return {"type": "tag", "id": tag["id"], "name": f"tag-ref-{tag['id']}"}


def marked(item: SavedObject, stored: str = "") -> SavedObject:
    """Return the object with a mark in its description, by which a later change of its content is found.

    ``stored``: digest of the content as Kibana stores it, when that differs from what headrace built.
    """
    built, _ = mark_of(item)
    digest = built or content_hash(content(item))
    text = f"{_unmarked(item)} [headrace {digest}{'/' + stored if stored else ''}]"
    return {**item, "attributes": {**item["attributes"], "description": text}}


def mark_of(item: SavedObject) -> tuple[str, str]:
    """Return the digests of the content that headrace built and that Kibana stored; empty without a mark."""
    found = _MARK.search(str(item["attributes"].get("description", "")))
    return (found[1], found[2] or found[1]) if found else ("", "")


def content(item: SavedObject) -> Any:
    """Return what matters of an object, in one form: parsed JSON, sorted references, nothing that Kibana adds.

    Of data views only what headrace decides; tags have nothing but their name.
    """
    attributes = item["attributes"]
    if item["type"] == "index-pattern":
        return {name: attributes.get(name) for name in ("title", "name", "timeFieldName")}
    if item["type"] == "tag":
        return {"name": attributes.get("name")}
    shown = {name: _parsed(name, value) for name, value in attributes.items() if name != "description"}
    references = sorted(item.get("references", []), key=lambda each: (each["name"], each["type"], each["id"]))
    return {"attributes": {**shown, "description": _unmarked(item)}, "references": references}


def _parsed(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _parsed(key, inner) for key, inner in value.items()}
    return json.loads(value) if name.endswith("JSON") and isinstance(value, str) else value


def _unmarked(item: SavedObject) -> str:
    return _MARK.sub("", str(item["attributes"].get("description", "")))


def _saved(kind: str, ident: str, attributes: dict[str, Any], references: list[dict[str, str]]) -> SavedObject:
    return {
        "type": kind,
        "id": ident,
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": CORE_VERSION,
        "typeMigrationVersion": TYPE_VERSIONS[kind],
        "managed": False,
    }
