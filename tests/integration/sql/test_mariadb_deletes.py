"""Deletions on MariaDB: keys of all types, soft deletes, and comparisons during transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from headrace.testing.driver import SourceDriver
from tests.engines.addresses import pymysql_arguments
from tests.integration.sql.reconciling import Records, drivers

KEYS = [
    ("INT", "seq"),
    ("BIGINT UNSIGNED", "18446744073709551600 - seq"),
    ("DECIMAL(9, 2)", "seq + 0.25"),
    ("VARCHAR(20)", "CONCAT(IF(seq % 2, 'a', 'B'), seq)"),  # sorted without regard to case
    ("DATE", "DATE '2024-01-01' + INTERVAL seq DAY"),
    ("DATETIME(6)", "TIMESTAMP '2024-01-01 00:00:00.000001' + INTERVAL seq DAY"),
    ("VARBINARY(16)", "UNHEX(LPAD(HEX(seq), 4, '0'))"),
]
READ = {"BIGINT UNSIGNED", "DECIMAL(9, 2)", "VARCHAR(20)", "DATETIME(6)"}
"""Whose keys are read, as the database does not hash them as we do."""


@pytest.fixture
def execute(mariadb_database: str) -> Iterator[Callable[[str], None]]:
    connection = pymysql.connect(**pymysql_arguments(mariadb_database))
    with connection.cursor() as cursor:
        yield lambda statement: cursor.execute(statement) and None
    connection.close()


@pytest.fixture
def drive(mariadb_database: str, tmp_path: Path) -> Iterator[Callable[..., SourceDriver]]:
    yield from drivers(mariadb_database, tmp_path)


@pytest.mark.parametrize(("kind", "expression"), KEYS, ids=[kind for kind, _ in KEYS])
def test_a_deleted_row_with_a_key_of_any_type_becomes_a_tombstone(
    execute: Callable[[str], None], drive: Callable[..., SourceDriver], kind: str, expression: str
) -> None:
    """The tombstone has exactly the key of the row, and no other row gets one."""
    execute(f"CREATE TABLE t (n BIGINT NOT NULL, k {kind} NOT NULL, also INT NOT NULL, PRIMARY KEY (k, also))")
    execute(f"INSERT INTO t SELECT seq, {expression}, seq FROM seq_1_to_20")
    records = Records(drive())
    records.wait_for(lambda: len(records.sent) == 20)
    execute("DELETE FROM t WHERE n IN (3, 7, 20)")
    records.wait_for(lambda: len(records.gone) >= 3)
    comparison = records.compare()

    assert sorted(records.sent[key] for key in records.gone) == [3, 7, 20]
    assert comparison.read == (17 if kind in READ else 0)


def test_a_rolled_back_deletion_gives_no_tombstone(
    execute: Callable[[str], None], drive: Callable[..., SourceDriver], mariadb_database: str
) -> None:
    execute("CREATE TABLE t (n BIGINT PRIMARY KEY)")
    execute("INSERT INTO t SELECT seq FROM seq_1_to_5")
    records = Records(drive())
    records.wait_for(lambda: len(records.sent) == 5)
    other = pymysql.connect(**{**pymysql_arguments(mariadb_database), "autocommit": False})
    with other.cursor() as cursor:
        cursor.execute("DELETE FROM t WHERE n = 2")
        records.compare()
        other.rollback()
        cursor.execute("DELETE FROM t WHERE n = 3")
        records.compare()
        assert records.gone == []
        other.commit()
    other.close()
    records.wait_for(lambda: records.gone == ["3"])


def test_rows_marked_as_deleted_become_tombstones(
    execute: Callable[[str], None], drive: Callable[..., SourceDriver]
) -> None:
    execute("CREATE TABLE t (n BIGINT PRIMARY KEY AUTO_INCREMENT, gone BIT(1) NOT NULL DEFAULT 0, at DATETIME NULL)")
    execute("INSERT INTO t (gone, at) VALUES (0, NULL), (1, NULL), (0, '2024-01-01')")
    records = Records(drive(delete_detection="soft", delete_soft_column="gone"))
    records.wait_for(lambda: len(records.sent) + len(records.gone) == 3)

    assert (sorted(records.sent.values()), records.gone) == ([1, 3], ["2"])
