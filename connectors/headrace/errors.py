"""The one exception tree: every class is named by its consequence, every error carries a stable code.

::

    HeadraceError                 code, message, hint
    ├── ConfigError               the user must change something; carries every finding   HTTP 400 · exit 2
    ├── RetriableError            transient; the same work is retried with backoff        HTTP 503 · exit 3
    ├── InfrastructureError          an environment problem must be fixed before a start      HTTP 503 · exit 3
    ├── DataError                 this record is bad; tolerance decides                   (never answered)
    ├── CommandError              a command was refused; nothing changed
    │   ├── NotFoundError                                                                 HTTP 404 · exit 2
    │   ├── ConflictError                                                                 HTTP 409 · exit 2
    │   ├── AuthenticationError                                                           HTTP 401 · exit 2
    │   └── PermissionDeniedError                                                         HTTP 403 · exit 2
    └── TaskError                 the task cannot go on; it is FAILED with this reason     HTTP 500 · exit 1

Anything else that is raised is a bug: the task is FAILED with its trace, the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file the user wrote. Line and column count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of the configuration.

    ``code`` is stable (``config.unknown_key``), ``key`` the configuration key it is about (empty when
    it is about the whole file), ``message`` says what is wrong and why, ``hint`` how to fix it.
    """

    code: str
    message: str
    key: str = ""
    hint: str = ""
    location: Location | None = None
    severity: str = "error"  # or "warning"
    # What must be fixed: the "configuration", or the "environment" around headrace. "outage": perhaps nothing, a system
    # cannot be reached now.
    cause: str = "configuration"
    at: tuple[int, int] | None = None  # line and column within the text of the key, from 1

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        severity = "warning: " if self.severity == "warning" else ""
        hint = f" → {self.hint}" if self.hint else ""
        return f"{where}{severity}{self.code}: {self.message}{hint}"


class HeadraceError(Exception):
    """Root of the tree. ``str(error)`` is one or two sentences, without traces and secrets."""

    default_code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} → {self.hint}" if self.hint else self.message

    def with_code(self) -> str:
        """Return the text with the code before it; the texts of findings contain their codes already."""
        text = str(self)
        return text if text.startswith(f"{self.code}: ") else f"{self.code}: {text}"

    def finding(self, key: str = "") -> Finding:
        """Return the error as a finding about ``key``."""
        causes = {RetriableError: "outage", InfrastructureError: "environment"}
        cause = next((cause for kind, cause in causes.items() if isinstance(self, kind)), "configuration")
        return Finding(self.code, self.message, key, self.hint, cause=cause)


class ConfigError(HeadraceError):
    """The configuration is wrong. Carries *all* findings, so that the user can fix them at once."""

    default_code = "config.invalid"
    exit_code = 2
    http_status = 400

    def __init__(self, message: str = "", *, findings: Sequence[Finding] = (), code: str | None = None, hint: str = ""):
        self.findings = tuple(findings)
        errors = [finding for finding in self.findings if finding.severity == "error"]
        super().__init__(
            message or "\n".join(str(finding) for finding in self.findings),
            code=code or (errors[0].code if errors else None),
            hint=hint,
        )


class RetriableError(HeadraceError):
    """The same call may succeed later, not before ``delay`` seconds (None = the caller's own backoff)."""

    default_code = "retriable"
    exit_code = 3
    http_status = 503

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", delay: float | None = None) -> None:
        super().__init__(message, code=code, hint=hint)
        self.delay = delay


class InfrastructureError(HeadraceError):
    """An environment problem must be fixed first: password refused, port in use, engine missing."""

    default_code = "environment"
    exit_code = 3
    http_status = 503


class DataError(HeadraceError):
    """One record cannot be processed. The message says which field and why.

    ``details`` are further headers of the dead letter, such as the document's id. They may hold the
    record's contents, which the message never does: messages go to logs.
    """

    default_code = "data.invalid"

    def __init__(
        self, message: str, *, code: str | None = None, hint: str = "", details: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.details: Mapping[str, str] = details or {}


class CommandError(HeadraceError):
    """A command was refused; nothing changed."""

    default_code = "command.refused"
    exit_code = 2
    http_status = 400


class NotFoundError(CommandError):
    """The named connector, task or plugin does not exist."""

    default_code = "command.not_found"
    http_status = 404


class ConflictError(CommandError):
    """The command contradicts the present state (name taken, wrong state)."""

    default_code = "command.conflict"
    http_status = 409


class AuthenticationError(CommandError):
    """The caller sent no credentials, or wrong ones."""

    default_code = "auth.required"
    http_status = 401


class PermissionDeniedError(CommandError):
    """The caller is authenticated, but lacks the permission."""

    default_code = "auth.forbidden"
    http_status = 403


class TaskError(HeadraceError):
    """The task cannot go on until the user changes something; its state becomes FAILED."""

    default_code = "task.failed"
