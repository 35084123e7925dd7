"""Real engines for integration tests: each xdist worker starts its own, once, when the first test asks for them.

A test says what it needs by its fixtures: ``kafka``, ``kafka_cluster``, ``elasticsearch``, ``elasticsearch_9``,
``postgres``, ``mariadb``, or a database of its own, ``database`` and ``mariadb_database``. ``HEADRACE_TEST_KAFKA``,
``HEADRACE_TEST_KAFKA_CLUSTER`` (host:port,…), ``HEADRACE_TEST_ELASTICSEARCH``, ``HEADRACE_TEST_ELASTICSEARCH_9``,
``HEADRACE_TEST_POSTGRES`` and ``HEADRACE_TEST_MARIADB`` (URLs) name your own engines instead; use one process then
(``make test PROCESSES=1``). An engine that cannot be started or reached fails the tests that need it. An engine that is
not installed skips them with the reason; with ``CI=true`` that is a failure too.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import make_url

from headrace.embedded import ENGINES, EmbeddedStack
from headrace.embedded.tcp_ports import PORTS_VARIABLE
from tests.engines.addresses import HttpAddress, KafkaAddress, SqlAddress, libpq_url, pymysql_arguments
from tests.engines.certificates import Authority
from tests.engines.run import KINDS, Engines, UnavailableError

_NO_SUCH_SESSION = 1094  # MariaDB's error number of an unknown session: it has ended by itself
_ENGINES = pytest.StashKey[Engines]()
_SUMMARY = pytest.StashKey[set[str]]()
_PORTS = range(20000, 32000)


def pytest_configure(config: pytest.Config) -> None:
    # Java servers of tests, and of programs that tests start, end before the optimizing compiler pays off: without it
    # they take half the CPU time.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    # kafka-python 3.0 reads its own schema files through an old call while it is imported; we cannot change it.
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")
    # It also leaves a socket whose connection was refused (a killed broker's) to the garbage collector. Such a socket
    # was never connected: bound to no address, no peer. Leaks of our own are still errors.
    never_connected = r"unclosed <socket\.socket [^>]*laddr=\('0\.0\.0\.0', \d+\)>"
    config.addinivalue_line("filterwarnings", f"ignore:{never_connected}:ResourceWarning")
    config.stash[_ENGINES] = Engines()
    config.stash[_SUMMARY] = set()
    if worker := getattr(config, "workerinput", None):
        _give_own_ports(int(worker["workerid"].removeprefix("gw")), worker["workercount"])


def _give_own_ports(worker: int, workers: int) -> None:
    """Give this xdist worker a range of its own, so that no two start engines on the port of the other's engine."""
    share = len(_PORTS) // workers
    first = (worker % workers) * share  # a worker that replaces a crashed one has the next number
    ports = _PORTS[first : first + share]
    os.environ.setdefault(PORTS_VARIABLE, f"{ports[0]}-{ports[-1]}")  # programs that tests start inherit it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put system tests first: they take longest, and none should begin when the other xdist workers have finished."""
    items.sort(key=lambda item: "/system/" not in item.path.as_posix())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tell the engines which ones this test needs, so that they start in parallel."""
    item.config.stash[_ENGINES].needed = {name for name in getattr(item, "fixturenames", ()) if name in KINDS}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the summary of an xdist worker that has ended. A worker that has crashed has none."""
    node.config.stash[_SUMMARY].update(getattr(node, "workeroutput", {}).get("engines", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in sorted({*config.stash[_SUMMARY], *config.stash[_ENGINES].summary()}):
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    engines = session.config.stash[_ENGINES]
    engines.stop()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["engines"] = engines.summary()


@pytest.fixture(scope="session")
def engines(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """All engines of this run; a test asks for ``kafka``, ``elasticsearch``, ``postgres`` or ``database`` instead."""
    engines = pytestconfig.stash[_ENGINES]
    engines.folder = tmp_path_factory.mktemp("engines")
    return engines


def _provided(engines: Engines, name: str) -> Any:
    try:
        return engines.get(name)
    except UnavailableError as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka(engines: Engines) -> KafkaAddress:
    """A Kafka with one broker, shared by all tests: ``.bootstrap_servers``."""
    address: KafkaAddress = _provided(engines, "kafka")
    return address


@pytest.fixture(scope="session")
def kafka_cluster(engines: Engines) -> KafkaAddress:
    """Three brokers, replication factor 3, ``min.insync.replicas`` 2, shared by all tests: ``.bootstrap_servers``."""
    address: KafkaAddress = _provided(engines, "kafka_cluster")
    return address


@pytest.fixture(scope="session")
def elasticsearch(engines: Engines) -> HttpAddress:
    """An Elasticsearch node without security, shared by all tests: ``.url``."""
    address: HttpAddress = _provided(engines, "elasticsearch")
    return address


@pytest.fixture(scope="session")
def elasticsearch_9(engines: Engines) -> HttpAddress:
    """The same of the next major version."""
    address: HttpAddress = _provided(engines, "elasticsearch_9")
    return address


@pytest.fixture(scope="session")
def postgres(engines: Engines) -> SqlAddress:
    """A PostgreSQL server, shared by all tests: ``.url``, whose user may create databases."""
    address: SqlAddress = _provided(engines, "postgres")
    return address


@pytest.fixture(scope="session")
def mariadb(engines: Engines) -> SqlAddress:
    """A MariaDB server, shared by all tests: ``.url`` (``mysql+pymysql://…``), whose user may create databases."""
    address: SqlAddress = _provided(engines, "mariadb")
    return address


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of this run; clients that do not trust ``.ca_file`` trust none of its servers."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def unique_name() -> str:
    """A fresh name that is valid as topic, index, database and table: lower-case letters, digits, underscores."""
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def database(postgres: SqlAddress) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database, dropped afterwards even if connections are still open."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(libpq_url(postgres.url), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def mariadb_database(mariadb: SqlAddress) -> Iterator[str]:
    """The SQLAlchemy URL of an empty MariaDB database, dropped afterwards even if transactions are still open."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    connection = pymysql.connect(**pymysql_arguments(mariadb.url))
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            yield make_url(mariadb.url).set(database=name).render_as_string(hide_password=False)
            # DROP would wait without limit for sessions that hold a lock on one of its tables.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
            for (session,) in cursor.fetchall():
                try:
                    cursor.execute(f"KILL {session}")
                except pymysql.OperationalError as error:
                    if error.args[0] != _NO_SUCH_SESSION:
                        raise
            cursor.execute(f"DROP DATABASE {name}")
    finally:
        connection.close()


@pytest.fixture
def private_stack(tmp_path: Path) -> Iterator[Callable[..., EmbeddedStack]]:
    """Makes started stacks of a test's own, to kill and restart engines of: ``private_stack("kafka", brokers=3)``.

    Further arguments as for ``EmbeddedStack``. All are stopped when the test ends.
    """
    with ExitStack() as stop:

        def make(
            *engines: str, options: Mapping[str, Mapping[str, Any]] | None = None, **arguments: Any
        ) -> EmbeddedStack:
            folder = tmp_path / f"stack-{uuid.uuid4().hex[:6]}"
            return stop.enter_context(EmbeddedStack(folder, engines=engines or ENGINES, options=options, **arguments))

        yield make
