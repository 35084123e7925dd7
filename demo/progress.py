"""Reads the progress of a worker over REST, and the numbers of documents from Elasticsearch."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError

from elasticsearch import ApiError, Elasticsearch, TransportError

from demo.tables import INDICES, Table

# The worst first, as in headrace.runtime.api.worst: a connector is as healthy as its worst part.
_ORDER = ("FAILED", "RESTARTING", "UNASSIGNED", "STOPPED", "PAUSED", "RUNNING")


@dataclass(frozen=True, slots=True)
class ConnectorProgress:
    """One connector: its worst state with the reason, and the sums of its tasks' counters."""

    state: str = "UNASSIGNED"
    reason: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """Return a counter by its name in ``headrace.metrics``; 0 before a task has reported it."""
        return self.counters.get(name, 0)


@dataclass(frozen=True, slots=True)
class Progress:
    """At monotonic time ``at``: connectors by name, documents by table; ``answered`` tells whether REST did."""

    at: float
    connectors: Mapping[str, ConnectorProgress]
    documents: Mapping[Table, int]
    answered: bool
    freshness: Mapping[str, Any] = field(default_factory=dict)
    """The responses of ``GET /v1/connectors/{name}/freshness`` by connector."""

    def connector(self, name: str) -> ConnectorProgress:
        """Return the connector, UNASSIGNED while the worker does not know it."""
        return self.connectors.get(name, ConnectorProgress())

    @property
    def failed(self) -> dict[str, str]:
        """Return the reasons of FAILED connectors by name."""
        return {name: one.reason for name, one in self.connectors.items() if one.state == "FAILED"}


class Watcher:
    """Reads from both systems; keeps the last result if a request fails."""

    def __init__(self, rest: str, elasticsearch: str) -> None:
        self._rest = rest
        self._client = Elasticsearch(elasticsearch, request_timeout=5, max_retries=0)
        self._last = Progress(time.monotonic(), {}, dict.fromkeys(INDICES, 0), answered=False)

    def look(self) -> Progress:
        """Return the present progress."""
        try:
            connectors = read_connectors(
                get_json(f"{self._rest}/connectors?expand=status"), get_json(f"{self._rest}/v1/metrics")
            )
            names = sorted(connectors)
            freshness: Mapping[str, Any] = {
                name: get_json(f"{self._rest}/v1/connectors/{name}/freshness") for name in names
            }
            answered = True
        except (URLError, OSError, http.client.HTTPException, ValueError):
            connectors, freshness, answered = dict(self._last.connectors), self._last.freshness, False
        documents = {table: self._documents(table) for table in INDICES}
        self._last = Progress(time.monotonic(), connectors, documents, answered, freshness)
        return self._last

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _documents(self, table: Table) -> int:
        try:
            count: int = self._client.count(index=table.index, ignore_unavailable=True)["count"]
        except (ApiError, TransportError):
            return self._last.documents[table]
        return count


def get_json(url: str) -> Any:
    """Return the JSON response to a GET. Raises OSError (URLError, HTTPError) or ValueError."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def read_connectors(statuses: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, ConnectorProgress]:
    """Combine ``GET /connectors?expand=status`` and ``GET /v1/metrics``."""
    counters: dict[str, dict[str, int]] = {}
    for task in metrics["tasks"]:
        sums = counters.setdefault(task["connector"], {})
        for counter, value in task["metrics"].items():
            sums[counter] = sums.get(counter, 0) + value
    return {
        name: _connector(answer["status"], counters.get(name, {})) for name, answer in sorted(statuses.items())
    }  # fmt: skip


def _connector(status: Mapping[str, Any], counters: Mapping[str, int]) -> ConnectorProgress:
    parts = [status["connector"], *status["tasks"]]
    first = min(parts, key=lambda part: (_ORDER.index(part["state"]), not part.get("reason")))
    reason = first.get("reason") or (first.get("trace") or "").strip().rpartition("\n")[2]
    return ConnectorProgress(first["state"], reason, counters)
