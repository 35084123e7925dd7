"""What the terminal shows of the exploration demo: versions, regret, the state of the test, and the best surveys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elasticsearch import ApiError, Elasticsearch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from demo.exploration.traffic import DemoTraffic

SCORES, COUNTS = "exploration.scores", "exploration.counts"


class IndexedExperiment:
    """The scores and the state of the experiment, as Elasticsearch has them."""

    def __init__(self, url: str) -> None:
        self._client = Elasticsearch(url)

    def close(self) -> None:
        self._client.close()

    def state(self) -> Mapping[str, Any] | None:
        """Return the counts at the last look."""
        found = self._search(COUNTS, 1, _descending("at", "long"), {"match_all": {}})
        return found[0] if found else None

    def best(self, version: str, count: int = 3) -> list[Mapping[str, Any]]:
        """Return the most promising surveys of a version with at least some evidence."""
        terms = [{"term": {"version.keyword": version}}, {"range": {"impressions": {"gte": 20}}}]
        return self._search(SCORES, count, _descending("probability", "float"), {"bool": {"filter": terms}})

    def _search(
        self, index: str, count: int, sort: Mapping[str, Any], query: Mapping[str, Any]
    ) -> list[Mapping[str, Any]]:
        try:
            found = self._client.search(index=index, size=count, sort=[sort], query=query)
        except ApiError as error:
            if error.status_code in (404, 503):  # there is no index yet, or its shards are starting
                return []
            raise
        return [hit["_source"] for hit in found["hits"]["hits"]]


def _descending(field: str, kind: str) -> dict[str, Any]:
    """Return a sort that an index without documents accepts, too."""
    return {field: {"order": "desc", "unmapped_type": kind}}


def screen(traffic: DemoTraffic, state: Mapping[str, Any] | None, best: list[Mapping[str, Any]]) -> Group:
    """Return the whole picture."""
    versions = Table(title="versions", title_justify="left")
    for name in ("version", "traffic", "requests", "converted", "rate"):
        versions.add_column(name, justify="left" if name == "version" else "right")
    shares = state["shares"] if state else {}
    for version, requests in sorted(traffic.requests.items()):
        converted = traffic.conversions[version]
        share = f"{shares[version]:.0%}" if version in shares else ""
        versions.add_row(version, share, f"{requests:,}", f"{converted:,}", f"{converted / requests:.2%}")
    surveys = Table(title="the most promising surveys, for a user of whom nothing is known", title_justify="left")
    for name in ("survey", "probability", "95 % interval", "conversions", "reasons (log-odds)"):
        surveys.add_column(name)
    for item in best:
        surveys.add_row(
            item["candidate"],
            f"{item['probability']:.1%}",
            f"{item['low']:.1%} to {item['high']:.1%}",
            f"{item['conversions']:.0f} of {item['impressions']:.0f}",
            reasons(item["contributions"]),
        )
    return Group(versions, *(Text(line) for line in lines(traffic, state)), surveys)


def lines(traffic: DemoTraffic, state: Mapping[str, Any] | None) -> list[str]:
    """Return what is said in sentences."""
    return [regret(traffic), latency(traffic), *test(state)]


def regret(traffic: DemoTraffic) -> str:
    if not traffic.rule_regret:
        return "no requests yet"
    less = 1 - traffic.regret / traffic.rule_regret
    return (
        f"missed conversions: {traffic.regret:.1f}, {less:.0%} less than the {traffic.rule_regret:.1f} of the simple "
        "rule (100 views for each new survey, then the best rate) on the same requests"
    )


def latency(traffic: DemoTraffic) -> str:
    times = sorted(traffic.latencies)
    if not times:
        return ""
    return (
        f"a decision over HTTP takes {times[len(times) // 2] * 1000:.0f} ms (p50), "
        f"{times[int(len(times) * 0.99)] * 1000:.0f} ms (p99)"
    )


def test(state: Mapping[str, Any] | None) -> list[str]:
    if state is None:
        return ["the test has no labels yet"]
    found = state["decision"]["versions"]
    return [f"{name}: {item['action']}, {item['reason']}" for name, item in found.items()]


def reasons(contributions: Mapping[str, float]) -> str:
    order = sorted(contributions.items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name} {value:+.2f}" for name, value in order if name != "intercept" and abs(value) >= 0.05)
