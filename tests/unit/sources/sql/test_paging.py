"""Paging over cursor values that several rows share: no row is lost at the border of a batch, a page or a restart."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import Wait
from headrace.testing.contexts import Offsets
from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.dialects.sqlite import Sqlite
from tests.unit.examples import examples

IDS = st.lists(st.integers(1, 5), min_size=1, max_size=14)
MODES = st.sampled_from(["incrementing", "timestamp+incrementing"])


@pytest.fixture(params=[False, True], ids=["one-statement", "pages"], scope="module")
def pages(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Return whether pages end with all rows of one cursor value, as on MariaDB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sqlite, "asks_page_ends", request.param)
        yield request.param


@settings(max_examples=examples(0.5))  # each starts up to five tasks
@given(ids=IDS, mode=MODES, size=st.integers(1, 4), kills=st.lists(st.integers(1, 3), max_size=4))
def test_f1_rows_that_share_a_cursor_value_are_all_read_whenever_the_worker_is_killed(
    pages: bool, ids: list[int], mode: str, size: int, kills: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.db"
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA synchronous = OFF")  # commits do not wait for the disk
        connection.execute("CREATE TABLE t (n INTEGER NOT NULL, id INTEGER NOT NULL, at TIMESTAMP NOT NULL)")
        connection.execute("CREATE INDEX ids ON t (id)")
        connection.execute("CREATE INDEX times ON t (at, id)")
        connection.executemany("INSERT INTO t VALUES (?, ?, '2024-01-01 00:00:00')", list(enumerate(ids)))
        connection.commit()
        connection.close()
        properties = {
            "connection.url": f"sqlite:///{path}", "table.whitelist": "t", "topic.prefix": "t.", "mode": mode,
            "incrementing.column.name": "id", "timestamp.column.name": "at", "batch.max.rows": str(size),
            "poll.interval.ms": "1",
        }  # fmt: skip
        offsets = Offsets()
        found: list[int] = []
        for batches in kills:
            with SourceDriver(SqlSourceConnector, properties, offsets) as driver:
                for _ in range(batches):
                    answer = driver.poll()
                    if not isinstance(answer, Wait):
                        found += [value["n"] for value in answer.values]
                        driver.store(answer)
        with SourceDriver(SqlSourceConnector, properties, offsets) as driver:
            found += driver.values("n")

        assert set(found) == set(range(len(ids)))
