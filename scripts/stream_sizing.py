"""Computes the tables of docs/streams-sizing.md from benchmarks/stream_figures.json, for generate_docs.py."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parent.parent / "benchmarks" / "stream_figures.json"
PAGE = Path(__file__).parent.parent / "docs" / "streams-sizing.md"
_TABLE = re.compile(r"(<!-- computed: (\w+) -->)\n.*?(<!-- end -->)", re.DOTALL)
_RATES = (10_000, 100_000, 1_000_000)
"""Events a second."""
BUSY = 0.5
"""The part of a core that a process uses in the plan: the rest is for peaks, and to catch up after an outage."""
PARTITIONS = 2
"""Partitions for each process, so that a lost process's share is divided among several."""
_GIB = 1 << 30


def sizing_page() -> str:
    """Return the page with its tables computed."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    tables = {"figures": _measured(figures), "processes": _processes(figures), "state": _states(figures)}
    text = PAGE.read_text(encoding="utf-8")
    return _TABLE.sub(lambda found: "\n".join([found[1], *tables[found[2]], found[3]]), text)


def _processes(figures: Mapping[str, Any]) -> Iterator[str]:
    costs = figures["cpu"]["us per record"] | figures["join"]["us per record"]
    yield f"| events a second | {' | '.join(costs)} | partitions of a topic, at least |"
    yield f"|---:|{'---:|' * (len(costs) + 1)}"
    for rate in _RATES:
        counts = [math.ceil(rate * cost / 1e6 / BUSY) for cost in costs.values()]
        cells = [f"{count:,} {'process' if count == 1 else 'processes'}" for count in counts]
        yield f"| {rate:,} | {' | '.join(cells)} | {max(counts) * PARTITIONS:,} |"


def _states(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "| state | entries | memory | changelog | restore by one process |"
    yield "|---|---:|---:|---:|---:|"
    for name, kind, entries in _examples():
        sizes = figures["state"]["per entry"][kind]
        memory, changelog = (_gib(entries * sizes[f"bytes of {what}"]) for what in ("memory", "changelog"))
        restore = _duration(entries / figures["restore"]["keys per second"])
        yield f"| {name} | {entries:,} | {memory} | {changelog} | {restore} |"


def _measured(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "| figure | value | measured by | |"
    yield "|---|---:|---|---|"
    for group in (figures["cpu"], figures["join"]):
        for name, cost in group["us per record"].items():
            yield f"| CPU time of a record, {name} | {cost:g} µs | {_source(group)}"
    for name, sizes in figures["state"]["per entry"].items():
        text = f"{sizes['bytes of memory']} B, in the changelog {sizes['bytes of changelog']} B"
        yield f"| {name} | {text} | {_source(figures['state'])}"
    restored = f"{figures['restore']['keys per second']:,} keys/s"
    yield f"| restore from the changelog, one process | {restored} | {_source(figures['restore'])}"
    yield f"| memory of a process without state | {figures['memory']['MB']} MB | {_source(figures['memory'])}"


def _source(group: Mapping[str, Any]) -> str:
    return f"`{group['command']}` | {group['conditions']} |"


def _examples() -> Iterator[tuple[str, str, int]]:
    """Yield states: what they are, the kind of entry, and the number of entries."""
    yield "counts of 100,000 offers in windows of 1 minute, grace 1 minute", "window group, count", 100_000 * 3
    for rate in _RATES:
        hour = rate * 3600
        yield f"left join within 1 hour, {rate:,} left records/s", "open record of a join, 150 bytes", hour
    for rate in _RATES:
        yield f"deduplicate within 10 minutes, {rate:,} records/s", "key of deduplicate", rate * 600


def _gib(size: float) -> str:
    return f"{size / _GIB:,.1f} GiB" if size >= _GIB / 10 else f"{size / (1 << 20):,.0f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
