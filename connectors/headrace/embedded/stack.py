"""The engines together: one folder, one start in parallel, one stop."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.config import nearest
from headrace.embedded.artifacts import locked
from headrace.embedded.elasticsearch import Elasticsearch
from headrace.embedded.jars import fetch
from headrace.embedded.kafka import Kafka
from headrace.embedded.lock import FileLock
from headrace.embedded.postgres import Postgres
from headrace.embedded.process import is_alive
from headrace.embedded.together import start_together, stop_together
from headrace.errors import ConfigError, ConflictError, InfrastructureError

ENGINES = ("kafka", "elasticsearch", "postgres")
LOCK = "stack.lock"
_LEFTOVERS_END = 45.0
"""Seconds after which the engines of an owner that was killed are gone: their supervisors' grace and a margin."""


class EmbeddedStack:
    """Kafka, Elasticsearch and PostgreSQL on 127.0.0.1, their data below ``data``. For laptops, demos and tests.

    ``engines`` is a choice of :data:`ENGINES`; the attribute of an engine left out raises InfrastructureError. A port
    that is not given is a free one, kept for this object's life. ``options`` are further arguments by engine:
    ``{"kafka": {"heap": "1g", "settings": {…}}}``. The engines end with this process, even if it is killed.
    Not for several threads.
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
        """Fetches what is missing, then starts all engines at once. Returns when each of them answers.

        Raises ConflictError if another process runs a stack in this folder, and what the first engine that fails
        raises; the others are stopped then.
        """
        self.fetch()
        self._acquire()
        try:
            start_together(list(self.engines.values()))
        except BaseException:
            self._release()
            raise

    def fetch(self) -> None:
        """Fetches the jars that are missing; ``start`` does it too."""
        jars = list(locked("kafka").jars) if "kafka" in self.engines else []
        if "elasticsearch" in self.engines:
            jars += self.elasticsearch.jars
        fetch(jars)

    def _acquire(self) -> None:
        """Takes the folder. The engines' supervisors hold the lock too: it is free when the last engine is gone."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            taken = self._lock.try_acquire()
            owner = None if taken else self._lock.holder()
            if not taken and (owner is None or not is_alive(owner)):
                taken = self._lock.acquire_within(_LEFTOVERS_END)
        except OSError as error:
            raise InfrastructureError(
                f"the data folder {self.data} cannot be used: {error.strerror or error}",
                code="embedded.folder",
                hint="make room or mend its rights, or choose another data folder",
            ) from error
        if not taken:
            raise ConflictError(
                f"a stack is already running in {self.data}",
                code="embedded.already_running",
                hint=f"headrace down --data {shlex.quote(str(self.data))} stops it; another folder can hold another",
            )
        assert self._lock.descriptor is not None
        for engine in self.engines.values():
            engine.hold(self._lock.descriptor)

    def _release(self) -> None:
        for engine in self.engines.values():
            engine.hold()
        self._lock.release()

    def check(self) -> None:
        """InfrastructureError with the end of its log if an engine has ended by itself."""
        for engine in self.engines.values():
            engine.check()

    def stop(self) -> None:
        """Ends all engines in order and at once. Harmless if nothing runs."""
        try:
            stop_together(list(self.engines.values()))
        finally:
            self._release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
