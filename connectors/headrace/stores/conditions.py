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
from headrace.stores.log import CompactedLog, Entries

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
        self._lock = threading.RLock()  # the log calls back what is appended
        self._conditions: dict[tuple[str, str], Condition] = {}
        self._written: dict[tuple[str, str], float] = {}
        entries.follow(self._take)

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
            removed = [self._conditions[key] for key in keys]
            if keys:
                self._log.append(dict.fromkeys(map(_text, keys)))
            for key in keys:
                self._conditions.pop(key, None)
            return removed

    def _take(self, entries: Entries) -> None:
        """Take what the log holds, and what other workers write."""
        with self._lock:
            for text, value in entries.items():
                if (key := _parsed_key(text)) is not None:
                    if value is None:
                        self._conditions.pop(key, None)
                    else:
                        self._conditions[key] = Condition(**value)

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


def _parsed_key(text: str) -> tuple[str, str] | None:
    """Return connector and code; None for keys of other records, which a group keeps in the same topic."""
    if not text.startswith("["):
        return None
    connector, code = orjson.loads(text)
    return connector, code
