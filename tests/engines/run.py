"""The engines of one test process: started once, in parallel, when first needed; stopped with the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from headrace.embedded import Elasticsearch, Kafka, Postgres
from headrace.embedded.artifacts import locked
from headrace.embedded.jars import fetch
from headrace.embedded.parallel_start import stop_in_parallel
from headrace.errors import HeadraceError
from tests.engines import addresses
from tests.engines.addresses import Address, HttpAddress, KafkaAddress, SqlAddress
from tests.engines.canaries import DATABASE_PASSWORD
from tests.engines.mariadb import MariaDb, missing_program

Server = Kafka | Elasticsearch | Postgres | MariaDb

# Few partitions of Kafka's internal topics: each costs a file and time at every start.
_KAFKA = {"offsets.topic.num.partitions": "3", "transaction.state.log.num.partitions": "3"}


class UnavailableError(Exception):
    """This machine cannot run the engine, for the reason in the message."""


@dataclass(frozen=True)
class EngineKind:
    """One engine that tests may ask for. ``external`` connects to one that the user provides."""

    title: str
    make: Callable[[Path], Server]
    external: Callable[[str], Address]
    jars: str | None = None
    unavailable: Callable[[], str | None] = lambda: None


def _no_mariadb() -> str | None:
    program = missing_program()
    return program and f"the program {program} is not installed (apt-get install mariadb-server)"


_SHARED_MARIADB: Mapping[str, str | int] = {
    "innodb-flush-log-at-trx-commit": 0,
    "innodb-stats-auto-recalc": 0,
    # Names the holders of metadata locks, as MySQL does by default.
    "performance-schema": "ON",
    "performance-schema-instrument": "wait/lock/metadata/sql/mdl=ON",
}

KINDS: Mapping[str, EngineKind] = {
    "kafka": EngineKind("Kafka", lambda folder: Kafka(folder, settings=_KAFKA), addresses.external_kafka, "kafka"),
    "kafka_cluster": EngineKind(
        "Kafka with three brokers",
        lambda folder: Kafka(folder, brokers=3, heap="320m", settings=_KAFKA),
        addresses.external_kafka,
        "kafka",
    ),
    "elasticsearch": EngineKind("Elasticsearch", Elasticsearch, addresses.external_elasticsearch, "elasticsearch"),
    "elasticsearch_9": EngineKind(
        "Elasticsearch",
        lambda folder: Elasticsearch(folder, major=9, heap="512m"),
        addresses.external_elasticsearch,
        "elasticsearch-9",
    ),
    # Shared servers need not survive a power cut; private ones have the defaults. Nor do the servers start
    # transactions of their own (autovacuum, statistics): the gap-free cursor waits for them, at unpredictable moments,
    # and a test that counts repeated records would count more.
    "postgres": EngineKind(
        "PostgreSQL",
        lambda folder: Postgres(folder, settings={"fsync": False, "autovacuum": False}, password=DATABASE_PASSWORD),
        addresses.external_postgres,
    ),
    "mariadb": EngineKind(
        "MariaDB",
        lambda folder: MariaDb(folder, settings=_SHARED_MARIADB),
        addresses.external_mariadb,
        unavailable=_no_mariadb,
    ),
}
VARIABLES = {name: f"HEADRACE_TEST_{name.upper()}" for name in KINDS}


class Engines:
    """What this process uses.

    ``needed`` are the engines of the present test: the first one asked for starts them all, in parallel. ``folder``
    holds their data; it must be set before the first start.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.needed: set[str] = set()
        self.folder: Path | None = None
        self._environment = environment
        self._addresses: dict[str, Address] = {}
        self._servers: dict[str, Server] = {}
        self._failures: dict[str, Exception] = {}
        self._unavailable: dict[str, str] = {}

    def get(self, name: str) -> Address:
        """Return the engine's address. Raise UnavailableError, or the error of its start, again for every test."""
        if name not in self._addresses:
            self._provide({name, *self.needed})
        if name in self._failures:
            raise self._failures[name]
        return self._addresses[name]

    def _provide(self, wanted: Iterable[str]) -> None:
        missing = [name for name in KINDS if name in wanted and name not in {*self._addresses, *self._failures}]
        for name in [name for name in missing if VARIABLES[name] in self._environment]:
            missing.remove(name)
            try:
                self._addresses[name] = KINDS[name].external(self._environment[VARIABLES[name]])
            except Exception as error:  # raised by get()
                error.add_note(f"{VARIABLES[name]} names it")
                self._failures[name] = error
        for name in list(missing):
            if why := KINDS[name].unavailable():
                missing.remove(name)
                self._unavailable[name] = why
                self._failures[name] = UnavailableError(f"no {KINDS[name].title}: {why}")
        if missing:
            self._start(missing)

    def _start(self, names: list[str]) -> None:
        jars = {kind for name in names if (kind := KINDS[name].jars)}
        try:
            fetch([jar for kind in sorted(jars) for jar in locked(kind).jars])
        except HeadraceError as error:
            self._failures.update({name: error for name in names if KINDS[name].jars})
            names = [name for name in names if not KINDS[name].jars]
        assert self.folder is not None
        servers = {name: KINDS[name].make(self.folder / name) for name in names}
        with ThreadPoolExecutor(max(1, len(servers)), "start") as pool:
            starts: dict[str, Future[None]] = {name: pool.submit(server.start) for name, server in servers.items()}
            try:
                failures = {name: start.exception() for name, start in starts.items()}
            except BaseException:  # Ctrl+C: killing the engines ends the waits for them
                for server in servers.values():
                    server.kill()
                raise
        for name, server in servers.items():
            failure = failures[name]
            if failure is None:
                self._servers[name] = server
                self._addresses[name] = _address(server)
            elif isinstance(failure, Exception):
                self._failures[name] = failure
            else:
                raise failure

    def summary(self) -> list[str]:
        """Return lines for the end of the run: what was used, and what could not be used and why."""
        used = [f"engines: {self._described(name)}" for name in KINDS if name in self._addresses]
        return used + [f"engines: no {KINDS[name].title}: {why}" for name, why in self._unavailable.items()]

    def _described(self, name: str) -> str:
        origin = VARIABLES[name] if VARIABLES[name] in self._environment else _origin(name)
        version = self._addresses[name].version
        return " ".join(part for part in (KINDS[name].title, version, f"({origin})") if part)

    def stop(self) -> None:
        """Stop all engines that were started."""
        servers, self._servers = self._servers, {}
        stop_in_parallel(list(servers.values()))


def _origin(name: str) -> str:
    return "this system's" if name == "mariadb" else "embedded"


def _address(server: Server) -> Address:
    if isinstance(server, Kafka):
        return KafkaAddress(server.bootstrap_servers, server.version)
    if isinstance(server, Elasticsearch):
        return HttpAddress(server.url, server.version)
    return SqlAddress(server.url, server.version)
