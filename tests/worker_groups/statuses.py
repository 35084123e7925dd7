"""What the statuses of connectors say about a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def owners_of_running(statuses: Mapping[str, Any]) -> dict[str, str]:
    """Return the worker of each RUNNING task, of an answer to ``GET /connectors?expand=status``."""
    return {
        f"{name}-{task['id']}": task["worker_id"]
        for name, item in statuses.items()
        for task in item["status"]["tasks"]
        if task["state"] == "RUNNING"
    }
