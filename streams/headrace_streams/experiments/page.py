"""A report as one HTML page: no script, no font and no picture of another address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Tone = Literal["good", "bad", "open"]


@dataclass(frozen=True)
class Figure:
    """A number of the head of a report, and what it is."""

    value: str
    label: str


@dataclass(frozen=True)
class Section:
    """A part of a report: what it shows, how to read it, a chart, a table."""

    title: str
    text: str
    svg: str = ""
    table: str = ""


_IDS = re.compile(r'(\bid="|xlink:href="#|href="#|url\(#)')
_STYLE = """
body { margin: 0; background: #f4f6f8; color: #1f2933; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { margin: 0; font-size: 26px; line-height: 1.25; }
h2 { margin: 0 0 4px; font-size: 18px; }
p { margin: 0 0 12px; max-width: 75ch; }
.source { color: #5a6672; margin: 4px 0 20px; overflow-wrap: anywhere; }
.verdict { border-left: 5px solid; border-radius: 6px; background: #fff; padding: 14px 18px; font-size: 17px; }
.verdict { margin: 0 0 20px; max-width: none; }
.good { border-color: #009e73; }
.bad { border-color: #d55e00; }
.open { border-color: #8a94a0; }
.figures { display: flex; flex-wrap: wrap; gap: 12px; }
.figures { margin: 0 0 20px; padding: 0; list-style: none; }
.figures li { flex: 1 1 150px; background: #fff; border-radius: 6px; padding: 12px 16px; }
.figures li { color: #5a6672; font-size: 13px; }
.figures b { display: block; color: #1f2933; font-size: 22px; line-height: 1.3; }
section { background: #fff; border-radius: 6px; padding: 20px 24px; margin: 0 0 20px; }
section p { color: #45525e; }
svg { display: block; max-width: 100%; height: auto; margin: 4px auto 8px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: #5a6672; border-bottom: 2px solid #e3e7eb; padding: 6px 14px 6px 0; }
td { border-bottom: 1px solid #eef1f4; padding: 6px 14px 6px 0; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
footer { color: #5a6672; font-size: 13px; }
@media print { body { background: #fff; } section { padding: 0; } h2, p { break-after: avoid; } }
"""
_NUMBER = re.compile(r"[-+−]?[\d.,]+( ?%)?( to [-+−]?[\d.,]+( ?%)?)?")


def render(
    title: str, source: str, verdict: str, tone: Tone, figures: Sequence[Figure], sections: Iterable[Section]
) -> str:
    """Return the page. All texts are escaped; ``svg`` and ``table`` are markup."""
    tiles = "".join(f"<li><b>{escape(figure.value)}</b>{escape(figure.label)}</li>" for figure in figures)
    parts = "".join(_section(number, section) for number, section in enumerate(sections, 1))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{_STYLE}</style></head>\n<body><main><h1>{escape(title)}</h1>"
        f'<p class="source">{escape(source)}</p><p class="verdict {tone}">{escape(verdict)}</p>'
        f'<ul class="figures">{tiles}</ul>{parts}<footer>Made by headrace experiment.</footer></main></body></html>\n'
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; columns of numbers are aligned to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    numeric = [
        all(not row[position] or _NUMBER.fullmatch(row[position]) for row in texts) and bool(texts)
        for position in range(len(columns))
    ]
    classes = [' class="number"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(columns, classes, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in texts
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _section(number: int, section: Section) -> str:
    # The ids of several pictures in one page must differ.
    svg = _IDS.sub(lambda match: f"{match[1]}c{number}-", section.svg)
    return f"<section><h2>{escape(section.title)}</h2><p>{escape(section.text)}</p>{svg}{section.table}</section>"
