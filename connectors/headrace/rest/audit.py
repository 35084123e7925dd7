"""One log line for each request that changes something, or was refused: caller, request, values before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from headrace.redaction import HIDDEN, Redactor, is_secret_key, secrets_in
from headrace.rest.access import Caller
from headrace.rest.limits import RepeatedLines

log = structlog.stdlib.get_logger("headrace.audit")

READS = ("GET", "HEAD", "OPTIONS")
_LONGEST = 500


class AuditChange:
    """The effect of a request, as its handler reports it; empty for requests such as a restart."""

    def __init__(self) -> None:
        self.before: Any = None
        self.after: Any = None

    def state(self, before: Any, after: Any) -> None:
        """Report the states before and after."""
        self.before, self.after = before, after

    def config(self, before: Mapping[str, str | None] | None, after: Mapping[str, str | None] | None) -> None:
        """Tell configurations: the keys that differ, without secrets. None: there is none."""
        old, new = before or {}, after or {}
        changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        self.before = None if before is None else _shown(old, changed)
        self.after = None if after is None else _shown(new, changed)


def _shown(config: Mapping[str, str | None], keys: Iterable[str]) -> dict[str, str | None]:
    """Return these keys of a configuration without secrets."""
    redact = Redactor(secrets_in({key: value for key, value in config.items() if value is not None}))
    return {
        key: HIDDEN if value is not None and is_secret_key(key) else value and redact(value)[:_LONGEST]
        for key, value in config.items()
        if key in keys
    }


class AuditLog:
    """Writes the lines of one server."""

    def __init__(self) -> None:
        self._lines = RepeatedLines()

    def write(
        self, method: str, path: str, client: str, caller: Caller | None, status: int, change: AuditChange
    ) -> None:
        """Log a request that is no read, with its outcome.

        Of requests that no known caller sent, one line per interval and status, so that they cannot fill the log.
        """
        suppressed = self._lines.admit(str(status)) if caller is None else 0
        if suppressed is None:
            return
        log.info(
            "audit",
            user=caller.name if caller else None,
            role=caller.role.word if caller else None,
            authentication=caller.method if caller else None,
            client=client,
            method=method,
            path=path,
            status=status,
            suppressed=suppressed,
            before=change.before,
            after=change.after,
        )
