"""Logging setup of a worker: one line per event on stderr, as text or JSON; at a terminal, wrapped text."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
from typing import Any, Literal, cast

import structlog

from headrace.cli.log_lines import TerminalRenderer
from headrace.control_characters import without_control_characters
from headrace.redaction import Redact

Format = Literal["text", "json"]

_SECONDS = "%Y-%m-%dT%H:%M:%SZ"
# Verbose libraries; the worker logs the same events by itself.
_QUIET = {"kafka": logging.ERROR, "elastic_transport": logging.ERROR, "apscheduler": logging.WARNING}


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Takes secrets out of each line, of libraries too, as the last step before it leaves the process."""

    def __init__(self, redact: Redact, **options: Any) -> None:
        super().__init__(**options)
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))


def _harmless(redact: Redact) -> structlog.typing.Processor:
    """Take secrets and control characters out of an event's texts, before a terminal's lines are wrapped."""

    def process(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        for name, value in event.items():
            if not isinstance(value, int | float | None):
                event[name] = without_control_characters(redact(value if isinstance(value, str) else repr(value)))
        return event

    return process


def _named(process: str) -> structlog.typing.Processor:
    """Add the name of the process to each event."""

    def add(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        return event

    return add


def configure_logging(level: str, form: Format, redact: Redact, process: str = "") -> None:
    """Render structlog events and standard library records in the same format, on stderr, without secrets.

    ``process``: the name of this one of several workers that write the same log.

    Warnings, and exceptions that end a thread, are logged, too: Python would print them as they are.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if form == "json" else _SECONDS, utc=True),
    ]
    if process:
        shared.append(_named(process))
    renderer: list[structlog.typing.Processor]
    if form == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    elif sys.stderr.isatty():
        terminal = TerminalRenderer(lambda: shutil.get_terminal_size().columns, colours=True)
        renderer = [structlog.processors.format_exc_info, _harmless(redact), terminal]
    else:
        # Plain tracebacks: rich ones show local variables, and so passwords.
        console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        renderer = [structlog.processors.format_exc_info, _harmless(redact), console]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _RedactingFormatter(
            redact,
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=cast(type[structlog.typing.BindableLogger], structlog.stdlib.BoundLogger),
        cache_logger_on_first_use=True,
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(level)
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread_exception
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet)


def _log_thread_exception(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is not SystemExit and ended.exc_value is not None:
        name = ended.thread.name if ended.thread is not None else ""
        logging.getLogger("headrace.worker").critical("thread %s ended", name, exc_info=ended.exc_value)
