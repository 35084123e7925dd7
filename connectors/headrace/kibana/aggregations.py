"""Panels as searches: the same aggregations that Kibana makes of a layer. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from headrace.kibana.field_kinds import DATES, NUMBERS
from headrace.kibana.lens import RECORDS
from headrace.kibana.stored_panels import StoredLayer

_BUCKETS = 60
_RELATIVE = re.compile(r"now-(\d+)([smhdwMy])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "M": 2_592_000, "y": 31_536_000}
_METRICS: dict[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
    "count": lambda field, params: {"value_count": {"field": field}},
    "sum": lambda field, params: {"sum": {"field": field}},
    "average": lambda field, params: {"avg": {"field": field}},
    "min": lambda field, params: {"min": {"field": field}},
    "max": lambda field, params: {"max": {"field": field}},
    "unique_count": lambda field, params: {"cardinality": {"field": field}},
    "median": lambda field, params: {"percentiles": {"field": field, "percents": [50]}},
    "percentile": lambda field, params: {"percentiles": {"field": field, "percents": [params["percentile"]]}},
    "standard_deviation": lambda field, params: {"extended_stats": {"field": field}},
}
_OF_NUMBERS = frozenset(["sum", "average", "median", "percentile", "standard_deviation"])


class UnsupportedColumnError(Exception):
    """The operation of a column has no translation here."""


def search_request(layer: StoredLayer, time_field: str, time_range: tuple[str, str]) -> dict[str, Any]:
    """Return the search of a layer. Without ``time_field`` all documents count. Raise UnsupportedColumnError."""
    columns = layer.columns
    metrics = {
        name: _metric(name, column)
        for name, column in columns.items()
        if not column.get("isBucketed") and not _counts_documents(column)
    }
    since, until = time_range
    interval = _interval(since)
    inner: dict[str, Any] = dict(metrics)
    for name in reversed(list(columns)):
        if columns[name].get("isBucketed"):
            inner = {name: {**_grouping(name, columns, metrics, interval), **({"aggs": inner} if inner else {})}}
    times = {"range": {time_field: {"gte": since, "lte": until}}} if time_field else {"match_all": {}}
    return {"size": 0, "track_total_hits": True, "query": times, **({"aggs": inner} if inner else {})}


def _counts_documents(column: Mapping[str, Any]) -> bool:
    """Return whether a column counts documents, and not values of a field."""
    return column.get("operationType") == "count" and column.get("sourceField", RECORDS) == RECORDS


def type_problem(column: Mapping[str, Any], kind: str) -> str:
    """Return why a column cannot be computed of a field of this type; empty if it can."""
    operation = column.get("operationType")
    if operation in _OF_NUMBERS and kind not in NUMBERS:
        return f"'{operation}' needs a number"
    if operation == "date_histogram" and kind not in DATES:
        return f"'{operation}' needs a date"
    if operation in ("min", "max"):
        if kind not in NUMBERS | DATES:
            return f"'{operation}' needs a number or a date"
        if (column.get("dataType") == "date") != (kind in DATES):
            return f"'{operation}' is shown as a {column.get('dataType')}"
    return ""


def _metric(name: str, column: Mapping[str, Any]) -> dict[str, Any]:
    make = _METRICS.get(str(column.get("operationType")))
    if make is None:
        raise UnsupportedColumnError(f"column '{name}' has the operation '{column.get('operationType')}'")
    try:
        return make(column["sourceField"], column.get("params", {}))
    except KeyError as error:
        raise UnsupportedColumnError(f"column '{name}' lacks {error}") from error


def _interval(since: str) -> int:
    """Return the seconds of a bucket. As with Kibana's interval "auto", a longer time range has longer buckets."""
    found = _RELATIVE.fullmatch(since)
    return max(1, int(found[1]) * _SECONDS[found[2]] // _BUCKETS) if found else _SECONDS["d"]


def _grouping(name: str, columns: Mapping[str, Any], metrics: Mapping[str, Any], interval: int) -> dict[str, Any]:
    column = columns[name]
    params = column.get("params", {})
    match column.get("operationType"):
        case "date_histogram":
            field = {"field": column["sourceField"], "time_zone": "UTC", "min_doc_count": 1}
            return {"date_histogram": {**field, "fixed_interval": f"{interval}s"}}
        case "terms":
            order = params.get("orderBy", {})
            by = order.get("columnId", "")
            key = "_key" if order.get("type") == "alphabetical" else by if by in metrics else "_count"
            if key in metrics and "percentiles" in metrics[key]:
                percent = metrics[key]["percentiles"]["percents"][0]
                key = f"{key}.{percent}"
            size = {"size": params.get("size", 10)}
            direction = params.get("orderDirection", "desc")
            return {"terms": {"field": column["sourceField"], **size, "order": {key: direction}}}
    raise UnsupportedColumnError(f"column '{name}' has the operation '{column.get('operationType')}'")
