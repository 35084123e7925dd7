"""A cluster of two real nodes of which one is killed: first the data node, then the master."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.embedded import Elasticsearch
from headrace.embedded.parallel_start import start_in_parallel, stop_in_parallel
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

DELIVERY_TIMEOUT = 60.0


class TwoNodes:
    """``head`` leads the cluster, ``other`` only keeps data."""

    def __init__(self, folder: Path) -> None:
        apart: dict[str, str | int | bool | list[str]] = {"discovery.type": "multi-node", "node.processors": 1}
        first = {**apart, "discovery.seed_hosts": [], "cluster.initial_master_nodes": ["head"]}
        self.head = Elasticsearch(folder / "head", heap="320m", node_name="head", settings=first)
        seeds = [f"127.0.0.1:{self.head.transport_port}"]
        joining = {**apart, "discovery.seed_hosts": seeds, "node.roles": ["data"]}
        self.other = Elasticsearch(folder / "other", heap="320m", node_name="other", settings=joining)

    def wait_until(self, nodes: int) -> None:
        """Wait for so many nodes, and for a copy of every shard that has a node."""
        status = "green" if nodes == 2 else "yellow"
        path = f"/_cluster/health?wait_for_nodes={nodes}&wait_for_status={status}&timeout=2s"

        def settled() -> bool:
            return HTTP.get(f"{self.head.url}{path}", timeout=DELIVERY_TIMEOUT).status_code == 200

        eventually(settled, DELIVERY_TIMEOUT)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[TwoNodes]:
    """Return both nodes of one cluster."""
    pair = TwoNodes(tmp_path)
    try:
        start_in_parallel([pair.head, pair.other])
        pair.wait_until(2)
        yield pair
    finally:
        stop_in_parallel([pair.other, pair.head])


def rows(first: int) -> list[dict[str, Any]]:
    return [{"id": number % 150, "n": number} for number in range(first, first + 300)]


def test_no_record_is_lost_when_one_of_two_nodes_is_killed(pair: TwoNodes, make_flow: Callable[..., Any]) -> None:
    flow = make_flow(pair.head.url)
    name = "index.routing.allocation.require._name"
    there = {"settings": {name: "other", "number_of_replicas": 0}}
    flow.ask("PUT", flow.name, there)
    both = {name: None, "index.number_of_replicas": 1}
    flow.ask("PUT", f"{flow.name}/_settings", both)
    pair.wait_until(2)
    flow.send(rows(0))
    member = flow.start(connection_url=f"{pair.head.url},{pair.other.url}", batch_size="20", read_timeout_ms="10s")
    flow.settle()

    pair.other.kill()  # the primary; the replica on the master is promoted
    flow.send(rows(300))
    flow.settle()
    pair.wait_until(1)
    flow.check()
    pair.other.start()
    pair.wait_until(2)
    flow.send(rows(600))
    flow.settle()

    said = len(member.reasons)
    pair.head.kill()  # the primary again; without a master the replica is not promoted
    flow.send(rows(900))
    eventually(lambda: len(member.reasons) > said, DELIVERY_TIMEOUT)
    pair.head.start()
    flow.settle()
    pair.wait_until(2)
    assert flow.dead() == []
    flow.check()
