"""Applications from YAML without Kafka, record by record."""

from __future__ import annotations

import threading
from typing import Any

import structlog
import yaml

from headrace.pipeline.stream.driver import StreamDriver
from headrace.plugin import StreamContext
from headrace.states import TaskId
from headrace_streams.task import StreamApplicationTask


def make_driver(text: str, idle_after: int | None = None) -> StreamDriver:
    """Return the driver of an application. ``idle_after`` in milliseconds."""
    log = structlog.stdlib.get_logger("headrace.task")
    context = StreamContext(
        TaskId("app", 0), _flat(yaml.safe_load(text)), threading.Event(), log, lambda key: key, lambda reason: None
    )
    return StreamDriver(StreamApplicationTask(), context, idle_after)


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found
