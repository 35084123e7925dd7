"""Each fault of the table, injected into running workers: status and log name it, and workers recover by themselves.

The engines and one worker are shared by all cases; each case has tables, topics and connectors of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from headrace.embedded import Kafka
from tests.engines.addresses import HttpAddress, SqlAddress, libpq_url
from tests.faults import database_cases, elasticsearch_cases, kafka_cases, worker_cases
from tests.faults.case import Case
from tests.faults.table import PAGE, ROWS, TEST, WRITE, page, scores_of
from tests.faults.world import World

pytestmark = pytest.mark.timeout(180)
FAULTS = {row.number: row for row in ROWS}
CASES = {**database_cases.CASES, **kafka_cases.CASES, **elasticsearch_cases.CASES, **worker_cases.CASES}
SCORES: dict[str, int] = {}
"""What this run has observed, by number of the fault."""


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, postgres: SqlAddress, elasticsearch: HttpAddress, box: Any
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("faults")
    settings = {
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "group.initial.rebalance.delay.ms": "0",
    }
    name = f"faults_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(libpq_url(postgres.url), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        database = make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
        kafka = Kafka(folder, settings=settings, heap="256m")
        made = World(folder, kafka, database, elasticsearch.url, box)
        with kafka:
            try:
                made.start()
                yield made
                assert made.worker.stop() == 0
            finally:
                if made.worker is not None and made.worker.process.poll() is None:
                    made.worker.kill()
                made.close()
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.parametrize("number", FAULTS)
def test_the_fault_is_named_and_the_worker_recovers(world: World, number: str) -> None:
    running = Case(world, FAULTS[number])
    try:
        with running.cleanup:
            running.cleanup.callback(world.restore)
            CASES[number](running, world)
        running.observed.add("recovery")
    finally:
        SCORES[number] = len(running.observed)


def test_the_page_of_faults_has_the_scores_that_were_observed() -> None:
    """After all cases, in the order of this file."""
    before = PAGE.read_text(encoding="utf-8")
    observed = page({**scores_of(before), **SCORES})
    if os.environ.get(WRITE):
        PAGE.write_text(observed, encoding="utf-8")
    assert before == observed or os.environ.get(WRITE), f"the page differs; write it: {WRITE}=1 pytest {TEST}"
