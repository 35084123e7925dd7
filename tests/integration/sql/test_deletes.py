"""Deletions on PostgreSQL: keys of all types, and comparisons while transactions insert and delete rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from headrace import SourceBatch
from headrace.testing.driver import SourceDriver
from headrace.testing.waiting import eventually
from tests.integration.sql.reconciling import Records, drivers
from tests.sql_tasks import comparison_of

KEYS = [
    ("int", "n"),
    ("uuid", "md5(n::text)::uuid"),
    ("numeric(9, 2)", "n + 0.25"),
    ("text", "'Zoë ''' || n"),
    ("timestamptz", "timestamptz '2024-01-01' + n * interval '1 ms'"),
    ("date", "date '2024-01-01' + n"),
    ("bytea", "decode(lpad(n::text, 4, '0'), 'hex')"),
    ("boolean", "n % 2 = 0"),
]
UNHASHED = {"numeric(9, 2)", "timestamptz", "boolean"}


@pytest.fixture
def run(database: str) -> Iterator[Callable[[str], list[Any]]]:
    url = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:

        def execute(statement: str) -> list[Any]:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        yield execute


@pytest.fixture
def drive(database: str, tmp_path: Path) -> Iterator[Callable[..., SourceDriver]]:
    yield from drivers(database, tmp_path)


@pytest.mark.parametrize(("kind", "expression"), KEYS, ids=[kind for kind, _ in KEYS])
def test_a_deleted_row_with_a_key_of_any_type_becomes_a_tombstone(
    run: Callable[[str], list[Any]], drive: Callable[..., SourceDriver], kind: str, expression: str
) -> None:
    """The tombstone has exactly the key of the row, and no other row gets one."""
    run(f"CREATE TABLE t (n bigint NOT NULL, k {kind} NOT NULL, also int NOT NULL, PRIMARY KEY (k, also))")
    run(f"INSERT INTO t SELECT n, {expression}, n FROM generate_series(1, 20) n")
    records = Records(drive())
    records.wait_for(lambda: len(records.sent) == 20)
    run("DELETE FROM t WHERE n IN (3, 7, 20)")
    records.wait_for(lambda: len(records.gone) >= 3)
    comparison = records.compare()

    assert sorted(records.sent[key] for key in records.gone) == [3, 7, 20]
    assert comparison.read == (17 if kind in UNHASHED else 0)  # keys that the database can hash are not read


def test_a_row_of_an_open_result_is_not_sent_after_its_tombstone(
    run: Callable[[str], list[Any]], drive: Callable[..., SourceDriver]
) -> None:
    run("CREATE TABLE t (k int PRIMARY KEY, n bigint NOT NULL UNIQUE)")
    run("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
    driver = drive(batch_max_rows="1", query_target_ms="10m", delete_reconcile_schedule="1h")
    driver.drain()
    run("UPDATE t SET n = n + 10")
    driver.store(driver.batch())  # the first of three
    run("DELETE FROM t WHERE k = 3")
    comparison_of(driver).due = datetime.now(UTC)
    came: list[tuple[Any, bool]] = []

    def gone() -> bool:
        """the tombstone came"""
        answer = driver.poll()
        if isinstance(answer, SourceBatch):
            driver.store(answer)
            came.extend((key, value is None) for key, value in zip(answer.keys or [], answer.values, strict=True))
        return (3, True) in came

    eventually(gone)
    assert came == [(2, False), (3, False), (3, True)]
