"""Logging setup of a worker: one line per event on stderr, as text or JSON; at a terminal, wrapped text."""

from __future__ import annotations

import logging
import shutil
import sys
from typing import Literal, cast

import structlog

from headrace.cli.log_lines import TerminalRenderer

Format = Literal["text", "json"]

_SECONDS = "%Y-%m-%dT%H:%M:%SZ"
# Verbose libraries; the worker logs the same events by itself.
_QUIET = {"kafka": logging.ERROR, "elastic_transport": logging.ERROR, "apscheduler": logging.WARNING}


def configure_logging(level: str, form: Format) -> None:
    """Render structlog events and standard library records alike, on stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if form == "json" else _SECONDS, utc=True),
    ]
    renderer: list[structlog.typing.Processor]
    if form == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    elif sys.stderr.isatty():
        terminal = TerminalRenderer(lambda: shutil.get_terminal_size().columns, colours=True)
        renderer = [structlog.processors.format_exc_info, terminal]
    else:
        # Plain tracebacks: rich ones show local variables, and so passwords.
        console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        renderer = [console]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
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
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet)
