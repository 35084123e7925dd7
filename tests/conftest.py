"""Real engines for integration tests: each is started once per run, lazily, those that the chosen tests need together.

``HEADRACE_TEST_KAFKA`` (host:port,…), ``HEADRACE_TEST_ELASTICSEARCH`` and ``HEADRACE_TEST_POSTGRES`` (URLs) name
engines of your own instead. An engine that cannot be started or reached fails the tests that need it; none is skipped.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from sqlalchemy import URL, make_url

from headrace.embedded import ENGINES, EmbeddedStack
from headrace.errors import HeadraceError

VARIABLES = {name: f"HEADRACE_TEST_{name.upper()}" for name in ENGINES}
TITLES = {"kafka": "Kafka", "elasticsearch": "Elasticsearch", "postgres": "PostgreSQL"}
# Tests need no power-cut safety of the shared server; a private stack has PostgreSQL's own defaults.
FAST: dict[str, dict[str, Any]] = {
    "kafka": {"settings": {"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3"}},
    "postgres": {"settings": {"fsync": False}},
}


@dataclass(frozen=True)
class KafkaAddress:
    bootstrap_servers: str
    version: str


@dataclass(frozen=True)
class HttpAddress:
    url: str
    version: str


@dataclass(frozen=True)
class SqlAddress:
    url: str
    version: str


class Engines:
    """What this run uses. ``needed``: the engines that the collected tests name; the first one asked for starts all."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self.needed: set[str] = set()
        self.used: dict[str, str] = {}
        self._folder = folder
        self._started: dict[str, KafkaAddress | HttpAddress | SqlAddress] = {}
        self._stop = ExitStack()
        self._failure: HeadraceError | None = None

    def get(self, name: str) -> Any:
        if name not in self._started:
            if address := os.environ.get(VARIABLES[name]):
                self._use_own(name, address)
            else:
                wanted = {name, *self.needed} - self._started.keys()
                self._start([other for other in ENGINES if other in wanted and VARIABLES[other] not in os.environ])
        return self._started[name]

    def _use_own(self, name: str, address: str) -> None:
        if name == "kafka":
            self._started[name] = KafkaAddress(address, "")
        elif name == "elasticsearch":
            with urlopen(address, timeout=10) as answer:
                self._started[name] = HttpAddress(address.rstrip("/"), json.load(answer)["version"]["number"])
        else:
            with psycopg.connect(plain(address), connect_timeout=10) as connection:
                version = connection.info.parameter_status("server_version") or ""
                self._started[name] = SqlAddress(address, version)
        self.used[name] = f"{TITLES[name]} {self._started[name].version}".rstrip() + f" ({VARIABLES[name]})"

    def _start(self, names: list[str]) -> None:
        if self._failure is not None:
            raise self._failure  # the next try would take as long and end the same way
        try:
            stack = self._stop.enter_context(EmbeddedStack(self._folder(), engines=names, options=FAST))
        except HeadraceError as failure:
            self._failure = failure
            raise
        for name in names:
            if name == "kafka":
                self._started[name] = KafkaAddress(stack.kafka.bootstrap_servers, stack.kafka.version)
            elif name == "elasticsearch":
                self._started[name] = HttpAddress(stack.elasticsearch.url, stack.elasticsearch.version)
            else:
                self._started[name] = SqlAddress(stack.postgres.url, stack.postgres.version)
            self.used[name] = f"{TITLES[name]} {self._started[name].version} (embedded)"

    def stop(self) -> None:
        self._stop.close()


def plain(url: str | URL) -> str:
    """A SQLAlchemy URL as libpq knows it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


_ENGINES = pytest.StashKey[Engines]()


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python 3.0 reads its own schema files through an old call while it is imported; ours to live with.
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")
    # It also leaves a socket whose connection was refused (a killed broker's) to the garbage collector. Such a socket
    # was never connected: bound to no address, no peer. Leaks of ours are still errors.
    never_connected = r"unclosed <socket\.socket [^>]*laddr=\('0\.0\.0\.0', \d+\)>"
    config.addinivalue_line("filterwarnings", f"ignore:{never_connected}:ResourceWarning")
    # Looked up when the first engine starts: before that pytest has no temporary folder yet.
    config.stash[_ENGINES] = Engines(lambda: config._tmp_path_factory.mktemp("engines"))  # type: ignore[attr-defined]


def pytest_collection_finish(session: pytest.Session) -> None:
    needed = session.config.stash[_ENGINES].needed
    for item in session.items:
        needed.update(name for name in getattr(item, "fixturenames", ()) if name in ENGINES)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if used := config.stash[_ENGINES].used:
        terminalreporter.write_line("engines: " + ", ".join(used[name] for name in ENGINES if name in used))


@pytest.fixture(scope="session")
def engines(pytestconfig: pytest.Config) -> Iterator[Engines]:
    """All engines of this run; a test asks for ``kafka``, ``elasticsearch``, ``postgres`` or ``database`` instead."""
    engines = pytestconfig.stash[_ENGINES]
    yield engines
    engines.stop()


@pytest.fixture(scope="session")
def kafka(engines: Engines) -> KafkaAddress:
    """A Kafka with one broker, shared by all tests: ``.bootstrap_servers``."""
    address: KafkaAddress = engines.get("kafka")
    return address


@pytest.fixture(scope="session")
def elasticsearch(engines: Engines) -> HttpAddress:
    """An Elasticsearch node without security, shared by all tests: ``.url``."""
    address: HttpAddress = engines.get("elasticsearch")
    return address


@pytest.fixture(scope="session")
def postgres(engines: Engines) -> SqlAddress:
    """A PostgreSQL server, shared by all tests: ``.url``, whose user may create databases."""
    address: SqlAddress = engines.get("postgres")
    return address


@pytest.fixture
def unique_name() -> str:
    """A fresh name that is valid as topic, index, database and table: lower-case letters, digits, underscores."""
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def database(postgres: SqlAddress) -> Iterator[str]:
    """The SQLAlchemy URL of an empty PostgreSQL database, dropped afterwards even if connections are still open."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(plain(postgres.url), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


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
