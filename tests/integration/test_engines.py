"""The fixtures that give tests their engines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pymysql
import pytest
from kafka import KafkaAdminClient
from sqlalchemy import create_engine, text

from headrace.broker.interfaces import NewTopic
from headrace.broker.kafka_python import KafkaPythonClients
from tests.engines.addresses import pymysql_arguments

ROOT = Path(__file__).parents[2]


def test_each_test_gets_an_empty_mariadb_database(mariadb: Any, mariadb_database: str) -> None:
    engine = create_engine(mariadb_database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE city (name varchar(20))"))
        connection.execute(text("INSERT INTO city VALUES ('Zürich 𝄞')"))
        assert connection.execute(text("SELECT name FROM city")).scalars().all() == ["Zürich 𝄞"]
        assert connection.execute(text("SELECT version()")).scalar_one().startswith(mariadb.version)
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = database()"
        assert connection.execute(text(tables)).scalar() == 1
    engine.dispose()


@pytest.fixture
def open_transactions() -> Iterator[list[Any]]:
    """Connections that stay open until the databases are dropped: requested first, closed last."""
    connections: list[Any] = []
    yield connections
    for connection in connections:
        connection.close()  # its session was killed: pymysql ignores the closed connection


def test_a_mariadb_database_is_dropped_although_a_transaction_is_open(
    open_transactions: list[Any], mariadb_database: str
) -> None:
    """Otherwise DROP would wait for the lock until the timeout of the test."""
    connection = pymysql.connect(**{**pymysql_arguments(mariadb_database), "autocommit": False})
    open_transactions.append(connection)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a int)")
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.execute("SELECT * FROM t FOR UPDATE")


def test_three_brokers_keep_three_replicas(kafka_cluster: Any, unique_name: str) -> None:
    kafka_clients = KafkaPythonClients(
        {"bootstrap.servers": kafka_cluster.bootstrap_servers, "bootstrap.timeout.ms": "60000"}
    )
    admin = kafka_clients.admin({})
    admin.create_topics([NewTopic(unique_name, 3)])
    admin.close()
    client = KafkaAdminClient(bootstrap_servers=kafka_cluster.bootstrap_servers)
    described = client.describe_topics([unique_name])
    client.close()
    assert [len(partition["replica_nodes"]) for topic in described for partition in topic["partitions"]] == [3, 3, 3]


def test_no_engine_outlives_a_killed_test_run(tmp_path: Path) -> None:
    test = tmp_path / "test_hangs.py"
    test.write_text("import sys\n\n\ndef test(postgres):\n    print('up', flush=True)\n    sys.stdin.read()\n")
    command = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "tests.conftest", f"--basetemp={tmp_path / 'run'}"]
    with subprocess.Popen(
        [*command, f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), str(test)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_TEST_")},
    ) as run:
        assert run.stdout is not None
        assert any(line == b"up\n" for line in iter(run.stdout.readline, b""))
        engines = psutil.Process(run.pid).children(recursive=True)
        assert len(engines) >= 2  # the supervisor and PostgreSQL, and its children
        run.kill()
    assert psutil.wait_procs(engines, timeout=60)[1] == []


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_missing_engine_is_reported_and_fails_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    test = tmp_path / "test_wants_mariadb.py"
    test.write_text(
        "import tests.engines.mariadb as engine\n\nengine._PROGRAMS = ('mariadbd-of-nowhere',)\n\n\n"
        "def test(mariadb):\n    raise AssertionError('there is none')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", f"--basetemp={tmp_path / 'run'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_TEST_")}
    done = subprocess.run(
        [*command, f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), str(test)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**environment, "CI": ci},
        check=False,
    )
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert done.returncode == (1 if ci else 0)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("engines: no MariaDB: ")]
    assert "mariadbd-of-nowhere" in line
    assert line.removeprefix("engines: ") in done.stdout.replace(line, "")  # where the test is listed, too
