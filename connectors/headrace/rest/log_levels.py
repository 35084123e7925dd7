"""Levels of Python loggers in the terms of Connect's ``/admin/loggers``."""

from __future__ import annotations

import logging
import threading
from typing import Any

from headrace.config import nearest
from headrace.errors import CommandError, ConflictError, NotFoundError
from headrace.metrics import now_ms

LEVELS = {
    "OFF": logging.CRITICAL + 10,
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": 5,
    "ALL": 1,
}
"""Log4j's levels, which Connect's clients send and expect."""
_LONGEST_NAME = 200
_MOST_NEW = 100
"""Loggers that may be added by setting their level before any code uses them."""


class LogLevels:
    """Reads and sets levels, and remembers when each was set. Thread-safe."""

    def __init__(self) -> None:
        self._modified: dict[str, int] = {}
        self._created: set[str] = set()
        self._lock = threading.Lock()
        logging.getLogger("headrace")  # listed, although headrace logs to its children only

    def all(self) -> dict[str, dict[str, Any]]:
        """Return all loggers with their effective levels, by name, and ``root``."""
        names = ["root", *_existing()]
        return {name: self._view(name, _logger(name)) for name in sorted(names)}

    def one(self, name: str) -> dict[str, Any]:
        """Return one logger with its effective level. Raises NotFoundError."""
        existing = _existing()
        if name != "root" and name not in existing:
            raise NotFoundError(f"Logger {name} not found.", hint=nearest(name, existing))
        return self._view(name, _logger(name))

    def set_level(self, name: str, level: str) -> list[str]:
        """Set the level of ``name`` and its children; return the names changed. Raises NotFoundError for the level."""
        self._refuse_too_many(name)
        number = LEVELS.get(level.strip().upper())
        if number is None:
            raise NotFoundError(f"invalid log level '{level}'.", hint=f"one of {', '.join(LEVELS)}")
        # Children without a level of their own inherit it.
        below = [other for other, logger in _existing().items() if logger.level and _is_below(other, name)]
        changed = sorted({name, *below})
        with self._lock:
            for each in changed:
                _logger(each).setLevel(number)
                self._modified[each] = now_ms()
        return changed

    def _refuse_too_many(self, name: str) -> None:
        """Raise CommandError for a logger that does not exist when too many were made; Python never forgets one."""
        if name == "root" or name in _existing():
            return
        if len(name) > _LONGEST_NAME:
            raise CommandError(f"the logger's name has {len(name)} characters", hint=f"use at most {_LONGEST_NAME}")
        with self._lock:
            if len(self._created) >= _MOST_NEW:
                text = f"{_MOST_NEW} loggers were added that no part of the worker uses"
                raise ConflictError(text, hint="set the level of a logger that GET /admin/loggers lists")
            self._created.add(name)

    def _view(self, name: str, logger: logging.Logger) -> dict[str, Any]:
        return {"level": _word(logger.getEffectiveLevel()), "last_modified": self._modified.get(name)}


def _existing() -> dict[str, logging.Logger]:
    registered = logging.root.manager.loggerDict.copy()  # other threads may add loggers
    return {name: logger for name, logger in registered.items() if isinstance(logger, logging.Logger)}


def _logger(name: str) -> logging.Logger:
    return logging.getLogger(None if name == "root" else name)


def _is_below(name: str, parent: str) -> bool:
    return parent == "root" or name.startswith(f"{parent}.")


def _word(number: int) -> str:
    return next(word for word, level in LEVELS.items() if number >= level or word == "ALL")
