"""Runs every panel of a pack against Elasticsearch: fields exist, types fit, queries return data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from headrace.config import nearest
from headrace.errors import Finding, TaskError
from headrace.kibana.aggregations import UnsupportedColumnError, search_request, type_problem
from headrace.kibana.field_kinds import DATES
from headrace.kibana.lens import RECORDS
from headrace.kibana.pack import Pack, title_of
from headrace.kibana.saved_objects import SavedObject
from headrace.kibana.sinks import SearchableSink
from headrace.kibana.stored_panels import StoredLayer, StoredPanel, UnreadablePanelError, read_panels
from headrace.plugin import DashboardData, IndexedField


class PanelResult(NamedTuple):
    """What a panel shows: the layer, and the response to its query. ``documents``: how many match its time range."""

    dashboard: str
    panel: StoredPanel
    layer: StoredLayer
    documents: int
    aggregations: Mapping[str, Any]


class QueryCheck:
    """Checks the panels of packs against the data of sinks. Used from one thread."""

    def __init__(self, sinks: Sequence[SearchableSink]) -> None:
        self._data = {target.name: sink.data for sink in sinks for target in sink.targets}
        self._fields: dict[str, Mapping[str, IndexedField] | None] = {}
        self.results: list[PanelResult] = []
        """Of all queries that returned data."""

    def findings(self, pack: Pack) -> list[Finding]:
        """Return what is wrong, with the panel's name and what to do.

        Raise RetriableError and InfrastructureError when Elasticsearch cannot be asked.
        """
        views = {item["id"]: item["attributes"] for item in pack.of_type("index-pattern")}
        found = [finding for view in views.values() for finding in self._of_view(view)]
        for item in pack.of_type("dashboard"):
            found += self._of_dashboard(item, views)
        for rule in pack.rules:
            found += self._of_rule(rule)
        return found

    def _of_view(self, view: Mapping[str, Any]) -> Iterator[Finding]:
        index, time_field = view["title"], view.get("timeFieldName")
        if index not in self._data:
            hint = nearest(index, self._data) or "name the sink's file too, or build the pack again"
            text = f"data view '{index}': none of the sinks in the files writes to it, so it is not checked"
            yield Finding("kibana.unknown_index", text, view.get("name", index), hint)
        elif (fields := self._fields_of(index)) is None:
            text = f"data view '{index}': there is no such index"
            yield Finding("kibana.no_index", text, index, "start the connector, so that it creates the index")
        elif time_field and (time_field not in fields or fields[time_field].type not in DATES):
            text = f"data view '{index}': the time field '{time_field}' is not mapped as date"
            dates = [name for name, field in fields.items() if field.type in DATES]
            hint = f"build the pack again with --live; date fields: {', '.join(dates) or 'none'}"
            yield Finding("kibana.wrong_type", text, index, hint)

    def _of_dashboard(self, item: SavedObject, views: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
        try:
            panels = read_panels(item)
        except UnreadablePanelError:
            return  # the check of the structure reports it
        attributes = item["attributes"]
        times = (attributes.get("timeFrom", "now-15m"), attributes.get("timeTo", "now"))
        for panel in panels:
            for layer in panel.layers:
                if layer.kind != "formBased":
                    text = f"panel '{panel.title}': only panels of a data view are checked, not '{layer.kind}'"
                    yield Finding("kibana.not_checked", text, panel.title, severity="warning")
                    continue
                view = views.get(panel.views.get(layer.id, ""))
                if view is None or self._fields_of(view["title"]) is None:
                    continue  # reported as a reference, or for the data view
                wrong = list(self._of_columns(panel, layer, view["title"]))
                yield from wrong
                if not wrong:
                    yield from self._of_query(title_of(item), panel, layer, view, times)

    def _of_columns(self, panel: StoredPanel, layer: StoredLayer, index: str) -> Iterator[Finding]:
        fields = self._fields_of(index) or {}
        for name, column in layer.columns.items():
            path = column.get("sourceField", "")
            if path == RECORDS:
                continue
            if path not in fields:
                # Elasticsearch returns 0 for the sum of a field that does not exist: no query would show this.
                text = f"panel '{panel.title}': the field '{path}' is not mapped in '{index}'"
                hint = nearest(path, fields) or "build the pack again with --live"
                yield Finding("kibana.unmapped_field", text, panel.title, hint)
            elif not fields[path].aggregatable:
                text = f"panel '{panel.title}': the field '{path}' ({fields[path].type}) cannot be aggregated"
                hint = f"use '{path}.keyword'" if f"{path}.keyword" in fields else "map it as keyword"
                yield Finding("kibana.wrong_type", text, panel.title, hint)
            elif problem := type_problem(column, fields[path].type):
                text = f"panel '{panel.title}', column '{name}': {problem}, and '{path}' is mapped as"
                hint = "build the pack again with --live, or map the field differently and run `headrace reindex`"
                yield Finding("kibana.wrong_type", f"{text} {fields[path].type}", panel.title, hint)

    def _of_query(
        self,
        dashboard: str,
        panel: StoredPanel,
        layer: StoredLayer,
        view: Mapping[str, Any],
        times: tuple[str, str],
    ) -> Iterator[Finding]:
        data, index, time_field = self._data[view["title"]], view["title"], view.get("timeFieldName", "")
        try:
            request = search_request(layer, time_field, times)
            answer = data.search(index, request)
        except UnsupportedColumnError as error:
            text = f"panel '{panel.title}': {error}, which this check does not run"
            yield Finding("kibana.not_checked", text, panel.title, severity="warning")
            return
        except TaskError as error:
            yield Finding("kibana.query_failed", f"panel '{panel.title}': {error.message}", panel.title, error.hint)
            return
        documents, found = answer["hits"]["total"]["value"], answer.get("aggregations", {})
        if (documents and any(_has_values(each) for each in found.values())) or (documents and not found):
            self.results.append(PanelResult(dashboard, panel, layer, documents, found))
        else:
            yield self._without_data(panel, data, index, time_field, times, documents)

    @staticmethod
    def _without_data(
        panel: StoredPanel, data: DashboardData, index: str, time_field: str, times: tuple[str, str], documents: int
    ) -> Finding:
        where = f"panel '{panel.title}' has no data in '{index}'"
        if documents:
            text, hint = f"{where}: no document has a value of its field", "see `headrace verify`, or build it again"
            return Finding("kibana.no_data", text, panel.title, hint)
        newest = {"newest": {"max": {"field": time_field}}} if time_field else {}
        request = {"size": 0, "track_total_hits": True, **({"aggs": newest} if newest else {})}
        answer = data.search(index, request)
        if not answer["hits"]["total"]["value"]:
            return Finding("kibana.no_data", f"{where}: the index is empty", panel.title, "index a document")
        value = answer.get("aggregations", {}).get("newest", {}).get("value_as_string", "unknown")
        text = f"{where} from {times[0]} to {times[1]}; the newest '{time_field}' is {value}"
        hint = "build with a longer --time-range, or another --time-field"
        return Finding("kibana.no_data", text, panel.title, hint)

    def _of_rule(self, rule: Mapping[str, Any]) -> Iterator[Finding]:
        params = rule["params"]
        for index in params.get("index", ()):
            fields = self._fields_of(index)
            if fields is not None and getattr(fields.get(params.get("timeField", "")), "type", "") not in DATES:
                text = f"rule '{rule['name']}': '{params.get('timeField')}' is not mapped as date in '{index}'"
                yield Finding("kibana.wrong_type", text, rule["name"], "build the pack again with --live")

    def _fields_of(self, index: str) -> Mapping[str, IndexedField] | None:
        if index not in self._fields:
            found = self._data[index].fields(index) if index in self._data else None
            self._fields[index] = None if found is None else {field.path: field for field in found}
        return self._fields[index]


def _has_values(aggregation: Mapping[str, Any]) -> bool:
    if "buckets" in aggregation:
        return bool(aggregation["buckets"])
    if "values" in aggregation:
        return any(value is not None for value in aggregation["values"].values())
    return aggregation.get("value") is not None
