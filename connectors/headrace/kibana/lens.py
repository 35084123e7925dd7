"""Panels as Kibana stores them: Lens visualizations by value, inside of their dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.kibana.field_kinds import NUMBERS
from headrace.kibana.ids import object_id
from headrace.kibana.panel_choice import Chart, Panel, PanelColumn

RECORDS = "___records___"
"""The field of a count."""
WIDTH = 48
"""Columns of a dashboard's grid."""
_ROW_HEIGHT = 12
_METRIC = (12, 8)
"""Width and height of a metric."""


def panel_object(owner: str, view_id: str, panel: Panel, place: Mapping[str, int]) -> dict[str, Any]:
    """Return a panel of ``panelsJSON``. ``owner`` is the id of the dashboard."""
    panel_id, layer_id = object_id("panel", owner, panel.key), object_id("layer", owner, panel.key)
    columns = {column.id: _column(column) for column in panel.columns}
    layer = {"columns": columns, "columnOrder": list(columns), "incompleteColumns": {}, "sampling": 1}
    reference = {"type": "index-pattern", "id": view_id, "name": f"indexpattern-datasource-layer-{layer_id}"}
    state = {
        "visualization": _visualization(panel, layer_id),
        "query": {"query": "", "language": "kuery"},
        "filters": [],
        "datasourceStates": {"formBased": {"layers": {layer_id: {**layer, "ignoreGlobalFilters": False}}}},
        "internalReferences": [],
        "adHocDataViews": {},
    }
    attributes = {
        "title": panel.title,
        "description": "",
        "visualizationType": panel.chart,
        "type": "lens",
        "references": [reference],
        "state": state,
    }
    return {
        "type": "lens",
        "panelIndex": panel_id,
        "gridData": {**place, "i": panel_id},
        "title": panel.title,
        "embeddableConfig": {"attributes": attributes, "enhancements": {}, "hidePanelTitles": False},
    }


def panel_references(panel: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the references of a panel as its dashboard has them: with the panel's id before their names."""
    references = panel["embeddableConfig"]["attributes"]["references"]
    return [{**each, "name": f"{panel['panelIndex']}:{each['name']}"} for each in references]


def layout(panels: Sequence[Panel]) -> list[dict[str, int]]:
    """Return the place of each panel: metrics and what follows them in the first row, then two panels in a row."""
    metrics = [panel for panel in panels if panel.chart == "lnsMetric"]
    width, height = _METRIC
    places = [{"x": width * number, "y": 0, "w": width, "h": height} for number in range(len(metrics))]
    rest = len(panels) - len(metrics)
    top = height
    if rest and metrics:
        start = width * len(metrics)
        places.append({"x": start, "y": 0, "w": WIDTH - start, "h": height})
        rest -= 1
    for number in range(rest):
        alone = number == rest - 1 and rest % 2 == 1
        row, side = divmod(number, 2)
        half = WIDTH // 2
        places.append({"x": side * half, "y": top + row * _ROW_HEIGHT, "w": WIDTH if alone else half, "h": _ROW_HEIGHT})
    return places


def _column(column: PanelColumn) -> dict[str, Any]:
    return {
        "label": column.label,
        "customLabel": True,
        "dataType": _data_type(column),
        "operationType": column.operation,
        "isBucketed": column.groups,
        "sourceField": column.field or RECORDS,
        "params": _parameters(column),
    }


def _data_type(column: PanelColumn) -> str:
    if column.operation == "date_histogram" or (column.operation == "max" and column.type not in NUMBERS):
        return "date"
    if not column.groups or column.type in NUMBERS:
        return "number"
    return column.type if column.type in ("boolean", "ip") else "string"


def _parameters(column: PanelColumn) -> dict[str, Any]:
    match column.operation:
        case "date_histogram":
            return {"interval": "auto", "includeEmptyRows": True, "dropPartials": False}
        case "terms":
            return {
                "size": column.number,
                "orderBy": {"type": "column", "columnId": column.order_by},
                "orderDirection": "desc",
                "otherBucket": True,
                "missingBucket": False,
                "parentFormat": {"id": "terms"},
                "include": [],
                "exclude": [],
                "includeIsRegex": False,
                "excludeIsRegex": False,
            }
        case "percentile":
            return {"percentile": column.number}
        case "max":
            return {}
        case _:
            return {"emptyAsNull": True}


def _visualization(panel: Panel, layer_id: str) -> dict[str, Any]:
    layer = {"layerId": layer_id, "layerType": "data"}
    groups = [column for column in panel.columns if column.groups]
    values = [column.id for column in panel.columns if not column.groups]
    chart: Chart = panel.chart
    match chart:
        case "lnsMetric":
            return {**layer, "metricAccessor": values[0]}
        case "lnsDatatable":
            return {**layer, "columns": [{"columnId": column.id, "isTransposed": False} for column in panel.columns]}
        case "lnsPie":
            shown = {"numberDisplay": "percent", "categoryDisplay": "default", "legendDisplay": "default"}
            parts = {"primaryGroups": [column.id for column in groups], "metrics": values, "nestedLegend": False}
            return {"shape": "donut", "layers": [{**layer, **parts, **shown}]}
        case "lnsXY":
            lines = any(column.operation in ("percentile", "max") for column in panel.columns)
            series = "line" if lines else "bar_stacked"
            axes = {"seriesType": series, "xAccessor": groups[0].id, "accessors": values, "position": "top"}
            split = {"splitAccessor": groups[1].id} if len(groups) > 1 else {}
            return {
                "layers": [{**layer, **axes, **split, "showGridlines": False}],
                "preferredSeriesType": series,
                "legend": {"isVisible": True, "position": "right"},
                "valueLabels": "hide",
            }
