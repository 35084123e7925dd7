"""Pictures of dashboards as SVG, from the same queries that Kibana sends: what a pack shows, without a Kibana."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError
from headrace.kibana.query_check import PanelResult

_UNIT, _GAP, _HEAD = 24, 8, 44
"""Pixels of a column of the grid, between panels, and of the title."""
_ROW = 22
_COLORS = ("#54B399", "#6092C0", "#D36086", "#9170B8", "#CA8EAE", "#D6BF57", "#B9A888", "#DA8B45", "#AA6556", "#E7664C")
_INK, _FAINT, _LINE = "#343741", "#69707D", "#D3DAE6"
_MOST_ROWS, _LONGEST, _LEGEND = 10, 26, 12
Box = tuple[float, float, float, float]
"""x, y, width, height."""
Series = Sequence[tuple[float, float]]
"""Times in milliseconds, and values."""


def write_previews(results: Sequence[PanelResult], folder: Path) -> list[Path]:
    """Write one SVG for each dashboard. Return the paths. Raise ConfigError."""
    dashboards: dict[str, list[PanelResult]] = {}
    for result in results:
        dashboards.setdefault(result.dashboard, []).append(result)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for title, panels in dashboards.items():
            name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in title)
            path = folder / f"{name.replace('---', '-')}.svg"
            path.write_text(picture(title, panels), encoding="utf-8")
            paths.append(path)
    except OSError as error:
        text = f"the pictures cannot be written to {folder}: {error.strerror or error}"
        raise ConfigError(text, code="kibana.bad_folder", hint="choose another folder with --preview") from error
    return paths


def picture(title: str, panels: Sequence[PanelResult]) -> str:
    """Return the SVG of a dashboard."""
    width = 48 * _UNIT + 2 * _GAP
    bottom = max(each.panel.grid["y"] + each.panel.grid["h"] for each in panels)
    height = bottom * _ROW + _HEAD + _GAP
    body = "\n".join(line for each in panels for line in _panel(each))
    font = 'font-family="Inter, Helvetica, Arial, sans-serif"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" {font}>\n'
        f'<rect width="{width}" height="{height}" fill="#F7F8FC"/>\n'
        f"{_text(_GAP * 2, 28, title, 18, weight=600)}\n{body}\n</svg>\n"
    )


def _panel(result: PanelResult) -> Iterator[str]:
    grid = result.panel.grid
    x, y = _GAP + grid["x"] * _UNIT + _GAP / 2, _HEAD + grid["y"] * _ROW
    width, height = grid["w"] * _UNIT - _GAP, grid["h"] * _ROW - _GAP
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#fff" stroke="{_LINE}"/>'
    yield _text(x + 12, y + 22, result.panel.title, 13, weight=600)
    box = (x + 12, y + 34, width - 24, height - 44)
    match result.panel.chart if _is_drawn(result) else "":
        case "lnsMetric":
            yield from _metric(result, box)
        case "lnsXY":
            yield from _chart(result, box)
        case "lnsPie":
            yield from _pie(result, box)
        case "lnsDatatable":
            yield from _table(result, box)
        case _:
            yield _text(box[0], box[1] + 16, "There is no picture of it", 12, color=_FAINT)


def _is_drawn(result: PanelResult) -> bool:
    """Return whether the panel has the columns of those that headrace makes; users may have made others."""
    operations = [column.get("operationType") for column in result.layer.columns.values() if column["isBucketed"]]
    values = len(result.layer.columns) - len(operations)
    match result.panel.chart:
        case "lnsMetric":
            return not operations and values == 1
        case "lnsXY":
            return operations[:1] == ["date_histogram"] and len(operations) <= 2 and values > 0
        case "lnsPie":
            return len(operations) > 0 and values > 0
    return True


def _metric(result: PanelResult, box: Box) -> Iterator[str]:
    x, y, _, height = box
    (column,) = result.layer.columns
    date = result.layer.columns[column].get("dataType") == "date"
    value = _value(result.aggregations.get(column), result.documents)
    shown = _moment(value) if date and value is not None else _number(value)
    size = 17 if date else 34
    yield _text(x, y + height * 0.6, shown, size, weight=700, color=_COLORS[1])
    yield _text(x, y + height * 0.6 + 24, str(result.layer.columns[column]["label"]), 12, color=_FAINT)


def _chart(result: PanelResult, box: Box) -> Iterator[str]:
    columns = result.layer.columns
    time, *splits = (name for name, column in columns.items() if column["isBucketed"])
    values = [name for name, column in columns.items() if not column["isBucketed"]]
    buckets = result.aggregations[time]["buckets"]
    series: dict[str, list[tuple[float, float]]] = {}
    for bucket in buckets:
        parts = bucket[splits[0]]["buckets"] if splits else [bucket]
        for part in parts:
            for name in values:
                label = str(part.get("key_as_string", part["key"])) if splits else str(columns[name]["label"])
                if (value := _value(part.get(name), part["doc_count"])) is not None:
                    series.setdefault(label, []).append((bucket["key"], value))
    lines = any(columns[name]["operationType"] in ("percentile", "max") for name in values)
    times = [bucket["key"] for bucket in buckets]
    x, y, width, height = box
    inside = (x + 50, y + 4, width - 50 - (130 if len(series) > 1 else 0), height - 26)
    yield from (_lines(series, times, inside) if lines else _bars(series, times, inside))
    if len(series) > 1:
        yield from _legend(list(series), x + width - 120, y + 12)


def _bars(series: Mapping[str, Series], times: Sequence[float], box: Box) -> Iterator[str]:
    x, y, width, height = box
    stacks: dict[float, float] = dict.fromkeys(times, 0.0)
    for points in series.values():
        for time, value in points:
            stacks[time] += value
    highest = max(stacks.values(), default=0) or 1
    yield from _axes(times, highest, box)
    step = _step(times)
    count = (times[-1] - times[0]) / step + 1
    wide = width / count
    base: dict[float, float] = dict.fromkeys(times, 0.0)
    for number, points in enumerate(series.values()):
        for time, value in points:
            tall = height * value / highest
            left = x + (time - times[0]) / step * wide
            top = y + height - base[time] - tall
            base[time] += tall
            color = _COLORS[number % len(_COLORS)]
            yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide * 0.85:.1f}" height="{tall:.1f}" fill="{color}"/>'


def _lines(series: Mapping[str, Series], times: Sequence[float], box: Box) -> Iterator[str]:
    x, y, width, height = box
    highest = max((value for points in series.values() for _, value in points), default=0) or 1
    yield from _axes(times, highest, box)
    span = max(times[-1] - times[0], 1)
    for number, points in enumerate(series.values()):
        color = _COLORS[number % len(_COLORS)]
        places = [(x + width * (time - times[0]) / span, y + height * (1 - value / highest)) for time, value in points]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
        for left, top in places if len(places) < 3 else ():
            yield f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="{color}"/>'


def _axes(times: Sequence[float], highest: float, box: Box) -> Iterator[str]:
    x, y, width, height = box
    for part in (0.0, 0.5, 1.0):
        level = y + height * (1 - part)
        yield f'<line x1="{x}" x2="{x + width}" y1="{level:.1f}" y2="{level:.1f}" stroke="{_LINE}"/>'
        yield _text(x - 6, level + 4, _number(highest * part), 11, color=_FAINT, anchor="end")
    yield _text(x, y + height + 18, _moment(times[0], short=True), 11, color=_FAINT)
    if len(times) > 1:
        yield _text(x + width, y + height + 18, _moment(times[-1], short=True), 11, color=_FAINT, anchor="end")


def _pie(result: PanelResult, box: Box) -> Iterator[str]:
    group, value = _grouped(result)
    found = result.aggregations[group]
    parts = [(_label(bucket), _value(bucket.get(value), bucket["doc_count"]) or 0.0) for bucket in found["buckets"]]
    if other := found.get("sum_other_doc_count"):
        parts.append(("Other", other))
    x, y, width, height = box
    radius = min(height, width / 2) / 2 - 4
    middle_x, middle_y = x + radius + 8, y + height / 2
    total = sum(amount for _, amount in parts) or 1.0
    round_length = 2 * math.pi * radius * 0.75
    done = 0.0
    for number, (_, amount) in enumerate(parts):
        length = round_length * amount / total
        yield (
            f'<circle cx="{middle_x:.1f}" cy="{middle_y:.1f}" r="{radius * 0.75:.1f}" fill="none" '
            f'stroke="{_COLORS[number % len(_COLORS)]}" stroke-width="{radius * 0.5:.1f}" '
            f'stroke-dasharray="{length:.2f} {round_length - length:.2f}" stroke-dashoffset="{-done:.2f}" '
            f'transform="rotate(-90 {middle_x:.1f} {middle_y:.1f})"/>'
        )
        done += length
    labels = [f"{label}  {amount / total:.0%}" for label, amount in parts]
    yield from _legend(labels, x + radius * 2 + 40, y + 12)


def _table(result: PanelResult, box: Box) -> Iterator[str]:
    x, y, width, height = box
    columns = result.layer.columns
    groups = [name for name, column in columns.items() if column["isBucketed"]]
    rows = result.aggregations[groups[0]]["buckets"] if groups else [{**result.aggregations, "doc_count": 0}]
    wide = width / len(columns)
    for number, (name, column) in enumerate(columns.items()):
        left, anchor = (x, "start") if name in groups else (x + wide * (number + 1) - 4, "end")
        yield _text(left, y + 12, str(column["label"]), 11, weight=600, color=_FAINT, anchor=anchor)
        for line, row in enumerate(rows[: min(_MOST_ROWS, int(height // 20) - 1)]):
            shown = _label(row) if name in groups else _number(_value(row.get(name), row["doc_count"]))
            yield _text(left, y + 34 + line * 20, shown, 12, anchor=anchor)


def _legend(labels: Sequence[str], x: float, y: float) -> Iterator[str]:
    for number, label in enumerate(labels[:_LEGEND]):
        color = _COLORS[number % len(_COLORS)]
        yield f'<circle cx="{x}" cy="{y + number * 18 - 4}" r="5" fill="{color}"/>'
        yield _text(x + 10, y + number * 18, label, 11)


def _grouped(result: PanelResult) -> tuple[str, str]:
    columns = result.layer.columns
    group = next(name for name, column in columns.items() if column["isBucketed"])
    return group, next(name for name, column in columns.items() if not column["isBucketed"])


def _value(aggregation: Mapping[str, Any] | None, documents: int) -> float | None:
    """Return the value of a metric; without an aggregation it is the count."""
    if aggregation is None:
        return documents
    found = next(iter(aggregation["values"].values())) if "values" in aggregation else aggregation.get("value")
    return None if found is None else float(found)


def _label(bucket: Mapping[str, Any]) -> str:
    return str(bucket.get("key_as_string", bucket.get("key", "")))


def _step(times: Sequence[float]) -> float:
    return min((after - before for before, after in pairwise(times)), default=1.0)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def _moment(milliseconds: float, *, short: bool = False) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M}" if short else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _text(
    x: float, y: float, text: str, size: int, *, weight: int = 400, color: str = _INK, anchor: str = "start"
) -> str:
    shown = text if len(text) <= _LONGEST or size > 12 else f"{text[: _LONGEST - 1]}…"
    style = f'font-size="{size}" font-weight="{weight}" fill="{color}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(shown)}</text>'
