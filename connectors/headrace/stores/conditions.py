"""Stores the conditions of connectors. Keys: ``["<connector>","<code>"]``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace

import orjson
import structlog

from headrace.conditions import Condition
from headrace.errors import RetriableError
from headrace.redaction import Secrets
from headrace.stores.log import CompactedLog

log = structlog.stdlib.get_logger("headrace.worker")
_WRITE_INTERVAL = 5.0
"""Seconds between two writes of a condition that is raised repeatedly; a crash may lose the newest counts."""


class ConditionStore:
    """Thread-safe: tasks raise conditions, REST reads and acknowledges them."""

    def __init__(
        self, entries: CompactedLog, clock: Callable[[], float] = time.monotonic, secrets: Secrets | None = None
    ) -> None:
        """``secrets``: are taken out of all texts of a condition."""
        self._log = entries
        self._secrets = secrets or Secrets()
        self._clock = clock
        self._lock = threading.Lock()
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._written: dict[tuple[str, str], float] = {}
        for key, value in entries.read().items():
            connector, code = orjson.loads(key)
            self._conditions[connector, code] = Condition(**value)

    def add(self, connector: str, condition: Condition) -> None:
        """Add a condition, or update the one with the same code. If it cannot be written, log that, and show it until
        the worker stops."""
        key = connector, condition.code
        redactor = self._secrets.of(connector)
        condition = replace(
            condition,
            text=redactor(condition.text),
            hint=redactor(condition.hint),
            example=redactor(condition.example),
        )
        with self._lock:
            known = self._conditions.get(key)
            self._conditions[key] = condition if known is None else known.raised_again(condition)
            if known is None:
                log.warning(
                    "condition",
                    connector=connector,
                    code=condition.code,
                    reason=condition.text,
                    example=condition.example,
                    next=f"{condition.hint}; then `headrace connectors acknowledge {connector}`".removeprefix(
                        "; then "
                    ),
                )
            if known is None or self._clock() - self._written.get(key, 0.0) >= _WRITE_INTERVAL:
                self._write(key)

    def of(self, connector: str) -> list[Condition]:
        """Return the conditions of a connector, oldest first."""
        with self._lock:
            found = [item for (owner, _), item in self._conditions.items() if owner == connector]
        return sorted(found, key=lambda item: (item.since, item.code))

    def remove(self, connector: str, code: str | None = None) -> list[Condition]:
        """Remove one condition or all of a connector, and return them. Raise RetriableError; then they remain."""
        with self._lock:
            keys = [key for key in self._conditions if key[0] == connector and code in (None, key[1])]
            if keys:
                self._log.append(dict.fromkeys(map(_text, keys)))
            return [self._conditions.pop(key) for key in keys]

    def close(self) -> None:
        """Write the newest counts and close."""
        with self._lock:
            for key in self._conditions:
                self._write(key)
        self._log.close()

    def _write(self, key: tuple[str, str]) -> None:
        try:
            self._log.append({_text(key): asdict(self._conditions[key])})
        except RetriableError as error:
            log.warning("condition not stored", connector=key[0], code=error.code, reason=str(error))
        else:
            self._written[key] = self._clock()


def condition_of(code: str, text: str, hint: str, count: int, example: str) -> Condition:
    """Return a condition that is raised now."""
    now = time.time_ns() // 1_000_000
    return Condition(code, text, hint, now, now, count, example)


def _text(key: tuple[str, str]) -> str:
    return orjson.dumps(list(key)).decode()
