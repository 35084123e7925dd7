"""Charts as SVG: the only module that imports matplotlib.

The same numbers give the same bytes. Texts remain texts, so that they can be searched and copied. Colours are those of
Okabe and Ito (2008), which readers with any colour vision can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace import ConfigError
from headrace_streams.exploration.special import Floats

BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
_GREY, _LIGHT, _TEXT = "#8A94A0", "#E3E7EB", "#1F2933"
_WIDTH = 8.6  # inches; the page scales the picture
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headrace",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.5,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _LIGHT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": _LIGHT,
    "grid.linewidth": 0.8,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Interval:
    """A value with its interval. ``strong``: drawn in colour, not in grey."""

    label: str
    value: float
    low: float
    high: float
    strong: bool = True
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A line over x, with an optional band from ``low`` to ``high``."""

    label: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


def intervals(rows: Sequence[Interval], label: str, reference: float | None = None) -> str:
    """Return values with their intervals below each other, the first at the top. All are shares."""
    figure, axes = _figure(max(1.2, 0.36 * len(rows) + 0.85))
    positions = range(len(rows) - 1, -1, -1)
    for position, row in zip(positions, rows, strict=True):
        colour = BLUE if row.strong else _GREY
        axes.plot([row.low, row.high], [position, position], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot([row.value], [position], "o", color=colour, markersize=6)
        if row.note:
            axes.annotate(
                row.note, (1.005, position), xycoords=("axes fraction", "data"), va="center", fontsize=10, color=_GREY
            )
    if reference is not None:
        axes.axvline(reference, color=_TEXT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(list(positions), [row.label for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    _percent(axes.xaxis)
    return _svg(figure)


def matrix(names: Sequence[str], values: Floats) -> str:
    """Return a square of associations between 0 and 1."""
    size = min(_WIDTH, 0.5 * len(names) + 2.2)
    figure, axes = _figure(size * 0.86, size + 0.6)
    # Not imshow: it writes a bitmap.
    axes.pcolormesh(values, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1.5)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    middles = [position + 0.5 for position in range(len(names))]
    for row in range(len(names)):
        for column in range(len(names)):
            if row != column and values[row, column] >= 0.005:
                colour = "white" if values[row, column] > 0.6 else _TEXT
                text = f"{values[row, column]:.2f}".removeprefix("0")
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=colour, fontsize=9.5)
    axes.set_xticks(middles, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(middles, names)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return _svg(figure)


def lines(
    series: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    percent: bool = True,
    percent_x: bool = False,
    zero: bool = False,
    bottom: float | None = None,
    reference: float | None = None,
) -> str:
    """Return lines with their bands. ``zero``: a line at 0; ``reference``: a dashed line at this height."""
    figure, axes = _figure(3.4)
    for line, colour in zip(series, _colours(len(series)), strict=True):
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(line.x, line.y, color=colour, linewidth=2, label=line.label)
    if zero:
        axes.axhline(0, color=_TEXT, linewidth=1)
    if reference is not None:
        axes.axhline(reference, color=_TEXT, linewidth=1, linestyle=(0, (4, 3)))
    if bottom is not None:
        axes.set_ylim(bottom=bottom)
    axes.margins(x=0.01)
    axes.tick_params(pad=7)  # the first labels of both axes do not touch
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    for axis, shares in ((axes.xaxis, percent_x), (axes.yaxis, percent)):
        if shares:
            _percent(axis)
        else:
            axis.set_major_formatter(_thousands)
    if len(series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=10.5, frameon=False)
    return _svg(figure)


def reliability(predicted: Floats, observed: Sequence[Interval], label: str) -> str:
    """Return observed rates against predictions; a calibrated model is on the diagonal."""
    figure, axes = _figure(4.2, 5.2)
    top = float(max(predicted.max(), *(point.high for point in observed))) * 1.05
    axes.plot([0, top], [0, top], color=_TEXT, linewidth=1, linestyle=(0, (4, 3)))
    for x, point in zip(predicted, observed, strict=True):
        axes.plot([x, x], [point.low, point.high], color=BLUE, linewidth=2, solid_capstyle="round")
        axes.plot([x], [point.value], "o", color=BLUE, markersize=5.5)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.tick_params(pad=7)
    axes.set_xlabel(f"predicted {label}")
    axes.set_ylabel(f"observed {label}")
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    return _svg(figure)


def histogram(values: Floats, label: str) -> str:
    """Return how many values are in ranges of equal ratio, with a logarithmic axis."""
    figure, axes = _figure(2.6)
    positive = values[values > 0]
    edges = np.geomspace(positive.min() * 0.999, max(positive.max(), positive.min() * 1.01) * 1.001, 31)
    axes.hist(positive, bins=edges, color=BLUE, edgecolor="white", linewidth=0.6)
    axes.set_xscale("log")
    axes.axvline(1, color=_TEXT, linewidth=1, linestyle=(0, (4, 3)))
    ticks = [tick for power in range(-6, 7) for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power)]
    shown = [tick for tick in ticks if edges[0] <= tick <= edges[-1]]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(_thousands)
    axes.set_xlabel(label)
    axes.set_ylabel("impressions")
    return _svg(figure)


def bars(labels: Sequence[str], values: Sequence[float], label: str) -> str:
    """Return positive and negative values below each other, the first at the top."""
    figure, axes = _figure(max(1.2, 0.32 * len(labels) + 0.75))
    positions = list(range(len(labels) - 1, -1, -1))
    axes.barh(positions, values, height=0.62, color=[BLUE if value >= 0 else RED for value in values])
    axes.axvline(0, color=_TEXT, linewidth=1)
    axes.set_yticks(positions, labels)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    return _svg(figure)


def _colours(count: int) -> list[str]:
    return [COLOURS[position % len(COLOURS)] for position in range(count)]


def _thousands(value: float, _: int) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,g}"


def _percent(axis: Any) -> None:
    axis.set_major_formatter(lambda value, _: f"{value * 100:.6g} %".replace("-", "−"))


def _figure(height: float, width: float = _WIDTH) -> tuple[Any, Any]:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"reports need matplotlib: {error}",
            code="experiment.missing_extra",
            hint="pip install 'headrace[reports]'",
        ) from error
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        return figure, figure.add_subplot()


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return text.getvalue()[text.getvalue().index("<svg") :]
