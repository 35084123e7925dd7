"""Kafka, Elasticsearch and PostgreSQL in one folder, started and stopped in parallel."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from headrace.config import nearest
from headrace.embedded.artifacts import locked
from headrace.embedded.elasticsearch import Elasticsearch
from headrace.embedded.jars import fetch
from headrace.embedded.kafka import Kafka
from headrace.embedded.lifecycle import StartStop
from headrace.embedded.lock import FileLock
from headrace.embedded.parallel_start import start_in_parallel, stop_in_parallel
from headrace.embedded.postgres import Postgres
from headrace.embedded.process import is_alive
from headrace.errors import ConfigError, ConflictError, InfrastructureError

ENGINES = ("kafka", "elasticsearch", "postgres")
LOCK = "stack.lock"
_ORPHANS_END = 45.0
"""Seconds after which the engines of a killed owner have ended: the longest stop grace and a margin."""


def folder_error(folder: Path, error: OSError) -> InfrastructureError:
    """Return the error for a data folder that cannot be created, written or locked."""
    return InfrastructureError(
        f"the data folder {folder} cannot be used: {error.strerror or error}",
        code="embedded.folder",
        hint="free disk space or fix its permissions, or choose another data folder",
    )


class EmbeddedStack(StartStop):
    """Kafka, Elasticsearch and PostgreSQL on 127.0.0.1 with their data below ``data``, for laptops, demos and tests.

    ``engines`` is a subset of :data:`ENGINES`; the attribute of any other engine raises InfrastructureError. A port
    that is not given is chosen once from the free ones. ``options`` are further arguments of the engines:
    ``{"kafka": {"heap": "1g", "settings": {…}}}``. The engines end with this process, even if it is killed.
    Not thread-safe.
    """

    def __init__(
        self,
        data: Path,
        *,
        engines: Iterable[str] = ENGINES,
        brokers: int = 1,
        kafka_port: int | None = None,
        elasticsearch_port: int | None = None,
        postgres_port: int | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.data = data.absolute()
        wanted = list(engines)
        for name in [*wanted, *(options or {})]:
            if name not in ENGINES:
                raise ConfigError(
                    f"there is no engine {name!r}",
                    code="embedded.unknown_engine",
                    hint=nearest(name, ENGINES) or f"known: {', '.join(ENGINES)}",
                )
        more = {name: dict((options or {}).get(name, {})) for name in ENGINES}
        makers: dict[str, Callable[[], Kafka | Elasticsearch | Postgres]] = {
            "kafka": lambda: Kafka(self.data / "kafka", port=kafka_port, brokers=brokers, **more["kafka"]),
            "elasticsearch": lambda: Elasticsearch(
                self.data / "elasticsearch", port=elasticsearch_port, **more["elasticsearch"]
            ),
            "postgres": lambda: Postgres(self.data / "postgres", port=postgres_port, **more["postgres"]),
        }
        self.engines = {name: makers[name]() for name in ENGINES if name in wanted}
        self._lock = FileLock(self.data / LOCK)

    @property
    def kafka(self) -> Kafka:
        engine = self._engine("kafka")
        assert isinstance(engine, Kafka)
        return engine

    @property
    def elasticsearch(self) -> Elasticsearch:
        engine = self._engine("elasticsearch")
        assert isinstance(engine, Elasticsearch)
        return engine

    @property
    def postgres(self) -> Postgres:
        engine = self._engine("postgres")
        assert isinstance(engine, Postgres)
        return engine

    def _engine(self, name: str) -> Kafka | Elasticsearch | Postgres:
        if name not in self.engines:
            raise InfrastructureError(f"this stack was made without {name}", code="embedded.not_running")
        return self.engines[name]

    def start(self) -> None:
        """Fetch missing jars, start all engines in parallel, and return when each of them answers.

        Raise ConflictError if another process runs a stack in this folder. If an engine fails to start, stop the
        others and raise its error.
        """
        self.fetch()
        self._acquire()
        try:
            start_in_parallel(list(self.engines.values()))
        except BaseException:
            self._release()
            raise

    def fetch(self) -> None:
        """Fetch the jars that are missing; ``start`` does this too."""
        jars = list(locked("kafka").jars) if "kafka" in self.engines else []
        if "elasticsearch" in self.engines:
            jars += self.elasticsearch.jars
        fetch(jars)

    def _acquire(self) -> None:
        """Lock the folder. The engines' supervisors hold the lock too, so it is free when the last engine has ended."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            taken = self._lock.try_acquire()
            owner = None if taken else self._lock.holder()
            if not taken and (owner is None or not is_alive(owner)):
                taken = self._lock.acquire_within(_ORPHANS_END)
        except OSError as error:
            raise folder_error(self.data, error) from error
        if not taken:
            raise ConflictError(
                f"a stack is already running in {self.data}",
                code="embedded.already_running",
                hint=f"headrace down --data {shlex.quote(str(self.data))} stops it; a second one needs another folder",
            )
        assert self._lock.descriptor is not None
        for engine in self.engines.values():
            engine.hold(self._lock.descriptor)

    def _release(self) -> None:
        for engine in self.engines.values():
            engine.hold()
        self._lock.release()

    def check(self) -> None:
        """Raise InfrastructureError with the end of its log if an engine has ended by itself."""
        for engine in self.engines.values():
            engine.check()

    def stop(self) -> None:
        """Stop all engines gracefully and in parallel. Do nothing if none runs."""
        try:
            stop_in_parallel(list(self.engines.values()))
        finally:
            self._release()
