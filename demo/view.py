"""Shows progress: a live table in a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from demo.monitoring import hop_table
from demo.prober import Freshness, Prober
from demo.progress import ConnectorProgress, Progress
from demo.tables import DERIVED, ENRICHED, SINK, TABLES

RATE_WINDOW = 5.0
"""Seconds over which rates are computed."""
_STYLES = {"RUNNING": "green", "FAILED": "bold red", "PAUSED": "yellow", "STOPPED": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; ``in_kafka`` is None for the sink."""

    name: str
    progress: ConnectorProgress
    read: int
    in_kafka: int | None
    indexed: int
    rate: float
    freshness: Freshness


class View:
    """Keeps a few seconds of history for the rates, and draws the latest progress."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober
        self._history: deque[Progress] = deque()
        self._began: float | None = None

    def add(self, progress: Progress) -> None:
        """Add the latest progress."""
        if self._began is None:
            self._began = progress.at
        self._history.append(progress)
        # Keep one entry that is older than the window: a rate needs two entries.
        while len(self._history) > 2 and progress.at - self._history[1].at >= RATE_WINDOW:
            self._history.popleft()

    def rows(self) -> list[Row]:
        """Return the rows of the sources, then those of the stream application and of the sink."""
        now = self._history[-1]
        rows = []
        for table in TABLES:
            one = now.connector(table.connector)
            rows.append(
                Row(
                    table.connector, one,
                    one.count("source_record_poll_total"), one.count("source_record_write_total"),
                    now.documents[table], self._rate(table.connector, "source_record_write_total"),
                    self._prober.freshness(table),
                )
            )  # fmt: skip
        stream = now.connector(ENRICHED.connector)
        rows.append(
            Row(
                ENRICHED.connector, stream,
                stream.count("stream_record_read_total"), stream.count("stream_output_total"),
                sum(now.documents[table] for table in DERIVED), self._rate(ENRICHED.connector, "stream_output_total"),
                self._prober.freshness(ENRICHED),
            )
        )  # fmt: skip
        sink = now.connector(SINK)
        rows.append(
            Row(
                SINK, sink, sink.count("sink_record_read_total"), None, sink.count("sink_record_send_total"),
                self._rate(SINK, "sink_record_send_total"), self._prober.freshness(),
            )
        )  # fmt: skip
        return rows

    def _rate(self, connector: str, counter: str) -> float:
        first, last = self._history[0], self._history[-1]
        if last.at <= first.at:
            return 0.0
        grown = last.connector(connector).count(counter) - first.connector(connector).count(counter)
        return max(0, grown) / (last.at - first.at)  # counters start at 0 when a task restarts

    def elapsed(self) -> float:
        """Return the seconds since the first progress."""
        return self._history[-1].at - self._began if self._history and self._began is not None else 0.0

    def table(self) -> Group:
        """Return the table for a terminal."""
        grid = Grid(
            "Connector", "State", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold",
            title=f"PostgreSQL → Kafka → Elasticsearch · {self.elapsed():.0f} s", title_justify="left",
        )  # fmt: skip
        for heading in ("Rows read", "In Kafka", "Indexed", "Per s", "Freshness"):
            grid.add_column(heading, justify="right", no_wrap=True)
        rows = self.rows()
        for row in rows:
            grid.add_row(
                row.name, Text(row.progress.state, style=_STYLES.get(row.progress.state, "yellow")),
                f"{row.read:,}", "" if row.in_kafka is None else f"{row.in_kafka:,}", f"{row.indexed:,}",
                f"{row.rate:,.0f}", seconds(row.freshness),
            )  # fmt: skip
        reasons = [Text(f"{row.name}: {row.progress.reason}", style="yellow") for row in rows if row.progress.reason]
        if not self._history[-1].answered:
            reasons.append(Text("the worker's REST API does not answer; figures are the last known", style="yellow"))
        return Group(grid, hop_table(self._history[-1].freshness.values(), time.time()), *reasons)

    def line(self) -> str:
        """Return the line for a log."""
        *sources, sink = self.rows()
        states: dict[str, list[str]] = {}
        for row in (*sources, sink):
            states.setdefault(row.progress.state, []).append(row.name)
        told = "; ".join(f"{', '.join(names)} {state}" for state, names in states.items())
        reasons = "".join(f" | {row.name}: {row.progress.reason}" for row in (*sources, sink) if row.progress.reason)
        return (
            f"{self.elapsed():4.0f} s  read {sum(row.read for row in sources):,}  "
            f"in Kafka {sum(row.in_kafka or 0 for row in sources):,}  "
            f"indexed {sum(row.indexed for row in sources):,}  {sink.rate:,.0f} records/s  "
            f"freshness {seconds(sink.freshness)}  {told}{reasons}"
        )


def seconds(freshness: Freshness) -> str:
    """Return the median, or the present wait if it is longer; a dash before the first row."""
    if freshness.p50 is not None and freshness.waiting <= max(2 * freshness.p50, freshness.p50 + 2):
        return f"{freshness.p50:.2f} s"
    return f"> {freshness.waiting:.0f} s" if freshness.waiting >= 1 else "–"
