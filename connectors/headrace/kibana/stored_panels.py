"""Reads the panels of a stored dashboard, also of one that was changed by hand and may be wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from headrace.kibana.saved_objects import SavedObject


class StoredLayer(NamedTuple):
    """One query of a panel. ``kind``: ``formBased``, or another that headrace does not read."""

    id: str
    kind: str
    definition: Mapping[str, Any]

    @property
    def columns(self) -> Mapping[str, Any]:
        """In the order in which they are computed; columns that ``columnOrder`` lacks are last."""
        found = self.definition.get("columns", {})
        if not isinstance(found, Mapping):
            return {each["columnId"]: each for each in found}
        ordered = [name for name in self.definition.get("columnOrder", ()) if name in found]
        return {name: found[name] for name in dict.fromkeys([*ordered, *found])}


class StoredPanel(NamedTuple):
    """One panel of a dashboard, with the data views of its layers by the id of the layer."""

    title: str
    id: str
    chart: str
    grid: Mapping[str, Any]
    layers: list[StoredLayer]
    accessors: frozenset[str]
    """The columns that the visualization shows."""
    views: Mapping[str, str]


class UnreadablePanelError(Exception):
    """A part of the dashboard has not the structure that Kibana writes."""


def read_panels(dashboard: SavedObject) -> list[StoredPanel]:
    """Return all panels of a dashboard. Raise UnreadablePanelError."""
    try:
        panels = json.loads(dashboard["attributes"]["panelsJSON"])
        references = {each["name"]: each["id"] for each in dashboard["references"]}
        return [_panel(panel, references) for panel in panels]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadablePanelError(f"{type(error).__name__}: {error}") from error


def _panel(panel: Mapping[str, Any], references: Mapping[str, str]) -> StoredPanel:
    attributes = panel["embeddableConfig"]["attributes"]
    state = attributes["state"]
    layers = [
        StoredLayer(ident, kind, layer)
        for kind, source in state["datasourceStates"].items()
        for ident, layer in source.get("layers", {}).items()
    ]
    prefix = f"{panel['panelIndex']}:indexpattern-datasource-layer-"
    views = {layer.id: references[prefix + layer.id] for layer in layers if prefix + layer.id in references}
    title = panel.get("title") or attributes.get("title") or panel["panelIndex"]
    shown = frozenset(_accessors(state["visualization"]))
    return StoredPanel(
        title, panel["panelIndex"], attributes["visualizationType"], panel["gridData"], layers, shown, views
    )


def _accessors(part: Any) -> Iterator[str]:
    """Yield the ids of columns in the state of a visualization, whatever its kind."""
    if isinstance(part, list):
        for each in part:
            yield from _accessors(each)
        return
    if not isinstance(part, dict):
        return
    for name, value in part.items():
        if name == "columnId" or (name.endswith("Accessor") and isinstance(value, str)):
            yield value
        elif name in ("accessors", "primaryGroups", "metrics"):
            yield from value
        elif name in ("layers", "columns"):
            yield from _accessors(value)
